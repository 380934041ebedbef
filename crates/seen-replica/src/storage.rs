//! The way to storage: bounded queues, one a class of work and shard, and the loops that serve them on a
//! runtime of their own. Serving threads only ever put a job in and wait for its answer until their
//! own deadline; nothing they drop stops a write (rule R4).

mod builds;
mod by_shard;
mod checks;
mod clock;
mod fences;
mod follow;
mod lists;
mod sizes;
mod upkeep;
mod writes;

use std::sync::Arc;

use seen_api::Span;
use seen_filter::history::{Answers, Page, PageRequest, RecentRequest, WriteOp};
use seen_filter::{FeedId, FenceSeq, Forgotten, Generation, NamespaceId};
use seen_filter::{Item, Question, StoreError, StoreErrorKind, Tick, UnixMillis, UserId};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use crate::replica::Replica;
use crate::rules::Claim;
use by_shard::ByShard;

/// Bounds of the queues and of the work behind them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StorageLimits {
    /// Point checks waiting for storage; this bound, and those of writes and builds, shards share evenly,
    /// with room for at least 64 each.
    pub checks_queued_max: usize,
    /// Point-check rounds at one shard at once.
    pub checks_in_flight_max: usize,
    /// Marks, unmarks and forgets waiting for storage.
    pub writes_queued_max: usize,
    /// Builds waiting, of each urgency.
    pub builds_queued_max: usize,
    /// Histories read from one shard at once.
    pub builds_in_flight_max: usize,
    /// Share of the time that background builds may keep a shard busy, in percent, 1 to 100.
    pub builds_share_percent: u32,
    /// Background builds begun in a second, of all shards together.
    pub background_builds_per_s_max: u32,
    /// Rows of one page of a build, at most 10,000.
    pub page_rows_max: usize,
}

impl Default for StorageLimits {
    fn default() -> Self {
        Self {
            checks_queued_max: 8_192,
            checks_in_flight_max: 4,
            writes_queued_max: 16_384,
            builds_queued_max: 8_192,
            builds_in_flight_max: 2,
            builds_share_percent: 50,
            background_builds_per_s_max: 200,
            page_rows_max: 4_096,
        }
    }
}

/// A job left its queue: the event of a span.
const BEGUN: &str = "begun";
/// How many calls' jobs went to storage together: the attribute of a span.
const JOBS: &str = "seen.jobs_together";

/// Asks storage about exactly these items.
pub(crate) struct CheckJob {
    pub namespace: usize,
    pub questions: Vec<Question>,
    /// The answer may be late: see [`History::check_late`](seen_filter::History::check_late).
    pub may_be_late: bool,
    /// Not begun after this (row 36).
    pub deadline: Tick,
    /// That of whoever waits for it.
    pub span: Span,
    pub reply: oneshot::Sender<Result<Answers, StoreError>>,
}

/// A mark or an unmark.
pub(crate) struct WriteJob {
    pub namespace: usize,
    pub user: UserId,
    pub op: WriteOp,
    pub items: Vec<(Item, Option<UnixMillis>)>,
    /// Not begun after this (row 38).
    pub deadline: Tick,
    /// That of whoever waits for it.
    pub span: Span,
    pub reply: oneshot::Sender<Result<Claim, StoreError>>,
}

/// A forget.
pub(crate) struct ForgetJob {
    pub namespace: usize,
    pub user: UserId,
    pub deadline: Tick,
    pub reply: oneshot::Sender<Result<(Forgotten, Claim), StoreError>>,
}

/// A page of a history, for people.
pub(crate) struct ListJob {
    pub request: ListRequest,
    pub deadline: Tick,
    pub reply: oneshot::Sender<Result<Page, StoreError>>,
}

/// Which page.
pub(crate) enum ListRequest {
    Key(PageRequest),
    Recent(RecentRequest),
}

impl ListRequest {
    /// Whose history, and which.
    pub fn of(&self) -> (NamespaceId, UserId) {
        match self {
            Self::Key(request) => (request.namespace, request.user),
            Self::Recent(request) => (request.namespace, request.user),
        }
    }
}

/// A build that the rules asked for.
pub(crate) struct BuildJob {
    pub namespace: usize,
    pub user: UserId,
    pub generation: Generation,
    pub urgent: bool,
    /// The span of the call that caused it, and does not wait for it.
    pub cause: Span,
}

/// A fence that fell due.
pub(crate) struct FenceJob {
    pub feed: FeedId,
    pub seq: FenceSeq,
}

/// Asks for sizes that are not old; answered once they are at hand.
pub(crate) type SizesJob = oneshot::Sender<()>;

/// The senders' side, shared by all serving threads. All but sizes have a queue for each shard.
#[derive(Clone)]
pub(crate) struct StorageHandle {
    pub checks: ByShard<CheckJob>,
    pub writes: ByShard<WriteJob>,
    pub forgets: ByShard<ForgetJob>,
    pub urgent_builds: ByShard<BuildJob>,
    pub background_builds: ByShard<BuildJob>,
    pub fences: ByShard<FenceJob>,
    pub lists: ByShard<ListJob>,
    pub sizes: mpsc::Sender<SizesJob>,
}

/// The receivers' side of one shard.
struct ShardWork {
    checks: mpsc::Receiver<CheckJob>,
    writes: mpsc::Receiver<WriteJob>,
    forgets: mpsc::Receiver<ForgetJob>,
    urgent_builds: mpsc::Receiver<BuildJob>,
    background_builds: mpsc::Receiver<BuildJob>,
    fences: mpsc::Receiver<FenceJob>,
    lists: mpsc::Receiver<ListJob>,
}

/// The receivers' side, until [`StorageWork::run`] takes it to the storage runtime.
pub struct StorageWork {
    shards: Vec<ShardWork>,
    sizes: mpsc::Receiver<SizesJob>,
    limits: StorageLimits,
}

/// Forgets waiting for storage; each may remove very many rows.
const FORGETS_QUEUED_MAX: usize = 64;
/// Fences waiting; a lost one falls due again.
const FENCES_QUEUED_MAX: usize = 4_096;
/// Listings waiting for storage.
const LISTS_QUEUED_MAX: usize = 256;
/// Questions about sizes waiting; all are answered by one look.
const SIZES_QUEUED_MAX: usize = 64;

/// The queues in front of so many shards.
pub(crate) fn queues(limits: StorageLimits, shards: u16) -> (StorageHandle, StorageWork) {
    let (checks, of_checks) = ByShard::new(shards, limits.checks_queued_max);
    let (writes, of_writes) = ByShard::new(shards, limits.writes_queued_max);
    let (forgets, of_forgets) = ByShard::new(shards, FORGETS_QUEUED_MAX);
    let (urgent_builds, of_urgent) = ByShard::new(shards, limits.builds_queued_max);
    let (background_builds, of_background) = ByShard::new(shards, limits.builds_queued_max);
    let (fences, of_fences) = ByShard::new(shards, FENCES_QUEUED_MAX);
    let (lists, of_lists) = ByShard::new(shards, LISTS_QUEUED_MAX);
    let (sizes, of_sizes) = mpsc::channel(SIZES_QUEUED_MAX);
    let reads = of_checks.into_iter().zip(of_lists);
    let writers = of_writes.into_iter().zip(of_forgets).zip(of_fences);
    let builds = of_urgent.into_iter().zip(of_background);
    let shards = reads.zip(writers).zip(builds).map(|((reads, writers), builds)| ShardWork {
        checks: reads.0,
        lists: reads.1,
        writes: writers.0.0,
        forgets: writers.0.1,
        fences: writers.1,
        urgent_builds: builds.0,
        background_builds: builds.1,
    });
    let work = StorageWork { shards: shards.collect(), sizes: of_sizes, limits };
    let handle = StorageHandle {
        checks,
        writes,
        forgets,
        urgent_builds,
        background_builds,
        fences,
        lists,
        sizes,
    };
    (handle, work)
}

impl StorageWork {
    /// Serves the queues and follows the feed until `stop` turns true; accepted writes are finished
    /// first. Run it on the storage runtime, which must not be a serving thread's.
    pub async fn run(self, replica: Arc<Replica>, mut stop: watch::Receiver<bool>) {
        let mut readers = JoinSet::new();
        let mut writers = JoinSet::new();
        for feed in replica.feed.feeds() {
            readers.spawn(follow::follow(Arc::clone(&replica), feed));
        }
        let limits = StorageLimits {
            // The rate is of all shards together.
            background_builds_per_s_max: (self.limits.background_builds_per_s_max
                / self.shards.len().max(1) as u32)
                .max(1),
            ..self.limits
        };
        for shard in self.shards {
            let replica = || Arc::clone(&replica);
            let builds = (shard.urgent_builds, shard.background_builds);
            readers.spawn(checks::serve(replica(), shard.checks, limits));
            readers.spawn(builds::serve(replica(), builds, limits));
            readers.spawn(fences::serve(replica(), shard.fences));
            readers.spawn(lists::serve(replica(), shard.lists));
            writers.spawn(writes::serve(replica(), shard.writes, stop.clone()));
            writers.spawn(writes::serve_forgets(replica(), shard.forgets, stop.clone()));
        }
        readers.spawn(sizes::serve(Arc::clone(&replica), self.sizes));
        readers.spawn(upkeep::serve(Arc::clone(&replica)));
        readers.spawn(clock::serve(Arc::clone(&replica)));
        // An error means that the sender is gone, which stops us as well.
        let _ = stop.wait_for(|stop| *stop).await;
        while writers.join_next().await.is_some() {}
        readers.shutdown().await;
    }
}

/// The error for a job that found its queue full or its storage side gone.
pub(crate) fn queue_error<T>(error: &mpsc::error::TrySendError<T>, queue: &str) -> StoreError {
    match error {
        mpsc::error::TrySendError::Full(_) => StoreError::new(
            StoreErrorKind::Overloaded,
            format!("the queue of {queue} is full; try again later, or raise its bound"),
        ),
        mpsc::error::TrySendError::Closed(_) => {
            StoreError::new(StoreErrorKind::Unavailable, "the process is shutting down")
        }
    }
}

/// The error of a job that waited past its deadline. It was not begun.
pub(crate) fn expired() -> StoreError {
    StoreError::new(StoreErrorKind::Expired, "the deadline passed in the queue; nothing was begun")
}
