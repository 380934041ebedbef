//! What came of a drill.

use std::time::Duration;

use serde_json::{Value, json};

use super::backing::Backing;
use super::faults::Fault;
use super::recovery::State;
use super::shares::Shares;
use super::tally::{Counts, share};
use crate::cli::calls::table::{Table, grouped};

/// One fault, and what callers saw of it.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// What happened.
    pub(super) fault: Fault,
    /// What it happened on.
    pub(super) backing: Backing,
    /// Why it did not.
    pub(super) not_done: Option<String>,
    /// Why the cluster was not whole again, and what the parts said.
    pub(super) broken: Option<String>,
    /// After how long all parts were ready again.
    pub(super) whole_after: Duration,
    /// After how long it was healed.
    pub(super) healed_after: Duration,
    /// After how long all was as before, from its begin on; none if that was waited for in vain.
    pub(super) recovered_after: Option<Duration>,
    /// How long was looked.
    pub(super) lasted: Duration,
    /// How it was before, and in the end.
    pub(super) usual: (State, State),
    /// Warm-ups that were torn by it, where it is about them.
    pub(super) cut: Option<u64>,
    /// What else there is to tell.
    pub(super) notes: Vec<String>,
    /// Marks acknowledged until its end that storage does not have; none if storage could not be asked.
    pub(super) missing: Option<u64>,
    /// What was seen.
    pub(super) counts: Counts,
}

/// The load.
#[derive(Clone, Debug, Default)]
pub(crate) struct Offered {
    /// Filters a second.
    pub(super) filters_per_s: u32,
    /// Marks a second.
    pub(super) marks_per_s: u32,
    /// Where the load is a share of what is borne: how many percent, how many Filters a second are, and why not more.
    pub(super) of_borne: Option<(u32, u32, String)>,
}

impl Offered {
    /// In words.
    pub(crate) fn text(&self) -> String {
        let (filters, marks) =
            (grouped(self.filters_per_s.into()), grouped(self.marks_per_s.into()));
        let rate = format!("{filters} Filters of 400 candidates and {marks} marks a second");
        match &self.of_borne {
            None => rate,
            Some((percent, borne, why)) => {
                let borne = grouped(u64::from(*borne));
                let shares = Shares::text();
                format!(
                    "{rate}, {percent} % of the {borne} Filters a second that were borne ({why}) where {shares}"
                )
            }
        }
    }
}

/// A whole drill.
#[derive(Clone, Debug, Default)]
pub(crate) struct Report {
    /// What the callers asked for.
    pub(crate) offered: Offered,
    pub(super) rows: Vec<Row>,
    /// Marks that were acknowledged.
    pub(super) acknowledged: u64,
    /// Of those, how many storage does not have; none if it could not be asked.
    pub(super) missing: Option<u64>,
    /// Why it did not come to its end.
    pub(crate) ended_early: Option<String>,
    /// How often the processor was not had.
    pub(super) starved_windows: usize,
    /// How long all of that.
    pub(super) starved: Duration,
}

impl Row {
    /// Of a fault that cannot be done here.
    pub(super) fn not_done(fault: Fault, backing: Backing, why: String) -> Self {
        Self {
            fault,
            backing,
            not_done: Some(why),
            broken: None,
            whole_after: Duration::ZERO,
            healed_after: Duration::ZERO,
            recovered_after: None,
            lasted: Duration::ZERO,
            usual: Default::default(),
            cut: None,
            notes: Vec::new(),
            missing: None,
            counts: Counts::default(),
        }
    }

    /// How soon after the fault was healed all was as before.
    pub(super) fn recovered(&self) -> Option<Duration> {
        Some(self.recovered_after?.saturating_sub(self.healed_after))
    }

    /// What of it is not as expected; nothing = passed.
    pub(super) fn failures(&self) -> Vec<String> {
        let expects = self.backing.expects(self.fault).ok().filter(|_| self.not_done.is_none());
        let Some(expects) = expects else { return vec!["not done".to_owned()] };
        let counts = &self.counts;
        let mut failures: Vec<String> = self.broken.iter().cloned().collect();
        let wrong = counts.false_negatives + counts.false_negatives_tokenless;
        if wrong > 0 {
            failures.push(format!("{wrong} read items were called unread"));
        }
        if counts.late > 0 {
            let latest = counts.latest.as_secs_f64() * 1_000.0;
            failures.push(format!("{} answers were late (at most {latest:.0} ms)", counts.late));
        }
        match self.missing {
            None if self.broken.is_some() => {}
            None => failures.push("storage could not be asked about what was marked".to_owned()),
            Some(0) => {}
            Some(missing) => failures.push(format!("{missing} acknowledged marks are missing")),
        }
        let percent = counts.flagged_share() * 100.0;
        if expects.flagged_percent_max.is_some_and(|most| percent > most) {
            failures.push(format!("{percent:.2} % were flagged"));
        }
        match self.recovered() {
            None if self.broken.is_some() => {}
            None => failures.push(format!("not as before ({})", self.state())),
            Some(after) if after > expects.recovered_within => {
                failures.push(format!("as before after {:.1} s only", after.as_secs_f64()));
            }
            Some(_) => {}
        }
        failures
    }

    /// What is expected of it, in words.
    pub(super) fn expected(&self) -> String {
        self.backing.expects(self.fault).map_or_else(|_| "-".to_owned(), |expects| expects.text())
    }

    fn state(&self) -> String {
        let told = |state: State| {
            let [flagged, memory, marks] =
                [state.flagged, state.memory, state.failed_marks].map(|share| share * 100.0);
            format!(
                "{flagged:.1} % flagged, {memory:.0} % from memory, {marks:.1} % of marks failed"
            )
        };
        format!("before: {}; in the end: {}", told(self.usual.0), told(self.usual.1))
    }

    /// A line for people.
    pub(crate) fn line(&self) -> String {
        let (counts, failures) = (&self.counts, self.failures().join(", "));
        if let Some(why) = &self.not_done {
            return format!("{}: not done: {why}", self.fault);
        }
        let held = if failures.is_empty() { "as expected".to_owned() } else { failures };
        format!(
            "{}: {held}; whole after {:.1} s, {} filters, {:.2} % flagged [{}], {} late, {} false negatives{}",
            self.fault,
            self.whole_after.as_secs_f64(),
            grouped(counts.filters),
            counts.flagged_share() * 100.0,
            counts.why(),
            counts.late,
            counts.false_negatives + counts.false_negatives_tokenless,
            self.cut.map_or_else(String::new, |cut| format!(", {cut} transfers cut")),
        )
    }

    fn cells(&self) -> [String; 14] {
        let counts = &self.counts;
        let ms = |quantile| format!("{:.1}", counts.time(quantile).as_secs_f64() * 1_000.0);
        let all =
            |by_reason: &std::collections::BTreeMap<&str, u64>| by_reason.values().sum::<u64>();
        [
            self.fault.to_string(),
            format!("{:.1}", self.whole_after.as_secs_f64()),
            grouped(counts.filters),
            ms(0.5),
            ms(0.99),
            format!("{:.3}", share(counts.flagged, counts.filters) * 100.0),
            format!("{:.3}", share(counts.made_up, counts.filters) * 100.0),
            all(&counts.refused).to_string(),
            counts.late.to_string(),
            counts.set_aside.to_string(),
            (counts.false_negatives + counts.false_negatives_tokenless).to_string(),
            grouped(counts.marks),
            all(&counts.marks_failed).to_string(),
            counts.why(),
        ]
    }

    fn object(&self) -> Value {
        let counts = &self.counts;
        json!({
            "fault": self.fault.to_string(),
            "whole_after_s": self.whole_after.as_secs_f64(),
            "lasted_s": self.lasted.as_secs_f64(),
            "filters": counts.filters,
            "p50_us": counts.time(0.5).as_micros() as u64,
            "p99_us": counts.time(0.99).as_micros() as u64,
            "flagged": counts.flagged,
            "made_up": counts.made_up,
            "flagged_why": counts.flagged_why,
            "flagged_starved": counts.flagged_starved,
            "transfers_cut": self.cut,
            "expected": self.expected(),
            "failures": self.failures(),
            "healed_after_s": self.healed_after.as_secs_f64(),
            "recovered_s": self.recovered().map(|after| after.as_secs_f64()),
            "missing": self.missing,
            "notes": self.notes,
            "refused": counts.refused,
            "late": counts.late,
            "set_aside": counts.set_aside,
            "false_negatives": counts.false_negatives,
            "false_negatives_tokenless": counts.false_negatives_tokenless,
            "marks": counts.marks,
            "marks_failed": counts.marks_failed,
        })
    }
}

impl Report {
    /// Of all rows together.
    pub(super) fn total(&self) -> Counts {
        let mut total = Counts::default();
        self.rows.iter().for_each(|row| total.add(&row.counts));
        total
    }

    /// True if the promise was kept until the end: nothing acknowledged is missing, no read item was called unread
    /// without a flag, and every answer was in time.
    pub(crate) fn is_sound(&self) -> bool {
        let total = self.total();
        let wrong = total.false_negatives + total.false_negatives_tokenless;
        let is_whole = self.ended_early.is_none();
        is_whole && wrong == 0 && total.late == 0 && self.missing == Some(0)
    }

    /// True if everything was done, and was as expected besides.
    pub(crate) fn is_as_expected(&self) -> bool {
        self.is_sound() && self.rows.iter().all(|row| row.failures().is_empty())
    }

    /// How many acknowledged marks are not in storage, in words.
    pub(super) fn missing_text(&self) -> String {
        self.missing.map_or_else(|| "an unknown number".to_owned(), |missing| missing.to_string())
    }

    /// For people.
    pub(crate) fn table(&self) -> String {
        let mut table = Table::new([
            "fault",
            "whole after s",
            "filters",
            "P50 ms",
            "P99 ms",
            "flagged %",
            "made up by the caller %",
            "refused",
            "late",
            "set aside",
            "false negatives",
            "marks",
            "marks failed",
            "why flagged",
        ]);
        for row in &self.rows {
            table.row(row.cells());
        }
        let total = self.total();
        let mut sums = Table::of_pairs();
        if let Some(cut) = self.rows.iter().filter_map(|row| row.cut).reduce(|a, b| a + b) {
            sums.pair("warm-ups torn by a donor's death", cut);
        }
        sums.pair("load", self.offered.text());
        sums.pair("acknowledged marks", grouped(self.acknowledged));
        sums.pair("of those not in storage", self.missing_text());
        sums.pair("false negatives with the token", total.false_negatives);
        sums.pair("false negatives without it", total.false_negatives_tokenless);
        let rate = share(total.false_positives, total.never) * 100.0;
        sums.pair("false positives", format!("{rate:.2} %"));
        let starved = self.starved.as_secs_f64();
        sums.pair("processor not had", format!("{} times, {starved:.1} s", self.starved_windows));
        format!("{}\n{}", table.render(), sums.render())
    }

    /// For scripts.
    pub(crate) fn json(&self) -> Value {
        let total = self.total();
        json!({
            "sound": self.is_sound(),
            "ended_early": self.ended_early,
            "load": {
                "filters_per_s": self.offered.filters_per_s,
                "marks_per_s": self.offered.marks_per_s,
                "borne_per_s": self.offered.of_borne.as_ref().map(|(_, borne, _)| borne),
            },
            "rows": self.rows.iter().map(Row::object).collect::<Vec<_>>(),
            "acknowledged": self.acknowledged,
            "missing": self.missing,
            "false_positive_rate": share(total.false_positives, total.never),
            "starved_windows": self.starved_windows,
            "starved_s": self.starved.as_secs_f64(),
        })
    }
}
