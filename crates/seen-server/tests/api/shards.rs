//! Stores in memory as the shards of one: users are spread by their remainders, and what is asked or
//! written together must be of one shard.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use seen_filter::history::{
    Answers, Forgotten, HistorySize, Page, PageRequest, Question, RecentRequest, SeamFuture, Write,
};
use seen_filter::{
    ChangeFeed, CommitStamp, FeedError, FeedId, FeedReader, FeedStart, FenceSeq, History,
    Incarnation, NamespaceId, Shard, StoreError, UserId,
};
use seen_store::MemoryStore;

/// The shards, and how many pages were read.
pub struct Shards {
    stores: Vec<MemoryStore>,
    pages: Arc<AtomicUsize>,
}

impl Shards {
    pub fn new(stores: Vec<MemoryStore>, pages: Arc<AtomicUsize>) -> Self {
        Self { stores, pages }
    }

    fn shard_of(&self, user: UserId) -> usize {
        user.get() as usize % self.stores.len()
    }

    fn of(&self, user: UserId) -> &MemoryStore {
        &self.stores[self.shard_of(user)]
    }

    /// The one store of all these users.
    fn of_all(&self, users: impl Iterator<Item = UserId>) -> &MemoryStore {
        let mut shards: Vec<usize> = users.map(|user| self.shard_of(user)).collect();
        shards.dedup();
        assert!(shards.len() <= 1, "one call to the shards {shards:?}");
        &self.stores[shards.first().copied().unwrap_or(0)]
    }

    /// The store of a feed, and what it calls it.
    fn within(&self, feed: FeedId) -> (&MemoryStore, FeedId) {
        (&self.stores[usize::from(feed.shard.get())], FeedId { shard: Shard::new(0), ..feed })
    }
}

impl History for Shards {
    fn page(&self, request: PageRequest) -> SeamFuture<'_, Result<Page, StoreError>> {
        // Pages of one row are not builds.
        if request.rows_max > 1 {
            self.pages.fetch_add(1, Ordering::Relaxed);
        }
        self.of(request.user).page(request)
    }

    fn recent(&self, request: RecentRequest) -> SeamFuture<'_, Result<Page, StoreError>> {
        self.of(request.user).recent(request)
    }

    fn check(
        &self,
        namespace: NamespaceId,
        questions: Vec<Question>,
    ) -> SeamFuture<'_, Result<Answers, StoreError>> {
        let store = self.of_all(questions.iter().map(|question| question.user));
        store.check(namespace, questions)
    }

    fn write(&self, writes: Vec<Write>) -> SeamFuture<'_, Result<Option<CommitStamp>, StoreError>> {
        let store = self.of_all(writes.iter().map(|write| write.user));
        store.write(writes)
    }

    fn forget(
        &self,
        namespace: NamespaceId,
        user: UserId,
    ) -> SeamFuture<'_, Result<Forgotten, StoreError>> {
        self.of(user).forget(namespace, user)
    }

    fn fence(
        &self,
        feed: FeedId,
        users: Vec<UserId>,
        writer: Incarnation,
        seq: FenceSeq,
    ) -> SeamFuture<'_, Result<Option<CommitStamp>, StoreError>> {
        let (store, feed) = self.within(feed);
        store.fence(feed, users, writer, seq)
    }

    fn size(&self, namespace: NamespaceId) -> SeamFuture<'_, Result<HistorySize, StoreError>> {
        self.stores[0].size(namespace)
    }
}

impl ChangeFeed for Shards {
    fn feeds(&self) -> Vec<FeedId> {
        let of = |(shard, store): (u16, &MemoryStore)| {
            store.feeds().into_iter().map(move |feed| FeedId { shard: Shard::new(shard), ..feed })
        };
        (0..).zip(&self.stores).flat_map(of).collect()
    }

    fn feed_of(&self, namespace: NamespaceId, user: UserId) -> FeedId {
        let shard = Shard::new(self.shard_of(user) as u16);
        FeedId { shard, ..self.of(user).feed_of(namespace, user) }
    }

    fn shards(&self) -> u16 {
        self.stores.len() as u16
    }

    fn open(
        &self,
        feed: FeedId,
        start: FeedStart,
    ) -> SeamFuture<'_, Result<Box<dyn FeedReader>, FeedError>> {
        let (store, feed) = self.within(feed);
        store.open(feed, start)
    }
}
