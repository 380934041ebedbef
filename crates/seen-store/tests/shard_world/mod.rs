//! A namespace on stores of several shards, and shorthands for marking and asking.

use std::sync::Arc;

use seen_filter::history::{Question, Write, WriteOp};
use seen_filter::{
    History, Item, NamespaceId, NamespaceSettings, StoreErrorKind, UnixMillis, UserId,
};
use seen_store::{MySqlOptions, MySqlStore};

use crate::servers::{self, OnServer};

pub const NS: NamespaceId = NamespaceId::new(0);

/// The one namespace.
pub fn settings() -> Vec<NamespaceSettings> {
    vec![NamespaceSettings::new(NS, "reads")]
}

/// One mark.
pub fn mark(user: u64, item: u64) -> Write {
    let items = vec![(Item::new(1, item), Some(UnixMillis::new(5)))];
    Write { namespace: NS, user: UserId::new(user), op: WriteOp::Append, items }
}

/// A store, its schema made.
pub async fn opened(options: &MySqlOptions) -> Arc<MySqlStore> {
    MySqlStore::apply_schema(options.clone(), settings()).await.expect("a schema");
    MySqlStore::open(options.clone(), settings()).await.expect("a store")
}

/// Whether a user has read an item.
pub async fn has(store: &MySqlStore, user: u64, item: u64) -> Result<bool, StoreErrorKind> {
    let question = Question { user: UserId::new(user), items: vec![Item::new(1, item)] };
    let answers = store.check(NS, vec![question]).await.map_err(|error| error.kind)?;
    Ok(answers.found[0][0])
}

/// The `mariadb` of this program, always there.
pub fn server() -> OnServer {
    servers::mariadb().expect("always there")
}
