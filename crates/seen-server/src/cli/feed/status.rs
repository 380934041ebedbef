//! `seen feed status`: how far a running server has followed each feed partition.

use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use seen_client::{Admin, ClientOptions, v1};
use serde_json::{Value, json};

use crate::cli::calls::table::{Table, grouped};
use crate::cli::calls::{block_on, described};
use crate::cli::{CliError, print};

/// Arguments of `seen feed status`.
#[derive(Debug, Clone, Args)]
pub struct FeedStatusArgs {
    /// Where the admin service is
    #[arg(long, value_name = "URL", env = "SEEN_ADMIN", default_value = "http://127.0.0.1:7421")]
    server: String,
    /// How long the call may take
    #[arg(long, value_name = "DURATION", default_value = "5s")]
    timeout: humantime::Duration,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Asks and prints.
///
/// # Errors
/// Why it did not answer.
pub fn run(args: &FeedStatusArgs) -> Result<ExitCode, CliError> {
    let mut options = ClientOptions::new(&args.server);
    options.timeouts.look = args.timeout.into();
    options.connect_timeout = args.timeout.into();
    let status = block_on(async { Admin::new(&options)?.status().await.map_err(described) })?;
    print(&match args.json {
        true => {
            let all: Vec<Value> = status.partitions.iter().map(object).collect();
            format!("{}\n", json!({ "incarnation": status.incarnation, "partitions": all }))
        }
        false => table(&status.partitions).render(),
    })?;
    Ok(ExitCode::SUCCESS)
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
        "RING",
        "JOURNAL",
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
        let fill = |bytes, bytes_max| format!("{} of {}", grouped(bytes), grouped(bytes_max));
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
fn object(one: &v1::PartitionStatus) -> Value {
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
        let shown = object(&partition());
        assert_eq!((&shown["lag_records"], &shown["lag_ms"]), (&1_500.into(), &2_000.into()));
        assert_eq!((&shown["ring_bytes_max"], &shown["applied"]), (&8_000.into(), &Value::Null));
    }
}
