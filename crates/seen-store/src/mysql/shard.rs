//! One logical shard: its primary, its three classes of connections, and the tasks that write.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use seen_filter::history::{Forgotten, Write};
use seen_filter::{
    CommitStamp, Domain, NamespaceId, Shard, StoreError, StoreErrorKind, Timeline, UnixMillis,
    UserEpoch, UserId,
};
use tokio::sync::{Mutex, mpsc, oneshot};

use super::connection::Role;
use super::dialect::Dialect;
use super::errors::Failure;
use super::options::MySqlOptions;
use super::plan::{FenceRow, Group, Plan};
use super::pool::{CommitNumber, Pool, closed};
use super::primary::PrimaryWatch;
use super::retry::RetryBudget;
use super::sql::FORGET_ROWS_MAX;
use super::tables::Tables;
use crate::binlog::{made_by, mariadb_timeline};
use crate::metrics::{COMMIT_CALLS, COMMIT_ERRORS, COMMIT_ROWS, COMMIT_SECONDS, COMMITS};
use crate::request::StorageClock;

/// How long a small group waits for company while many callers write at once.
const COMPANY_WAIT: Duration = Duration::from_millis(2);
/// A group of so many rows is not small.
const COMPANY_ROWS: usize = 256;
/// A commit that so many calls shared says that many write at once.
const COMPANY_CALLS: usize = 3;

/// Where a call waits for its outcome.
type Ack = oneshot::Sender<Result<Option<CommitStamp>, StoreError>>;

/// A call in the queue.
pub(crate) enum Job {
    Write { writes: Vec<Write>, rows: usize, ack: Ack },
    Fence { fence: FenceRow, ack: Ack },
}

impl Job {
    fn ack(&self) -> &Ack {
        match self {
            Self::Write { ack, .. } | Self::Fence { ack, .. } => ack,
        }
    }

    fn rows(&self) -> usize {
        match self {
            Self::Write { rows, .. } => *rows,
            Self::Fence { .. } => 1,
        }
    }
}

/// What the writing tasks of a shard share: the queue, and a job that did not fit.
struct Queue {
    jobs: mpsc::Receiver<Job>,
    carry: Option<Job>,
    last_calls: usize,
}

/// One logical shard.
pub(crate) struct ShardStore {
    pub shard: Shard,
    pub options: Arc<MySqlOptions>,
    pub primary: Arc<PrimaryWatch>,
    pub checks: Arc<Pool>,
    pub pages: Arc<Pool>,
    pub writes: Arc<Pool>,
    pub tables: Arc<Tables>,
    pub clock: Option<StorageClock>,
    dialect: Dialect,
    timeline: Timeline,
    latest_ms: AtomicU64,
    numbering: parking_lot::Mutex<Numbering>,
    /// The numbers of the namespaces in this database, by their configured number.
    database_ids: Vec<u16>,
}

/// What is known of the numbers that commits get, and whether they still count one history.
#[derive(Debug, Default)]
struct Numbering {
    highest: u64,
    is_over: bool,
}

/// What a shard is made of.
pub(crate) struct ShardParts {
    pub options: Arc<MySqlOptions>,
    pub primary: Arc<PrimaryWatch>,
    pub budget: Arc<RetryBudget>,
    pub tables: Arc<Tables>,
    pub dialect: Dialect,
    pub timeline: Timeline,
    pub database_ids: Vec<u16>,
}

impl ShardStore {
    pub(crate) fn new(parts: ShardParts) -> Arc<Self> {
        let ShardParts { options, primary, budget, tables, dialect, timeline, database_ids } =
            parts;
        let pool = |role| {
            let (options, primary) = (Arc::clone(&options), Arc::clone(&primary));
            Pool::new(role, options, primary, Arc::clone(&budget))
        };
        Arc::new(Self {
            shard: primary.shard,
            checks: pool(Role::Check),
            pages: pool(Role::Page),
            writes: pool(Role::Write),
            clock: options.clock.clone(),
            options,
            primary,
            tables,
            dialect,
            timeline,
            latest_ms: AtomicU64::new(0),
            numbering: parking_lot::Mutex::default(),
            database_ids,
        })
    }

    /// The number of a configured namespace in this database.
    pub(crate) fn database_id(&self, namespace: NamespaceId) -> u16 {
        self.database_ids.get(usize::from(namespace.get())).copied().unwrap_or(u16::MAX)
    }

    /// The storage's time: the configured clock's, or what the server said.
    pub(crate) fn now_or(&self, server_now: UnixMillis) -> UnixMillis {
        self.clock.as_ref().map_or(server_now, StorageClock::now)
    }

    /// The time of a commit: the storage's, but never before that of an earlier commit of this process.
    /// A clock that is put back gives no row an older bucket than it was promised.
    pub(crate) fn commit_time(&self, server_now: UnixMillis) -> UnixMillis {
        let now = self.now_or(server_now).get();
        let before = self.latest_ms.fetch_max(now, Ordering::Relaxed);
        UnixMillis::new(before.max(now))
    }

    /// The highest number that a commit of this process was given.
    fn numbered(&self) -> u64 {
        self.numbering.lock().highest
    }

    /// A commit's stamp, on the timeline that the binary log's reader gives it. `before` is what
    /// [`numbered`](Self::numbered) said before the transaction began.
    ///
    /// A promoted replica that lacks its old primary's last commits gives their numbers again: its
    /// stamps are on a timeline of their own. A restored backup gives its own numbers again, and whoever
    /// has followed those would take the new ones for covered (coherence row 53). So no stamp is given
    /// after numbers went back; fences do the rest.
    fn stamp(&self, commit: Option<CommitNumber>, before: u64) -> Option<CommitStamp> {
        let CommitNumber { domain, server, number } = commit?;
        let mut numbering = self.numbering.lock();
        if !numbering.is_over && number <= before {
            numbering.is_over = true;
            tracing::warn!(
                shard = %self.shard, server, number, before,
                "commits are numbered anew, after a lost primary or a restored backup"
            );
        }
        numbering.highest = numbering.highest.max(number);
        if numbering.is_over {
            return None;
        }
        drop(numbering);
        let timeline = match self.dialect {
            Dialect::MariaDb => made_by(mariadb_timeline(self.timeline.get(), domain, 0), server),
            _ => self.timeline,
        };
        Some(CommitStamp::new(Domain::new(self.shard.get().into()), timeline, number))
    }

    /// Starts the tasks that write. They end when the queue is closed and empty.
    pub(crate) fn start_writers(self: &Arc<Self>) -> (mpsc::Sender<Job>, Vec<WriterTask>) {
        let (jobs, queue) = mpsc::channel(self.options.pending_writes_max);
        let queue = Queue { jobs: queue, carry: None, last_calls: 0 };
        let queue = Arc::new(Mutex::new(queue));
        let writers = 0..self.options.write_connections_max;
        let tasks = writers.map(|_| {
            let (shard, queue) = (Arc::clone(self), Arc::clone(&queue));
            tokio::spawn(async move {
                loop {
                    let group = {
                        let mut queue = queue.lock().await;
                        queue.gather(shard.options.commit_rows_max).await
                    };
                    match group {
                        None => return,
                        Some(jobs) if jobs.is_empty() => {}
                        Some(jobs) => shard.commit_group(jobs).await,
                    }
                }
            })
        });
        (jobs, tasks.collect())
    }

    async fn commit_group(self: &Arc<Self>, jobs: Vec<Job>) {
        let began = std::time::Instant::now();
        let mut group = Group::new(self.tables.len());
        let mut acks = Vec::with_capacity(jobs.len());
        let mut rows = 0;
        for job in jobs {
            rows += job.rows();
            match job {
                Job::Write { writes, ack, .. } => {
                    group.write(&writes);
                    acks.push(ack);
                }
                Job::Fence { fence, ack } => {
                    group.fence(fence);
                    acks.push(ack);
                }
            }
        }
        let plan: Arc<Plan> = Arc::new(group.plan(&self.tables));
        let shard = Arc::clone(self);
        let before = self.numbered();
        let written = self.writes.run(move |session| {
            let (shard, plan) = (Arc::clone(&shard), Arc::clone(&plan));
            Box::pin(async move { session.write(&shard, &plan).await })
        });
        let outcome = written.await.map(|number| self.stamp(number, before));
        match &outcome {
            Ok(_) => {
                metrics::counter!(COMMITS).increment(1);
                metrics::histogram!(COMMIT_CALLS).record(acks.len() as f64);
                metrics::histogram!(COMMIT_ROWS).record(rows as f64);
                metrics::histogram!(COMMIT_SECONDS).record(began.elapsed().as_secs_f64());
            }
            Err(error) => {
                metrics::counter!(COMMIT_ERRORS, "kind" => error.kind.label()).increment(1);
            }
        }
        for ack in acks {
            let _ = ack.send(outcome.clone());
        }
    }

    /// Forgets a user: a new epoch first, then the rows; then what stalled commits of others brought
    /// back meanwhile, once the servers' own limit has ended these (coherence row 49).
    pub(crate) async fn forget(
        self: &Arc<Self>,
        namespace: NamespaceId,
        user: UserId,
    ) -> Result<Forgotten, StoreError> {
        let id = self.database_id(namespace);
        let shard = Arc::clone(self);
        let before = self.numbered();
        let raised = self.writes.run(move |session| {
            let shard = Arc::clone(&shard);
            Box::pin(async move { session.raise_epoch(&shard, id, user).await })
        });
        let (epoch, mut last) = raised.await?;
        // The epoch is raised: whatever fails from here on was done in part.
        let in_part = |error: StoreError| {
            let message = format!("forgotten in part, do it again: {}", error.message);
            StoreError::new(StoreErrorKind::OutcomeUnknown, message)
        };
        let mut rows = self.remove_all(namespace, user, &mut last).await.map_err(in_part)?;
        // As long as a write that is under way may last.
        tokio::time::sleep(Duration::from_millis(Role::Write.patience_ms(&self.options))).await;
        rows += self.remove_all(namespace, user, &mut last).await.map_err(in_part)?;
        let epoch = UserEpoch::new(u32::try_from(epoch).unwrap_or(u32::MAX));
        Ok(Forgotten { epoch, stamp: self.stamp(last, before), rows })
    }

    async fn remove_all(
        self: &Arc<Self>,
        namespace: NamespaceId,
        user: UserId,
        last: &mut Option<CommitNumber>,
    ) -> Result<u64, StoreError> {
        let mut rows = 0;
        loop {
            let shard = Arc::clone(self);
            let removed = self.writes.run(move |session| {
                let shard = Arc::clone(&shard);
                Box::pin(async move {
                    let table = shard.tables.get(namespace).map_err(Failure::Store)?;
                    session.remove_some(&shard, table, user).await
                })
            });
            let (removed, number) = removed.await?;
            rows += removed;
            *last = number.or(*last);
            if removed < FORGET_ROWS_MAX {
                return Ok(rows);
            }
        }
    }

    /// Ends every connection that no work holds, and refuses further work.
    pub(crate) async fn close(&self) {
        for pool in [&self.checks, &self.pages, &self.writes] {
            pool.close().await;
        }
    }
}

/// A task that writes.
pub(crate) type WriterTask = tokio::task::JoinHandle<()>;

/// Queues a job and waits for its outcome.
pub(crate) async fn submit(
    jobs: &mpsc::Sender<Job>,
    pending_writes_max: usize,
    job: impl FnOnce(Ack) -> Job,
) -> Result<Option<CommitStamp>, StoreError> {
    let (ack, outcome) = oneshot::channel();
    jobs.try_send(job(ack)).map_err(|refused| match refused {
        mpsc::error::TrySendError::Closed(_) => closed(),
        mpsc::error::TrySendError::Full(_) => StoreError::new(
            StoreErrorKind::Overloaded,
            format!(
                "pending_writes_max = {pending_writes_max} calls wait for a commit already; try \
                 again later"
            ),
        ),
    })?;
    outcome.await.map_err(|_| {
        let message = "the store's runtime was stopped; the call may or may not be committed";
        StoreError::new(StoreErrorKind::OutcomeUnknown, message)
    })?
}

impl Queue {
    /// Jobs that will share a commit: what is queued, and what comes in a moment. `None` when there
    /// will be none. Jobs that nobody waits for any more are dropped, not done.
    async fn gather(&mut self, rows_max: usize) -> Option<Vec<Job>> {
        let first = match self.carry.take() {
            Some(job) => job,
            None => self.jobs.recv().await?,
        };
        let mut group = Vec::new();
        let mut rows = 0;
        self.take(first, &mut group, &mut rows, rows_max);
        while self.carry.is_none()
            && let Ok(job) = self.jobs.try_recv()
        {
            self.take(job, &mut group, &mut rows, rows_max);
        }
        let until = tokio::time::Instant::now() + COMPANY_WAIT;
        while self.last_calls >= COMPANY_CALLS && self.carry.is_none() && rows < COMPANY_ROWS {
            let Ok(Some(job)) = tokio::time::timeout_at(until, self.jobs.recv()).await else {
                break;
            };
            self.take(job, &mut group, &mut rows, rows_max);
        }
        self.last_calls = group.len();
        Some(group)
    }

    fn take(&mut self, job: Job, group: &mut Vec<Job>, rows: &mut usize, rows_max: usize) {
        if job.ack().is_closed() {
            return;
        }
        if !group.is_empty() && *rows + job.rows() > rows_max {
            self.carry = Some(job);
            return;
        }
        *rows += job.rows();
        group.push(job);
    }
}
