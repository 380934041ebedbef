//! Names by DNS.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use hickory_resolver::ResolverBuilder;
use hickory_resolver::TokioResolver;
use hickory_resolver::config::{
    ConnectionConfig, LookupIpStrategy, NameServerConfig, ResolverConfig,
};
use hickory_resolver::lookup::Lookup;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::RData;

use super::{Looked, Resolve, ResolveError, Service};

/// How long one question may take, of two.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long the resolver itself keeps an answer. What holds longer is asked for again: a map has few names.
const CACHED_MAX: Duration = Duration::from_secs(60);

/// Looks names up as the system is configured to: `/etc/resolv.conf` and `/etc/hosts`, as of the start.
#[derive(Clone, Debug)]
pub struct SystemDns {
    /// Or why there is none. A map of addresses needs none, so this is told only to whoever asks.
    resolver: Result<TokioResolver, ResolveError>,
}

impl SystemDns {
    /// Asks whom the system asks.
    pub fn new() -> Self {
        Self { resolver: TokioResolver::builder_tokio().map_err(failed).and_then(build) }
    }

    /// Asks these servers, by UDP, and by TCP if an answer is long.
    pub fn with_servers(servers: &[SocketAddr]) -> Self {
        let server = |address: &SocketAddr| {
            let mut connections = vec![ConnectionConfig::udp(), ConnectionConfig::tcp()];
            connections.iter_mut().for_each(|connection| connection.port = address.port());
            NameServerConfig::new(address.ip(), true, connections)
        };
        let config = ResolverConfig::from_parts(
            None,
            Vec::new(),
            servers.iter().map(server).collect::<Vec<_>>(),
        );
        let provider = TokioRuntimeProvider::default();
        Self { resolver: build(TokioResolver::builder_with_config(config, provider)) }
    }
}

impl Default for SystemDns {
    fn default() -> Self {
        Self::new()
    }
}

fn build(
    mut builder: ResolverBuilder<TokioRuntimeProvider>,
) -> Result<TokioResolver, ResolveError> {
    let options = builder.options_mut();
    options.timeout = ATTEMPT_TIMEOUT;
    options.attempts = 1;
    // Both would name a machine twice.
    options.ip_strategy = LookupIpStrategy::Ipv4thenIpv6;
    options.positive_max_ttl = Some(CACHED_MAX);
    // A name that is not there yet is there as soon as its first pod is.
    options.negative_max_ttl = Some(Duration::ZERO);
    builder.build().map_err(failed)
}

fn failed(error: impl std::fmt::Display) -> ResolveError {
    ResolveError(error.to_string())
}

fn ttl(until: Instant) -> Duration {
    until.saturating_duration_since(Instant::now())
}

fn services_in(lookup: &Lookup) -> Vec<Service> {
    let service = |data: &RData| match data {
        RData::SRV(record) => Some(Service {
            target: record.target.to_ascii().trim_end_matches('.').to_ascii_lowercase(),
            port: record.port,
            priority: record.priority,
            weight: record.weight,
        }),
        _ => None,
    };
    lookup.answers().iter().filter_map(|record| service(&record.data)).collect()
}

impl Resolve for SystemDns {
    fn addresses<'a>(
        &'a self,
        host: &'a str,
    ) -> BoxFuture<'a, Result<Looked<IpAddr>, ResolveError>> {
        Box::pin(async move {
            let resolver = self.resolver.as_ref().map_err(Clone::clone)?;
            let looked = resolver.lookup_ip(host).await.map_err(failed)?;
            Ok(Looked { found: looked.iter().collect(), ttl: ttl(looked.valid_until()) })
        })
    }

    fn services<'a>(
        &'a self,
        name: &'a str,
    ) -> BoxFuture<'a, Result<Looked<Service>, ResolveError>> {
        Box::pin(async move {
            let resolver = self.resolver.as_ref().map_err(Clone::clone)?;
            let looked = resolver.srv_lookup(name).await.map_err(failed)?;
            Ok(Looked { found: services_in(&looked), ttl: ttl(looked.valid_until()) })
        })
    }
}
