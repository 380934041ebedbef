//! Looking at a topic from time to time: how many partitions it has, and where they end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use rdkafka::consumer::Consumer;
use rdkafka::error::KafkaResult;

use crate::context::TopicConsumer;

/// What a topic looked like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Look {
    /// Before Kafka was asked.
    pub began: Instant,
    /// By partition: the oldest record kept, and the one that will come next; `None` where nobody leads
    /// it now.
    pub ends: Vec<Option<(u64, u64)>>,
}

/// The newest look, and who takes it.
pub(crate) struct Looker {
    seen: Arc<Seen>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Seen {
    /// The newest look that nobody has taken yet; `Err` says why there is none.
    newest: Mutex<Option<Result<Look, String>>>,
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
        consumer: Arc<TopicConsumer>,
        topic: String,
        interval: Duration,
        timeout: Duration,
    ) -> std::io::Result<Self> {
        let seen = Arc::new(Seen::default());
        let own = Arc::clone(&seen);
        let run = move || {
            while own.waits(INTERVAL_MIN.min(interval), interval) {
                let look = look(&consumer, &topic, timeout).map_err(|error| error.to_string());
                *own.newest.lock() = Some(look);
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
    pub fn take(&self) -> Option<Result<Look, String>> {
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
    let metadata = consumer.fetch_metadata(Some(topic), timeout)?;
    let named = metadata.topics().iter().find(|found| found.name() == topic);
    let count = named.filter(|found| found.error().is_none()).map_or(0, |t| t.partitions().len());
    Ok(u16::try_from(count).unwrap_or(u16::MAX))
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

fn look(consumer: &TopicConsumer, topic: &str, timeout: Duration) -> KafkaResult<Look> {
    let began = Instant::now();
    let count = partitions(consumer, topic, timeout)?;
    let ends = (0..count).map(|partition| ends(consumer, topic, partition, timeout).ok());
    Ok(Look { began, ends: ends.collect() })
}
