//! Storage as one process reaches it: the store in memory, behind a way that takes time and fails.

mod applied;
mod deadlines;
mod heads;
mod reader;
mod weather;

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use seen_filter::history::{
    Answers, HistorySize, Page, PageRequest, RecentRequest, SeamFuture, Write, WriteOp,
};
use seen_filter::{
    ChangeFeed, CommitStamp, FeedError, FeedId, FeedReader, FeedStart, FenceSeq, Forgotten,
    History, Incarnation, NamespaceId, Question, StoreError, StoreErrorKind, UserId, VirtualSlot,
};
use seen_store::MemoryStore;
use seen_store::memory::{ReadFault, WriteFault};
use tokio::time::sleep;

use crate::cluster::{Cluster, PARTITIONS};
use crate::dice::Dice;
use crate::ledger::Deed;
use crate::process::Process;
pub use applied::Applied;
pub use deadlines::{Deadlines, Late};
pub use heads::Heads;
use reader::SimReader;
pub use weather::{Conditions, Weather};

/// How many commits a stale read misses at most.
const STALE_COMMITS_MAX: u64 = 8;
/// One that is longer ago, which may be before the ring.
const STALER_COMMITS_MAX: u64 = 80;
/// How far a lagging read lags at most: it is begun before it is done.
const LAG_MAX: Duration = Duration::from_millis(450);
/// How much longer some answers take at most, in milliseconds.
const STRAGGLE_MS_MAX: u64 = 1_500;

/// Storage, as a process reaches it. Clones are the same way.
#[derive(Clone)]
pub struct SimStorage {
    process: Arc<Process>,
    store: MemoryStore,
    weather: Arc<Weather>,
    applied: Arc<Applied>,
    heads: Arc<Heads>,
    deadlines: Arc<Deadlines>,
    dice: Arc<Mutex<Dice>>,
}

impl SimStorage {
    /// The way of a process to the cluster's store.
    pub fn new(process: &Arc<Process>, cluster: &Cluster, dice: Dice) -> Self {
        Self {
            process: Arc::clone(process),
            store: cluster.store.clone(),
            weather: Arc::clone(&cluster.weather),
            applied: Arc::clone(&cluster.applied),
            heads: Arc::clone(&cluster.heads),
            deadlines: Arc::clone(&cluster.deadlines),
            dice: Arc::new(Mutex::new(dice)),
        }
    }

    /// The way there. Whoever is killed meanwhile has asked all the same.
    async fn there(&self) {
        self.process.runs().await;
        self.pass().await;
        self.weather.answers(self.process.host).await;
    }

    /// The way back. A process that is frozen hears of it later, and one that is dead never.
    async fn back(&self) {
        self.heads.note(self.store.head());
        self.pass().await;
        let straggles = self.weather.now().straggle_per_mille;
        if straggles > 0 {
            let ms = {
                let mut dice = self.dice.lock();
                if dice.in_mille(straggles) { dice.within(20..=STRAGGLE_MS_MAX) } else { 0 }
            };
            sleep(Duration::from_millis(ms)).await;
        }
        self.weather.answers(self.process.host).await;
        self.process.runs().await;
    }

    async fn pass(&self) {
        let slow_ms = self.weather.now().slow_ms;
        let ms = slow_ms + self.dice.lock().within(0..=2);
        if ms > 0 {
            sleep(Duration::from_millis(ms)).await;
        }
    }

    /// It was asked for these.
    fn begin(&self, writes: &[Write]) {
        for write in writes {
            let deed = match write.op {
                WriteOp::Append => Deed::Mark,
                WriteOp::Remove => Deed::Unmark,
            };
            let items = write.items.iter().map(|(item, _)| item.id.get()).collect();
            self.deadlines.begins(write.user.get(), deed, items);
        }
    }

    /// What the next read suffers. It is done within the same poll, so that it befalls no other.
    fn spoil_read(&self, is_build: bool) {
        let conditions = self.weather.now();
        let mut dice = self.dice.lock();
        let commits = dice.within(1..=STALE_COMMITS_MAX);
        let head = self.store.head();
        let fault = if dice.in_mille(conditions.refuse_reads_per_mille) {
            Some(ReadFault::Refuse(StoreErrorKind::Unavailable))
        } else if is_build && dice.in_mille(conditions.stale_builds_per_mille) {
            let longer = dice.in_mille(300);
            let commits = if longer { dice.within(1..=STALER_COMMITS_MAX) } else { commits };
            // Where S is 0, time proves that a read shows what was lost from the feed before it (rule R8).
            let commits = commits.min(head.saturating_sub(self.weather.lost()));
            Some(ReadFault::Old { commits })
        } else if is_build && dice.in_mille(conditions.lagging_builds_per_mille) {
            let commits = self.heads.younger_than(LAG_MAX, head);
            Some(ReadFault::OldUnknown { commits })
        } else if is_build && dice.in_mille(conditions.unknown_builds_per_mille) {
            Some(ReadFault::Unknown)
        } else {
            None
        };
        if let Some(fault) = fault {
            self.store.fail_reads(fault, Some(1));
        }
    }

    fn spoil_write(&self) {
        let conditions = self.weather.now();
        let mut dice = self.dice.lock();
        let fault = if dice.in_mille(conditions.refuse_writes_per_mille) {
            Some(WriteFault::Refuse(StoreErrorKind::Unavailable))
        } else if dice.in_mille(conditions.lose_committed_per_mille) {
            Some(WriteFault::LoseCommitted)
        } else if dice.in_mille(conditions.lose_uncommitted_per_mille) {
            Some(WriteFault::LoseUncommitted)
        } else if dice.in_mille(conditions.stall_per_mille) {
            Some(WriteFault::Stall)
        } else {
            None
        };
        if let Some(fault) = fault {
            self.store.fail_writes(fault, Some(1));
        }
    }
}

impl History for SimStorage {
    fn page(&self, request: PageRequest) -> SeamFuture<'_, Result<Page, StoreError>> {
        Box::pin(async move {
            self.there().await;
            self.spoil_read(true);
            let page = self.store.page(request).await;
            self.back().await;
            page
        })
    }

    fn recent(&self, request: RecentRequest) -> SeamFuture<'_, Result<Page, StoreError>> {
        Box::pin(async move {
            self.there().await;
            self.spoil_read(false);
            let page = self.store.recent(request).await;
            self.back().await;
            page
        })
    }

    fn check(
        &self,
        namespace: NamespaceId,
        questions: Vec<Question>,
    ) -> SeamFuture<'_, Result<Answers, StoreError>> {
        Box::pin(async move {
            self.there().await;
            self.spoil_read(false);
            let answers = self.store.check(namespace, questions).await;
            self.back().await;
            answers
        })
    }

    fn write(&self, writes: Vec<Write>) -> SeamFuture<'_, Result<Option<CommitStamp>, StoreError>> {
        Box::pin(async move {
            self.begin(&writes);
            self.there().await;
            self.spoil_write();
            let stamp = self.store.write(writes).await;
            self.back().await;
            stamp
        })
    }

    fn forget(
        &self,
        namespace: NamespaceId,
        user: UserId,
    ) -> SeamFuture<'_, Result<Forgotten, StoreError>> {
        Box::pin(async move {
            self.deadlines.begins(user.get(), Deed::Forget, Vec::new());
            self.there().await;
            self.spoil_write();
            let forgotten = self.store.forget(namespace, user).await;
            self.back().await;
            forgotten
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
            self.there().await;
            self.spoil_write();
            let stamp = self.store.fence(feed, users, writer, seq).await;
            self.back().await;
            stamp
        })
    }

    fn size(&self, namespace: NamespaceId) -> SeamFuture<'_, Result<HistorySize, StoreError>> {
        Box::pin(async move {
            self.there().await;
            let size = self.store.size(namespace).await;
            self.back().await;
            size
        })
    }
}

impl ChangeFeed for SimStorage {
    fn feeds(&self) -> Vec<FeedId> {
        self.store.feeds()
    }

    fn feed_of(&self, namespace: NamespaceId, user: UserId) -> FeedId {
        self.store.feed_of(namespace, user)
    }

    fn carries(&self, feed: FeedId, slot: VirtualSlot) -> bool {
        // As the store has it; asked for each virtual slot and partition at every start.
        slot.range_of(PARTITIONS) == feed.partition.get()
    }

    fn open(
        &self,
        feed: FeedId,
        start: FeedStart,
    ) -> SeamFuture<'_, Result<Box<dyn FeedReader>, FeedError>> {
        Box::pin(async move {
            self.there().await;
            if self.weather.is_silent(feed.partition) {
                let message = "the change feed does not answer".to_owned();
                return Err(FeedError { message, retry_helps: true });
            }
            // Where the feed is behind, a peer's copy of a user lacks what it has not delivered yet.
            let head = self.store.feed_head(feed);
            let inner = self.store.open(feed, start).await?;
            let reader = SimReader::new(self.clone(), feed, inner, head);
            self.back().await;
            Ok(Box::new(reader) as Box<dyn FeedReader>)
        })
    }
}
