//! `seen status`: how a process fares.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use seen_client::v1;
use serde_json::{Value, json};

use super::admin::AdminTarget;
use super::percent;
use super::table::{Table, grouped};
use crate::cli::CliError;
use crate::cli::feed::status::{fill, partition_object};

/// Arguments of `seen status`.
#[derive(Debug, Clone, Args)]
pub struct StatusArgs {
    #[command(flatten)]
    target: AdminTarget,
}

/// Asks and prints.
///
/// # Errors
/// Why it did not answer.
pub fn run(args: &StatusArgs) -> Result<ExitCode, CliError> {
    args.target.show_status(object, text)?;
    Ok(ExitCode::SUCCESS)
}

fn text(status: &v1::StatusResponse) -> String {
    let memory = status.memory.unwrap_or_default();
    let traffic = status.traffic.unwrap_or_default();
    let uptime = Duration::from_secs(status.uptime_ms / 1_000);
    let mut process = Table::of_pairs();
    process.pair("version", &status.version).pair("cluster", &status.cluster);
    process.pair("incarnation", &status.incarnation);
    process.pair("uptime", humantime::format_duration(uptime));
    process.pair("draining", if status.draining { "yes" } else { "no" });
    for problem in &status.problems {
        process.pair("problem", problem);
    }
    process.pair("users in memory", grouped(memory.entries));
    process.pair("bytes in memory", fill(memory.bytes, memory.bytes_max));
    process.pair("bytes a user", grouped(memory.bytes.checked_div(memory.entries).unwrap_or(0)));
    process
        .pair("builds", format!("{} ({} running)", grouped(memory.builds), memory.builds_running));
    process.pair("evictions", grouped(memory.evictions));
    process.pair("filters", grouped(traffic.filters)).pair("checks", grouped(traffic.checks));
    process.pair("marks", grouped(traffic.marks));
    process.pair("answered by memory", share(traffic.hits, traffic.filters));
    process.pair("degraded", grouped(traffic.degraded)).pair("errors", grouped(traffic.errors));
    format!(
        "{}\n{}\n{}\n{}",
        process.render(),
        namespaces(&status.namespaces).render(),
        storage(&status.namespaces).render(),
        partitions(&status.partitions).render()
    )
}

fn share(part: u64, whole: u64) -> String {
    if whole == 0 { "none asked".to_owned() } else { percent(part as f64 / whole as f64) }
}

fn namespaces(all: &[v1::NamespaceStatus]) -> Table {
    let mut table = Table::new([
        "NAMESPACE",
        "RATE SET",
        "RATE MEASURED",
        "SEEN SAMPLES",
        "UNREAD SAMPLES",
        "FALSE NEGATIVES",
        "KEEPS",
    ]);
    for one in all {
        let span = one.retention_ms.map(Duration::from_millis).map(humantime::format_duration);
        let newest = one.newest_max.map(|most| format!("newest {}", grouped(most.into())));
        let keeps: Vec<String> =
            span.map(|span| span.to_string()).into_iter().chain(newest).collect();
        let keeps = if keeps.is_empty() { "all".to_owned() } else { keeps.join(", ") };
        table.row([
            one.name.clone(),
            percent(one.configured_false_positive_rate),
            one.measured_false_positive_rate.map_or("-".to_owned(), percent),
            grouped(one.seen_samples),
            grouped(one.unseen_samples),
            grouped(one.false_negatives),
            keeps,
        ]);
    }
    table
}

/// What the namespaces take in storage.
fn storage(all: &[v1::NamespaceStatus]) -> Table {
    let mut table = Table::new([
        "STORED",
        "ROWS",
        "BYTES",
        "BYTES A ROW",
        "TIME INDEX BYTES",
        "TIME INDEX BYTES A ROW",
    ]);
    for one in all {
        // Concluded from a sample of storage.
        let about = if one.size_exact { "" } else { "~" };
        let number = |value: Option<u64>| {
            value.map_or("-".to_owned(), |value| format!("{about}{}", grouped(value)))
        };
        let a_row = |bytes: Option<u64>| match (bytes, one.rows) {
            (Some(bytes), Some(rows)) if rows > 0 => {
                format!("{about}{:.1}", bytes as f64 / rows as f64)
            }
            _ => "-".to_owned(),
        };
        table.row([
            one.name.clone(),
            number(one.rows),
            number(one.rows_bytes),
            a_row(one.rows_bytes),
            number(one.time_index_bytes),
            a_row(one.time_index_bytes),
        ]);
    }
    table
}

fn partitions(all: &[v1::PartitionStatus]) -> Table {
    let mut table = Table::new([
        "FEED",
        "PARTITION",
        "COVERS",
        "COMPLETE",
        "EVENTS",
        "GAPS",
        "RING BYTES",
        "JOURNAL BYTES",
    ]);
    for one in all {
        let feed = one.feed.unwrap_or_default();
        table.row([
            one.namespace.clone(),
            format!("{}/{}", feed.shard, feed.partition),
            feed.cover.map_or("-".to_owned(), |cover| cover.position.to_string()),
            feed.fresh_ms_ago.map_or("never".to_owned(), |ms| format!("{ms} ms ago")),
            grouped(one.events),
            grouped(one.gaps),
            fill(one.ring_bytes, one.ring_bytes_max),
            fill(one.journal_bytes, one.journal_bytes_max),
        ]);
    }
    table
}

/// The status as JSON, with the field names of the API.
fn object(status: &v1::StatusResponse) -> Value {
    let memory = status.memory.unwrap_or_default();
    let traffic = status.traffic.unwrap_or_default();
    let namespace = |one: &v1::NamespaceStatus| {
        json!({
            "name": one.name,
            "configured_false_positive_rate": one.configured_false_positive_rate,
            "measured_false_positive_rate": one.measured_false_positive_rate,
            "seen_samples": one.seen_samples, "unseen_samples": one.unseen_samples,
            "false_negatives": one.false_negatives, "retention_ms": one.retention_ms,
            "newest_max": one.newest_max, "time_index": one.time_index, "rows": one.rows,
            "rows_bytes": one.rows_bytes, "time_index_bytes": one.time_index_bytes,
            "size_exact": one.size_exact,
        })
    };
    json!({
        "version": status.version, "cluster": status.cluster, "incarnation": status.incarnation,
        "uptime_ms": status.uptime_ms, "draining": status.draining, "problems": status.problems,
        "namespaces": status.namespaces.iter().map(namespace).collect::<Vec<_>>(),
        "partitions": status.partitions.iter().map(partition_object).collect::<Vec<_>>(),
        "memory": {
            "entries": memory.entries, "bytes": memory.bytes, "bytes_max": memory.bytes_max,
            "builds_running": memory.builds_running, "builds": memory.builds,
            "evictions": memory.evictions,
        },
        "traffic": {
            "filters": traffic.filters, "checks": traffic.checks, "marks": traffic.marks,
            "hits": traffic.hits, "degraded": traffic.degraded, "errors": traffic.errors,
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ring_and_journal_stand_beside_their_bounds() {
        let partition = v1::PartitionStatus {
            ring_bytes: 1_200,
            ring_bytes_max: 16_000_000,
            journal_entries: 2,
            journal_bytes: 480,
            journal_bytes_max: 60_000_000,
            ..v1::PartitionStatus::default()
        };
        let status = v1::StatusResponse { partitions: vec![partition], ..Default::default() };
        let shown = text(&status);
        for part in ["1,200 of 16,000,000", "480 of 60,000,000"] {
            assert!(shown.contains(part), "{part}: {shown}");
        }
        let shown = &object(&status)["partitions"][0];
        for (key, value) in [
            ("ring_bytes", 1_200),
            ("ring_bytes_max", 16_000_000),
            ("journal_entries", 2),
            ("journal_bytes", 480),
            ("journal_bytes_max", 60_000_000),
        ] {
            assert_eq!(shown[key], value, "{key}");
        }
    }
}
