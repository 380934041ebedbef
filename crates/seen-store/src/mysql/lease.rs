//! The lease of a shard's background work: of all stores that are open on a database, one does it.
//!
//! The row says until when, by the storage's clock, which alone decides whether somebody else may take
//! it. The holder counts the same length from before it asked, by its own steady clock, and stops when
//! that is over: it may stop too early, but not too late.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use seen_filter::StoreError;
use sqlx::{Executor as _, Row as _};
use tokio::time::Instant;

use super::errors::{Failure, Stage};
use super::pool::Session;
use super::shard::ShardStore;

/// How long a store that cannot ask waits before it tries again, at most.
const RETRY: Duration = Duration::from_millis(500);

/// One store's claim to do a shard's background work.
pub(crate) struct Lease {
    shard: Arc<ShardStore>,
    /// This life of this store; never 0, which is nobody.
    holder: u64,
    length: Duration,
    /// While this is ahead nobody else does the work.
    held_until: Mutex<Option<Instant>>,
}

impl Lease {
    pub(crate) fn new(shard: Arc<ShardStore>, holder: u64) -> Self {
        let length = Duration::from_millis(shard.options.upkeep_lease_ms);
        Self { shard, holder: holder.max(1), length, held_until: Mutex::default() }
    }

    /// Takes or renews it; false if another store holds it.
    pub(crate) async fn hold(&self) -> Result<bool, StoreError> {
        let (shard, holder) = (Arc::clone(&self.shard), self.holder);
        let asked_at = Instant::now();
        let holds = self.shard.pages.run(move |session| {
            let shard = Arc::clone(&shard);
            Box::pin(async move { session.take_lease(&shard, holder).await })
        });
        let holds = holds.await?;
        *self.held_until.lock() = holds.then(|| asked_at + self.length);
        Ok(holds)
    }

    /// Renews it in good time; returns when it is lost.
    pub(crate) async fn lost(&self) {
        let mut pause = self.length / 3;
        loop {
            let Some(until) = *self.held_until.lock() else { return };
            tokio::time::sleep_until(until.min(Instant::now() + pause)).await;
            pause = match tokio::time::timeout_at(until, self.hold()).await {
                Ok(Ok(true)) => self.length / 3,
                Ok(Ok(false)) => return,
                Ok(Err(error)) => {
                    tracing::debug!(shard = %self.shard.shard, %error, "the lease was not renewed");
                    RETRY.min(self.length / 3)
                }
                Err(_) => {
                    *self.held_until.lock() = None;
                    return;
                }
            };
        }
    }

    /// Gives it up, so that another store need not wait for its end.
    pub(crate) async fn give_up(&self) {
        if self.held_until.lock().take().is_none() {
            return;
        }
        let (shard, holder) = (Arc::clone(&self.shard), self.holder);
        let given = self.shard.pages.run(move |session| {
            let shard = Arc::clone(&shard);
            Box::pin(async move { session.give_lease_up(&shard, holder).await })
        });
        match tokio::time::timeout(self.shard.options.connect_timeout(), given).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::debug!(shard = %self.shard.shard, %error, "the lease was not given up");
            }
            Err(_) => {
                tracing::debug!(shard = %self.shard.shard, "the lease was not given up in time");
            }
        }
    }
}

fn write_error(error: sqlx::Error) -> Failure {
    Failure::Sql(Stage::Write, error)
}

impl Session {
    /// Takes or renews the lease by one conditional statement, at a server that is proven to be the
    /// primary. Whoever sees that another holds it writes nothing.
    async fn take_lease(&mut self, shard: &ShardStore, holder: u64) -> Result<bool, Failure> {
        self.begin_write(shard).await?;
        let holds = self.try_lease(shard, holder).await?;
        self.commit().await?;
        Ok(holds)
    }

    async fn try_lease(&mut self, shard: &ShardStore, holder: u64) -> Result<bool, Failure> {
        let row = self
            .connection
            .fetch_one(sqlx::raw_sql(
                "SELECT CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS UNSIGNED), holder, until_ms \
                 FROM (SELECT 1) AS one LEFT JOIN seen_leases ON name = 'upkeep'",
            ))
            .await
            .map_err(write_error)?;
        let server_now: u64 = row.try_get(0).map_err(write_error)?;
        let known: Option<u64> = row.try_get(1).map_err(write_error)?;
        let known_until_ms: Option<u64> = row.try_get(2).map_err(write_error)?;
        let now_ms = shard.now_or(seen_filter::UnixMillis::new(server_now)).get();
        let until_ms = now_ms.saturating_add(shard.options.upkeep_lease_ms);
        let taken = match known {
            None => sqlx::query(
                "INSERT IGNORE INTO seen_leases (name, holder, until_ms) VALUES ('upkeep', ?, ?)",
            )
            .bind(holder)
            .bind(until_ms),
            Some(other) if other != holder && known_until_ms.is_some_and(|ms| ms > now_ms) => {
                return Ok(false);
            }
            Some(_) => sqlx::query(
                "UPDATE seen_leases SET holder = ?, until_ms = ? \
                 WHERE name = 'upkeep' AND (holder = ? OR until_ms <= ?)",
            )
            .bind(holder)
            .bind(until_ms)
            .bind(holder)
            .bind(now_ms),
        };
        let done = taken.execute(&mut self.connection).await.map_err(write_error)?;
        // Counts rows that were found, whether they changed or not.
        Ok(done.rows_affected() == 1)
    }

    async fn give_lease_up(&mut self, shard: &ShardStore, holder: u64) -> Result<(), Failure> {
        self.begin_write(shard).await?;
        sqlx::query(
            "UPDATE seen_leases SET holder = 0, until_ms = 0 WHERE name = 'upkeep' AND holder = ?",
        )
        .bind(holder)
        .execute(&mut self.connection)
        .await
        .map_err(write_error)?;
        self.commit().await?;
        Ok(())
    }
}
