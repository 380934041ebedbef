//! The three kinds of server, and where they differ.

use seen_filter::{PrimaryId, StoreError, StoreErrorKind};

/// A kind of server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Dialect {
    /// MariaDB, from 10.6.
    MariaDb,
    /// MySQL, from 8.0.
    MySql,
    /// TiDB, from 7.5.
    TiDb,
}

/// What a server says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerFacts {
    /// What kind it is.
    pub dialect: Dialect,
    /// Its version, as it says it.
    pub version: String,
    /// Its number among its replicas.
    pub server_id: u64,
    /// True if it takes no writes.
    pub read_only: bool,
    /// True for a node of a Galera cluster that takes writes: the others do so, too.
    pub is_galera: bool,
}

/// The oldest versions that are tried: older ones lack what the store needs.
const OLDEST: [(Dialect, (u32, u32)); 3] =
    [(Dialect::MariaDb, (10, 6)), (Dialect::MySql, (8, 0)), (Dialect::TiDb, (7, 5))];

/// Keys of one point check statement. Few sizes are few statements to prepare and keep. On TiDB a
/// plan for more than 200 is not cached, and up to that it is a batch point get.
const CHECK_SIZES: [usize; 5] = [1, 8, 40, 200, 1_000];
const CHECK_SIZES_TIDB: [usize; 4] = [1, 8, 40, 200];

/// Statements that a connection keeps prepared; TiDB keeps as many plans.
pub(crate) const STATEMENTS_KEPT_MAX: usize = 256;

/// Whether a server takes no writes, as 0 or 1. MariaDB's variable is a word from 12.0 on, and a word
/// that is neither must not read as writable.
macro_rules! server_read_only {
    () => {
        "CASE WHEN UPPER(CAST(@@global.read_only AS CHAR)) IN ('0', 'OFF') THEN 0 ELSE 1 END"
    };
}
pub(crate) use server_read_only;

/// Whether a shard takes no writes of this session, as 0 or 1: since its server takes none, or since it
/// was told of a newer map of shards than the session goes by (see `map`).
macro_rules! read_only {
    () => {
        "CASE WHEN UPPER(CAST(@@global.read_only AS CHAR)) IN ('0', 'OFF') AND @seen_map_epoch >= \
         (SELECT epoch FROM seen_map WHERE id = 1) THEN 0 ELSE 1 END"
    };
}
pub(crate) use read_only;

/// The same for a transaction that writes: the map stays what it is until it ends.
macro_rules! read_only_held {
    () => {
        "CASE WHEN UPPER(CAST(@@global.read_only AS CHAR)) IN ('0', 'OFF') AND @seen_map_epoch >= \
         (SELECT epoch FROM seen_map WHERE id = 1 LOCK IN SHARE MODE) THEN 0 ELSE 1 END"
    };
}
pub(crate) use read_only_held;

/// How soon a server is to see to a statement, beside others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Priority {
    /// Point checks and marks: a caller waits.
    High,
    /// Background work: trims, counts, verification, scans, samples.
    Low,
}

impl Dialect {
    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::MariaDb => "MariaDB",
            Self::MySql => "MySQL",
            Self::TiDb => "TiDB",
        }
    }

    /// How many keys a point check statement may hold, ascending.
    pub(crate) const fn check_sizes(self) -> &'static [usize] {
        match self {
            Self::TiDb => &CHECK_SIZES_TIDB,
            _ => &CHECK_SIZES,
        }
    }

    /// With at most so many buckets a point check names each of them in its keys. TiDB then gets them one
    /// by one instead of reading ranges of every partition; with more buckets it would be as many
    /// statements (`benches/buckets.rs`).
    pub(crate) const fn named_buckets_max(self) -> u32 {
        match self {
            Self::TiDb => 4,
            Self::MariaDb | Self::MySql => 0,
        }
    }

    /// Settings of connections that check: a list of keys is not looked up in each partition's index to
    /// see what reading it would cost (`benches/buckets.rs`).
    pub(crate) const fn check_session(self) -> &'static str {
        match self {
            Self::TiDb => "",
            Self::MariaDb | Self::MySql => "; SET SESSION eq_range_index_dive_limit = 1",
        }
    }

    /// The largest LIMIT of a page's statement. For a larger one TiDB keeps no plan, and a full page
    /// asks for one row more than it has.
    pub(crate) const fn page_limit_max(self) -> u64 {
        match self {
            Self::TiDb => 10_000,
            Self::MariaDb | Self::MySql => u64::MAX,
        }
    }

    /// The word for it, after a statement's first; nothing where that would say something else.
    /// Statements that carry none are normal: pages of builds and listings.
    ///
    /// Not by `tidb_force_priority`: whoever sets that for a session sets it for all of the server's
    /// sessions.
    pub(crate) const fn priority(self, priority: Priority) -> &'static str {
        match (self, priority) {
            (Self::TiDb, Priority::High) => "HIGH_PRIORITY ",
            (Self::TiDb, Priority::Low) => "LOW_PRIORITY ",
            _ => "",
        }
    }

    /// True if several servers are writable at once and all show the same: none of them is *the*
    /// primary, and any will do.
    pub const fn any_server(self) -> bool {
        matches!(self, Self::TiDb)
    }

    /// The settings of a connection: strict values, UTC, and limits that the server keeps itself
    /// when the client has gone. `lock_wait_s` is at least 1.
    pub(crate) fn session(self, limit_ms: u64, snapshot: bool) -> String {
        // TiDB refuses READ COMMITTED for some statements and does not need it: its writes take no
        // gap locks.
        let isolation = match snapshot || self == Self::TiDb {
            true => "REPEATABLE READ",
            false => "READ COMMITTED",
        };
        let lock_wait_s = limit_ms.div_ceil(1_000);
        let mut text = format!(
            "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ENGINE_SUBSTITUTION', \
             time_zone = '+00:00', innodb_lock_wait_timeout = {lock_wait_s}"
        );
        match self {
            // The limit covers writes, too. 0 switches conversion of long lists to joins off.
            Self::MariaDb => {
                let (s, ms) = (limit_ms / 1_000, limit_ms % 1_000);
                text += &format!(
                    ", max_statement_time = {s}.{ms:03}, in_predicate_conversion_threshold = 0"
                );
            }
            // The limit covers reads only; writes are bounded by what they wait for: rows, and the table.
            Self::MySql => {
                text += &format!(
                    ", max_execution_time = {limit_ms}, lock_wait_timeout = {lock_wait_s}"
                );
            }
            // Whatever the cluster's defaults are: rules R2 and R5 ask for fresh reads; positions are
            // compared, so that commits must be numbered in the order in which they are made; and what is
            // locked must be locked when it is written, not found out at COMMIT.
            Self::TiDb => {
                text += &format!(
                    ", max_execution_time = {limit_ms}, tidb_low_resolution_tso = 0, \
                     tidb_read_staleness = 0, tidb_guarantee_linearizability = 1, \
                     tidb_txn_mode = 'pessimistic', tidb_enable_prepared_plan_cache = 1, \
                     tidb_session_plan_cache_size = {STATEMENTS_KEPT_MAX}"
                );
            }
        }
        text += &format!("; SET SESSION TRANSACTION ISOLATION LEVEL {isolation}");
        text
    }
}

impl ServerFacts {
    /// Reads what a server said.
    ///
    /// # Errors
    /// `Schema` if it is older than what the store needs.
    pub(crate) fn new(version: &str, server_id: u64, read_only: bool) -> Result<Self, StoreError> {
        let dialect = match version {
            v if v.contains("TiDB") => Dialect::TiDb,
            v if v.contains("MariaDB") => Dialect::MariaDb,
            _ => Dialect::MySql,
        };
        let version_text = version.to_owned();
        let facts = Self { dialect, version: version_text, server_id, read_only, is_galera: false };
        let number = facts.number();
        let (_, oldest) = OLDEST.iter().find(|(d, _)| *d == dialect).unwrap_or(&OLDEST[0]);
        if number.is_some_and(|number| number < *oldest) {
            return Err(StoreError::new(
                StoreErrorKind::Schema,
                format!(
                    "the server is {} {version}, which is older than {}.{}; upgrade it",
                    dialect.name(),
                    oldest.0,
                    oldest.1
                ),
            ));
        }
        Ok(facts)
    }

    /// Major and minor version, if they can be read. TiDB says MySQL's first and then its own;
    /// MariaDB may put 5.5.5- in front, for old replicas.
    fn number(&self) -> Option<(u32, u32)> {
        let text = match self.dialect {
            Dialect::TiDb => self.version.split("TiDB-").nth(1)?.trim_start_matches('v'),
            _ => self.version.strip_prefix("5.5.5-").unwrap_or(&self.version),
        };
        let mut parts = text.split(|c: char| !c.is_ascii_digit());
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    }

    /// What snapshots name the server by.
    pub(crate) fn primary_id(&self) -> PrimaryId {
        // Several TiDB servers are one store.
        if self.dialect.any_server() { PrimaryId::new(0) } else { PrimaryId::new(self.server_id) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_are_told_by_their_version() {
        for (version, dialect, number) in [
            ("10.11.19-MariaDB-0+deb12u1-log", Dialect::MariaDb, Some((10, 11))),
            ("5.5.5-10.6.1-MariaDB", Dialect::MariaDb, Some((10, 6))),
            ("9.7.0", Dialect::MySql, Some((9, 7))),
            ("8.0.11-TiDB-v8.5-e4e814fdc0af", Dialect::TiDb, Some((8, 5))),
            ("8.0.11-TiDB-None", Dialect::TiDb, None),
        ] {
            let facts = ServerFacts::new(version, 1, false).expect(version);
            assert_eq!((facts.dialect, facts.number()), (dialect, number), "{version}");
        }
        for old in ["5.7.44-log", "10.3.39-MariaDB", "5.7.25-TiDB-v5.4.0"] {
            let refused = ServerFacts::new(old, 1, false).expect_err(old);
            assert!(refused.message.contains(old), "{refused}");
        }
    }
}
