//! What cannot work is refused at the start, by its name: else the first row would show it, or nothing.

use std::ops::RangeInclusive;
use std::time::Duration;

use seen_dialect::{Decoder, FollowedTable};
use seen_filter::hash::VIRTUAL_SLOTS;

use crate::context::TopicConsumer;
use crate::feed::{FIXED, KafkaFeedError};
use crate::look;
use crate::options::{KafkaOptions, TopicOptions};
use crate::partitioner::Partitioner;

/// How long Kafka may take to say how many partitions there are where that is known without it: a feed
/// is to start while Kafka is away.
const COUNT_TIMEOUT_MAX: Duration = Duration::from_secs(2);

/// Refuses what cannot work whatever Kafka says.
///
/// # Errors
/// [`KafkaFeedError::Options`].
pub(crate) fn check(options: &KafkaOptions) -> Result<(), KafkaFeedError> {
    let refuse = |why: String| Err(KafkaFeedError::Options(why));
    if options.topics.is_empty() || options.topics.len() > usize::from(VIRTUAL_SLOTS) {
        let count = options.topics.len();
        return refuse(format!("{count} topics (allowed: 1 to {VIRTUAL_SLOTS}, one a shard)"));
    }
    if let Err((id, error)) = options.schemas.add_known(&mut Decoder::new(Vec::new(), None)) {
        return refuse(format!("schema {id}: {error}"));
    }
    for (at, topic) in options.topics.iter().enumerate() {
        if usize::from(topic.shard.get()) != at {
            return refuse(format!("shard {} is number {at} of the list", topic.shard));
        }
    }
    for topic in &options.topics {
        check_canal(topic)?;
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

/// Canal hashes the database's name along: rows of another database would lie elsewhere than they are
/// looked for, and elsewhere than fences.
fn check_canal(topic: &TopicOptions) -> Result<(), KafkaFeedError> {
    let Partitioner::Canal { database } = &topic.partitioner else { return Ok(()) };
    match topic.tables.iter().find(|(_, table)| table.database != *database) {
        None => Ok(()),
        Some((_, FollowedTable { database: other, table, .. })) => {
            Err(KafkaFeedError::Options(format!(
                "kafka.partitioner = canal, and {other}.{table} is of another database than {database}.\
                 seen_control: Canal hashes the database's name along, so that its rows would lie in other \
                 partitions than its fences (allowed with canal: tables of {database}; else set \
                 kafka.partitioner = unknown)"
            )))
        }
    }
}

/// How many partitions a topic has: asked, and compared with what is configured.
///
/// # Errors
/// [`KafkaFeedError`]. That Kafka does not answer is none where the number is configured.
pub(crate) fn partitions(
    options: &KafkaOptions,
    topic: &TopicOptions,
    consumer: &TopicConsumer,
) -> Result<u16, KafkaFeedError> {
    let timeout = Duration::from_millis(options.connect_timeout_ms);
    let name = &topic.topic;
    let asked = |timeout| look::partitions(consumer, name, timeout);
    let partitions = match options.partitions {
        None => asked(timeout).map_err(|source| KafkaFeedError::Kafka {
            brokers: options.brokers.clone(),
            source,
            hint: "start Kafka, see kafka.brokers, or set kafka.partitions to start without it",
        })?,
        Some(said) => match asked(timeout.min(COUNT_TIMEOUT_MAX)) {
            Ok(found) if found > 0 && found != said => {
                return Err(KafkaFeedError::Options(format!(
                    "kafka.partitions = {said}: topic {name:?} has {found} (allowed: {found}, or 0 to ask \
                     at each start)"
                )));
            }
            Ok(0) => 0,
            Ok(_) => said,
            Err(error) => {
                tracing::warn!(topic = %name, %error, partitions = said, "kafka is not there to be asked");
                said
            }
        },
    };
    let allowed = allowed(&topic.partitioner);
    match partitions {
        0 => Err(KafkaFeedError::NoTopic { topic: name.clone() }),
        count if allowed.contains(&count) => Ok(count),
        count => Err(KafkaFeedError::Options(format!(
            "topic {name:?} has {count} partitions (allowed with kafka.partitioner = {}: {} to {})",
            topic.partitioner.name(),
            allowed.start(),
            allowed.end()
        ))),
    }
}

/// How many partitions a partitioner can fill.
fn allowed(partitioner: &Partitioner) -> RangeInclusive<u16> {
    match partitioner {
        Partitioner::Slots(_) => 1..=VIRTUAL_SLOTS,
        Partitioner::Key(_)
        | Partitioner::Canal { .. }
        | Partitioner::Maxwell
        | Partitioner::Unknown => 1..=u16::MAX,
    }
}
