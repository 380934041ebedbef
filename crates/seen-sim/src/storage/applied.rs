//! How far the change feed is applied by the replicas that follow it.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use seen_filter::FeedId;

/// How far one reader of a partition has come.
#[derive(Clone, Copy, Debug)]
struct Reach {
    /// Up to this commit all was applied.
    through: u64,
    /// As `through`, but of what was delivered since the reader was last told that events may be missing. It may have been
    /// sent back then, and hear of old commits as if they were new ones.
    anew: u64,
}

#[derive(Debug, Default)]
struct Inner {
    readers: u64,
    /// By partition and reader.
    reaches: BTreeMap<(FeedId, u64), Reach>,
}

impl Inner {
    /// Of everybody who follows a partition. Nothing, if nobody does.
    fn least(&self, feed: FeedId, of: impl Fn(&Reach) -> u64) -> u64 {
        let of_feed = self.reaches.range((feed, 0)..=(feed, u64::MAX));
        of_feed.map(|(_, reach)| of(reach)).min().unwrap_or(0)
    }
}

/// How far each replica has applied each partition that it follows.
#[derive(Debug, Default)]
pub struct Applied(Mutex<Inner>);

impl Applied {
    /// Somebody follows a partition from after this commit: what came before is in all that it takes from storage or peers. Gives its
    /// number.
    pub(super) fn follow(&self, feed: FeedId, through: u64) -> u64 {
        let mut inner = self.0.lock();
        inner.readers += 1;
        let reader = inner.readers;
        inner.reaches.insert((feed, reader), Reach { through, anew: through });
        reader
    }

    /// It has applied all up to this commit.
    pub(super) fn advance(&self, feed: FeedId, reader: u64, through: u64) {
        if let Some(known) = self.0.lock().reaches.get_mut(&(feed, reader)) {
            known.through = known.through.max(through);
            known.anew = known.anew.max(through);
        }
    }

    /// It was told that events may be missing, and may hear of old ones again.
    pub(super) fn begin_anew(&self, feed: FeedId, reader: u64) {
        if let Some(known) = self.0.lock().reaches.get_mut(&(feed, reader)) {
            known.anew = 0;
        }
    }

    /// It does not follow any more.
    pub(super) fn leave(&self, feed: FeedId, reader: u64) {
        self.0.lock().reaches.remove(&(feed, reader));
    }

    /// What everybody has applied who follows a partition. Nothing, if nobody does.
    pub fn everywhere(&self, feed: FeedId) -> u64 {
        self.0.lock().least(feed, |reach| reach.through)
    }

    /// As [`everywhere`](Self::everywhere), but nobody hears again of what is older: where the feed begins anew with old
    /// commits, an item that was removed is read again until it comes to the removal.
    pub fn for_good(&self, feed: FeedId) -> u64 {
        self.0.lock().least(feed, |reach| reach.anew)
    }
}
