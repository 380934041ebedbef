//! How much a cluster bears: calls come at higher and higher rates, until not all of them are answered surely and soon.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::load::Load;
use super::tally::{Counts, share};

/// The first rate, of Filters a second.
const FIRST: u32 = 10;
/// At most so many rates are tried.
const STEPS_MAX: u32 = 24;
/// How long a rate lasts before it is looked at, and how long it is looked at.
const SETTLES: Duration = Duration::from_secs(1);
const LOOKED_AT: Duration = Duration::from_secs(2);
/// How long little is asked after a rate that was not borne: what it left is over then.
const RESTS: Duration = Duration::from_secs(3);
/// The rate is found to a part of so many.
const FINENESS: u32 = 10;
/// What must be so for a rate to be borne: the time of the 99th answer in a hundred, the share of calls that were made, of
/// answers that are flagged, and of marks that fail.
const P99_MAX: Duration = Duration::from_millis(50);
const MADE_MIN: f64 = 0.95;
const FLAGGED_MAX: f64 = 0.01;
const FAILED_MARKS_MAX: f64 = 0.02;

/// What was found.
#[derive(Clone, Debug)]
pub(super) struct Borne {
    /// The highest rate that was borne, of Filters a second; 0 if none was.
    pub filters_per_s: u32,
    /// Why a higher one was not.
    pub why: String,
    /// What was answered wrongly meanwhile: that is never allowed, at whatever rate. Late answers are what ends the search: callers
    /// who make all they can are late themselves.
    pub wrong: Counts,
}

/// The highest rate of Filters, with marks in proportion, that is borne as it stands. The rate is what it was before, in the end.
pub(super) async fn borne(load: &Load) -> Borne {
    let usual = load.filters_per_s();
    let (mut search, mut why, mut all) = (Search::default(), String::new(), Counts::default());
    while let Some(rate) = search.next() {
        load.set_filters_per_s(rate);
        sleep(SETTLES).await;
        all.add(&load.tally.take());
        let (before, began) = (load.begun(), Instant::now());
        sleep(LOOKED_AT).await;
        let made_per_s = (load.begun() - before) as f64 / began.elapsed().as_secs_f64();
        let counts = load.tally.take();
        all.add(&counts);
        let failure = failure(rate, made_per_s, &counts);
        search.saw(failure.is_none());
        if let Some(failure) = failure {
            why = format!("at {rate} {failure}");
            load.set_filters_per_s(FIRST.min(search.borne.max(1)));
            sleep(RESTS).await;
        }
    }
    load.set_filters_per_s(usual);
    all.add(&load.tally.take());
    let wrong = Counts { late: 0, set_aside: 0, latest: Duration::ZERO, ..all.wrong() };
    Borne { filters_per_s: search.borne, why, wrong }
}

/// Why a rate is not borne; none if it is.
fn failure(rate: u32, made_per_s: f64, counts: &Counts) -> Option<String> {
    let flagged = counts.flagged_share();
    let refused: u64 = counts.refused.values().sum();
    let failed: u64 = counts.marks_failed.values().sum();
    let failed = share(failed, failed + counts.marks);
    let p99 = counts.time(0.99);
    if made_per_s < MADE_MIN * f64::from(rate) {
        return Some(format!("callers made {made_per_s:.0} only"));
    }
    if counts.filters == 0 {
        return Some("none was answered".to_owned());
    }
    if refused > 0 {
        return Some(format!("{refused} were refused"));
    }
    if flagged > FLAGGED_MAX {
        return Some(format!("{:.1} % were flagged", flagged * 100.0));
    }
    if failed > FAILED_MARKS_MAX {
        return Some(format!("{:.1} % of marks failed", failed * 100.0));
    }
    (p99 > P99_MAX).then(|| format!("P99 was {} ms", p99.as_millis()))
}

/// Which rate is tried next: twice the last one until one is not borne, and then between the two. One that is not borne is tried
/// once more: a machine that does something else for a moment is not to be taken for the cluster's end.
#[derive(Debug)]
struct Search {
    borne: u32,
    /// The lowest that was not borne, twice.
    not_borne: Option<u32>,
    rate: u32,
    /// Whether that one was tried and not borne.
    failed_once: bool,
    steps: u32,
}

impl Default for Search {
    fn default() -> Self {
        Self { borne: 0, not_borne: None, rate: FIRST, failed_once: false, steps: 0 }
    }
}

impl Search {
    fn next(&mut self) -> Option<u32> {
        let is_fine = self.not_borne.is_some_and(|most| most - self.borne <= self.borne / FINENESS);
        if is_fine || self.rate == self.borne || self.steps >= STEPS_MAX {
            return None;
        }
        self.steps += 1;
        Some(self.rate)
    }

    fn saw(&mut self, is_borne: bool) {
        if !is_borne && !self.failed_once {
            self.failed_once = true;
            return;
        }
        self.failed_once = false;
        match is_borne {
            true => self.borne = self.rate,
            false => self.not_borne = Some(self.rate),
        }
        self.rate = match self.not_borne {
            None => self.rate.saturating_mul(2),
            Some(most) => self.borne.midpoint(most),
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is found where `bears` says what is borne, and in how many steps.
    fn found(mut bears: impl FnMut(u32, u32) -> bool) -> (u32, u32) {
        let mut search = Search::default();
        while let Some(rate) = search.next() {
            let is_borne = bears(rate, search.steps);
            search.saw(is_borne);
        }
        (search.borne, search.steps)
    }

    #[test]
    fn the_highest_rate_that_is_borne_is_found() {
        for most in [11, 40, 178, 317, 1_000, 9_999] {
            let (rate, steps) = found(|rate, _| rate <= most);
            let little = most * 8 / 10;
            assert!(
                (little..=most).contains(&rate) && steps < STEPS_MAX,
                "{most}: {rate}, {steps}"
            );
        }
    }

    #[test]
    fn a_moment_in_which_the_machine_did_something_else_does_not_end_it() {
        for bad in 1..10 {
            let (rate, _) = found(|rate, step| rate <= 317 && step != bad);
            assert!((280..=317).contains(&rate), "{bad}: {rate}");
        }
    }

    #[test]
    fn it_ends_where_nothing_is_borne_and_where_everything_is() {
        let (rate, steps) = found(|_, _| false);
        assert!(rate == 0 && steps < STEPS_MAX, "{rate}, {steps}");
        let (rate, steps) = found(|_, _| true);
        assert!(rate > 1_000_000 && steps == STEPS_MAX, "{rate}, {steps}");
    }

    #[test]
    fn a_rate_is_not_borne_if_its_answers_are_flagged_late_or_never_asked_for() {
        let mut good = Counts { filters: 200, marks: 80, ..Counts::default() };
        good.took(Duration::from_millis(3));
        assert_eq!(failure(100, 99.0, &good), None);
        let told = |counts: &Counts| failure(100, 99.0, counts).expect("it is not borne");
        let flagged = Counts { made_up: 2, flagged: 2, ..good.clone() };
        assert_eq!(told(&flagged), "2.0 % were flagged");
        let mut slow = good.clone();
        slow.took(Duration::from_millis(70));
        assert_eq!(told(&slow), "P99 was 70 ms");
        let mut refused = good.clone();
        refused.refused.insert("overloaded", 1);
        assert_eq!(told(&refused), "1 were refused");
        let mut failed = good.clone();
        failed.marks_failed.insert("unavailable", 20);
        assert_eq!(told(&failed), "20.0 % of marks failed");
        assert_eq!(told(&Counts::default()), "none was answered");
        assert_eq!(failure(100, 80.0, &good).as_deref(), Some("callers made 80 only"));
    }
}
