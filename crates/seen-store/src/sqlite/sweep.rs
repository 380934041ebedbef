//! The search for rows that have expired or are beyond their user's newest: a walk through each table
//! in key order, a short stretch at a time, at a limited rate. Users that grew much are looked at
//! without waiting for the walk.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use seen_filter::StoreError;
use tokio::sync::{mpsc, watch};

use super::group::{Plan, RowKey};
use super::inner::Inner;
use super::maintain::{Chore, STRETCH_ROWS, Surplus, Troubles, ask_writer};
use super::namespaces::Table;
use super::read::{numbers, settle};
use super::writer::Job;

/// Most rows that one chore trims.
const TRIM_ROWS_MAX: i64 = 2_000;
/// Most users whose growth is counted; others wait for the walk.
const GROWN_USERS_MAX: usize = 16_384;
/// How often it is looked at whether there is something to do.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);
/// How long the walk rests when it has been through a table that only keeps the newest rows.
const WALK_REST_MS: u64 = 3_600_000;

/// Comes before every key.
const FIRST_KEY: RowKey = RowKey { user: i64::MIN, kind: -1, item: 0 };
/// Comes after every key: no kind is above 255.
const END_KEY: RowKey = RowKey { user: i64::MAX, kind: 256, item: 0 };

/// What a full pass removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SweepReport {
    /// Rows that had expired.
    pub rows_expired: u64,
    /// Rows beyond their user's newest.
    pub rows_trimmed: u64,
}

/// Rows appended since a user was last looked at, for namespaces that keep only the newest.
#[derive(Debug, Default)]
pub(crate) struct Grown(Mutex<HashMap<(usize, i64), u32>>);

impl Grown {
    /// Counts a commit's rows.
    pub(crate) fn note(&self, inner: &Inner, plan: &Plan) {
        for (number, (table, todo)) in inner.tables.iter().zip(&plan.tables).enumerate() {
            if table.settings.newest_max.is_none() {
                continue;
            }
            let mut grown = self.0.lock();
            for rows in todo.inserts.chunk_by(|a, b| a.0.user == b.0.user) {
                let user = (number, rows[0].0.user);
                let more = u32::try_from(rows.len()).unwrap_or(u32::MAX);
                if let Some(count) = grown.get_mut(&user) {
                    *count = count.saturating_add(more);
                } else if grown.len() < GROWN_USERS_MAX {
                    grown.insert(user, more);
                }
            }
        }
    }

    /// Takes the users that may have grown past the slack.
    fn take(&self, inner: &Inner) -> Vec<(usize, i64)> {
        let mut due = Vec::new();
        self.0.lock().retain(|&(number, user), count| {
            let newest_max = inner.tables.iter().nth(number).and_then(|t| t.settings.newest_max);
            let is_due = newest_max.is_some_and(|n| *count > n / 20);
            if is_due {
                due.push((number, user));
            }
            !is_due
        });
        due
    }
}

/// A walk through one table.
struct Walk {
    number: usize,
    from: Option<RowKey>,
    /// The user that the last stretch ended in, and its rows so far.
    run: (i64, u64),
    /// What the horizon was when this pass began.
    horizon: i64,
    resume_at_ms: u64,
}

/// Keeps the tables free of what is not promised any more until the store is closed.
pub(crate) async fn sweep(
    inner: Weak<Inner>,
    jobs: mpsc::WeakSender<Job>,
    mut shutdown: watch::Receiver<bool>,
) {
    let mut walks: Vec<Walk> = Vec::new();
    let mut pause = LOOK_INTERVAL;
    let mut troubles = Troubles::new("sweeping");
    loop {
        tokio::select! {
            _ = shutdown.changed() => break,
            () = tokio::time::sleep(pause) => {}
        }
        let Some(inner) = inner.upgrade() else { break };
        if walks.is_empty() {
            walks = (0..inner.tables.len()).map(Walk::new).collect();
        }
        let stepped = step(&inner, &jobs, &mut walks).await;
        let rate = u64::from(inner.options.sweep_rows_per_second_max);
        pause = match stepped {
            Ok(true) => Duration::from_micros(u64::from(STRETCH_ROWS) * 1_000_000 / rate),
            _ => LOOK_INTERVAL,
        };
        troubles.note(stepped.err());
    }
}

/// One stretch of every walk that is under way; false if there is none.
async fn step(
    inner: &Arc<Inner>,
    jobs: &mpsc::WeakSender<Job>,
    walks: &mut [Walk],
) -> Result<bool, StoreError> {
    for (number, user) in inner.grown.take(inner) {
        trim_user(inner, jobs, number, user).await?;
    }
    let mut has_walked = false;
    for walk in walks {
        if walk.is_due(inner) {
            walk.stretch(inner, jobs, &mut SweepReport::default()).await?;
            has_walked = true;
        }
    }
    Ok(has_walked)
}

/// One pass through every table, at once and without a rate.
pub(crate) async fn sweep_now(
    inner: &Arc<Inner>,
    jobs: &mpsc::WeakSender<Job>,
) -> Result<SweepReport, StoreError> {
    let mut report = SweepReport::default();
    for number in 0..inner.tables.len() {
        let mut walk = Walk::new(number);
        walk.begin(inner);
        while walk.from.is_some() {
            walk.stretch(inner, jobs, &mut report).await?;
        }
    }
    Ok(report)
}

impl Walk {
    fn new(number: usize) -> Self {
        Self { number, from: None, run: (0, 0), horizon: 0, resume_at_ms: 0 }
    }

    fn table<'a>(&self, inner: &'a Inner) -> Option<&'a Table> {
        inner.tables.iter().nth(self.number)
    }

    /// True if a pass is under way or there is a reason to begin one: a further bucket has expired,
    /// or the rest after the last pass is over.
    fn is_due(&mut self, inner: &Inner) -> bool {
        let Some(table) = self.table(inner) else { return false };
        if self.from.is_some() {
            return true;
        }
        let now = inner.options.clock.now();
        let has_expired = table.horizon(now).bucket > self.horizon;
        let counts = table.settings.newest_max.is_some();
        if has_expired || (counts && now.get() >= self.resume_at_ms) {
            self.begin(inner);
            return true;
        }
        false
    }

    fn begin(&mut self, inner: &Inner) {
        let now = inner.options.clock.now();
        self.horizon = self.table(inner).map_or(0, |t| t.horizon(now).bucket);
        self.resume_at_ms = now.get().saturating_add(WALK_REST_MS);
        self.from = Some(FIRST_KEY);
        self.run = (0, 0);
    }

    /// Looks at the next few rows and has removed what need not be kept.
    async fn stretch(
        &mut self,
        inner: &Arc<Inner>,
        jobs: &mpsc::WeakSender<Job>,
        report: &mut SweepReport,
    ) -> Result<(), StoreError> {
        let (Some(from), Some(table)) = (self.from, self.table(inner)) else { return Ok(()) };
        let horizon = table.horizon(inner.options.clock.now());
        let mut lease = inner.pages.acquire().await?;
        let read = sqlx::query_as(table.sql.sweep_end.clone())
            .bind(from.user)
            .bind(from.kind)
            .bind(from.item)
            .bind(STRETCH_ROWS)
            .fetch_optional(lease.get()?)
            .await;
        let next = settle(inner, &mut lease, read)?;
        let next = next.map(|(user, kind, item)| RowKey { user, kind, item });
        let until = next.unwrap_or(END_KEY);
        let mut expired = 0_i64;
        if table.settings.retention.is_some() {
            let read = sqlx::query_scalar(table.sql.sweep_find.clone())
                .bind(horizon.bucket)
                .bind(horizon.zero)
                .bind(from.user)
                .bind(from.kind)
                .bind(from.item)
                .bind(until.user)
                .bind(until.kind)
                .bind(until.item)
                .fetch_one(lease.get()?)
                .await;
            expired = settle(inner, &mut lease, read)?;
        }
        let mut counts = String::new();
        if table.settings.newest_max.is_some() {
            let read = sqlx::query_scalar(table.sql.users.clone())
                .bind(from.user)
                .bind(from.kind)
                .bind(from.item)
                .bind(until.user)
                .bind(until.kind)
                .bind(until.item)
                .fetch_one(lease.get()?)
                .await;
            counts = settle::<Option<String>>(inner, &mut lease, read)?.unwrap_or_default();
        }
        drop(lease);
        if expired > 0 {
            let chore = Chore::Sweep { table: self.number, from, until, horizon };
            report.rows_expired += ask_writer(jobs, chore).await?;
        }
        for user in self.users_beyond(table, &counts) {
            report.rows_trimmed += trim_user(inner, jobs, self.number, user).await?;
        }
        self.from = next;
        Ok(())
    }

    /// The users that a stretch, with what came before it, shows to have more rows than are kept.
    fn users_beyond(&mut self, table: &Table, counts: &str) -> Vec<i64> {
        let mut beyond = Vec::new();
        let Some(newest_max) = table.settings.newest_max else { return beyond };
        let mut numbers = numbers(counts).flatten();
        while let (Some(user), Some(count)) = (numbers.next(), numbers.next()) {
            let before = if self.run.0 == user { self.run.1 } else { 0 };
            self.run = (user, before + count.unsigned_abs());
            if self.run.1 > with_slack(newest_max) {
                beyond.push(user);
                self.run.1 = 0;
            }
        }
        beyond
    }
}

/// How many rows a user may have before it is trimmed to the newest ones: a tenth more, so that one
/// look serves many marks.
fn with_slack(newest_max: u32) -> u64 {
    u64::from(newest_max) + u64::from(newest_max / 10)
}

/// Removes a user's rows beyond the newest, if they are more than the slack.
async fn trim_user(
    inner: &Arc<Inner>,
    jobs: &mpsc::WeakSender<Job>,
    number: usize,
    user: i64,
) -> Result<u64, StoreError> {
    let mut trimmed = 0;
    let Some(table) = inner.tables.iter().nth(number) else { return Ok(0) };
    let Some(newest_max) = table.settings.newest_max else { return Ok(0) };
    loop {
        let horizon = table.horizon(inner.options.clock.now());
        let mut lease = inner.pages.acquire().await?;
        let read = sqlx::query_as(table.sql.surplus.clone())
            .bind(horizon.bucket)
            .bind(horizon.zero)
            .bind(user)
            .bind(i64::from(newest_max))
            .bind(TRIM_ROWS_MAX)
            .fetch_optional(lease.get()?)
            .await;
        let found: Option<(i64, i64, i64, Option<String>, i64)> = settle(inner, &mut lease, read)?;
        drop(lease);
        let Some((time, kind, item, Some(keys), count)) = found else { return Ok(trimmed) };
        if trimmed == 0 && count.unsigned_abs() <= with_slack(newest_max) {
            return Ok(0);
        }
        let surplus = Surplus {
            table: number,
            user,
            oldest_kept: (time, kind, item),
            keys: format!("[{keys}]"),
            horizon,
            newest_max,
        };
        let gone = ask_writer(jobs, Chore::Trim(surplus)).await?;
        trimmed += gone;
        if gone == 0 {
            return Ok(trimmed);
        }
    }
}
