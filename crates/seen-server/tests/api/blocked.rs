//! A replica over a store in memory that can be made silent, slow or broken, on paused time: the
//! calls go through the gRPC service without a socket, and through a proxy, as in `seen serve`.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use seen_api::SeenGrpc;
use seen_filter::{
    Domain, FeedId, Incarnation, NamespaceId, NamespaceSettings, Shard, UnixMillis, UserId,
};
use seen_proto::v1;
use seen_proto::v1::admin_service_client::AdminServiceClient;
use seen_proto::v1::admin_service_server::AdminServiceServer;
use seen_proto::v1::seen_service_client::SeenServiceClient;
use seen_proxy::{Proxy, ProxyOptions};
use seen_replica::grpc::AdminGrpc;
use seen_replica::{Replica, ReplicaLimits, ReplicaOptions, SampleLimits, StorageLimits};
use seen_server::node::{Alone, AloneCalls};
use seen_store::memory::MemoryOptions;
use seen_store::{MemoryStore, StorageClock};
use tokio::sync::watch;
use tokio::time::{Instant, interval};

use super::ask::{Caller, READ, SENT, patient};
use super::shards::Shards;

/// Partitions of each namespace's feed.
const PARTITIONS: u16 = 4;
/// What the storage's clock says, always.
const NOW: UnixMillis = UnixMillis::new(1_000_000);

/// A caller without a socket.
pub type Direct = Caller<SeenGrpc<AloneCalls>>;

/// A running replica.
pub struct Blocked {
    /// The store, or the first of several shards.
    pub store: MemoryStore,
    /// The other shards.
    pub others: Vec<MemoryStore>,
    pub api: Direct,
    /// What the calls go through.
    pub proxy: Proxy,
    pub admin: AdminServiceClient<AdminServiceServer<AdminGrpc>>,
    pub replica: Arc<Replica>,
    /// Pages that builds and listings have begun to read.
    pub pages: Arc<AtomicUsize>,
    _stop: watch::Sender<bool>,
}

/// The default namespaces on an empty store.
pub fn store() -> MemoryStore {
    shard(0)
}

/// The same, as one of several.
fn shard(number: u32) -> MemoryStore {
    let clock = StorageClock::new(|| NOW);
    let options = MemoryOptions {
        partitions: PARTITIONS,
        domain: Domain::new(number),
        ..MemoryOptions::new(clock, 7)
    };
    MemoryStore::new(options, namespaces()).expect("in range")
}

fn namespaces() -> Vec<NamespaceSettings> {
    let named = [READ, SENT].into_iter().zip(0..);
    named.map(|(name, id)| NamespaceSettings::new(NamespaceId::new(id), name)).collect()
}

/// The feed partitions of both namespaces.
pub fn feeds() -> impl Iterator<Item = FeedId> {
    let partitions = || (0..PARTITIONS).map(seen_filter::Partition::new);
    let of =
        move |id| partitions().map(move |p| FeedId::new(NamespaceId::new(id), Shard::new(0), p));
    (0..2).flat_map(of)
}

/// No samples: they would ask storage behind the test's back.
fn silent() -> ReplicaLimits {
    let samples = SampleLimits { seen_share: 0.0, unread_share: 0.0, checks_per_s_max: 1 };
    ReplicaLimits { samples, ..ReplicaLimits::default() }
}

impl Blocked {
    /// A replica of its own store.
    pub async fn open() -> Self {
        Self::with(StorageLimits::default()).await
    }

    /// A replica of its own store, with these queues.
    pub async fn with(storage: StorageLimits) -> Self {
        Self::beside(store(), 1, storage).await
    }

    /// The replica `incarnation` over this store.
    pub async fn beside(store: MemoryStore, incarnation: u64, storage: StorageLimits) -> Self {
        Self::assemble(vec![store], incarnation, storage, silent()).await
    }

    /// A replica of its own store, whose reads may show what was so late before.
    pub async fn lagging(lag: Duration) -> Self {
        let snapshot_lag_us_max = lag.as_micros() as u64;
        let limits = ReplicaLimits { snapshot_lag_us_max, ..silent() };
        Self::assemble(vec![store()], 1, StorageLimits::default(), limits).await
    }

    /// A replica over so many shards; users are spread by their remainders.
    pub async fn sharded(shards: u32) -> Self {
        let stores = (0..shards).map(shard).collect();
        Self::assemble(stores, 1, StorageLimits::default(), silent()).await
    }

    /// A replica over this store that verifies its answers.
    pub async fn sampling(store: MemoryStore, samples: SampleLimits) -> Self {
        let limits = ReplicaLimits { samples, ..ReplicaLimits::default() };
        Self::assemble(vec![store], 1, StorageLimits::default(), limits).await
    }

    async fn assemble(
        mut stores: Vec<MemoryStore>,
        incarnation: u64,
        storage: StorageLimits,
        limits: ReplicaLimits,
    ) -> Self {
        let pages = Arc::new(AtomicUsize::new(0));
        let shards = Arc::new(Shards::new(stores.clone(), Arc::clone(&pages)));
        let options = ReplicaOptions {
            namespaces: namespaces(),
            key: stores[0].hash_key(),
            cluster: 77,
            incarnation: Incarnation::new(incarnation),
            history: Arc::<Shards>::clone(&shards),
            feed: shards,
            limits: ReplicaLimits { heartbeat_fences: stores.len() > 1, ..limits },
            storage,
        };
        let (replica, work) = Replica::new(options).expect("in range");
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(work.run(Arc::clone(&replica), stopped));
        until(|| replica.following_all()).await;
        let slot_key = stores[0].hash_key().slot_key();
        let alone = Alone::new(&replica, slot_key, "feed", ProxyOptions::new(0));
        let calls = alone.expect("a tag").calls();
        let proxy = calls.proxy().clone();
        let api = Caller(SeenServiceClient::new(SeenGrpc::new(calls)));
        let admin = AdminGrpc::new(Arc::clone(&replica), "test", Arc::new(|_| ()));
        let admin = AdminServiceClient::new(AdminServiceServer::new(admin));
        let store = stores.remove(0);
        Self { store, others: stores, api, proxy, admin, replica, pages, _stop: stop }
    }

    /// Marks items and has the user's entry built.
    pub async fn warm(&mut self, request: v1::MarkRequest) {
        let (user, namespace) = (request.user, request.namespace.clone());
        self.api.mark(request).await;
        let rebuild = v1::RebuildUserRequest { user, namespace };
        self.admin.rebuild_user(patient(rebuild)).await.expect("rebuilt");
    }

    /// The partition that carries a user's events of the first namespace.
    pub fn feed_of(&self, user: u64) -> FeedId {
        use seen_filter::ChangeFeed;
        self.store.feed_of(NamespaceId::new(0), UserId::new(user))
    }

    /// How many pages were read since the last call.
    pub fn pages_read(&self) -> usize {
        self.pages.swap(0, Ordering::Relaxed)
    }
}

/// Waits, on paused time, until this is true.
pub async fn until(is: impl Fn() -> bool) {
    let mut looks = interval(Duration::from_millis(1));
    let began = Instant::now();
    while !is() {
        looks.tick().await;
        assert!(began.elapsed() < Duration::from_secs(3_600), "it never comes true");
    }
}

/// Waits until everything that can be done without further time has been done, and more.
pub async fn quiet() {
    tokio::time::sleep(Duration::from_secs(1)).await;
}
