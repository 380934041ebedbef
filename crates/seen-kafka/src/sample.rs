//! Topics, for people: a bounded part of what they hold, where they end, and how they are set. Nothing
//! is kept and nobody joins; what a feed follows is not touched.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::admin::{AdminClient, AdminOptions, ResourceSpecifier};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use seen_dialect::Record;

use crate::context::{Quiet, TopicConsumer};
use crate::feed::{FIXED, KafkaFeedError};
use crate::leave::Leaving;
use crate::look;

/// Longest wait for one record before the deadline is looked at.
const POLL_MAX: Duration = Duration::from_millis(100);

/// A record with its bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KafkaRecord {
    /// The topic's name.
    pub topic: String,
    /// The partition's number.
    pub partition: i32,
    /// The record's place in its partition.
    pub offset: i64,
    /// The record's time in milliseconds since 1970, where it has one.
    pub timestamp_ms: Option<i64>,
    /// The key, if there is one.
    pub key: Option<Vec<u8>>,
    /// The value; `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// The headers, in their order.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl KafkaRecord {
    pub(crate) fn of(message: &BorrowedMessage<'_>) -> Self {
        let header = |header: rdkafka::message::Header<'_, &[u8]>| {
            (header.key.to_owned(), header.value.map(<[u8]>::to_vec))
        };
        Self {
            topic: message.topic().to_owned(),
            partition: message.partition(),
            offset: message.offset(),
            timestamp_ms: message.timestamp().to_millis(),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers: message
                .headers()
                .map(|headers| headers.iter().map(header).collect())
                .unwrap_or_default(),
        }
    }

    /// Calls `read` with the record as dialects read it.
    pub fn with<T>(&self, read: impl FnOnce(&Record<'_>) -> T) -> T {
        let headers: Vec<_> =
            self.headers.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect();
        read(&Record {
            topic: &self.topic,
            partition: self.partition,
            offset: self.offset,
            timestamp_ms: self.timestamp_ms,
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            headers: &headers,
        })
    }

    /// How many bytes key and value are.
    pub fn bytes(&self) -> usize {
        self.key.as_ref().map_or(0, Vec::len) + self.value.as_ref().map_or(0, Vec::len)
    }
}

/// Which Kafka is read, and how long it may take to answer.
#[derive(Clone, Debug)]
pub struct SampleOptions {
    /// The brokers to begin with: `host:port`, separated by commas.
    pub brokers: String,
    /// Further settings of librdkafka, such as `security.protocol` and `sasl.username`.
    pub client: BTreeMap<String, String>,
    /// How long Kafka may take to answer, in milliseconds.
    pub timeout_ms: u64,
}

/// What came next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// A record.
    Record(KafkaRecord),
    /// Nothing follows for now in this partition.
    End(i32),
    /// Nothing came in time.
    Nothing,
    /// Kafka has gone for now; it may come back.
    Away(String),
}

/// Reads a topic from places of one's choice.
pub struct TopicReader {
    options: SampleOptions,
    topic: String,
    consumer: Leaving<TopicConsumer>,
}

impl TopicReader {
    /// A reader; Kafka is not asked yet.
    ///
    /// # Errors
    /// Settings that librdkafka refuses.
    pub fn new(options: SampleOptions, topic: &str) -> Result<Self, KafkaFeedError> {
        let consumer = config(&options).create_with_context(Quiet).map_err(|source| {
            KafkaFeedError::Kafka {
                brokers: options.brokers.clone(),
                source,
                hint: "see kafka.client for settings of librdkafka",
            }
        })?;
        let consumer = Leaving::new(consumer, "the consumer of a topic that is looked at");
        Ok(Self { options, topic: topic.to_owned(), consumer })
    }

    /// The topic's name.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    fn timeout(&self) -> Duration {
        Duration::from_millis(self.options.timeout_ms)
    }

    fn failed(&self, source: KafkaError) -> KafkaFeedError {
        let hint = "start Kafka, or see kafka.brokers and kafka.client";
        KafkaFeedError::Kafka { brokers: self.options.brokers.clone(), source, hint }
    }

    /// The names of all topics of the cluster.
    ///
    /// # Errors
    /// Kafka does not answer.
    pub fn topics(&self) -> Result<Vec<String>, KafkaFeedError> {
        let metadata = self.consumer.fetch_metadata(None, self.timeout());
        let metadata = metadata.map_err(|error| self.failed(error))?;
        Ok(metadata.topics().iter().map(|topic| topic.name().to_owned()).collect())
    }

    /// By partition: the oldest record kept, and the one that will come next.
    ///
    /// # Errors
    /// [`KafkaFeedError::NoTopic`], or Kafka does not answer.
    pub fn ends(&self) -> Result<Vec<(u64, u64)>, KafkaFeedError> {
        let topic = &self.topic;
        let count = look::partitions(&self.consumer, topic, self.timeout());
        let count = count.map_err(|error| self.failed(error))?;
        if count == 0 {
            return Err(KafkaFeedError::NoTopic { topic: topic.to_owned() });
        }
        let end = |partition| look::ends(&self.consumer, topic, partition, self.timeout());
        (0..count).map(end).collect::<KafkaResult<_>>().map_err(|error| self.failed(error))
    }

    /// By partition: the first record that is not older than this, or the one that will come next.
    ///
    /// # Errors
    /// Kafka does not answer.
    pub fn places_at(&self, time_ms: i64) -> Result<Vec<u64>, KafkaFeedError> {
        let (topic, ends) = (&self.topic, self.ends()?);
        let mut list = TopicPartitionList::new();
        for partition in 0..ends.len() {
            let number = i32::try_from(partition).unwrap_or(i32::MAX);
            list.add_partition_offset(topic, number, Offset::Offset(time_ms))
                .map_err(|error| self.failed(error))?;
        }
        let found = self.consumer.offsets_for_times(list, self.timeout());
        let found = found.map_err(|error| self.failed(error))?;
        let place = |(partition, (_, high)): (usize, &(u64, u64))| {
            let number = i32::try_from(partition).unwrap_or(i32::MAX);
            let offset = found.find_partition(topic, number).map(|found| found.offset());
            match offset {
                Some(Offset::Offset(offset)) => u64::try_from(offset).unwrap_or(*high),
                _ => *high,
            }
        };
        Ok(ends.iter().enumerate().map(place).collect())
    }

    /// How the topic is set, by the settings' names.
    ///
    /// # Errors
    /// What Kafka says, as where the login may not ask.
    pub async fn settings(&self) -> Result<BTreeMap<String, String>, String> {
        let admin: AdminClient<DefaultClientContext> =
            config(&self.options).create().map_err(|error| error.to_string())?;
        let admin = Leaving::new(admin, "the client that asks how a topic is set");
        let asked = AdminOptions::new().request_timeout(Some(self.timeout()));
        let of = ResourceSpecifier::Topic(&self.topic);
        let told = admin.describe_configs([&of], &asked).await;
        let told = told.map_err(|error| error.to_string())?.into_iter().next();
        let resource = told.ok_or("Kafka names no settings")?.map_err(|code| code.to_string())?;
        let known = |entry: rdkafka::admin::ConfigEntry| Some((entry.name, entry.value?));
        Ok(resource.entries.into_iter().filter_map(known).collect())
    }

    /// Begins to read these partitions from these records on, and no others.
    ///
    /// # Errors
    /// librdkafka refuses them.
    pub fn read_from(&self, places: &[(u16, u64)]) -> Result<(), KafkaFeedError> {
        let mut list = TopicPartitionList::new();
        for (partition, offset) in places {
            let at = Offset::Offset(i64::try_from(*offset).unwrap_or(i64::MAX));
            list.add_partition_offset(&self.topic, i32::from(*partition), at)
                .map_err(|error| self.failed(error))?;
        }
        self.consumer.assign(&list).map_err(|error| self.failed(error))
    }

    /// What comes next, waiting for at most so long.
    ///
    /// # Errors
    /// Kafka refuses, or does not have the place that was asked for.
    pub fn next(&self, wait: Duration) -> Result<Next, KafkaFeedError> {
        match self.consumer.poll(wait) {
            None => Ok(Next::Nothing),
            Some(Ok(message)) => Ok(Next::Record(KafkaRecord::of(&message))),
            Some(Err(KafkaError::PartitionEOF(partition))) => Ok(Next::End(partition)),
            Some(Err(error)) => match error.rdkafka_error_code() {
                Some(
                    RDKafkaErrorCode::BrokerTransportFailure
                    | RDKafkaErrorCode::AllBrokersDown
                    | RDKafkaErrorCode::Resolve
                    | RDKafkaErrorCode::OperationTimedOut,
                ) => Ok(Next::Away(error.to_string())),
                _ => Err(self.failed(error)),
            },
        }
    }

    /// Hands on the newest records, in their order in each partition: about `records_max` in all,
    /// the same number of each partition.
    ///
    /// # Errors
    /// As [`Self::ends`] and [`Self::next`]; and where Kafka gives nothing for as long as it may take.
    pub fn newest(
        &self,
        records_max: u64,
        mut each: impl FnMut(&KafkaRecord),
    ) -> Result<(), KafkaFeedError> {
        let ends = self.ends()?;
        let share = (records_max / ends.len().max(1) as u64).max(1);
        let places: Vec<_> = (0..)
            .zip(&ends)
            .filter(|(_, (low, high))| low < high)
            .map(|(partition, (low, high))| (partition, high.saturating_sub(share).max(*low)))
            .collect();
        if places.is_empty() {
            return Ok(());
        }
        self.read_from(&places)?;
        let mut open: Vec<i32> = places.iter().map(|(partition, _)| (*partition).into()).collect();
        let mut last = Instant::now();
        while !open.is_empty() {
            match self.next(POLL_MAX)? {
                Next::Record(record) => {
                    last = Instant::now();
                    // What was written since does not belong to the sample.
                    if !open.contains(&record.partition) {
                        continue;
                    }
                    let at = usize::try_from(record.partition).unwrap_or(usize::MAX);
                    let next = u64::try_from(record.offset).unwrap_or(0) + 1;
                    if ends.get(at).is_none_or(|(_, high)| next >= *high) {
                        open.retain(|partition| *partition != record.partition);
                    }
                    each(&record);
                }
                Next::End(ended) => open.retain(|partition| *partition != ended),
                Next::Nothing | Next::Away(_) if last.elapsed() > self.timeout() => {
                    return Err(self.failed(KafkaError::MessageConsumption(
                        RDKafkaErrorCode::OperationTimedOut,
                    )));
                }
                Next::Nothing | Next::Away(_) => {}
            }
        }
        Ok(())
    }
}

fn config(options: &SampleOptions) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &options.brokers)
        .set("client.id", "seen")
        .set("fetch.wait.max.ms", "100")
        .set("reconnect.backoff.max.ms", "1000");
    for (name, value) in &options.client {
        config.set(name, value);
    }
    for (name, value) in FIXED {
        config.set(*name, *value);
    }
    config
}
