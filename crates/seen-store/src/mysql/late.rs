//! Point checks by timestamps of low resolution, on TiDB: a server takes the newest timestamp that it
//! has at hand, instead of asking for one and waiting for it. So a check may be late by
//! `mysql.check_lag`, which only callers ask for that hold what came since (rule R5).
//!
//! - They have connections of their own: such a session refuses every write.
//! - A server that cannot reach its source of timestamps keeps the one that it had, for as long as that
//!   lasts. So a connection proves from time to time how late it is: it asks for a fresh timestamp, and
//!   then for one of low resolution, which must not be below. A server's never go back. Where the proof
//!   is too old or fails, checks are fresh.
//! - Only the project's own tables without buckets: where rows are moved to another partition, or an
//!   index is made, a timestamp from before finds nothing there.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use seen_filter::{Item, NamespaceId, SnapshotId, StoreError, UserId};
use sqlx::{Executor as _, MySqlConnection, Row as _};
use tokio::time::Instant;

use super::MySqlStore;
use super::errors::{Failure, Stage};
use super::options::MySqlOptions;
use super::pool::{Pool, Session};
use super::read::read_error;
use super::shard::ShardStore;
use super::tables::Table;

/// So much later than a timestamp should be it may be, in milliseconds: fetching one takes a while.
const SPARE_MS: u64 = 500;
/// A proof that failed is not tried again for this long.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// How often a server fetches a timestamp, in milliseconds, where it does not say so (before TiDB 8.0).
const INTERVAL_MS_DEFAULT: u64 = 2_000;

const BEGIN: &str = "SET SESSION tidb_low_resolution_tso = 1; \
     SHOW GLOBAL VARIABLES LIKE 'tidb_low_resolution_tso_update_interval'";
const LOOK: &str = "SET SESSION tidb_low_resolution_tso = 0; START TRANSACTION; \
     SELECT CAST(@@tidb_current_ts AS UNSIGNED); COMMIT; \
     SET SESSION tidb_low_resolution_tso = 1; START TRANSACTION; \
     SELECT CAST(@@tidb_current_ts AS UNSIGNED); COMMIT";

/// Rows that a check found, and what it saw.
pub(super) type Found = (Vec<(UserId, Item)>, SnapshotId);

/// The connections of one shard for checks that may be late.
pub(crate) struct LateChecks {
    pub pool: Arc<Pool>,
    late: AtomicU64,
    fresh: AtomicU64,
}

impl LateChecks {
    pub(crate) fn new(pool: Arc<Pool>) -> Self {
        Self { pool, late: AtomicU64::new(0), fresh: AtomicU64::new(0) }
    }
}

/// What is known of how late one connection's reads are.
#[derive(Debug, Default)]
pub(crate) struct Lateness {
    /// Reads from now on show everything that was committed before this moment.
    proven: Option<Instant>,
    /// A moment, and a fresh timestamp of after it which those of low resolution have not reached yet.
    awaited: Option<(Instant, u64)>,
    /// When it was looked at last.
    looked: Option<Instant>,
    /// The server fetches timestamps too seldom.
    too_seldom: bool,
}

impl Lateness {
    fn shows(&self, until: Instant) -> bool {
        self.proven.is_some_and(|proven| proven >= until)
    }

    fn looks_at(&self, now: Instant) -> bool {
        !self.too_seldom && self.looked.is_none_or(|looked| now >= looked + LOOK_INTERVAL)
    }

    /// A fresh timestamp that was asked for after `began`, and one of low resolution after that.
    fn learn(&mut self, began: Instant, fresh: u64, low: u64) {
        if low >= fresh {
            (self.proven, self.awaited) = (Some(began), None);
            return;
        }
        if let Some((at, _)) = self.awaited.take_if(|(_, awaited)| low >= *awaited) {
            self.proven = Some(at);
        }
        self.awaited.get_or_insert((began, fresh));
    }
}

/// Makes a connection one whose reads may be late.
pub(super) async fn begin(
    connection: &mut MySqlConnection,
    options: &MySqlOptions,
) -> Result<Lateness, Failure> {
    let failed = |error| Failure::Sql(Stage::Open, error);
    let row = connection.fetch_optional(sqlx::raw_sql(BEGIN)).await.map_err(failed)?;
    let said: Option<String> = row.map(|row| row.try_get(1)).transpose().map_err(failed)?;
    let interval_ms = said.and_then(|said| said.parse().ok()).unwrap_or(INTERVAL_MS_DEFAULT);
    let check_lag_ms = options.check_lag_ms;
    let too_seldom = interval_ms + SPARE_MS > check_lag_ms;
    if too_seldom {
        tracing::warn!(
            interval_ms,
            check_lag_ms,
            "checks are fresh: mysql.check_lag is less than half a second above the server's \
             tidb_low_resolution_tso_update_interval; raise it, or set it to 0s"
        );
    }
    Ok(Lateness { too_seldom, ..Lateness::default() })
}

impl Session {
    /// True if what is read on this connection shows everything that was committed before `until`. A
    /// connection that is not for late checks never does.
    async fn shows(&mut self, until: Instant) -> Result<bool, Failure> {
        let now = Instant::now();
        let Some(lateness) = &mut self.lateness else { return Ok(false) };
        if lateness.shows(until) || !lateness.looks_at(now) {
            return Ok(lateness.shows(until));
        }
        lateness.looked = Some(now);
        // Whatever fails in between leaves a connection that has proven nothing.
        lateness.proven = None;
        let rows = self.connection.fetch_all(sqlx::raw_sql(LOOK)).await.map_err(read_error)?;
        if let [fresh, low] = rows.as_slice() {
            let (fresh, low) = (fresh.try_get(0), low.try_get(0));
            lateness.learn(now, fresh.map_err(read_error)?, low.map_err(read_error)?);
        }
        Ok(lateness.shows(until))
    }
}

impl ShardStore {
    /// Which of these keys have rows, as of `until` or later; `None` if a fresh check has to tell.
    pub(super) async fn find_late(
        self: &Arc<Self>,
        namespace: NamespaceId,
        keys: &Arc<[(UserId, Item)]>,
        until: Instant,
    ) -> Result<Option<Found>, StoreError> {
        if !self.may_be_late(self.tables.get(namespace)?) {
            return Ok(None);
        }
        let (shard, keys) = (Arc::clone(self), Arc::clone(keys));
        let found = self.late.pool.run(move |session| {
            let (shard, keys) = (Arc::clone(&shard), Arc::clone(&keys));
            Box::pin(async move {
                match session.shows(until).await? {
                    true => session.find_all(&shard, namespace, &keys).await.map(Some),
                    false => Ok(None),
                }
            })
        });
        // Whatever keeps these connections from answering, the others may.
        let found = found.await.unwrap_or_else(|error| {
            tracing::debug!(%error, "a check that might be late is asked again, fresh");
            None
        });
        let count = if found.is_some() { &self.late.late } else { &self.late.fresh };
        count.fetch_add(1, Ordering::Relaxed);
        Ok(found)
    }

    fn may_be_late(&self, table: &Table) -> bool {
        let mut others = self.options.mappings.iter();
        !table.has_buckets() && others.all(|mapping| mapping.namespace != table.settings.id)
    }
}

impl MySqlStore {
    /// Checks that might be late: how many were answered so, and how many had to be fresh since no
    /// connection had proven in time how late it is.
    pub fn late_checks(&self) -> (u64, u64) {
        let of = |shard: &Arc<ShardStore>| {
            let late = shard.late.late.load(Ordering::Relaxed);
            (late, shard.late.fresh.load(Ordering::Relaxed))
        };
        self.shards.iter().map(of).fold((0, 0), |(a, b), (late, fresh)| (a + late, b + fresh))
    }

    /// From when on a check that begins now must show everything.
    pub(super) fn late_until(&self) -> Option<Instant> {
        let lag_ms = self.late_lag_ms();
        let until = Instant::now().checked_sub(Duration::from_millis(lag_ms));
        until.filter(|_| lag_ms > 0)
    }

    /// How late checks may be, in milliseconds; 0 where they never are.
    pub(super) fn late_lag_ms(&self) -> u64 {
        match self.dialect {
            super::Dialect::TiDb => self.options.check_lag_ms,
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mysql::connection::{Role, connect};
    use crate::mysql::errors::number;
    use crate::mysql::mapping::Name;
    use crate::mysql::server::{Login, PasswordSource, ServerAddress, Tls};

    #[test]
    fn a_proof_is_as_old_as_the_timestamp_that_was_reached() {
        let start = Instant::now();
        let after = |ms| start + Duration::from_millis(ms);
        let mut lateness = Lateness::default();
        assert!(!lateness.shows(start), "nothing is proven");
        lateness.learn(after(0), 100, 100);
        assert!(lateness.shows(after(0)) && !lateness.shows(after(1)));
        // From here on the server fetches none.
        lateness.learn(after(10), 110, 105);
        lateness.learn(after(20), 120, 109);
        assert!(lateness.shows(after(0)) && !lateness.shows(after(1)));
        // It has fetched one, after the first of the two and before the second.
        lateness.learn(after(30), 130, 115);
        assert!(lateness.shows(after(10)) && !lateness.shows(after(11)));
        lateness.learn(after(40), 140, 129);
        assert!(!lateness.shows(after(11)), "130 is awaited now");
        lateness.learn(after(50), 150, 130);
        assert!(lateness.shows(after(30)) && !lateness.shows(after(31)));
    }

    #[test]
    fn looks_that_proved_nothing_are_not_repeated_at_once() {
        let now = Instant::now();
        let lateness = Lateness { looked: Some(now), ..Lateness::default() };
        assert!(!lateness.looks_at(now + LOOK_INTERVAL / 2));
        assert!(lateness.looks_at(now + LOOK_INTERVAL));
        let too_seldom = Lateness { too_seldom: true, ..Lateness::default() };
        assert!(Lateness::default().looks_at(now) && !too_seldom.looks_at(now));
    }

    /// Each connection for late checks has the variable on, also after it has proven itself, and a
    /// write on it is refused; the others have it off.
    #[tokio::test]
    async fn connections_for_late_checks_refuse_writes() {
        let Some(server) = seen_testbed::or_skip(seen_testbed::Tidb::start()) else { return };
        let make = "CREATE DATABASE seen; CREATE TABLE seen.t (a INT PRIMARY KEY)";
        server.sql(make).expect("a table");
        let address = ServerAddress { host: "127.0.0.1".to_owned(), port: server.port() };
        let login =
            Login { user: "root".to_owned(), password: PasswordSource::None, tls: Tls::Off };
        let options = MySqlOptions {
            login,
            check_lag_ms: 5_000,
            connect_timeout_ms: 20_000,
            check_timeout_ms: 20_000,
            ..MySqlOptions::default()
        };
        let database = Name::new("database", "seen").expect("a name");
        for (role, is_late) in [(Role::Check, false), (Role::LateCheck, true)] {
            let opened = connect(&options, &address, Some(&database), role).await;
            let (mut connection, _) = opened.expect("a connection");
            let mut rounds = 1;
            if is_late {
                let lateness = begin(&mut connection, &options).await.expect("a beginning");
                assert!(!lateness.too_seldom);
                rounds = 2;
            }
            for round in 0..rounds {
                let set = "SELECT CAST(@@session.tidb_low_resolution_tso AS CHAR)";
                let set: String =
                    sqlx::query_scalar(set).fetch_one(&mut connection).await.expect("it");
                assert_eq!(set == "1" || set == "ON", is_late, "{role}: {set}");
                let write = format!("INSERT INTO t VALUES ({round})");
                let write = sqlx::raw_sql(sqlx::AssertSqlSafe(write));
                let written = connection.execute(write).await;
                match is_late {
                    false => assert!(written.is_ok(), "{written:?}"),
                    true => {
                        let refused = written.expect_err("a write");
                        assert_eq!(number(&refused), Some(1105), "{refused}");
                        assert!(
                            refused.to_string().contains("tidb_low_resolution_tso"),
                            "{refused}"
                        );
                    }
                }
                let rows = connection.fetch_all(sqlx::raw_sql(LOOK));
                let rows = if is_late { rows.await.expect("a look").len() } else { 2 };
                assert_eq!(rows, 2);
            }
        }
        let short = MySqlOptions { check_lag_ms: 2_499, ..options };
        let opened = connect(&short, &address, Some(&database), Role::LateCheck).await;
        let begun = begin(&mut opened.expect("a connection").0, &short).await;
        assert!(begun.expect("a beginning").too_seldom, "2 s and the spare are more");
    }
}
