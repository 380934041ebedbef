//! Stopping: the first SIGTERM or SIGINT begins a drain, the second one ends the process at once.

use std::future::Future;
use std::io;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// What a shell expects of a process that a signal ended: 128 and the signal's number.
const EXIT_CODE_SIGNAL: i32 = 128;

/// Tells every part of the program to stop. Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub struct Stop {
    token: CancellationToken,
    drain_max: Arc<OnceLock<Duration>>,
}

/// The two signals that ask a process to stop.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    /// The next signal.
    async fn next(&mut self) -> SignalKind {
        tokio::select! {
            _ = self.terminate.recv() => SignalKind::terminate(),
            _ = self.interrupt.recv() => SignalKind::interrupt(),
        }
    }
}

impl Stop {
    /// Listens for signals from now on; the second one exits the process at once. Call it within a
    /// runtime that lives as long as the process.
    ///
    /// # Errors
    /// The operating system refuses the handlers.
    pub fn on_signals() -> io::Result<Self> {
        Self::on_signals_then(|kind| {
            std::process::exit(EXIT_CODE_SIGNAL + kind.as_raw_value());
        })
    }

    /// As [`Stop::on_signals`], with another end for the second signal.
    ///
    /// # Errors
    /// The operating system refuses the handlers.
    pub fn on_signals_then(second: impl FnOnce(SignalKind) + Send + 'static) -> io::Result<Self> {
        let stop = Self::default();
        let mut signals = Signals::new()?;
        let token = stop.token.clone();
        tokio::spawn(async move {
            let first = signals.next().await;
            tracing::info!(
                signal = first.as_raw_value(),
                "draining; a second signal exits at once"
            );
            token.cancel();
            second(signals.next().await);
        });
        Ok(stop)
    }

    /// Asks everyone to stop, as a signal would.
    pub fn request(&self) {
        self.token.cancel();
    }

    /// Asks everyone to stop, and says how long running requests may take. The first to say counts.
    pub fn request_within(&self, drain_max: Option<Duration>) {
        if let Some(drain_max) = drain_max {
            let _ = self.drain_max.set(drain_max);
        }
        self.token.cancel();
    }

    /// Ends when somebody asks; how long running requests may take, if they said it.
    pub fn requested_within(&self) -> impl Future<Output = Option<Duration>> + Send + 'static {
        let (asked, drain_max) = (self.requested(), Arc::clone(&self.drain_max));
        async move {
            asked.await;
            drain_max.get().copied()
        }
    }

    /// True once somebody asked.
    pub fn is_requested(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Ends when somebody asks.
    pub fn requested(&self) -> impl Future<Output = ()> + Send + 'static {
        self.token.clone().cancelled_owned()
    }

    /// Runs `work` to its end, but no longer than `drain_max` once stopping was asked for. `None`
    /// means that it was cut off.
    pub async fn bounded<T>(
        &self,
        drain_max: Duration,
        work: impl Future<Output = T>,
    ) -> Option<T> {
        let too_long = async {
            self.token.cancelled().await;
            tokio::time::sleep(drain_max).await;
        };
        tokio::select! {
            biased;
            done = work => Some(done),
            () = too_long => None,
        }
    }
}

/// Asks everyone to stop when stdin is closed: a process that was started by another one then ends with it,
/// however that ends.
pub fn stop_with_stdin(stop: &Stop) {
    let stop = stop.clone();
    // Not a task: a runtime would wait for a read that blocks.
    let reading = move || {
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        stop.request();
    };
    if let Err(error) = std::thread::Builder::new().name("seen-stdin".to_owned()).spawn(reading) {
        tracing::warn!(%error, "stdin is not watched; end this process by a signal");
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::Stop;

    #[tokio::test(start_paused = true)]
    async fn work_is_cut_off_only_after_the_bound_of_a_drain() {
        let stop = Stop::default();
        let minute = Duration::from_secs(60);
        let calm = stop.bounded(Duration::from_secs(1), tokio::time::sleep(minute)).await;
        assert_eq!(calm, Some(()), "nobody asked to stop");
        stop.request();
        let begin = Instant::now();
        let cut = stop.bounded(Duration::from_secs(1), std::future::pending::<()>()).await;
        assert_eq!((cut, begin.elapsed()), (None, Duration::from_secs(1)));
    }
}
