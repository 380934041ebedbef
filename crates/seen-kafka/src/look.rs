//! Looking at a topic from time to time: who it is, how many partitions it has, and where they end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, KafkaResult};

use crate::context::TopicConsumer;
use crate::leave::Leaving;
use crate::topic_id::{self, TopicId};

/// What a topic looked like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Look {
    /// Before Kafka was asked.
    pub began: Instant,
    /// Whose ends these are; `None` if Kafka does not tell topics of one name apart.
    pub id: Option<TopicId>,
    /// By partition: the oldest record kept, and the one that will come next; `None` where nobody leads
    /// it now.
    pub ends: Vec<Option<(u64, u64)>>,
}

/// A look at which nothing was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Blind {
    /// Before Kafka was asked.
    pub began: Instant,
    /// What Kafka, or its client, said.
    pub why: String,
}

/// The newest look, and who takes it.
pub(crate) struct Looker {
    seen: Arc<Seen>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Seen {
    /// The newest look that nobody has taken yet.
    newest: Mutex<Option<Result<Look, Blind>>>,
    is_new: AtomicBool,
    wishes: Mutex<Wishes>,
    wished: Condvar,
}

#[derive(Default)]
struct Wishes {
    stop: bool,
    /// Somebody waits for a look that begins from now on.
    hurry: bool,
}

/// Shortest time between two looks, however much somebody waits for them.
const INTERVAL_MIN: Duration = Duration::from_millis(100);

impl Looker {
    /// Looks at a topic each `interval`, on a thread of its own: asking may take as long as `timeout`.
    ///
    /// # Errors
    /// If no thread can be had.
    pub fn start(
        consumer: Arc<Leaving<TopicConsumer>>,
        topic: String,
        interval: Duration,
        timeout: Duration,
    ) -> std::io::Result<Self> {
        let seen = Arc::new(Seen::default());
        let own = Arc::clone(&seen);
        let run = move || {
            while own.waits(INTERVAL_MIN.min(interval), interval) {
                let began = Instant::now();
                let look = look(&consumer, &topic, timeout);
                *own.newest.lock() = Some(look.map_err(|why| Blind { began, why }));
                own.is_new.store(true, Ordering::Release);
            }
        };
        let thread = Builder::new().name("kafka-look".to_owned()).spawn(run)?;
        Ok(Self { seen, thread: Some(thread) })
    }

    /// Asks for a look that begins from now on, before the next one would be due.
    pub fn hurry(&self) {
        self.seen.wishes.lock().hurry = true;
        self.seen.wished.notify_all();
    }

    /// A look that was not taken before.
    pub fn take(&self) -> Option<Result<Look, Blind>> {
        if !self.seen.is_new.swap(false, Ordering::AcqRel) {
            return None;
        }
        self.seen.newest.lock().take()
    }
}

impl Seen {
    /// Waits for the next look, at least `least`. False at the end.
    fn waits(&self, least: Duration, most: Duration) -> bool {
        let began = Instant::now();
        let mut wishes = self.wishes.lock();
        loop {
            let due = if wishes.hurry { least } else { most };
            let rest = due.saturating_sub(began.elapsed());
            if wishes.stop || rest.is_zero() {
                wishes.hurry = false;
                return !wishes.stop;
            }
            self.wished.wait_for(&mut wishes, rest);
        }
    }
}

impl Drop for Looker {
    fn drop(&mut self) {
        self.seen.wishes.lock().stop = true;
        self.seen.wished.notify_all();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

/// How many partitions a topic has; 0 if it does not exist.
pub(crate) fn partitions(
    consumer: &TopicConsumer,
    topic: &str,
    timeout: Duration,
) -> KafkaResult<u16> {
    let brokers = brokers(consumer, topic, timeout)?;
    Ok(u16::try_from(brokers.leaders.len()).unwrap_or(u16::MAX))
}

/// Whom to ask about a topic: numbers of brokers, below 0 where there is none.
struct Brokers {
    /// By partition, who leads it; empty if the topic does not exist.
    leaders: Vec<i32>,
    /// Who answered just now.
    alive: i32,
}

fn brokers(consumer: &TopicConsumer, topic: &str, timeout: Duration) -> KafkaResult<Brokers> {
    let metadata = consumer.fetch_metadata(Some(topic), timeout)?;
    let named = metadata.topics().iter().find(|found| found.name() == topic);
    let found = named.filter(|found| found.error().is_none());
    let partitions = found.map_or(&[][..], |found| found.partitions());
    let leaders: BTreeMap<i32, i32> =
        partitions.iter().map(|part| (part.id(), part.leader())).collect();
    let leaders: Vec<i32> = leaders.into_values().collect();
    // Kafka's client may not know the number of the one that it began with.
    let first = leaders.iter().copied().find(|leader| *leader >= 0);
    let alive = Some(metadata.orig_broker_id()).filter(|id| *id >= 0).or(first);
    Ok(Brokers { leaders, alive: alive.unwrap_or(-1) })
}

/// The oldest record kept of a partition, and the one that will come next.
pub(crate) fn ends(
    consumer: &TopicConsumer,
    topic: &str,
    partition: u16,
    timeout: Duration,
) -> KafkaResult<(u64, u64)> {
    let (low, high) = consumer.fetch_watermarks(topic, i32::from(partition), timeout)?;
    Ok((u64::try_from(low).unwrap_or(0), u64::try_from(high).unwrap_or(0)))
}

fn look(consumer: &TopicConsumer, topic: &str, timeout: Duration) -> Result<Look, String> {
    let said = |error: KafkaError| error.to_string();
    let began = Instant::now();
    let Brokers { leaders, alive } = brokers(consumer, topic, timeout).map_err(said)?;
    let id = topic_id::ask(consumer, alive, topic, timeout).map_err(said)?;
    // Whoever did not answer in time is not waited for once more for each of its partitions.
    let mut silent = Vec::new();
    let mut ends_of = |(partition, leader): (u16, &i32)| {
        if *leader < 0 || silent.contains(leader) {
            return None;
        }
        let asked = Instant::now();
        let ends = ends(consumer, topic, partition, timeout).ok();
        if ends.is_none() && asked.elapsed() >= timeout {
            silent.push(*leader);
        }
        ends
    };
    let ends = (0..u16::MAX).zip(&leaders).map(&mut ends_of).collect();
    // The ends of one topic must not pass for those of another.
    if topic_id::ask(consumer, alive, topic, timeout).map_err(said)? != id {
        return Err("the topic was made anew while it was looked at".to_owned());
    }
    Ok(Look { began, id, ends })
}
