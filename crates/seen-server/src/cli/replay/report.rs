//! What a replay came to, for people and for scripts.

use std::fmt::Write;
use std::process::ExitCode;

use serde_json::{Value, json};

use super::display::ServiceFigures;
use super::engine::ReadThrough;
use super::figures::Snapshot;
use crate::cli::calls::percent;
use crate::cli::calls::table::{Table, grouped};

/// What a replay came to.
#[derive(Clone, Debug)]
pub(crate) struct Report {
    snapshot: Snapshot,
    read: ReadThrough,
    service: Option<ServiceFigures>,
}

impl Report {
    /// `service` is what the service last said of itself.
    pub(super) fn new(
        snapshot: Snapshot,
        read: ReadThrough,
        service: Option<ServiceFigures>,
    ) -> Self {
        Self { snapshot, read, service }
    }

    /// 1 after an unflagged false negative.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self.snapshot.counts.false_negatives {
            0 => ExitCode::SUCCESS,
            _ => ExitCode::FAILURE,
        }
    }

    fn seconds(&self) -> f64 {
        self.snapshot.elapsed.as_secs_f64()
    }

    /// What went wrong, a line each; empty if nothing did.
    pub(crate) fn warnings(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        if self.read.malformed > 0 {
            let _ = writeln!(text, "{} malformed lines passed over:", self.read.malformed);
            for (path, malformed) in &self.read.first_malformed {
                let _ = writeln!(text, "  {} {malformed}", path.display());
            }
        }
        for story in &self.snapshot.stories {
            let _ = writeln!(text, "{story}");
        }
        text
    }

    /// The table for people.
    pub(crate) fn table(&self) -> String {
        let Snapshot { counts, filter, mark, .. } = &self.snapshot;
        let per_second = |count: u64| grouped((count as f64 / self.seconds()) as u64);
        let mut table = Table::of_pairs();
        table.pair("events", grouped(counts.events));
        table.pair("users", grouped(counts.users));
        table.pair("duration", format!("{:.1} s", self.seconds()));
        let requests = counts.requests();
        table.pair("requests", format!("{} ({}/s)", grouped(requests), per_second(requests)));
        let checks = (grouped(counts.checks), per_second(counts.checks));
        table.pair("checks", format!("{} ({}/s)", checks.0, checks.1));
        for (name, one) in [("filter", filter), ("mark", mark)] {
            let text = format!(
                "P50 {:.2} ms, P99 {:.2} ms, P999 {:.2} ms, max {:.2} ms",
                one.p50_ms, one.p99_ms, one.p999_ms, one.max_ms
            );
            table.pair(name, text);
        }
        let service = self.service.unwrap_or_default();
        let hits = service.hit_rate().map_or("unknown".to_owned(), percent);
        table.pair("answered by memory", hits);
        let bytes = service.bytes_per_user();
        table.pair("bytes a user", bytes.map_or("unknown".to_owned(), |b| format!("{b:.0}")));
        let unread = grouped(counts.unread);
        let rate = percent(counts.false_positive_rate());
        table.pair("false positives", format!("{rate} of {unread} unread candidates"));
        table.pair("FALSE NEGATIVES", counts.false_negatives);
        let misses = match counts.flagged_misses {
            0 => String::new(),
            misses => format!(" (with {} read items called unread)", grouped(misses)),
        };
        table.pair("flagged answers", format!("{}{misses}", grouped(counts.flagged)));
        table.pair("errors", grouped(counts.errors));
        table.render()
    }

    /// The object for scripts, on one line.
    pub(crate) fn json(&self) -> Value {
        let Snapshot { counts, filter, mark, .. } = &self.snapshot;
        let rounded = |value: f64| (value * 1_000.0).round() / 1_000.0;
        let per_second = |count: u64| (count as f64 / self.seconds()).round();
        json!({
            "events": counts.events,
            "users": counts.users,
            "requests": counts.requests(),
            "filters": counts.filters,
            "marks": counts.marks,
            "checks": counts.checks,
            "false_negatives": counts.false_negatives,
            "flagged": counts.flagged,
            "flagged_misses": counts.flagged_misses,
            "false_positive_rate": counts.false_positive_rate(),
            "errors": counts.errors,
            "malformed": self.read.malformed,
            "p50_ms": filter.p50_ms,
            "p99_ms": filter.p99_ms,
            "p999_ms": filter.p999_ms,
            "mark_p50_ms": mark.p50_ms,
            "mark_p99_ms": mark.p99_ms,
            "mark_p999_ms": mark.p999_ms,
            "hit_rate": self.service.and_then(|service| service.hit_rate()),
            "bytes_per_user": self.service.and_then(|service| service.bytes_per_user()),
            "requests_per_s": per_second(counts.requests()),
            "checks_per_s": per_second(counts.checks),
            "duration_s": rounded(self.seconds()),
        })
    }
}
