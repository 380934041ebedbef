//! `[storage]`: the store of record, and what waits for it.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::error::OutOfRange;
use super::options::{Allowed, OptionInfo, SectionInfo, option, secs};
use super::units::span;

/// What `[storage]` is about.
pub const SECTION: SectionInfo = SectionInfo {
    name: "storage",
    help: "The store of record, and what waits for it.",
    options: OPTIONS,
};

const OPTIONS: &[OptionInfo] = &[
    option(
        "kind",
        Allowed::OneOf(&["sqlite", "mysql"]),
        "Which store keeps the histories: the embedded one, or the database servers of [mysql].",
    ),
    option(
        "data_dir",
        Allowed::Text("a folder"),
        "Where the embedded store keeps its files; made if missing.",
    ),
    option(
        "threads",
        Allowed::Count(1, 64),
        "Threads of the runtime that storage and feeds share.",
    ),
    option("read_connections", Allowed::Count(1, 64), "Connections for point checks and listings."),
    option(
        "build_connections",
        Allowed::Count(1, 64),
        "Connections for reading whole histories, apart from the others so that a large user starves nobody.",
    ),
    option(
        "pending_writes_max",
        Allowed::Count(100, 1_000_000),
        "Marks, unmarks and forgets that may wait for a commit, shared evenly by the shards; one more is refused with RESOURCE_EXHAUSTED.",
    ),
    option(
        "commit_rows_max",
        Allowed::Count(1_000, 1_000_000),
        "Rows of concurrent marks that share one commit.",
    ),
    option(
        "log_retention",
        Allowed::Span(secs(60), secs(30 * 86_400)),
        "How long the commit log is kept for followers that fell behind.",
    ),
    option(
        "log_commits_max",
        Allowed::Count(1_000, 100_000_000),
        "Commits that the log keeps at most; older ones go first, whatever their age.",
    ),
];

/// A kind of store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StorageKind {
    /// The embedded store, in one file.
    Sqlite,
    /// Database servers: MySQL, MariaDB or TiDB.
    MySql,
}

/// `[storage]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "the options' help is the documentation, stated once")]
pub struct StorageConfig {
    pub kind: StorageKind,
    pub data_dir: PathBuf,
    pub threads: u16,
    pub read_connections: u16,
    pub build_connections: u16,
    pub pending_writes_max: u32,
    pub commit_rows_max: u32,
    #[serde(with = "span")]
    pub log_retention: Duration,
    pub log_commits_max: u64,
}

impl Default for StorageConfig {
    fn default() -> Self {
        Self {
            kind: StorageKind::Sqlite,
            data_dir: PathBuf::from("seen-data"),
            threads: 2,
            read_connections: 4,
            build_connections: 2,
            pending_writes_max: 16_384,
            commit_rows_max: 8_192,
            log_retention: secs(86_400),
            log_commits_max: 100_000,
        }
    }
}

impl StorageConfig {
    /// Checks every value against its range.
    ///
    /// # Errors
    /// The first value out of range.
    pub fn validate(&self) -> Result<(), OutOfRange> {
        SECTION.check(SECTION.name, self)
    }
}
