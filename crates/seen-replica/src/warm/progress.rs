//! How far a warm-up is, for readiness, for metrics, and for people.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use crate::rules::Refusal;

/// What became of one entry that a donor gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is in memory now.
    Installed,
    /// A believed entry was in memory before.
    Held,
    /// The user belongs to another replica, or to a namespace that is not the same here.
    NotOwned,
    /// A rule refused it.
    Refused(Refusal),
}

impl Taken {
    /// A short stable name, used as a metric label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Installed => "installed",
            Self::Held => "held",
            Self::NotOwned => "not_owned",
            Self::Refused(refusal) => refusal.label(),
        }
    }
}

/// How far a warm-up is. Shared between whoever takes entries and whoever looks on.
#[derive(Debug, Default)]
pub struct Progress {
    installed: AtomicU64,
    held: AtomicU64,
    not_owned: AtomicU64,
    refused: AtomicU64,
    bytes: AtomicU64,
    /// Of the present donor.
    expected: AtomicU64,
    expected_hot: AtomicU64,
    taken: AtomicU64,
    taken_hot: AtomicU64,
    /// Donors done with, and all donors there are.
    donors_done: AtomicU32,
    donors: AtomicU32,
    over: AtomicBool,
}

/// A warm-up at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ProgressView {
    /// Users whose entries were installed.
    pub installed: u64,
    /// Users whose entries were in memory before.
    pub held: u64,
    /// Users that belong to other replicas.
    pub not_owned: u64,
    /// Users whose entries a rule refused: built from storage when they are asked for.
    pub refused: u64,
    /// Bytes of all entries that came.
    pub bytes: u64,
    /// Users that the present donor has announced.
    pub expected: u64,
    /// Share of the donors' hot users that are dealt with, 0 to 1.
    pub share: f64,
    /// Nothing more will come.
    pub over: bool,
}

impl Progress {
    /// A warm-up that has not begun.
    pub fn new() -> Self {
        Self::default()
    }

    /// One that is not wanted: nobody waits for it.
    pub fn none() -> Self {
        let progress = Self::new();
        progress.end();
        progress
    }

    pub(super) fn set_donors(&self, done: usize, all: usize) {
        self.donors.store(all as u32, Ordering::Relaxed);
        self.donors_done.store(done as u32, Ordering::Relaxed);
        for count in [&self.expected, &self.expected_hot, &self.taken, &self.taken_hot] {
            count.store(0, Ordering::Relaxed);
        }
    }

    pub(super) fn expect(&self, users: u64, hot_users: u64) {
        self.expected.store(users, Ordering::Relaxed);
        self.expected_hot.store(hot_users, Ordering::Relaxed);
    }

    pub(super) fn count(&self, taken: Taken, heat: u8, bytes: usize) {
        let count = match taken {
            Taken::Installed => &self.installed,
            Taken::Held => &self.held,
            Taken::NotOwned => &self.not_owned,
            Taken::Refused(_) => &self.refused,
        };
        count.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.taken.fetch_add(1, Ordering::Relaxed);
        // What was refused is no warmer than before.
        if heat > 0 && !matches!(taken, Taken::Refused(_)) {
            self.taken_hot.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// It is over, or there is none.
    pub fn end(&self) {
        self.over.store(true, Ordering::Release);
    }

    /// How far it is now.
    pub fn view(&self) -> ProgressView {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        ProgressView {
            installed: get(&self.installed),
            held: get(&self.held),
            not_owned: get(&self.not_owned),
            refused: get(&self.refused),
            bytes: get(&self.bytes),
            expected: get(&self.expected),
            share: self.share(),
            over: self.over.load(Ordering::Acquire),
        }
    }

    fn share(&self) -> f64 {
        if self.over.load(Ordering::Acquire) {
            return 1.0;
        }
        let donors = self.donors.load(Ordering::Relaxed);
        if donors == 0 {
            return 0.0;
        }
        let done = f64::from(self.donors_done.load(Ordering::Relaxed));
        let (hot, of) = (
            self.taken_hot.load(Ordering::Relaxed) as f64,
            self.expected_hot.load(Ordering::Relaxed) as f64,
        );
        // A donor that has announced nothing yet has given nothing.
        let present = if of > 0.0 { (hot / of).min(1.0) } else { 0.0 };
        ((done + present) / f64::from(donors)).min(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_counts_hot_users_that_are_warm_now() {
        let progress = Progress::new();
        assert_eq!(progress.view().share, 0.0);
        progress.set_donors(0, 2);
        progress.expect(10, 4);
        progress.count(Taken::Installed, 3, 100);
        progress.count(Taken::Held, 1, 100);
        progress.count(Taken::Refused(Refusal::StaleSnapshot), 2, 100);
        progress.count(Taken::Installed, 0, 100);
        let view = progress.view();
        assert_eq!((view.share, view.bytes, view.refused), (0.25, 400, 1));
        progress.set_donors(1, 2);
        assert_eq!(progress.view().share, 0.5);
        progress.end();
        assert_eq!(progress.view().share, 1.0);
    }
}
