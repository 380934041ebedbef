//! The topic that is written to. One transaction at a time, under an id of the topic's own: a second
//! relay that begins takes the id over, and the first one's next commit fails ([`RelayError::Fenced`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};

use super::lanes::Outgoing;
use super::metrics::TopicMetrics;
use super::{RelayError, RelayOptions};
use crate::context::{Quiet, TopicConsumer};
use crate::leave::Leaving;

/// Longest wait for one answer of Kafka's, after which it is looked whether to stop.
const ANSWER_MAX: Duration = Duration::from_secs(1);
/// Pause between two attempts.
const PAUSE: Duration = Duration::from_millis(200);
/// How often it is said what is waited for.
const SAID_EVERY: Duration = Duration::from_secs(10);
/// After so many refusals in a row, all for the producer's own state, it is given up.
const REFUSED_MAX: u32 = 10;
/// So often a call that went on after its time is made again though it is refused for the producer's state.
const RESUMED_MAX: u32 = 3;
/// How long an attempt may go on once the relay is to stop. The call under way at its end comes on top, and
/// then giving the transaction up: [`ANSWER_MAX`] for that, five times as much for a commit.
const STOP_MAX: Duration = Duration::from_secs(5);

/// Settings of librdkafka that nobody may set: what is promised rests on them.
const OF_PRODUCER: &[(&str, &str)] =
    &[("enable.idempotence", "true"), ("acks", "all"), ("allow.auto.create.topics", "false")];

/// The same of the consumer that looks for what was written before.
const OF_CONSUMER: &[(&str, &str)] = &[
    ("group.id", "seen"),
    ("enable.auto.commit", "false"),
    ("enable.auto.offset.store", "false"),
    ("allow.auto.create.topics", "false"),
    ("auto.offset.reset", "error"),
    ("enable.partition.eof", "true"),
    ("check.crcs", "true"),
    ("isolation.level", "read_committed"),
    // The end of what is there is wanted at once, and nothing that comes later.
    ("fetch.wait.max.ms", "10"),
];

/// A setting among the options that is not theirs to set.
pub(super) fn set_by_us(options: &RelayOptions) -> Option<&'static str> {
    let fixed = OF_PRODUCER.iter().chain(OF_CONSUMER).map(|(name, _)| *name);
    let more = ["bootstrap.servers", "transactional.id", "transaction.timeout.ms"];
    fixed.chain(more).find(|name| options.client.contains_key(*name))
}

fn config(options: &RelayOptions, fixed: &[(&str, &str)]) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &options.brokers)
        .set("client.id", "seen-relay")
        .set("reconnect.backoff.max.ms", "1000");
    for (name, value) in &options.client {
        config.set(name, value);
    }
    for (name, value) in fixed {
        config.set(*name, *value);
    }
    config
}

/// A consumer of what was written.
pub(super) fn consumer(options: &RelayOptions) -> Result<Leaving<TopicConsumer>, RelayError> {
    config(options, OF_CONSUMER)
        .create_with_context(Quiet)
        .map(|consumer| Leaving::new(consumer, "the consumer of what a relay has written"))
        .map_err(|source| refused(options, source))
}

fn refused(options: &RelayOptions, source: KafkaError) -> RelayError {
    RelayError::Kafka { brokers: options.brokers.clone(), source }
}

/// Waits a little. On a thread for blocking calls, which is never unparked.
fn pause() {
    std::thread::park_timeout(PAUSE);
}

/// Something to try until it is done or the relay is to stop.
pub(super) enum Tried<T> {
    Done(T),
    /// It may be done later.
    Later(KafkaError),
    Never(RelayError),
}

/// Tries until it is done. `None` if the relay was to stop before.
pub(super) fn until_done<T>(
    stopping: &AtomicBool,
    (topic, what): (&str, &'static str),
    mut attempt: impl FnMut() -> Tried<T>,
    mut failed: impl FnMut(),
) -> Result<Option<T>, RelayError> {
    let mut waiting: Option<Waiting<'_>> = None;
    loop {
        match attempt() {
            Tried::Done(done) => return Ok(Some(done)),
            Tried::Never(error) => return Err(error),
            Tried::Later(error) => {
                failed();
                if let Some(waiting) = &mut waiting {
                    waiting.goes_on(&error);
                } else {
                    tracing::warn!(topic, what, %error, "kafka does not do it now: it is tried again");
                    waiting = Some(Waiting::new(topic, what));
                }
            }
        }
        if stopping.load(Ordering::Acquire) {
            return Ok(None);
        }
        pause();
    }
}

/// Something that is waited for as long as it takes: that is said from time to time.
struct Waiting<'a> {
    topic: &'a str,
    what: &'static str,
    since: Instant,
    said: Instant,
}

impl<'a> Waiting<'a> {
    fn new(topic: &'a str, what: &'static str) -> Self {
        let now = Instant::now();
        Self { topic, what, since: now, said: now }
    }

    fn goes_on(&mut self, error: &KafkaError) {
        if self.said.elapsed() > SAID_EVERY {
            self.said = Instant::now();
            let (topic, what, seconds) = (self.topic, self.what, self.since.elapsed().as_secs());
            tracing::warn!(topic, what, seconds, %error, "kafka has not done it yet");
        }
    }
}

/// Makes a call of librdkafka's, and makes it again as long as it goes on after its time: another call would
/// be refused, or take the answer for its own. `goes_on` says whether to wait for it.
fn resumed(
    mut call: impl FnMut() -> KafkaResult<()>,
    mut goes_on: impl FnMut(&KafkaError) -> bool,
) -> KafkaResult<()> {
    let (mut is_late, mut refused) = (false, 0);
    loop {
        let Err(error) = call() else { return Ok(()) };
        let is_resumed = match &error {
            KafkaError::Transaction(told) if told.is_retriable() => true,
            // Before the call itself it is waited for what is still to be delivered.
            KafkaError::Flush(_) => true,
            // An answer that came late may have been taken for the next step's: it goes on all the same.
            error if error.rdkafka_error_code() == Some(RDKafkaErrorCode::State) && is_late => {
                refused += 1;
                refused <= RESUMED_MAX
            }
            _ => false,
        };
        if !is_resumed || !goes_on(&error) {
            return Err(error);
        }
        is_late = true;
    }
}

/// The topic of one shard.
pub(super) struct Target {
    producer: Leaving<BaseProducer>,
    topic: String,
    stopping: Arc<AtomicBool>,
    metrics: TopicMetrics,
}

impl Target {
    /// Takes the topic over. `None` if the relay was to stop before Kafka answered. Blocks.
    pub fn take_over(
        options: &RelayOptions,
        topic: &str,
        stopping: Arc<AtomicBool>,
    ) -> Result<Option<Self>, RelayError> {
        let timeout = options.transaction_timeout_ms;
        let mut config = config(options, OF_PRODUCER);
        if config.get("compression.type").is_none() {
            config.set("compression.type", "lz4");
        }
        let producer: BaseProducer = config
            // A transaction is sent as soon as it is whole.
            .set("linger.ms", "0")
            .set("transactional.id", format!("seen-relay/{topic}"))
            .set("transaction.timeout.ms", timeout.to_string())
            .set("message.timeout.ms", timeout.to_string())
            .create()
            .map_err(|source| refused(options, source))?;
        let producer = Leaving::new(producer, "the producer of a relay");
        let target =
            Self { producer, topic: topic.to_owned(), stopping, metrics: TopicMetrics::new(topic) };
        let attempt = || target.tried(target.producer.init_transactions(ANSWER_MAX * 5));
        let failed = || target.metrics.retries.increment(1);
        let taken =
            until_done(&target.stopping, (topic, "taking the topic over"), attempt, failed)?;
        Ok(taken.map(|()| target))
    }

    /// Takes leave of Kafka.
    pub async fn end(self) {
        self.producer.end().await;
    }

    /// Whether an outcome is final.
    fn tried<T>(&self, outcome: KafkaResult<T>) -> Tried<T> {
        match outcome {
            Ok(done) => Tried::Done(done),
            Err(error) => match self.fatal(&error) {
                Some(fatal) => Tried::Never(fatal),
                None => Tried::Later(error),
            },
        }
    }

    fn fatal(&self, error: &KafkaError) -> Option<RelayError> {
        let topic = self.topic.clone();
        let is_fenced = |code: RDKafkaErrorCode| {
            matches!(
                code,
                RDKafkaErrorCode::Fenced
                    | RDKafkaErrorCode::ProducerFenced
                    | RDKafkaErrorCode::InvalidProducerEpoch
            )
        };
        let told = match error {
            KafkaError::Transaction(error) if error.is_fatal() => {
                Some((error.code(), error.string()))
            }
            _ => None,
        };
        let (code, reason) = self.producer.client().fatal_error().or(told)?;
        Some(match is_fenced(code) {
            true => RelayError::Fenced { topic },
            false => RelayError::Ended { topic, reason },
        })
    }

    /// Writes records, all or none, and returns once Kafka has acknowledged that. While it cannot, it is
    /// tried again. Blocks.
    pub fn commit(&self, records: &[Outgoing]) -> Result<(), RelayError> {
        let mut stopped: Option<Instant> = None;
        let mut refused = 0;
        loop {
            let error = match self.attempt(records, &mut stopped) {
                Ok(()) => break,
                Err(error) => error,
            };
            if let Some(fatal) = self.fatal(&error) {
                return Err(fatal);
            }
            // A client that Kafka answered too late may take neither a transaction nor its end any more.
            let is_refused = error.rdkafka_error_code() == Some(RDKafkaErrorCode::State);
            refused = if is_refused { refused + 1 } else { 0 };
            if refused == REFUSED_MAX {
                let (topic, reason) = (self.topic.clone(), error.to_string());
                return Err(RelayError::Ended { topic, reason });
            }
            self.metrics.retries.increment(1);
            tracing::warn!(topic = %self.topic, %error, "kafka did not take a transaction: once more");
            self.abort(&error, &mut stopped)?;
            self.is_in_time(&mut stopped, &error)?;
            pause();
        }
        let bytes: usize = records.iter().map(|(_, value)| value.len()).sum();
        self.metrics.records.increment(records.len() as u64);
        self.metrics.bytes.increment(bytes as u64);
        self.metrics.commits.increment(1);
        Ok(())
    }

    /// Fails if the relay is to stop and has waited long enough for that.
    fn is_in_time(
        &self,
        stopped: &mut Option<Instant>,
        error: &KafkaError,
    ) -> Result<(), RelayError> {
        if self.stopping.load(Ordering::Acquire)
            && stopped.get_or_insert_with(Instant::now).elapsed() > STOP_MAX
        {
            let topic = self.topic.clone();
            return Err(RelayError::Unacknowledged { topic, source: error.clone() });
        }
        Ok(())
    }

    fn attempt(&self, records: &[Outgoing], stopped: &mut Option<Instant>) -> KafkaResult<()> {
        self.producer.begin_transaction()?;
        for (partition, value) in records {
            let record = || {
                BaseRecord::<(), [u8]>::to(&self.topic)
                    .partition(i32::from(*partition))
                    .payload(value.as_slice())
            };
            while let Err((error, _)) = self.producer.send(record()) {
                if error.rdkafka_error_code() != Some(RDKafkaErrorCode::QueueFull) {
                    return Err(error);
                }
                self.producer.poll(Duration::from_millis(10));
            }
        }
        // Delivery reports are taken here; committing waits for them and does not take them itself.
        let mut waiting = Waiting::new(&self.topic, "records");
        while let Err(error) = self.producer.flush(ANSWER_MAX) {
            waiting.goes_on(&error);
            if self.producer.client().fatal_error().is_some()
                || self.is_in_time(stopped, &error).is_err()
            {
                return Err(error);
            }
        }
        let mut waiting = Waiting::new(&self.topic, "a commit");
        let call = || self.producer.commit_transaction(ANSWER_MAX * 5);
        resumed(call, |error| {
            waiting.goes_on(error);
            self.producer.client().fatal_error().is_none()
                && self.is_in_time(stopped, &KafkaError::Canceled).is_ok()
        })
    }

    /// Gives a transaction up, of which this went wrong.
    fn abort(&self, why: &KafkaError, stopped: &mut Option<Instant>) -> Result<(), RelayError> {
        let mut waiting = Waiting::new(&self.topic, "the end of a transaction that is given up");
        while let Err(error) = self.producer.abort_transaction(ANSWER_MAX) {
            waiting.goes_on(&error);
            if let Some(fatal) = self.fatal(&error) {
                return Err(fatal);
            }
            let is_retriable =
                matches!(&error, KafkaError::Transaction(error) if error.is_retriable());
            if !is_retriable {
                // There is none to abort: it was not begun, or it is over.
                return Ok(());
            }
            self.is_in_time(stopped, why)?;
            // What was under way has failed by now. It is over once that was taken, which aborting waits
            // for and does not do itself.
            self.producer.poll(PAUSE);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
