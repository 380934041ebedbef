//! All replicas restart at once: nobody is there to take users from. Storage is asked within its bounds, whoever is asked for
//! most is in memory first, and meanwhile everybody is answered, by looking into storage.

#[allow(dead_code, reason = "each test uses its part")]
mod stage;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;
use seen_filter::history::{
    Answers, Forgotten, HistorySize, Page, PageRequest, Question, RecentRequest, SeamFuture, Write,
};
use seen_filter::{
    CommitStamp, FeedId, FenceSeq, History, Incarnation, NamespaceId, StoreError, UserId,
    VirtualSet,
};
use seen_replica::warm::{Progress, WarmupOptions, warm_up};
use seen_replica::{ReplicaOptions, StorageLimits};
use seen_store::MemoryStore;
use tokio::time::{Duration, sleep};

use stage::pipe::Peers;
use stage::{Node, options, store, until};

/// How long one page of a history takes.
const PAGE_TIME: Duration = Duration::from_millis(20);
const BUILDS_MAX: usize = 2;
const USERS: u64 = 600;
/// Those that are asked for all the time.
const HOT_USERS: u64 = 60;

/// A history that counts who reads from it.
struct Counted {
    store: MemoryStore,
    building: AtomicUsize,
    building_max: AtomicUsize,
    /// Whose histories were read, in order.
    built: Mutex<Vec<UserId>>,
}

impl Counted {
    fn new(store: &MemoryStore) -> Arc<Self> {
        let (building, building_max) = Default::default();
        let built = Mutex::default();
        Arc::new(Self { store: store.clone(), building, building_max, built })
    }
}

impl History for Counted {
    fn page(&self, request: PageRequest) -> SeamFuture<'_, Result<Page, StoreError>> {
        Box::pin(async move {
            let now = self.building.fetch_add(1, Ordering::Relaxed) + 1;
            self.building_max.fetch_max(now, Ordering::Relaxed);
            sleep(PAGE_TIME).await;
            let page = self.store.page(request).await;
            self.building.fetch_sub(1, Ordering::Relaxed);
            self.built.lock().push(request.user);
            page
        })
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
        self.store.fence(feed, users, writer, seq)
    }

    fn size(&self, namespace: NamespaceId) -> SeamFuture<'_, Result<HistorySize, StoreError>> {
        self.store.size(namespace)
    }
}

/// A replica that has nobody to take users from, and the history that it reads.
async fn started_cold(store: &MemoryStore, incarnation: u64) -> (Node, Arc<Counted>) {
    let history = Counted::new(store);
    let storage = StorageLimits { builds_in_flight_max: BUILDS_MAX, ..StorageLimits::default() };
    let base = options(store, incarnation);
    let node = Node::with(ReplicaOptions { history: history.clone(), storage, ..base }).await;
    let options = WarmupOptions::of(VirtualSet::ALL);
    let progress = Arc::new(Progress::new());
    let summary = warm_up(&node.replica, &Peers::default(), &options, &progress).await;
    assert_eq!((summary.donors, progress.view().over), (0, true), "it waits for nobody");
    (node, history)
}

#[tokio::test(start_paused = true)]
async fn storage_is_asked_within_its_bounds_and_hot_users_come_first() {
    let store = store();
    let before = Node::open(&store, 1).await;
    for user in 0..USERS {
        before.mark(user, [user % 8]).await;
    }
    drop(before);
    let replicas = tokio::join!(started_cold(&store, 2), started_cold(&store, 3));
    let replicas = [replicas.0, replicas.1];
    let right = |user: u64| (0..8).filter(|n| u64::from(*n) != user % 8).collect::<Vec<u32>>();
    let mut cold = (HOT_USERS..USERS).cycle();
    let mut looked_up = 0;
    while replicas.iter().any(|(node, _)| node.replica.users() < USERS) {
        let round: Vec<u64> = cold.by_ref().take(5).chain(0..HOT_USERS).collect();
        for (node, _) in &replicas {
            for &user in &round {
                // Not degraded, whether from memory or not.
                let (unread, at_once) = node.unread(user, 8).await;
                assert_eq!(unread, right(user), "{user}");
                looked_up += u64::from(!at_once);
            }
        }
        sleep(PAGE_TIME / 2).await;
    }
    assert!(looked_up > 2 * USERS, "{looked_up} answers came from storage meanwhile");
    for (node, history) in &replicas {
        let building_max = history.building_max.load(Ordering::Relaxed);
        assert_eq!(building_max, BUILDS_MAX, "histories read at once");
        let built = history.built.lock().clone();
        assert_eq!(built.len() as u64, USERS, "each is read once");
        let first = &built[..HOT_USERS as usize + 10];
        let hot = first.iter().filter(|user| user.get() < HOT_USERS).count() as u64;
        assert_eq!(hot, HOT_USERS, "hot users come first: {first:?}");
        until(|| node.replica.users() == USERS).await;
    }
}
