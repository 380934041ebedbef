//! The namespaces of one file: their numbers there, their tables, and what of their settings the
//! stored rows depend on.

use std::collections::HashMap;
use std::path::Path;

use seen_filter::{NamespaceId, NamespaceSettings, StoreError, StoreErrorKind, UnixMillis};
use sqlx::{Row as _, SqliteConnection};

use super::errors::{Stage, map};
use super::sql::TableSql;
use crate::request::{invalid, unknown_namespace};

/// Most namespaces that a file holds: their number has ten bits in the commit log's key.
const NAMESPACES_MAX: i64 = 1_024;
/// Bits of the partition in a [`LogSlot`].
const PARTITION_BITS: u16 = 6;

/// A namespace and partition as the commit log numbers them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct LogSlot(u16);

impl LogSlot {
    /// Comes before every other.
    pub(crate) const FIRST: Self = Self(0);

    pub(crate) const fn get(self) -> u16 {
        self.0
    }
}

/// One configured namespace with its table.
#[derive(Debug)]
pub(crate) struct Table {
    pub settings: NamespaceSettings,
    /// Its number in this file.
    pub file_id: u16,
    /// What bucket 0 stands for.
    zero_bucket: u32,
    pub sql: TableSql,
}

/// What a read or write at some time takes for expired.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Horizon {
    /// Rows of lower buckets have expired ...
    pub bucket: i64,
    /// ... except of this one: 0 if rows without a bucket are still promised, else -1.
    pub zero: i64,
}

impl Table {
    /// The expiry horizon at a storage time.
    pub(crate) fn horizon(&self, now: UnixMillis) -> Horizon {
        let Some(retention) = self.settings.retention else {
            return Horizon { bucket: 0, zero: 0 };
        };
        let bucket = retention.horizon_at(now);
        let zero = if self.zero_bucket >= bucket { 0 } else { -1 };
        Horizon { bucket: bucket.into(), zero }
    }

    /// The bucket of a row committed at a storage time.
    pub(crate) fn bucket(&self, now: UnixMillis) -> u32 {
        self.settings.retention.map_or(0, |r| r.bucket_at(now))
    }

    /// What the commit log calls a partition of this namespace.
    pub(crate) fn log_slot(&self, partition: u16) -> LogSlot {
        LogSlot(self.file_id << PARTITION_BITS | partition)
    }
}

/// The configured namespaces, by their configured number.
#[derive(Debug)]
pub(crate) struct Tables(Vec<Table>);

impl Tables {
    /// The table of a namespace.
    pub(crate) fn get(&self, namespace: NamespaceId) -> Result<&Table, StoreError> {
        let found = self.0.get(usize::from(namespace.get()));
        found.ok_or_else(|| unknown_namespace(namespace, self.0.len()))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Table> {
        self.0.iter()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// Finds each namespace by its **name** in the file, so that the configuration may be reordered, and
/// makes the tables that are missing. Runs inside the opening transaction.
pub(crate) async fn open(
    connection: &mut SqliteConnection,
    path: &Path,
    settings: Vec<NamespaceSettings>,
    now: UnixMillis,
    create: bool,
) -> Result<Tables, StoreError> {
    let sql_error = |e: sqlx::Error| map(&e, Stage::Open, path);
    let rows = sqlx::query("SELECT id, name, bucket_ms, zero_bucket FROM namespaces")
        .fetch_all(&mut *connection)
        .await
        .map_err(sql_error)?;
    let mut known = HashMap::new();
    for row in &rows {
        let name: String = row.try_get(1).map_err(sql_error)?;
        let stored = Stored {
            id: row.try_get(0).map_err(sql_error)?,
            bucket_ms: row.try_get(2).map_err(sql_error)?,
            zero_bucket: row.try_get(3).map_err(sql_error)?,
        };
        known.insert(name, stored);
    }
    let mut next_id = known.values().map(|s| s.id + 1).max().unwrap_or(0);
    let mut tables = Vec::with_capacity(settings.len());
    for one in settings {
        let stored = match known.get(&one.name) {
            Some(stored) => stored.settle(&one, now)?,
            None if create => {
                let bucket_ms = one.retention.map_or(0, |r| r.bucket_ms);
                let id = next_id;
                next_id += 1;
                let zero_bucket = if bucket_ms == 0 { ZERO_OPEN } else { 0 };
                Stored { id, bucket_ms: bucket_ms.cast_signed(), zero_bucket }
            }
            None => {
                return Err(invalid(format!(
                    "namespace {:?} is not in {}, which is open for reading only; open it once \
                     for writing",
                    one.name,
                    path.display()
                )));
            }
        };
        let table = stored.table(one)?;
        if create {
            save(connection, &stored, &table).await.map_err(sql_error)?;
        }
        tables.push(table);
    }
    Ok(Tables(tables))
}

/// In place of the bucket that 0 stands for, while rows without a bucket are being written.
const ZERO_OPEN: i64 = -1;

/// A namespace's row.
#[derive(Clone, Copy)]
struct Stored {
    id: i64,
    bucket_ms: i64,
    zero_bucket: i64,
}

impl Stored {
    /// Fits what is stored to the settings. Rows written without expiry carry bucket 0; when expiry
    /// is switched on (again) they count as written now, so that none goes earlier than promised.
    /// Stored buckets of one length mean nothing in another, so that the length cannot change.
    fn settle(self, one: &NamespaceSettings, now: UnixMillis) -> Result<Self, StoreError> {
        let Some(retention) = one.retention else {
            return Ok(Self { zero_bucket: ZERO_OPEN, ..self });
        };
        let asked_ms = retention.bucket_ms.cast_signed();
        if self.bucket_ms == asked_ms && self.zero_bucket != ZERO_OPEN {
            return Ok(self);
        }
        if self.bucket_ms == 0 || self.bucket_ms == asked_ms {
            let zero_bucket = retention.bucket_at(now).into();
            return Ok(Self { bucket_ms: asked_ms, zero_bucket, ..self });
        }
        Err(invalid(format!(
            "namespace {:?}: retention.bucket = {asked_ms} ms, but its rows were counted in buckets \
             of {} ms; keep that length (the span may change), or import into a new namespace",
            one.name, self.bucket_ms
        )))
    }

    fn table(self, settings: NamespaceSettings) -> Result<Table, StoreError> {
        if !(0..NAMESPACES_MAX).contains(&self.id) {
            return Err(StoreError::new(
                StoreErrorKind::InvalidRequest,
                format!(
                    "namespace {:?} would be number {} of this file (allowed: 0 to {}); use another \
                     file",
                    settings.name,
                    self.id,
                    NAMESPACES_MAX - 1
                ),
            ));
        }
        Ok(Table {
            file_id: u16::try_from(self.id).unwrap_or(0),
            zero_bucket: u32::try_from(self.zero_bucket).unwrap_or(0),
            sql: TableSql::new(&settings)?,
            settings,
        })
    }
}

async fn save(
    connection: &mut SqliteConnection,
    stored: &Stored,
    table: &Table,
) -> Result<(), sqlx::Error> {
    sqlx::query(
        "INSERT INTO namespaces (id, name, bucket_ms, zero_bucket) VALUES (?, ?, ?, ?) \
         ON CONFLICT (id) DO UPDATE SET bucket_ms = excluded.bucket_ms, \
         zero_bucket = excluded.zero_bucket \
         WHERE bucket_ms <> excluded.bucket_ms OR zero_bucket <> excluded.zero_bucket",
    )
    .bind(stored.id)
    .bind(&table.settings.name)
    .bind(stored.bucket_ms)
    .bind(stored.zero_bucket)
    .execute(&mut *connection)
    .await?;
    sqlx::query(table.sql.create_table.clone()).execute(&mut *connection).await?;
    let index = match table.settings.time_index {
        true => &table.sql.create_time_index,
        false => &table.sql.drop_time_index,
    };
    sqlx::query(index.clone()).execute(connection).await?;
    Ok(())
}
