//! Finds out when the machine kept a thread waiting that wanted to run: what is measured then says
//! nothing about what is measured.

use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// A thread that wants to run every few milliseconds and does not for this long is starved.
const STARVED: Duration = Duration::from_millis(25);
const PAUSE: Duration = Duration::from_millis(2);

/// The thread that wants to run.
pub struct Watchdog {
    end: mpsc::Sender<()>,
    thread: JoinHandle<Vec<(Instant, Instant)>>,
}

/// When it was starved.
#[derive(Debug, Default)]
pub struct Starved(Vec<(Instant, Instant)>);

impl Watchdog {
    pub fn start() -> Self {
        let (end, ended) = mpsc::channel();
        let thread = thread::spawn(move || {
            let mut starved = Vec::new();
            let mut slept_at = Instant::now();
            while ended.recv_timeout(PAUSE) == Err(mpsc::RecvTimeoutError::Timeout) {
                let now = Instant::now();
                if now.duration_since(slept_at) > PAUSE + STARVED {
                    starved.push((slept_at, now));
                }
                slept_at = now;
            }
            starved
        });
        Self { end, thread }
    }

    pub fn stop(self) -> Starved {
        drop(self.end);
        Starved(self.thread.join().expect("no panic"))
    }
}

impl Starved {
    /// True if it was starved at any time between these two.
    pub fn within(&self, from: Instant, until: Instant) -> bool {
        self.0.iter().any(|(began, ended)| *began <= until && from <= *ended)
    }

    /// How often, and how long at the longest in milliseconds.
    pub fn told(&self) -> String {
        let longest = self.0.iter().map(|(began, ended)| ended.duration_since(*began)).max();
        let longest_ms = longest.unwrap_or_default().as_millis();
        format!("{} times, {longest_ms} ms at the longest", self.0.len())
    }
}
