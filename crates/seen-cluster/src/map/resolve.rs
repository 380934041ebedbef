//! What looks names up.

use std::net::IpAddr;
use std::time::Duration;

use futures_util::future::BoxFuture;

/// An answer, and how long it holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Looked<T> {
    /// What was found.
    pub found: Vec<T>,
    /// How long it may be used before it is looked up again. Bounded by whoever uses it.
    pub ttl: Duration,
}

/// One SRV record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Service {
    /// The host.
    pub target: String,
    /// Its port.
    pub port: u16,
    /// The lowest comes first, and others only where none of those is ready.
    pub priority: u16,
    /// Its share among those of its priority.
    pub weight: u16,
}

/// Why a name could not be looked up, or that there is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ResolveError(pub String);

/// Looks names up.
pub trait Resolve: Send + Sync + 'static {
    /// The addresses of a host: those of version 4, or if there are none, those of version 6.
    fn addresses<'a>(
        &'a self,
        host: &'a str,
    ) -> BoxFuture<'a, Result<Looked<IpAddr>, ResolveError>>;

    /// The SRV records of a name.
    fn services<'a>(
        &'a self,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Looked<Service>, ResolveError>>;
}
