//! One connection: what the supervisor knows of it, its bytes, and its life on its thread.

use std::error::Error;
use std::future::{Future, poll_fn};
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_util::task::AtomicWaker;
use http::{Request, Response};
use http_body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use metrics::counter;
use tokio::io::{AsyncRead, AsyncWrite, BufReader, ReadBuf};
use tokio::net::TcpStream;
use tower::{Service, ServiceExt};

use super::options::ServingOptions;
use crate::metrics::CONNECTIONS_ENDED;

/// Bytes of a reply that may wait for a client that reads slowly, for each of its requests.
const SEND_BUFFER_BYTES_MAX: usize = 64 * 1024;
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

    fn verdict(&self) -> Verdict {
        match self.verdict.load(Ordering::Acquire) {
            0 => Verdict::Open,
            1 => Verdict::Close,
            _ => Verdict::Cut,
        }
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
struct Asked {
    connection: Arc<ConnectionState>,
    answered: bool,
}

impl Asked {
    fn answered(mut self) {
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
pub(super) async fn serve<S, B>(
    stream: TcpStream,
    service: S,
    state: Arc<ConnectionState>,
    options: &ServingOptions,
) where
    S: Service<Request<Incoming>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<Box<dyn Error + Send + Sync>> + Send,
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<Box<dyn Error + Send + Sync>>,
{
    let io = Metered {
        stream: BufReader::with_capacity(options.read_buffer_bytes, stream),
        state: Arc::clone(&state),
    };
    let asked_of = Arc::clone(&state);
    let handler = service_fn(move |request| {
        let service = service.clone();
        let asked = Asked { connection: Arc::clone(&asked_of), answered: false };
        async move {
            let reply = service.oneshot(request).await;
            asked.answered();
            reply
        }
    });
    let connection = http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .max_concurrent_streams(options.streams_per_connection_max)
        .max_header_list_size(options.header_bytes_max)
        .initial_stream_window_size(options.stream_window_bytes)
        .initial_connection_window_size(options.connection_window_bytes)
        .max_send_buf_size(SEND_BUFFER_BYTES_MAX)
        .max_pending_accept_reset_streams(options.resets_pending_max)
        .keep_alive_interval(options.keepalive_interval)
        .keep_alive_timeout(options.keepalive_timeout)
        .serve_connection(TokioIo::new(io), handler);
    let mut connection = pin!(connection);
    let mut closing = false;
    let ended = poll_fn(|cx| {
        if let Poll::Ready(ended) = connection.as_mut().poll(cx) {
            return Poll::Ready(ended);
        }
        // Registered before the verdict is read: one that falls in between wakes us.
        state.task.register(cx.waker());
        match state.verdict() {
            Verdict::Open => Poll::Pending,
            Verdict::Close if closing => Poll::Pending,
            Verdict::Close => {
                closing = true;
                connection.as_mut().graceful_shutdown();
                connection.as_mut().poll(cx)
            }
            Verdict::Cut => Poll::Ready(Ok(())),
        }
    });
    if let Err(error) = ended.await {
        // Mostly a client that went away, or one that broke the protocol.
        tracing::debug!(%error, "connection ended");
    }
}

/// Counts what is read.
struct Metered {
    stream: BufReader<TcpStream>,
    state: Arc<ConnectionState>,
}

impl AsyncRead for Metered {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        self.state.read(u64::try_from(buffer.filled().len() - before).unwrap_or(0));
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Metered {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
