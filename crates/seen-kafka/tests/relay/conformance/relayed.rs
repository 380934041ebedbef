//! A store whose changes are told by Kafka alone: a relay writes them to a topic, and the topic is followed.

use std::collections::HashMap;
use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use seen_dialect::{FollowedTable, KindOf, TableRole};
use seen_filter::feed::FeedProof;
use seen_filter::history::{
    Answers, Forgotten, HistorySize, Page, PageRequest, Question, RecentRequest, SeamFuture, Write,
};
use seen_filter::{
    ChangeFeed, CommitStamp, FeedError, FeedEvent, FeedId, FeedReader, FeedStart, FenceSeq,
    History, Incarnation, Kind, NamespaceId, NamespaceSettings, Partition, Scan, ScanPage,
    ScanRequest, Shard, SourcePosition, StoreError, Timeline, UserId, VirtualSlot,
};
use seen_kafka::relay::{RelayOptions, relay};
use seen_kafka::{KafkaFeed, KafkaOptions, Partitioner, SchemaOptions, TopicOptions};
use seen_store::conformance::Fixture;
use seen_store::memory::MemoryOptions;
use seen_store::{MemoryStore, StorageClock};
use tokio::sync::{OnceCell, watch};
use tokio::task::JoinHandle;

use super::super::stage::PATIENCE;
use super::brokers::Brokers;

/// How the store in memory calls its numbering.
const TIMELINE: Timeline = Timeline::new(1);

/// Makes stores whose changes go through these brokers.
pub struct Through {
    pub brokers: Brokers,
    /// Whether writes are told their stamps.
    pub numbers_commits: bool,
}

/// A store in memory, its relay, and the feed of the relay's topic.
pub struct Relayed {
    memory: MemoryStore,
    options: RelayOptions,
    /// Begins when somebody wants to read what it writes.
    relay: OnceCell<JoinHandle<()>>,
    feed: Arc<KafkaFeed>,
}

impl Drop for Relayed {
    fn drop(&mut self) {
        if let Some(relay) = self.relay.get() {
            relay.abort();
        }
    }
}

impl Fixture for Through {
    type Store = Relayed;

    async fn open(&self, namespaces: Vec<NamespaceSettings>, clock: StorageClock) -> Arc<Relayed> {
        let options = MemoryOptions {
            partitions: 1,
            numbers_commits: self.numbers_commits,
            timeline: TIMELINE,
            ..MemoryOptions::new(clock, 1)
        };
        let memory = MemoryStore::new(options, namespaces.clone()).expect("a store");
        let names: Vec<_> = namespaces.into_iter().map(|one| (one.id, one.name)).collect();
        let topic = self.brokers.topic();
        let options = self.relay_options(&memory, &topic, names.clone());
        let followed = self.feed_options(&memory, topic, names);
        let feed = tokio::task::spawn_blocking(move || KafkaFeed::connect(followed));
        let feed = feed.await.expect("no panic").expect("a feed");
        Arc::new(Relayed { memory, options, relay: OnceCell::new(), feed })
    }
}

impl Through {
    fn relay_options(
        &self,
        memory: &MemoryStore,
        topic: &str,
        namespaces: Vec<(NamespaceId, String)>,
    ) -> RelayOptions {
        RelayOptions {
            brokers: self.brokers.bootstrap(),
            client: Default::default(),
            topics: vec![topic.to_owned()],
            hash_key: memory.hash_key(),
            namespaces,
            create: None,
            commit_interval_ms: 1,
            commit_bytes: 1 << 20,
            batch_events_max: 64,
            transaction_timeout_ms: 10_000,
            connect_timeout_ms: 10_000,
            once: true,
        }
    }

    fn feed_options(
        &self,
        memory: &MemoryStore,
        topic: String,
        namespaces: Vec<(NamespaceId, String)>,
    ) -> KafkaOptions {
        let table = |(id, name): &(NamespaceId, String)| {
            let role = TableRole::History {
                user: "user_id".to_owned(),
                item: "item_id".to_owned(),
                kind: KindOf::Constant(Kind::new(1)),
                time: None,
                deleted: None,
            };
            (Some(*id), FollowedTable { database: "db".to_owned(), table: name.clone(), role })
        };
        let topic = TopicOptions {
            shard: Shard::new(0),
            topic,
            partitioner: Partitioner::Slots(memory.hash_key()),
            tables: namespaces.iter().map(table).collect(),
            namespaces,
            namespace_ids: watch::channel(HashMap::new()).1,
        };
        KafkaOptions {
            brokers: self.brokers.bootstrap(),
            // A broker answers one question of a client after the other: opening a reader waits for
            // the fetch that is under way.
            client: [("fetch.wait.max.ms".to_owned(), "10".to_owned())].into(),
            topics: vec![topic],
            hash_key: memory.hash_key(),
            dialect: None,
            schemas: SchemaOptions::default(),
            proof: FeedProof::Fences,
            stamp_of: Arc::new(|_, _| None),
            partitions: None,
            connect_timeout_ms: 10_000,
            heartbeat_ms: 20,
            queue_events_max: 1_024,
            fetch_kib_max: 1_024,
            dead_letters: None,
        }
    }
}

impl Relayed {
    async fn begin(&self) -> JoinHandle<()> {
        let source: Arc<dyn ChangeFeed> = Arc::new(self.memory.clone());
        // A relay that begins puts all in doubt; the next one goes on where it ended.
        let begun = relay(Arc::clone(&source), self.options.clone(), pending()).await;
        begun.expect("a beginning");
        let options = RelayOptions { once: false, ..self.options.clone() };
        tokio::spawn(async move {
            relay(source, options, pending()).await.expect("it goes on");
        })
    }

    /// Waits until the topic has told a feed of all that was committed, and has nothing more to tell: the
    /// suite asks for the store's head, and a copy's is wherever it has come to.
    async fn settle(&self, feed: FeedId) -> Result<(), FeedError> {
        static WRITER: AtomicU64 = AtomicU64::new(1 << 63);
        let writer = Incarnation::new(WRITER.fetch_add(1, Ordering::Relaxed));
        let mut reader = self.feed.open(feed, FeedStart::Head).await?;
        let users = self.feed.fence_users(feed);
        let fenced = self.fence(feed, users, writer, FenceSeq::new(1)).await;
        fenced.expect("the feed is known");
        let head = self.memory.head();
        let (mut came, mut completed) = (false, false);
        let began = std::time::Instant::now();
        loop {
            assert!(began.elapsed() < PATIENCE, "the relay does not come to the head");
            let batch = reader.next(1_000).await?;
            for event in batch.events {
                match event {
                    FeedEvent::Fence { writer: other, .. } => came |= other == writer,
                    FeedEvent::Complete { stamp } => {
                        completed |= stamp.timeline == TIMELINE && stamp.position >= head;
                    }
                    _ => {}
                }
            }
            if came && completed && batch.caught_up {
                return Ok(());
            }
        }
    }
}

impl ChangeFeed for Relayed {
    fn feeds(&self) -> Vec<FeedId> {
        self.feed.feeds()
    }

    fn feed_of(&self, namespace: NamespaceId, user: UserId) -> FeedId {
        self.feed.feed_of(namespace, user)
    }

    fn carries(&self, feed: FeedId, slot: VirtualSlot) -> bool {
        self.feed.carries(feed, slot)
    }

    fn is_source(&self) -> bool {
        self.feed.is_source()
    }

    fn fence_users(&self, feed: FeedId) -> Vec<UserId> {
        self.feed.fence_users(feed)
    }

    fn open(
        &self,
        feed: FeedId,
        start: FeedStart,
    ) -> SeamFuture<'_, Result<Box<dyn FeedReader>, FeedError>> {
        Box::pin(async move {
            self.relay.get_or_init(|| self.begin()).await;
            if matches!(start, FeedStart::Head) && self.feeds().contains(&feed) {
                self.settle(feed).await?;
            }
            self.feed.open(feed, start).await
        })
    }
}

impl History for Relayed {
    fn page(&self, request: PageRequest) -> SeamFuture<'_, Result<Page, StoreError>> {
        self.memory.page(request)
    }

    fn recent(&self, request: RecentRequest) -> SeamFuture<'_, Result<Page, StoreError>> {
        self.memory.recent(request)
    }

    fn check(
        &self,
        namespace: NamespaceId,
        questions: Vec<Question>,
    ) -> SeamFuture<'_, Result<Answers, StoreError>> {
        self.memory.check(namespace, questions)
    }

    fn write(&self, writes: Vec<Write>) -> SeamFuture<'_, Result<Option<CommitStamp>, StoreError>> {
        self.memory.write(writes)
    }

    fn forget(
        &self,
        namespace: NamespaceId,
        user: UserId,
    ) -> SeamFuture<'_, Result<Forgotten, StoreError>> {
        self.memory.forget(namespace, user)
    }

    fn fence(
        &self,
        feed: FeedId,
        users: Vec<UserId>,
        writer: Incarnation,
        seq: FenceSeq,
    ) -> SeamFuture<'_, Result<Option<CommitStamp>, StoreError>> {
        // The store's own feed has one partition; the user leads the fence to the topic's.
        let is_known = self.feeds().contains(&feed);
        let own = if is_known { FeedId { partition: Partition::new(0), ..feed } } else { feed };
        self.memory.fence(own, users, writer, seq)
    }

    fn size(&self, namespace: NamespaceId) -> SeamFuture<'_, Result<HistorySize, StoreError>> {
        self.memory.size(namespace)
    }
}

impl Scan for Relayed {
    fn parts(&self) -> u16 {
        self.memory.parts()
    }

    fn position(&self, part: Shard) -> SeamFuture<'_, Result<Option<SourcePosition>, StoreError>> {
        self.memory.position(part)
    }

    fn scan(&self, request: ScanRequest) -> SeamFuture<'_, Result<ScanPage, StoreError>> {
        self.memory.scan(request)
    }
}
