//! What is counted about a topic.

use metrics::{Counter, Gauge, counter, gauge};
use seen_dialect::{Dialect, Record};
use seen_filter::{MetricInfo, MetricUnit};

/// Records read.
const RECORDS: MetricInfo = MetricInfo::counter(
    "seen_kafka_records_total",
    MetricUnit::Count,
    "Records read from topics of change events; format as seen feed decode names it, by topic.",
);
/// How long they are.
const BYTES: MetricInfo = MetricInfo::counter(
    "seen_kafka_bytes_total",
    MetricUnit::Bytes,
    "Bytes of the keys and values of records read from topics of change events, by topic.",
);
/// Records that were read for nothing.
const OTHERS: MetricInfo = MetricInfo::counter(
    "seen_kafka_other_records_total",
    MetricUnit::Count,
    "Records read that said nothing about a history, by topic: what it costs to follow a topic whole. seen relay spares it.",
);
/// Troubles that Kafka reported.
const ERRORS: MetricInfo = MetricInfo::counter(
    "seen_kafka_errors_total",
    MetricUnit::Count,
    "Troubles that Kafka reported while change events were read, by topic.",
);
/// Rows in another partition than their user's.
const MISROUTED: MetricInfo = MetricInfo::counter(
    "seen_kafka_misrouted_total",
    MetricUnit::Count,
    "Rows in another partition than their user's, by topic. A change of a row's user is one; many mean that kafka.partitioner is wrong: see seen doctor --feed.",
);
/// Records that follow.
const LAG: MetricInfo = MetricInfo::gauge(
    "seen_kafka_lag_records_count",
    MetricUnit::Count,
    "Records that follow in a partition, as of the last look, by topic and partition.",
);
/// The next record.
const POSITION: MetricInfo = MetricInfo::gauge(
    "seen_kafka_position_count",
    MetricUnit::Count,
    "Offset of the next record of a partition that will be read, by topic and partition.",
);
/// The time of the newest record read.
const NEWEST: MetricInfo = MetricInfo::gauge(
    "seen_kafka_newest_record_seconds",
    MetricUnit::Seconds,
    "Time of the newest record read, in seconds since 1970, by topic and partition.",
);

/// The metrics of following topics.
pub const METRICS: &[MetricInfo] =
    &[RECORDS, BYTES, OTHERS, ERRORS, MISROUTED, LAG, POSITION, NEWEST];

/// The metrics of one topic.
pub(crate) struct TopicMetrics {
    topic: String,
    /// By format; the last one for what was not recognized.
    records: Vec<(Option<Dialect>, Counter)>,
    bytes: Counter,
    others: Counter,
    errors: Counter,
    misrouted: Counter,
    /// By partition.
    gauges: Vec<Gauges>,
}

struct Gauges {
    lag: Gauge,
    position: Gauge,
    newest: Gauge,
    newest_ms: Option<i64>,
}

impl TopicMetrics {
    pub fn new(topic: &str) -> Self {
        let label = [("topic", topic.to_owned())];
        Self {
            topic: topic.to_owned(),
            records: Vec::new(),
            bytes: counter!(BYTES.name, &label),
            others: counter!(OTHERS.name, &label),
            errors: counter!(ERRORS.name, &label),
            misrouted: counter!(MISROUTED.name, &label),
            gauges: Vec::new(),
        }
    }

    fn gauges(&mut self, partition: usize) -> Option<&mut Gauges> {
        while self.gauges.len() <= partition {
            let labels =
                [("topic", self.topic.clone()), ("partition", self.gauges.len().to_string())];
            self.gauges.push(Gauges {
                lag: gauge!(LAG.name, &labels),
                position: gauge!(POSITION.name, &labels),
                newest: gauge!(NEWEST.name, &labels),
                newest_ms: None,
            });
        }
        self.gauges.get_mut(partition)
    }

    /// A record was read.
    pub fn record(&mut self, partition: u16, record: &Record<'_>, dialect: Option<Dialect>) {
        match self.records.iter().find(|(known, _)| *known == dialect) {
            Some((_, counter)) => counter.increment(1),
            None => {
                let format = dialect.map_or("unknown", |dialect| dialect.name());
                let labels = [("topic", self.topic.clone()), ("format", format.to_owned())];
                let counter = counter!(RECORDS.name, &labels);
                counter.increment(1);
                self.records.push((dialect, counter));
            }
        }
        let length = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len) as u64;
        self.bytes.increment(length(record.key) + length(record.value));
        if let (Some(ms), Some(gauges)) = (record.timestamp_ms, self.gauges(partition.into())) {
            gauges.newest.set(ms as f64 / 1_000.0);
            gauges.newest_ms = Some(ms);
        }
    }

    /// The time of the newest record read of a partition, in milliseconds since 1970.
    pub fn newest_ms(&self, partition: usize) -> Option<i64> {
        self.gauges.get(partition)?.newest_ms
    }

    /// The topic was looked at.
    pub fn ends(&mut self, partition: usize, next: u64, high: u64) {
        if let Some(gauges) = self.gauges(partition) {
            gauges.lag.set(high.saturating_sub(next) as f64);
            gauges.position.set(next as f64);
        }
    }

    /// A record said nothing about a history.
    pub fn other(&self) {
        self.others.increment(1);
    }

    pub fn error(&self) {
        self.errors.increment(1);
    }

    pub fn misrouted(&self) {
        self.misrouted.increment(1);
    }
}
