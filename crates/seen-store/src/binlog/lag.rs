//! How far the reading of a feed's log is behind what its server writes.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use seen_filter::FeedLag;

/// One feed, as its newest reader knows it. How many transactions follow the log does not say.
#[derive(Debug, Default)]
pub(super) struct Lag {
    /// The number of the next transaction; 0 before anything was read.
    next: AtomicU64,
    /// Everything that was committed before this has been read, in milliseconds since 1970.
    through_ms: AtomicI64,
    /// Nothing followed when the server was heard last.
    is_idle: AtomicBool,
}

impl Lag {
    /// The server had nothing more.
    pub fn idle(&self, done: u64) {
        self.note(done, now_ms());
        self.is_idle.store(true, Ordering::Release);
    }

    /// An event of the log was read that the server wrote at this second (0: it does not say).
    pub fn read(&self, done: u64, at_s: u32) {
        self.is_idle.store(false, Ordering::Release);
        self.note(done, i64::from(at_s) * 1_000);
    }

    /// The connection has ended: what follows is not known.
    pub fn lost(&self) {
        self.is_idle.store(false, Ordering::Release);
    }

    fn note(&self, done: u64, through_ms: i64) {
        self.next.store(done.saturating_add(1), Ordering::Release);
        if through_ms > 0 {
            self.through_ms.store(through_ms, Ordering::Release);
        }
    }

    /// How far it is behind; `None` before anything was read.
    pub fn told(&self) -> Option<FeedLag> {
        self.told_at(now_ms())
    }

    fn told_at(&self, now_ms: i64) -> Option<FeedLag> {
        let next = self.next.load(Ordering::Acquire);
        let through_ms = self.through_ms.load(Ordering::Acquire);
        let behind_ms = match self.is_idle.load(Ordering::Acquire) {
            true => Some(0),
            // The server's clock may be ahead of this one.
            false if through_ms > 0 => Some(u64::try_from(now_ms - through_ms).unwrap_or(0)),
            false => None,
        };
        let records = (behind_ms == Some(0)).then_some(0);
        (next > 0).then_some(FeedLag { position: Some(next), records, behind_ms })
    }
}

fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_as_far_behind_as_what_was_read_last_is_old() {
        let lag = Lag::default();
        assert_eq!(lag.told_at(10_000), None, "nothing was read");
        lag.read(7, 8);
        let behind = FeedLag { position: Some(8), records: None, behind_ms: Some(2_000) };
        assert_eq!(lag.told_at(10_000), Some(behind));
        // An event that does not say when it was written changes nothing of that.
        lag.read(8, 0);
        assert_eq!(lag.told_at(10_000), Some(FeedLag { position: Some(9), ..behind }));
        lag.idle(8);
        let none = FeedLag { position: Some(9), records: Some(0), behind_ms: Some(0) };
        assert_eq!(lag.told(), Some(none));
        lag.lost();
        let later = lag.told_at(now_ms() + 5_000).expect("a lag");
        assert_eq!((later.position, later.records), (Some(9), None));
        assert!(later.behind_ms.is_some_and(|ms| ms >= 5_000), "{later:?}");
    }
}
