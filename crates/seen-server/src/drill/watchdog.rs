//! Whether this machine gave us the processor: windows in which it did not prove nothing about the service.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// How long the watchdog sleeps.
const NAP: Duration = Duration::from_millis(5);
/// A nap that took this much longer was starved. An answer takes some ten wake-ups of several processes, each of which may
/// have waited as long.
const STARVED_AFTER: Duration = Duration::from_millis(8);
/// Windows that are kept.
const WINDOWS_MAX: usize = 100_000;

/// A thread that sleeps, and notes when it was woken late.
#[derive(Debug)]
pub(super) struct Watchdog {
    windows: Arc<Mutex<Vec<(Instant, Instant)>>>,
    over: Arc<AtomicBool>,
}

impl Watchdog {
    pub(super) fn start() -> std::io::Result<Self> {
        let windows: Arc<Mutex<Vec<(Instant, Instant)>>> = Arc::default();
        let over = Arc::new(AtomicBool::new(false));
        let (noted, ended) = (Arc::clone(&windows), Arc::clone(&over));
        let watch = move || {
            while !ended.load(Ordering::Relaxed) {
                let began = Instant::now();
                // Nobody unparks it: it is a nap.
                thread::park_timeout(NAP);
                let woke = Instant::now();
                let mut noted = noted.lock();
                if woke - began > NAP + STARVED_AFTER && noted.len() < WINDOWS_MAX {
                    noted.push((began, woke));
                }
            }
        };
        thread::Builder::new().name("seen-watchdog".to_owned()).spawn(watch)?;
        Ok(Self { windows, over })
    }

    /// True if the processor was not had at some time between these two.
    pub(super) fn starved_between(&self, from: Instant, to: Instant) -> bool {
        let windows = self.windows.lock();
        // The latest come last, and what is asked about is recent.
        windows.iter().rev().take_while(|(_, end)| *end >= from).any(|(begin, _)| *begin <= to)
    }

    /// How many windows there were, and how long all of them.
    pub(super) fn total(&self) -> (usize, Duration) {
        let windows = self.windows.lock();
        (windows.len(), windows.iter().map(|(begin, end)| *end - *begin).sum())
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}
