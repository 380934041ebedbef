//! The configuration: defaults, then a TOML file, then `SEEN_` environment variables, then `--set`
//! flags; each value remembers where it came from, and keys that no option has are refused.

mod cache;
mod cluster;
mod error;
mod feed;
mod ingest;
mod kafka;
mod limits;
mod load;
mod log;
mod mysql;
mod namespace;
mod options;
mod proxy;
mod relay;
mod render;
mod secret;
mod server;
mod storage;
mod tls;
mod traces;
pub mod units;

use seen_filter::{NamespaceSettings, StoreError};
use seen_store::MySqlOptions;
use serde::{Deserialize, Serialize};

pub use cache::CacheConfig;
pub use cluster::ClusterConfig;
pub use error::{ConfigError, Origin, OutOfRange};
pub use feed::FeedConfig;
pub use ingest::{IngestConfig, IngestFormat};
pub use kafka::{KafkaConfig, KeyDigits, PartitionedBy};
pub use limits::LimitsConfig;
pub use load::{Effective, FILE_DEFAULT, Setting, Sources};
pub use log::{LogConfig, LogFormat};
pub use mysql::{FeedSource, MySqlConfig, TableEngine, TlsMode};
pub use namespace::{NAMESPACES_MAX, NamespaceConfig, WhoseTime};
pub use options::{Allowed, OptionInfo, SectionInfo, plain};
pub use proxy::ProxyConfig;
pub use relay::RelayConfig;
pub use render::{example, markdown};
pub use secret::Secret;
pub use server::ServerConfig;
pub use storage::{StorageConfig, StorageKind};
pub use tls::TlsConfig;
pub use traces::TracesConfig;

/// Every section, in the order in which they are shown.
pub const SECTIONS: [SectionInfo; 15] = [
    server::SECTION,
    storage::SECTION,
    mysql::SECTION,
    kafka::SECTION,
    relay::SECTION,
    ingest::SECTION,
    cache::SECTION,
    feed::SECTION,
    cluster::SECTION,
    proxy::SECTION,
    tls::SECTION,
    limits::SECTION,
    log::SECTION,
    traces::SECTION,
    namespace::SECTION,
];

/// The whole configuration. What each option means is stated in [`SECTIONS`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// `[server]`.
    pub server: ServerConfig,
    /// `[storage]`.
    pub storage: StorageConfig,
    /// `[mysql]`.
    pub mysql: MySqlConfig,
    /// `[kafka]`.
    pub kafka: KafkaConfig,
    /// `[relay]`.
    pub relay: RelayConfig,
    /// `[ingest]`.
    pub ingest: IngestConfig,
    /// `[cache]`.
    pub cache: CacheConfig,
    /// `[feed]`.
    pub feed: FeedConfig,
    /// `[cluster]`.
    pub cluster: ClusterConfig,
    /// `[proxy]`.
    pub proxy: ProxyConfig,
    /// `[tls]`.
    pub tls: TlsConfig,
    /// `[limits]`.
    pub limits: LimitsConfig,
    /// `[log]`.
    pub log: LogConfig,
    /// `[traces]`.
    pub traces: TracesConfig,
    /// `[[namespace]]`.
    pub namespace: Vec<NamespaceConfig>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            server: ServerConfig::default(),
            storage: StorageConfig::default(),
            mysql: MySqlConfig::default(),
            kafka: KafkaConfig::default(),
            relay: RelayConfig::default(),
            ingest: IngestConfig::default(),
            cache: CacheConfig::default(),
            feed: FeedConfig::default(),
            cluster: ClusterConfig::default(),
            proxy: ProxyConfig::default(),
            tls: TlsConfig::default(),
            limits: LimitsConfig::default(),
            log: LogConfig::default(),
            traces: TracesConfig::default(),
            namespace: namespace::defaults(),
        }
    }
}

impl Config {
    /// Checks every section.
    ///
    /// # Errors
    /// The first value out of range.
    pub fn validate(&self) -> Result<(), OutOfRange> {
        self.server.validate()?;
        self.storage.validate()?;
        self.mysql.validate()?;
        let is_used = self.mysql.feed == FeedSource::Kafka;
        self.kafka.validate(if is_used { self.mysql.shards } else { 1 })?;
        self.relay.validate()?;
        self.ingest.validate()?;
        self.cache.validate()?;
        self.feed.validate()?;
        self.cluster.validate()?;
        self.proxy.validate()?;
        self.tls.validate()?;
        self.limits.validate()?;
        self.log.validate()?;
        self.traces.validate()?;
        namespace::validate(&self.namespace)?;
        let foreign = self.namespace.iter().position(|one| one.table.is_some());
        match (self.storage.kind, foreign) {
            (StorageKind::Sqlite, Some(index)) => Err(OutOfRange {
                key: format!("namespace.{index}.table"),
                value: self.namespace[index].table.clone().unwrap_or_default(),
                allowed: "unset where storage.kind is sqlite".to_owned(),
            }),
            _ => Ok(()),
        }
    }

    /// What the store on database servers is told.
    ///
    /// # Errors
    /// `InvalidRequest` for names or addresses that [`Self::validate`] refuses.
    pub fn mysql_options(&self) -> Result<MySqlOptions, StoreError> {
        self.mysql.options(&self.storage, &self.namespace)
    }

    /// The namespaces with their numbers.
    pub fn namespaces(&self) -> Vec<NamespaceSettings> {
        namespace::numbered(&self.namespace)
    }
}
