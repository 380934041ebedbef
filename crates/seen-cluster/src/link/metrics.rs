//! What is counted about links.

use metrics::{Counter, Gauge, counter, gauge};
use seen_filter::{MetricInfo, MetricUnit};
use seen_proto::v1::LinkLane;

use super::{Cut, NotSent};

/// Open links.
const CONNECTIONS: MetricInfo = MetricInfo::gauge(
    "seen_link_connections_count",
    MetricUnit::Count,
    "Open links; end is client (asks) or server (answers), lane is filters, push or transfer.",
);
/// Ends of links.
const ENDED: MetricInfo = MetricInfo::counter(
    "seen_link_ended_total",
    MetricUnit::Count,
    "Links that ended or could not be opened, by end; reason is closed (by the other end), goodbye (drained), io, refused (the hello), broken (not of the link), late (the hello, the end of a drain, or any sign of life), unread (the other end does not read).",
);
/// Requests.
const REQUESTS: MetricInfo = MetricInfo::counter(
    "seen_link_requests_total",
    MetricUnit::Count,
    "Requests sent (end client) or read (end server), by lane.",
);
/// Writes.
const WRITES: MetricInfo = MetricInfo::counter(
    "seen_link_writes_total",
    MetricUnit::Count,
    "Writes to links, by end and lane. Requests a write say how many share a system call.",
);
/// Bytes.
const BYTES: MetricInfo = MetricInfo::counter(
    "seen_link_bytes_total",
    MetricUnit::Bytes,
    "Bytes of links before TLS, by end and lane; direction is in or out.",
);
/// Requests that were not sent.
const NOT_SENT: MetricInfo = MetricInfo::counter(
    "seen_link_not_sent_total",
    MetricUnit::Count,
    "Requests that a link did not take, by lane; reason is closed, no_credit, draining, full, too_large.",
);
/// Requests that came too late.
const EXPIRED: MetricInfo = MetricInfo::counter(
    "seen_link_expired_total",
    MetricUnit::Count,
    "Requests that were read and not executed because nobody waited any more when it was their turn, by lane.",
);

/// The metrics of links.
pub const METRICS: &[MetricInfo] =
    &[CONNECTIONS, ENDED, REQUESTS, WRITES, BYTES, NOT_SENT, EXPIRED];

/// Which end of a link this is.
#[derive(Clone, Copy, Debug)]
pub(super) enum End {
    Client,
    Server,
}

impl End {
    const fn label(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Server => "server",
        }
    }
}

const fn lane_label(lane: LinkLane) -> &'static str {
    match lane {
        LinkLane::Unspecified => "none",
        LinkLane::Filters => "filters",
        LinkLane::Push => "push",
        LinkLane::Transfer => "transfer",
    }
}

/// A link ended, or could not be opened.
pub(super) fn ended(end: End, cut: &Cut) {
    counter!(ENDED.name, "end" => end.label(), "reason" => cut.label()).increment(1);
}

/// Requests that were not sent.
pub(super) struct NotSentMetrics([Counter; NotSent::ALL.len()]);

impl NotSentMetrics {
    pub fn new(lane: LinkLane) -> Self {
        Self(NotSent::ALL.map(|reason| {
            counter!(NOT_SENT.name, "lane" => lane_label(lane), "reason" => reason.label())
        }))
    }

    pub fn count(&self, reason: NotSent) {
        self.0[reason as usize].increment(1);
    }
}

/// The metrics of an open link.
pub(super) struct OpenMetrics {
    connections: Gauge,
    pub requests: Counter,
    pub writes: Counter,
    pub bytes_in: Counter,
    pub bytes_out: Counter,
    pub expired: Counter,
}

impl OpenMetrics {
    /// A link was opened. It counts until this is dropped.
    pub fn new(end: End, lane: LinkLane) -> Self {
        let labels = [("end", end.label()), ("lane", lane_label(lane))];
        let bytes = |direction| {
            let [end, lane] = labels;
            counter!(BYTES.name, &[end, lane, ("direction", direction)])
        };
        let connections = gauge!(CONNECTIONS.name, &labels);
        connections.increment(1);
        Self {
            connections,
            requests: counter!(REQUESTS.name, &labels),
            writes: counter!(WRITES.name, &labels),
            bytes_in: bytes("in"),
            bytes_out: bytes("out"),
            expired: counter!(EXPIRED.name, "lane" => lane_label(lane)),
        }
    }
}

impl Drop for OpenMetrics {
    fn drop(&mut self) {
        self.connections.decrement(1);
    }
}
