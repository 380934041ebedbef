//! One logical shard: its primary, its three classes of connections, and the tasks that write.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use seen_filter::history::{Forgotten, Write};
use seen_filter::{
    CommitStamp, Domain, NamespaceId, Shard, StoreError, StoreErrorKind, UnixMillis, UserEpoch,
    UserId,
};
use tokio::sync::{Mutex, mpsc, oneshot};

use super::connection::Role;
use super::errors::Failure;
use super::home::Home;
use super::late::LateChecks;
use super::numbering::{CommitNumber, Newest, NumberedBy, Numbering};
use super::options::MySqlOptions;
use super::plan::{FenceRow, Group, Plan};
use super::pool::{Pool, closed};
use super::retry::RetryBudget;
use super::sql::FORGET_ROWS_MAX;
use super::tables::Tables;
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
    pub primary: Arc<Home>,
    pub checks: Arc<Pool>,
    pub late: LateChecks,
    pub pages: Arc<Pool>,
    pub writes: Arc<Pool>,
    pub tables: Arc<Tables>,
    pub clock: Option<StorageClock>,
    latest_ms: AtomicU64,
    numbering: parking_lot::Mutex<Numbering>,
}

/// What a shard is made of.
pub(crate) struct ShardParts {
    pub options: Arc<MySqlOptions>,
    pub primary: Arc<Home>,
    pub budget: Arc<RetryBudget>,
    pub tables: Arc<Tables>,
}

impl ShardStore {
    pub(crate) fn new(parts: ShardParts) -> Arc<Self> {
        let ShardParts { options, primary, budget, tables } = parts;
        let pool = |role| {
            let (options, primary) = (Arc::clone(&options), Arc::clone(&primary));
            Pool::new(role, options, primary, Arc::clone(&budget))
        };
        Arc::new(Self {
            shard: primary.shard,
            checks: pool(Role::Check),
            late: LateChecks::new(pool(Role::LateCheck)),
            pages: pool(Role::Page),
            writes: pool(Role::Write),
            clock: options.clock.clone(),
            options,
            primary,
            tables,
            latest_ms: AtomicU64::new(0),
            numbering: parking_lot::Mutex::default(),
        })
    }

    /// The number of a configured namespace in this database; no number while that is not known.
    pub(crate) fn database_id(&self, namespace: NamespaceId) -> u16 {
        let known = self.primary.known();
        let id = known.and_then(|k| k.database_ids.get(usize::from(namespace.get())).copied());
        id.unwrap_or(u16::MAX)
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

    /// The newest number that a commit of this process was given.
    pub(crate) fn numbered(&self) -> Newest {
        self.numbering.lock().newest()
    }

    /// A commit's stamp, on the timeline that the binary log's reader gives it. `began` is what
    /// [`numbered`](Self::numbered) said before the transaction began.
    fn stamp(&self, commit: Option<CommitNumber>, began: Newest) -> Option<CommitStamp> {
        let (commit, of_store) = (commit?, self.primary.known()?.timeline);
        let (timeline, is_over) = self.numbering.lock().take(commit, began, of_store);
        if is_over {
            let CommitNumber { by, number } = commit;
            tracing::warn!(
                shard = %self.shard, ?by, number, ?began,
                "commits are numbered anew, after a lost primary or a restored backup"
            );
        }
        Some(CommitStamp::new(Domain::new(self.shard.get().into()), timeline?, commit.number))
    }

    /// The stamp of a snapshot, on a server whose snapshots are numbered as its commits are. `began` is
    /// what [`numbered`](Self::numbered) said before the snapshot began: that commit's own number will
    /// do.
    pub(crate) fn snapshot_stamp(&self, number: u64, began: Newest) -> Option<CommitStamp> {
        let number = CommitNumber { by: NumberedBy::Cluster, number };
        self.stamp(Some(number), began.inclusive())
    }

    /// The stamp that a commit of the cluster has, whoever made it.
    pub(crate) fn cluster_stamp(&self, commit_ts: u64) -> Option<CommitStamp> {
        let timeline = self.primary.known()?.timeline;
        Some(CommitStamp::new(Domain::new(self.shard.get().into()), timeline, commit_ts))
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
        let newest = self.numbered();
        let written = self.writes.run(move |session| {
            let (shard, plan) = (Arc::clone(&shard), Arc::clone(&plan));
            Box::pin(async move { session.write(&shard, &plan).await })
        });
        let outcome = written.await.map(|number| self.stamp(number, newest));
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
        let shard = Arc::clone(self);
        let newest = self.numbered();
        let raised = self.writes.run(move |session| {
            let shard = Arc::clone(&shard);
            Box::pin(async move {
                // Once there is a session, the shard is known.
                let id = shard.database_id(namespace);
                session.raise_epoch(&shard, id, user).await
            })
        });
        let (epoch, number) = raised.await?;
        let mut last = LastOf(number);
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
        Ok(Forgotten { epoch, stamp: self.stamp(last.0, newest), rows })
    }

    async fn remove_all(
        self: &Arc<Self>,
        namespace: NamespaceId,
        user: UserId,
        last: &mut LastOf,
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
            last.then(removed > 0, number);
            if removed < FORGET_ROWS_MAX {
                return Ok(rows);
            }
        }
    }

    /// Ends every connection that no work holds, and refuses further work.
    pub(crate) async fn close(&self) {
        for pool in [&self.checks, &self.late.pool, &self.pages, &self.writes] {
            pool.close().await;
        }
    }
}

/// The number of the last of several commits, as long as each one that changed something has told its.
#[derive(Clone, Copy, Debug)]
struct LastOf(Option<CommitNumber>);

impl LastOf {
    /// Another commit followed.
    fn then(&mut self, changed: bool, number: Option<CommitNumber>) {
        if changed {
            self.0 = self.0.and(number);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_was_not_told_is_not_replaced_by_an_earlier_one() {
        let number = |number| Some(CommitNumber { by: NumberedBy::Cluster, number });
        let mut last = LastOf(number(1));
        last.then(true, number(2));
        last.then(false, None);
        assert_eq!(last.0, number(2), "what changed nothing has no number");
        last.then(true, None);
        last.then(true, number(4));
        assert_eq!(last.0, None, "one in between may be the last to come by");
    }
}
