//! One connection: two pipes, each of which carries bytes one way.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Duration, Instant};

use super::Net;
use crate::dice::Dice;
use crate::process::{Host, Process};

/// So much may be on its way.
const BYTES_MAX: usize = 1 << 18;
/// What the way takes at most, in milliseconds, where nothing is slow.
const LATENCY_MS_MAX: u64 = 2;

struct Inner {
    /// What is on its way, and when it is there.
    chunks: VecDeque<(Instant, Vec<u8>)>,
    /// How much of the first one was read.
    read: usize,
    bytes: usize,
    /// Nothing overtakes.
    last_due: Instant,
    /// When the end is there.
    ends: Option<Instant>,
    lost: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
    dice: Dice,
}

/// One way.
pub(super) struct Pipe {
    net: Arc<Net>,
    way: (Host, Host),
    inner: Mutex<Inner>,
}

impl Pipe {
    pub fn new(net: &Arc<Net>, way: (Host, Host), dice: Dice) -> Arc<Self> {
        let inner = Inner {
            chunks: VecDeque::new(),
            read: 0,
            bytes: 0,
            last_due: Instant::now(),
            ends: None,
            lost: false,
            reader: None,
            writer: None,
            dice,
        };
        Arc::new(Self { net: Arc::clone(net), way, inner: Mutex::new(inner) })
    }

    pub fn is_of(&self, host: Host) -> bool {
        self.way.0 == host || self.way.1 == host
    }

    /// The connection breaks, and what is on its way is lost.
    pub fn lose(&self) {
        let mut inner = self.inner.lock();
        inner.lost = true;
        inner.chunks.clear();
        drop(inner);
        self.wake();
    }

    pub fn wake(&self) {
        let mut inner = self.inner.lock();
        let wakers = [inner.reader.take(), inner.writer.take()];
        drop(inner);
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    /// Something may have arrived.
    pub fn wake_reader(&self) {
        let reader = self.inner.lock().reader.take();
        if let Some(reader) = reader {
            reader.wake();
        }
    }

    /// Nothing more is sent.
    fn end(self: &Arc<Self>) {
        let due = self.due();
        self.inner.lock().ends.get_or_insert(due);
        self.net.bells.set(due, self);
    }

    /// When something is there that is sent now.
    fn due(&self) -> Instant {
        let slow_ms = self.net.slow_ms(self.way.0, self.way.1);
        let mut inner = self.inner.lock();
        let ms = slow_ms + inner.dice.within(0..=LATENCY_MS_MAX);
        let due = Instant::now() + Duration::from_millis(ms);
        inner.last_due = inner.last_due.max(due);
        inner.last_due
    }

    fn poll_write(self: &Arc<Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let due = self.due();
        let mut inner = self.inner.lock();
        if inner.lost {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if inner.bytes >= BYTES_MAX {
            inner.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        inner.bytes += bytes.len();
        // What arrives together is read together, and announced once.
        let is_announced = inner.chunks.back().is_some_and(|(last, _)| *last == due);
        inner.chunks.push_back((due, bytes.to_vec()));
        let reader = if due <= Instant::now() { inner.reader.take() } else { None };
        drop(inner);
        match reader {
            Some(reader) => reader.wake(),
            None if is_announced => {}
            None => self.net.bells.set(due, self),
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_read(&self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let is_cut = self.net.is_cut(self.way.0, self.way.1);
        let mut inner = self.inner.lock();
        if inner.lost {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        if !is_cut && (!inner.chunks.is_empty() || inner.ends.is_some()) {
            let now = Instant::now();
            if inner.give(now, buf) {
                let writer = inner.writer.take();
                drop(inner);
                if let Some(writer) = writer {
                    writer.wake();
                }
                return Poll::Ready(Ok(()));
            }
            // The end, after everything.
            if inner.chunks.is_empty() && inner.ends.is_some_and(|ends| ends <= now) {
                return Poll::Ready(Ok(()));
            }
        }
        // A bell was set for whatever is on its way.
        if !inner.reader.as_ref().is_some_and(|reader| reader.will_wake(cx.waker())) {
            inner.reader = Some(cx.waker().clone());
        }
        Poll::Pending
    }
}

impl Inner {
    /// Gives what is there. False if nothing is.
    fn give(&mut self, now: Instant, buf: &mut ReadBuf<'_>) -> bool {
        let before = buf.filled().len();
        while buf.remaining() > 0 {
            let Some((_, chunk)) = self.chunks.front().filter(|(due, _)| *due <= now) else {
                break;
            };
            let rest = chunk.get(self.read..).unwrap_or_default();
            let some = rest.len().min(buf.remaining());
            buf.put_slice(rest.get(..some).unwrap_or_default());
            self.read += some;
            if some == rest.len() {
                self.bytes = self.bytes.saturating_sub(chunk.len());
                self.chunks.pop_front();
                self.read = 0;
            }
        }
        buf.filled().len() > before
    }
}

/// One end of a connection. It stands still with the process that it belongs to.
pub struct SimSocket {
    owner: Arc<Process>,
    from: Arc<Pipe>,
    to: Arc<Pipe>,
}

impl SimSocket {
    pub(super) fn new(owner: &Arc<Process>, from: Arc<Pipe>, to: Arc<Pipe>) -> Self {
        Self { owner: Arc::clone(owner), from, to }
    }
}

impl AsyncRead for SimSocket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.owner.poll_runs(cx) {
            return Poll::Pending;
        }
        self.from.poll_read(cx, buf)
    }
}

impl AsyncWrite for SimSocket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if !self.owner.poll_runs(cx) {
            return Poll::Pending;
        }
        self.to.poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.to.end();
        Poll::Ready(Ok(()))
    }
}

impl Drop for SimSocket {
    fn drop(&mut self) {
        self.to.end();
    }
}
