//! What happens by itself: expired and surplus rows go, the commit log is cut at its old end, and the
//! write-ahead log is copied into the file. Everything that writes goes through the writer's queue as
//! a small chore of its own, so that calls never wait long; none of it makes events, since expiry
//! dirties nothing.

use std::sync::Weak;
use std::sync::atomic::Ordering;
use std::time::Duration;

use seen_filter::StoreError;
use sqlx::{Connection, Row as _, SqliteConnection};
use tokio::sync::{mpsc, oneshot, watch};

use super::commit::{Failure, SLOT_BITS};
use super::connection::{PAGE_BYTES, Role, closed, connect_options, with_suffix};
use super::errors::{Stage, map};
use super::flush;
use super::group::RowKey;
use super::inner::Inner;
use super::namespaces::Horizon;
use super::writer::{Job, Writer};
use crate::metrics::SWEPT_ROWS;

/// Rows that one look at a stretch of a table covers.
pub(crate) const STRETCH_ROWS: u32 = 500;
/// Most commits dropped from the log's old end in one transaction.
const TRIM_COMMITS_MAX: u64 = 500;
/// How often the log's end and the write-ahead log's size are looked at.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// How often the write-ahead log is copied while commits go on, before the writer does the rest.
const CHECKPOINT_PASSES_MAX: u32 = 4;
/// What is left for the writer to copy, in pages: about a millisecond's work.
const CHECKPOINT_REST_PAGES: i64 = 256;
/// How long the writer waits for readers of the write-ahead log before it starts it afresh.
const RESTART_BUSY_MS: u64 = 20;

/// Background work for the writer.
pub(crate) enum Chore {
    /// Remove the expired rows of `from <= key < until`.
    Sweep { table: usize, from: RowKey, until: RowKey, horizon: Horizon },
    /// Remove surplus rows of a user.
    Trim(Surplus),
    /// Drop the log's commits up to this one.
    TrimLog { through: u64 },
    /// Copy the rest of the write-ahead log and start it afresh.
    FinishCheckpoint,
}

/// Rows of a user beyond the newest, as a read found them.
pub(crate) struct Surplus {
    pub table: usize,
    pub user: i64,
    /// Time, kind and item of the oldest row to keep.
    pub oldest_kept: (i64, i64, i64),
    /// Kinds and items of older rows, as JSON.
    pub keys: String,
    pub horizon: Horizon,
    /// How many rows must be left.
    pub newest_max: u32,
}

impl Writer {
    /// Does a chore; returns how many rows it removed.
    pub(crate) async fn chore(&mut self, chore: Chore) -> Result<u64, StoreError> {
        let tried = match chore {
            Chore::FinishCheckpoint => self.finish_checkpoint().await,
            Chore::Sweep { table, from, until, horizon } => {
                self.sweep(table, from, until, horizon).await
            }
            Chore::Trim(surplus) => self.trim(surplus).await,
            Chore::TrimLog { through } => self.trim_log(through).await,
        };
        self.settle(tried).await
    }

    async fn sweep(
        &mut self,
        table: usize,
        from: RowKey,
        until: RowKey,
        horizon: Horizon,
    ) -> Result<u64, Failure> {
        let inner = std::sync::Arc::clone(&self.inner);
        let Some(table) = inner.tables.iter().nth(table) else { return Ok(0) };
        let connection = Self::connected(&mut self.connection, &inner.options).await?;
        let swept = sqlx::query(table.sql.sweep.clone())
            .bind(horizon.bucket)
            .bind(horizon.zero)
            .bind(from.user)
            .bind(from.kind)
            .bind(from.item)
            .bind(until.user)
            .bind(until.kind)
            .bind(until.item)
            .execute(connection)
            .await
            .map_err(|e| Failure::Sql(Stage::Write, e))?
            .rows_affected();
        inner.counters.expired.fetch_add(swept, Ordering::Relaxed);
        metrics::counter!(SWEPT_ROWS, "reason" => "expired").increment(swept);
        Ok(swept)
    }

    /// Rows may have been removed since the surplus was found, here or by another process: the
    /// statement counts again, so that the newest ones are never fewer than promised.
    async fn trim(&mut self, surplus: Surplus) -> Result<u64, Failure> {
        let inner = std::sync::Arc::clone(&self.inner);
        let Some(table) = inner.tables.iter().nth(surplus.table) else { return Ok(0) };
        let connection = Self::connected(&mut self.connection, &inner.options).await?;
        let trimmed = sqlx::query(table.sql.trim.clone())
            .bind(surplus.horizon.bucket)
            .bind(surplus.horizon.zero)
            .bind(surplus.user)
            .bind(surplus.keys)
            .bind(surplus.oldest_kept.0)
            .bind(surplus.oldest_kept.1)
            .bind(surplus.oldest_kept.2)
            .bind(i64::from(surplus.newest_max))
            .execute(connection)
            .await
            .map_err(|e| Failure::Sql(Stage::Write, e))?
            .rows_affected();
        inner.counters.trimmed.fetch_add(trimmed, Ordering::Relaxed);
        metrics::counter!(SWEPT_ROWS, "reason" => "surplus").increment(trimmed);
        Ok(trimmed)
    }

    async fn trim_log(&mut self, through: u64) -> Result<u64, Failure> {
        let inner = std::sync::Arc::clone(&self.inner);
        let write_error = |e| Failure::Sql(Stage::Write, e);
        let connection = Self::connected(&mut self.connection, &inner.options).await?;
        sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await.map_err(write_error)?;
        let end = ((through + 1) << SLOT_BITS).cast_signed();
        let (floor, freed): (i64, i64) = sqlx::query_as(
            "SELECT floor, (SELECT coalesce(sum(length(events)), 0) FROM commit_log WHERE id < ?) \
             FROM store",
        )
        .bind(end)
        .fetch_one(&mut *connection)
        .await
        .map_err(write_error)?;
        sqlx::query("DELETE FROM commit_log WHERE id < ?")
            .bind(end)
            .execute(&mut *connection)
            .await
            .map_err(write_error)?;
        sqlx::query("UPDATE store SET floor = max(floor, ?), log_bytes = log_bytes - ?")
            .bind(through.cast_signed())
            .bind(freed)
            .execute(&mut *connection)
            .await
            .map_err(write_error)?;
        sqlx::query("COMMIT")
            .execute(connection)
            .await
            .map_err(|e| Failure::Sql(Stage::Commit, e))?;
        let trimmed = through.saturating_sub(floor.cast_unsigned());
        inner.counters.log_trimmed.fetch_add(trimmed, Ordering::Relaxed);
        Ok(0)
    }

    async fn finish_checkpoint(&mut self) -> Result<u64, Failure> {
        let inner = std::sync::Arc::clone(&self.inner);
        let write_error = |e| Failure::Sql(Stage::Write, e);
        let connection = Self::connected(&mut self.connection, &inner.options).await?;
        set_busy_timeout(connection, RESTART_BUSY_MS).await.map_err(write_error)?;
        let done = checkpoint(connection, "PRAGMA wal_checkpoint(RESTART)").await;
        set_busy_timeout(connection, inner.options.busy_timeout_ms).await.map_err(write_error)?;
        done.map(|_| 0).map_err(write_error)
    }
}

async fn set_busy_timeout(
    connection: &mut SqliteConnection,
    timeout_ms: u64,
) -> Result<(), sqlx::Error> {
    let text = format!("PRAGMA busy_timeout = {timeout_ms}");
    sqlx::query(sqlx::AssertSqlSafe(text)).execute(connection).await.map(drop)
}

/// Runs a checkpoint; returns how many pages of the log are still to be copied.
async fn checkpoint(
    connection: &mut SqliteConnection,
    sql: &'static str,
) -> Result<i64, sqlx::Error> {
    let row = sqlx::query(sql).fetch_one(connection).await?;
    Ok(row.try_get::<i64, _>(1)? - row.try_get::<i64, _>(2)?)
}

/// Logs when work that is tried again and again begins to fail, and when it works again, but not
/// every try in between.
pub(crate) struct Troubles {
    work: &'static str,
    is_failing: bool,
}

impl Troubles {
    pub(crate) fn new(work: &'static str) -> Self {
        Self { work, is_failing: false }
    }

    pub(crate) fn note(&mut self, error: Option<StoreError>) {
        let work = self.work;
        match error {
            Some(error) if !self.is_failing => {
                tracing::warn!(%error, work, "background work fails; it is tried again");
            }
            None if self.is_failing => tracing::info!(work, "background work goes on"),
            _ => return,
        }
        self.is_failing = !self.is_failing;
    }
}

/// Hands a chore to the writer and waits for it.
pub(crate) async fn ask_writer(
    jobs: &mpsc::WeakSender<Job>,
    chore: Chore,
) -> Result<u64, StoreError> {
    let sender = jobs.upgrade().ok_or_else(closed)?;
    let (ack, done) = oneshot::channel();
    sender.send(Job::Chore { chore, ack }).await.map_err(|_| closed())?;
    drop(sender);
    done.await.map_err(|_| closed())?
}

/// Keeps the logs short until the store is closed.
pub(crate) async fn keep_logs_short(
    inner: Weak<Inner>,
    jobs: mpsc::WeakSender<Job>,
    mut shutdown: watch::Receiver<bool>,
) {
    let mut connection = None;
    let mut troubles = Troubles::new("upkeep of the store's logs");
    loop {
        tokio::select! {
            _ = shutdown.changed() => break,
            () = tokio::time::sleep(LOOK_INTERVAL) => {}
        }
        let Some(inner) = inner.upgrade() else { break };
        let wal_bytes = file_bytes(&inner, "-wal");
        let looked = async {
            trim_log_once(&inner, &jobs).await?;
            // The file never shrinks below what it once needed; how much of it is in use is asked then.
            if wal_bytes > inner.options.wal_bytes_checkpoint {
                checkpoint_once(&inner, &jobs, &mut connection).await?;
            }
            Ok::<_, StoreError>(())
        };
        troubles.note(looked.await.err());
    }
    if let Some(connection) = connection {
        let _ = connection.close().await;
    }
}

/// The size of the file or of one beside it; 0 if there is none.
pub(crate) fn file_bytes(inner: &Inner, suffix: &str) -> u64 {
    std::fs::metadata(with_suffix(&inner.options.path, suffix)).map_or(0, |m| m.len())
}

/// Cuts the log where it is longer, larger or older than its bounds.
pub(crate) async fn trim_log_once(
    inner: &Inner,
    jobs: &mpsc::WeakSender<Job>,
) -> Result<(), StoreError> {
    loop {
        let options = &inner.options;
        let oldest_ms = options.clock.now().get().saturating_sub(options.log_age_ms_max);
        let mut lease = inner.pages.acquire().await?;
        let read: Result<(i64, i64, i64, Option<i64>), _> = sqlx::query_as(
            "SELECT head, floor, log_bytes, CASE WHEN \
             (SELECT committed_at FROM commit_log ORDER BY id LIMIT 1) < ?1 THEN \
             (SELECT max(id) FROM (SELECT id, committed_at FROM commit_log ORDER BY id LIMIT 2000) \
             WHERE committed_at < ?1) END FROM store",
        )
        .bind(oldest_ms.min(i64::MAX as u64).cast_signed())
        .fetch_one(lease.get()?)
        .await;
        let (head, floor, bytes, aged) = super::read::settle(inner, &mut lease, read)?;
        drop(lease);
        let (head, floor) = (head.cast_unsigned(), floor.cast_unsigned());
        let by_count = head.saturating_sub(options.log_commits_max);
        let is_too_large = bytes.cast_unsigned() > options.log_bytes_max;
        // Too large or too old: from the old end, some at a time, until it no longer is.
        let by_rest = match (is_too_large, aged) {
            (false, None) => 0,
            (true, _) => floor + TRIM_COMMITS_MAX.min(head.saturating_sub(floor) / 2).max(1),
            (false, Some(id)) => id.cast_unsigned() >> SLOT_BITS,
        };
        let through = by_count.max(by_rest).min(floor + TRIM_COMMITS_MAX).min(head);
        if through <= floor {
            return Ok(());
        }
        ask_writer(jobs, Chore::TrimLog { through }).await?;
    }
}

/// Copies the write-ahead log, if enough of it is not copied yet, while commits go on; then lets the
/// writer do the rest, which has to be done between two commits for the log to start afresh.
///
/// Little and often: what is copied is flushed in one go, and commits share the disk meanwhile. The
/// log's file is not cut when it starts afresh: syncs of a file that grows cost several times as much.
async fn checkpoint_once(
    inner: &Inner,
    jobs: &mpsc::WeakSender<Job>,
    connection: &mut Option<SqliteConnection>,
) -> Result<(), StoreError> {
    let at = |stage| move |e: sqlx::Error| map(&e, stage, &inner.options.path);
    if connection.is_none() {
        let connect = connect_options(&inner.options, Role::Checkpoint);
        let opened = SqliteConnection::connect_with(&connect).await.map_err(at(Stage::Open))?;
        *connection = Some(opened);
    }
    let Some(own) = connection.as_mut() else { return Ok(()) };
    let rest = checkpoint(own, "PRAGMA wal_checkpoint(NOOP)").await.map_err(at(Stage::Read))?;
    if rest.unsigned_abs() * PAGE_BYTES < inner.options.wal_bytes_checkpoint {
        return Ok(());
    }
    for _ in 0..CHECKPOINT_PASSES_MAX {
        checkpoint(own, "PRAGMA wal_checkpoint(PASSIVE)").await.map_err(at(Stage::Write))?;
        let flushed = async { flush::flush(flush::handle(&inner.options.path)?).await };
        flushed.await.map_err(|e| at(Stage::Write)(sqlx::Error::Io(e)))?;
        // A pass knows nothing of what was committed while it ran; only a look afterwards does.
        let rest = checkpoint(own, "PRAGMA wal_checkpoint(NOOP)").await.map_err(at(Stage::Read))?;
        if rest <= CHECKPOINT_REST_PAGES {
            break;
        }
    }
    ask_writer(jobs, Chore::FinishCheckpoint).await.map(drop)
}
