//! What to follow, and how.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use seen_dialect::{Dialect, FollowedTable, Position};
use seen_filter::hash::HashKey;
use seen_filter::{CommitStamp, FeedProof, NamespaceId, Shard};
use tokio::sync::watch;

use crate::partitioner::Partitioner;
use crate::schemas::SchemaOptions;

/// The stamp that the store gives to the commit at a source's position; `None` where that has no number
/// which may be compared with commits' own.
pub type StampOf = Arc<dyn Fn(Shard, &Position) -> Option<CommitStamp> + Send + Sync>;

/// What to follow, and how.
#[derive(Clone)]
pub struct KafkaOptions {
    /// The brokers to begin with: `host:port`, separated by commas.
    pub brokers: String,
    /// Further settings of librdkafka, such as `security.protocol` and `sasl.username`. What this crate
    /// relies on cannot be set.
    pub client: BTreeMap<String, String>,
    /// One topic a shard of the store, in the shards' order.
    pub topics: Vec<TopicOptions>,
    /// What spreads users over shards.
    pub hash_key: HashKey,
    /// The format of all records; else it is told from each.
    pub dialect: Option<Dialect>,
    /// Where the schemas are that records name and do not hold.
    pub schemas: SchemaOptions,
    /// What proves how far the feed is.
    pub proof: FeedProof,
    /// How source positions become the store's stamps.
    pub stamp_of: StampOf,
    /// How many partitions the topics have, if that is known without asking: then the feed can be made
    /// while Kafka is away.
    pub partitions: Option<u16>,
    /// How long Kafka may take to answer when the feed is made, in milliseconds.
    pub connect_timeout_ms: u64,
    /// How often a quiet feed says so, and Kafka is asked for its topics' ends, in milliseconds.
    pub heartbeat_ms: u64,
    /// Most events that a reader holds ready; one record's events may come on top.
    pub queue_events_max: usize,
    /// Most bytes that are fetched ahead, in KiB, for each topic.
    pub fetch_kib_max: u32,
    /// Where records that cannot be read are kept.
    pub dead_letters: Option<DeadLetterOptions>,
}

/// Where records that cannot be read are kept.
#[derive(Clone, Debug)]
pub struct DeadLetterOptions {
    /// A file of lines as `seen feed decode --base64` reads them.
    pub path: PathBuf,
    /// Its largest size in bytes; what comes later is counted only.
    pub bytes_max: u64,
    /// What people call the option that says this size.
    pub bytes_option: &'static str,
}

/// The topic of one shard.
#[derive(Clone)]
pub struct TopicOptions {
    /// The shard.
    pub shard: Shard,
    /// The topic's name.
    pub topic: String,
    /// How its producer chooses partitions.
    pub partitioner: Partitioner,
    /// The namespaces' names, as `seen relay` writes them.
    pub namespaces: Vec<(NamespaceId, String)>,
    /// The tables of the shard's database: histories with their namespaces, and the control table
    /// without one.
    pub tables: Vec<(Option<NamespaceId>, FollowedTable)>,
    /// What the numbers of the shard's table `seen_namespaces` mean in the configuration.
    pub namespace_ids: watch::Receiver<HashMap<u16, NamespaceId>>,
}
