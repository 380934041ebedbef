//! The replica's metrics: names, units and help once, and handles that the hot path holds.

use std::sync::atomic::{AtomicU64, Ordering};

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};
use seen_filter::{MetricInfo, MetricUnit};
use seen_proto::status::ErrorKind;

use crate::rules::Refusal;
use crate::warm::{Taken, TransferFailure};

macro_rules! infos {
    ($($name:ident = $kind:ident($series:literal, $unit:ident, $help:literal);)*) => {
        $(const $name: MetricInfo = MetricInfo::$kind($series, MetricUnit::$unit, $help);)*
        /// The metrics of this crate.
        pub const METRICS: &[MetricInfo] = &[$($name),*];
    };
}

infos! {
    REQUESTS = counter("seen_requests_total", Count, "Calls answered; call is filter, filter_users, mark, unmark, forget, history or explain.");
    REQUEST_SECONDS = histogram("seen_request_duration_seconds", Seconds, "Time from a call's first byte at the handler to its answer; call as in seen_requests_total.");
    ERRORS = counter("seen_errors_total", Count, "Calls that ended with an error; kind is the reason in lower case.");
    CHECKS = counter("seen_checks_total", Count, "Candidates asked about, by namespace.");
    SEEN_ANSWERS = counter("seen_answers_seen_total", Count, "Candidates answered seen, by namespace.");
    QUALITY = counter("seen_answers_quality_total", Count, "Filter answers; level is exact, filtered or degraded.");
    HITS = counter("seen_filter_hits_total", Count, "Filter questions that memory alone answered.");
    MISSES = counter("seen_filter_misses_total", Count, "Filter questions that needed storage.");
    MARKED = counter("seen_marked_rows_total", Count, "Rows of acknowledged marks.");
    BUILDS = counter("seen_builds_total", Count, "Entries installed from storage.");
    BUILD_FAILURES = counter("seen_build_failures_total", Count, "Builds that storage could not serve.");
    BUILD_REFUSALS = counter("seen_build_refusals_total", Count, "Builds not installed; reason says which rule refused.");
    BUILDS_DROPPED = counter("seen_builds_dropped_total", Count, "Builds not begun because their queue was full.");
    BUILD_SECONDS = histogram("seen_build_duration_seconds", Seconds, "Time from a build's begin to its end.");
    ROWS_REREAD = counter("seen_rows_reread_total", Count, "Rows read from storage by builds.");
    WARMED = counter("seen_warm_users_total", Count, "Users' entries that other replicas gave; outcome is installed, held, not_owned or the reason of a refusal.");
    WARMED_BYTES = counter("seen_warm_bytes_total", Bytes, "Bytes of the entries that other replicas gave.");
    WARM_FAILURES = counter("seen_warm_failures_total", Count, "Streams of entries given up; reason is torn, version, dialect, namespaces, busy, declined, broken or silent.");
    GIVEN = counter("seen_given_users_total", Count, "Users' entries given to other replicas.");
    GIVEN_BYTES = counter("seen_given_bytes_total", Bytes, "Bytes of entries given to other replicas.");
    OTHER_MAPS = counter("seen_link_other_epoch_total", Count, "Requests of proxies whose slot map has another epoch than the replica's; map is older or newer.");
    LATE_WRITES = counter("seen_link_writes_after_pause_total", Count, "Writes refused since they may have waited while the process stood still.");
    EVICTIONS = counter("seen_evictions_total", Count, "Entries dropped to keep the memory bound.");
    ENTRIES = gauge("seen_entries_count", Count, "Users held in memory, by namespace.");
    ENTRY_BYTES = gauge("seen_entries_bytes", Bytes, "Memory of entries, by namespace.");
    JOURNAL_ROWS = gauge("seen_journal_rows_count", Count, "Own commits not yet proven to have come back, by namespace.");
    JOURNAL_BYTES = gauge("seen_journal_bytes", Bytes, "Memory of the journals, by namespace.");
    JOURNAL_LIMIT = gauge("seen_journal_limit_bytes", Bytes, "What the journals may take at most, by namespace.");
    RING_BYTES = gauge("seen_ring_bytes", Bytes, "Memory of the rings, which hold the latest change events for builds, by namespace.");
    RING_LIMIT = gauge("seen_ring_limit_bytes", Bytes, "What the rings may take at most, by namespace.");
    FEED_QUIET = gauge("seen_feed_unproven_seconds", Seconds, "Longest time since a feed partition proved itself fresh, by namespace.");
    FEED_EVENTS = counter("seen_feed_events_total", Count, "Change events applied.");
    FEED_GAPS = counter("seen_feed_gaps_total", Count, "Gaps in the change feed.");
    FENCES = counter("seen_fences_total", Count, "Fence rows written.");
    DOUBTS = counter("seen_doubts_total", Count, "Times that a partition or user came into doubt; reason says why.");
    SAMPLES = counter("seen_samples_total", Count, "Answers verified in storage behind the caller's back; answer is seen or unseen.");
    FALSE_POSITIVES = counter("seen_sampled_false_positives_total", Count, "Sampled seen answers of which storage had no row.");
    FALSE_NEGATIVES = counter("seen_false_negatives_total", Count, "Sampled unseen answers of which storage had a row. Must stay 0.");
}

/// The calls that are counted apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "named as the RPCs are")]
pub enum Call {
    Filter,
    FilterUsers,
    Mark,
    Unmark,
    Forget,
    History,
    Explain,
}

impl Call {
    const ALL: [(Call, &'static str); 7] = [
        (Call::Filter, "filter"),
        (Call::FilterUsers, "filter_users"),
        (Call::Mark, "mark"),
        (Call::Unmark, "unmark"),
        (Call::Forget, "forget"),
        (Call::History, "history"),
        (Call::Explain, "explain"),
    ];
}

/// A counter that can also be read back, for the Status call.
pub struct Counted {
    series: Counter,
    total: AtomicU64,
}

impl Counted {
    fn new(series: Counter) -> Self {
        Self { series, total: AtomicU64::new(0) }
    }

    /// Adds `n`.
    pub fn increment(&self, n: u64) {
        self.series.increment(n);
        self.total.fetch_add(n, Ordering::Relaxed);
    }

    /// The total since the start.
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }
}

/// Handles of one replica's series. Made after the recorder is installed.
pub(crate) struct Metrics {
    calls: Vec<(Counted, Histogram)>,
    exact: Counter,
    filtered: Counter,
    pub degraded: Counted,
    pub errors: Counted,
    pub hits: Counted,
    pub misses: Counted,
    pub marked: Counted,
    pub builds: Counted,
    pub build_failures: Counter,
    pub builds_dropped: Counter,
    pub build_seconds: Histogram,
    pub rows_reread: Counted,
    pub given_users: Counter,
    pub given_bytes: Counter,
    installed: Counter,
    held: Counter,
    warm_bytes: Counter,
    pub older_maps: Counter,
    pub newer_maps: Counter,
    pub late_writes: Counter,
    pub evictions: Counted,
    pub feed_events: Counted,
    pub feed_gaps: Counted,
    pub fences: Counter,
}

impl Metrics {
    pub fn new() -> Self {
        let level = |level: &'static str| counter!(QUALITY.name, "level" => level);
        let call = |(_, name): &(Call, &'static str)| {
            let name = *name;
            let counted = Counted::new(counter!(REQUESTS.name, "call" => name));
            (counted, histogram!(REQUEST_SECONDS.name, "call" => name))
        };
        let counted = |info: MetricInfo| Counted::new(counter!(info.name));
        Self {
            calls: Call::ALL.iter().map(call).collect(),
            exact: level("exact"),
            filtered: level("filtered"),
            degraded: Counted::new(level("degraded")),
            errors: Counted::new(Counter::noop()),
            hits: counted(HITS),
            misses: counted(MISSES),
            marked: counted(MARKED),
            builds: counted(BUILDS),
            build_failures: counter!(BUILD_FAILURES.name),
            builds_dropped: counter!(BUILDS_DROPPED.name),
            build_seconds: histogram!(BUILD_SECONDS.name),
            rows_reread: counted(ROWS_REREAD),
            given_users: counter!(GIVEN.name),
            given_bytes: counter!(GIVEN_BYTES.name),
            installed: counter!(WARMED.name, "outcome" => Taken::Installed.label()),
            held: counter!(WARMED.name, "outcome" => Taken::Held.label()),
            warm_bytes: counter!(WARMED_BYTES.name),
            older_maps: counter!(OTHER_MAPS.name, "map" => "older"),
            newer_maps: counter!(OTHER_MAPS.name, "map" => "newer"),
            late_writes: counter!(LATE_WRITES.name),
            evictions: counted(EVICTIONS),
            feed_events: counted(FEED_EVENTS),
            feed_gaps: counted(FEED_GAPS),
            fences: counter!(FENCES.name),
        }
    }

    /// Counts an answered call and its duration in microseconds.
    pub fn answered(&self, call: Call, us: u64) {
        if let Some((count, seconds)) = self.calls.get(call as usize) {
            count.increment(1);
            seconds.record(us as f64 / 1e6);
        }
    }

    /// How often `call` was answered.
    pub fn calls(&self, call: Call) -> u64 {
        self.calls.get(call as usize).map_or(0, |(count, _)| count.total())
    }

    pub fn quality(&self, quality: &seen_proto::model::Quality) {
        use seen_proto::model::Quality;
        match quality {
            Quality::Exact => self.exact.increment(1),
            Quality::Filtered { .. } => self.filtered.increment(1),
            Quality::Degraded { .. } => self.degraded.increment(1),
        }
    }

    pub fn error(&self, kind: ErrorKind) {
        self.errors.increment(1);
        counter!(ERRORS.name, "kind" => kind.label()).increment(1);
    }

    pub fn build_refusals(&self, refusal: Refusal) {
        counter!(BUILD_REFUSALS.name, "reason" => refusal.label()).increment(1);
    }

    /// Counts an entry that another replica gave.
    pub fn taken(&self, taken: Taken, bytes: usize) {
        self.warm_bytes.increment(bytes as u64);
        match taken {
            Taken::Installed => self.installed.increment(1),
            Taken::Held => self.held.increment(1),
            other => counter!(WARMED.name, "outcome" => other.label()).increment(1),
        }
    }

    /// Counts a stream that was given up.
    pub fn transfer_failed(&self, failure: &TransferFailure) {
        counter!(WARM_FAILURES.name, "reason" => failure.label()).increment(1);
    }

    pub fn doubt(&self, reason: &'static str) {
        counter!(DOUBTS.name, "reason" => reason).increment(1);
    }
}

/// Series of one namespace.
pub(crate) struct NamespaceMetrics {
    pub checks: Counted,
    pub seen: Counted,
    pub seen_samples: Counted,
    pub unseen_samples: Counted,
    pub false_positives: Counted,
    pub false_negatives: Counted,
    entries: Gauge,
    entry_bytes: Gauge,
    journal_rows: Gauge,
    journal_bytes: Gauge,
    journal_limit: Gauge,
    ring_bytes: Gauge,
    ring_limit: Gauge,
    feed_quiet: Gauge,
}

/// What a namespace holds about its feed partitions, all of them together.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FeedMemory {
    pub journal_rows: usize,
    pub journal_bytes: usize,
    pub journal_bytes_max: usize,
    pub ring_bytes: usize,
    pub ring_bytes_max: usize,
}

impl NamespaceMetrics {
    pub fn new(name: &str) -> Self {
        let name = name.to_owned();
        let counted =
            |info: MetricInfo| Counted::new(counter!(info.name, "namespace" => name.clone()));
        let sampled = |answer: &'static str| {
            let series = counter!(SAMPLES.name, "namespace" => name.clone(), "answer" => answer);
            Counted::new(series)
        };
        let gauged = |info: MetricInfo| gauge!(info.name, "namespace" => name.clone());
        Self {
            checks: counted(CHECKS),
            seen: counted(SEEN_ANSWERS),
            seen_samples: sampled("seen"),
            unseen_samples: sampled("unseen"),
            false_positives: counted(FALSE_POSITIVES),
            false_negatives: counted(FALSE_NEGATIVES),
            entries: gauged(ENTRIES),
            entry_bytes: gauged(ENTRY_BYTES),
            journal_rows: gauged(JOURNAL_ROWS),
            journal_bytes: gauged(JOURNAL_BYTES),
            journal_limit: gauged(JOURNAL_LIMIT),
            ring_bytes: gauged(RING_BYTES),
            ring_limit: gauged(RING_LIMIT),
            feed_quiet: gauged(FEED_QUIET),
        }
    }

    pub fn publish(&self, entries: u64, bytes: u64, feed: &FeedMemory, quiet_us: u64) {
        self.entries.set(entries as f64);
        self.entry_bytes.set(bytes as f64);
        self.journal_rows.set(feed.journal_rows as f64);
        self.journal_bytes.set(feed.journal_bytes as f64);
        self.journal_limit.set(feed.journal_bytes_max as f64);
        self.ring_bytes.set(feed.ring_bytes as f64);
        self.ring_limit.set(feed.ring_bytes_max as f64);
        self.feed_quiet.set(quiet_us as f64 / 1e6);
    }
}
