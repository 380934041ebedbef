//! The relay: follows any change feed and writes what it tells to a topic of the project's own format,
//! whose partitions are ranges of virtual slots, so that a replica follows only its share.
//!
//! `follow` reads one feed of the source; `lanes` spreads its events over the target's partitions; `target`
//! writes them, one transaction after the other; `tail` finds where an earlier relay stopped. What the
//! source told once is never missing between two records, and comes again with the same stamps.
//!
//! One relay a topic: whoever begins takes the topic over from whoever was before (`target`). Two stores
//! are not joined in one topic: their commits are numbered apart, and a history whose numbering changes is
//! in doubt each time. Each has a topic of its own; an old store's rows come into a new one by `ingest`.

mod follow;
mod lanes;
mod metrics;
mod start;
mod tail;
mod target;

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rdkafka::error::KafkaError;
use seen_filter::hash::HashKey;
use seen_filter::{ChangeFeed, FeedError, NamespaceId, Shard};
use thiserror::Error;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet, spawn_blocking};
use tokio::time::{Instant, sleep_until};

use self::follow::Told;
use self::lanes::{Lanes, Outgoing};
use self::target::Target;

pub use metrics::METRICS as RELAY_METRICS;

/// Batches of the source that wait, at most, for each topic.
const BATCHES_MAX: usize = 16;
/// Within this time every partition of the target is told how far the source has come.
const QUIET: Duration = Duration::from_millis(500);

/// What to relay, and how.
#[derive(Clone)]
pub struct RelayOptions {
    /// The brokers to begin with: `host:port`, separated by commas.
    pub brokers: String,
    /// Further settings of librdkafka, such as `security.protocol`.
    pub client: BTreeMap<String, String>,
    /// The topics to write to, one for each shard of the source.
    pub topics: Vec<String>,
    /// What spreads users over partitions.
    pub hash_key: HashKey,
    /// The histories, by number and name.
    pub namespaces: Vec<(NamespaceId, String)>,
    /// How many partitions a topic is made with where it does not exist; `None`: that is an error.
    pub create: Option<u16>,
    /// Longest time that events wait for others before they are committed together, in milliseconds.
    pub commit_interval_ms: u64,
    /// Bytes of records after which they do not wait.
    pub commit_bytes: usize,
    /// Most events that are taken from the source at once.
    pub batch_events_max: usize,
    /// How long Kafka keeps an unfinished transaction of a relay that is gone, in milliseconds.
    pub transaction_timeout_ms: u64,
    /// How long Kafka may take to answer a question, in milliseconds.
    pub connect_timeout_ms: u64,
    /// End as soon as the source has been read to its end and that is written.
    pub once: bool,
}

/// Why a relay ended.
#[derive(Debug, Error)]
pub enum RelayError {
    /// The options contradict each other.
    #[error("{0}")]
    Options(String),
    /// librdkafka refused its settings, or Kafka refused what was asked.
    #[error("kafka {brokers}: {source}; see kafka.client for settings of librdkafka")]
    Kafka {
        /// Who was asked.
        brokers: String,
        /// What it said.
        source: KafkaError,
    },
    /// The topic is not there.
    #[error(
        "topic {topic:?} does not exist: create it with as many partitions as it shall ever have, or \
         let the relay do so (--create-topic PARTITIONS)"
    )]
    NoTopic {
        /// Its name.
        topic: String,
    },
    /// The topic holds something else.
    #[error(
        "topic {topic:?} is not this relay's: partition {partition}, record {offset}: {why}; give it a \
         topic of its own"
    )]
    Foreign {
        /// Its name.
        topic: String,
        /// The record's partition.
        partition: u16,
        /// The record.
        offset: i64,
        /// What is wrong with it.
        why: String,
    },
    /// Another relay writes to the topic now.
    #[error("another relay has taken topic {topic:?} over: this one ends")]
    Fenced {
        /// The topic.
        topic: String,
    },
    /// The producer cannot go on.
    #[error("topic {topic:?} cannot be written any more: {reason}; start the relay again")]
    Ended {
        /// The topic.
        topic: String,
        /// What librdkafka said.
        reason: String,
    },
    /// The relay was to stop, and Kafka did not answer.
    #[error("topic {topic:?}: the last events were not acknowledged ({source}); they come again")]
    Unacknowledged {
        /// The topic.
        topic: String,
        /// What Kafka said.
        source: KafkaError,
    },
    /// The source.
    #[error("the source cannot be read: {0}")]
    Source(#[from] FeedError),
    /// The source's partitions number their commits apart.
    #[error(
        "the partitions of the source number their events apart, so that they cannot become one \
         sequence: follow its topic itself, or all of it as one (kafka.partitioner = unknown); history \
         {history}"
    )]
    NumberedApart {
        /// The history's number.
        history: NamespaceId,
    },
    /// A task or thread of the relay ended.
    #[error("{0} ended unexpectedly")]
    Task(&'static str),
}

/// What a relay did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Relayed {
    /// Events read from the source.
    pub events: u64,
    /// Records that Kafka acknowledged.
    pub records: u64,
}

/// Relays until `stop` ends, the source ends, or (`once`) all of it is written. Kafka or a source that is
/// away is waited for. While Kafka does not answer, `stop` takes effect at the end of what is being tried:
/// after some ten seconds for a transaction, and 5 seconds or the connect timeout at the beginning. The same
/// goes for the threads of a relay that is dropped. At the end its producer is waited for, ten seconds at most.
///
/// # Errors
/// [`RelayError`]. What was acknowledged is not read again after a restart, everything else is.
pub async fn relay(
    source: Arc<dyn ChangeFeed>,
    options: RelayOptions,
    stop: impl Future<Output = ()> + Send,
) -> Result<Relayed, RelayError> {
    start::check(&options, source.shards())?;
    let options = Arc::new(options);
    let (stopping, stopped) = (Stopping::default(), watch::Sender::new(false));
    let mut shards = JoinSet::new();
    for (shard, topic) in (0..).map(Shard::new).zip(options.topics.clone()) {
        let shard = ShardRelay {
            source: Arc::clone(&source),
            options: Arc::clone(&options),
            shard,
            topic,
            stopping: Arc::clone(&stopping.0),
        };
        shards.spawn(shard.run(stopped.subscribe()));
    }
    let mut stop = std::pin::pin!(stop);
    let mut all = Relayed::default();
    let mut is_stopped = false;
    loop {
        tokio::select! {
            ended = shards.join_next() => match ended {
                None => return Ok(all),
                Some(Ok(Ok(one))) => {
                    all.events += one.events;
                    all.records += one.records;
                }
                Some(Ok(Err(error))) => return Err(error),
                Some(Err(_)) => return Err(RelayError::Task("the relay of a shard")),
            },
            () = &mut stop, if !is_stopped => {
                is_stopped = true;
                stopping.say();
                stopped.send_replace(true);
            }
        }
    }
}

/// What blocking calls look at between two attempts. They end as well when one shard's relay has failed,
/// or whoever waited for all of them has gone: else they would try for as long as Kafka is away.
#[derive(Default)]
struct Stopping(Arc<AtomicBool>);

impl Stopping {
    fn say(&self) {
        self.0.store(true, Ordering::Release);
    }
}

impl Drop for Stopping {
    fn drop(&mut self) {
        self.say();
    }
}

/// The relay of one shard.
struct ShardRelay {
    source: Arc<dyn ChangeFeed>,
    options: Arc<RelayOptions>,
    shard: Shard,
    topic: String,
    stopping: Arc<AtomicBool>,
}

/// Ends when the relay is to stop.
async fn is_stopped(stopped: &mut watch::Receiver<bool>) {
    drop(stopped.wait_for(|stopped| *stopped).await);
}

/// A shard's relay under way.
struct Running {
    /// By history.
    histories: Vec<(NamespaceId, Lanes)>,
    /// By number of the feed: its history's place, and its own among that history's.
    feeds: Vec<(usize, usize)>,
    at_end: Vec<bool>,
    target: Arc<Target>,
    done: Relayed,
    /// The readers of the source; ended with this.
    _readers: JoinSet<()>,
}

impl ShardRelay {
    async fn run(self, mut stopped: watch::Receiver<bool>) -> Result<Relayed, RelayError> {
        let (told, mut batches) = mpsc::channel(BATCHES_MAX);
        let Some(mut running) = self.start(told).await? else { return Ok(Relayed::default()) };
        // Kept while batches without events come: lanes that stand still are told so all the same.
        let mut commit_at = Instant::now() + QUIET / 2;
        loop {
            tokio::select! {
                biased;
                () = is_stopped(&mut stopped) => break,
                told = batches.recv() => {
                    let Some(told) = told else { break };
                    running.take(told)?;
                    let is_full = |running: &Running| running.bytes() >= self.options.commit_bytes;
                    while !is_full(&running) && let Ok(told) = batches.try_recv() {
                        running.take(told)?;
                    }
                    if running.has_events() {
                        let wait = Duration::from_millis(self.options.commit_interval_ms);
                        commit_at = commit_at.min(Instant::now() + wait);
                    }
                    let is_over = self.options.once && running.is_at_end();
                    if !is_over && !is_full(&running) && Instant::now() < commit_at {
                        continue;
                    }
                }
                () = sleep_until(commit_at) => {}
            }
            commit_at = Instant::now() + QUIET / 2;
            if self.options.once && running.is_at_end() {
                break;
            }
            running.commit(false).await?;
        }
        running.commit(true).await?;
        let Running { target, done, .. } = running;
        if let Some(target) = Arc::into_inner(target) {
            target.end().await;
        }
        Ok(done)
    }
}

impl Running {
    fn take(&mut self, (at, told): Told) -> Result<(), RelayError> {
        let batch = told?;
        let Some((history, own)) = self.feeds.get(at).copied() else { return Ok(()) };
        if let Some((id, lanes)) = self.histories.get_mut(history) {
            lanes.take(own, &batch, *id)?;
        }
        self.done.events += batch.events.len() as u64;
        // Once is enough: `once` is about what there was, not about what goes on being written.
        if let Some(at_end) = self.at_end.get_mut(at) {
            *at_end |= batch.caught_up;
        }
        Ok(())
    }

    fn is_at_end(&self) -> bool {
        self.at_end.iter().all(|at_end| *at_end)
    }

    fn has_events(&self) -> bool {
        self.histories.iter().any(|(_, lanes)| lanes.has_events())
    }

    fn bytes(&self) -> usize {
        self.histories.iter().map(|(_, lanes)| lanes.full_bytes()).sum()
    }

    /// Writes what there is. Meanwhile the source is read on, up to a bound.
    async fn commit(&mut self, all: bool) -> Result<(), RelayError> {
        let mut records: Vec<Outgoing> = Vec::new();
        for (_, lanes) in &mut self.histories {
            lanes.flush(Instant::now(), all, &mut records);
        }
        if records.is_empty() {
            return Ok(());
        }
        self.done.records += records.len() as u64;
        let target = Arc::clone(&self.target);
        let committed: JoinHandle<_> = spawn_blocking(move || target.commit(&records));
        committed.await.map_err(|_| RelayError::Task("the producer"))?
    }
}
