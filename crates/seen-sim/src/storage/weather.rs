//! What befalls storage, and the ways to it.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use seen_filter::{Partition, UserId};
use tokio::sync::Notify;

use crate::process::Host;

/// How storage fares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// It answers nobody, and goes on with what it was asked once it does.
    pub silent: bool,
    /// The change feed brings nothing, not even a sign of life.
    pub feed_silent: bool,
    /// One partition of it does not, so that others go ahead of it.
    pub silent_partition: Option<Partition>,
    /// The user of whom no event of an item can be read.
    pub poisoned: Option<UserId>,
    /// What each way to it and back takes longer, in milliseconds.
    pub slow_ms: u64,
    /// What the change feed is late, in milliseconds.
    pub feed_late_ms: u64,
    /// Reads that are refused, of a thousand; so on.
    pub refuse_reads_per_mille: u64,
    /// Writes that are refused.
    pub refuse_writes_per_mille: u64,
    /// Builds that read a state of some commits ago.
    pub stale_builds_per_mille: u64,
    /// Builds that read a state of a while ago, within S, and do not learn which.
    pub lagging_builds_per_mille: u64,
    /// Builds that do not learn what they read.
    pub unknown_builds_per_mille: u64,
    /// Answers that take long.
    pub straggle_per_mille: u64,
    /// Writes that are committed, and the answer is lost.
    pub lose_committed_per_mille: u64,
    /// Writes that are not, and the answer is lost as well.
    pub lose_uncommitted_per_mille: u64,
    /// Writes whose answer is lost, and which are committed later.
    pub stall_per_mille: u64,
}

impl Conditions {
    /// Both at once.
    fn and(self, other: Self) -> Self {
        Self {
            silent: self.silent || other.silent,
            feed_silent: self.feed_silent || other.feed_silent,
            silent_partition: other.silent_partition.or(self.silent_partition),
            poisoned: other.poisoned.or(self.poisoned),
            slow_ms: self.slow_ms + other.slow_ms,
            feed_late_ms: self.feed_late_ms.max(other.feed_late_ms),
            refuse_reads_per_mille: self.refuse_reads_per_mille.max(other.refuse_reads_per_mille),
            refuse_writes_per_mille: self
                .refuse_writes_per_mille
                .max(other.refuse_writes_per_mille),
            stale_builds_per_mille: self.stale_builds_per_mille.max(other.stale_builds_per_mille),
            lagging_builds_per_mille: self
                .lagging_builds_per_mille
                .max(other.lagging_builds_per_mille),
            straggle_per_mille: self.straggle_per_mille.max(other.straggle_per_mille),
            unknown_builds_per_mille: self
                .unknown_builds_per_mille
                .max(other.unknown_builds_per_mille),
            lose_committed_per_mille: self
                .lose_committed_per_mille
                .max(other.lose_committed_per_mille),
            lose_uncommitted_per_mille: self
                .lose_uncommitted_per_mille
                .max(other.lose_uncommitted_per_mille),
            stall_per_mille: self.stall_per_mille.max(other.stall_per_mille),
        }
    }
}

/// The weather between processes and storage.
#[derive(Debug, Default)]
pub struct Weather {
    /// What is wrong, each by itself.
    wrong: Mutex<Vec<Conditions>>,
    away: Mutex<BTreeSet<Host>>,
    /// The newest commit that followers may have lost.
    lost: AtomicU64,
    changed: Notify,
}

impl Weather {
    /// As it is.
    pub fn now(&self) -> Conditions {
        self.wrong.lock().iter().copied().fold(Conditions::default(), Conditions::and)
    }

    /// Something goes wrong, beside what is wrong already.
    pub fn begin(&self, wrong: Conditions) {
        self.wrong.lock().push(wrong);
        self.changed.notify_waiters();
    }

    /// It is over; what else is wrong goes on.
    pub fn end(&self, over: Conditions) {
        let mut wrong = self.wrong.lock();
        if let Some(at) = wrong.iter().position(|wrong| *wrong == over) {
            wrong.remove(at);
        }
        drop(wrong);
        self.changed.notify_waiters();
    }

    /// Followers may have lost the events up to this commit. No read that begins from now on is older.
    pub fn lose(&self, commit: u64) {
        self.lost.fetch_max(commit, Ordering::Relaxed);
    }

    /// The newest commit that followers may have lost, 0 if there is none.
    pub(super) fn lost(&self) -> u64 {
        self.lost.load(Ordering::Relaxed)
    }

    /// A machine cannot reach storage any more.
    pub fn part(&self, host: Host) {
        self.away.lock().insert(host);
    }

    /// It can.
    pub fn join(&self, host: Host) {
        self.away.lock().remove(&host);
        self.changed.notify_waiters();
    }

    /// All is well.
    pub fn heal(&self) {
        self.wrong.lock().clear();
        self.away.lock().clear();
        self.changed.notify_waiters();
    }

    /// Waits until storage answers a machine.
    pub async fn answers(&self, host: Host) {
        self.wait(host, |conditions| conditions.silent).await;
    }

    /// True if a partition of the change feed brings nothing to anybody.
    pub fn is_silent(&self, partition: Partition) -> bool {
        silences(&self.now(), partition)
    }

    /// Waits until a partition of the change feed reaches a machine.
    pub async fn feeds(&self, host: Host, partition: Partition) {
        self.wait(host, |conditions| silences(conditions, partition)).await;
    }

    async fn wait(&self, host: Host, is_silent: impl Fn(&Conditions) -> bool) {
        loop {
            let changed = self.changed.notified();
            if !is_silent(&self.now()) && !self.away.lock().contains(&host) {
                return;
            }
            changed.await;
        }
    }
}

fn silences(conditions: &Conditions, partition: Partition) -> bool {
    conditions.feed_silent || conditions.silent_partition == Some(partition)
}
