//! The end that answers.

mod replies;
mod run;

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use seen_proto::v1::{self, LinkLane};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::Cut;
use super::assembly::Whole;
use super::message::{Flags, Moved, RequestId, TRACE_BYTES};
use super::metrics::{End, ended};
use super::socket::{Socket, io_cut};
use super::transfer::TransferSink;
use crate::tls::ServerTls;

pub use replies::Replier;

/// Bounds of the end that answers.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// How long the handshakes and the hello may take.
    pub hello_timeout: Duration,
    /// How long one write may take, before whoever does not read is cut off.
    pub write_timeout: Duration,
    /// How long what is under way may take after a goodbye.
    pub drain_timeout: Duration,
    /// After how long without another frame the state is sent as a sign of life; on a lane for pushes after ten times as long,
    /// since nobody tells by it whether this end lives. The clock is told about as often, at most.
    pub life_interval: Duration,
    /// How much may wait to be written, before whoever does not read is cut off.
    pub buffer_bytes_max: usize,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            hello_timeout: Duration::from_secs(3),
            write_timeout: Duration::from_secs(5),
            drain_timeout: Duration::from_secs(10),
            life_interval: Duration::from_millis(20),
            buffer_bytes_max: 32 * 1_024 * 1_024,
        }
    }
}

/// A request that came. Nobody has waited for it longer than it may: who has is not heard.
pub struct Incoming<'a> {
    /// The sender's name for it; another request may have the same.
    pub id: RequestId,
    /// Which call, by its number. Not looked at here.
    pub call: u8,
    /// What the connection carries.
    pub lane: LinkLane,
    /// The epoch of the slot map by which the sender chose this replica.
    pub epoch: u32,
    /// What is special about it: [`Flags::EMERGENCY`], [`Flags::HEDGE`].
    pub flags: Flags,
    /// Set if the user was moved.
    pub moved: Option<Moved>,
    /// The caller's trace.
    pub trace: Option<[u8; TRACE_BYTES]>,
    /// When it was its turn.
    pub now: Instant,
    /// Until when the sender waits, by the time at which the request was read.
    pub deadline: Instant,
    /// Until when the sender waits for certain: the same, less the time that the request may have been on its way. After it the
    /// sender may have asked somebody else, so that nothing must be changed any more (coherence row 38).
    pub waits_until: Instant,
    body: Whole<'a>,
}

impl Incoming<'_> {
    /// The message's bytes.
    pub fn body(&self) -> &[u8] {
        self.body.as_slice()
    }

    /// The message's bytes, kept without a copy. They hold all that was read with them in memory: up to 64 KB.
    pub fn body_bytes(&self) -> Bytes {
        self.body.to_bytes()
    }

    /// How long the sender still waits, in microseconds; never 0.
    pub fn timeout_us(&self) -> u64 {
        self.us_until(self.deadline)
    }

    /// How long there is until `moment`, in microseconds; never 0.
    pub fn us_until(&self, moment: Instant) -> u64 {
        let left = moment.saturating_duration_since(self.now).as_micros();
        u64::try_from(left).unwrap_or(u64::MAX).max(1)
    }
}

/// Whoever answers what comes over links.
pub trait LinkService: Send + Sync + 'static {
    /// Answers a hello; see [`check_hello`](super::check_hello). The state need not be set.
    ///
    /// # Errors
    /// The refusal to send.
    #[expect(clippy::result_large_err, reason = "once a connection")]
    fn welcome(&self, hello: &v1::LinkHello) -> Result<v1::LinkWelcome, v1::LinkRefusal>;

    /// How this replica fares now.
    fn state(&self) -> v1::ReplicaState;

    /// Changes whenever all should be told at once how it fares; the number itself says nothing.
    fn changes(&self) -> watch::Receiver<u64>;

    /// Answers a request through `reply`, at once or later, from any thread. Called for one request after the other on
    /// the connection's task: must not block. What is answered within the call is written with the others that came
    /// together.
    fn handle(&self, request: Incoming<'_>, reply: Replier);

    /// Sends users' entries, on the transfer lane. Its future is dropped when the connection ends.
    fn transfer<'a>(
        &'a self,
        ask: Bytes,
        out: &'a mut TransferSink<'_>,
    ) -> BoxFuture<'a, Result<(), Cut>>;
}

/// Serves a connection that was accepted over TCP, with TLS where that is given, until it ends.
///
/// # Errors
/// Why it was not ended in order. It is counted; whoever calls may log it.
pub async fn serve_tcp<S: LinkService>(
    stream: TcpStream,
    tls: Option<&ServerTls>,
    service: &S,
    options: &ServerOptions,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), Cut> {
    let limit = options.hello_timeout;
    let secured = async {
        stream.set_nodelay(true).map_err(io_cut("setting TCP_NODELAY"))?;
        let stream: Box<dyn Socket> = match tls {
            None => Box::new(stream),
            Some(tls) => match timeout(limit, tls.accept(stream)).await {
                Err(_) => return Err(Cut::Late { what: "the TLS handshake", limit }),
                Ok(stream) => Box::new(stream.map_err(io_cut("the TLS handshake"))?),
            },
        };
        Ok(stream)
    };
    match secured.await {
        Err(cut) => {
            ended(End::Server, &cut);
            Err(cut)
        }
        Ok(stream) => serve(stream, service, options, shutdown).await,
    }
}

/// Serves a connection until it ends: because the other end closed it, because `shutdown` is done and what was under way
/// is answered, or because the other end is broken, silent or does not read.
///
/// # Errors
/// Why it was not ended in order. It is counted; whoever calls may log it.
pub async fn serve<S: LinkService>(
    stream: impl Socket,
    service: &S,
    options: &ServerOptions,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), Cut> {
    let cut = run::run(stream, service, options, shutdown).await;
    ended(End::Server, &cut);
    match cut {
        Cut::Closed("") | Cut::Drained => Ok(()),
        cut => Err(cut),
    }
}
