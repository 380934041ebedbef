//! Pings a connection that has said nothing for a while, and tells when it does not answer.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use h2::{Ping, PingPong};
use tokio::time::{Instant, Sleep, sleep_until};

/// The pings of one connection.
pub(super) struct Keepalive {
    pings: PingPong,
    interval: Duration,
    timeout: Duration,
    /// Bytes read when it was last looked at.
    bytes_in: u64,
    read_at: Instant,
    waits: Waits,
    timer: Pin<Box<Sleep>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waits {
    /// Until nothing was read for an interval.
    ForSilence,
    /// For the answer to a ping.
    ForPong,
}

impl Keepalive {
    pub(super) fn new(pings: PingPong, interval: Duration, timeout: Duration) -> Self {
        let read_at = Instant::now();
        let timer = Box::pin(sleep_until(read_at + interval));
        Self { pings, interval, timeout, bytes_in: 0, read_at, waits: Waits::ForSilence, timer }
    }

    /// Ready once a ping was not answered in time.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>, bytes_in: u64) -> Poll<()> {
        if bytes_in != self.bytes_in {
            self.bytes_in = bytes_in;
            self.read_at = Instant::now();
        }
        if self.waits == Waits::ForPong && self.pings.poll_pong(cx).is_ready() {
            self.waits = Waits::ForSilence;
            self.timer.as_mut().reset(self.read_at + self.interval);
        }
        while self.timer.as_mut().poll(cx).is_ready() {
            let silent_until = self.read_at + self.interval;
            match self.waits {
                Waits::ForPong => return Poll::Ready(()),
                Waits::ForSilence if silent_until > Instant::now() => {
                    self.timer.as_mut().reset(silent_until);
                }
                Waits::ForSilence => {
                    // An error is that the connection is ending, which its own poll tells.
                    let _ = self.pings.send_ping(Ping::opaque());
                    self.waits = Waits::ForPong;
                    self.timer.as_mut().reset(Instant::now() + self.timeout);
                    if self.pings.poll_pong(cx).is_ready() {
                        self.waits = Waits::ForSilence;
                        self.timer.as_mut().reset(Instant::now() + self.interval);
                    }
                }
            }
        }
        Poll::Pending
    }
}
