//! A Kafka, a topic of three partitions, and a feed on it.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use seen_dialect::{FollowedTable, Position};
use seen_filter::hash::HashKey;
use seen_filter::{
    ChangeFeed, CommitStamp, Domain, FeedBatch, FeedEvent, FeedId, FeedProof, FeedReader,
    FeedStart, NamespaceId, Partition, Shard, Timeline, UserId,
};
use seen_kafka::{
    Digits, KafkaFeed, KafkaOptions, KeyTemplate, Partitioner, SchemaOptions, TopicOptions,
};
use seen_testbed::{Kafka, Record, or_skip};
use tokio::sync::watch;

pub const NS: NamespaceId = NamespaceId::new(0);
pub const PARTITIONS: usize = 3;
/// The namespace's number in the database.
const NUMBER: u16 = 4;

/// One topic of its own on the Kafka of all tests.
pub struct World {
    pub kafka: Arc<Kafka>,
    pub topic: String,
}

impl World {
    /// `None`, loudly, where there is no Kafka to be had.
    pub fn new(topic: &str) -> Option<Self> {
        static KAFKA: OnceLock<Option<Arc<Kafka>>> = OnceLock::new();
        let kafka = KAFKA.get_or_init(|| or_skip(Kafka::start()).map(Arc::new)).clone()?;
        Some(Self::on(kafka, topic))
    }

    /// A topic on a Kafka of one's own, which may be stopped.
    pub fn on(kafka: Arc<Kafka>, topic: &str) -> Self {
        kafka.create_topic(topic, PARTITIONS, &[]).expect("a topic");
        Self { kafka, topic: topic.to_owned() }
    }

    /// Deletes the topic, and makes another one of its name.
    pub fn make_anew(&self) {
        self.kafka.delete_topic(&self.topic).expect("deleted");
        self.kafka.create_topic(&self.topic, PARTITIONS, &[]).expect("a topic");
    }

    /// A feed, as a process would make it at its start.
    pub async fn feed(&self) -> Arc<KafkaFeed> {
        self.connect(by_key(), FeedProof::Fences).await
    }

    /// A feed whose producer chooses partitions in this way, proven in this way. Timestamps of TiDB are
    /// stamps of the timeline 7.
    pub async fn connect(&self, partitioner: Partitioner, proof: FeedProof) -> Arc<KafkaFeed> {
        self.connect_to("db", partitioner, proof).await
    }

    /// The same of another database.
    pub async fn connect_to(
        &self,
        database: &str,
        partitioner: Partitioner,
        proof: FeedProof,
    ) -> Arc<KafkaFeed> {
        connect(options(&self.kafka.bootstrap(), &self.topic, database, partitioner, proof)).await
    }

    /// Puts a record of a user into a partition.
    pub fn send(&self, partition: u16, user: u64, value: &str) {
        self.put(partition, Record::new(&format!("{{\"user_id\":{user}}}"), value));
    }

    /// Puts a record into a partition.
    pub fn put(&self, partition: u16, record: Record) {
        let sent = self.kafka.send(&self.topic, i32::from(partition), &[record]);
        sent.expect("sent");
    }
}

/// What a feed is told that follows this topic.
pub fn options(
    brokers: &str,
    topic: &str,
    database: &str,
    partitioner: Partitioner,
    proof: FeedProof,
) -> KafkaOptions {
    let (_, namespace_ids) = watch::channel(HashMap::from([(NUMBER, NS)]));
    KafkaOptions {
        brokers: brokers.to_owned(),
        client: BTreeMap::new(),
        topics: vec![TopicOptions {
            shard: Shard::new(0),
            topic: topic.to_owned(),
            partitioner,
            namespaces: vec![(NS, "feed_read".to_owned())],
            tables: vec![
                (Some(NS), FollowedTable::own(database, "feed_read")),
                (None, FollowedTable::control(database)),
            ],
            namespace_ids,
        }],
        hash_key: HashKey::new(1, [7; 16]),
        dialect: None,
        schemas: SchemaOptions::default(),
        proof,
        stamp_of: Arc::new(|_, position| match position {
            Position::CommitTs(ts) => Some(CommitStamp::new(Domain::new(0), Timeline::new(7), *ts)),
            _ => None,
        }),
        partitions: None,
        connect_timeout_ms: 30_000,
        heartbeat_ms: 200,
        queue_events_max: 64,
        fetch_kib_max: 1_024,
        dead_letters: None,
    }
}

/// A feed, as a process would make it at its start.
pub async fn connect(options: KafkaOptions) -> Arc<KafkaFeed> {
    let connecting = tokio::task::spawn_blocking(move || KafkaFeed::connect(options));
    connecting.await.expect("no panic").expect("a feed")
}

/// Partitions by keys, as Debezium writes them.
pub fn by_key() -> Partitioner {
    let template = KeyTemplate::parse("{\"user_id\":{user}}", Digits::Signed);
    Partitioner::Key(template.expect("a template"))
}

/// The feed of a partition.
pub fn feed_id(partition: u16) -> FeedId {
    FeedId::new(NS, Shard::new(0), Partition::new(partition))
}

/// A user of this partition.
pub fn user_of(feed: &KafkaFeed, partition: u16) -> u64 {
    let is_there = |user: &u64| feed.feed_of(NS, UserId::new(*user)) == feed_id(partition);
    (1..).find(is_there).expect("a user")
}

/// A row as the connector for MariaDB tells it, by the transaction of this number.
pub fn row(op: &str, seq: u64, user: u64, item: u64) -> String {
    let image = format!("{{\"user_id\":{user},\"kind\":1,\"item_id\":{item},\"marked_at_ms\":5}}");
    let (before, after) = match op {
        "d" => (image, "null".to_owned()),
        _ => ("null".to_owned(), image),
    };
    envelope(op, seq, "feed_read", &before, &after)
}

/// A fence of the writer 9.
pub fn fence(seq: u64, user: u64, number: u64) -> String {
    let row = format!(
        "{{\"user_id\":{user},\"namespace\":{NUMBER},\"writer\":9,\"seq\":{number},\"at_ms\":5}}"
    );
    envelope("c", seq, "seen_control", "null", &row)
}

fn envelope(op: &str, seq: u64, table: &str, before: &str, after: &str) -> String {
    format!(
        "{{\"before\":{before},\"after\":{after},\"source\":{{\"version\":\"3.5.0.Final\",\
         \"connector\":\"mariadb\",\"name\":\"t\",\"ts_ms\":1,\"snapshot\":\"false\",\"db\":\"db\",\
         \"table\":\"{table}\",\"server_id\":1,\"gtid\":\"0-1-{seq}\",\"file\":\"binlog.000001\",\
         \"pos\":{seq},\"row\":0}},\"op\":\"{op}\",\"ts_ms\":1}}"
    )
}

/// A reader from the head, which has been told where that is.
pub async fn at_head(feed: &KafkaFeed, partition: u16) -> Box<dyn FeedReader> {
    let mut reader = feed.open(feed_id(partition), FeedStart::Head).await.expect("a reader");
    let first = next(&mut reader).await;
    assert!(matches!(first.events[..], [FeedEvent::Complete { .. }]), "{first:?}");
    reader
}

/// Longer than any machine is busy: what takes longer does not come.
const PATIENCE: Duration = Duration::from_secs(60);

/// The next events.
pub async fn next(reader: &mut Box<dyn FeedReader>) -> FeedBatch {
    reader.next(1_000).await.expect("a batch")
}

/// Everything up to an event that is looked for, in short. How far the topic has been read is said
/// whenever nothing waits, and left out.
pub async fn told_until(reader: &mut Box<dyn FeedReader>, last: &str) -> Vec<String> {
    let events = events_until(reader, |event| brief(event) == last).await;
    let events = events.iter().filter(|event| !matches!(event, FeedEvent::Complete { .. }));
    events.map(brief).collect()
}

/// Everything up to an event that is looked for.
pub async fn events_until(
    reader: &mut Box<dyn FeedReader>,
    is_last: impl Fn(&FeedEvent) -> bool,
) -> Vec<FeedEvent> {
    let mut events = Vec::new();
    let began = Instant::now();
    loop {
        assert!(began.elapsed() < PATIENCE, "it does not come after {events:?}");
        for event in next(reader).await.events {
            events.push(event);
            if is_last(&event) {
                return events;
            }
        }
    }
}

fn brief(event: &FeedEvent) -> String {
    match event {
        FeedEvent::Add { user, item, .. } => format!("+{user}:{}", item.id),
        FeedEvent::Remove { user, item, .. } => format!("-{user}:{}", item.id),
        FeedEvent::Fence { seq, .. } => format!("fence {seq}"),
        FeedEvent::Gap { reason, .. } => format!("gap {reason}"),
        other => format!("{other:?}"),
    }
}
