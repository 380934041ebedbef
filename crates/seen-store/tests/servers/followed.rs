//! A store on a server together with the feed of its binary log: what the whole suite asks for.

use std::sync::Arc;

use seen_filter::history::{
    Answers, Forgotten, HistorySize, Page, PageRequest, Question, RecentRequest, SeamFuture, Write,
};
use seen_filter::{
    ChangeFeed, CommitStamp, FeedError, FeedId, FeedReader, FeedStart, FenceSeq, History,
    Incarnation, NamespaceId, NamespaceSettings, Scan, ScanPage, ScanRequest, Shard,
    SourcePosition, StoreError, StoreErrorKind, UserId, VirtualSlot,
};
use seen_store::conformance::Fixture;
use seen_store::{BinlogFeed, MySqlStore, StorageClock};

/// Makes stores that are followed.
pub struct Followed<F>(pub F);

/// A store and its feed.
pub struct Both {
    store: Arc<MySqlStore>,
    feed: Arc<BinlogFeed>,
}

impl<F: Fixture<Store = MySqlStore>> Fixture for Followed<F> {
    type Store = Both;

    async fn open(&self, namespaces: Vec<NamespaceSettings>, clock: StorageClock) -> Arc<Both> {
        let store = self.0.open(namespaces, clock).await;
        let options = store.binlog_options().expect("a binary log");
        let feed = BinlogFeed::new(options).expect("a feed");
        Arc::new(Both { store, feed })
    }
}

impl History for Both {
    fn page(&self, request: PageRequest) -> SeamFuture<'_, Result<Page, StoreError>> {
        self.store.page(request)
    }

    fn recent(&self, request: RecentRequest) -> SeamFuture<'_, Result<Page, StoreError>> {
        self.store.recent(request)
    }

    fn check(
        &self,
        namespace: NamespaceId,
        questions: Vec<Question>,
    ) -> SeamFuture<'_, Result<Answers, StoreError>> {
        self.store.check(namespace, questions)
    }

    fn write(&self, writes: Vec<Write>) -> SeamFuture<'_, Result<Option<CommitStamp>, StoreError>> {
        self.store.write(writes)
    }

    fn forget(
        &self,
        namespace: NamespaceId,
        user: UserId,
    ) -> SeamFuture<'_, Result<Forgotten, StoreError>> {
        self.store.forget(namespace, user)
    }

    fn fence(
        &self,
        feed: FeedId,
        users: Vec<UserId>,
        writer: Incarnation,
        seq: FenceSeq,
    ) -> SeamFuture<'_, Result<Option<CommitStamp>, StoreError>> {
        Box::pin(async move {
            if !self.feed.feeds().contains(&feed) {
                let message = format!("feed {feed} is unknown");
                return Err(StoreError::new(StoreErrorKind::InvalidRequest, message));
            }
            self.store.fence(feed, users, writer, seq).await
        })
    }

    fn size(&self, namespace: NamespaceId) -> SeamFuture<'_, Result<HistorySize, StoreError>> {
        self.store.size(namespace)
    }
}

impl Scan for Both {
    fn parts(&self) -> u16 {
        self.store.parts()
    }

    fn position(&self, part: Shard) -> SeamFuture<'_, Result<Option<SourcePosition>, StoreError>> {
        self.store.position(part)
    }

    fn scan(&self, request: ScanRequest) -> SeamFuture<'_, Result<ScanPage, StoreError>> {
        self.store.scan(request)
    }
}

impl ChangeFeed for Both {
    fn feeds(&self) -> Vec<FeedId> {
        self.feed.feeds()
    }

    fn feed_of(&self, namespace: NamespaceId, user: UserId) -> FeedId {
        self.feed.feed_of(namespace, user)
    }

    fn carries(&self, feed: FeedId, slot: VirtualSlot) -> bool {
        self.feed.carries(feed, slot)
    }

    fn shards(&self) -> u16 {
        self.feed.shards()
    }

    fn open(
        &self,
        feed: FeedId,
        start: FeedStart,
    ) -> SeamFuture<'_, Result<Box<dyn FeedReader>, FeedError>> {
        self.feed.open(feed, start)
    }
}
