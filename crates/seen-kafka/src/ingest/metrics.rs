//! What is counted about queued writes.

use metrics::{Counter, counter};
use seen_filter::{MetricInfo, MetricUnit};

const MESSAGES: &str = "seen_ingest_messages_total";
const ITEMS: &str = "seen_ingest_items_total";
const DEAD: &str = "seen_ingest_dead_total";
const RETRIES: &str = "seen_ingest_retries_total";
const ERRORS: &str = "seen_ingest_errors_total";

/// The metrics of `seen ingest`.
pub const METRICS: &[MetricInfo] = &[
    MetricInfo::counter(MESSAGES, MetricUnit::Count, "Queued messages committed, by topic."),
    MetricInfo::counter(ITEMS, MetricUnit::Count, "Items marked by them, by topic."),
    MetricInfo::counter(
        DEAD,
        MetricUnit::Count,
        "Queued messages that can never be written, by topic; they are in the dead letters.",
    ),
    MetricInfo::counter(RETRIES, MetricUnit::Count, "Marks that were tried again, by topic."),
    MetricInfo::counter(ERRORS, MetricUnit::Count, "Troubles that Kafka reported, by topic."),
];

/// Counts what is read from one topic.
pub(super) struct IngestMetrics {
    pub messages: Counter,
    pub items: Counter,
    pub dead: Counter,
    pub retries: Counter,
    pub errors: Counter,
}

impl IngestMetrics {
    pub fn new(topic: &str) -> Self {
        let label = [("topic", topic.to_owned())];
        Self {
            messages: counter!(MESSAGES, &label),
            items: counter!(ITEMS, &label),
            dead: counter!(DEAD, &label),
            retries: counter!(RETRIES, &label),
            errors: counter!(ERRORS, &label),
        }
    }
}
