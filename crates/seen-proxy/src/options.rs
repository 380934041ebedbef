//! What a proxy is told at its start.

use std::sync::Arc;
use std::time::Duration;

use seen_api::Tracer;
use seen_filter::Tick;
use tokio::time::Instant;

use crate::health::Silence;
use crate::limit::Rates;

/// How often replicas are looked at, with the usual patience and at most.
const TICK_MIN: Duration = Duration::from_millis(10);
/// How often at least, however patient.
const TICK_MAX: Duration = Duration::from_millis(50);

/// Counts microseconds from one moment on. The threads of a process share one, since they share what is counted by it.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    started: Instant,
}

impl Clock {
    /// One that begins now.
    pub fn start() -> Self {
        Self { started: Instant::now() }
    }

    /// The time since it began.
    pub fn now(&self) -> Tick {
        Tick::new(self.started.elapsed().as_micros() as u64)
    }

    /// What it shows then; 0 before it began.
    pub(crate) fn tick(&self, then: Instant) -> Tick {
        Tick::new(then.saturating_duration_since(self.started).as_micros() as u64)
    }

    /// When it shows this, or did.
    pub(crate) fn instant(&self, tick: Tick) -> Instant {
        self.started + Duration::from_micros(tick.get())
    }
}

/// How a proxy spreads, repeats and refuses requests.
#[derive(Clone, Debug)]
pub struct ProxyOptions {
    /// This life of this thread's proxy: drawn at random, and never used before, by another thread neither. Claims of moved
    /// users are numbered under it.
    pub incarnation: u64,
    /// A Filter is asked at a second replica once it takes longer than 95 of 100, but not before this.
    pub hedge_after_min: Duration,
    /// It is asked there after this long at the latest.
    pub hedge_after_max: Duration,
    /// Requests that may be sent a second time, for whatever reason, as a share of all.
    pub extra_share: f64,
    /// A replica without a sign of life for this long is suspected.
    pub suspect_after: Duration,
    /// After this long without one it is sent nothing more.
    pub eject_after: Duration,
    /// A user who was moved to another replica and brings no token is asked about in storage for at most this long.
    pub moved_for: Duration,
    /// Requests in flight; the adaptive limit stays below.
    pub in_flight_max: usize,
    /// True if the limit on requests in flight follows the time that answers take. Not where the replica is this process: its own
    /// queues bound what waits for storage, and what it has in memory is not to be refused for that.
    pub limit_adapts: bool,
    /// The most requests a second of a tag; shared by all threads.
    pub rates: Arc<Rates>,
    /// Begins the spans of calls that are sampled.
    pub tracer: Tracer,
}

impl ProxyOptions {
    /// The usual ones.
    pub fn new(incarnation: u64) -> Self {
        Self {
            incarnation,
            hedge_after_min: Duration::from_millis(2),
            hedge_after_max: Duration::from_millis(30),
            extra_share: 0.1,
            suspect_after: Duration::from_millis(50),
            eject_after: Duration::from_millis(300),
            moved_for: Duration::from_secs(6),
            in_flight_max: 65_536,
            limit_adapts: true,
            rates: Arc::default(),
            tracer: Tracer::off(),
        }
    }

    /// How often replicas are looked at: what is found late is a share of the silence that is looked for.
    pub(crate) fn tick(&self) -> Duration {
        (self.suspect_after / 5).clamp(TICK_MIN, TICK_MAX)
    }

    pub(crate) const fn silence(&self) -> Silence {
        Silence {
            suspect_us: self.suspect_after.as_micros() as u64,
            eject_us: self.eject_after.as_micros() as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_patient_looks_less_often() {
        let looks = |ms| {
            let suspect_after = Duration::from_millis(ms);
            ProxyOptions { suspect_after, ..ProxyOptions::new(1) }.tick().as_millis()
        };
        assert_eq!([10, 50, 100, 250, 60_000].map(looks), [10, 10, 20, 50, 50]);
    }
}
