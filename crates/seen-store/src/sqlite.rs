//! The embedded store: one SQLite file in write-ahead mode, synced at every commit, whose commit log
//! is the change feed.
//!
//! - One task writes. Calls that come while a commit waits for the disk share the next one.
//! - Reads use connections of their own and are never held up by writes; pages and point checks have
//!   separate ones, so that builds cannot starve checks.
//! - The commit log lies in the same transactions as the rows. Commits are numbered for the whole
//!   file, so that one number says what a snapshot contains, whatever the namespace and partition.
//! - Other processes may open the same file, read and write it, and follow its feed.

mod commit;
mod connection;
mod errors;
mod events;
mod feed;
mod flush;
mod group;
mod inner;
mod lag;
mod maintain;
mod namespaces;
mod open;
mod options;
mod read;
mod scan;
mod size;
mod sql;
mod stats;
mod sweep;
mod tail;
mod timeline;
mod writer;

use std::sync::Arc;

use parking_lot::Mutex;
use seen_filter::history::{
    Answers, Forgotten, HistorySize, Page, PageRequest, Question, RecentRequest, SeamFuture, Write,
};
use seen_filter::{
    ChangeFeed, CommitStamp, FeedError, FeedId, FeedLag, FeedReader, FeedStart, FenceSeq, HashKey,
    History, Incarnation, NamespaceId, NamespaceSettings, Partition, Shard, StoreError,
    StoreErrorKind, Timeline, UserId, VirtualSlot,
};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinHandle;

use crate::request::{self, fence_users, invalid, partition_of};
use commit::MarkerKeeper;
use connection::closed;
use inner::Inner;
use tail::Head;
use writer::{Ack, Job, Writer};

pub use events::decode as commit_events;
pub use options::SqliteOptions;
pub use stats::{HISTOGRAM_BUCKETS, Histogram, NamespaceSize, SqliteStats};
pub use sweep::SweepReport;

/// The embedded store. Works on whatever runtime it is opened on: its tasks live there until
/// [`SqliteStore::close`], or until it is dropped.
#[derive(Debug)]
pub struct SqliteStore {
    inner: Arc<Inner>,
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    shutdown: watch::Sender<bool>,
    writer: Mutex<Option<JoinHandle<()>>>,
    upkeep: Mutex<Vec<JoinHandle<()>>>,
    opened_timeline: Timeline,
}

impl SqliteStore {
    /// Opens the store, and creates it where the options say so.
    ///
    /// # Errors
    /// `InvalidRequest` for options or namespaces out of range or in conflict with the file;
    /// `Unavailable` if the folder or file cannot be opened; `ReadOnly`, `Full`, `Corrupt`; `Schema`
    /// if the file was made by a newer program. Each says what to do.
    pub async fn open(
        options: SqliteOptions,
        namespaces: Vec<NamespaceSettings>,
    ) -> Result<Arc<Self>, StoreError> {
        options.validate()?;
        request::namespaces(&namespaces)?;
        let opened = open::open(&options, namespaces).await?;
        let marker = opened.identity.marker;
        let head = Head { timeline: marker.timeline, position: marker.head };
        let (jobs, queue) = mpsc::channel(options.pending_writes_max);
        let inner = Arc::new(Inner::new(
            options,
            opened.tables,
            opened.identity.hash_key,
            opened.identity.partitions,
            head,
        ));
        let (shutdown, stopped) = watch::channel(false);
        let keeper = MarkerKeeper::new(opened.side_file, marker);
        let writer = Writer::new(Arc::clone(&inner), opened.connection, keeper, queue);
        let writer = tokio::spawn(writer.run());
        let weak = || Arc::downgrade(&inner);
        let mut upkeep = vec![tokio::spawn(feed::watch_file(weak(), stopped.clone()))];
        if !inner.options.read_only {
            let jobs = || jobs.downgrade();
            upkeep.push(tokio::spawn(maintain::keep_logs_short(weak(), jobs(), stopped.clone())));
            upkeep.push(tokio::spawn(sweep::sweep(weak(), jobs(), stopped)));
        }
        Ok(Arc::new(Self {
            inner,
            jobs: Mutex::new(Some(jobs)),
            shutdown,
            writer: Mutex::new(Some(writer)),
            upkeep: Mutex::new(upkeep),
            opened_timeline: Timeline::new(marker.timeline),
        }))
    }

    /// Refuses further calls, commits what was accepted, ends every task and closes the file.
    /// Readers of the feed end with an error. Closing twice is no error.
    pub async fn close(&self) {
        drop(self.jobs.lock().take());
        self.shutdown.send_replace(true);
        let upkeep = std::mem::take(&mut *self.upkeep.lock());
        for task in upkeep {
            report_panic(task.await);
        }
        let options = &self.inner.options;
        self.inner.pages.close(options.page_connections_max).await;
        self.inner.checks.close(options.check_connections_max).await;
        // Last, so that closing the file finds no other connection and leaves no side files.
        let writer = self.writer.lock().take();
        if let Some(writer) = writer {
            report_panic(writer.await);
        }
    }

    /// The secret that users and items are hashed with: made with the file, and the whole cluster's.
    pub fn hash_key(&self) -> HashKey {
        self.inner.hash_key
    }

    /// How many feed partitions each namespace has: decided when the file was made.
    pub fn partitions(&self) -> u16 {
        self.inner.partitions
    }

    /// The timeline of the file when it was opened.
    pub fn timeline(&self) -> Timeline {
        self.opened_timeline
    }

    /// What the store counts about itself; costs two looks at file sizes.
    pub fn stats(&self) -> SqliteStats {
        let jobs = self.jobs.lock();
        let pending = jobs.as_ref().map_or(0, |j| j.max_capacity() - j.capacity());
        drop(jobs);
        SqliteStats {
            pending_writes: pending as u64,
            head: self.inner.tail.head().position,
            file_bytes: maintain::file_bytes(&self.inner, ""),
            wal_bytes: maintain::file_bytes(&self.inner, "-wal"),
            ..self.inner.counters.read()
        }
    }

    /// Counts the rows and bytes of every namespace by reading all of it.
    ///
    /// # Errors
    /// As reads.
    pub async fn measure(&self) -> Result<Vec<NamespaceSize>, StoreError> {
        self.inner.measure().await
    }

    /// Removes, in one pass, all rows that have expired or are beyond their user's newest, and cuts
    /// the change feed to its bounds. The store does the same by itself, slowly.
    ///
    /// # Errors
    /// As writes.
    pub async fn sweep_now(&self) -> Result<SweepReport, StoreError> {
        let jobs = self.jobs()?.downgrade();
        maintain::trim_log_once(&self.inner, &jobs).await?;
        sweep::sweep_now(&self.inner, &jobs).await
    }

    fn jobs(&self) -> Result<mpsc::Sender<Job>, StoreError> {
        if self.inner.options.read_only {
            let path = self.inner.options.path.display();
            return Err(StoreError::new(
                StoreErrorKind::ReadOnly,
                format!("{path} was opened for reading only; open it with read_only = false"),
            ));
        }
        self.jobs.lock().clone().ok_or_else(closed)
    }

    /// Queues a job and waits for its outcome.
    async fn submit<T>(&self, job: impl FnOnce(Ack<T>) -> Job) -> Result<T, StoreError> {
        let (ack, outcome) = oneshot::channel();
        let sent = self.jobs()?.try_send(job(ack));
        sent.map_err(|refused| match refused {
            mpsc::error::TrySendError::Closed(_) => closed(),
            mpsc::error::TrySendError::Full(_) => StoreError::new(
                StoreErrorKind::Overloaded,
                format!(
                    "pending_writes_max = {} calls wait for a commit already; try again later",
                    self.inner.options.pending_writes_max
                ),
            ),
        })?;
        // The writer answers every job it takes; a job without an answer was never begun, unless
        // the writer's runtime was stopped under it.
        outcome.await.map_err(|_| {
            StoreError::new(
                StoreErrorKind::OutcomeUnknown,
                "the store's runtime was stopped; the call may or may not be committed",
            )
        })?
    }
}

fn report_panic(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a task of the store failed");
    }
}

impl History for SqliteStore {
    fn page(&self, request: PageRequest) -> SeamFuture<'_, Result<Page, StoreError>> {
        Box::pin(self.inner.page(request))
    }

    fn recent(&self, request: RecentRequest) -> SeamFuture<'_, Result<Page, StoreError>> {
        Box::pin(self.inner.recent(request))
    }

    fn check(
        &self,
        namespace: NamespaceId,
        questions: Vec<Question>,
    ) -> SeamFuture<'_, Result<Answers, StoreError>> {
        Box::pin(self.inner.check(namespace, questions))
    }

    fn write(&self, writes: Vec<Write>) -> SeamFuture<'_, Result<Option<CommitStamp>, StoreError>> {
        Box::pin(async move {
            let rows = request::writes(&writes, self.inner.tables.len())?;
            self.submit(|ack| Job::Write { writes, rows, ack }).await.map(Some)
        })
    }

    fn forget(
        &self,
        namespace: NamespaceId,
        user: UserId,
    ) -> SeamFuture<'_, Result<Forgotten, StoreError>> {
        Box::pin(async move {
            self.inner.tables.get(namespace)?;
            self.submit(|ack| Job::Forget { namespace, user, ack }).await
        })
    }

    fn fence(
        &self,
        feed: FeedId,
        users: Vec<UserId>,
        writer: Incarnation,
        seq: FenceSeq,
    ) -> SeamFuture<'_, Result<Option<CommitStamp>, StoreError>> {
        Box::pin(async move {
            self.inner.tables.get(feed.namespace)?;
            if feed.shard.get() != 0 || feed.partition.get() >= self.inner.partitions {
                return Err(invalid(format!(
                    "feed {feed} is unknown (this store has shard 0 and partitions 0 to {})",
                    self.inner.partitions - 1
                )));
            }
            fence_users(&users)?;
            self.submit(|ack| Job::Fence { feed, writer, seq, ack }).await.map(Some)
        })
    }

    fn size(&self, namespace: NamespaceId) -> SeamFuture<'_, Result<HistorySize, StoreError>> {
        Box::pin(self.inner.size(namespace))
    }
}

impl ChangeFeed for SqliteStore {
    fn feeds(&self) -> Vec<FeedId> {
        let of = |table: &namespaces::Table| {
            let namespace = table.settings.id;
            let partitions = 0..self.inner.partitions;
            partitions.map(move |p| FeedId::new(namespace, Shard::new(0), Partition::new(p)))
        };
        self.inner.tables.iter().flat_map(of).collect()
    }

    fn feed_of(&self, namespace: NamespaceId, user: UserId) -> FeedId {
        let partition = partition_of(&self.inner.hash_key, user, self.inner.partitions);
        FeedId::new(namespace, Shard::new(0), partition)
    }

    fn lag(&self, feed: FeedId) -> Option<FeedLag> {
        self.inner.lags.of(feed, self.inner.tail.head())
    }

    fn carries(&self, feed: FeedId, slot: VirtualSlot) -> bool {
        slot.range_of(self.inner.partitions) == feed.partition.get()
    }

    fn open(
        &self,
        feed: FeedId,
        start: FeedStart,
    ) -> SeamFuture<'_, Result<Box<dyn FeedReader>, FeedError>> {
        Box::pin(async move {
            let shutdown = self.shutdown.subscribe();
            let reader = feed::open(&self.inner, shutdown, feed, start).await?;
            Ok(Box::new(reader) as Box<dyn FeedReader>)
        })
    }
}
