//! The retry budget: a repeat is paid for by the calls that came before it, so that a client never
//! multiplies the load of a service that is already in trouble.

use std::sync::atomic::{AtomicU32, Ordering};

/// One repeat, in the unit of account: hundredths, so that a percentage is a whole number.
const REPEAT: u32 = 100;
/// Most repeats that are saved up.
const SAVED_MAX: u32 = 10 * REPEAT;

/// What is left for repeats.
#[derive(Debug)]
pub(crate) struct RetryBudget {
    percent: u32,
    saved: AtomicU32,
}

impl RetryBudget {
    /// Each call adds `percent` hundredths of a repeat. Begins full, so that the first calls of a
    /// process may be repeated, too.
    pub(crate) fn new(percent: u32) -> Self {
        let saved = if percent == 0 { 0 } else { SAVED_MAX };
        Self { percent, saved: AtomicU32::new(saved) }
    }

    /// A call was begun.
    pub(crate) fn earn(&self) {
        // Relaxed is enough everywhere here: only the number matters, nothing is handed over by it.
        let add = |saved: u32| (saved < SAVED_MAX).then(|| (saved + self.percent).min(SAVED_MAX));
        let _ = self.saved.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    /// Pays for one repeat; false if there is not enough.
    pub(crate) fn spend(&self) -> bool {
        let pay = |saved: u32| saved.checked_sub(REPEAT);
        self.saved.fetch_update(Ordering::Relaxed, Ordering::Relaxed, pay).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spent(budget: &RetryBudget) -> u32 {
        (0..).take_while(|_| budget.spend()).count() as u32
    }

    #[test]
    fn a_tenth_of_the_calls_may_be_repeated_beyond_what_was_saved() {
        let budget = RetryBudget::new(10);
        assert_eq!(spent(&budget), 10, "what it begins with");
        (0..95).for_each(|_| budget.earn());
        assert_eq!(spent(&budget), 9);
        (0..10_000).for_each(|_| budget.earn());
        assert_eq!(spent(&budget), 10, "savings are bounded");
    }

    #[test]
    fn without_a_share_nothing_is_repeated() {
        let budget = RetryBudget::new(0);
        budget.earn();
        assert!(!budget.spend());
    }
}
