//! The configured topics, as the commands for people read them: without the database servers.

use seen_dialect::{Decoder, FollowedTable};
use seen_kafka::{SampleOptions, TopicReader};
use seen_store::mysql::TableMapping;

use crate::cli::CliError;
use crate::config::{Config, FeedSource};
use crate::node::followed_table;

/// The topic of one shard.
#[derive(Debug, Clone)]
pub struct FeedTopic {
    /// Its name.
    pub topic: String,
    /// The database whose changes it carries.
    pub database: String,
    /// Histories, and the control table at the end.
    pub tables: Vec<FollowedTable>,
}

impl FeedTopic {
    /// A reader of it.
    ///
    /// # Errors
    /// Settings that librdkafka refuses.
    pub fn reader(&self, config: &Config) -> Result<TopicReader, CliError> {
        let kafka = &config.kafka;
        let options = SampleOptions {
            brokers: kafka.brokers.clone(),
            client: kafka.client_settings()?,
            timeout_ms: u64::try_from(kafka.connect_timeout.as_millis()).unwrap_or(u64::MAX),
        };
        Ok(TopicReader::new(options, &self.topic)?)
    }

    /// What takes its records apart.
    pub fn decoder(&self, config: &Config) -> Decoder {
        Decoder::new(self.tables.clone(), config.kafka.dialect())
    }
}

/// The topics, one a shard.
///
/// # Errors
/// A configuration that cannot be used.
pub fn configured(config: &Config) -> Result<Vec<FeedTopic>, CliError> {
    let options = config.mysql_options()?;
    let foreign = |id| options.mappings.iter().find(|mapping| mapping.namespace == id);
    let mapping = |namespace: &seen_filter::NamespaceSettings| match foreign(namespace.id) {
        Some(mapping) => Ok(mapping.clone()),
        None => TableMapping::own(namespace),
    };
    let namespaces = config.namespaces();
    let mappings = namespaces.iter().map(mapping).collect::<Result<Vec<_>, _>>()?;
    let topic = |(shard, home): (u16, &seen_store::mysql::ShardServers)| {
        let database = home.database.as_str();
        let histories = mappings.iter().map(|mapping| followed_table(mapping, database).1);
        FeedTopic {
            topic: config.kafka.topic_of(shard),
            database: database.to_owned(),
            tables: histories.chain([FollowedTable::control(database)]).collect(),
        }
    };
    Ok((0..).zip(&options.shards).map(topic).collect())
}

/// Refuses configurations that follow no topic.
///
/// # Errors
/// Why there is none.
pub fn require_topic(config: &Config) -> Result<(), CliError> {
    match no_topic(config) {
        Some(why) => Err(format!("{why}; set mysql.feed to kafka, and see [kafka]").into()),
        None => Ok(()),
    }
}

/// Why there is no topic to look at.
pub fn no_topic(config: &Config) -> Option<String> {
    use crate::config::StorageKind;
    match (config.storage.kind, config.mysql.feed) {
        (StorageKind::Sqlite, _) => {
            Some("the embedded store (storage.kind = sqlite) is its own change feed".to_owned())
        }
        (_, FeedSource::Kafka) => None,
        (_, FeedSource::None) => Some("no changes are followed (mysql.feed = none)".to_owned()),
        (_, FeedSource::Auto | FeedSource::Binlog) => Some(
            "changes are read from the servers' binary log, without Kafka (mysql.feed)".to_owned(),
        ),
    }
}
