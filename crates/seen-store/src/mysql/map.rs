//! The age of the map that says which servers hold which shard. A shard remembers the newest map it was
//! told of, and every statement of work asks it: a store that goes by an older map is refused, at once
//! and everywhere. So a shard can move to other servers while processes with both maps run.

use std::sync::Arc;

use seen_filter::{Shard, StoreError, StoreErrorKind};
use sqlx::{MySqlConnection, Row as _};

use super::MySqlStore;
use super::dialect::Dialect;
use super::errors::{Failure, Stage};
use super::look::recorded_map;
use super::pool::Session;
use crate::request::invalid;

/// What a session tells the server: the age of its map, for [`read_only!`](super::dialect::read_only).
pub(crate) fn session(map_epoch: u32) -> String {
    format!("; SET @seen_map_epoch = {map_epoch}")
}

/// The age of the newest map that a shard was told of.
pub(crate) async fn recorded(connection: &mut MySqlConnection) -> Result<u32, Failure> {
    let failed = |error| Failure::Sql(Stage::Open, error);
    let row = sqlx::query("SELECT epoch FROM seen_map WHERE id = 1");
    let row = row.fetch_optional(connection).await.map_err(failed)?;
    row.map_or(Ok(0), |row| row.try_get(0).map_err(failed))
}

/// The error of a store whose map is older than the one that a shard was told of.
pub(crate) fn outdated(shard: Shard, ours: u32, recorded: u32) -> StoreError {
    StoreError::new(
        StoreErrorKind::Unavailable,
        format!(
            "shard {shard} was told of a newer map of shards (epoch {recorded}, and mysql.map_epoch is \
             {ours}): it moves or has moved to other servers; start again with the newer configuration"
        ),
    )
}

impl MySqlStore {
    /// The age of the newest map that a shard was told of, as of when it was looked at.
    pub fn map_epoch(&self, shard: Shard) -> Option<u32> {
        self.shards.get(usize::from(shard.get()))?.primary.known().map(|known| known.map_epoch)
    }

    /// Tells a shard of a newer map. When this returns, nothing that goes by an older one is written
    /// there any more, and nothing is read: writes under way had been waited for. Returns the age that
    /// was known before: this one, if it had been told of it already. So whoever does not know what came
    /// of it does it again.
    ///
    /// # Errors
    /// `InvalidRequest` if the shard is unknown, knows of a newer map already, or is TiDB's; else as
    /// writes.
    pub async fn raise_map_epoch(&self, shard: Shard, epoch: u32) -> Result<u32, StoreError> {
        let store = self.shards.get(usize::from(shard.get())).ok_or_else(|| {
            invalid(format!("shard {shard} is unknown (there are 0 to {})", self.shards.len() - 1))
        })?;
        // Once it is told, this store's own map may be the older one, by which nothing is written.
        let known = |told: u32| {
            let what = format!(
                "shard {shard} knows of the map of epoch {told} already; name a higher one than {told}"
            );
            Err(invalid(what))
        };
        match recorded_map(&store.options, &store.primary).await? {
            told if told == epoch => return Ok(told),
            told if told > epoch => return known(told),
            _ => {}
        }
        self.jobs(shard)?;
        let of_shard = Arc::clone(store);
        let raised = store.writes.run(move |session| {
            let shard = Arc::clone(&of_shard);
            Box::pin(async move { session.raise_map_epoch(&shard, epoch).await })
        });
        let before = raised.await?;
        store.primary.doubt();
        if before < epoch {
            tracing::warn!(%shard, before, epoch, "the shard was told of a newer map");
            return Ok(before);
        }
        // Somebody else was faster.
        if before == epoch { Ok(before) } else { known(before) }
    }
}

impl Session {
    /// Raises the age, if it is lower. Returns the one before.
    async fn raise_map_epoch(
        &mut self,
        shard: &super::ShardStore,
        epoch: u32,
    ) -> Result<u32, Failure> {
        let failed = |error| Failure::Sql(Stage::Write, error);
        if self.facts.dialect == Dialect::TiDb {
            return Err(Failure::Store(invalid(
                "a TiDB cluster moves its data itself; a shard of it cannot be fenced while seen runs \
                 (it has no shared locks): to move one to another cluster, stop all of seen"
                    .to_owned(),
            )));
        }
        self.begin_write(shard).await?;
        let before = recorded(&mut self.connection).await?;
        // Waits for the commits of all who hold the row since they began to write.
        sqlx::query("UPDATE seen_map SET epoch = ? WHERE id = 1 AND epoch < ?")
            .bind(epoch)
            .bind(epoch)
            .execute(&mut self.connection)
            .await
            .map_err(failed)?;
        self.commit().await?;
        Ok(before)
    }
}
