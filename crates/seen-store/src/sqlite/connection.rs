//! Connections: how one is opened for its purpose, and the small pools that reads share.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use seen_filter::{StoreError, StoreErrorKind};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, SqliteConnection};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::errors::{Stage, map};
use super::options::SqliteOptions;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// The one that opens, migrates and writes.
    Write,
    /// Copies the write-ahead log into the file.
    Checkpoint,
    /// Reads only.
    Read,
}

/// Bytes of a page. The default of every file system that matters, and SQLite's own.
pub(crate) const PAGE_BYTES: u64 = 4_096;

/// How to open a connection for `role`.
pub(crate) fn connect_options(options: &SqliteOptions, role: Role) -> SqliteConnectOptions {
    let cache_kib = match role {
        Role::Write => options.cache_bytes_max >> 10,
        Role::Checkpoint => 1_024,
        Role::Read => options.cache_bytes_max >> 12,
    };
    let mut connect = SqliteConnectOptions::new()
        .filename(&options.path)
        .busy_timeout(Duration::from_millis(options.busy_timeout_ms))
        .statement_cache_capacity(1_024)
        .thread_name(move |_| format!("seen-{}", role.name()))
        .pragma("cache_size", format!("-{cache_kib}"))
        .pragma("temp_store", "MEMORY")
        .foreign_keys(false)
        .disable_statement_logging();
    if options.read_only && options.beside_writers {
        return connect.create_if_missing(false).pragma("query_only", "true");
    }
    if options.read_only {
        // Without a write-ahead log beside it nobody writes to the file, and a reader that may not
        // create one can still read it.
        let has_log = with_suffix(&options.path, "-wal").exists();
        return connect.read_only(true).immutable(!has_log);
    }
    if role == Role::Read {
        return connect.pragma("query_only", "true");
    }
    connect = connect
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        // The store copies the log itself, so that no commit waits for it.
        .pragma("wal_autocheckpoint", "0")
        // Where a log that a long reader let grow is cut to when it starts afresh.
        .pragma("journal_size_limit", (options.wal_bytes_checkpoint * 32).to_string());
    if options.file_bytes_max > 0 {
        let pages = (options.file_bytes_max / PAGE_BYTES).clamp(1, 0xffff_fffe);
        connect = connect.pragma("max_page_count", pages.to_string());
    }
    connect
}

impl Role {
    fn name(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Checkpoint => "checkpoint",
            Self::Read => "read",
        }
    }
}

/// The path with `suffix` after the file's whole name, as SQLite names its own side files.
pub(crate) fn with_suffix(path: &std::path::Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// A bounded number of reading connections. Its own rather than sqlx's pool, which pings twice for
/// every query (three times the cost of the query itself).
#[derive(Debug)]
pub(crate) struct ReadPool {
    options: SqliteOptions,
    idle: Mutex<Vec<SqliteConnection>>,
    permits: Arc<Semaphore>,
    waiting: AtomicUsize,
}

impl ReadPool {
    /// A pool of at most `connections_max` connections; none is opened before it is needed.
    pub(crate) fn new(options: &SqliteOptions, connections_max: usize) -> Arc<Self> {
        Arc::new(Self {
            options: options.clone(),
            idle: Mutex::new(Vec::with_capacity(connections_max)),
            permits: Arc::new(Semaphore::new(connections_max)),
            waiting: AtomicUsize::new(0),
        })
    }

    /// A connection of one's own until it is dropped. A caller that is cancelled in the middle of a
    /// query gives back a connection that may still be busy with it; the next query then waits for
    /// that one's end, which the bound on a query's rows bounds.
    pub(crate) async fn acquire(self: &Arc<Self>) -> Result<Lease, StoreError> {
        let waiting = Waiting::enter(&self.waiting, self.options.pending_reads_max)?;
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| closed())?;
        drop(waiting);
        let idle = self.idle.lock().pop();
        let connection = match idle {
            Some(connection) => connection,
            None => SqliteConnection::connect_with(&connect_options(&self.options, Role::Read))
                .await
                .map_err(|e| map(&e, Stage::Open, &self.options.path))?,
        };
        Ok(Lease { connection: Some(connection), pool: Arc::clone(self), _permit: permit })
    }

    /// Refuses further reads, waits for the running ones and closes the connections.
    pub(crate) async fn close(&self, connections_max: usize) {
        let running = u32::try_from(connections_max).unwrap_or(u32::MAX);
        // Taking every permit waits for every lease.
        let all = self.permits.acquire_many(running).await;
        self.permits.close();
        drop(all);
        let idle = std::mem::take(&mut *self.idle.lock());
        for connection in idle {
            if let Err(error) = connection.close().await {
                tracing::warn!(%error, "closing a reading connection failed");
            }
        }
    }
}

/// The error of a store that was closed.
pub(crate) fn closed() -> StoreError {
    StoreError::new(StoreErrorKind::Unavailable, "the store is closed; open it again")
}

/// Counts one caller that waits, while it lives.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn enter(count: &'a AtomicUsize, waiting_max: usize) -> Result<Self, StoreError> {
        let entered = Self(count);
        if count.fetch_add(1, Ordering::Relaxed) < waiting_max {
            return Ok(entered);
        }
        Err(StoreError::new(
            StoreErrorKind::Overloaded,
            format!("pending_reads_max = {waiting_max} reads wait already; try again later"),
        ))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// A connection on loan.
pub(crate) struct Lease {
    connection: Option<SqliteConnection>,
    pool: Arc<ReadPool>,
    _permit: OwnedSemaphorePermit,
}

impl Lease {
    /// The connection.
    ///
    /// # Errors
    /// `Unavailable` once [`Lease::discard`] has dropped it.
    pub(crate) fn get(&mut self) -> Result<&mut SqliteConnection, StoreError> {
        self.connection.as_mut().ok_or_else(closed)
    }

    /// Drops the connection instead of giving it back: its thread is gone.
    pub(crate) fn discard(&mut self) {
        self.connection = None;
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.pool.idle.lock().push(connection);
        }
    }
}
