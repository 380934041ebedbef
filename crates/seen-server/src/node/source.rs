//! The store's change feed without a node, for whoever passes it on.

use std::sync::Arc;

use seen_filter::ChangeFeed;
use seen_filter::hash::HashKey;

use super::NodeError;
use super::store::{self, Opened};
use crate::config::{Config, FeedSource};
use crate::runtime::StorageRuntime;

/// The change feed of the configured database servers, opened.
pub(crate) struct Source {
    opened: Opened,
    _storage: StorageRuntime,
}

impl Source {
    /// Opens the store and whatever tells of its changes (`mysql.feed`).
    ///
    /// # Errors
    /// [`NodeError`]; also where nobody tells of changes.
    pub(crate) async fn open(config: &Config) -> Result<Self, NodeError> {
        let mut config = config.clone();
        if config.mysql.feed == FeedSource::Auto {
            // Without a binary log there is nothing to pass on.
            config.mysql.feed = FeedSource::Binlog;
        }
        let storage = StorageRuntime::start(config.storage.threads).map_err(|source| {
            NodeError::System { what: "cannot start the storage runtime".to_owned(), source }
        })?;
        let opened = store::open(&config, false, storage.handle()).await?;
        Ok(Self { opened, _storage: storage })
    }

    /// Where it is, for people.
    pub(crate) fn place(&self) -> &str {
        &self.opened.place
    }

    /// The change feed.
    pub(crate) fn feed(&self) -> Arc<dyn ChangeFeed> {
        Arc::clone(&self.opened.feed)
    }

    /// What spreads users over partitions.
    pub(crate) fn hash_key(&self) -> HashKey {
        self.opened.hash_key
    }

    /// Ends every task of the store.
    pub(crate) async fn close(&self) {
        self.opened.close().await;
    }
}
