//! A store whose changes nobody tells. Nothing may be cached then (rule R7): every answer is asked of
//! storage, and is right, at storage's price.

use seen_filter::history::SeamFuture;
use seen_filter::{
    ChangeFeed, FeedError, FeedId, FeedReader, FeedStart, NamespaceId, Partition, Shard, UserId,
};

/// A change feed without feeds.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoFeed;

impl ChangeFeed for NoFeed {
    fn feeds(&self) -> Vec<FeedId> {
        Vec::new()
    }

    fn feed_of(&self, namespace: NamespaceId, _user: UserId) -> FeedId {
        FeedId::new(namespace, Shard::new(0), Partition::new(0))
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
