//! What the store counts about itself.

use std::sync::atomic::{AtomicU64, Ordering};

/// Sizes of a histogram: its bucket `n` counts values of at most `2^n`, the last one all others.
pub const HISTOGRAM_BUCKETS: usize = 24;

/// A histogram with buckets of powers of two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// How many values fell in each bucket.
    pub buckets: [u64; HISTOGRAM_BUCKETS],
}

/// The store's counters since it was opened, and its size now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SqliteStats {
    /// Group commits made, those of forgets included.
    pub commits: u64,
    /// Calls (writes, forgets, fences) that shared them.
    pub calls: u64,
    /// Rows added or renewed.
    pub rows_appended: u64,
    /// Rows removed by calls; expiry and trimming are counted apart.
    pub rows_removed: u64,
    /// Rows removed because they had expired.
    pub rows_expired: u64,
    /// Rows removed because they were beyond their user's newest ones.
    pub rows_trimmed: u64,
    /// Commits dropped from the end of the change feed.
    pub log_commits_trimmed: u64,
    /// Calls per commit.
    pub commit_calls: Histogram,
    /// Rows per commit.
    pub commit_rows: Histogram,
    /// Duration of commits, in microseconds, waits for the disk included.
    pub commit_us: Histogram,
    /// Calls that wait for a commit now.
    pub pending_writes: u64,
    /// The last commit's number.
    pub head: u64,
    /// Size of the file, in bytes.
    pub file_bytes: u64,
    /// Size of the write-ahead log, in bytes.
    pub wal_bytes: u64,
}

/// One namespace's size, found by counting: a scan of the whole table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceSize {
    /// The namespace's name.
    pub name: String,
    /// Rows, expired ones that are still there included.
    pub rows: u64,
    /// Bytes of the pages of the table and its index.
    pub bytes: u64,
}

impl NamespaceSize {
    /// Bytes a row, 0 for an empty namespace.
    pub fn bytes_per_row(&self) -> f64 {
        if self.rows == 0 { 0.0 } else { self.bytes as f64 / self.rows as f64 }
    }
}

#[derive(Debug, Default)]
struct AtomicHistogram([AtomicU64; HISTOGRAM_BUCKETS]);

impl AtomicHistogram {
    fn record(&self, value: u64) {
        let bucket = value.max(1).next_power_of_two().ilog2() as usize;
        self.0[bucket.min(HISTOGRAM_BUCKETS - 1)].fetch_add(1, Ordering::Relaxed);
    }

    fn read(&self) -> Histogram {
        let buckets = std::array::from_fn(|n| self.0[n].load(Ordering::Relaxed));
        Histogram { buckets }
    }
}

/// What one commit did.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct CommitReport {
    pub calls: u64,
    pub appended: u64,
    pub removed: u64,
    pub took_us: u64,
}

/// The counters.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    commits: AtomicU64,
    calls: AtomicU64,
    appended: AtomicU64,
    removed: AtomicU64,
    pub expired: AtomicU64,
    pub trimmed: AtomicU64,
    pub log_trimmed: AtomicU64,
    commit_calls: AtomicHistogram,
    commit_rows: AtomicHistogram,
    commit_us: AtomicHistogram,
}

impl Counters {
    /// Counts a commit.
    pub(crate) fn committed(&self, report: &CommitReport) {
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.calls.fetch_add(report.calls, Ordering::Relaxed);
        self.appended.fetch_add(report.appended, Ordering::Relaxed);
        self.removed.fetch_add(report.removed, Ordering::Relaxed);
        self.commit_calls.record(report.calls);
        self.commit_rows.record(report.appended + report.removed);
        self.commit_us.record(report.took_us);
    }

    /// The counters now; sizes are filled in by the caller.
    pub(crate) fn read(&self) -> SqliteStats {
        let of = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        SqliteStats {
            commits: of(&self.commits),
            calls: of(&self.calls),
            rows_appended: of(&self.appended),
            rows_removed: of(&self.removed),
            rows_expired: of(&self.expired),
            rows_trimmed: of(&self.trimmed),
            log_commits_trimmed: of(&self.log_trimmed),
            commit_calls: self.commit_calls.read(),
            commit_rows: self.commit_rows.read(),
            commit_us: self.commit_us.read(),
            ..SqliteStats::default()
        }
    }
}
