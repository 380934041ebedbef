//! The one task that writes. While a commit waits for the disk the next calls queue up, and share the
//! next commit; where many callers write at once, a small group waits a moment for company, since
//! each commit costs as much CPU as some hundred rows. No acknowledgement leaves before the COMMIT that
//! covers it has returned.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use seen_filter::history::{Forgotten, Write};
use seen_filter::{
    CommitStamp, FeedId, FenceSeq, Incarnation, NamespaceId, StoreError, UnixMillis, UserId,
};
use sqlx::{Connection, SqliteConnection};
use tokio::sync::{mpsc, oneshot};

use super::commit::{Failure, Forgot, MarkerKeeper, Transaction};
use super::connection::{Role, closed, connect_options};
use super::errors::Stage;
use super::group::{Group, Plan};
use super::inner::Inner;
use super::maintain::Chore;
use super::options::SqliteOptions;
use super::stats::CommitReport;
use super::tail::Head;
use crate::metrics::{COMMIT_CALLS, COMMIT_ERRORS, COMMIT_ROWS, COMMIT_SECONDS, COMMITS};

/// How long a small group waits for company while many callers write at once.
const COMPANY_WAIT: Duration = Duration::from_millis(2);
/// A group of so many rows is not small.
const COMPANY_ROWS: usize = 256;
/// A commit that so many calls shared says that many write at once.
const COMPANY_CALLS: usize = 3;

/// Where a call waits for its outcome.
pub(crate) type Ack<T> = oneshot::Sender<Result<T, StoreError>>;

/// A call in the queue.
pub(crate) enum Job {
    Write { writes: Vec<Write>, rows: usize, ack: Ack<CommitStamp> },
    Fence { feed: FeedId, writer: Incarnation, seq: FenceSeq, ack: Ack<CommitStamp> },
    Forget { namespace: NamespaceId, user: UserId, ack: Ack<Forgotten> },
    Chore { chore: Chore, ack: Ack<u64> },
}

impl Job {
    /// True if nobody waits for the outcome any more: expired work is dropped, not done.
    fn is_abandoned(&self) -> bool {
        match self {
            Self::Write { ack, .. } | Self::Fence { ack, .. } => ack.is_closed(),
            Self::Forget { ack, .. } => ack.is_closed(),
            Self::Chore { ack, .. } => ack.is_closed(),
        }
    }
}

/// A forget that takes several transactions, between which other calls are served.
struct Forgetting {
    namespace: NamespaceId,
    user: UserId,
    rows: u64,
    ack: Ack<Forgotten>,
}

/// The writing task's state.
pub(crate) struct Writer {
    pub inner: Arc<Inner>,
    /// `None` after its thread was lost, until the next commit opens another.
    pub connection: Option<SqliteConnection>,
    pub keeper: MarkerKeeper,
    jobs: mpsc::Receiver<Job>,
    /// A job that could not share the commit before it.
    carry: Option<Job>,
    forgetting: VecDeque<Forgetting>,
    /// How many calls shared the last commit.
    last_calls: usize,
}

/// Calls that will share a commit.
#[derive(Default)]
struct Gathered {
    jobs: Vec<Job>,
    rows: usize,
}

impl Writer {
    pub(crate) fn new(
        inner: Arc<Inner>,
        connection: SqliteConnection,
        keeper: MarkerKeeper,
        jobs: mpsc::Receiver<Job>,
    ) -> Self {
        Self {
            inner,
            connection: Some(connection),
            keeper,
            jobs,
            carry: None,
            forgetting: VecDeque::new(),
            last_calls: 0,
        }
    }

    /// Serves calls until the queue is closed and empty, then closes the connection.
    pub(crate) async fn run(mut self) {
        while let Some(first) = self.next_job().await {
            match first {
                Job::Chore { chore, ack } => {
                    let done = self.chore(chore).await;
                    let _ = ack.send(done);
                }
                Job::Forget { namespace, user, ack } => {
                    self.forgetting.push_back(Forgetting { namespace, user, rows: 0, ack });
                }
                Job::Write { .. } | Job::Fence { .. } => {
                    let group = self.gather(first).await;
                    // Its only caller may have gone in the last moment.
                    if !group.is_empty() {
                        self.commit_group(group).await;
                    }
                }
            }
            self.forget_some().await;
        }
        self.finish().await;
    }

    /// The next job; `None` when there will be none. Does not wait while a forget is under way.
    async fn next_job(&mut self) -> Option<Job> {
        loop {
            if self.carry.is_none() && self.jobs.is_empty() && !self.forgetting.is_empty() {
                self.forget_some().await;
                continue;
            }
            let job = match self.carry.take() {
                Some(job) => job,
                None => self.jobs.recv().await?,
            };
            if !job.is_abandoned() {
                return Some(job);
            }
        }
    }

    /// Everything that may share a commit with `first`: what is queued, and what comes in a moment.
    async fn gather(&mut self, first: Job) -> Vec<Job> {
        let mut group = Gathered::default();
        self.carry = group.take(first, self.inner.options.commit_rows_max);
        while self.carry.is_none()
            && let Ok(job) = self.jobs.try_recv()
        {
            self.carry = group.take(job, self.inner.options.commit_rows_max);
        }
        let until = tokio::time::Instant::now() + COMPANY_WAIT;
        let is_busy = self.last_calls >= COMPANY_CALLS;
        while is_busy && self.carry.is_none() && group.rows < COMPANY_ROWS {
            let next = tokio::time::timeout_at(until, self.jobs.recv()).await;
            let Ok(Some(job)) = next else { break };
            self.carry = group.take(job, self.inner.options.commit_rows_max);
        }
        self.last_calls = group.jobs.len();
        group.jobs
    }

    async fn commit_group(&mut self, jobs: Vec<Job>) {
        let began = Instant::now();
        let inner = Arc::clone(&self.inner);
        let now = inner.commit_time();
        let mut group = Group::new(&inner.tables, &inner.hash_key, inner.partitions, now);
        let mut acks = Vec::with_capacity(jobs.len());
        for job in jobs {
            match job {
                Job::Write { writes, ack, .. } => {
                    group.write(&writes);
                    acks.push(ack);
                }
                Job::Fence { feed, writer, seq, ack } => match group.fence(feed, writer, seq) {
                    Ok(()) => acks.push(ack),
                    Err(error) => drop(ack.send(Err(error))),
                },
                Job::Forget { .. } | Job::Chore { .. } => {}
            }
        }
        let mut plan = group.plan();
        let tried = self.try_group(&plan, now).await;
        let outcome = self.settle(tried).await;
        if let Ok(head) = &outcome {
            inner.tail.publish(*head, std::mem::take(&mut plan.slots));
            let report = CommitReport {
                calls: acks.len() as u64,
                appended: plan.appended,
                removed: plan.removed,
                took_us: u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX),
            };
            record(&inner, &report);
            inner.grown.note(&inner, &plan);
        }
        for ack in acks {
            let _ = ack.send(outcome.clone().map(|head| inner.stamp(head)));
        }
    }

    /// One transaction of the oldest forget under way.
    async fn forget_some(&mut self) {
        let Some(mut forgetting) = self.forgetting.pop_front() else { return };
        let began = Instant::now();
        let inner = Arc::clone(&self.inner);
        let now = inner.commit_time();
        let (namespace, user) = (forgetting.namespace, forgetting.user);
        let tried = self.try_forget(namespace, user, now).await;
        let (head, step) = match self.settle(tried).await {
            Ok(done) => done,
            Err(error) => {
                let _ = forgetting.ack.send(Err(error));
                return;
            }
        };
        inner.tail.publish(head, step.slots);
        forgetting.rows += step.rows;
        let report = CommitReport {
            calls: step.epoch.is_some().into(),
            appended: 0,
            removed: step.rows,
            took_us: u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX),
        };
        record(&inner, &report);
        match step.epoch {
            None => self.forgetting.push_back(forgetting),
            Some(epoch) => {
                let stamp = Some(inner.stamp(head));
                let done = Forgotten { epoch, stamp, rows: forgetting.rows };
                let _ = forgetting.ack.send(Ok(done));
            }
        }
    }

    async fn try_group(&mut self, plan: &Plan, now: UnixMillis) -> Result<Head, Failure> {
        let inner = Arc::clone(&self.inner);
        let log_bytes = plan.slots.iter().map(|(_, events)| events.len()).sum();
        let mut transaction = self.begin(log_bytes).await?;
        transaction.apply(&inner.tables, plan, now).await?;
        transaction.log(&plan.slots, now).await?;
        transaction.commit().await
    }

    async fn try_forget(
        &mut self,
        namespace: NamespaceId,
        user: UserId,
        now: UnixMillis,
    ) -> Result<(Head, Forgot), Failure> {
        let inner = Arc::clone(&self.inner);
        let mut transaction = self.begin(0).await?;
        let forgot = transaction.forget(&inner, namespace, user).await?;
        transaction.log(&forgot.slots, now).await?;
        Ok((transaction.commit().await?, forgot))
    }

    /// Begins a transaction that numbers a commit.
    async fn begin(&mut self, log_bytes: usize) -> Result<Transaction<'_>, Failure> {
        let connection = Self::connected(&mut self.connection, &self.inner.options).await?;
        Transaction::begin(connection, &mut self.keeper, log_bytes).await
    }

    /// The connection, opened anew if its thread was lost.
    pub(crate) async fn connected<'a>(
        connection: &'a mut Option<SqliteConnection>,
        options: &SqliteOptions,
    ) -> Result<&'a mut SqliteConnection, Failure> {
        if connection.is_none() {
            let connect = connect_options(options, Role::Write);
            let opened = SqliteConnection::connect_with(&connect).await;
            *connection = Some(opened.map_err(|e| Failure::Sql(Stage::Open, e))?);
        }
        connection.as_mut().ok_or_else(|| Failure::Store(closed()))
    }

    /// The outcome of a transaction; after a failure it is rolled back.
    pub(crate) async fn settle<T>(&mut self, tried: Result<T, Failure>) -> Result<T, StoreError> {
        let failure = match tried {
            Ok(done) => return Ok(done),
            Err(failure) => failure,
        };
        self.recover().await;
        let error = failure.into_store_error(&self.inner.options.path);
        metrics::counter!(COMMIT_ERRORS, "kind" => error.kind.label()).increment(1);
        Err(error)
    }

    /// Leaves no transaction open. SQLite has already rolled back after some errors; after an error
    /// that says neither, only a new connection is certain to be clean.
    async fn recover(&mut self) {
        let Some(connection) = self.connection.as_mut() else { return };
        let rolled_back = sqlx::query("ROLLBACK").execute(connection).await;
        let is_clean = match &rolled_back {
            Ok(_) => true,
            Err(error) => error
                .as_database_error()
                .is_some_and(|e| e.message().contains("no transaction is active")),
        };
        if !is_clean {
            self.connection = None;
        }
    }

    async fn finish(mut self) {
        while let Some(forgetting) = self.forgetting.pop_front() {
            let _ = forgetting.ack.send(Err(closed()));
        }
        let Some(mut connection) = self.connection.take() else { return };
        if let Err(error) = self.keeper.last_words(&mut connection).await {
            tracing::warn!(%error, "writing the timeline's side file at the end failed");
        }
        if let Err(error) = connection.close().await {
            tracing::warn!(%error, "closing the store's file failed");
        }
    }
}

impl Gathered {
    /// Takes a job in, or hands it back if it cannot share this commit.
    fn take(&mut self, job: Job, rows_max: usize) -> Option<Job> {
        let more = match &job {
            Job::Write { rows, .. } => *rows,
            Job::Fence { .. } => 0,
            Job::Forget { .. } | Job::Chore { .. } => return Some(job),
        };
        if job.is_abandoned() {
            return None;
        }
        if !self.jobs.is_empty() && self.rows + more > rows_max {
            return Some(job);
        }
        self.rows += more;
        self.jobs.push(job);
        None
    }
}

fn record(inner: &Inner, report: &CommitReport) {
    inner.counters.committed(report);
    metrics::counter!(COMMITS).increment(1);
    metrics::histogram!(COMMIT_CALLS).record(report.calls as f64);
    metrics::histogram!(COMMIT_ROWS).record((report.appended + report.removed) as f64);
    metrics::histogram!(COMMIT_SECONDS).record(report.took_us as f64 / 1e6);
}
