//! Kafka as the change feed of database servers: what the configuration and the store say, as the feed
//! is told.

use std::sync::Arc;

use seen_dialect::{FollowedTable, KindOf, Position, TableRole, TimeUnit};
use seen_filter::{FeedProof, NamespaceId};
use seen_kafka::{KafkaOptions, TopicOptions};
use seen_store::MySqlStore;
use seen_store::mysql::{Dialect, KindColumn, TableMapping, TimeUnit as StoredUnit};

use super::NodeError;
use crate::config::Config;

/// How often a quiet feed says so, and Kafka is asked for its topics' ends, in milliseconds.
const HEARTBEAT_MS: u64 = 500;
/// Most events that one reader holds ready.
const QUEUE_EVENTS_MAX: usize = 16_384;

/// What the feed is told.
pub(super) fn options(config: &Config, store: &Arc<MySqlStore>) -> Result<KafkaOptions, NodeError> {
    let kafka = &config.kafka;
    let sources = store.change_sources();
    let mappings = store.mappings();
    if let Some(foreign) = mappings.iter().find(|mapping| mapping.read_only)
        && store.dialect() != Dialect::TiDb
    {
        tracing::info!(
            table = %foreign.table,
            "of a table of somebody else's only fences prove how far its topic has been read: seen_control has to \
             be captured into the same topic, else answers are asked in storage; see seen doctor --feed"
        );
    }
    let mut topics = Vec::with_capacity(sources.len());
    for source in sources {
        let database = source.database.as_str();
        let histories = mappings.iter().map(|mapping| history(mapping, database));
        let control = (None, FollowedTable::control(database));
        topics.push(TopicOptions {
            shard: source.shard,
            topic: kafka.topic_of(source.shard.get()),
            partitioner: kafka.partitioner(store.hash_key(), database)?,
            namespaces: config
                .namespaces()
                .into_iter()
                .map(|namespace| (namespace.id, namespace.name))
                .collect(),
            tables: histories.chain([control]).collect(),
            namespace_ids: source.namespace_ids,
        });
    }
    let own = Arc::clone(store);
    Ok(KafkaOptions {
        brokers: kafka.brokers.clone(),
        client: kafka.client_settings()?,
        topics,
        hash_key: store.hash_key(),
        dialect: kafka.dialect(),
        schemas: kafka.schema_options()?,
        // TiCDC sorts each table by itself: only its watermarks prove anything.
        proof: match store.dialect() {
            Dialect::TiDb => FeedProof::Positions,
            Dialect::MariaDb | Dialect::MySql => FeedProof::Fences,
        },
        stamp_of: Arc::new(move |shard, position| match position {
            Position::CommitTs(ts) => own.cluster_stamp(shard, *ts),
            _ => None,
        }),
        partitions: (kafka.partitions > 0).then_some(kafka.partitions),
        connect_timeout_ms: u64::try_from(kafka.connect_timeout.as_millis()).unwrap_or(u64::MAX),
        heartbeat_ms: HEARTBEAT_MS,
        queue_events_max: QUEUE_EVENTS_MAX,
        fetch_kib_max: u32::try_from(kafka.fetch_ahead >> 10).unwrap_or(u32::MAX),
        dead_letters: kafka.dead_letter_options(),
    })
}

/// A namespace's table as change events name it.
pub(crate) fn history(
    mapping: &TableMapping,
    database: &str,
) -> (Option<NamespaceId>, FollowedTable) {
    let database = mapping.database.as_ref().map_or(database, |name| name.as_str());
    let text = |name: &seen_store::mysql::Name| name.as_str().to_owned();
    let unit = |unit: StoredUnit| match unit {
        StoredUnit::Seconds => TimeUnit::Seconds,
        // Points in time are told as such.
        StoredUnit::Millis | StoredUnit::DateTime | StoredUnit::Timestamp => TimeUnit::Millis,
    };
    let role = TableRole::History {
        user: text(&mapping.user),
        item: text(&mapping.item),
        kind: match &mapping.kind {
            KindColumn::Column(name) => KindOf::Column(text(name)),
            KindColumn::Constant(kind) => KindOf::Constant(*kind),
        },
        time: mapping.time.as_ref().map(|(name, of)| (text(name), unit(*of))),
        deleted: mapping.deleted.as_ref().map(text),
    };
    let table = FollowedTable { database: database.to_owned(), table: text(&mapping.table), role };
    (Some(mapping.namespace), table)
}
