//! The end that asks.

mod connect;
mod run;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use seen_proto::v1::{self, LinkLane};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::clock::FarClock;
use super::message::REQUEST_BYTES_MAX;
use super::metrics::NotSentMetrics;
use super::outbox::Outbox;
use super::socket::Socket;
use super::{Cut, Link, LinkEvents, NotSent, Outgoing};
use crate::tls::ClientTls;

pub(super) use connect::{Opened, open, tcp};

/// What to say hello with; asked for each attempt, so that it may change.
pub type HelloSource = Arc<dyn Fn() -> v1::LinkHello + Send + Sync>;

/// Where to connect to, and how.
#[derive(Clone)]
pub struct ClientOptions {
    /// `host:port`; resolved again for each attempt.
    pub address: String,
    /// What to say hello with.
    pub hello: HelloSource,
    /// Certificates; `None` = without TLS.
    pub tls: Option<ClientTls>,
    /// The name that the other end's certificate must have; `None` = the address's host.
    pub tls_name: Option<String>,
    /// How long it may take to connect, handshakes and hello included.
    pub connect_timeout: Duration,
    /// After how long without any frame a connection is given up.
    pub silence_timeout: Duration,
    /// How long one write may take.
    pub write_timeout: Duration,
    /// Pause after a first failure. Doubled with each further one; half of it is random.
    pub backoff_min: Duration,
    /// The longest pause.
    pub backoff_max: Duration,
    /// How much may wait to be written; beyond it [`NotSent::Full`].
    pub buffer_bytes_max: usize,
}

impl ClientOptions {
    /// The usual bounds, without TLS.
    pub fn new(address: impl Into<String>, hello: HelloSource) -> Self {
        Self {
            address: address.into(),
            hello,
            tls: None,
            tls_name: None,
            connect_timeout: Duration::from_secs(3),
            silence_timeout: Duration::from_secs(5),
            write_timeout: Duration::from_secs(5),
            backoff_min: Duration::from_millis(50),
            backoff_max: Duration::from_secs(2),
            buffer_bytes_max: 16 * 1_024 * 1_024,
        }
    }
}

/// How a connection is made. Given by hand where it is not TCP.
pub trait Connector: Send + Sync + 'static {
    /// Connects, within the options' `connect_timeout`.
    fn connect(&self) -> BoxFuture<'_, Result<Box<dyn Socket>, Cut>>;
}

/// Where a connection stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Closed,
    Open,
    Draining,
}

/// What changes together with the buffer.
#[derive(Debug, Default)]
struct Grant {
    phase: Phase,
    /// Bytes that may be sent.
    credit: u64,
    /// Bytes that the replica granted.
    granted: u64,
    /// Requests since the last write.
    requests: u64,
    /// What the replica's clock shows.
    clock: FarClock,
}

/// What [`LinkClient`] and its tasks share.
struct Shared {
    options: ClientOptions,
    out: Outbox<Grant>,
    not_sent: NotSentMetrics,
}

/// A way to one replica, for one lane. Connects, and connects again, until it is dropped.
pub struct LinkClient {
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl LinkClient {
    /// Begins to connect over TCP. Call it on a tokio runtime: there its task runs.
    pub fn start(options: ClientOptions, events: Arc<dyn LinkEvents>) -> Self {
        let connector = tcp(&options);
        Self::start_over(connector, options, events)
    }

    /// The same over something else than TCP; the options' address and TLS are not looked at.
    pub fn start_over(
        connector: impl Connector,
        options: ClientOptions,
        events: Arc<dyn LinkEvents>,
    ) -> Self {
        let lane = LinkLane::try_from((options.hello)().lane).unwrap_or(LinkLane::Unspecified);
        let not_sent = NotSentMetrics::new(lane);
        let shared = Arc::new(Shared { options, out: Outbox::new(Grant::default()), not_sent });
        let task = tokio::spawn(run::run(shared.clone(), connector, events));
        Self { shared, task }
    }

    /// Bytes of requests that may be sent now.
    pub fn credit_bytes(&self) -> u64 {
        self.shared.out.lock().extra.credit
    }
}

impl Link for LinkClient {
    fn submit(&self, request: &Outgoing) -> Result<(), NotSent> {
        let shared = &*self.shared;
        let cost = request.frame_bytes();
        let now = Instant::now();
        let sent = shared.out.put(|waiting| {
            let grant = &mut waiting.extra;
            match grant.phase {
                Phase::Closed => return Err(NotSent::Closed),
                Phase::Draining => return Err(NotSent::Draining),
                Phase::Open => {}
            }
            if request.body.len() > REQUEST_BYTES_MAX {
                return Err(NotSent::TooLarge);
            }
            let Some(credit) = grant.credit.checked_sub(cost as u64) else {
                return Err(NotSent::NoCredit);
            };
            if waiting.bytes() + cost > shared.options.buffer_bytes_max {
                return Err(NotSent::Full);
            }
            waiting.extra.credit = credit;
            waiting.extra.requests += 1;
            // From here on it may lie anywhere for any time.
            let sent_us = waiting.extra.clock.us(now);
            request.put_sent(&mut waiting.buffer, sent_us);
            Ok(())
        });
        sent.inspect_err(|reason| shared.not_sent.count(*reason))
    }
}

impl Drop for LinkClient {
    fn drop(&mut self) {
        self.shared.out.clear().extra = Grant::default();
        self.task.abort();
    }
}
