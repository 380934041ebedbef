//! The way to storage: bounded queues, one a class of work, and the loops that serve them on a
//! runtime of their own. Serving threads only ever put a job in and wait for its answer until their
//! own deadline; nothing they drop stops a write (rule R4).

mod builds;
mod checks;
mod clock;
mod fences;
mod follow;
mod lists;
mod sizes;
mod upkeep;
mod writes;

use std::sync::Arc;

use seen_filter::history::{Answers, Page, PageRequest, RecentRequest, WriteOp};
use seen_filter::{FeedId, FenceSeq, Forgotten, Generation};
use seen_filter::{Item, Question, StoreError, StoreErrorKind, Tick, UnixMillis, UserId};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;

use crate::replica::Replica;
use crate::rules::Claim;

/// Bounds of the queues and of the work behind them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StorageLimits {
    /// Point checks waiting for storage.
    pub checks_queued_max: usize,
    /// Point-check rounds at storage at once.
    pub checks_in_flight_max: usize,
    /// Marks, unmarks and forgets waiting for storage.
    pub writes_queued_max: usize,
    /// Builds waiting, of each urgency.
    pub builds_queued_max: usize,
    /// Histories read from storage at once.
    pub builds_in_flight_max: usize,
    /// Share of the time that background builds may keep storage busy, in percent, 1 to 100.
    pub builds_share_percent: u32,
    /// Background builds begun in a second.
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

/// Asks storage about exactly these items.
pub(crate) struct CheckJob {
    pub namespace: usize,
    pub questions: Vec<Question>,
    /// Not begun after this (row 36).
    pub deadline: Tick,
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

/// A build that the rules asked for.
pub(crate) struct BuildJob {
    pub namespace: usize,
    pub user: UserId,
    pub generation: Generation,
    pub urgent: bool,
}

/// A fence that fell due.
pub(crate) struct FenceJob {
    pub feed: FeedId,
    pub seq: FenceSeq,
}

/// Asks for sizes that are not old; answered once they are at hand.
pub(crate) type SizesJob = oneshot::Sender<()>;

/// The senders' side, shared by all serving threads.
#[derive(Clone)]
pub(crate) struct StorageHandle {
    pub checks: mpsc::Sender<CheckJob>,
    pub writes: mpsc::Sender<WriteJob>,
    pub forgets: mpsc::Sender<ForgetJob>,
    pub urgent_builds: mpsc::Sender<BuildJob>,
    pub background_builds: mpsc::Sender<BuildJob>,
    pub fences: mpsc::Sender<FenceJob>,
    pub lists: mpsc::Sender<ListJob>,
    pub sizes: mpsc::Sender<SizesJob>,
}

/// The receivers' side, until [`StorageWork::run`] takes it to the storage runtime.
pub struct StorageWork {
    checks: mpsc::Receiver<CheckJob>,
    writes: mpsc::Receiver<WriteJob>,
    forgets: mpsc::Receiver<ForgetJob>,
    urgent_builds: mpsc::Receiver<BuildJob>,
    background_builds: mpsc::Receiver<BuildJob>,
    fences: mpsc::Receiver<FenceJob>,
    lists: mpsc::Receiver<ListJob>,
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

pub(crate) fn queues(limits: StorageLimits) -> (StorageHandle, StorageWork) {
    let (check_tx, checks) = mpsc::channel(limits.checks_queued_max);
    let (write_tx, writes) = mpsc::channel(limits.writes_queued_max);
    let (forget_tx, forgets) = mpsc::channel(FORGETS_QUEUED_MAX);
    let (urgent_tx, urgent_builds) = mpsc::channel(limits.builds_queued_max);
    let (background_tx, background_builds) = mpsc::channel(limits.builds_queued_max);
    let (fence_tx, fences) = mpsc::channel(FENCES_QUEUED_MAX);
    let (list_tx, lists) = mpsc::channel(LISTS_QUEUED_MAX);
    let (sizes_tx, sizes) = mpsc::channel(SIZES_QUEUED_MAX);
    let handle = StorageHandle {
        checks: check_tx,
        writes: write_tx,
        forgets: forget_tx,
        urgent_builds: urgent_tx,
        background_builds: background_tx,
        fences: fence_tx,
        lists: list_tx,
        sizes: sizes_tx,
    };
    let work = StorageWork {
        checks,
        writes,
        forgets,
        urgent_builds,
        background_builds,
        fences,
        lists,
        sizes,
        limits,
    };
    (handle, work)
}

impl StorageWork {
    /// Serves the queues and follows the feed until `stop` turns true; accepted writes are finished
    /// first. Run it on the storage runtime, which must not be a serving thread's.
    pub async fn run(self, replica: Arc<Replica>, mut stop: watch::Receiver<bool>) {
        let mut readers = JoinSet::new();
        for feed in replica.feed.feeds() {
            readers.spawn(follow::follow(Arc::clone(&replica), feed));
        }
        readers.spawn(checks::serve(Arc::clone(&replica), self.checks, self.limits));
        readers.spawn(builds::serve(
            Arc::clone(&replica),
            self.urgent_builds,
            self.background_builds,
            self.limits,
        ));
        readers.spawn(fences::serve(Arc::clone(&replica), self.fences));
        readers.spawn(lists::serve(Arc::clone(&replica), self.lists));
        readers.spawn(sizes::serve(Arc::clone(&replica), self.sizes));
        readers.spawn(upkeep::serve(Arc::clone(&replica)));
        readers.spawn(clock::serve(Arc::clone(&replica)));
        let stopped = stop.clone();
        let mut writers = JoinSet::new();
        writers.spawn(writes::serve(Arc::clone(&replica), self.writes, stopped.clone()));
        writers.spawn(writes::serve_forgets(Arc::clone(&replica), self.forgets, stopped));
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
