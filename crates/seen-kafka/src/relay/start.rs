//! Beginning: the topic is taken over, what was written before is found, and the source is opened there.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::types::RDKafkaErrorCode;
use seen_filter::FeedId;
use tokio::sync::mpsc::Sender;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::Instant;

use super::follow::{Followed, Told};
use super::lanes::{Lanes, LanesOptions};
use super::metrics::SourceMetrics;
use super::tail::{self, Search, SourceName, Tail};
use super::target::{self, Target, Tried, until_done};
use super::{QUIET, RelayError, RelayOptions, Relayed, Running, ShardRelay};
use crate::leave::Leaving;
use crate::look;
use crate::partitioner::Partitioner;

/// What was found at the target.
struct Found {
    target: Target,
    partitions: u16,
    tail: Tail,
}

pub(super) fn check(options: &RelayOptions, shards: u16) -> Result<(), RelayError> {
    let refuse = |why: String| Err(RelayError::Options(why));
    if options.topics.len() != usize::from(shards) {
        let topics = options.topics.len();
        return refuse(format!("{topics} topics for a source of {shards} shards: one for each"));
    }
    if let Some(twice) =
        options.topics.iter().enumerate().find(|(at, one)| options.topics[..*at].contains(one))
    {
        return refuse(format!("topic {:?} is that of two shards: name it by {{shard}}", twice.1));
    }
    if options.namespaces.is_empty() {
        return refuse("no history to relay".to_owned());
    }
    let bounds = [
        ("commit_bytes", options.commit_bytes),
        ("batch_events_max", options.batch_events_max),
        ("create", options.create.map_or(1, usize::from)),
    ];
    if let Some((name, _)) = bounds.iter().find(|(_, value)| *value == 0) {
        return refuse(format!("{name} must be above 0"));
    }
    if options.connect_timeout_ms == 0 || options.transaction_timeout_ms == 0 {
        return refuse("connect_timeout_ms and transaction_timeout_ms must be above 0".to_owned());
    }
    match target::set_by_us(options) {
        Some(name) => refuse(format!("kafka.client may not set {name:?}: the relay rests on it")),
        None => Ok(()),
    }
}

impl ShardRelay {
    /// `None` if the relay was to stop before Kafka answered.
    pub(super) async fn start(&self, told: Sender<Told>) -> Result<Option<Running>, RelayError> {
        let feeds: Vec<FeedId> =
            self.source.feeds().into_iter().filter(|feed| feed.shard == self.shard).collect();
        let wanted: Vec<SourceName> = feeds.iter().filter_map(|feed| self.named(*feed)).collect();
        if wanted.len() < feeds.len() {
            let why = "the source has a history without a name".to_owned();
            return Err(RelayError::Options(why));
        }
        self.create().await?;
        let (options, topic) = (Arc::clone(&self.options), self.topic.clone());
        let (shard, stopping) = (self.shard, Arc::clone(&self.stopping));
        let own = wanted.clone();
        let finding = spawn_blocking(move || {
            // First nobody else writes any more, then it is looked what was written.
            let Some(target) = Target::take_over(&options, &topic, Arc::clone(&stopping))? else {
                return Ok(None);
            };
            let consumer = target::consumer(&options)?;
            let timeout = Duration::from_millis(options.connect_timeout_ms);
            let count = || match look::partitions(&consumer, &topic, timeout) {
                Ok(0) => Tried::Never(RelayError::NoTopic { topic: topic.clone() }),
                Ok(count) => Tried::Done(count),
                Err(error) => Tried::Later(error),
            };
            let Some(partitions) =
                until_done(&stopping, (&topic, "looking at the topic"), count, || ())?
            else {
                return Ok(None);
            };
            // A consumer of its own for each attempt: one that has lost its way stays lost.
            let search = || {
                let consumer = match target::consumer(&options) {
                    Ok(consumer) => consumer,
                    Err(error) => return Tried::Never(error),
                };
                let (consumer, topic, wanted) = (&consumer, topic.as_str(), own.as_slice());
                Search { consumer, topic, shard, partitions, wanted, timeout }.run()
            };
            let what = "looking for what was written";
            let tail = until_done(&stopping, (&topic, what), search, || ())?;
            Ok(tail.map(|tail| Found { target, partitions, tail }))
        });
        match finding.await.map_err(|_| RelayError::Task("looking at Kafka"))? {
            Ok(None) => Ok(None),
            Ok(Some(found)) => self.follow(&feeds, &wanted, found, told).map(Some),
            Err(error) => Err(error),
        }
    }

    fn named(&self, feed: FeedId) -> Option<SourceName> {
        let (_, name) = self.options.namespaces.iter().find(|(id, _)| *id == feed.namespace)?;
        Some((name.clone(), feed.partition.get()))
    }

    /// Opens the source where the target ends.
    fn follow(
        &self,
        feeds: &[FeedId],
        names: &[SourceName],
        found: Found,
        told: Sender<Told>,
    ) -> Result<Running, RelayError> {
        let mut readers = JoinSet::new();
        let mut numbers = vec![(0, 0); feeds.len()];
        let mut histories = Vec::new();
        for (id, name) in &self.options.namespaces {
            let mut sources = Vec::new();
            for (at, feed) in feeds.iter().enumerate().filter(|(_, feed)| feed.namespace == *id) {
                let written = names.get(at).and_then(|name| found.tail.get(name));
                let (start, gap) = tail::begin(written.map_or(&[], Vec::as_slice));
                tracing::info!(%feed, topic = %self.topic, ?start, gap, "relaying");
                if let Some(number) = numbers.get_mut(at) {
                    *number = (histories.len(), sources.len());
                }
                sources.push((feed.partition, gap));
                let followed = Followed {
                    source: Arc::clone(&self.source),
                    feed: *feed,
                    start,
                    at,
                    events_max: self.options.batch_events_max,
                    metrics: SourceMetrics::new(*feed, name),
                };
                readers.spawn(followed.run(told.clone()));
            }
            let options = LanesOptions {
                name,
                shard: self.shard,
                sources,
                partitions: found.partitions,
                partitioner: Partitioner::Slots(self.options.hash_key),
                quiet: QUIET,
            };
            let lanes = Lanes::new(options, Instant::now())
                .map_err(|error| RelayError::Options(format!("history {name:?}: {error}")))?;
            histories.push((*id, lanes));
        }
        Ok(Running {
            histories,
            feeds: numbers,
            at_end: vec![false; feeds.len()],
            target: Arc::new(found.target),
            done: Relayed::default(),
            _readers: readers,
        })
    }

    /// Makes the topic, if that is wanted and it is not there.
    async fn create(&self) -> Result<(), RelayError> {
        let Some(partitions) = self.options.create else { return Ok(()) };
        let failed = |source| RelayError::Kafka { brokers: self.options.brokers.clone(), source };
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.options.brokers);
        for (name, value) in &self.options.client {
            config.set(name, value);
        }
        let admin: AdminClient<DefaultClientContext> = config.create().map_err(failed)?;
        let admin = Leaving::new(admin, "the client that makes a relay's topic");
        // Records have no keys: a compacted topic would refuse them.
        let topic = NewTopic::new(&self.topic, i32::from(partitions), TopicReplication::Fixed(-1))
            .set("cleanup.policy", "delete");
        let timeout = Some(Duration::from_millis(self.options.connect_timeout_ms));
        let asked = AdminOptions::new().operation_timeout(timeout).request_timeout(timeout);
        let made = admin.create_topics([&topic], &asked).await.map_err(failed)?;
        match made.into_iter().next() {
            Some(Err((_, code))) if code != RDKafkaErrorCode::TopicAlreadyExists => {
                Err(failed(rdkafka::error::KafkaError::AdminOp(code)))
            }
            _ => Ok(()),
        }
    }
}
