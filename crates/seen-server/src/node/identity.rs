//! What a map of slots must know of a store.

use seen_filter::{SlotKey, UserId};

use super::{NodeError, store};
use crate::config::{Config, FeedSource, StorageKind};
use crate::runtime::StorageRuntime;

/// What a map of slots holds of a store.
pub(crate) struct StoreIdentity {
    /// Names the cluster: whoever shares the store's key shares its tokens.
    pub cluster: u64,
    /// Names the key that users and items are hashed with.
    pub hash_key: u32,
    /// What spreads users.
    pub slot_key: SlotKey,
    /// Names the settings of the configured namespaces.
    pub settings: u64,
}

/// False if the store is an embedded one that nobody has made yet.
pub(crate) fn store_is_there(config: &Config) -> bool {
    config.storage.kind != StorageKind::Sqlite || config.storage.data_dir.join(store::FILE).exists()
}

/// Opens the configured store, which makes the embedded one if it is not there, and closes it again.
///
/// # Errors
/// [`NodeError`].
pub(crate) async fn store_identity(config: &Config) -> Result<StoreIdentity, NodeError> {
    let mut config = config.clone();
    // Nothing is followed: only the store itself is asked.
    config.mysql.feed = FeedSource::None;
    let storage = StorageRuntime::start(1).map_err(|source| NodeError::System {
        what: "cannot start the storage runtime".to_owned(),
        source,
    })?;
    let opened = store::open(&config, false, storage.handle()).await?;
    let key = opened.hash_key;
    opened.close().await;
    Ok(StoreIdentity {
        cluster: key.user_hash(UserId::new(u64::MAX)),
        hash_key: key.id(),
        slot_key: key.slot_key(),
        settings: seen_replica::settings::settings_digest(&config.namespaces()),
    })
}
