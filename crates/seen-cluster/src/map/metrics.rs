//! What is counted about maps.

use metrics::{Counter, Gauge, counter, gauge};
use seen_filter::{MetricInfo, MetricUnit};

/// The map in use.
const EPOCH: MetricInfo = MetricInfo::gauge(
    "seen_map_epoch_count",
    MetricUnit::Count,
    "Epoch of the slot map in use. Where processes differ for long, one of them does not get the file.",
);
/// Files that were not taken over.
const REFUSED: MetricInfo = MetricInfo::counter(
    "seen_map_refused_total",
    MetricUnit::Count,
    "Slot maps that were not taken over, each counted once; reason is unreadable, wrong, cluster, slot_key, epoch (lower than the one in use) or changed (another map of the same epoch).",
);
/// Names without an answer.
const LOOKUPS_FAILED: MetricInfo = MetricInfo::counter(
    "seen_map_lookups_failed_total",
    MetricUnit::Count,
    "Names of the slot map that DNS gave no answer for; the last one stays in use.",
);

/// The metrics of slot maps.
pub const MAP_METRICS: &[MetricInfo] = &[EPOCH, REFUSED, LOOKUPS_FAILED];

pub(super) fn epoch() -> Gauge {
    gauge!(EPOCH.name)
}

pub(super) fn refused(reason: &'static str) -> Counter {
    counter!(REFUSED.name, "reason" => reason)
}

pub(super) fn lookups_failed() -> Counter {
    counter!(LOOKUPS_FAILED.name)
}
