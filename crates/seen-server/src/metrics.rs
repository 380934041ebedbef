//! The metrics of the program's shell, and the list of every crate's.

use seen_filter::{MetricInfo, MetricUnit};

/// Log lines that were dropped because the queue was full.
pub const LOG_LINES_DROPPED: MetricInfo = MetricInfo::counter(
    "seen_log_lines_dropped_total",
    MetricUnit::Count,
    "Log lines dropped because log.queue_lines_max were waiting.",
);
/// Open connections, by serving thread.
pub const CONNECTIONS: MetricInfo = MetricInfo::gauge(
    "seen_connections_count",
    MetricUnit::Count,
    "Open API connections; thread is the serving thread's number.",
);
/// Connections handed to a serving thread.
pub const CONNECTIONS_ACCEPTED: MetricInfo = MetricInfo::counter(
    "seen_connections_accepted_total",
    MetricUnit::Count,
    "API connections handed to a serving thread; thread is its number.",
);
/// Connections closed as soon as they were accepted.
pub const CONNECTIONS_REFUSED: MetricInfo = MetricInfo::counter(
    "seen_connections_refused_total",
    MetricUnit::Count,
    "API connections closed at once because server.connections_max were open.",
);
/// Connections that the server asked to close or cut off.
pub const CONNECTIONS_ENDED: MetricInfo = MetricInfo::counter(
    "seen_connections_ended_total",
    MetricUnit::Count,
    "API connections ended by the server; reason is age, balance, drain, grace, handshake or flood.",
);
/// How busy a serving thread is.
pub const THREAD_BUSY: MetricInfo = MetricInfo::gauge(
    "seen_thread_busy_ratio",
    MetricUnit::Ratio,
    "Share of the last second that a serving thread worked, smoothed; thread is its number.",
);
/// What became of spans.
pub const TRACE_SPANS: MetricInfo = MetricInfo::counter(
    "seen_trace_spans_total",
    MetricUnit::Count,
    "Spans by outcome: sent, failed (the collector did not take them) or dropped (traces.queue_spans_max were waiting).",
);
/// Calls that were not traced though they were to be.
pub const TRACE_CALLS_REFUSED: MetricInfo = MetricInfo::counter(
    "seen_trace_calls_refused_total",
    MetricUnit::Count,
    "Sampled calls that were not traced because of traces.spans_per_s_max.",
);

/// The metrics of this crate.
pub const METRICS: &[MetricInfo] = &[
    LOG_LINES_DROPPED,
    CONNECTIONS,
    CONNECTIONS_ACCEPTED,
    CONNECTIONS_REFUSED,
    CONNECTIONS_ENDED,
    THREAD_BUSY,
    TRACE_SPANS,
    TRACE_CALLS_REFUSED,
];

/// Every crate's metrics. A crate's list is added here, and so described to the exporter and shown
/// in the table of metrics.
pub const REGISTRY: &[&[MetricInfo]] = &[
    METRICS,
    seen_replica::metrics::METRICS,
    seen_store::metrics::METRICS,
    seen_kafka::metrics::METRICS,
    seen_kafka::relay::RELAY_METRICS,
    seen_kafka::ingest::INGEST_METRICS,
    seen_proxy::metrics::METRICS,
    seen_cluster::link::METRICS,
    seen_cluster::map::MAP_METRICS,
    seen_cluster::tls::METRICS,
];

/// Every metric of the program, by crate.
pub fn all() -> impl Iterator<Item = &'static MetricInfo> {
    REGISTRY.iter().copied().flatten()
}

/// The table of metrics, in Markdown.
pub fn markdown() -> String {
    let mut text = "| Metric | Kind | Unit | Meaning |\n|---|---|---|---|\n".to_owned();
    for info in all() {
        let (kind, unit) = (info.kind.label(), info.unit.label());
        text.push_str(&format!("| `{}` | {kind} | {unit} | {} |\n", info.name, info.help));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use seen_filter::{MetricKind, MetricUnit};

    use super::all;

    #[test]
    fn names_follow_the_rule_and_are_unique() {
        let mut names = BTreeSet::new();
        for info in all() {
            assert!(names.insert(info.name), "{} is listed twice", info.name);
            assert!(info.name.starts_with("seen_"), "{}", info.name);
            let total = info.name.ends_with("_total");
            assert_eq!(total, info.kind == MetricKind::Counter, "{}", info.name);
            if info.unit != MetricUnit::Count {
                let unit = info.unit.label();
                assert!(info.name.contains(unit), "{} does not say {unit}", info.name);
            }
        }
    }
}
