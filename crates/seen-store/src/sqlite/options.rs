//! What the embedded store can be told.

use std::path::PathBuf;

use seen_filter::StoreError;

use crate::request::{StorageClock, WRITE_ROWS_MAX, invalid, system_clock};

/// How to open the embedded store.
#[derive(Clone, Debug)]
pub struct SqliteOptions {
    /// The database file. Two more files, `-wal` and `-shm`, stand beside it while it is open, and
    /// one, `.timeline`, always does.
    pub path: PathBuf,
    /// True to create the file if there is none. Its folder must exist.
    pub create: bool,
    /// True to open for reading only: every write is refused with `ReadOnly`.
    pub read_only: bool,
    /// With `read_only`: true if another process may write meanwhile, or begin to. Then the file's locks
    /// are kept, for which a folder that may be written in is needed where nobody writes yet. False
    /// takes a file without a write-ahead log beside it for one that nobody changes.
    pub beside_writers: bool,
    /// True to begin a new timeline even if the file does not look like a restored copy. Needed
    /// after a restore that cannot be told from the original: a snapshot of the whole disk.
    pub new_timeline: bool,
    /// Feed partitions of each namespace, 1 to 64. Only the creation of a file reads it.
    pub partitions: u16,
    /// Most calls that may wait for a commit; further ones are refused with `Overloaded`.
    pub pending_writes_max: usize,
    /// Most rows that calls may share a commit for. A single larger call is committed alone.
    pub commit_rows_max: usize,
    /// Most calls that may wait for a connection to read by, for pages and checks each; further
    /// ones are refused with `Overloaded`.
    pub pending_reads_max: usize,
    /// Connections that read pages (builds, listings), 1 to 64.
    pub page_connections_max: usize,
    /// Connections that answer point checks, 1 to 64, so that builds cannot hold them up.
    pub check_connections_max: usize,
    /// How long a call waits in all for another process's lock, in milliseconds.
    pub busy_timeout_ms: u64,
    /// Page cache of the writing connection, in bytes; each reading one has a quarter of it.
    pub cache_bytes_max: u64,
    /// How much of the write-ahead log may wait to be copied into the file before that begins, in
    /// bytes. The log's file is several times as large under load.
    pub wal_bytes_checkpoint: u64,
    /// Largest size of the file in bytes, 0 for none: beyond it writes are refused with `Full`.
    pub file_bytes_max: u64,
    /// Most commits that the change feed reaches back.
    pub log_commits_max: u64,
    /// Most bytes of events that the change feed keeps.
    pub log_bytes_max: u64,
    /// How far the change feed reaches back, in milliseconds.
    pub log_age_ms_max: u64,
    /// How often commits of other processes are looked for, in milliseconds.
    pub feed_poll_ms: u64,
    /// How often a feed without events says that it is alive, in milliseconds.
    pub feed_heartbeat_ms: u64,
    /// How many rows the search for expired ones looks at in a second.
    pub sweep_rows_per_second_max: u32,
    /// The storage's clock.
    pub clock: StorageClock,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self {
            path: PathBuf::from("seen.db"),
            create: true,
            read_only: false,
            beside_writers: false,
            new_timeline: false,
            partitions: 4,
            pending_writes_max: 8_192,
            commit_rows_max: 4_096,
            pending_reads_max: 4_096,
            page_connections_max: 2,
            check_connections_max: 2,
            busy_timeout_ms: 2_000,
            cache_bytes_max: 64 << 20,
            wal_bytes_checkpoint: 32 << 20,
            file_bytes_max: 0,
            log_commits_max: 100_000,
            log_bytes_max: 256 << 20,
            log_age_ms_max: 24 * 3_600_000,
            feed_poll_ms: 5,
            feed_heartbeat_ms: 100,
            sweep_rows_per_second_max: 20_000,
            clock: system_clock(),
        }
    }
}

impl SqliteOptions {
    /// Checks every field against its range.
    ///
    /// # Errors
    /// `InvalidRequest`, naming the field, the value and what is allowed.
    pub fn validate(&self) -> Result<(), StoreError> {
        let ranges: [(&str, u64, u64, u64); 14] = [
            ("partitions", self.partitions.into(), 1, 64),
            ("pending_writes_max", self.pending_writes_max as u64, 1, 1 << 20),
            ("commit_rows_max", self.commit_rows_max as u64, 1, WRITE_ROWS_MAX as u64),
            ("pending_reads_max", self.pending_reads_max as u64, 1, 1 << 20),
            ("page_connections_max", self.page_connections_max as u64, 1, 64),
            ("check_connections_max", self.check_connections_max as u64, 1, 64),
            ("busy_timeout_ms", self.busy_timeout_ms, 1, 60_000),
            ("cache_bytes_max", self.cache_bytes_max, 1 << 20, 1 << 40),
            ("wal_bytes_checkpoint", self.wal_bytes_checkpoint, 1 << 16, 1 << 40),
            ("log_commits_max", self.log_commits_max, 1, 1 << 40),
            ("log_bytes_max", self.log_bytes_max, 1 << 10, 1 << 50),
            ("feed_poll_ms", self.feed_poll_ms, 1, 10_000),
            ("feed_heartbeat_ms", self.feed_heartbeat_ms, 10, 60_000),
            ("sweep_rows_per_second_max", self.sweep_rows_per_second_max.into(), 1, 1 << 30),
        ];
        for (field, value, low, high) in ranges {
            if !(low..=high).contains(&value) {
                return Err(invalid(format!(
                    "{field} = {value} is out of range (allowed: {low} to {high})"
                )));
            }
        }
        if self.path.file_name().is_none() {
            let path = self.path.display();
            return Err(invalid(format!("path = {path:?} names no file; give the file's path")));
        }
        Ok(())
    }
}
