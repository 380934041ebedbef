//! Fences at storage that answers slowly, or not always (rule R9): a partition's freshness must not wait for all other partitions'
//! fences, nor for one that was never written, or some hundred milliseconds make feeds stale that bring everything at once.

#[allow(dead_code, reason = "each test uses its part")]
mod stage;

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use seen_filter::history::{
    Answers, Forgotten, HistorySize, Page, PageRequest, Question, RecentRequest, SeamFuture, Write,
};
use seen_filter::{
    CommitStamp, FeedId, FenceSeq, History, Incarnation, NamespaceId, StoreError, StoreErrorKind,
    UserId,
};
use seen_replica::{ReplicaLimits, ReplicaOptions};
use seen_store::MemoryStore;
use tokio::time::{Duration, sleep};

use stage::{Node, feeds, options, store};

/// How long is looked.
const LOOKED: Duration = Duration::from_secs(60);
/// Fences of each partition in that time.
const FENCES_MIN: usize = 20;

/// A history whose fences take so long, and of which every so manieth fails.
struct Slow {
    store: MemoryStore,
    takes: Duration,
    fails_every: u64,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    under_way: Vec<FeedId>,
    /// Those that were written, in order.
    written: BTreeMap<FeedId, Vec<FenceSeq>>,
    /// True if two of one partition were under way at once.
    overtaking: bool,
}

impl History for Slow {
    fn page(&self, request: PageRequest) -> SeamFuture<'_, Result<Page, StoreError>> {
        self.store.page(request)
    }

    fn recent(&self, request: RecentRequest) -> SeamFuture<'_, Result<Page, StoreError>> {
        self.store.recent(request)
    }

    fn check(
        &self,
        namespace: NamespaceId,
        questions: Vec<Question>,
    ) -> SeamFuture<'_, Result<Answers, StoreError>> {
        self.store.check(namespace, questions)
    }

    fn write(&self, writes: Vec<Write>) -> SeamFuture<'_, Result<Option<CommitStamp>, StoreError>> {
        self.store.write(writes)
    }

    fn forget(
        &self,
        namespace: NamespaceId,
        user: UserId,
    ) -> SeamFuture<'_, Result<Forgotten, StoreError>> {
        self.store.forget(namespace, user)
    }

    fn fence(
        &self,
        feed: FeedId,
        users: Vec<UserId>,
        writer: Incarnation,
        seq: FenceSeq,
    ) -> SeamFuture<'_, Result<Option<CommitStamp>, StoreError>> {
        Box::pin(async move {
            {
                let mut seen = self.seen.lock();
                seen.overtaking |= seen.under_way.contains(&feed);
                seen.under_way.push(feed);
            }
            sleep(self.takes).await;
            let done = match seq.get() % self.fails_every {
                0 => Err(StoreError::new(StoreErrorKind::Unavailable, "not this one")),
                _ => self.store.fence(feed, users, writer, seq).await,
            };
            let mut seen = self.seen.lock();
            seen.under_way.retain(|other| *other != feed);
            if done.is_ok() {
                seen.written.entry(feed).or_default().push(seq);
            }
            done
        })
    }

    fn size(&self, namespace: NamespaceId) -> SeamFuture<'_, Result<HistorySize, StoreError>> {
        self.store.size(namespace)
    }
}

/// A minute of a replica whose heartbeats are fences, at such storage.
async fn a_minute(takes: Duration, fails_every: u64) {
    let store = store();
    let seen = Mutex::default();
    let history = Arc::new(Slow { store: store.clone(), takes, fails_every, seen });
    let base = options(&store, 1);
    let limits = ReplicaLimits { heartbeat_fences: true, ..base.limits };
    let _node = Node::with(ReplicaOptions { history: history.clone(), limits, ..base }).await;
    sleep(LOOKED).await;
    let seen = history.seen.lock();
    assert!(!seen.overtaking, "two fences of one partition at once");
    for feed in feeds() {
        let written = &seen.written[&feed];
        assert!(written.len() >= FENCES_MIN, "{feed}: {} fences", written.len());
        assert!(written.is_sorted(), "{feed}: {written:?}");
    }
}

/// One after the other, the four partitions would have ten each.
#[tokio::test(start_paused = true)]
async fn slow_storage_does_not_make_partitions_wait_for_each_other() {
    a_minute(Duration::from_millis(1_500), u64::MAX).await;
}

/// If the next one waited as long as for one that is on its way, there would be ten.
#[tokio::test(start_paused = true)]
async fn a_fence_that_was_not_written_does_not_hold_up_the_next() {
    a_minute(Duration::ZERO, 2).await;
}
