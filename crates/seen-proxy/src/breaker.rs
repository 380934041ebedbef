//! The breaker of one replica: after many failures it is left alone for a while, then asked a little, then trusted again.

use seen_filter::Tick;

/// So many failures in a row open it.
const STREAK_MAX: u32 = 8;
/// Of at least so many answers in a window half may fail.
const WINDOW_MIN: u32 = 20;
const WINDOW_US: u64 = 1_000_000;
/// For how long it stays open: doubled each time, up to the most.
const OPEN_US_MIN: u64 = 500_000;
const OPEN_US_MAX: u64 = 8_000_000;
/// So many good answers in a row close it.
const PROBES_GOOD: u32 = 3;
/// Where no read came by to probe with, a write is used after this long.
const READS_ONLY_US: u64 = 1_000_000;

/// What a breaker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// It lets everything pass.
    Closed,
    /// It lets nothing pass.
    Open,
    /// It lets one request at a time pass.
    HalfOpen,
}

impl BreakerState {
    /// Every state.
    pub const ALL: [BreakerState; 3] = [Self::Closed, Self::Open, Self::HalfOpen];

    /// A short stable name, used as a metric label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

/// The breaker of one replica.
#[derive(Clone, Debug)]
pub struct Breaker {
    /// It never opens: nobody else could be asked.
    stays_closed: bool,
    state: BreakerState,
    /// When it was opened last, and for how long.
    until: Tick,
    trips: u32,
    probing: bool,
    /// Of the present kind, failures where it is closed and good answers where it is half open.
    streak: u32,
    window_from: Tick,
    answered: u32,
    failed: u32,
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            stays_closed: false,
            state: BreakerState::Closed,
            until: Tick::new(0),
            trips: 0,
            probing: false,
            streak: 0,
            window_from: Tick::new(0),
            answered: 0,
            failed: 0,
        }
    }
}

impl Breaker {
    /// The breaker of the only replica, which is this process: to leave it alone would help nobody.
    pub fn that_stays_closed() -> Self {
        Self { stays_closed: true, ..Self::default() }
    }

    /// What it does.
    pub const fn state(&self) -> BreakerState {
        self.state
    }

    /// True if it lets everything pass.
    pub fn is_closed(&self) -> bool {
        self.state == BreakerState::Closed
    }

    /// True if one request may pass now to find out. A write is only used where no read came by.
    pub fn may_probe(&self, now: Tick, is_write: bool) -> bool {
        let from = if is_write { self.until.plus_us(READS_ONLY_US) } else { self.until };
        !self.is_closed() && !self.probing && now >= from
    }

    /// That request is on its way.
    pub fn probe(&mut self) {
        if !self.is_closed() {
            self.state = BreakerState::HalfOpen;
            self.probing = true;
        }
    }

    /// Nobody waits for that request any more; it says nothing.
    pub fn abandoned(&mut self) {
        self.probing = false;
    }

    /// The replica answered, whatever the answer was about.
    pub fn succeeded(&mut self, now: Tick) {
        self.turn(now);
        self.answered += 1;
        match self.state {
            BreakerState::Closed => self.streak = 0,
            BreakerState::Open => {}
            BreakerState::HalfOpen => {
                self.probing = false;
                self.streak += 1;
                if self.streak >= PROBES_GOOD {
                    *self = Self { trips: self.trips, ..Self::default() };
                }
            }
        }
    }

    /// It did not, or told of a fault of its own.
    pub fn failed(&mut self, now: Tick) {
        if self.stays_closed {
            return;
        }
        self.turn(now);
        self.answered += 1;
        self.failed += 1;
        match self.state {
            BreakerState::Closed => {
                self.streak += 1;
                let half = self.answered >= WINDOW_MIN && self.failed * 2 >= self.answered;
                if self.streak >= STREAK_MAX || half {
                    self.open(now);
                }
            }
            BreakerState::Open => {}
            BreakerState::HalfOpen => self.open(now),
        }
    }

    fn open(&mut self, now: Tick) {
        let open_us = (OPEN_US_MIN << self.trips.min(8)).min(OPEN_US_MAX);
        self.trips += 1;
        self.state = BreakerState::Open;
        self.until = now.plus_us(open_us);
        (self.probing, self.streak, self.answered, self.failed) = (false, 0, 0, 0);
    }

    fn turn(&mut self, now: Tick) {
        if now.since_us(self.window_from) >= WINDOW_US {
            // A clean window forgives one of the times that it was opened.
            if self.is_closed() && self.answered >= WINDOW_MIN && self.failed == 0 {
                self.trips = self.trips.saturating_sub(1);
            }
            (self.window_from, self.answered, self.failed) = (now, 0, 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(at_us: u64) -> Breaker {
        let mut breaker = Breaker::default();
        (0..STREAK_MAX).for_each(|_| breaker.failed(Tick::new(at_us)));
        breaker
    }

    #[test]
    fn a_row_of_failures_opens_it_and_good_probes_close_it() {
        let mut breaker = opened(0);
        assert_eq!(breaker.state(), BreakerState::Open);
        assert!(!breaker.may_probe(Tick::new(OPEN_US_MIN - 1), false));
        let mut now = Tick::new(OPEN_US_MIN);
        assert!(!breaker.may_probe(now, true), "no write is risked while reads come by");
        for _ in 0..PROBES_GOOD {
            assert!(breaker.may_probe(now, false));
            breaker.probe();
            assert!(!breaker.may_probe(now, false), "one at a time");
            now = now.plus_us(10);
            breaker.succeeded(now);
        }
        assert!(breaker.is_closed());
    }

    #[test]
    fn the_only_one_there_is_is_never_left_alone() {
        let mut breaker = Breaker::that_stays_closed();
        (0..1_000).for_each(|at| breaker.failed(Tick::new(at * 10_000)));
        assert!(breaker.is_closed());
    }

    #[test]
    fn a_failed_probe_opens_it_for_longer() {
        let mut breaker = opened(0);
        let now = Tick::new(OPEN_US_MIN);
        breaker.probe();
        breaker.failed(now);
        assert_eq!(breaker.state(), BreakerState::Open);
        assert!(!breaker.may_probe(now.plus_us(OPEN_US_MIN), false));
        assert!(breaker.may_probe(now.plus_us(2 * OPEN_US_MIN), false));
        assert!(breaker.may_probe(now.plus_us(2 * OPEN_US_MIN + READS_ONLY_US), true));
    }

    #[test]
    fn a_probe_that_nobody_waits_for_makes_room_for_the_next() {
        let mut breaker = opened(0);
        breaker.probe();
        breaker.abandoned();
        assert_eq!(breaker.state(), BreakerState::HalfOpen);
        assert!(breaker.may_probe(Tick::new(OPEN_US_MIN), false));
    }

    #[test]
    fn half_of_a_window_opens_it_and_single_failures_do_not() {
        let mut breaker = Breaker::default();
        for round in 0..200 {
            let now = Tick::new(round * 1_000);
            if round % 5 == 0 { breaker.failed(now) } else { breaker.succeeded(now) }
        }
        assert!(breaker.is_closed(), "a fifth");
        for round in 0..400 {
            let now = Tick::new(2_000_000 + round * 1_000);
            if round % 2 == 0 { breaker.failed(now) } else { breaker.succeeded(now) }
        }
        assert_eq!(breaker.state(), BreakerState::Open, "half");
    }

    #[test]
    fn late_answers_do_not_close_an_open_one() {
        let mut breaker = opened(0);
        (0..100).for_each(|_| breaker.succeeded(Tick::new(10)));
        assert_eq!(breaker.state(), BreakerState::Open);
    }
}
