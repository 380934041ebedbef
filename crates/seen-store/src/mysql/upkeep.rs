//! What happens by itself on database servers: expired partitions go and later ones are made ahead of
//! time, users' rows beyond the newest go, and so do the fences of processes that are long gone. One
//! store at a time does it for a shard; a step that fails is tried again at the next round.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use seen_filter::{Retention, StoreError, StoreErrorKind, UnixMillis};
use sqlx::{Executor as _, Row as _};
use tokio::sync::watch;

use super::errors::{Failure, Stage};
use super::lease::Lease;
use super::partitions::{self, Change};
use super::pool::Session;
use super::schema::storage_now;
use super::shard::ShardStore;
use super::sql::safe;
use super::tables::Table;
use super::trim::Walks;

/// Longest time between two rounds.
const ROUND_MAX: Duration = Duration::from_secs(60);
/// Shortest time between two rounds.
const ROUND_MIN: Duration = Duration::from_secs(1);
/// Most changes of one table's partitions in a round.
const CHANGES_MAX: usize = 64;
/// Fences that one statement removes at most.
const FENCES_PER_STEP_MAX: u64 = 1_000;
/// Steps of one round at most.
const FENCE_STEPS_MAX: u64 = 100;
/// Old fences are looked for so many times in the time that they are kept.
const FENCE_LOOKS: u64 = 24;
/// Entries that the log keeps.
const LOG_ENTRIES_MAX: u64 = 1_000;
/// Characters of an entry.
const LOG_TEXT_MAX: usize = 255;

/// What one round of upkeep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UpkeepReport {
    /// Shards whose upkeep this store does; of the others another store does it.
    pub shards_led: usize,
    /// Partitions that were made.
    pub partitions_added: usize,
    /// Partitions that were dropped.
    pub partitions_dropped: usize,
    /// Old fences that were removed.
    pub fences_removed: u64,
    /// Rows beyond their user's newest that were removed.
    pub rows_trimmed: u64,
}

impl UpkeepReport {
    /// Adds what was done elsewhere.
    pub(crate) fn add(&mut self, other: Self) {
        self.shards_led += other.shards_led;
        self.partitions_added += other.partitions_added;
        self.partitions_dropped += other.partitions_dropped;
        self.fences_removed += other.fences_removed;
        self.rows_trimmed += other.rows_trimmed;
    }
}

/// The background work of one shard, as far as this store does it.
pub(crate) struct Upkeep {
    shard: Arc<ShardStore>,
    lease: Lease,
    /// One round at a time.
    round: tokio::sync::Mutex<Round>,
}

/// What is remembered from round to round.
#[derive(Default)]
struct Round {
    /// When old fences are looked for next, by the storage's clock.
    fences_due_ms: u64,
    walks: Walks,
    leads: bool,
    troubles: Troubles,
}

impl Upkeep {
    /// `holder`: this life of the store.
    pub(crate) fn new(shard: Arc<ShardStore>, holder: u64) -> Arc<Self> {
        let lease = Lease::new(Arc::clone(&shard), holder);
        Arc::new(Self { shard, lease, round: tokio::sync::Mutex::default() })
    }

    /// Works at intervals until stopped.
    pub(crate) async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let pause = self.pause();
        loop {
            tokio::select! {
                // Errors were logged where they came up.
                _ = self.now(false) => {}
                _ = stop.wait_for(|stop| *stop) => break,
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = stop.wait_for(|stop| *stop) => break,
            }
        }
        self.give_up().await;
    }

    /// Lets another store do the work from now on.
    pub(crate) async fn give_up(&self) {
        self.lease.give_up().await;
    }

    /// The time between two rounds: a part of the shortest bucket, and of the lease, which a round
    /// renews.
    fn pause(&self) -> Duration {
        let options = &self.shard.options;
        let retentions = self.shard.tables.iter().filter_map(|table| table.settings.retention);
        let bucket_ms = retentions.map(|retention| retention.bucket_ms).min().unwrap_or(u64::MAX);
        let pause_ms = (bucket_ms / 4).min(options.upkeep_lease_ms / 3);
        Duration::from_millis(pause_ms).clamp(ROUND_MIN, ROUND_MAX)
    }

    /// One round now, if this store holds the lease or can have it. Every step is tried; the first
    /// error is returned. `all`: also what is not due yet.
    pub(crate) async fn now(&self, all: bool) -> Result<UpkeepReport, StoreError> {
        let mut round = self.round.lock().await;
        let shard = self.shard.shard;
        let held = self.lease.hold().await;
        round.troubles.note(shard, "holding the lease", held.as_ref().err());
        let leads = held?;
        if leads != round.leads {
            round.leads = leads;
            if leads {
                tracing::info!(%shard, "this store does the shard's background work");
            } else {
                tracing::info!(%shard, "another store does the shard's background work");
            }
        }
        if !leads {
            return Ok(UpkeepReport::default());
        }
        tokio::select! {
            done = self.work(&mut round, all) => done,
            () = self.lease.lost() => {
                let message = "the lease of the background work was lost; another store goes on";
                tracing::warn!(%shard, message);
                Err(StoreError::new(StoreErrorKind::Unavailable, message))
            }
        }
    }

    async fn work(&self, round: &mut Round, all: bool) -> Result<UpkeepReport, StoreError> {
        let mut report = UpkeepReport { shards_led: 1, ..UpkeepReport::default() };
        let mut failed = None;
        for number in 0..self.shard.tables.len() {
            let Some(table) = self.shard.tables.iter().nth(number) else { continue };
            let Some(retention) = table.settings.retention else { continue };
            let done = self.partitions(number, table, retention, &mut report).await;
            let work = format!("changing the partitions of {}", table.mapping.table);
            round.troubles.note(self.shard.shard, &work, done.as_ref().err());
            failed = failed.or(done.err());
        }
        let done = self.fences(round, all, &mut report).await;
        round.troubles.note(self.shard.shard, "removing old fences", done.as_ref().err());
        failed = failed.or(done.err());
        let done = self.trim(round, all, &mut report).await;
        round.troubles.note(self.shard.shard, "removing surplus rows", done.as_ref().err());
        match failed.or(done.err()) {
            None => Ok(report),
            Some(error) => Err(error),
        }
    }

    /// Makes and drops partitions until they are right.
    async fn partitions(
        &self,
        number: usize,
        table: &Table,
        retention: Retention,
        report: &mut UpkeepReport,
    ) -> Result<(), StoreError> {
        for _ in 0..CHANGES_MAX {
            let shard = Arc::clone(&self.shard);
            let read = self.shard.pages.run(move |session| {
                let shard = Arc::clone(&shard);
                Box::pin(async move {
                    let now = storage_now(&mut session.connection, shard.clock.as_ref()).await?;
                    let Some(table) = shard.tables.iter().nth(number) else {
                        return Ok((now, Vec::new()));
                    };
                    Ok((now, session.partitions(&table.mapping).await?))
                })
            });
            let (now, present) = read.await?;
            let Some(change) = partitions::next_change(&present, retention, now)? else {
                return Ok(());
            };
            let began = Instant::now();
            partitions::make(&self.shard, &table.mapping, &change).await?;
            report.partitions_added += change.added();
            report.partitions_dropped += change.dropped();
            self.log(now, table, &change, began.elapsed()).await?;
        }
        Ok(())
    }

    /// Tells of a change, here and in the database.
    async fn log(
        &self,
        now: UnixMillis,
        table: &Table,
        change: &Change,
        took: Duration,
    ) -> Result<(), StoreError> {
        let (table, took_ms) = (table.mapping.table.as_str(), took.as_millis());
        let what = change.what();
        tracing::info!(shard = %self.shard.shard, table, what, took_ms, "partitions changed");
        let text: String =
            format!("{table}: {what}, {took_ms} ms").chars().take(LOG_TEXT_MAX).collect();
        let shard = Arc::clone(&self.shard);
        let logged = self.shard.pages.run(move |session| {
            let (shard, text) = (Arc::clone(&shard), text.clone());
            Box::pin(async move { session.log_upkeep(&shard, now, &text).await })
        });
        logged.await
    }

    /// Removes rows beyond users' newest.
    async fn trim(
        &self,
        round: &mut Round,
        all: bool,
        report: &mut UpkeepReport,
    ) -> Result<(), StoreError> {
        let shard = Arc::clone(&self.shard);
        let now = self.shard.pages.run(move |session| {
            let shard = Arc::clone(&shard);
            Box::pin(
                async move { storage_now(&mut session.connection, shard.clock.as_ref()).await },
            )
        });
        report.rows_trimmed += round.walks.go_on(&self.shard, now.await?, all).await?;
        Ok(())
    }

    /// Removes the fences of processes that have written none for long.
    async fn fences(
        &self,
        round: &mut Round,
        all: bool,
        report: &mut UpkeepReport,
    ) -> Result<(), StoreError> {
        let keep_ms = self.shard.options.fence_keep_ms;
        let due_ms = if all { 0 } else { round.fences_due_ms };
        for _ in 0..FENCE_STEPS_MAX {
            let shard = Arc::clone(&self.shard);
            let removed = self.shard.pages.run(move |session| {
                let shard = Arc::clone(&shard);
                Box::pin(async move {
                    let now = storage_now(&mut session.connection, shard.clock.as_ref()).await?;
                    if now.get() < due_ms {
                        return Ok((now, None));
                    }
                    let before_ms = now.get().saturating_sub(keep_ms);
                    Ok((now, Some(session.remove_fences(&shard, before_ms).await?)))
                })
            });
            let (now, removed) = removed.await?;
            let Some((found, removed)) = removed else { return Ok(()) };
            report.fences_removed += removed;
            if found < FENCES_PER_STEP_MAX {
                round.fences_due_ms = now.get().saturating_add(keep_ms / FENCE_LOOKS);
                return Ok(());
            }
        }
        Ok(())
    }
}

fn write_error(error: sqlx::Error) -> Failure {
    Failure::Sql(Stage::Write, error)
}

impl Session {
    /// Removes some of the fences that were written before a time. Returns how many there were, and
    /// how many are gone: one that was written anew meanwhile stays.
    ///
    /// They are found without a lock, as the table also holds every forget there ever was.
    async fn remove_fences(
        &mut self,
        shard: &ShardStore,
        before_ms: u64,
    ) -> Result<(u64, u64), Failure> {
        let rows = sqlx::query(
            "SELECT user_id, namespace, writer FROM seen_control \
             WHERE writer <> 0 AND at_ms < ? LIMIT ?",
        )
        .bind(before_ms)
        .bind(FENCES_PER_STEP_MAX)
        .fetch_all(&mut self.connection)
        .await
        .map_err(|error| Failure::Sql(Stage::Read, error))?;
        let key = |row: &sqlx::mysql::MySqlRow| {
            let (user, namespace): (u64, u16) = (row.try_get(0)?, row.try_get(1)?);
            let writer: u64 = row.try_get(2)?;
            Ok(format!("({user},{namespace},{writer})"))
        };
        let keys = rows.iter().map(key).collect::<Result<Vec<_>, sqlx::Error>>();
        let keys = keys.map_err(write_error)?;
        if keys.is_empty() {
            return Ok((0, 0));
        }
        self.begin_write(shard).await?;
        let sql = safe(format!(
            "DELETE FROM seen_control WHERE (user_id, namespace, writer) IN ({}) \
             AND writer <> 0 AND at_ms < {before_ms}",
            keys.join(",")
        ));
        let done = self.connection.execute(sqlx::raw_sql(sql)).await.map_err(write_error)?;
        self.commit().await?;
        Ok((keys.len() as u64, done.rows_affected()))
    }

    /// Writes an entry, and removes those that are too many. The numbers are counted here: they have
    /// no holes, so that exactly the newest entries stay.
    async fn log_upkeep(
        &mut self,
        shard: &ShardStore,
        at: UnixMillis,
        what: &str,
    ) -> Result<(), Failure> {
        self.begin_write(shard).await?;
        let newest: Option<u64> = sqlx::query_scalar(
            "SELECT id FROM seen_upkeep_log ORDER BY id DESC LIMIT 1 FOR UPDATE",
        )
        .fetch_optional(&mut self.connection)
        .await
        .map_err(write_error)?;
        let id = newest.unwrap_or(0).saturating_add(1);
        sqlx::query("INSERT INTO seen_upkeep_log (id, at_ms, what) VALUES (?, ?, ?)")
            .bind(id)
            .bind(at.get())
            .bind(what)
            .execute(&mut self.connection)
            .await
            .map_err(write_error)?;
        sqlx::query("DELETE FROM seen_upkeep_log WHERE id <= ?")
            .bind(id.saturating_sub(LOG_ENTRIES_MAX))
            .execute(&mut self.connection)
            .await
            .map_err(write_error)?;
        self.commit().await?;
        Ok(())
    }
}

/// Logs when a piece of work begins to fail and when it works again, not every try in between.
#[derive(Default)]
struct Troubles(BTreeSet<String>);

impl Troubles {
    fn note(&mut self, shard: seen_filter::Shard, work: &str, error: Option<&StoreError>) {
        match error {
            Some(error) if self.0.insert(work.to_owned()) => {
                tracing::warn!(%shard, work, %error, "background work fails; it is tried again");
            }
            None if self.0.remove(work) => tracing::info!(%shard, work, "background work goes on"),
            _ => {}
        }
    }
}
