//! The change feed that the replica sees.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::Builder;
use std::time::Duration;

use parking_lot::Mutex;
use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use seen_dialect::FollowedTable;
use seen_filter::hash::VIRTUAL_SLOTS;
use seen_filter::history::SeamFuture;
use seen_filter::{
    ChangeFeed, FeedError, FeedId, FeedLag, FeedProof, FeedReader, FeedStart, NamespaceId,
    Partition, Shard, UserId,
};
use thiserror::Error;
use tokio::sync::oneshot;

use crate::context::{Quiet, TopicConsumer};
use crate::dead_letters::DeadLetters;
use crate::look::{self, Looker};
use crate::options::{KafkaOptions, TopicOptions};
use crate::queue::KafkaReader;
use crate::shape::Shape;
use crate::topic::{Command, Topic};

/// Readers that wait to be opened.
const OPENS_QUEUED_MAX: usize = 1_024;

/// Settings of librdkafka that nobody may set: what is promised rests on them.
pub(crate) const FIXED: &[(&str, &str)] = &[
    // Required of every consumer; nothing is committed, and nobody joins.
    ("group.id", "seen"),
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    // A place that is not there must be told, never passed over (coherence row 19).
    ("auto.offset.reset", "error"),
    ("enable.partition.eof", "true"),
    ("check.crcs", "true"),
    ("allow.auto.create.topics", "false"),
    ("isolation.level", "read_committed"),
];

/// Why a feed could not be made.
#[derive(Debug, Error)]
pub enum KafkaFeedError {
    /// The options contradict each other.
    #[error("{0}")]
    Options(String),
    /// librdkafka refused its settings, or Kafka did not answer.
    #[error("kafka {brokers}: {source}; {hint}")]
    Kafka {
        /// Who was asked.
        brokers: String,
        /// What it said.
        source: KafkaError,
        /// What to do.
        hint: &'static str,
    },
    /// The topic is not there.
    #[error(
        "topic {topic:?} does not exist: create it with as many partitions as it shall ever have, \
         then start the producer"
    )]
    NoTopic {
        /// Its name.
        topic: String,
    },
    /// The system refused a thread or a file.
    #[error("{what}: {source}")]
    System {
        /// What was wanted.
        what: String,
        /// What it said.
        source: std::io::Error,
    },
}

struct TopicHandle {
    shape: Arc<Shape>,
    commands: SyncSender<Command>,
}

/// The feeds of all namespaces, one for each shard and partition.
pub struct KafkaFeed {
    options: Arc<KafkaOptions>,
    namespaces: Vec<NamespaceId>,
    topics: Vec<TopicHandle>,
    closed: Arc<AtomicBool>,
    /// The ids of fences, which take some time to find; by feed and the number of partitions.
    fence_users: Mutex<HashMap<(Shard, u16, u16), Vec<UserId>>>,
}

impl KafkaFeed {
    /// A feed, with one thread a topic. Asks Kafka how many partitions there are, unless the options
    /// say so. Blocks as long as that takes.
    ///
    /// # Errors
    /// [`KafkaFeedError`].
    pub fn connect(options: KafkaOptions) -> Result<Arc<Self>, KafkaFeedError> {
        check(&options)?;
        let options = Arc::new(options);
        let closed = Arc::new(AtomicBool::new(false));
        let mut namespaces: Vec<_> = options
            .topics
            .iter()
            .flat_map(|topic| topic.tables.iter().filter_map(|(namespace, _)| *namespace))
            .collect();
        namespaces.sort_unstable();
        namespaces.dedup();
        let topics = options
            .topics
            .iter()
            .map(|topic| start(&options, topic, &closed))
            .collect::<Result<_, _>>()?;
        let fence_users = Mutex::new(HashMap::new());
        Ok(Arc::new(Self { options, namespaces, topics, closed, fence_users }))
    }

    /// Ends all readers; their next calls fail.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }

    fn topic(&self, feed: FeedId) -> Option<&TopicHandle> {
        let topic = self.topics.get(usize::from(feed.shard.get()))?;
        let is_known =
            self.namespaces.contains(&feed.namespace) && feed.partition.get() < topic.shape.feeds();
        is_known.then_some(topic)
    }
}

impl Drop for KafkaFeed {
    fn drop(&mut self) {
        self.close();
    }
}

impl ChangeFeed for KafkaFeed {
    fn feeds(&self) -> Vec<FeedId> {
        let mut feeds = Vec::new();
        for namespace in &self.namespaces {
            for (shard, topic) in self.topics.iter().enumerate() {
                let shard = Shard::new(u16::try_from(shard).unwrap_or(u16::MAX));
                let of = |partition| FeedId::new(*namespace, shard, Partition::new(partition));
                feeds.extend((0..topic.shape.feeds()).map(of));
            }
        }
        feeds
    }

    fn feed_of(&self, namespace: NamespaceId, user: UserId) -> FeedId {
        let slot = u32::from(self.options.hash_key.virtual_slot(user).get());
        let shard = slot * u32::from(self.shards()) / u32::from(VIRTUAL_SLOTS);
        let shard = Shard::new(u16::try_from(shard).unwrap_or(0));
        let topic = self.topics.get(usize::from(shard.get()));
        let partition = topic.map_or(0, |topic| topic.shape.feed_of(user));
        FeedId::new(namespace, shard, Partition::new(partition))
    }

    fn shards(&self) -> u16 {
        u16::try_from(self.topics.len()).unwrap_or(u16::MAX).max(1)
    }

    fn is_source(&self) -> bool {
        false
    }

    fn lag(&self, feed: FeedId) -> Option<FeedLag> {
        let shape = &self.topic(feed)?.shape;
        shape.lags.of(shape.sources(feed.partition.get()))
    }

    fn proof(&self, feed: FeedId) -> FeedProof {
        let _ = feed;
        self.options.proof
    }

    fn fence_users(&self, feed: FeedId) -> Vec<UserId> {
        let Some(topic) = self.topic(feed) else { return Vec::new() };
        let key = (feed.shard, feed.partition.get(), topic.shape.partitions());
        let mut known = self.fence_users.lock();
        known.entry(key).or_insert_with(|| topic.shape.fence_users(key.1)).clone()
    }

    fn open(
        &self,
        feed: FeedId,
        start: FeedStart,
    ) -> SeamFuture<'_, Result<Box<dyn FeedReader>, FeedError>> {
        Box::pin(async move {
            let Some(topic) = self.topic(feed) else {
                let message = format!("feed {feed} is unknown: there is one for each partition");
                return Err(FeedError { message, retry_helps: false });
            };
            let (reply, opened) = oneshot::channel();
            if topic.commands.try_send(Command::Open { feed, start, reply }).is_err() {
                return Err(closed());
            }
            let queue = opened.await.map_err(|_| closed())??;
            let heartbeat = Duration::from_millis(self.options.heartbeat_ms);
            Ok(Box::new(KafkaReader::new(queue, heartbeat)) as Box<dyn FeedReader>)
        })
    }
}

/// The error of a feed that was closed.
pub(crate) fn closed() -> FeedError {
    FeedError { message: "the change feed is closed".to_owned(), retry_helps: false }
}

fn check(options: &KafkaOptions) -> Result<(), KafkaFeedError> {
    let refuse = |why: String| Err(KafkaFeedError::Options(why));
    if options.topics.is_empty() || options.topics.len() > usize::from(VIRTUAL_SLOTS) {
        let count = options.topics.len();
        return refuse(format!("{count} topics (allowed: 1 to {VIRTUAL_SLOTS}, one a shard)"));
    }
    for (at, topic) in options.topics.iter().enumerate() {
        if usize::from(topic.shard.get()) != at {
            return refuse(format!("shard {} is number {at} of the list", topic.shard));
        }
    }
    for topic in &options.topics {
        for (at, (_, table)) in topic.tables.iter().enumerate() {
            let is_same = |other: &FollowedTable| {
                other.database.eq_ignore_ascii_case(&table.database)
                    && other.table.eq_ignore_ascii_case(&table.table)
            };
            if topic.tables[..at].iter().any(|(_, other)| is_same(other)) {
                let (database, table) = (&table.database, &table.table);
                return refuse(format!("{database}.{table} is the table of two namespaces"));
            }
        }
    }
    if options.heartbeat_ms == 0 || options.connect_timeout_ms == 0 {
        return refuse("heartbeat_ms and connect_timeout_ms must be above 0".to_owned());
    }
    let set_by_us = FIXED.iter().map(|(name, _)| *name).chain(["bootstrap.servers"]);
    for name in set_by_us {
        if options.client.contains_key(name) {
            return refuse(format!("kafka.client may not set {name:?}: coherence rests on it"));
        }
    }
    Ok(())
}

fn consumer(options: &KafkaOptions) -> Result<TopicConsumer, KafkaFeedError> {
    let mut config = ClientConfig::new();
    let fetch_ahead = options.fetch_kib_max.to_string();
    config
        .set("bootstrap.servers", &options.brokers)
        .set("client.id", "seen")
        .set("queued.max.messages.kbytes", &fetch_ahead)
        .set("fetch.wait.max.ms", "100")
        // Else it rests for a second whenever it has fetched as much ahead as it may.
        .set("fetch.queue.backoff.ms", "5")
        .set("fetch.error.backoff.ms", "100")
        .set("reconnect.backoff.max.ms", "1000");
    for (name, value) in &options.client {
        config.set(name, value);
    }
    for (name, value) in FIXED {
        config.set(*name, *value);
    }
    config.create_with_context(Quiet).map_err(|source| KafkaFeedError::Kafka {
        brokers: options.brokers.clone(),
        source,
        hint: "see kafka.client for settings of librdkafka",
    })
}

fn start(
    options: &Arc<KafkaOptions>,
    topic: &TopicOptions,
    closed: &Arc<AtomicBool>,
) -> Result<TopicHandle, KafkaFeedError> {
    let consumer = Arc::new(consumer(options)?);
    let timeout = Duration::from_millis(options.connect_timeout_ms);
    let partitions = match options.partitions {
        Some(partitions) => partitions,
        None => look::partitions(&consumer, &topic.topic, timeout).map_err(|source| {
            KafkaFeedError::Kafka {
                brokers: options.brokers.clone(),
                source,
                hint: "start Kafka, see kafka.brokers, or set kafka.partitions to start without it",
            }
        })?,
    };
    if partitions == 0 {
        return Err(KafkaFeedError::NoTopic { topic: topic.topic.clone() });
    }
    let shape = Arc::new(Shape::new(topic.partitioner.clone(), partitions));
    let system = |what: &str| {
        let what = what.to_owned();
        move |source| KafkaFeedError::System { what, source }
    };
    let interval = Duration::from_millis(options.heartbeat_ms);
    let looker = Looker::start(Arc::clone(&consumer), topic.topic.clone(), interval, timeout)
        .map_err(system("a thread for Kafka"))?;
    let letters = options
        .dead_letters
        .clone()
        .map(DeadLetters::open)
        .transpose()
        .map_err(system("kafka.dead_letters cannot be opened"))?;
    let (commands, received) = sync_channel(OPENS_QUEUED_MAX);
    let (options, topic, closed) = (Arc::clone(options), topic.clone(), Arc::clone(closed));
    let own = Arc::clone(&shape);
    let run = move || {
        Topic::new(options, topic, own, consumer, looker, letters).run(&received, &closed);
    };
    Builder::new().name("kafka".to_owned()).spawn(run).map_err(system("a thread for Kafka"))?;
    Ok(TopicHandle { shape, commands })
}
