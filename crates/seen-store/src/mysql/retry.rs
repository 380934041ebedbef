//! The retry budget: however storage fares, it is asked at most one twenty-fifth more often than callers
//! ask. Callers repeat one call in twenty at most (`seen-client`), so that of a client's calls storage
//! sees 1.05 times 1.04 attempts, which is less than 1.1. The idea is that of Finagle and gRPC: each
//! call pays in a fraction of a retry, each retry takes a whole one out.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::metrics::{CALLS, RETRIES};

/// What one call pays in, of what one retry costs.
const DEPOSIT: u64 = 1;
/// What one retry costs.
const RETRY: u64 = 25;
/// Retries that can be saved up.
const SAVED_MAX: u64 = 20;

/// Shared by everything that may be tried again.
#[derive(Debug)]
pub struct RetryBudget {
    saved: AtomicU64,
    calls: AtomicU64,
    retries: AtomicU64,
}

impl Default for RetryBudget {
    fn default() -> Self {
        Self { saved: AtomicU64::new(0), calls: AtomicU64::new(0), retries: AtomicU64::new(0) }
    }
}

impl RetryBudget {
    /// Counts a call.
    pub fn deposit(&self) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        metrics::counter!(CALLS).increment(1);
        let add = |saved: u64| Some((saved + DEPOSIT).min(SAVED_MAX * RETRY));
        let _ = self.saved.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    /// Takes a retry out; false if none is left.
    pub fn withdraw(&self) -> bool {
        let take = |saved: u64| saved.checked_sub(RETRY);
        let taken = self.saved.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok();
        if taken {
            self.retries.fetch_add(1, Ordering::Relaxed);
            metrics::counter!(RETRIES).increment(1);
        }
        taken
    }

    /// Calls counted, and retries granted.
    pub fn counts(&self) -> (u64, u64) {
        (self.calls.load(Ordering::Relaxed), self.retries.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_stay_within_a_twenty_fifth_above_calls() {
        let budget = RetryBudget::default();
        for _ in 0..5_000 {
            budget.deposit();
            // Whoever asks twice after each call gets what is left.
            let _ = (budget.withdraw(), budget.withdraw());
        }
        let (calls, retries) = budget.counts();
        assert!(retries <= calls / 25 && retries >= calls / 25 - SAVED_MAX, "{retries} of {calls}");
    }

    #[test]
    fn what_is_saved_up_is_bounded() {
        let budget = RetryBudget::default();
        (0..10_000).for_each(|_| budget.deposit());
        assert_eq!((0..100).filter(|_| budget.withdraw()).count() as u64, SAVED_MAX);
    }
}
