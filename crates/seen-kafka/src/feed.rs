//! The change feed that the replica sees.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};
use std::thread::Builder;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use rdkafka::ClientConfig;
use rdkafka::error::KafkaError;
use seen_filter::VirtualSlot;
use seen_filter::history::SeamFuture;
use seen_filter::{
    ChangeFeed, FeedError, FeedId, FeedLag, FeedProof, FeedReader, FeedStart, NamespaceId,
    Partition, Shard, UserId,
};
use thiserror::Error;
use tokio::sync::oneshot;

use crate::check;
use crate::context::{Quiet, TopicConsumer};
use crate::dead_letters::DeadLetters;
use crate::leave::Leaving;
use crate::look::Looker;
use crate::open::Opening;
use crate::options::{KafkaOptions, TopicOptions};
use crate::queue::KafkaReader;
use crate::shape::Shape;
use crate::topic::Topic;

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
    openings: SyncSender<Opening>,
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
        check::check(&options)?;
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
        let shard = Shard::new(self.options.hash_key.virtual_slot(user).range_of(self.shards()));
        let topic = self.topics.get(usize::from(shard.get()));
        let partition = topic.map_or(0, |topic| topic.shape.feed_of(user));
        FeedId::new(namespace, shard, Partition::new(partition))
    }

    fn carries(&self, feed: FeedId, slot: VirtualSlot) -> bool {
        let shape = self.topic(feed).map(|topic| &topic.shape);
        slot.range_of(self.shards()) == feed.shard.get()
            && shape.is_some_and(|shape| shape.carries(feed.partition.get(), slot))
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
            let opening = Opening { feed, start, asked: Instant::now(), reply };
            match topic.openings.try_send(opening) {
                Ok(()) => {}
                Err(TrySendError::Disconnected(_)) => return Err(closed()),
                Err(TrySendError::Full(_)) => {
                    let message = format!("{OPENS_QUEUED_MAX} readers wait to be opened");
                    return Err(FeedError { message, retry_helps: true });
                }
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
    let consumer = Arc::new(Leaving::new(consumer(options)?, "the consumer of a feed"));
    let timeout = Duration::from_millis(options.connect_timeout_ms);
    let partitions = check::partitions(options, topic, &consumer)?;
    let shape = Arc::new(Shape::new(topic.partitioner.clone(), partitions));
    if options.proof == FeedProof::Fences && !shape.takes_fences() {
        tracing::warn!(
            topic = %topic.topic, partitions,
            "kafka.partitioner = unknown: no fence proves how far this topic has been read, and a binary log's \
             positions are not compared with it, since a restored backup gives them again: answers for \
             holders of tokens are asked in storage, which is right and slow"
        );
    }
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
    let (openings, received) = sync_channel(OPENS_QUEUED_MAX);
    let (options, topic, closed) = (Arc::clone(options), topic.clone(), Arc::clone(closed));
    let own = Arc::clone(&shape);
    let run = move || {
        Topic::new(options, topic, own, consumer, looker, letters).run(&received, &closed);
    };
    Builder::new().name("kafka".to_owned()).spawn(run).map_err(system("a thread for Kafka"))?;
    Ok(TopicHandle { shape, openings })
}
