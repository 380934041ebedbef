//! The configured store opened for reading alone, beside servers that use it or without any.

use std::sync::Arc;

use seen_filter::{History, Scan, UserId};
use seen_store::{MySqlStore, SqliteOptions, SqliteStore};

use super::NodeError;
use super::store::{FILE, sqlite_options};
use crate::config::{Config, StorageKind};

/// A store that is only read.
pub(crate) struct Reading {
    /// Point checks.
    pub(crate) history: Arc<dyn History>,
    /// All rows.
    pub(crate) scan: Arc<dyn Scan>,
    /// Names the store: what its tokens name it by.
    pub(crate) cluster: u64,
    /// Where it is, for people.
    pub(crate) place: String,
    store: Store,
}

enum Store {
    Sqlite(Arc<SqliteStore>),
    MySql(Arc<MySqlStore>),
}

impl Reading {
    /// Opens the store; nothing of it is made or changed.
    ///
    /// # Errors
    /// A store that is not there, cannot be reached, or is of another version.
    pub(crate) async fn open(config: &Config) -> Result<Self, NodeError> {
        match config.storage.kind {
            StorageKind::Sqlite => Self::open_sqlite(config).await,
            StorageKind::MySql => Self::open_mysql(config).await,
        }
    }

    async fn open_sqlite(config: &Config) -> Result<Self, NodeError> {
        let path = config.storage.data_dir.join(FILE);
        let options = SqliteOptions {
            create: false,
            read_only: true,
            // A server may be running on the same file, or be started meanwhile.
            beside_writers: true,
            ..sqlite_options(config, path.clone())
        };
        let store = SqliteStore::open(options, config.namespaces()).await?;
        Ok(Self {
            history: Arc::clone(&store) as Arc<dyn History>,
            scan: Arc::clone(&store) as Arc<dyn Scan>,
            cluster: store.hash_key().user_hash(UserId::new(u64::MAX)),
            place: path.display().to_string(),
            store: Store::Sqlite(store),
        })
    }

    async fn open_mysql(config: &Config) -> Result<Self, NodeError> {
        let mut options = config.mysql_options()?;
        // A reader makes nobody's partitions.
        options.upkeep = false;
        let store = MySqlStore::open(options, config.namespaces()).await?;
        Ok(Self {
            history: Arc::clone(&store) as Arc<dyn History>,
            scan: Arc::clone(&store) as Arc<dyn Scan>,
            cluster: store.hash_key().user_hash(UserId::new(u64::MAX)),
            place: format!("{} on {}", config.mysql.database, config.mysql.servers),
            store: Store::MySql(store),
        })
    }

    /// Ends every connection and task.
    pub(crate) async fn close(&self) {
        match &self.store {
            Store::Sqlite(store) => store.close().await,
            Store::MySql(store) => store.close().await,
        }
    }
}
