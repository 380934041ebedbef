//! Whether the process stood still lately. What lay in its sockets meanwhile may be answered long after the sender gave up; of a
//! write that matters (coherence rows 36 and 38): the sender may have repeated it elsewhere, and taken it back.

use std::sync::atomic::{AtomicU64, Ordering};

use seen_filter::Tick;

/// A longer time without a beat means that the process stood still, in microseconds.
const PAUSE_US: u64 = 500_000;
/// So long after it was found out, requests may still be of before, in microseconds.
const SUSPECT_US: u64 = 250_000;

/// Beaten several times a second.
#[derive(Debug, Default)]
pub(super) struct Pulse {
    /// 0 before the first beat.
    last_us: AtomicU64,
    suspect_until_us: AtomicU64,
}

impl Pulse {
    pub fn beat(&self, now: Tick) {
        let last_us = self.last_us.swap(now.get(), Ordering::AcqRel);
        if last_us != 0 && now.get().saturating_sub(last_us) > PAUSE_US {
            self.suspect_until_us.fetch_max(now.get() + SUSPECT_US, Ordering::AcqRel);
        }
    }

    /// True if a request that is read now may have waited for the process to go on.
    pub fn is_suspect(&self, now: Tick) -> bool {
        let last_us = self.last_us.load(Ordering::Acquire);
        let stands_still = last_us != 0 && now.get().saturating_sub(last_us) > PAUSE_US;
        stands_still || now.get() < self.suspect_until_us.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_around_a_pause_are_suspect() {
        let pulse = Pulse::default();
        let at = |ms: u64| Tick::new(3_600_000_000 + ms * 1_000);
        assert!(!pulse.is_suspect(at(0)), "nobody drives it");
        pulse.beat(at(0));
        pulse.beat(at(400));
        assert!(!pulse.is_suspect(at(900)));
        assert!(pulse.is_suspect(at(901)), "it may run before the next beat does");
        pulse.beat(at(5_000));
        assert!(pulse.is_suspect(at(5_249)));
        assert!(!pulse.is_suspect(at(5_250)));
    }
}
