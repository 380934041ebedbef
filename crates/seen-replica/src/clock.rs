//! The process's monotonic clock, as the rules count it. The rules themselves never read it.

use seen_filter::Tick;
use tokio::time::{Duration, Instant};

/// Makes [`Tick`]s from tokio's clock, which tests can pause.
#[derive(Clone, Copy, Debug)]
pub struct Ticker {
    start: Instant,
}

/// Ticks begin here and not at 0, so that "long ago" can be expressed from the first moment.
const FIRST_TICK_US: u64 = 3_600_000_000;

impl Ticker {
    /// A clock that begins now. Call it on a tokio runtime.
    pub fn start() -> Self {
        Self { start: Instant::now() }
    }

    /// The present tick.
    pub fn now(&self) -> Tick {
        let us = u64::try_from(self.start.elapsed().as_micros()).unwrap_or(u64::MAX);
        Tick::new(FIRST_TICK_US.saturating_add(us))
    }

    /// The tick of an instant.
    pub fn tick(&self, instant: Instant) -> Tick {
        let since = instant.saturating_duration_since(self.start).as_micros();
        Tick::new(FIRST_TICK_US.saturating_add(u64::try_from(since).unwrap_or(u64::MAX)))
    }

    /// The instant of a tick, for timers.
    pub fn instant(&self, tick: Tick) -> Instant {
        self.start + Duration::from_micros(tick.get().saturating_sub(FIRST_TICK_US))
    }
}
