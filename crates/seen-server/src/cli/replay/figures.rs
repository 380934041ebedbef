//! What a replay measured.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use parking_lot::Mutex;
use seen_filter::{Item, UserId};

/// Longest latency that is told apart, in microseconds.
const LATENCY_US_MAX: u64 = 120_000_000;
/// Digits of a latency that are kept.
const LATENCY_DIGITS: u8 = 3;
/// False negatives and errors that are kept for the report.
const STORIES_MAX: usize = 10;

/// Counts since the start of the replay.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    /// Lines of the file that were replayed.
    pub(super) events: u64,
    /// Filter calls that were answered.
    pub(super) filters: u64,
    /// Mark calls that were acknowledged.
    pub(super) marks: u64,
    /// Calls that ended with an error.
    pub(super) errors: u64,
    /// Candidates of the answered filters.
    pub(super) checks: u64,
    /// Read items that an unflagged answer called unread: must be 0.
    pub(super) false_negatives: u64,
    /// Answers that were degraded.
    pub(super) flagged: u64,
    /// Read items that flagged answers called unread.
    pub(super) flagged_misses: u64,
    /// Unread candidates in unflagged answers.
    pub(super) unread: u64,
    /// Those of them that were called read.
    pub(super) false_positives: u64,
    /// Users that have read something.
    pub(super) users: u64,
}

impl Counts {
    /// Calls of both kinds.
    pub(super) fn requests(&self) -> u64 {
        self.filters + self.marks + self.errors
    }

    /// Share of the unread candidates that were called read; 0 before the first.
    pub(super) fn false_positive_rate(&self) -> f64 {
        if self.unread == 0 { 0.0 } else { self.false_positives as f64 / self.unread as f64 }
    }
}

/// What came of one answered Filter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) checks: u64,
    pub(super) missed: u64,
    pub(super) unread: u64,
    pub(super) false_positives: u64,
    pub(super) flagged: bool,
    /// The first read item that was called unread.
    pub(super) first_missed: Option<Item>,
}

impl Verdict {
    /// Compares an answer with the truth: `page` says of each candidate whether it was read, `unseen`
    /// are the positions that the answer calls unread, ascending.
    pub(super) fn of(page: &[(Item, bool)], unseen: &[u32], flagged: bool) -> Self {
        let read = page.iter().filter(|(_, read)| *read).count() as u64;
        let checks = page.len() as u64;
        let mut verdict = Self { checks, unread: checks - read, flagged, ..Self::default() };
        for place in unseen {
            match page.get(*place as usize) {
                Some((item, true)) => {
                    verdict.missed += 1;
                    verdict.first_missed.get_or_insert(*item);
                }
                Some((_, false)) => verdict.false_positives += 1,
                None => {}
            }
        }
        // Until here they were the ones that were rightly called unread.
        verdict.false_positives = verdict.unread - verdict.false_positives;
        verdict
    }
}

/// Percentiles of one kind of call, in milliseconds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Latency {
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    pub(super) p999_ms: f64,
    pub(super) max_ms: f64,
}

/// Gathers what the workers measure. One short lock a call.
#[derive(Debug)]
pub(super) struct Figures {
    inner: Mutex<Inner>,
    begin: Instant,
}

#[derive(Debug)]
struct Inner {
    counts: Counts,
    filters_us: Histogram<u64>,
    marks_us: Histogram<u64>,
    stories: VecDeque<String>,
}

/// A copy of the figures.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    pub(super) counts: Counts,
    pub(super) filter: Latency,
    pub(super) mark: Latency,
    pub(super) elapsed: Duration,
    /// The first false negatives and errors, for people.
    pub(super) stories: Vec<String>,
}

fn histogram() -> Histogram<u64> {
    // The bounds are constants in the range that the crate asks for.
    Histogram::new_with_bounds(1, LATENCY_US_MAX, LATENCY_DIGITS)
        .unwrap_or_else(|_| unreachable!("1 to {LATENCY_US_MAX} with {LATENCY_DIGITS} digits"))
}

fn latency(histogram: &Histogram<u64>) -> Latency {
    let ms = |quantile: f64| histogram.value_at_quantile(quantile) as f64 / 1_000.0;
    let max_ms = histogram.max() as f64 / 1_000.0;
    Latency { p50_ms: ms(0.5), p99_ms: ms(0.99), p999_ms: ms(0.999), max_ms }
}

impl Default for Figures {
    fn default() -> Self {
        let inner = Inner {
            counts: Counts::default(),
            filters_us: histogram(),
            marks_us: histogram(),
            stories: VecDeque::new(),
        };
        Self { inner: Mutex::new(inner), begin: Instant::now() }
    }
}

impl Figures {
    /// A Filter was answered.
    pub(super) fn filtered(&self, user: UserId, took: Duration, verdict: &Verdict) {
        let mut inner = self.inner.lock();
        inner.filters_us.saturating_record(micros(took));
        let counts = &mut inner.counts;
        counts.filters += 1;
        counts.checks += verdict.checks;
        if verdict.flagged {
            counts.flagged += 1;
            counts.flagged_misses += verdict.missed;
            return;
        }
        counts.unread += verdict.unread;
        counts.false_positives += verdict.false_positives;
        counts.false_negatives += verdict.missed;
        if let Some(item) = verdict.first_missed {
            let missed = verdict.missed;
            inner.tell(format!(
                "false negative: user {user} has read item {item}, and an unflagged answer called \
                 it unread ({missed} items in this answer)"
            ));
        }
    }

    /// A Mark was acknowledged. `first` says that it is the user's first.
    pub(super) fn marked(&self, took: Duration, first: bool) {
        let mut inner = self.inner.lock();
        inner.marks_us.saturating_record(micros(took));
        inner.counts.marks += 1;
        inner.counts.users += u64::from(first);
    }

    /// A call failed; how many did so far.
    pub(super) fn failed(&self, call: &str, error: &seen_client::ApiError) -> u64 {
        let mut inner = self.inner.lock();
        inner.counts.errors += 1;
        inner.tell(format!("{call} failed: {} ({})", error.message, error.kind.reason()));
        inner.counts.errors
    }

    /// An event is over.
    pub(super) fn event(&self) {
        self.inner.lock().counts.events += 1;
    }

    /// A copy.
    pub(super) fn snapshot(&self) -> Snapshot {
        let inner = self.inner.lock();
        Snapshot {
            counts: inner.counts.clone(),
            filter: latency(&inner.filters_us),
            mark: latency(&inner.marks_us),
            elapsed: self.begin.elapsed(),
            stories: inner.stories.iter().cloned().collect(),
        }
    }
}

impl Inner {
    fn tell(&mut self, story: String) {
        if self.stories.len() < STORIES_MAX {
            self.stories.push_back(story);
        }
    }
}

fn micros(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page() -> Vec<(Item, bool)> {
        (0..6).map(|id| (Item::new(0, id), id % 2 == 1)).collect()
    }

    #[test]
    fn an_answer_is_compared_with_the_truth() {
        // Read are 1, 3, 5.
        let right = Verdict::of(&page(), &[0, 2, 4], false);
        assert_eq!((right.checks, right.missed, right.unread, right.false_positives), (6, 0, 3, 0));
        let wrong = Verdict::of(&page(), &[0, 3, 5], false);
        assert_eq!((wrong.missed, wrong.false_positives), (2, 2));
        assert_eq!(wrong.first_missed, Some(Item::new(0, 3)));
        let hidden = Verdict::of(&page(), &[], false);
        assert_eq!((hidden.missed, hidden.false_positives), (0, 3));
    }

    #[test]
    fn flagged_answers_count_apart() {
        let figures = Figures::default();
        let took = Duration::from_millis(2);
        figures.filtered(UserId::new(1), took, &Verdict::of(&page(), &[0, 1, 2, 4], true));
        let counts = figures.snapshot().counts;
        assert_eq!((counts.flagged, counts.flagged_misses, counts.false_negatives), (1, 1, 0));
        assert_eq!((counts.unread, counts.checks), (0, 6));
        figures.filtered(UserId::new(1), took, &Verdict::of(&page(), &[0, 1, 4], false));
        let snapshot = figures.snapshot();
        assert_eq!(snapshot.counts.false_negatives, 1);
        assert!((snapshot.counts.false_positive_rate() - 1.0 / 3.0).abs() < 1e-9);
        assert!(snapshot.stories[0].contains("user 1 has read item 0:1"), "{:?}", snapshot.stories);
        assert!((snapshot.filter.p50_ms - 2.0).abs() < 0.01);
    }

    #[test]
    fn stories_are_bounded() {
        let figures = Figures::default();
        let error = seen_client::ApiError::invalid("user", "wrong");
        let errors = (0..50).map(|_| figures.failed("Mark", &error)).last();
        assert_eq!(errors, Some(50));
        assert_eq!(figures.snapshot().stories.len(), STORIES_MAX);
    }
}
