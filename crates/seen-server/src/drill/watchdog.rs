//! Whether this machine gave us the processor, and callers came to their turn: windows in which it did not, or they did not, prove
//! nothing about the service. A caller gives up by its own timer whatever the service does.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::shutdown::Stop;

/// How long the watchdog sleeps.
const NAP: Duration = Duration::from_millis(5);
/// A nap that took this much longer was starved. An answer takes some ten wake-ups of several processes, each of which may
/// have waited as long.
const STARVED_AFTER: Duration = Duration::from_millis(8);
/// Windows that are kept.
const WINDOWS_MAX: usize = 100_000;

/// Begin and end of each, the latest last.
type Windows = Mutex<Vec<(Instant, Instant)>>;

/// A thread that sleeps, and notes when it was woken late; and a task beside the callers that does the same.
#[derive(Debug)]
pub(super) struct Watchdog {
    windows: Arc<Windows>,
    /// Of the task.
    turns: Windows,
    over: Arc<AtomicBool>,
}

impl Watchdog {
    pub(super) fn start() -> std::io::Result<Self> {
        let windows: Arc<Windows> = Arc::default();
        let over = Arc::new(AtomicBool::new(false));
        let (noted, ended) = (Arc::clone(&windows), Arc::clone(&over));
        let watch = move || {
            while !ended.load(Ordering::Relaxed) {
                let began = Instant::now();
                // Nobody unparks it: it is a nap.
                thread::park_timeout(NAP);
                note(&noted, began);
            }
        };
        thread::Builder::new().name("seen-watchdog".to_owned()).spawn(watch)?;
        Ok(Self { windows, turns: Windows::default(), over })
    }

    /// Looks whether tasks come to their turn where the callers run.
    pub(super) async fn watch_turns(&self, stop: &Stop) {
        while !stop.is_requested() {
            let began = Instant::now();
            tokio::time::sleep(NAP).await;
            note(&self.turns, began);
        }
    }

    /// True if the processor was not had, or callers did not come to their turn, at some time between these two.
    pub(super) fn starved_between(&self, from: Instant, to: Instant) -> bool {
        let any = |windows: &Windows| {
            let windows = windows.lock();
            // What is asked about is recent.
            windows.iter().rev().take_while(|(_, end)| *end >= from).any(|(begin, _)| *begin <= to)
        };
        any(&self.windows) || any(&self.turns)
    }

    /// How often the processor was not had, and how long all of it.
    pub(super) fn total(&self) -> (usize, Duration) {
        let windows = self.windows.lock();
        (windows.len(), windows.iter().map(|(begin, end)| *end - *begin).sum())
    }
}

/// A nap is over.
fn note(windows: &Windows, began: Instant) {
    let woke = Instant::now();
    let mut noted = windows.lock();
    if woke - began > NAP + STARVED_AFTER && noted.len() < WINDOWS_MAX {
        noted.push((began, woke));
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_keeps_the_others_from_their_turn_is_noticed() {
        let (watchdog, stop) = (Watchdog::start().expect("started"), Stop::default());
        let begin = Instant::now();
        let hog = async {
            // The other one has begun by then.
            tokio::task::yield_now().await;
            let from = Instant::now();
            while from.elapsed() < 10 * (NAP + STARVED_AFTER) {
                std::hint::spin_loop();
            }
            stop.request();
            from
        };
        let ((), from) = tokio::join!(watchdog.watch_turns(&stop), hog);
        assert!(begin <= from && watchdog.starved_between(from, Instant::now()));
        let long_ago = begin - Duration::from_secs(1);
        assert!(!watchdog.starved_between(long_ago, long_ago));
    }
}
