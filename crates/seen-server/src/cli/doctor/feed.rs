//! `seen doctor --feed`: what is wrong between the tables and the topic that carries their changes.

mod census;
mod judge;
mod placement;
mod producer;
#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use seen_kafka::{KafkaFeedError, Next, Partitioner, TopicReader};
use seen_store::mysql::{Finding, Severity};

use super::super::CliError;
use super::super::feed::topics::{self, FeedTopic};
use crate::config::{Config, PartitionedBy};
use census::Census;
use judge::{Sampled, Wanted};

/// How much is looked at, and for how long.
#[derive(Debug, Clone, Copy)]
pub(super) struct FeedLook {
    /// Records of each topic.
    pub records_max: u64,
    /// How long a sign of life is waited for.
    pub wait: Duration,
}

/// What was found in the configured topics; the worst first.
///
/// # Errors
/// Kafka does not answer, or a configuration that cannot be used.
pub(super) async fn examine(config: &Config, look: FeedLook) -> Result<Vec<Finding>, CliError> {
    let mut findings = Vec::new();
    for topic in topics::configured(config)? {
        let wanted = wanted(config, &topic)?;
        let reader = topic.reader(config)?;
        match sample(config, &topic, &reader, look).await {
            Ok(sampled) => findings.extend(judge::judge(&sampled, &wanted)),
            Err(KafkaFeedError::NoTopic { .. }) => findings.push(missing(&wanted)),
            Err(error) => return Err(error.into()),
        }
    }
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    Ok(findings)
}

fn wanted(config: &Config, topic: &FeedTopic) -> Result<Wanted, CliError> {
    let kafka = &config.kafka;
    let partitioner = match kafka.partitioner {
        // The key of slots lies in the database, which is not asked; the records say where they belong.
        PartitionedBy::Slots => Partitioner::Unknown,
        _ => kafka.partitioner(seen_filter::hash::HashKey::new(0, [0; 16]), &topic.database)?,
    };
    Ok(Wanted {
        topic: topic.topic.clone(),
        database: topic.database.clone(),
        tables: topic.tables.clone(),
        by: kafka.partitioner,
        partitioner,
        partitions: kafka.partitions,
        brokers: kafka.brokers.clone(),
    })
}

fn missing(wanted: &Wanted) -> Finding {
    let Wanted { topic, brokers, partitions, .. } = wanted;
    let partitions = if *partitions > 0 { *partitions } else { 16 };
    Finding {
        severity: Severity::Error,
        subject: format!("topic {topic}"),
        what: "does not exist: nothing can be followed, and seen serve does not start".to_owned(),
        mend: Some(format!(
            "kafka-topics.sh --bootstrap-server {brokers} --create --topic {topic} --partitions \
             {partitions} --config cleanup.policy=delete, and then start the producer; or another \
             kafka.topic"
        )),
    }
}

async fn sample(
    config: &Config,
    topic: &FeedTopic,
    reader: &TopicReader,
    look: FeedLook,
) -> Result<Sampled, KafkaFeedError> {
    let ends = reader.ends()?;
    let mut census = Census::new(topic.tables.clone(), config.kafka.dialect());
    reader.newest(look.records_max, |record| census.take(record, ends.len()))?;
    let is_alive = wait(reader, &mut census, &ends, look.wait)?;
    let suffix = format!(".{}.seen_control", topic.database);
    let is_control = |name: &String| name.ends_with(&suffix) && *name != topic.topic;
    Ok(Sampled {
        control_topics: reader.topics()?.into_iter().filter(is_control).collect(),
        settings: reader.settings().await,
        waited_ms: u64::try_from(look.wait.as_millis()).unwrap_or(u64::MAX),
        is_alive,
        ends,
        census,
    })
}

/// Waits for a fence or a watermark; what comes meanwhile is counted with the sample.
fn wait(
    reader: &TopicReader,
    census: &mut Census,
    ends: &[(u64, u64)],
    longest: Duration,
) -> Result<bool, KafkaFeedError> {
    let heads: Vec<_> = (0..).zip(ends).map(|(partition, (_, high))| (partition, *high)).collect();
    reader.read_from(&heads)?;
    let before = (census.fences, census.watermarks);
    let began = Instant::now();
    while let Some(left) = longest.checked_sub(began.elapsed()) {
        if let Next::Record(record) = reader.next(left.min(Duration::from_millis(100)))? {
            census.take(&record, ends.len());
            if (census.fences, census.watermarks) != before {
                return Ok(true);
            }
        }
    }
    Ok(false)
}
