//! One connection: what the supervisor knows of it, its bytes, and its life on its thread.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use h2::server::{Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::Request;
use metrics::counter;
use tokio::io::{AsyncRead, AsyncWrite};

use super::gather::Gathering;
use super::keepalive::Keepalive;
use super::options::ServingOptions;
use super::{Served, hot, others};
use crate::metrics::CONNECTIONS_ENDED;

/// Bytes of a reply that may wait for a client that reads slowly, for each of its requests.
const SEND_BUFFER_BYTES_MAX: usize = 64 * 1024;
/// Requests of one connection that are taken up before the thread's others get their turn.
const REQUESTS_PER_TURN: usize = 256;
/// Requests for which a connection keeps room between its turns.
const TAKEN_KEPT_MAX: usize = 64;
/// Streams that may be reset for a client's errors before its connection ends.
const LOCAL_RESETS_MAX: usize = 1_024;
/// Length of the preface with which an HTTP/2 connection begins (RFC 9113, section 3.4).
pub(super) const PREFACE_BYTES: u64 = 24;

/// What is to happen to a connection; a later one is stronger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Verdict {
    /// It goes on.
    Open = 0,
    /// GOAWAY: what runs is answered, nothing new is begun.
    Close = 1,
    /// It ends now.
    Cut = 2,
}

/// What the connection's thread and the supervisor share.
#[derive(Debug)]
pub(super) struct ConnectionState {
    verdict: AtomicU8,
    task: AtomicWaker,
    /// Bytes read so far: the measure of its share of the thread's work. Requests are no measure,
    /// since one stream may carry thousands. Written by its thread alone.
    bytes_in: AtomicU64,
    /// Cancelled requests, less answered and forgotten ones.
    cancelled: AtomicU32,
    cancelled_max: u32,
}

impl ConnectionState {
    pub(super) fn new(cancelled_max: u32) -> Self {
        Self {
            verdict: AtomicU8::new(Verdict::Open as u8),
            task: AtomicWaker::new(),
            bytes_in: AtomicU64::new(0),
            cancelled: AtomicU32::new(0),
            cancelled_max,
        }
    }

    /// Decides what is to happen, unless something stronger was decided, and wakes the connection.
    /// `reason` is the label under which it is counted. False if it was decided already.
    pub(super) fn decide(&self, verdict: Verdict, reason: &'static str) -> bool {
        let before = self.verdict.fetch_max(verdict as u8, Ordering::AcqRel);
        let new = before < verdict as u8;
        if new {
            counter!(CONNECTIONS_ENDED.name, "reason" => reason).increment(1);
            self.task.wake();
        }
        new
    }

    /// What was decided; wakes the task when that changes.
    fn look(&self, cx: &Context<'_>) -> Verdict {
        // Registered before the verdict is read: one that falls in between wakes us.
        self.task.register(cx.waker());
        match self.verdict.load(Ordering::Acquire) {
            0 => Verdict::Open,
            1 => Verdict::Close,
            _ => Verdict::Cut,
        }
    }

    /// Waits for this, unless the connection is cut off before.
    pub(super) async fn unless_cut<F: Future>(&self, awaited: F) -> Option<F::Output> {
        let mut awaited = pin!(awaited);
        let either = poll_fn(|cx| match (awaited.as_mut().poll(cx), self.look(cx)) {
            (Poll::Ready(done), _) => Poll::Ready(Some(done)),
            (Poll::Pending, Verdict::Cut) => Poll::Ready(None),
            (Poll::Pending, Verdict::Open | Verdict::Close) => Poll::Pending,
        });
        either.await
    }

    /// Counts bytes that were read. One task calls it, so that a load and a store do for an addition.
    pub(super) fn read(&self, bytes: u64) {
        let before = self.bytes_in.load(Ordering::Relaxed);
        self.bytes_in.store(before.wrapping_add(bytes), Ordering::Relaxed);
    }

    /// Bytes read so far.
    pub(super) fn bytes_in(&self) -> u64 {
        self.bytes_in.load(Ordering::Relaxed)
    }

    /// Forgets a share of the cancelled requests.
    pub(super) fn forgive(&self, share: f64) {
        let forgiven = (f64::from(self.cancelled_max) * share).ceil() as u32;
        let less = |now: u32| Some(now.saturating_sub(forgiven));
        // Never fails: the closure always gives a new value.
        let _ = self.cancelled.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    fn answered(&self) {
        if self.cancelled.load(Ordering::Relaxed) > 0 {
            let less = |now: u32| now.checked_sub(1);
            let _ = self.cancelled.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
        }
    }

    /// Opening requests only to reset them costs the client nothing and the server a task each, and
    /// HTTP/2's limit of concurrent requests does not see it. A client that times out honestly is
    /// answered in between, or pauses.
    fn was_cancelled(&self) {
        if self.cancelled.fetch_add(1, Ordering::Relaxed) >= self.cancelled_max
            && self.decide(Verdict::Cut, "flood")
        {
            tracing::warn!(cancelled_max = self.cancelled_max, "connection cut off: reset flood");
        }
    }
}

/// One request of a connection: cancelled, unless it is said to be answered.
pub(super) struct Asked {
    connection: Arc<ConnectionState>,
    answered: bool,
}

impl Asked {
    pub(super) fn answered(mut self) {
        self.answered = true;
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        match self.answered {
            true => self.connection.answered(),
            false => self.connection.was_cancelled(),
        }
    }
}

/// Serves one connection to its end, or to its verdict.
pub(super) async fn serve<S, I>(
    stream: I,
    service: S,
    state: Arc<ConnectionState>,
    options: &ServingOptions,
) where
    S: Served,
    I: AsyncRead + AsyncWrite + Unpin,
{
    let io = Gathering::new(stream, options.read_buffer_bytes, Arc::clone(&state));
    let mut http2 = h2::server::Builder::new();
    http2
        .max_concurrent_streams(options.streams_per_connection_max)
        .max_header_list_size(options.header_bytes_max)
        .initial_window_size(options.stream_window_bytes)
        .initial_connection_window_size(options.connection_window_bytes)
        .max_send_buffer_size(SEND_BUFFER_BYTES_MAX)
        .max_pending_accept_reset_streams(options.resets_pending_max)
        .max_local_error_reset_streams(Some(LOCAL_RESETS_MAX));
    let ended = match state.unless_cut(http2.handshake(io.clone())).await {
        None => return,
        Some(Ok(http2)) => {
            let mut driver = Driver::new(http2, io, service, state, options);
            poll_fn(|cx| driver.poll(cx)).await
        }
        Some(Err(error)) => Err(error),
    };
    if let Err(error) = ended {
        // Mostly a client that went away, or one that broke the protocol.
        tracing::debug!(%error, "connection ended");
    }
}

/// A connection whose requests are taken up.
struct Driver<S, I> {
    http2: Connection<Gathering<I>, Bytes>,
    io: Gathering<I>,
    service: S,
    state: Arc<ConnectionState>,
    keepalive: Option<Keepalive>,
    /// Requests that came together: taken up once there are no more, so that the answers that are there
    /// at once leave by one write.
    taken: Vec<(Request<RecvStream>, SendResponse<Bytes>)>,
    closing: bool,
}

impl<S: Served, I: AsyncRead + AsyncWrite + Unpin> Driver<S, I> {
    fn new(
        mut http2: Connection<Gathering<I>, Bytes>,
        io: Gathering<I>,
        service: S,
        state: Arc<ConnectionState>,
        options: &ServingOptions,
    ) -> Self {
        let keepalive = http2.ping_pong().map(|pings| {
            Keepalive::new(pings, options.keepalive_interval, options.keepalive_timeout)
        });
        io.begin();
        Self { http2, io, service, state, keepalive, taken: Vec::new(), closing: false }
    }

    /// One turn, and the write of all that it brought.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        let turn = self.turn(cx);
        if turn.is_pending()
            && let Poll::Ready(Err(error)) = self.io.write_out(cx)
        {
            tracing::debug!(%error, "connection lost");
            return Poll::Ready(Ok(()));
        }
        turn
    }

    fn turn(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        let mut turn = 0;
        loop {
            match self.http2.poll_accept(cx) {
                Poll::Ready(Some(Ok(one))) => self.taken.push(one),
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Err(error)),
                Poll::Ready(None) => return Poll::Ready(Ok(())),
                Poll::Pending if !self.taken.is_empty() => {
                    turn += self.taken.len();
                    self.take_up(cx);
                }
                Poll::Pending => match self.verdict(cx) {
                    Some(ended) => return ended,
                    None => continue,
                },
            }
            if turn >= REQUESTS_PER_TURN && self.taken.is_empty() {
                // The next turn begins with what was answered.
                cx.waker().wake_by_ref();
                return self.verdict(cx).unwrap_or(Poll::Pending);
            }
        }
    }

    /// Begins to answer what has come.
    fn take_up(&mut self, cx: &mut Context<'_>) {
        let mut taken = std::mem::take(&mut self.taken);
        for (request, respond) in taken.drain(..) {
            let asked = Asked { connection: Arc::clone(&self.state), answered: false };
            match hot::hot_call(&request) {
                Some(call) => hot::ask(self.service.calls(), call, request, respond, asked, cx),
                None => {
                    let others = self.service.others();
                    tokio::spawn(others::ask(others, request, respond, asked));
                }
            }
        }
        // Kept for its room, but for that of a rare burst: there may be thousands of connections.
        if taken.capacity() <= TAKEN_KEPT_MAX {
            self.taken = taken;
        }
    }

    /// What is to happen where there is nothing to do: `None` = there is again.
    fn verdict(&mut self, cx: &mut Context<'_>) -> Option<Poll<Result<(), h2::Error>>> {
        match self.state.look(cx) {
            Verdict::Cut => return Some(Poll::Ready(Ok(()))),
            Verdict::Close if !self.closing => {
                self.closing = true;
                self.http2.graceful_shutdown();
                return None;
            }
            Verdict::Open | Verdict::Close => {}
        }
        let bytes_in = self.state.bytes_in();
        if self.keepalive.as_mut().is_some_and(|pings| pings.poll(cx, bytes_in).is_ready()) {
            tracing::debug!("a ping was not answered in time");
            self.http2.abrupt_shutdown(Reason::NO_ERROR);
            // Says so if that can be written at once.
            let _ = self.http2.poll_closed(cx);
            return Some(Poll::Ready(Ok(())));
        }
        Some(Poll::Pending)
    }
}
