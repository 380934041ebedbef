//! What the store's handle, its tasks and its readers share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use seen_filter::{
    CommitStamp, Domain, HashKey, PrimaryId, SnapshotId, StoreError, Timeline, UnixMillis,
};

use super::connection::ReadPool;
use super::lag::Lags;
use super::namespaces::Tables;
use super::options::SqliteOptions;
use super::stats::Counters;
use super::sweep::Grown;
use super::tail::{Head, Tail};

/// The embedded store numbers the commits of its one shard.
const DOMAIN: Domain = Domain::new(0);

/// Shared by everything that belongs to one open file.
#[derive(Debug)]
pub(crate) struct Inner {
    pub options: SqliteOptions,
    pub tables: Tables,
    pub hash_key: HashKey,
    pub partitions: u16,
    pub tail: Tail,
    /// How far readers have come.
    pub lags: Lags,
    pub pages: Arc<ReadPool>,
    pub checks: Arc<ReadPool>,
    pub counters: Counters,
    /// Users to be looked at where only the newest rows are kept.
    pub grown: Grown,
    /// How often other processes' commits were looked for; proof that the feed is fresh.
    pub polls: AtomicU64,
    /// Why they could not be, if so.
    pub poll_error: Mutex<Option<StoreError>>,
    latest_ms: AtomicU64,
}

impl Inner {
    pub(crate) fn new(
        options: SqliteOptions,
        tables: Tables,
        hash_key: HashKey,
        partitions: u16,
        head: Head,
    ) -> Self {
        let pages = ReadPool::new(&options, options.page_connections_max);
        let checks = ReadPool::new(&options, options.check_connections_max);
        Self {
            options,
            tables,
            hash_key,
            partitions,
            tail: Tail::new(head),
            lags: Lags::default(),
            pages,
            checks,
            counters: Counters::default(),
            grown: Grown::default(),
            polls: AtomicU64::new(0),
            poll_error: Mutex::new(None),
            latest_ms: AtomicU64::new(0),
        }
    }

    /// The storage time of a commit. It never goes back while the file is open: a clock that is put
    /// back must not give rows an older bucket, which would expire early when it is put right again
    /// (coherence row 42). Horizons are computed from the clock itself, which errs the other way.
    pub(crate) fn commit_time(&self) -> UnixMillis {
        let now = self.options.clock.now().get();
        UnixMillis::new(self.latest_ms.fetch_max(now, Ordering::Relaxed).max(now))
    }

    /// The stamp of a commit.
    pub(crate) fn stamp(&self, at: Head) -> CommitStamp {
        CommitStamp::new(DOMAIN, Timeline::new(at.timeline), at.position)
    }

    /// What a read saw whose transaction found this head: exactly the commits up to it. The one file
    /// is its own primary; a restored copy is another one.
    pub(crate) fn snapshot(&self, at: Head) -> SnapshotId {
        SnapshotId { primary: PrimaryId::new(at.timeline), lower_bound: Some(self.stamp(at)) }
    }
}
