//! Looking whether every row is where its user lives.

use std::sync::Arc;

use seen_filter::{NamespaceId, Shard, StoreError, UserId};
use sqlx::mysql::MySqlArguments;

use super::arguments::add_id;
use super::errors::{Failure, Stage};
use super::pool::closed;
use super::read::number;
use super::{MySqlStore, ShardStore};

/// Users of one statement.
const USERS_MAX: u64 = 10_000;
/// Misplaced users that are named.
const NAMED_MAX: usize = 20;

/// What a look at one namespace of one shard found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// Users with rows there.
    pub users: u64,
    /// Users among them who live on another shard: their rows there are never read.
    pub misplaced: u64,
    /// The first of those, at most 20.
    pub named: Vec<UserId>,
}

impl MySqlStore {
    /// The number of logical shards.
    pub fn shards(&self) -> u16 {
        u16::try_from(self.shards.len()).unwrap_or(u16::MAX)
    }

    /// Goes through the users of one namespace on one shard, and counts those who live elsewhere.
    /// Calls `progress` with the users looked at so far.
    ///
    /// # Errors
    /// As reads; `InvalidRequest` for an unknown shard or namespace.
    pub async fn verify_placement(
        &self,
        shard: Shard,
        namespace: NamespaceId,
        mut progress: impl FnMut(u64),
    ) -> Result<Placement, StoreError> {
        self.tables.get(namespace)?;
        let store = self.shards.get(usize::from(shard.get())).ok_or_else(closed)?;
        let mut placement = Placement::default();
        let mut after = None;
        loop {
            let users = users_after(store, namespace, after).await?;
            for user in &users {
                placement.users += 1;
                if self.shard_of(*user) != shard {
                    placement.misplaced += 1;
                    if placement.named.len() < NAMED_MAX {
                        placement.named.push(*user);
                    }
                }
            }
            progress(placement.users);
            if (users.len() as u64) < USERS_MAX {
                return Ok(placement);
            }
            after = users.last().copied();
        }
    }
}

/// Users with rows, in the column's order.
async fn users_after(
    store: &Arc<ShardStore>,
    namespace: NamespaceId,
    after: Option<UserId>,
) -> Result<Vec<UserId>, StoreError> {
    let shard = Arc::clone(store);
    let work = store.pages.run(move |session| {
        let shard = Arc::clone(&shard);
        Box::pin(async move {
            let failed = |error| Failure::Sql(Stage::Read, error);
            let table = shard.tables.get(namespace).map_err(Failure::Store)?;
            let mut arguments = MySqlArguments::default();
            let sql = match after {
                None => &table.sql.users_first,
                Some(user) => {
                    add_id(&mut arguments, user.get(), table.types.user_signed)
                        .map_err(|e| failed(sqlx::Error::Encode(e)))?;
                    &table.sql.users_after
                }
            };
            let query = sqlx::query_with(sql.clone(), arguments);
            let rows = query.fetch_all(&mut session.connection).await.map_err(failed)?;
            rows.iter().map(|row| number(row, 0).map(UserId::new)).collect()
        })
    });
    work.await
}

/// The statement: users with rows, from the first or after one.
pub(crate) fn users_text(low: &str, table: &str, user: &str, after: bool) -> String {
    let from = if after { format!(" WHERE {user} > ?") } else { String::new() };
    format!("SELECT {low}DISTINCT {user} FROM {table}{from} ORDER BY {user} LIMIT {USERS_MAX}")
}
