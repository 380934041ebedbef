//! What is counted about a relay.

use metrics::{Counter, Gauge, counter, gauge};
use seen_filter::{FeedId, MetricInfo, MetricUnit};

const EVENTS: &str = "seen_relay_events_total";
const RECORDS: &str = "seen_relay_records_total";
const BYTES: &str = "seen_relay_bytes_total";
const COMMITS: &str = "seen_relay_commits_total";
const RETRIES: &str = "seen_relay_retries_total";
const BEHIND: &str = "seen_relay_behind_seconds";

/// The metrics of `seen relay`.
pub const METRICS: &[MetricInfo] = &[
    MetricInfo::counter(
        EVENTS,
        MetricUnit::Count,
        "Change events read from the source, by namespace, shard and partition of the source.",
    ),
    MetricInfo::counter(
        RECORDS,
        MetricUnit::Count,
        "Records that Kafka has acknowledged, by topic.",
    ),
    MetricInfo::counter(BYTES, MetricUnit::Bytes, "Their values' bytes, by topic."),
    MetricInfo::counter(COMMITS, MetricUnit::Count, "Transactions committed, by topic."),
    MetricInfo::counter(
        RETRIES,
        MetricUnit::Count,
        "Attempts beyond the first to read the source (of = source) or to write to Kafka (of = topic).",
    ),
    MetricInfo::gauge(
        BEHIND,
        MetricUnit::Seconds,
        "Time since a partition of the source was last read to its end, by namespace, shard and partition.",
    ),
];

/// Counts what is read from one feed of the source.
pub(super) struct SourceMetrics {
    pub events: Counter,
    pub behind: Gauge,
    pub retries: Counter,
}

impl SourceMetrics {
    pub fn new(feed: FeedId, namespace: &str) -> Self {
        let labels = [
            ("namespace", namespace.to_owned()),
            ("shard", feed.shard.to_string()),
            ("partition", feed.partition.to_string()),
        ];
        Self {
            events: counter!(EVENTS, &labels),
            behind: gauge!(BEHIND, &labels),
            retries: counter!(RETRIES, "of" => "source"),
        }
    }
}

/// Counts what is written to one topic.
pub(super) struct TopicMetrics {
    pub records: Counter,
    pub bytes: Counter,
    pub commits: Counter,
    pub retries: Counter,
}

impl TopicMetrics {
    pub fn new(topic: &str) -> Self {
        let label = [("topic", topic.to_owned())];
        Self {
            records: counter!(RECORDS, &label),
            bytes: counter!(BYTES, &label),
            commits: counter!(COMMITS, &label),
            retries: counter!(RETRIES, "of" => "topic"),
        }
    }
}
