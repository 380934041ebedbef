//! The bound on a donor's CPU: so many microseconds of work in each period, for all streams together, so that the callers of
//! the donor hardly notice (coherence row 33).

use seen_filter::Tick;

/// How much work a donor may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DonorLimits {
    /// Microseconds of work in each period, at least 1; as much as the period or more means no bound.
    pub busy_us_max: u64,
    /// The period, in microseconds.
    pub period_us: u64,
    /// Streams at once; at most six walk over one namespace.
    pub streams_max: usize,
}

impl Default for DonorLimits {
    /// A quarter of one processor.
    fn default() -> Self {
        Self { busy_us_max: 2_500, period_us: 10_000, streams_max: 4 }
    }
}

/// Longest stretch of work before others get their turn, in microseconds.
const STRETCH_US_MAX: u64 = 500;

/// The work done in the present period.
#[derive(Debug)]
pub(super) struct Turns {
    limits: DonorLimits,
    began: Tick,
    worked_us: u64,
}

/// What may be done now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// Work for so many microseconds.
    Work(u64),
    /// Nothing, until this moment.
    Rest(Tick),
}

impl Turns {
    pub const fn new(limits: DonorLimits) -> Self {
        Self { limits, began: Tick::new(0), worked_us: 0 }
    }

    pub fn next(&mut self, now: Tick) -> Turn {
        let period_us = self.limits.period_us.max(1);
        if now.since_us(self.began) >= period_us {
            // Whoever overran rests for it: a stretch cannot be cut short.
            let periods = now.since_us(self.began) / period_us;
            let allowed_us = self.limits.busy_us_max.max(1).saturating_mul(periods);
            self.worked_us = self.worked_us.saturating_sub(allowed_us);
            self.began = self.began.plus_us(periods * period_us);
        }
        let left_us = self.limits.busy_us_max.max(1).saturating_sub(self.worked_us);
        if left_us == 0 {
            return Turn::Rest(self.began.plus_us(period_us));
        }
        Turn::Work(left_us.min(STRETCH_US_MAX))
    }

    pub fn worked(&mut self, us: u64) {
        // Even what is too short to be measured counts for something.
        self.worked_us += us.max(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn work_stays_within_its_share_of_the_time() {
        let limits = DonorLimits { busy_us_max: 2_000, period_us: 10_000, streams_max: 1 };
        let mut turns = Turns::new(limits);
        let start = Tick::new(3_600_000_000);
        let mut now = start;
        let mut worked_us = 0;
        while now.since_us(start) < 1_000_000 {
            match turns.next(now) {
                Turn::Work(us) => {
                    assert!(us <= STRETCH_US_MAX);
                    // It always takes a little longer than allowed.
                    turns.worked(us + 90);
                    worked_us += us + 90;
                    now = now.plus_us(us + 90);
                }
                Turn::Rest(until) => {
                    assert!(until > now, "{until:?} {now:?}");
                    now = until;
                }
            }
        }
        let share = worked_us as f64 / now.since_us(start) as f64;
        assert!((0.19..=0.203).contains(&share), "{share}");
    }

    #[test]
    fn time_at_rest_is_not_saved_up() {
        let limits = DonorLimits { busy_us_max: 1_000, period_us: 10_000, streams_max: 1 };
        let mut turns = Turns::new(limits);
        let now = Tick::new(3_600_000_000);
        let mut worked_us = 0;
        while let Turn::Work(us) = turns.next(now) {
            turns.worked(us);
            worked_us += us;
        }
        assert_eq!(worked_us, 1_000);
    }
}
