//! Which calls are traced: those of a caller who traces them, and of all others a share; never more than a bounded
//! number of spans a second, whatever callers ask for.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use metrics::Counter;
use rand::Rng;

use crate::calls::TraceContext;

/// The flag of a caller that traces.
const SAMPLED: u8 = 1;
const NS_PER_S: u64 = 1_000_000_000;
/// So much of what was not used before may be taken at once.
const BURST_NS: u64 = NS_PER_S;

/// Which calls are traced.
pub struct Sampling {
    ratio: f64,
    pace: Pace,
    began: Instant,
    refused: Counter,
}

impl Sampling {
    /// Of calls without a caller's trace this share, 0 to 1, and at most so many spans a second of all calls together.
    /// `refused` counts the calls that were to be traced and were too many.
    pub fn new(ratio: f64, spans_per_s_max: u32, refused: Counter) -> Self {
        Self { ratio, pace: Pace::new(spans_per_s_max), began: Instant::now(), refused }
    }

    /// True if a call with this caller's trace is to be traced. Its own span is paid for then.
    pub(super) fn takes(&self, caller: Option<&TraceContext>) -> bool {
        let wanted = match caller {
            Some(caller) => caller.flags & SAMPLED != 0,
            None => self.ratio > 0.0 && (self.ratio >= 1.0 || rand::rng().random_bool(self.ratio)),
        };
        if !wanted {
            return false;
        }
        let taken = self.pace.try_take(self.now_ns());
        if !taken {
            self.refused.increment(1);
        }
        taken
    }

    /// A traced call has one span more. It is never refused, so that traces are whole; calls pay for it.
    pub(super) fn took(&self) {
        self.pace.take(self.now_ns());
    }

    fn now_ns(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// So many a second, and those of one second at once.
struct Pace {
    gap_ns: u64,
    /// When everything that was taken is paid for.
    paid_at_ns: AtomicU64,
}

impl Pace {
    fn new(per_s: u32) -> Self {
        Self { gap_ns: NS_PER_S / u64::from(per_s.max(1)), paid_at_ns: AtomicU64::new(0) }
    }

    fn try_take(&self, now_ns: u64) -> bool {
        self.update(now_ns, |paid_at_ns| paid_at_ns + self.gap_ns <= now_ns + BURST_NS)
    }

    fn take(&self, now_ns: u64) {
        self.update(now_ns, |_| true);
    }

    fn update(&self, now_ns: u64, may: impl Fn(u64) -> bool) -> bool {
        let next = |paid_at_ns: u64| {
            let from_ns = paid_at_ns.max(now_ns);
            may(from_ns).then(|| from_ns.saturating_add(self.gap_ns))
        };
        // Nothing else is read or written by it.
        self.paid_at_ns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_may_be_taken_at_once_and_no_more() {
        let pace = Pace::new(100);
        let taken = |now_ns| (0..1_000).filter(|_| pace.try_take(now_ns)).count();
        assert_eq!(taken(0), 100);
        assert_eq!(taken(NS_PER_S / 2), 50);
        assert_eq!(taken(10 * NS_PER_S), 100, "what was not used long ago is lost");
    }

    #[test]
    fn what_must_be_taken_is_paid_for_by_what_comes_later() {
        let pace = Pace::new(100);
        (0..300).for_each(|_| pace.take(0));
        assert!(!pace.try_take(0));
        assert!(
            !pace.try_take(2 * NS_PER_S),
            "two seconds pay for two hundred, and one may be ahead"
        );
        assert!(pace.try_take(2 * NS_PER_S + NS_PER_S / 100));
    }

    #[test]
    fn a_caller_who_traces_is_followed_and_one_who_does_not_too() {
        let trace = |flags| TraceContext { trace_id: [1; 16], span_id: [2; 8], flags };
        let of = |ratio| Sampling::new(ratio, 1_000, Counter::noop());
        assert!(of(0.0).takes(Some(&trace(1))));
        assert!(of(0.0).takes(Some(&trace(3))), "other flags say nothing");
        assert!(!of(1.0).takes(Some(&trace(0))));
        assert!(!of(0.0).takes(None));
        assert!(of(1.0).takes(None));
    }

    #[test]
    fn a_share_is_a_share() {
        let sampling = Sampling::new(0.25, 1_000_000, Counter::noop());
        let taken = (0..4_000).filter(|_| sampling.takes(None)).count();
        // The mean is 1,000, and its deviation 27: ten of them.
        assert!((730..1_270).contains(&taken), "{taken}");
    }
}
