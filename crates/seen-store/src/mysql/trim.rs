//! Expiry by count: a walk through each table that keeps only the newest rows of a user, a stretch at a
//! time, removes what users have beyond them.
//!
//! - Only the store's own tables without buckets: rows of the others go with their partitions, or are
//!   their owner's to remove.
//! - What is left is at least what was promised when a step looked: an unmark that commits between its
//!   look and its end is as one that came after the step.
//! - Followers are told of these removals as of all others, and rebuild the user once.

use std::collections::BTreeMap;
use std::sync::Arc;

use seen_filter::{StoreError, UnixMillis, UserId};
use sqlx::{Executor as _, Row as _};

use super::dialect::{Dialect, Priority};
use super::errors::{Failure, Stage};
use super::mapping::KindColumn;
use super::pool::Session;
use super::shard::ShardStore;
use super::sql::{FORGET_ROWS_MAX, safe};
use super::tables::Table;
use crate::metrics::SWEPT_ROWS;

/// Rows that one look at a stretch of a table covers.
const STRETCH_ROWS: u64 = 5_000;
/// Stretches of one table in a round: at a round every ten seconds some 20,000 rows a second.
const STRETCHES_PER_ROUND_MAX: usize = 40;
/// How long the walk rests when it has been through a table.
const WALK_REST_MS: u64 = 3_600_000;

/// How far the walks through the tables have come, by the tables' numbers.
#[derive(Debug, Default)]
pub(crate) struct Walks(BTreeMap<usize, Walk>);

#[derive(Clone, Copy, Debug, Default)]
struct Walk {
    /// The first user of the next stretch, while a pass is under way.
    from: Option<u64>,
    /// When the next pass begins, by the storage's clock.
    resume_at_ms: u64,
}

impl Walks {
    /// Goes on with every table's walk for a while, or through all of it. Returns the rows removed.
    pub(crate) async fn go_on(
        &mut self,
        shard: &Arc<ShardStore>,
        now: UnixMillis,
        all: bool,
    ) -> Result<u64, StoreError> {
        let mut removed = 0;
        let mut failed = None;
        for (number, table) in shard.tables.iter().enumerate() {
            let Some(newest_max) = kept(table) else { continue };
            let walk = self.0.entry(number).or_default();
            if all || (walk.from.is_none() && walk.resume_at_ms <= now.get()) {
                walk.from = Some(0);
                walk.resume_at_ms = now.get().saturating_add(WALK_REST_MS);
            }
            let mut stretches = 0;
            while let Some(from) = walk.from {
                if !all && stretches >= STRETCHES_PER_ROUND_MAX {
                    break;
                }
                stretches += 1;
                let (users, next) = stretch(shard, number, from).await?;
                for (user, rows) in users {
                    if rows > with_slack(newest_max) {
                        // A user that cannot be trimmed now is met again by the next pass.
                        match trim_user(shard, number, user).await {
                            Ok(rows) => removed += rows,
                            Err(error) => failed = failed.or(Some(error)),
                        }
                    }
                }
                walk.from = next;
            }
        }
        failed.map_or(Ok(removed), Err)
    }
}

/// How many rows of a user a table keeps, if this work is to see to it.
fn kept(table: &Table) -> Option<u32> {
    let is_ours = !table.mapping.foreign && !table.has_buckets() && !table.read_only;
    table.settings.newest_max.filter(|_| is_ours)
}

/// How many rows a user may have before it is trimmed to the newest ones: a tenth more, so that one
/// look serves many marks.
fn with_slack(newest_max: u32) -> u64 {
    u64::from(newest_max) + u64::from(newest_max / 10)
}

/// Users from one on with the number of their rows, and the user to go on from.
type Stretch = (Vec<(UserId, u64)>, Option<u64>);

async fn stretch(shard: &Arc<ShardStore>, number: usize, from: u64) -> Result<Stretch, StoreError> {
    let own = Arc::clone(shard);
    let read = shard.pages.run(move |session| {
        let own = Arc::clone(&own);
        Box::pin(async move {
            let Some(table) = own.tables.iter().nth(number) else { return Ok((Vec::new(), None)) };
            session.count_users(table, from).await
        })
    });
    read.await
}

async fn trim_user(
    shard: &Arc<ShardStore>,
    number: usize,
    user: UserId,
) -> Result<u64, StoreError> {
    let mut removed = 0;
    loop {
        let own = Arc::clone(shard);
        let step = shard.pages.run(move |session| {
            let own = Arc::clone(&own);
            Box::pin(async move {
                let Some(table) = own.tables.iter().nth(number) else { return Ok(0) };
                session.trim_some(&own, table, user).await
            })
        });
        let gone = step.await?;
        metrics::counter!(SWEPT_ROWS, "reason" => "surplus").increment(gone);
        removed += gone;
        if gone < FORGET_ROWS_MAX {
            return Ok(removed);
        }
    }
}

fn read_error(error: sqlx::Error) -> Failure {
    Failure::Sql(Stage::Read, error)
}

fn write_error(error: sqlx::Error) -> Failure {
    Failure::Sql(Stage::Write, error)
}

impl Session {
    /// Counts the rows of the users in the next [`STRETCH_ROWS`] rows. The last of them may have more
    /// rows than those: it is left for the next stretch, or counted by itself.
    async fn count_users(&mut self, table: &Table, from: u64) -> Result<Stretch, Failure> {
        let (name, user) = (&table.mapping.table, &table.mapping.user);
        let low = self.facts.dialect.priority(Priority::Low);
        let sql = safe(format!(
            "SELECT {low}CAST(u AS UNSIGNED), CAST(COUNT(*) AS UNSIGNED) FROM (SELECT {user} AS u \
             FROM {name} WHERE {user} >= {from} ORDER BY {user} LIMIT {STRETCH_ROWS}) AS s \
             GROUP BY u ORDER BY u"
        ));
        let rows = self.connection.fetch_all(sqlx::raw_sql(sql)).await.map_err(read_error)?;
        let count = |row: &sqlx::mysql::MySqlRow| Ok((row.try_get(0)?, row.try_get(1)?));
        let counted = rows.iter().map(count).collect::<Result<Vec<(u64, u64)>, sqlx::Error>>();
        let mut counted = counted.map_err(read_error)?;
        let all: u64 = counted.iter().map(|(_, rows)| rows).sum();
        let mut next = None;
        if all >= STRETCH_ROWS {
            if let [(only, rows)] = counted.as_mut_slice() {
                let sql = safe(format!(
                    "SELECT {low}CAST(COUNT(*) AS UNSIGNED) FROM {name} WHERE {user} = {only}"
                ));
                let row =
                    self.connection.fetch_one(sqlx::raw_sql(sql)).await.map_err(read_error)?;
                *rows = row.try_get(0).map_err(read_error)?;
                next = only.checked_add(1);
            } else {
                next = counted.pop().map(|(last, _)| last);
            }
        }
        let users = counted.into_iter().map(|(user, rows)| (UserId::new(user), rows));
        Ok((users.collect(), next))
    }

    /// Removes some of a user's rows beyond the newest ones, in a transaction of their own.
    async fn trim_some(
        &mut self,
        shard: &ShardStore,
        table: &Table,
        user: UserId,
    ) -> Result<u64, Failure> {
        let Some(newest_max) = kept(table) else { return Ok(0) };
        let (Some((time, _)), KindColumn::Column(kind)) =
            (&table.mapping.time, &table.mapping.kind)
        else {
            return Ok(0);
        };
        let (name, by, item) = (&table.mapping.table, &table.mapping.user, &table.mapping.item);
        // Rows that are looked at and stay need not stay locked; TiDB locks none of them anyway.
        if self.facts.dialect != Dialect::TiDb {
            let level = sqlx::raw_sql("SET TRANSACTION ISOLATION LEVEL READ COMMITTED");
            self.connection.execute(level).await.map_err(write_error)?;
        }
        self.begin_write(shard).await?;
        let low = self.facts.dialect.priority(Priority::Low);
        let oldest = safe(format!(
            "SELECT {low}CAST({time} AS UNSIGNED), CAST({kind} AS UNSIGNED), \
             CAST({item} AS UNSIGNED) FROM {name} WHERE {by} = {user} \
             ORDER BY {time} DESC, {kind} DESC, {item} DESC LIMIT 1 OFFSET {}",
            newest_max.saturating_sub(1)
        ));
        let found = self.connection.fetch_optional(sqlx::raw_sql(oldest)).await;
        let mut removed = 0;
        if let Some(row) = found.map_err(write_error)? {
            let number = |n: usize| row.try_get::<u64, _>(n).map_err(write_error);
            let (t, k, i) = (number(0)?, number(1)?, number(2)?);
            let sql = safe(format!(
                "DELETE {low}FROM {name} WHERE {by} = {user} AND ({time} < {t} OR ({time} = {t} \
                 AND ({kind} < {k} OR ({kind} = {k} AND {item} < {i})))) LIMIT {FORGET_ROWS_MAX}"
            ));
            let done = self.connection.execute(sqlx::raw_sql(sql)).await.map_err(write_error)?;
            removed = done.rows_affected();
        }
        self.commit().await?;
        Ok(removed)
    }
}
