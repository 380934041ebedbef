//! `seen feed status`: how far a running server has followed each feed partition.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use seen_client::v1;
use serde_json::{Value, json};

use crate::cli::CliError;
use crate::cli::calls::admin::AdminTarget;
use crate::cli::calls::table::{Table, grouped};

/// Arguments of `seen feed status`.
#[derive(Debug, Clone, Args)]
pub struct FeedStatusArgs {
    #[command(flatten)]
    target: AdminTarget,
}

/// Asks and prints.
///
/// # Errors
/// Why it did not answer.
pub fn run(args: &FeedStatusArgs) -> Result<ExitCode, CliError> {
    args.target.show_status(object, |status| table(&status.partitions).render())?;
    Ok(ExitCode::SUCCESS)
}

fn object(status: &v1::StatusResponse) -> Value {
    let partitions: Vec<Value> = status.partitions.iter().map(partition_object).collect();
    json!({ "incarnation": status.incarnation, "partitions": partitions })
}

/// An amount beside its bound.
pub fn fill(amount: u64, amount_max: u64) -> String {
    format!("{} of {}", grouped(amount), grouped(amount_max))
}

fn table(all: &[v1::PartitionStatus]) -> Table {
    let mut table = Table::new([
        "FEED",
        "SHARD/PARTITION",
        "POSITION",
        "BEHIND",
        "BEHIND TIME",
        "LAST PROOF",
        "DOUBTS",
        "EVENTS",
        "RING BYTES",
        "JOURNAL BYTES",
    ]);
    for one in all {
        let feed = one.feed.unwrap_or_default();
        let number = |value: Option<u64>| value.map_or("-".to_owned(), grouped);
        let position = match (one.source_position, one.applied) {
            (Some(place), _) => place.to_string(),
            (None, Some(stamp)) => stamp.position.to_string(),
            (None, None) => "-".to_owned(),
        };
        let ago = |ms: u64| humantime::format_duration(Duration::from_millis(ms)).to_string();
        table.row([
            one.namespace.clone(),
            format!("{}/{}", feed.shard, feed.partition),
            if one.following { position } else { "not begun".to_owned() },
            number(one.lag_records),
            one.lag_ms.map_or("-".to_owned(), ago),
            feed.fresh_ms_ago.map_or("never".to_owned(), |ms| format!("{} ago", ago(ms))),
            grouped(one.gaps),
            grouped(one.events),
            fill(one.ring_bytes, one.ring_bytes_max),
            fill(one.journal_bytes, one.journal_bytes_max),
        ]);
    }
    table
}

/// One partition as JSON, with the field names of the API.
pub fn partition_object(one: &v1::PartitionStatus) -> Value {
    let feed = one.feed.unwrap_or_default();
    json!({
        "namespace": one.namespace, "shard": feed.shard, "partition": feed.partition,
        "following": one.following, "source_position": one.source_position,
        "applied": one.applied.map(|stamp| stamp.position),
        "cover": feed.cover.map(|stamp| stamp.position),
        "lag_records": one.lag_records, "lag_ms": one.lag_ms, "fresh_ms_ago": feed.fresh_ms_ago,
        "epoch": feed.epoch, "gaps": one.gaps, "events": one.events,
        "ring_bytes": one.ring_bytes, "ring_bytes_max": one.ring_bytes_max,
        "journal_entries": one.journal_entries, "journal_bytes": one.journal_bytes,
        "journal_bytes_max": one.journal_bytes_max,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition() -> v1::PartitionStatus {
        v1::PartitionStatus {
            namespace: "feed_read".to_owned(),
            feed: Some(v1::FeedView {
                shard: 1,
                partition: 3,
                fresh_ms_ago: Some(1_200),
                ..v1::FeedView::default()
            }),
            gaps: 2,
            ring_bytes: 40,
            ring_bytes_max: 8_000,
            following: true,
            source_position: Some(1_234_567),
            lag_records: Some(1_500),
            lag_ms: Some(2_000),
            ..v1::PartitionStatus::default()
        }
    }

    #[test]
    fn a_partition_is_a_row() {
        let shown = table(&[partition()]).render();
        let row = shown.lines().nth(1).expect("a row");
        for part in ["1/3", "1234567", "1,500", "2s", "1s 200ms ago", "40 of 8,000", "0 of 0"] {
            assert!(row.contains(part), "{part}: {row}");
        }
        let unknown = v1::PartitionStatus {
            following: false,
            lag_records: None,
            lag_ms: None,
            feed: None,
            ..partition()
        };
        let shown = table(&[unknown]).render();
        let row = shown.lines().nth(1).expect("a row");
        assert!(row.contains("not begun") && row.contains("never"), "{row}");
    }

    #[test]
    fn json_has_the_names_of_the_api() {
        let shown = partition_object(&partition());
        assert_eq!((&shown["lag_records"], &shown["lag_ms"]), (&1_500.into(), &2_000.into()));
        assert_eq!((&shown["ring_bytes_max"], &shown["applied"]), (&8_000.into(), &Value::Null));
    }
}
