//! How far readers have come in the commit log.

use std::collections::HashMap;

use parking_lot::Mutex;
use seen_filter::{FeedId, FeedLag};
use tokio::time::Instant;

use super::tail::Head;

/// Where the newest reader of a feed is.
#[derive(Clone, Copy, Debug)]
struct Followed {
    timeline: u64,
    /// The next commit that it will deliver.
    next: u64,
    /// When nothing followed, or it was opened.
    at_head: Instant,
}

/// All feeds that are read.
#[derive(Debug, Default)]
pub(crate) struct Lags(Mutex<HashMap<FeedId, Followed>>);

impl Lags {
    /// A reader will deliver this commit next; `is_at_head` if it is not made yet.
    pub fn come_to(&self, feed: FeedId, timeline: u64, next: u64, is_at_head: bool) {
        let now = Instant::now();
        let mut all = self.0.lock();
        let known = all.entry(feed).or_insert(Followed { timeline, next, at_head: now });
        (known.timeline, known.next) = (timeline, next);
        if is_at_head {
            known.at_head = now;
        }
    }

    /// How far a feed's reader is behind; `None` if there was none.
    pub fn of(&self, feed: FeedId, head: Head) -> Option<FeedLag> {
        let known = self.0.lock().get(&feed).copied()?;
        let records = (known.timeline == head.timeline)
            .then(|| head.position.saturating_add(1).saturating_sub(known.next));
        let behind_ms = match records {
            Some(0) => 0,
            _ => u64::try_from(known.at_head.elapsed().as_millis()).unwrap_or(u64::MAX),
        };
        Some(FeedLag { position: Some(known.next), records, behind_ms: Some(behind_ms) })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use seen_filter::{NamespaceId, Partition, Shard};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn commits_that_follow_are_counted_since_nothing_did() {
        let feed = FeedId::new(NamespaceId::new(0), Shard::new(0), Partition::new(1));
        let (lags, head) = (Lags::default(), Head { timeline: 5, position: 9 });
        assert_eq!(lags.of(feed, head), None);
        lags.come_to(feed, 5, 10, true);
        let none = FeedLag { position: Some(10), records: Some(0), behind_ms: Some(0) };
        assert_eq!(lags.of(feed, head), Some(none));
        tokio::time::advance(Duration::from_millis(700)).await;
        let later = Head { position: 12, ..head };
        let some = FeedLag { position: Some(10), records: Some(3), behind_ms: Some(700) };
        assert_eq!(lags.of(feed, later), Some(some));
        lags.come_to(feed, 5, 12, false);
        let one = FeedLag { position: Some(12), records: Some(1), ..some };
        assert_eq!(lags.of(feed, later), Some(one));
        // Another copy's numbers say nothing of how many follow.
        let other = lags.of(feed, Head { timeline: 6, position: 12 }).expect("a lag");
        assert_eq!((other.records, other.behind_ms), (None, Some(700)));
    }
}
