//! Queued writes: a topic of marks, written through whatever takes them.
//!
//! Messages are taken in windows: what is in one is joined by user (`window`), sent, and tried again until
//! it is acknowledged (`send`); only then the group's offsets are committed, so that nothing before them is
//! missing. What was sent and not committed comes again after a restart, which does no harm: marking twice
//! is marking once. A message that can never be written is kept in a file and does not stop the others.

mod metrics;
mod send;
mod window;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rdkafka::consumer::{CommitMode, Consumer, StreamConsumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::BorrowedMessage;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use seen_dialect::Record;
use seen_filter::Item;
use seen_filter::history::SeamFuture;
use thiserror::Error;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{Instant, sleep_until};

use self::metrics::IngestMetrics;
use self::send::{Sent, send};
use self::window::Window;
use crate::dead_letters::DeadLetters;
use crate::leave::Leaving;
use crate::options::DeadLetterOptions;
use crate::sample::KafkaRecord;

pub use metrics::METRICS as INGEST_METRICS;

/// How often it is said how far things have come.
const SAID_EVERY: Duration = Duration::from_secs(10);
/// Most bytes of messages that wait.
const WINDOW_BYTES_MAX: usize = 32 << 20;

/// Settings of librdkafka that nobody may set: what is promised rests on them.
const FIXED: &[(&str, &str)] = &[
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("enable.partition.eof", "true"),
    ("check.crcs", "true"),
    ("isolation.level", "read_committed"),
];

/// One user's items.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The history's name.
    pub namespace: String,
    /// Whose.
    pub user: u64,
    /// What was read, and when, in milliseconds since 1970; `None` = now.
    pub items: Vec<(Item, Option<u64>)>,
}

/// What a message says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    /// The marks, possibly none.
    pub marks: Vec<Mark>,
    /// Why something of it can never be a mark, as a short stable name.
    pub dead: Option<&'static str>,
    /// Why it cannot be told yet what it says: nothing from here on may be passed over.
    pub later: Option<&'static str>,
}

impl From<Result<Mark, &'static str>> for Said {
    fn from(read: Result<Mark, &'static str>) -> Self {
        match read {
            Ok(mark) => Self { marks: vec![mark], ..Self::default() },
            Err(reason) => Self { dead: Some(reason), ..Self::default() },
        }
    }
}

/// Why a mark was not written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MarkFailure {
    /// It may be written later, or was written perhaps: it is tried again.
    Later(String),
    /// It will never be written.
    Never(String),
}

/// What takes marks.
pub trait MarkSink: Send + Sync + 'static {
    /// What a message says. Messages of one partition come in their order.
    fn read(&self, message: &Record<'_>) -> Said;

    /// Writes a mark of at most [`IngestOptions::items_max`] items, and returns once it is durable.
    fn mark(&self, mark: Mark) -> SeamFuture<'_, Result<(), MarkFailure>>;
}

/// What to read, and how.
#[derive(Clone, Debug)]
pub struct IngestOptions {
    /// The brokers to begin with: `host:port`, separated by commas.
    pub brokers: String,
    /// Further settings of librdkafka, such as `security.protocol`.
    pub client: BTreeMap<String, String>,
    /// The topic.
    pub topic: String,
    /// The consumer group, whose members share the topic's partitions.
    pub group: String,
    /// Most items that are sent before their messages are committed together.
    pub window_items_max: usize,
    /// Longest time that a message waits for others, in milliseconds.
    pub window_ms: u64,
    /// Most items of one call.
    pub items_max: usize,
    /// Most calls at the same time.
    pub calls_max: usize,
    /// Where messages are kept that can never be written.
    pub dead_letters: Option<DeadLetterOptions>,
    /// End as soon as every partition has been read to its end.
    pub once: bool,
}

/// Why an ingest ended.
#[derive(Debug, Error)]
pub enum IngestError {
    /// The options contradict each other.
    #[error("{0}")]
    Options(String),
    /// librdkafka refused its settings, or cannot go on.
    #[error("kafka {brokers}: {source}; see kafka.client for settings of librdkafka")]
    Kafka {
        /// Who was asked.
        brokers: String,
        /// What it said.
        source: KafkaError,
    },
    /// The dead letters' file.
    #[error("{path}: {source}")]
    DeadLetters {
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A message that may be read once something else is mended.
    #[error(
        "topic {topic:?}, partition {partition}, message {offset} cannot be read now: {reason} (see \
         kafka.schemas and kafka.schema_registry); nothing from there on is committed: start again"
    )]
    Unreadable {
        /// The topic.
        topic: String,
        /// The partition.
        partition: i32,
        /// The message.
        offset: i64,
        /// Why, as a short stable name.
        reason: &'static str,
    },
    /// A task ended.
    #[error("{0} ended unexpectedly")]
    Task(&'static str),
}

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ingested {
    /// Messages whose offsets were committed.
    pub messages: u64,
    /// Items of them.
    pub items: u64,
    /// Messages of them that can never be written.
    pub dead: u64,
}

/// Reads and writes until `stop` ends, or (`once`) the topic has been read to its end.
///
/// # Errors
/// [`IngestError`]. What was not committed comes again after a restart.
pub async fn ingest(
    sink: Arc<dyn MarkSink>,
    options: IngestOptions,
    stop: impl Future<Output = ()> + Send,
) -> Result<Ingested, IngestError> {
    let mut running = Running::start(sink, options)?;
    let done = running.run(stop).await;
    // Leaving the group asks Kafka, and waits for its answer.
    if let Some(consumer) = Arc::into_inner(running.consumer) {
        consumer.end().await;
    }
    done
}

fn check(options: &IngestOptions) -> Result<(), IngestError> {
    let bounds = [
        ("window_items_max", options.window_items_max),
        ("items_max", options.items_max),
        ("calls_max", options.calls_max),
    ];
    if let Some((name, _)) = bounds.iter().find(|(_, value)| *value == 0) {
        return Err(IngestError::Options(format!("{name} must be above 0")));
    }
    let ours = FIXED.iter().map(|(name, _)| *name).chain(["bootstrap.servers", "group.id"]);
    match ours.into_iter().find(|name| options.client.contains_key(*name)) {
        Some(name) => Err(IngestError::Options(format!("kafka.client may not set {name:?}"))),
        None => Ok(()),
    }
}

struct Running {
    sink: Arc<dyn MarkSink>,
    options: Arc<IngestOptions>,
    consumer: Arc<Leaving<StreamConsumer>>,
    metrics: IngestMetrics,
    dead_letters: Option<DeadLetters>,
    filling: Window,
    /// When what is being filled is sent at the latest.
    send_at: Option<Instant>,
    sending: Option<JoinHandle<Sent>>,
    stopping: Arc<AtomicBool>,
    is_paused: bool,
    at_end: BTreeSet<i32>,
    done: Ingested,
}

impl Running {
    fn start(sink: Arc<dyn MarkSink>, options: IngestOptions) -> Result<Self, IngestError> {
        check(&options)?;
        let failed = |source| IngestError::Kafka { brokers: options.brokers.clone(), source };
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &options.brokers)
            .set("group.id", &options.group)
            .set("client.id", "seen-ingest")
            // A queue is read from its beginning.
            .set("auto.offset.reset", "earliest")
            .set("reconnect.backoff.max.ms", "1000");
        for (name, value) in &options.client {
            config.set(name, value);
        }
        for (name, value) in FIXED {
            config.set(*name, *value);
        }
        let consumer: StreamConsumer = config.create().map_err(failed)?;
        let consumer = Leaving::new(consumer, "the consumer of queued writes");
        consumer.subscribe(&[&options.topic]).map_err(failed)?;
        let opened = options.dead_letters.clone().map(|letters| {
            let path = letters.path.display().to_string();
            DeadLetters::open(letters).map_err(|source| IngestError::DeadLetters { path, source })
        });
        Ok(Self {
            sink,
            metrics: IngestMetrics::new(&options.topic),
            consumer: Arc::new(consumer),
            dead_letters: opened.transpose()?,
            options: Arc::new(options),
            filling: Window::default(),
            send_at: None,
            sending: None,
            stopping: Arc::new(AtomicBool::new(false)),
            is_paused: false,
            at_end: BTreeSet::new(),
            done: Ingested::default(),
        })
    }

    async fn run(
        &mut self,
        stop: impl Future<Output = ()> + Send,
    ) -> Result<Ingested, IngestError> {
        let mut stop = std::pin::pin!(stop);
        let mut say_at = Instant::now() + SAID_EVERY;
        let consumer = Arc::clone(&self.consumer);
        loop {
            let is_idle = self.sending.is_none();
            let wake_at = self.send_at.filter(|_| is_idle).map_or(say_at, |at| at.min(say_at));
            tokio::select! {
                biased;
                () = &mut stop => break,
                sent = sent(&mut self.sending) => {
                    self.sending = None;
                    self.acknowledge(sent?).await?;
                }
                message = consumer.recv() => self.message(message)?,
                () = sleep_until(wake_at) => {}
            }
            if Instant::now() >= say_at {
                say_at = Instant::now() + SAID_EVERY;
                let Ingested { messages, items, dead } = self.done;
                tracing::info!(topic = %self.options.topic, messages, items, dead, "ingested");
            }
            let is_due = self.send_at.is_some_and(|at| Instant::now() >= at);
            if self.sending.is_none() && (is_due || self.is_full()) {
                self.send();
            }
            self.pause(self.is_full());
            if self.options.once && self.is_at_end() {
                break;
            }
        }
        self.stopping.store(true, Ordering::Release);
        if self.sending.is_some() {
            let sent = sent(&mut self.sending).await?;
            self.sending = None;
            self.acknowledge(sent).await?;
        }
        Ok(self.done)
    }

    fn is_full(&self) -> bool {
        self.filling.items() >= self.options.window_items_max
            || self.filling.bytes() >= WINDOW_BYTES_MAX
    }

    fn is_at_end(&self) -> bool {
        let assigned = self.consumer.assignment().map_or(0, |list| list.count());
        self.filling.is_empty()
            && self.sending.is_none()
            && assigned > 0
            && self.at_end.len() >= assigned
    }

    fn message(&mut self, message: KafkaResult<BorrowedMessage<'_>>) -> Result<(), IngestError> {
        match message {
            Ok(message) => {
                let record = KafkaRecord::of(&message);
                self.at_end.remove(&record.partition);
                let said = record.with(|record| self.sink.read(record));
                if let Some(reason) = said.later {
                    let KafkaRecord { topic, partition, offset, .. } = record;
                    return Err(IngestError::Unreadable { topic, partition, offset, reason });
                }
                self.filling.add(record, said, self.options.items_max);
                let wait = Duration::from_millis(self.options.window_ms);
                self.send_at.get_or_insert_with(|| Instant::now() + wait);
                // What comes although it is full is of partitions that came later.
                self.is_paused &= !self.is_full();
                Ok(())
            }
            Err(KafkaError::PartitionEOF(partition)) => {
                self.at_end.insert(partition);
                Ok(())
            }
            Err(source @ KafkaError::MessageConsumptionFatal(_)) => {
                Err(IngestError::Kafka { brokers: self.options.brokers.clone(), source })
            }
            Err(error) => {
                tracing::warn!(topic = %self.options.topic, %error, "kafka cannot be read now");
                self.metrics.errors.increment(1);
                Ok(())
            }
        }
    }

    /// Reading stops while enough waits; the group is kept alive by asking for messages all the same.
    fn pause(&mut self, is_full: bool) {
        if is_full == self.is_paused {
            return;
        }
        let changed = self.consumer.assignment().and_then(|list| match is_full {
            true => self.consumer.pause(&list),
            false => self.consumer.resume(&list),
        });
        match changed {
            Ok(()) => self.is_paused = is_full,
            Err(error) => tracing::warn!(%error, "kafka cannot pause"),
        }
    }

    fn send(&mut self) {
        self.send_at = None;
        let window = std::mem::take(&mut self.filling);
        let (sink, options) = (Arc::clone(&self.sink), Arc::clone(&self.options));
        let (stopping, retries) = (Arc::clone(&self.stopping), self.metrics.retries.clone());
        self.sending = Some(tokio::spawn(send(sink, options, window, stopping, retries)));
    }

    /// Commits a window, if all of it is done.
    async fn acknowledge(&mut self, sent: Sent) -> Result<(), IngestError> {
        if !sent.is_whole {
            // Nothing after it may be committed either.
            return match self.stopping.load(Ordering::Acquire) {
                true => Ok(()),
                false => Err(IngestError::Task("a mark")),
            };
        }
        for (message, reason) in &sent.dead {
            window::keep(self.dead_letters.as_mut(), message, reason);
        }
        let mut list = TopicPartitionList::new();
        for (partition, next) in &sent.ends {
            let added =
                list.add_partition_offset(&self.options.topic, *partition, Offset::Offset(*next));
            added.map_err(|source| IngestError::Kafka {
                brokers: self.options.brokers.clone(),
                source,
            })?;
        }
        let consumer = Arc::clone(&self.consumer);
        let committing = spawn_blocking(move || consumer.commit(&list, CommitMode::Sync));
        if let Err(error) = committing.await.map_err(|_| IngestError::Task("committing"))? {
            // The group has given the partitions to others, or Kafka is away: the messages come again.
            tracing::warn!(%error, "kafka did not take the group's offsets");
            self.metrics.errors.increment(1);
        }
        self.done.messages += sent.messages;
        self.done.items += sent.items;
        self.done.dead += sent.dead.len() as u64;
        self.metrics.messages.increment(sent.messages);
        self.metrics.items.increment(sent.items);
        self.metrics.dead.increment(sent.dead.len() as u64);
        Ok(())
    }
}

/// Waits for what is being sent; for ever if nothing is.
async fn sent(sending: &mut Option<JoinHandle<Sent>>) -> Result<Sent, IngestError> {
    match sending {
        Some(sending) => sending.await.map_err(|_| IngestError::Task("sending")),
        None => std::future::pending().await,
    }
}
