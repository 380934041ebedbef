//! A source, a mock cluster, and what came out.

use std::io::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::message::Message;
use rdkafka::mocking::MockCluster;
use rdkafka::producer::{BaseProducer, BaseRecord, DefaultProducerContext, Producer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use seen_dialect::seen_event::{ChangeSource, ReadRecord};
use seen_filter::history::{Write, WriteOp};
use seen_filter::{
    ChangeFeed, FeedEvent, FeedId, FeedReader, FeedStart, FenceSeq, GapScope, History, Incarnation,
    Item, NamespaceId, NamespaceSettings, UnixMillis, UserId,
};
use seen_kafka::relay::{RelayError, RelayOptions, Relayed, relay};
use seen_store::StorageClock;
use seen_store::memory::{MemoryOptions, MemoryStore};

use super::told;

pub const NS: NamespaceId = NamespaceId::new(0);

/// Longer than any machine is busy: what takes longer stands still.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// One value of a target's partition, read.
#[derive(Clone, Debug)]
pub struct Value {
    pub bytes: Vec<u8>,
    pub source: ChangeSource,
    pub events: Vec<FeedEvent>,
}

pub struct Stage {
    pub store: MemoryStore,
    pub cluster: MockCluster<'static, DefaultProducerContext>,
}

impl Stage {
    pub fn new(source_partitions: u16) -> Self {
        told::keep();
        let clock = StorageClock::new(|| UnixMillis::new(1_790_000_000_000));
        let options =
            MemoryOptions { partitions: source_partitions, ..MemoryOptions::new(clock, 7) };
        let store = MemoryStore::new(options, vec![NamespaceSettings::new(NS, "first")]);
        let cluster = MockCluster::new(1).expect("a cluster");
        Self { store: store.expect("a store"), cluster }
    }

    pub fn topic(&self, name: &str, partitions: i32) {
        self.cluster.create_topic(name, partitions, 1).expect("a topic");
    }

    pub fn options(&self, topic: &str) -> RelayOptions {
        self.options_at(self.cluster.bootstrap_servers(), topic)
    }

    pub fn options_at(&self, brokers: String, topic: &str) -> RelayOptions {
        RelayOptions {
            brokers,
            client: [("reconnect.backoff.max.ms".to_owned(), "100".to_owned())].into(),
            topics: vec![topic.to_owned()],
            hash_key: self.store.hash_key(),
            namespaces: vec![(NS, "first".to_owned())],
            create: None,
            commit_interval_ms: 0,
            commit_bytes: 1 << 20,
            batch_events_max: 3,
            transaction_timeout_ms: 10_000,
            connect_timeout_ms: 10_000,
            once: true,
        }
    }

    /// Relays all that the source holds.
    pub async fn relay_once(&self, topic: &str) -> Result<Relayed, RelayError> {
        self.relay(self.options(topic)).await
    }

    pub async fn relay(&self, options: RelayOptions) -> Result<Relayed, RelayError> {
        let source: Arc<dyn ChangeFeed> = Arc::new(self.store.clone());
        let topics = options.topics.clone();
        let relayed = relay(source, options, std::future::pending());
        tokio::time::timeout(PATIENCE, relayed).await.unwrap_or_else(|_| {
            // A panic would wait for the call that does not come back, and be told after it.
            let told = format!("{}the relay to {topics:?} stands still\n", told::last());
            std::io::stderr().write_all(told.as_bytes()).expect("told");
            std::process::abort()
        })
    }

    /// Some commits of every kind.
    pub async fn work(&self, from: u64, commits: u64) {
        for at in from..from + commits {
            let user = UserId::new(at * 7 % 11);
            let op = if at % 5 == 4 { WriteOp::Remove } else { WriteOp::Append };
            let items = (0..1 + at % 4).map(|item| (Item::new(1, at % 6 + item), None)).collect();
            let write = Write { namespace: NS, user, op, items };
            self.store.write(vec![write]).await.expect("a write");
            if at % 9 == 8 {
                self.store.forget(NS, UserId::new(at % 11)).await.expect("a forget");
            }
            if at % 3 == 2 {
                let feed = self.store.feed_of(NS, user);
                let (writer, seq) = (Incarnation::new(9), FenceSeq::new(at));
                self.store.fence(feed, vec![user], writer, seq).await.expect("a fence");
            }
        }
    }

    /// A reader of each of the source's feeds, at the head.
    pub async fn readers(&self) -> Vec<Box<dyn FeedReader>> {
        let mut readers = Vec::new();
        for feed in self.store.feeds() {
            let mut reader = self.open(feed).await;
            reader.next(100).await.expect("the head");
            readers.push(reader);
        }
        readers
    }

    async fn open(&self, feed: FeedId) -> Box<dyn FeedReader> {
        self.store.open(feed, FeedStart::Head).await.expect("a reader")
    }

    /// Everything that a topic holds, by partition.
    pub fn read(&self, topic: &str) -> Vec<Vec<Value>> {
        read(&self.cluster.bootstrap_servers(), topic)
    }

    /// Writes values as they are.
    pub fn copy(&self, topic: &str, values: &[Vec<Value>]) {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", self.cluster.bootstrap_servers());
        let producer: BaseProducer = config.create().expect("a producer");
        for (partition, values) in (0..).zip(values) {
            for value in values {
                let record = BaseRecord::<(), [u8]>::to(topic).partition(partition);
                producer.send(record.payload(&value.bytes)).map_err(|(e, _)| e).expect("room");
            }
        }
        producer.flush(Duration::from_secs(10)).expect("all written");
    }
}

fn consumer(brokers: &str) -> BaseConsumer {
    ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "test")
        .set("enable.partition.eof", "true")
        .set("isolation.level", "read_committed")
        .set("fetch.wait.max.ms", "10")
        .create()
        .expect("a consumer")
}

/// Waits until a record has come to a topic whose partitions ended here. Where they end now does not tell
/// that: what ends a transaction takes a place as well, and may come after its acknowledgement. `look` is
/// called in between.
pub fn wait_for_record(brokers: &str, topic: &str, ends: &[i64], look: impl Fn()) {
    let consumer = consumer(brokers);
    let mut list = TopicPartitionList::new();
    for (partition, end) in (0..).zip(ends) {
        list.add_partition_offset(topic, partition, Offset::Offset(*end)).expect("a partition");
    }
    consumer.assign(&list).expect("assigned");
    let began = Instant::now();
    loop {
        match consumer.poll(Duration::from_millis(100)) {
            None | Some(Err(KafkaError::PartitionEOF(_))) => {}
            Some(Err(error)) => panic!("{error}"),
            Some(Ok(_)) => return,
        }
        assert!(began.elapsed() < PATIENCE, "nothing is written");
        look();
    }
}

/// Everything of a topic, by partition.
pub fn read(brokers: &str, topic: &str) -> Vec<Vec<Value>> {
    let consumer = consumer(brokers);
    let metadata = consumer.fetch_metadata(Some(topic), Duration::from_secs(10)).expect("metadata");
    let count = metadata.topics()[0].partitions().len();
    let mut list = TopicPartitionList::new();
    for partition in 0..count as i32 {
        list.add_partition_offset(topic, partition, Offset::Beginning).expect("a partition");
    }
    consumer.assign(&list).expect("assigned");
    let (mut values, mut ended) = (vec![Vec::new(); count], 0);
    while ended < count {
        match consumer.poll(Duration::from_secs(10)).expect("an answer") {
            Err(KafkaError::PartitionEOF(_)) => ended += 1,
            Err(error) => panic!("{error}"),
            Ok(message) => {
                let bytes = message.payload().expect("a value").to_vec();
                let read = ReadRecord::read(&bytes).expect("a record of the relay's");
                assert_eq!(i32::from(read.head.partition.get()), message.partition());
                let events = read.changes().map(|change| change.event).collect();
                let source = read.source;
                values[message.partition() as usize].push(Value { bytes, source, events });
            }
        }
    }
    values
}

/// What a source's reader holds, without what is said of positions alone.
pub async fn drain(reader: &mut Box<dyn FeedReader>) -> Vec<FeedEvent> {
    let mut events = Vec::new();
    loop {
        let batch = reader.next(1_000).await.expect("a batch");
        events.extend(batch.events);
        if batch.caught_up {
            events.retain(|event| user_of(event).is_some());
            return events;
        }
    }
}

/// Whom an event is about.
pub fn user_of(event: &FeedEvent) -> Option<UserId> {
    match *event {
        FeedEvent::Add { user, .. }
        | FeedEvent::Remove { user, .. }
        | FeedEvent::RemoveAll { user, .. }
        | FeedEvent::Forgotten { user, .. }
        | FeedEvent::Fence { user, .. } => Some(user),
        FeedEvent::Complete { .. } | FeedEvent::Gap { .. } => None,
    }
}

/// How often every lane at least says that it is in doubt.
pub fn gaps(values: &[Vec<Value>]) -> usize {
    let is_gap =
        |event: &&FeedEvent| matches!(event, FeedEvent::Gap { scope: GapScope::Partition, .. });
    let of_lane = |lane: &Vec<Value>| lane.iter().flat_map(|v| &v.events).filter(is_gap).count();
    values.iter().map(of_lane).min().unwrap_or(0)
}
