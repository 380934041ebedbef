//! What was asked and answered during one part of a drill.

use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;

use super::load::GIVE_UP;

/// How finely times are told apart, in microseconds.
const STEP_US: u64 = 100;

/// How much later than that an answer may be seen by a caller whose own timers are late.
const TIMER_SLACK: Duration = Duration::from_millis(10);

/// What was counted.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    /// Filters asked.
    pub filters: u64,
    /// Of those, answered with a flag by the service.
    pub flagged: u64,
    /// Of those, answered by the caller's own library, because no proxy did.
    pub made_up: u64,
    /// Of both, asked while the processor was not had.
    pub flagged_starved: u64,
    /// Both, by reason.
    pub flagged_why: BTreeMap<&'static str, u64>,
    /// Refused, by reason.
    pub refused: BTreeMap<&'static str, u64>,
    /// Answered too late, the processor had.
    pub late: u64,
    /// The longest time of those.
    pub latest: Duration,
    /// Set aside: the processor was not had.
    pub set_aside: u64,
    /// Read items called unread without a flag, to a reader with the token.
    pub false_negatives: u64,
    /// The same, to a reader without it, long after.
    pub false_negatives_tokenless: u64,
    /// Unread items that were asked about, and of those called read.
    pub never: u64,
    /// See `never`.
    pub false_positives: u64,
    /// Marks that were acknowledged.
    pub marks: u64,
    /// Marks that failed, by reason.
    pub marks_failed: BTreeMap<&'static str, u64>,
    /// How long Filters took, in microseconds, by time: how many.
    pub times: BTreeMap<u64, u64>,
}

impl Counts {
    /// Flagged answers as a share of all.
    pub(super) fn flagged_share(&self) -> f64 {
        share(self.flagged + self.made_up, self.filters)
    }

    /// Why answers were flagged, the most frequent reason first.
    pub(super) fn why(&self) -> String {
        let mut reasons: Vec<(&str, u64)> =
            self.flagged_why.iter().map(|(reason, count)| (*reason, *count)).collect();
        reasons.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        let mut parts: Vec<String> =
            reasons.iter().map(|(reason, count)| format!("{reason} {count}")).collect();
        if self.flagged_starved > 0 {
            parts.push(format!("(processor not had {})", self.flagged_starved));
        }
        parts.join(", ")
    }

    /// A quantile of the times.
    pub(super) fn time(&self, quantile: f64) -> Duration {
        let all: u64 = self.times.values().sum();
        let rank = (all as f64 * quantile).ceil() as u64;
        let mut below = 0;
        let reached = self.times.iter().find(|(_, count)| {
            below += **count;
            below >= rank
        });
        Duration::from_micros(reached.map_or(0, |(us, _)| *us))
    }

    /// A call took this long, and was starved meanwhile or not.
    pub(super) fn in_time(&mut self, time: Duration, starved: bool) {
        if time <= GIVE_UP + TIMER_SLACK {
            return;
        }
        match starved {
            true => self.set_aside += 1,
            false => {
                self.late += 1;
                self.latest = self.latest.max(time);
            }
        }
    }

    /// A Filter took this long. Told apart to 0.1 ms.
    pub(super) fn took(&mut self, time: Duration) {
        let us = u64::try_from(time.as_micros()).unwrap_or(u64::MAX) / STEP_US * STEP_US;
        *self.times.entry(us).or_default() += 1;
    }

    /// What is allowed under no load at all.
    pub(super) fn wrong(&self) -> Self {
        Self {
            late: self.late,
            latest: self.latest,
            set_aside: self.set_aside,
            false_negatives: self.false_negatives,
            false_negatives_tokenless: self.false_negatives_tokenless,
            ..Self::default()
        }
    }

    pub(super) fn add(&mut self, other: &Self) {
        self.filters += other.filters;
        self.flagged += other.flagged;
        self.made_up += other.made_up;
        self.flagged_starved += other.flagged_starved;
        self.late += other.late;
        self.latest = self.latest.max(other.latest);
        self.set_aside += other.set_aside;
        self.false_negatives += other.false_negatives;
        self.false_negatives_tokenless += other.false_negatives_tokenless;
        self.never += other.never;
        self.false_positives += other.false_positives;
        self.marks += other.marks;
        for (to, from) in [
            (&mut self.refused, &other.refused),
            (&mut self.marks_failed, &other.marks_failed),
            (&mut self.flagged_why, &other.flagged_why),
        ] {
            for (reason, count) in from {
                *to.entry(reason).or_default() += count;
            }
        }
        for (us, count) in &other.times {
            *self.times.entry(*us).or_default() += count;
        }
    }
}

/// `part` of `all`, 0 where there is nothing.
pub(super) fn share(part: u64, all: u64) -> f64 {
    if all == 0 { 0.0 } else { part as f64 / all as f64 }
}

/// Counts, to be taken from time to time.
#[derive(Debug, Default)]
pub(super) struct Tally(Mutex<Counts>);

impl Tally {
    pub(super) fn count(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.0.lock());
    }

    /// What was counted since the last time.
    pub(super) fn take(&self) -> Counts {
        std::mem::take(&mut *self.0.lock())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_frequent_reason_is_named_first() {
        let mut counts = Counts { flagged: 4, filters: 1_000, ..Counts::default() };
        assert_eq!(counts.why(), "");
        counts.flagged_why = BTreeMap::from([("contested", 1), ("deadline", 3)]);
        assert_eq!(counts.why(), "deadline 3, contested 1");
        let starved = Counts { flagged_starved: 2, ..counts.clone() };
        assert_eq!(starved.why(), "deadline 3, contested 1, (processor not had 2)");
        counts.add(&starved);
        assert_eq!((counts.flagged_why["deadline"], counts.flagged_starved), (6, 2));
        assert_eq!(counts.flagged_share(), 0.004);
    }
}
