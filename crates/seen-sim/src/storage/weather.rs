//! What befalls storage, and the ways to it.

use std::collections::BTreeSet;

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::process::Host;

/// How storage fares.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Conditions {
    /// It answers nobody, and goes on with what it was asked once it does.
    pub silent: bool,
    /// The change feed brings nothing, not even a sign of life.
    pub feed_silent: bool,
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
    /// Builds that do not learn what they read.
    pub unknown_builds_per_mille: u64,
    /// Writes that are committed, and the answer is lost.
    pub lose_committed_per_mille: u64,
    /// Writes that are not, and the answer is lost as well.
    pub lose_uncommitted_per_mille: u64,
    /// Writes whose answer is lost, and which are committed later.
    pub stall_per_mille: u64,
}

/// The weather between processes and storage.
#[derive(Debug, Default)]
pub struct Weather {
    now: Mutex<Conditions>,
    away: Mutex<BTreeSet<Host>>,
    changed: Notify,
}

impl Weather {
    /// As it is.
    pub fn now(&self) -> Conditions {
        *self.now.lock()
    }

    /// It changes.
    pub fn set(&self, change: impl FnOnce(&mut Conditions)) {
        change(&mut self.now.lock());
        self.changed.notify_waiters();
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
        *self.now.lock() = Conditions::default();
        self.away.lock().clear();
        self.changed.notify_waiters();
    }

    /// Waits until storage answers a machine.
    pub async fn answers(&self, host: Host) {
        self.wait(host, |conditions| conditions.silent).await;
    }

    /// Waits until the change feed reaches a machine.
    pub async fn feeds(&self, host: Host) {
        self.wait(host, |conditions| conditions.feed_silent).await;
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
