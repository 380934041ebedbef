//! How far the change feed is applied by the replicas that follow it.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use seen_filter::FeedId;

#[derive(Debug, Default)]
struct Inner {
    readers: u64,
    /// By partition and reader, up to which commit all was applied.
    through: BTreeMap<(FeedId, u64), u64>,
}

/// How far each replica has applied each partition that it follows.
#[derive(Debug, Default)]
pub struct Applied(Mutex<Inner>);

impl Applied {
    /// Somebody follows a partition: what was committed until now is in all it reads. Gives its number.
    pub(super) fn follow(&self, feed: FeedId, through: u64) -> u64 {
        let mut inner = self.0.lock();
        inner.readers += 1;
        let reader = inner.readers;
        inner.through.insert((feed, reader), through);
        reader
    }

    /// It has applied all up to this commit.
    pub(super) fn advance(&self, feed: FeedId, reader: u64, through: u64) {
        if let Some(known) = self.0.lock().through.get_mut(&(feed, reader)) {
            *known = (*known).max(through);
        }
    }

    /// It does not follow any more.
    pub(super) fn leave(&self, feed: FeedId, reader: u64) {
        self.0.lock().through.remove(&(feed, reader));
    }

    /// What everybody has applied who follows a partition. Nothing, if nobody does.
    pub fn everywhere(&self, feed: FeedId) -> u64 {
        let inner = self.0.lock();
        let of_feed = inner.through.range((feed, 0)..=(feed, u64::MAX));
        of_feed.map(|(_, through)| *through).min().unwrap_or(0)
    }
}
