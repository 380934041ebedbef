//! What was expected and measured, as a document.

use std::fmt::Write;
use std::fs;
use std::io;
use std::path::Path;

use super::backing::Backing;
use super::catalog;
use super::faults::Fault;
use super::report::{Report, Row};
use super::tally::share;
use crate::cli::calls::table::grouped;

/// What is between one of these and the next end is written, by what it was measured on; what stands around it is left as it is.
const BEGIN: &str = "<!-- measured: written by `seen drill --report` -->";
const BEGIN_ON_TIDB: &str = "<!-- measured on TiDB: written by `seen drill --tidb --report` -->";
const END: &str = "<!-- end -->";
/// Characters of what went wrong.
const CELL_MAX: usize = 700;

/// Where and under which load it was measured.
#[derive(Clone, Debug)]
pub(crate) struct Setting {
    /// The servers.
    pub stage: String,
    /// What kind of storage they have.
    pub backing: Backing,
    /// Who the callers are.
    pub callers: String,
}

/// Writes it, into what is there already.
///
/// # Errors
/// The file cannot be read or written.
pub(crate) fn written(path: &Path, setting: &Setting, report: &Report) -> io::Result<()> {
    let old = match fs::read_to_string(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        old => old?,
    };
    fs::write(path, placed(&old, begin(setting.backing), &text(setting, report)))
}

const fn begin(backing: Backing) -> &'static str {
    match backing {
        Backing::Fed => BEGIN,
        Backing::Tidb => BEGIN_ON_TIDB,
    }
}

/// The old text, with the new one where it belongs.
fn placed(old: &str, mark: &str, new: &str) -> String {
    let places = old.find(mark).and_then(|begin| Some((begin, begin + old[begin..].find(END)?)));
    let (before, after) = match places {
        Some((begin, end)) => (&old[..begin], &old[end + END.len()..]),
        None if old.is_empty() => ("# Real faults, measured\n\n", "\n"),
        None => (old, "\n"),
    };
    format!("{before}{mark}\n{new}{END}{after}")
}

fn text(setting: &Setting, report: &Report) -> String {
    let rows = &report.rows;
    let failed = rows.iter().filter(|row| !row.failures().is_empty() && row.not_done.is_none());
    let not_done = rows.iter().filter(|row| row.not_done.is_some()).count();
    let (failed, total) = (failed.count(), report.total());
    let mut text = format!("- Machine: {}.\n", machine());
    let wrong = total.false_negatives + total.false_negatives_tokenless;
    let sums = [
        format!("Servers: {}.", setting.stage),
        format!("Load: {}, {}.", report.offered.text(), setting.callers),
        format!(
            "{} faults: {} as expected, {failed} not, {not_done} not done.",
            rows.len(),
            rows.len() - failed - not_done
        ),
        format!(
            "{} Filters, {wrong} read items called unread without a flag.",
            grouped(total.filters)
        ),
        format!(
            "{} acknowledged marks, {} of them not in storage.",
            grouped(report.acknowledged),
            report.missing_text()
        ),
        format!(
            "{} answers later than 90 ms (and 10 ms for the caller's timers); {} more set aside, since the processor was not had meanwhile: {} times, {:.0} s together.",
            total.late,
            total.set_aside,
            report.starved_windows,
            report.starved.as_secs_f64()
        ),
        format!(
            "{:.2} % of the items that nobody read were called read.",
            share(total.false_positives, total.never) * 100.0
        ),
    ];
    let ended = report.ended_early.iter().map(|why| format!("It did not come to its end: {why}."));
    let never = setting.backing.never().into_iter().map(|(why, faults)| {
        let names: Vec<String> = faults.into_iter().map(Fault::name).collect();
        format!("Not done here, since {why}: {}.", names.join(", "))
    });
    for sum in sums.into_iter().chain(never).chain(ended) {
        // Writing to a string does not fail.
        let _ = writeln!(text, "- {sum}");
    }
    text.push_str("\n| fault | what is done | what heals it | expected | measured | verdict |\n|---|---|---|---|---|---|\n");
    for row in rows {
        let entry = catalog::of(row.fault);
        let failures = cell(&row.failures().join("; "));
        let verdict = match (&row.not_done, failures.is_empty()) {
            (Some(why), _) => format!("not done: {}", cell(why)),
            (None, true) => "pass".to_owned(),
            (None, false) => format!("**fail**: {failures}"),
        };
        let (name, what, heals) = (row.fault.name(), entry.what, entry.heals);
        let expected = row.expected();
        let _ = writeln!(
            text,
            "| {name} | {what} | {heals} | {expected} | {} | {verdict} |",
            measured(row)
        );
    }
    text
}

/// What fits into a table: servers tell of their troubles in whole logs.
fn cell(text: &str) -> String {
    let first = text.lines().next().unwrap_or_default().replace('|', "/");
    match first.char_indices().nth(CELL_MAX) {
        None => first,
        Some((end, _)) => format!("{} ...", &first[..end]),
    }
}

fn measured(row: &Row) -> String {
    if row.not_done.is_some() {
        return "-".to_owned();
    }
    let counts = &row.counts;
    let ms = |quantile| counts.time(quantile).as_secs_f64() * 1_000.0;
    let percent = |part| share(part, counts.filters) * 100.0;
    let failed: u64 = counts.marks_failed.values().sum();
    let why = counts.why();
    let why = if why.is_empty() { why } else { format!(" ({why})") };
    let recovered = match row.recovered() {
        None => "not as before while it was looked at".to_owned(),
        Some(after) => format!("as before {:.1} s after it was healed", after.as_secs_f64()),
    };
    let refused: u64 = counts.refused.values().sum();
    let mut text = format!(
        "healed after {:.1} s, {recovered}; {} Filters, P50 {:.1} ms, P99 {:.1} ms, {:.2} % flagged by the service and {:.2} % made up by callers{why}, {refused} refused; {} marks, {failed} not acknowledged; {} late, {} set aside",
        row.healed_after.as_secs_f64(),
        grouped(counts.filters),
        ms(0.5),
        ms(0.99),
        percent(counts.flagged),
        percent(counts.made_up),
        grouped(counts.marks),
        counts.late,
        counts.set_aside,
    );
    for note in &row.notes {
        let _ = write!(text, "; {note}");
    }
    text
}

/// What it was measured on.
fn machine() -> String {
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kb = memory.lines().find_map(|line| line.strip_prefix("MemTotal:")).unwrap_or_default();
    let kb: u64 = kb.split_whitespace().next().and_then(|kb| kb.parse().ok()).unwrap_or(0);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let build = if cfg!(debug_assertions) { "debug" } else { "release" };
    let version = env!("CARGO_PKG_VERSION");
    format!(
        "{cores} cores, {} GiB, Linux {}; seen {version}, {build} build",
        kb >> 20,
        kernel.trim()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_story_stays_within_its_cell() {
        assert_eq!(cell("it did not start | ended\nits log"), "it did not start / ended");
        let long = "\u{e4}".repeat(CELL_MAX);
        assert_eq!(cell(&long), long);
        assert_eq!(cell(&format!("{long}b")), format!("{long} ..."));
    }

    #[test]
    fn what_people_wrote_around_it_stays() {
        let first = placed("", BEGIN, "one\n");
        assert!(first.starts_with("# Real faults") && first.contains("one"), "{first}");
        let noted = format!("{first}\nA note.\n");
        let second = placed(&noted, BEGIN, "two\n");
        assert!(second.ends_with("\nA note.\n") && second.contains("two"), "{second}");
        assert!(!second.contains("one\n"), "{second}");
        assert_eq!(placed(&second, BEGIN, "two\n"), second);
    }

    #[test]
    fn each_kind_of_storage_has_a_place_of_its_own() {
        let first = placed("", BEGIN, "one\n");
        let both = placed(&format!("{first}\n## On TiDB\n\n"), BEGIN_ON_TIDB, "two\n");
        let noted = format!("{both}\nA note.\n");
        let again = placed(&noted, BEGIN_ON_TIDB, "three\n");
        assert_eq!(again, noted.replace("two", "three"));
        assert_eq!(placed(&again, BEGIN, "four\n"), again.replace("one", "four"));
    }
}
