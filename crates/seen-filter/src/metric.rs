//! How a metric is described. Each crate lists its own in one `metrics.rs` as
//! `pub const METRICS: &[MetricInfo]`; the binary describes them to the exporter and prints them
//! as README's table, so that name, unit and help are stated once.

/// What kind of series a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows; its name ends in `_total`.
    Counter,
    /// Goes up and down.
    Gauge,
    /// A distribution in buckets.
    Histogram,
}

impl MetricKind {
    /// The word that Prometheus uses.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// What a metric's numbers count. Decides a histogram's buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricUnit {
    /// Things: requests, rows, users.
    Count,
    /// Bytes.
    Bytes,
    /// Seconds, fractions included.
    Seconds,
    /// A share from 0 to 1.
    Ratio,
}

impl MetricUnit {
    /// The word shown in tables.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Bytes => "bytes",
            Self::Seconds => "seconds",
            Self::Ratio => "ratio",
        }
    }
}

/// One metric: `seen_<thing>_<unit>[_total]`, with bounded labels and never a user's id in one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MetricInfo {
    /// The series' name.
    pub name: &'static str,
    /// Counter, gauge or histogram.
    pub kind: MetricKind,
    /// What is counted.
    pub unit: MetricUnit,
    /// One sentence, its labels and their values included.
    pub help: &'static str,
}

impl MetricInfo {
    /// A counter.
    pub const fn counter(name: &'static str, unit: MetricUnit, help: &'static str) -> Self {
        Self { name, kind: MetricKind::Counter, unit, help }
    }

    /// A gauge.
    pub const fn gauge(name: &'static str, unit: MetricUnit, help: &'static str) -> Self {
        Self { name, kind: MetricKind::Gauge, unit, help }
    }

    /// A histogram.
    pub const fn histogram(name: &'static str, unit: MetricUnit, help: &'static str) -> Self {
        Self { name, kind: MetricKind::Histogram, unit, help }
    }
}
