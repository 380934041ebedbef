//! A history in memory, followed through a relay and its topic on the mock cluster, passes the suite of every
//! store.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};

use rdkafka::mocking::MockCluster;
use seen_dialect::{FollowedTable, KindOf, TableRole};
use seen_filter::feed::FeedProof;
use seen_filter::history::{
    Answers, Forgotten, HistorySize, Page, PageRequest, Question, RecentRequest, SeamFuture, Write,
};
use seen_filter::{
    ChangeFeed, CommitStamp, FeedError, FeedId, FeedReader, FeedStart, FenceSeq, History,
    Incarnation, Kind, NamespaceId, NamespaceSettings, Partition, Scan, ScanPage, ScanRequest,
    Shard, SourcePosition, StoreError, UserId,
};
use seen_kafka::relay::{RelayOptions, relay};
use seen_kafka::{KafkaFeed, KafkaOptions, Partitioner, TopicOptions};
use seen_store::conformance::Fixture;
use seen_store::memory::MemoryOptions;
use seen_store::{MemoryStore, StorageClock, conformance_tests};
use tokio::sync::watch;
use tokio::task::JoinHandle;

const PARTITIONS: i32 = 3;

struct ThroughRelay;

/// The store, whose changes are told by Kafka alone.
struct Relayed {
    memory: MemoryStore,
    feed: Arc<KafkaFeed>,
    relay: JoinHandle<()>,
    _cluster: Cluster,
}

/// A mock cluster, which lives on the thread that made it.
struct Cluster {
    brokers: String,
    _end: Sender<()>,
}

impl Cluster {
    fn start() -> Self {
        let (said, brokers) = channel();
        let (end, ended) = channel::<()>();
        std::thread::spawn(move || {
            let cluster = MockCluster::new(1).expect("a cluster");
            cluster.create_topic("slots", PARTITIONS, 1).expect("a topic");
            said.send(cluster.bootstrap_servers()).expect("awaited");
            // Nothing is ever sent: it ends when the other side is dropped.
            let _ = ended.recv();
        });
        Self { brokers: brokers.recv().expect("a cluster"), _end: end }
    }
}

impl Drop for Relayed {
    fn drop(&mut self) {
        self.feed.close();
        self.relay.abort();
    }
}

impl Fixture for ThroughRelay {
    type Store = Relayed;

    async fn open(&self, namespaces: Vec<NamespaceSettings>, clock: StorageClock) -> Arc<Relayed> {
        // A feed that is a copy names no stamps that could be compared with those of commits.
        let options =
            MemoryOptions { partitions: 1, numbers_commits: false, ..MemoryOptions::new(clock, 1) };
        let memory = MemoryStore::new(options, namespaces.clone()).expect("a store");
        let cluster = Cluster::start();
        let names: Vec<_> = namespaces.iter().map(|one| (one.id, one.name.clone())).collect();
        let options = RelayOptions {
            brokers: cluster.brokers.clone(),
            client: Default::default(),
            topics: vec!["slots".to_owned()],
            hash_key: memory.hash_key(),
            namespaces: names.clone(),
            create: None,
            commit_interval_ms: 1,
            commit_bytes: 1 << 20,
            batch_events_max: 64,
            transaction_timeout_ms: 10_000,
            connect_timeout_ms: 10_000,
            once: true,
        };
        let source: Arc<dyn ChangeFeed> = Arc::new(memory.clone());
        // Its beginning puts all in doubt, which is no matter of these tests.
        relay(Arc::clone(&source), options.clone(), std::future::pending()).await.expect("begun");
        let options = RelayOptions { once: false, ..options };
        let relay = tokio::spawn(async move {
            relay(source, options, std::future::pending()).await.expect("it goes on");
        });
        let options = kafka(&memory, &cluster, names);
        let feed = tokio::task::spawn_blocking(move || KafkaFeed::connect(options));
        let feed = feed.await.expect("no panic").expect("a feed");
        Arc::new(Relayed { memory, feed, relay, _cluster: cluster })
    }
}

fn kafka(
    memory: &MemoryStore,
    cluster: &Cluster,
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
        topic: "slots".to_owned(),
        partitioner: Partitioner::Slots(memory.hash_key()),
        tables: namespaces.iter().map(table).collect(),
        namespaces,
        namespace_ids: watch::channel(HashMap::new()).1,
    };
    KafkaOptions {
        brokers: cluster.brokers.clone(),
        client: Default::default(),
        topics: vec![topic],
        hash_key: memory.hash_key(),
        dialect: None,
        proof: FeedProof::Fences,
        stamp_of: Arc::new(|_, _| None),
        partitions: None,
        connect_timeout_ms: 10_000,
        heartbeat_ms: 100,
        queue_events_max: 1_024,
        fetch_kib_max: 1_024,
        dead_letters: None,
    }
}

impl ChangeFeed for Relayed {
    fn feeds(&self) -> Vec<FeedId> {
        self.feed.feeds()
    }

    fn feed_of(&self, namespace: NamespaceId, user: UserId) -> FeedId {
        self.feed.feed_of(namespace, user)
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
        self.feed.open(feed, start)
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
        let feed = FeedId { partition: Partition::new(0), ..feed };
        self.memory.fence(feed, users, writer, seq)
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

conformance_tests!(ThroughRelay, tokio::test(flavor = "multi_thread"));
