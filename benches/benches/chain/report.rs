//! The figures as tables.

use std::fmt::Write as _;

use super::figures::Spread;
use super::held::Held;
use super::{catch_up, commit_to_seen};

/// What issue and README promise.
const SEEN_P99_MS_MAX: f64 = 1_000.0;
const MOVES_MS_MAX: f64 = 5.0;

fn row(text: &mut String, name: &str, spread: &Spread) {
    let Spread { count, p50_ms, p99_ms, max_ms } = spread;
    let _ = writeln!(text, "| {name} | {count} | {p50_ms:.1} | {p99_ms:.1} | {max_ms:.1} |");
}

const HEAD: &str = "| milliseconds | of | P50 | P99 | longest |\n|---|---:|---:|---:|---:|\n";

fn aim(met: bool) -> &'static str {
    if met { "met" } else { "missed" }
}

/// The way from a commit to "seen", as Markdown.
pub fn chain(found: &commit_to_seen::Found) -> String {
    let mut text = format!(
        "From commit to \"seen\", at {:.0} rows/s ({} wanted):\n\n{HEAD}",
        found.rows_per_second, found.rows_per_second_wanted
    );
    row(&mut text, "seen at both replicas", &found.seen);
    row(&mut text, "the same, with all set aside", &found.seen_all);
    row(&mut text, "first replica", &found.first_replica);
    row(&mut text, "second replica", &found.second_replica);
    row(&mut text, "of which: until Debezium has read it", &found.stages.read_by_debezium);
    row(&mut text, "until Kafka's producer has it", &found.stages.given_to_kafka);
    row(&mut text, "until both replicas say so", &found.stages.seen);
    let _ = writeln!(
        text,
        "\nP99 at most {SEEN_P99_MS_MAX} ms: {}. {} probes. Set aside: {}, a thread was starved {}; {}, \
         told by something else than the feed. {} never seen. {:.2} % of Filters answered by memory; {} \
         doubts.",
        aim(found.seen.p99_ms <= SEEN_P99_MS_MAX && found.lost == 0),
        found.probes,
        found.starved,
        found.starved_told,
        found.ahead,
        found.lost,
        found.from_memory_percent,
        found.doubts,
    );
    processor(&mut text, &found.processor_percent);
    held(&mut text, &found.held);
    text
}

/// Serving during a catch-up, as Markdown.
pub fn catch_up(found: &catch_up::Found) -> String {
    let mut text = format!("Filters of 400, {} a second:\n\n{HEAD}", found.filters_per_second);
    for (at, round) in (1..).zip(&found.rounds) {
        let rate = round.events as f64 / round.seconds;
        row(&mut text, &format!("round {at}: before"), &round.before);
        let during = format!("during {:.1} s, {rate:.0} events/s", round.seconds);
        row(&mut text, &during, &round.during);
        row(&mut text, "after", &round.after);
    }
    row(&mut text, "all: before and after", &found.calm);
    row(&mut text, "during", &found.during);
    row(&mut text, "during, starved times included", &found.during_all);
    let _ = writeln!(
        text,
        "\nP99 moves by less than {MOVES_MS_MAX} ms: {}, {:+.2} ms (median of the rounds). {} Filters \
         set aside, a thread was starved {}; {} flagged, {} failed; {:.2} % answered by memory.",
        aim(found.p99_moves_ms < MOVES_MS_MAX && found.failed == 0),
        found.p99_moves_ms,
        found.starved,
        found.starved_told,
        found.flagged,
        found.failed,
        found.from_memory_percent,
    );
    processor(&mut text, &found.processor_percent);
    held(&mut text, &found.held);
    text
}

fn processor(text: &mut String, shares: &[(&'static str, f64)]) {
    let shares: Vec<_> =
        shares.iter().map(|(name, share)| format!("{name} {share:.0} %")).collect();
    let _ = writeln!(text, "Share of the machine's processors: {}.", shares.join(", "));
}

fn held(text: &mut String, held: &Held) {
    let Held { ring_bytes, ring_bytes_max, journal_bytes, journal_bytes_max, unproven_ms } = held;
    let _ = writeln!(
        text,
        "The fullest partition held {ring_bytes} of {ring_bytes_max} bytes in its ring and \
         {journal_bytes} of {journal_bytes_max} in its journal; the longest time without a proof was \
         {unproven_ms} ms."
    );
}
