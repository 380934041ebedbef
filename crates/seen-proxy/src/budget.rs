//! The budget of repeats: whatever is asked a second time, hedges included, is a bounded share of what was asked at all,
//! so that a proxy never multiplies the load of a service that is in trouble.

use seen_filter::Tick;

/// The window, in buckets of a second.
const BUCKETS: usize = 10;
const BUCKET_US: u64 = 1_000_000;
/// So many repeats a window are free, so that a service with little to do repeats at all.
pub const FLOOR: u64 = 10;

/// What was asked and repeated within the last seconds.
#[derive(Debug)]
pub struct Budget {
    share_permille: u64,
    buckets: [Counts; BUCKETS],
    sum: Counts,
    /// The number of the newest bucket since the start of the clock.
    newest: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    asked: u64,
    extra: u64,
}

impl Budget {
    /// Lets `share` of all requests be repeated, 0 to 1. With 0 nothing is.
    pub fn new(share: f64, now: Tick) -> Self {
        let share_permille = (share.clamp(0.0, 1.0) * 1_000.0) as u64;
        let newest = now.get() / BUCKET_US;
        Self { share_permille, buckets: Default::default(), sum: Counts::default(), newest }
    }

    /// A request was begun.
    pub fn asked(&mut self, now: Tick) {
        self.bucket(now).asked += 1;
        self.sum.asked += 1;
    }

    /// Takes one repeat; false if there is none left.
    pub fn take(&mut self, now: Tick) -> bool {
        self.turn(now);
        let allowed = self.sum.asked * self.share_permille / 1_000 + FLOOR;
        if self.share_permille == 0 || self.sum.extra >= allowed {
            return false;
        }
        self.bucket(now).extra += 1;
        self.sum.extra += 1;
        true
    }

    fn bucket(&mut self, now: Tick) -> &mut Counts {
        self.turn(now);
        &mut self.buckets[self.newest as usize % BUCKETS]
    }

    fn turn(&mut self, now: Tick) {
        let number = now.get() / BUCKET_US;
        let gone = number.saturating_sub(self.newest).min(BUCKETS as u64);
        for step in 1..=gone {
            let old = std::mem::take(&mut self.buckets[(self.newest + step) as usize % BUCKETS]);
            self.sum.asked -= old.asked;
            self.sum.extra -= old.extra;
        }
        if gone == BUCKETS as u64 {
            // A pause: every bucket was emptied, whichever number it had.
            self.buckets = Default::default();
            self.sum = Counts::default();
        }
        self.newest = self.newest.max(number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(budget: &mut Budget, now: Tick) -> u64 {
        (0..).take_while(|_| budget.take(now)).count() as u64
    }

    #[test]
    fn a_tenth_is_repeated_at_most_and_a_few_always() {
        let mut budget = Budget::new(0.1, Tick::new(0));
        let now = Tick::new(5);
        assert_eq!(taken(&mut budget, now), FLOOR);
        (0..1_000).for_each(|_| budget.asked(now));
        assert_eq!(taken(&mut budget, now), 100);
        assert!(!budget.take(now));
    }

    #[test]
    fn what_left_the_window_neither_pays_nor_counts() {
        let mut budget = Budget::new(0.1, Tick::new(0));
        (0..1_000).for_each(|_| budget.asked(Tick::new(0)));
        assert_eq!(taken(&mut budget, Tick::new(9_900_000)), 100 + FLOOR);
        // The requests are gone, the repeats are not yet.
        assert_eq!(taken(&mut budget, Tick::new(10_000_000)), 0);
        assert_eq!(taken(&mut budget, Tick::new(19_000_000)), FLOOR);
        assert_eq!(taken(&mut budget, Tick::new(3_600_000_000)), FLOOR);
    }

    #[test]
    fn without_a_share_nothing_is_repeated() {
        let mut budget = Budget::new(0.0, Tick::new(0));
        budget.asked(Tick::new(0));
        assert!(!budget.take(Tick::new(0)));
    }
}
