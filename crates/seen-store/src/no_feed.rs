//! A store whose changes nobody tells. Nothing may be cached then (rule R7): every answer is asked of
//! storage, and is right, at storage's price.

use seen_filter::history::SeamFuture;
use seen_filter::{
    ChangeFeed, FeedError, FeedId, FeedReader, FeedStart, HashKey, NamespaceId, Partition, Shard,
    UserId,
};

use crate::request::partition_of;

/// A change feed without feeds.
#[derive(Clone, Copy, Debug)]
pub struct NoFeed {
    hash_key: HashKey,
    shards: u16,
}

impl NoFeed {
    /// For a store of so many shards.
    pub fn new(hash_key: HashKey, shards: u16) -> Self {
        Self { hash_key, shards: shards.max(1) }
    }
}

impl ChangeFeed for NoFeed {
    fn feeds(&self) -> Vec<FeedId> {
        Vec::new()
    }

    /// The shard is the user's: work at storage is kept apart by it.
    fn feed_of(&self, namespace: NamespaceId, user: UserId) -> FeedId {
        let shard = Shard::new(partition_of(&self.hash_key, user, self.shards).get());
        FeedId::new(namespace, shard, Partition::new(0))
    }

    fn shards(&self) -> u16 {
        self.shards
    }

    fn open(
        &self,
        feed: FeedId,
        _start: FeedStart,
    ) -> SeamFuture<'_, Result<Box<dyn FeedReader>, FeedError>> {
        let message = format!("feed {feed} is unknown: this store has no change feed");
        Box::pin(async { Err(FeedError { message, retry_helps: false }) })
    }
}
