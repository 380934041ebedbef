//! One transaction of the writer: the rows, the events and the commit's number go together or not at
//! all.

use std::path::Path;
use std::time::{Duration, Instant};

use seen_filter::{NamespaceId, StoreError, UnixMillis, UserEpoch, UserId};
use sqlx::sqlite::SqliteArguments;
use sqlx::{Arguments as _, Row as _, SqliteConnection};

use super::errors::{Stage, map};
use super::events::EventBlob;
use super::group::{Plan, RowKey};
use super::inner::Inner;
use super::namespaces::{Horizon, LogSlot, Table, Tables};
use super::sql::{INSERT_ROWS_MAX, LOG_ROWS_MAX, log_insert};
use super::tail::{Head, SlotEvents};
use super::timeline::{Marker, SideFile};
use crate::request::partition_of;

/// Most rows that one transaction of a forget removes: about 10 ms, so that other calls get a turn.
const FORGET_ROWS_MAX: u32 = 5_000;

/// How often at most the side file is told how far the commits are.
const MARKER_INTERVAL: Duration = Duration::from_secs(1);

/// Bits of a commit log key below the commit's number.
pub(crate) const SLOT_BITS: u32 = 16;

/// Why a transaction failed.
pub(crate) enum Failure {
    /// SQLite or sqlx said so, at this stage.
    Sql(Stage, sqlx::Error),
    /// The store itself refused.
    Store(StoreError),
}

impl Failure {
    pub(crate) fn into_store_error(self, path: &Path) -> StoreError {
        match self {
            Self::Sql(stage, error) => map(&error, stage, path),
            Self::Store(error) => error,
        }
    }
}

fn write_error(error: sqlx::Error) -> Failure {
    Failure::Sql(Stage::Write, error)
}

/// Keeps the timeline's side file up to date.
pub(crate) struct MarkerKeeper {
    side_file: Option<SideFile>,
    /// What was found at opening; of it only the file's identity is written again.
    marker: Marker,
    written: Instant,
}

impl MarkerKeeper {
    pub(crate) fn new(side_file: Option<SideFile>, marker: Marker) -> Self {
        Self { side_file, marker, written: Instant::now() }
    }

    /// Called under the write lock: says how far the file is **before** this commit, since only that
    /// is certain to be kept.
    fn before_commit(&mut self, head: Head, opens: u64) {
        if self.written.elapsed() < MARKER_INTERVAL {
            return;
        }
        self.written = Instant::now();
        let Some(file) = self.side_file.as_mut() else { return };
        let before = head.position.saturating_sub(1);
        let marker = Marker { timeline: head.timeline, opens, head: before, ..self.marker };
        if let Err(error) = file.write(&marker, false) {
            tracing::warn!(%error, "writing the timeline's side file failed");
        }
    }

    /// At the end of a process: the exact head, under the write lock.
    pub(crate) async fn last_words(
        &mut self,
        connection: &mut SqliteConnection,
    ) -> Result<(), sqlx::Error> {
        let Some(file) = self.side_file.as_mut() else { return Ok(()) };
        sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await?;
        let read: Result<(i64, i64, i64), _> =
            sqlx::query_as("SELECT timeline, opens, head FROM store")
                .fetch_one(&mut *connection)
                .await;
        let written = read.and_then(|(timeline, opens, head)| {
            let marker = Marker {
                timeline: timeline.cast_unsigned(),
                opens: opens.cast_unsigned(),
                head: head.cast_unsigned(),
                ..self.marker
            };
            file.write(&marker, true).map_err(sqlx::Error::Io)
        });
        sqlx::query("ROLLBACK").execute(connection).await?;
        written
    }
}

/// What one transaction of a forget did.
pub(crate) struct Forgot {
    pub rows: u64,
    /// The new epoch, if this was the last transaction.
    pub epoch: Option<UserEpoch>,
    pub slots: Vec<SlotEvents>,
}

/// An open transaction that numbers one commit.
pub(crate) struct Transaction<'a> {
    connection: &'a mut SqliteConnection,
    keeper: &'a mut MarkerKeeper,
    head: Head,
    opens: u64,
}

impl<'a> Transaction<'a> {
    /// Takes the write lock and the next number, and counts the bytes of the events to be logged.
    pub(crate) async fn begin(
        connection: &'a mut SqliteConnection,
        keeper: &'a mut MarkerKeeper,
        log_bytes: usize,
    ) -> Result<Self, Failure> {
        // Two statements in one go: each trip to the connection's thread costs about 10 us.
        let (timeline, position, opens): (i64, i64, i64) = sqlx::query_as(
            "BEGIN IMMEDIATE; UPDATE store SET head = head + 1, log_bytes = log_bytes + ? \
             RETURNING timeline, head, opens",
        )
        .bind(log_bytes as i64)
        .fetch_all(&mut *connection)
        .await
        .and_then(|rows| rows.into_iter().next().ok_or(sqlx::Error::RowNotFound))
        .map_err(write_error)?;
        let head = Head { timeline: timeline.cast_unsigned(), position: position.cast_unsigned() };
        Ok(Self { connection, keeper, head, opens: opens.cast_unsigned() })
    }

    /// Removes, then inserts, in key order.
    pub(crate) async fn apply(
        &mut self,
        tables: &Tables,
        plan: &Plan,
        now: UnixMillis,
    ) -> Result<(), Failure> {
        for (table, todo) in tables.iter().zip(&plan.tables) {
            if !todo.removes.is_empty() {
                let keys = json_keys(&todo.removes);
                sqlx::query(table.sql.remove.clone())
                    .bind(keys)
                    .execute(&mut *self.connection)
                    .await
                    .map_err(write_error)?;
            }
            let horizon = table.horizon(now);
            let bucket = table.bucket(now);
            for rows in todo.inserts.chunks(INSERT_ROWS_MAX) {
                self.insert(table, rows, bucket, horizon).await?;
            }
        }
        Ok(())
    }

    /// Inserts at most [`INSERT_ROWS_MAX`] rows. The statement's spare places repeat the last row,
    /// which changes nothing.
    async fn insert(
        &mut self,
        table: &Table,
        rows: &[(RowKey, i64)],
        bucket: u32,
        horizon: Horizon,
    ) -> Result<(), Failure> {
        let Some(last) = rows.last() else { return Ok(()) };
        let (size, sql) = table.sql.insert(rows.len());
        let mut arguments = SqliteArguments::default();
        arguments.reserve(size * 5 + 2, 0);
        let spare = std::iter::repeat_n(last, size - rows.len());
        let bound: Result<(), _> = rows.iter().chain(spare).try_for_each(|(key, time)| {
            arguments.add(key.user)?;
            arguments.add(key.kind)?;
            arguments.add(key.item)?;
            arguments.add(*time)?;
            arguments.add(i64::from(bucket))
        });
        bound
            .and_then(|()| arguments.add(horizon.bucket))
            .and_then(|()| arguments.add(horizon.zero))
            .map_err(|e| write_error(sqlx::Error::Encode(e)))?;
        sqlx::query_with(sql, arguments)
            .execute(&mut *self.connection)
            .await
            .map_err(write_error)?;
        Ok(())
    }

    /// Removes some of a user's rows; the transaction that leaves none raises the user's epoch and
    /// says so (coherence row 49). Rows that go before have no events: replicas may call them "seen"
    /// until then, as they may expired ones. Writes of other calls fall between whole transactions,
    /// so that "all rows that the user had at this commit" is exact.
    pub(crate) async fn forget(
        &mut self,
        inner: &Inner,
        namespace: NamespaceId,
        user: UserId,
    ) -> Result<Forgot, Failure> {
        let table = inner.tables.get(namespace).map_err(Failure::Store)?;
        let raw_user = user.get().cast_signed();
        let rows = sqlx::query(table.sql.forget.clone())
            .bind(raw_user)
            .bind(FORGET_ROWS_MAX)
            .execute(&mut *self.connection)
            .await
            .map_err(write_error)?
            .rows_affected();
        if rows >= FORGET_ROWS_MAX.into() {
            return Ok(Forgot { rows, epoch: None, slots: Vec::new() });
        }
        let epoch: i64 = sqlx::query(
            "INSERT INTO user_epochs (namespace, user, epoch) VALUES (?, ?, 1) \
             ON CONFLICT (namespace, user) DO UPDATE SET epoch = epoch + 1 RETURNING epoch",
        )
        .bind(i64::from(table.file_id))
        .bind(raw_user)
        .fetch_all(&mut *self.connection)
        .await
        .and_then(|rows| rows.first().ok_or(sqlx::Error::RowNotFound)?.try_get(0))
        .map_err(write_error)?;
        let epoch = UserEpoch::new(u32::try_from(epoch).unwrap_or(u32::MAX));
        let partition = partition_of(&inner.hash_key, user, inner.partitions);
        let mut blob = EventBlob::default();
        blob.forgotten(user, epoch);
        let events: std::sync::Arc<[u8]> = blob.into_bytes().into();
        sqlx::query("UPDATE store SET log_bytes = log_bytes + ?")
            .bind(events.len() as i64)
            .execute(&mut *self.connection)
            .await
            .map_err(write_error)?;
        let slots = vec![(table.log_slot(partition.get()), events)];
        Ok(Forgot { rows, epoch: Some(epoch), slots })
    }

    /// Appends the events to the commit log.
    pub(crate) async fn log(
        &mut self,
        slots: &[SlotEvents],
        now: UnixMillis,
    ) -> Result<(), Failure> {
        for some in slots.chunks(LOG_ROWS_MAX) {
            let mut query = sqlx::query(log_insert(some.len()));
            for (slot, events) in some {
                query = query
                    .bind(log_key(self.head.position, *slot))
                    .bind(now.get().cast_signed())
                    .bind(events.to_vec());
            }
            query.execute(&mut *self.connection).await.map_err(write_error)?;
        }
        Ok(())
    }

    /// Makes the transaction durable: when this returns, its log frames have been synced.
    pub(crate) async fn commit(self) -> Result<Head, Failure> {
        self.keeper.before_commit(self.head, self.opens);
        sqlx::query("COMMIT")
            .execute(self.connection)
            .await
            .map_err(|e| Failure::Sql(Stage::Commit, e))?;
        Ok(self.head)
    }
}

/// The commit log's key of a commit's events for one namespace and partition.
pub(crate) fn log_key(position: u64, slot: LogSlot) -> i64 {
    (position << SLOT_BITS | u64::from(slot.get())).cast_signed()
}

/// Keys as the JSON that the remove statement takes.
fn json_keys(keys: &[RowKey]) -> String {
    use std::fmt::Write as _;
    let mut text = String::with_capacity(keys.len() * 48 + 2);
    text.push('[');
    for (n, key) in keys.iter().enumerate() {
        let comma = if n == 0 { "" } else { "," };
        let _ = write!(text, "{comma}[{},{},{}]", key.user, key.kind, key.item);
    }
    text.push(']');
    text
}
