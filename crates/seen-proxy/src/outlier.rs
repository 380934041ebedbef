//! Outliers: a replica that is far worse than the others of its slot is left out for a while. A slot's last one never is.

use seen_filter::Tick;

/// With fewer answers in a window nothing is concluded.
const ANSWERS_MIN: u32 = 20;
/// This share of failures is too many, if the others have at most the other one.
const FAILED_PERMILLE: u64 = 400;
const OTHERS_FAILED_PERMILLE: u64 = 100;
/// So many times as slow as the others is too slow, if it is slow at all.
const SLOW_TIMES: u64 = 5;
const SLOW_US: u64 = 20_000;
/// For how long, times how often before; and at most.
const EJECT_US: u64 = 2_000_000;
const EJECT_US_MAX: u64 = 30_000_000;

/// Why a replica is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutlierReason {
    /// Too many of its answers are failures.
    Failures,
    /// It takes far longer than the others.
    Slow,
}

impl OutlierReason {
    /// A short stable name, used as a metric label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Failures => "failures",
            Self::Slow => "slow",
        }
    }
}

/// What one replica did within a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Record {
    /// Answers, and those that did not come.
    pub answers: u32,
    /// Those that were failures.
    pub failed: u32,
    /// The time of those that were none, together.
    pub total_us: u64,
}

impl Record {
    /// An answer that was none of the replica's faults, after so long.
    pub const fn answered(&mut self, us: u64) {
        self.answers += 1;
        self.total_us += us;
    }

    /// A failure.
    pub const fn failed(&mut self) {
        self.answers += 1;
        self.failed += 1;
    }

    const fn and(self, other: Self) -> Self {
        Self {
            answers: self.answers + other.answers,
            failed: self.failed + other.failed,
            total_us: self.total_us + other.total_us,
        }
    }

    fn failed_permille(self) -> u64 {
        u64::from(self.failed) * 1_000 / u64::from(self.answers.max(1))
    }

    fn mean_us(self) -> u64 {
        self.total_us / u64::from((self.answers - self.failed).max(1))
    }
}

/// Which of a slot's serving replicas to leave out, if any: the worst one, and only where another one serves.
pub fn worst(serving: &[Record]) -> Option<(usize, OutlierReason)> {
    let judged = serving.iter().enumerate().filter_map(|(at, record)| {
        let others = serving.iter().enumerate().filter(|(other, _)| *other != at);
        let others = others.fold(Record::default(), |sum, (_, record)| sum.and(*record));
        judge(*record, others).map(|reason| (at, reason))
    });
    // Who answers nothing is worse than who answers late.
    judged.max_by_key(|(at, reason)| {
        let record = serving.get(*at).copied().unwrap_or_default();
        (*reason == OutlierReason::Failures, record.failed_permille(), record.mean_us())
    })
}

fn judge(record: Record, others: Record) -> Option<OutlierReason> {
    // Without others that answered there is nothing to compare with, and perhaps nobody else.
    if record.answers < ANSWERS_MIN || others.answers < ANSWERS_MIN {
        return None;
    }
    let failing = record.failed_permille() >= FAILED_PERMILLE
        && others.failed_permille() <= OTHERS_FAILED_PERMILLE;
    if failing {
        return Some(OutlierReason::Failures);
    }
    let slow = record.mean_us() >= SLOW_US && record.mean_us() >= others.mean_us() * SLOW_TIMES;
    slow.then_some(OutlierReason::Slow)
}

/// For how long a replica is left out.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ejection {
    until: Tick,
    times: u64,
}

impl Ejection {
    /// Leaves it out from now on.
    pub fn begin(&mut self, now: Tick) {
        // Long ago it is forgotten how often it was before.
        if now.since_us(self.until) > 2 * EJECT_US_MAX {
            self.times = 0;
        }
        self.times += 1;
        self.until = now.plus_us((self.times * EJECT_US).min(EJECT_US_MAX));
    }

    /// True while it is left out.
    pub fn is_on(&self, now: Tick) -> bool {
        self.times > 0 && now < self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(answers: u32, failed: u32, mean_us: u64) -> Record {
        Record { answers, failed, total_us: u64::from(answers - failed) * mean_us }
    }

    #[test]
    fn the_one_that_fails_is_left_out() {
        let slot = [record(100, 1, 900), record(100, 60, 100), record(100, 0, 900)];
        assert_eq!(worst(&slot), Some((1, OutlierReason::Failures)));
    }

    #[test]
    fn the_one_that_is_slow_is_left_out_and_a_quick_failure_does_not_look_good() {
        let slot = [record(100, 0, 60_000), record(100, 0, 2_000)];
        assert_eq!(worst(&slot), Some((0, OutlierReason::Slow)));
        assert_eq!(worst(&[record(100, 0, 6_000), record(100, 0, 200)]), None, "slow, but in time");
        let quick = [record(100, 50, 1), record(100, 5, 3_000)];
        assert_eq!(worst(&quick), Some((0, OutlierReason::Failures)));
    }

    #[test]
    fn where_all_fail_or_nobody_else_serves_none_is_left_out() {
        assert_eq!(worst(&[record(100, 90, 900), record(100, 80, 900)]), None);
        assert_eq!(worst(&[record(100, 100, 900)]), None);
        assert_eq!(worst(&[record(100, 100, 900), record(3, 0, 900)]), None);
        assert_eq!(worst(&[]), None);
    }

    #[test]
    fn it_comes_back_and_is_left_out_for_longer_the_next_time() {
        let mut ejection = Ejection::default();
        assert!(!ejection.is_on(Tick::new(0)));
        ejection.begin(Tick::new(0));
        assert!(ejection.is_on(Tick::new(EJECT_US - 1)));
        assert!(!ejection.is_on(Tick::new(EJECT_US)));
        ejection.begin(Tick::new(EJECT_US));
        assert!(ejection.is_on(Tick::new(3 * EJECT_US - 1)));
        let later = Tick::new(10 * EJECT_US_MAX);
        ejection.begin(later);
        assert!(!ejection.is_on(later.plus_us(EJECT_US)), "forgotten");
    }
}
