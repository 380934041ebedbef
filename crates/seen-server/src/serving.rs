//! The front: serving threads, each with a runtime of its own, and one acceptor that hands every
//! connection to the least loaded of them.
//!
//! A connection lives on one thread, so that a request crosses none. That binds one busy gRPC channel
//! to one core, and the kernel's own balancing (`SO_REUSEPORT`) would count connections, not load.
//! Hence: accept centrally, place by how busy each thread is, ask a connection to close when two busy
//! ones share a thread while another idles, and ask every connection to close at some age, so that
//! clients spread anew. Moves that do not help become rare, so that nobody is sent to and fro. Closing is
//! always GOAWAY first: requests that run are answered.
//!
//! HTTP/2 is the `h2` crate's. The hot calls are answered beneath tonic, from its streams; every other
//! request goes through tonic's router. A caller cannot tell which of them answered.

mod balance;
mod connection;
mod gather;
mod hot;
mod keepalive;
mod links;
mod message;
mod options;
mod others;
mod roster;
mod supervisor;
mod thread;

use std::fmt;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use seen_api::Calls;
use seen_cluster::tls::ServerTls;
use thiserror::Error;
use tokio::net::TcpListener;
use tower::Service;

pub(crate) use links::{LinkOptions, LinkThreads};
pub use options::ServingOptions;
use others::BoxError;
pub use others::RequestBody;
pub use supervisor::Drained;
use thread::{ServingThread, ThreadShared};

/// What a connection is served with. Cloned for each connection.
pub trait Served: Clone + Send + 'static {
    /// Who answers the hot calls, Filter and Mark, whose requests reach no other service.
    type Calls: Calls;
    /// The service of all other requests.
    type Others: Service<
            Request<RequestBody>,
            Response = Response<Self::Body>,
            Error: Into<BoxError> + Send,
            Future: Send,
        > + Send
        + 'static;
    /// The bodies of its answers.
    type Body: Body<Data = Bytes, Error: Into<BoxError> + Send> + Send + 'static;

    /// Who answers the hot calls.
    fn calls(&self) -> &Self::Calls;

    /// The service for one other request.
    fn others(&self) -> Self::Others;
}

/// A serving thread's number, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ThreadIndex(usize);

impl ThreadIndex {
    /// The number.
    pub const fn get(self) -> usize {
        self.0
    }
}

impl fmt::Display for ThreadIndex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why the front cannot start.
#[derive(Debug, Error)]
pub enum ServingError {
    /// The operating system refuses a thread or a runtime.
    #[error(
        "cannot start serving thread {thread}: {source}; check the limits of threads and open files"
    )]
    Thread {
        /// Which one.
        thread: ThreadIndex,
        /// Why.
        source: io::Error,
    },
    /// The service factory panicked.
    #[error("serving thread {thread} died while its service was made; its panic is on stderr")]
    Died {
        /// Which one.
        thread: ThreadIndex,
    },
}

/// What a serving thread does at the moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ThreadStatus {
    /// Which one.
    pub thread: ThreadIndex,
    /// Its open connections.
    pub connections: usize,
    /// Connections handed to it so far.
    pub accepted: u64,
    /// Share of the last second that it worked, smoothed: 0 to 1.
    pub busy: f64,
}

/// Shows what the serving threads do. Cheap to clone.
#[derive(Clone, Debug)]
pub struct FrontStatus {
    threads: Vec<Arc<ThreadShared>>,
}

impl FrontStatus {
    /// Every serving thread.
    pub fn threads(&self) -> Vec<ThreadStatus> {
        self.threads.iter().map(|thread| thread.status()).collect()
    }
}

/// The serving threads, started, with their services made, and not yet connected to anything.
#[derive(Debug)]
pub struct Front {
    threads: Vec<ServingThread>,
    options: ServingOptions,
}

impl Front {
    /// Starts the threads. `make` runs once on each, inside its runtime.
    ///
    /// # Errors
    /// [`ServingError`].
    pub async fn start<F, S>(options: ServingOptions, make: F) -> Result<Self, ServingError>
    where
        F: Fn(ThreadIndex) -> S + Send + Sync + 'static,
        S: Served,
    {
        Self::start_with_tls(options, None, make).await
    }

    /// As [`Self::start`]; with certificates all connections are encrypted.
    ///
    /// # Errors
    /// [`ServingError`].
    pub async fn start_with_tls<F, S>(
        options: ServingOptions,
        tls: Option<ServerTls>,
        make: F,
    ) -> Result<Self, ServingError>
    where
        F: Fn(ThreadIndex) -> S + Send + Sync + 'static,
        S: Served,
    {
        let make = Arc::new(make);
        let mut threads = Vec::with_capacity(options.threads);
        for index in (0..options.threads.max(1)).map(ThreadIndex) {
            let (options, tls, make) = (options.clone(), tls.clone(), Arc::clone(&make));
            threads.push(ServingThread::start(index, options, tls, make).await?);
        }
        Ok(Self { threads, options })
    }

    /// What the threads do, to be asked at any time.
    pub fn status(&self) -> FrontStatus {
        FrontStatus { threads: self.threads.iter().map(ServingThread::shared).collect() }
    }

    /// Accepts connections until `shutdown` ends; then closes the listener, asks every connection to
    /// close, and gives running requests as long as `shutdown` says, or else
    /// [`ServingOptions::drain`], before it cuts them off.
    pub async fn serve(
        self,
        listener: TcpListener,
        shutdown: impl Future<Output = Option<Duration>>,
    ) -> Drained {
        supervisor::run(self.threads, self.options, listener, shutdown).await
    }
}
