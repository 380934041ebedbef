//! Opening the store on the storage runtime, and what the replica is told of it.

use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::sync::Arc;

use seen_filter::hash::HashKey;
use seen_filter::{ChangeFeed, History, Incarnation, UserId, calibrate};
use seen_kafka::KafkaFeed;
use seen_replica::{ReplicaLimits, ReplicaOptions, SampleLimits, StorageLimits};
use seen_store::{BinlogFeed, MySqlStore, NoFeed, SqliteOptions, SqliteStore};
use tempfile::TempDir;
use tokio::runtime::Handle;

use super::NodeError;
use crate::config::{Config, FeedSource, StorageKind};

/// The store's file within the data folder.
pub(super) const FILE: &str = "seen.db";
/// What one row of the journal takes; the option counts rows.
const JOURNAL_ROW_BYTES: usize = seen_replica::rules::JOURNAL_ROW_BYTES;

/// The opened store, and its folder if that is removed at the end.
pub(super) struct Opened {
    /// Where it is, for people.
    pub place: String,
    history: Arc<dyn History>,
    pub(super) feed: Arc<dyn ChangeFeed>,
    pub(super) hash_key: HashKey,
    store: Store,
    _temporary: Option<TempDir>,
}

enum Store {
    Sqlite(Arc<SqliteStore>),
    MySql(Arc<MySqlStore>, Followed),
}

impl Opened {
    /// Refuses further calls and ends every task of the store.
    pub(super) async fn close(&self) {
        match &self.store {
            Store::Sqlite(store) => store.close().await,
            Store::MySql(store, feed) => {
                feed.close();
                store.close().await;
            }
        }
    }
}

pub(super) async fn open(
    config: &Config,
    ephemeral: bool,
    storage: &Handle,
) -> Result<Opened, NodeError> {
    match config.storage.kind {
        StorageKind::Sqlite => open_sqlite(config, ephemeral, storage).await,
        StorageKind::MySql if ephemeral => Err(NodeError::Ephemeral),
        StorageKind::MySql => open_mysql(config, storage).await,
    }
}

async fn open_sqlite(
    config: &Config,
    ephemeral: bool,
    storage: &Handle,
) -> Result<Opened, NodeError> {
    let (folder, temporary) = folder(config, ephemeral)?;
    let path = folder.join(FILE);
    let options = sqlite_options(config, path.clone());
    let opening = storage.spawn(SqliteStore::open(options, config.namespaces()));
    let store = opening.await.map_err(|_| NodeError::Ended("opening the store"))??;
    Ok(Opened {
        place: path.display().to_string(),
        history: Arc::clone(&store) as Arc<dyn History>,
        feed: Arc::clone(&store) as Arc<dyn ChangeFeed>,
        hash_key: store.hash_key(),
        store: Store::Sqlite(store),
        _temporary: temporary,
    })
}

async fn open_mysql(config: &Config, storage: &Handle) -> Result<Opened, NodeError> {
    let options = config.mysql_options()?;
    let opening = storage.spawn(MySqlStore::open(options, config.namespaces()));
    let store = opening.await.map_err(|_| NodeError::Ended("opening the store"))??;
    let followed = followed(config, &store, storage).await?;
    let feed: Arc<dyn ChangeFeed> = match &followed {
        Followed::Binlog(binlog) => Arc::clone(binlog) as Arc<dyn ChangeFeed>,
        Followed::Kafka(kafka) => Arc::clone(kafka) as Arc<dyn ChangeFeed>,
        Followed::Nothing => Arc::new(NoFeed::new(store.hash_key(), config.mysql.shards)),
    };
    Ok(Opened {
        place: format!("{} on {}", config.mysql.database, config.mysql.servers),
        history: Arc::clone(&store) as Arc<dyn History>,
        feed,
        hash_key: store.hash_key(),
        store: Store::MySql(store, followed),
        _temporary: None,
    })
}

/// Who tells of changes made on database servers.
enum Followed {
    Binlog(Arc<BinlogFeed>),
    Kafka(Arc<KafkaFeed>),
    Nothing,
}

impl Followed {
    fn close(&self) {
        match self {
            Self::Binlog(feed) => feed.close(),
            Self::Kafka(feed) => feed.close(),
            Self::Nothing => {}
        }
    }
}

/// The servers' binary log or Kafka, where it is to be followed and there is one.
async fn followed(
    config: &Config,
    store: &Arc<MySqlStore>,
    storage: &Handle,
) -> Result<Followed, NodeError> {
    let options = match config.mysql.feed {
        FeedSource::None => None,
        FeedSource::Auto | FeedSource::Binlog => store.binlog_options(),
        FeedSource::Kafka => {
            let options = super::kafka::options(config, store)?;
            let asking = storage.spawn_blocking(move || KafkaFeed::connect(options));
            let feed = asking.await.map_err(|_| NodeError::Ended("asking Kafka"))??;
            return Ok(Followed::Kafka(feed));
        }
    };
    match (options, config.mysql.feed) {
        (Some(options), _) => Ok(Followed::Binlog(BinlogFeed::new(options)?)),
        (None, FeedSource::Binlog) => Err(NodeError::NoBinlog(store.dialect().name())),
        (None, source) => {
            tracing::warn!(
                mysql.feed = ?source,
                "nobody tells of changes: nothing is cached, and every answer is asked of the servers"
            );
            Ok(Followed::Nothing)
        }
    }
}

fn folder(config: &Config, ephemeral: bool) -> Result<(PathBuf, Option<TempDir>), NodeError> {
    if ephemeral {
        let made = tempfile::Builder::new().prefix("seen-").tempdir().map_err(|source| {
            NodeError::System { what: "cannot make a temporary folder".to_owned(), source }
        })?;
        return Ok((made.path().to_owned(), Some(made)));
    }
    let folder = config.storage.data_dir.clone();
    match std::fs::create_dir_all(&folder) {
        Ok(()) => Ok((folder, None)),
        // A folder that cannot be made may still hold a store that can be read.
        Err(_) if folder.is_dir() => Ok((folder, None)),
        Err(source) => {
            let what =
                format!("cannot make the data folder {} (storage.data_dir)", folder.display());
            Err(NodeError::System { what, source })
        }
    }
}

pub(super) fn sqlite_options(config: &Config, path: PathBuf) -> SqliteOptions {
    let storage = &config.storage;
    SqliteOptions {
        path,
        pending_writes_max: storage.pending_writes_max as usize,
        commit_rows_max: storage.commit_rows_max as usize,
        page_connections_max: usize::from(storage.build_connections),
        check_connections_max: usize::from(storage.read_connections),
        log_commits_max: storage.log_commits_max,
        log_age_ms_max: storage.log_retention.as_millis() as u64,
        ..SqliteOptions::default()
    }
}

/// Chooses the fastest way to check a batch that this processor has, by trying them.
pub(super) fn calibrated(key: HashKey) -> HashKey {
    let began = std::time::Instant::now();
    let mut now_ns = || u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
    let kernel = calibrate(&mut now_ns);
    tracing::info!(kernel = kernel.name(), "filters are checked by");
    key.with_kernel(kernel)
}

pub(super) fn replica_options(config: &Config, opened: &Opened) -> ReplicaOptions {
    let key = calibrated(opened.hash_key);
    ReplicaOptions {
        namespaces: config.namespaces(),
        key,
        // Whoever shares the store's key shares its tokens.
        cluster: key.user_hash(UserId::new(u64::MAX)),
        incarnation: incarnation(),
        history: Arc::clone(&opened.history),
        feed: Arc::clone(&opened.feed),
        limits: replica_limits(config),
        storage: storage_limits(config),
    }
}

/// A number that no other life of any process has: the standard library keys its hash maps from the
/// operating system's randomness.
fn incarnation() -> Incarnation {
    Incarnation::new(RandomState::new().hash_one(std::process::id()))
}

/// S of rule R2: how far a snapshot may be behind what the feed has told.
pub(super) fn snapshot_lag_us(config: &Config) -> u64 {
    match config.storage.kind {
        StorageKind::Sqlite => 0,
        StorageKind::MySql => config.mysql.snapshot_lag.as_micros() as u64,
    }
}

fn replica_limits(config: &Config) -> ReplicaLimits {
    let (cache, feed, limits) = (&config.cache, &config.feed, &config.limits);
    ReplicaLimits {
        cache_bytes_max: cache.memory,
        ring_bytes_max: usize::try_from(feed.ring_bytes).unwrap_or(usize::MAX),
        journal_bytes_max: cache.journal_items_max as usize * JOURNAL_ROW_BYTES,
        snapshot_lag_us_max: snapshot_lag_us(config),
        feed_stale_us_max: feed.stale_after.as_micros() as u64,
        pending_events_max: cache.pending_items_max as usize,
        fence_interval_us_min: feed.fence_interval.as_micros() as u64,
        feed_events_max: feed.events_per_batch_max as usize,
        // The embedded feed proves its freshness itself; another one by the fences that come back.
        heartbeat_fences: config.storage.kind != StorageKind::Sqlite,
        samples: SampleLimits {
            seen_share: limits.seen_sample,
            unread_share: limits.unread_sample,
            checks_per_s_max: limits.sample_checks_per_s_max,
        },
    }
}

fn storage_limits(config: &Config) -> StorageLimits {
    let (cache, storage) = (&config.cache, &config.storage);
    StorageLimits {
        writes_queued_max: storage.pending_writes_max as usize,
        checks_in_flight_max: usize::from(storage.read_connections),
        builds_queued_max: cache.builds_waiting_max as usize,
        builds_in_flight_max: usize::from(cache.builds_max),
        builds_share_percent: (cache.build_share * 100.0) as u32,
        background_builds_per_s_max: cache.rebuilds_per_s_max,
        ..StorageLimits::default()
    }
}
