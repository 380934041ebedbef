//! Several replicas over one store in memory, on paused time, called without anything in between.

pub mod pipe;

use std::sync::Arc;

use bytes::Bytes;
use seen_api::Span;
use seen_filter::{
    FeedId, Incarnation, NamespaceId, NamespaceSettings, Partition, Shard, UnixMillis,
};
use seen_proto::message::{decode, encode};
use seen_proto::v1;
use seen_proto::wire::{FilterCall, MarkCall};
use seen_replica::service::Handled;
use seen_replica::service::filter::ReadMode;
use seen_replica::{Replica, ReplicaLimits, ReplicaOptions, SampleLimits, StorageLimits};
use seen_store::memory::MemoryOptions;
use seen_store::{MemoryStore, StorageClock};
use tokio::sync::watch;
use tokio::time::{Duration, sleep};

/// The only namespace.
pub const READ: &str = "feed_read";
/// The kind of all items.
pub const KIND: u32 = 1;
/// Longer than any call takes on paused time.
const PATIENCE_US: u64 = 50_000_000;
const PARTITIONS: u16 = 4;

/// One replica.
pub struct Node {
    pub replica: Arc<Replica>,
    stop: watch::Sender<bool>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

/// An empty store.
pub fn store() -> MemoryStore {
    let clock = StorageClock::new(|| UnixMillis::new(1_000_000));
    let options = MemoryOptions { partitions: PARTITIONS, ..MemoryOptions::new(clock, 7) };
    MemoryStore::new(options, vec![namespace()]).expect("in range")
}

pub fn namespace() -> NamespaceSettings {
    NamespaceSettings::new(NamespaceId::new(0), READ)
}

pub fn feeds() -> impl Iterator<Item = FeedId> {
    let feed = |partition| FeedId::new(NamespaceId::new(0), Shard::new(0), partition);
    (0..PARTITIONS).map(Partition::new).map(feed)
}

/// How a replica of this store is made.
pub fn options(store: &MemoryStore, incarnation: u64) -> ReplicaOptions {
    // No samples: they would ask storage behind the test's back.
    let samples = SampleLimits { seen_share: 0.0, unread_share: 0.0, checks_per_s_max: 1 };
    ReplicaOptions {
        namespaces: vec![namespace()],
        key: store.hash_key(),
        cluster: 77,
        incarnation: Incarnation::new(incarnation),
        history: Arc::new(store.clone()),
        feed: Arc::new(store.clone()),
        limits: ReplicaLimits { samples, ..ReplicaLimits::default() },
        storage: StorageLimits::default(),
    }
}

impl Node {
    /// A replica that follows its feed.
    pub async fn open(store: &MemoryStore, incarnation: u64) -> Self {
        Self::with(options(store, incarnation)).await
    }

    pub async fn with(options: ReplicaOptions) -> Self {
        let (replica, work) = Replica::new(options).expect("in range");
        let (stop, stopped) = watch::channel(false);
        tokio::spawn(work.run(Arc::clone(&replica), stopped));
        until(|| replica.following_all()).await;
        Self { replica, stop }
    }

    /// The answer to a Filter about items 0 to `ids`, and whether it was given at once.
    pub async fn filter_in(
        &self,
        mode: ReadMode,
        user: u64,
        token: &[u8],
        ids: u64,
    ) -> (v1::FilterResponse, bool) {
        let request = v1::FilterRequest {
            user,
            namespaces: vec![READ.to_owned()],
            candidates: vec![v1::ItemGroup { kind: KIND, ids: (0..ids).collect() }],
            token: token.to_vec(),
            ..Default::default()
        };
        let bytes = encode(&request);
        let call = FilterCall::parse(&bytes).expect("a request");
        let mut out = Vec::new();
        let deadline = self.replica.ticker().now().plus_us(PATIENCE_US);
        match self.replica.filter_in(mode, &call, deadline, &Span::OFF, &mut out).expect("handled")
        {
            Handled::Written => (decode(Bytes::from(out)).expect("a response"), true),
            Handled::Pending(answer) => {
                (decode(answer.await.expect("answered")).expect("a response"), false)
            }
        }
    }

    /// The unread ones of items 0 to `ids`, of an answer that is not degraded, and whether memory gave it.
    pub async fn unread(&self, user: u64, ids: u64) -> (Vec<u32>, bool) {
        let (answer, at_once) = self.filter_in(ReadMode::default(), user, &[], ids).await;
        let quality = answer.quality.expect("always present");
        assert_ne!(quality.level(), v1::QualityLevel::Degraded, "user {user}: {quality:?}");
        (answer.unseen, at_once)
    }

    /// Marks items; the token.
    pub async fn mark(&self, user: u64, ids: impl IntoIterator<Item = u64>) -> Vec<u8> {
        let items = ids.into_iter().map(|id| v1::MarkItem { kind: KIND, id, marked_at_ms: None });
        let request = v1::MarkRequest {
            user,
            namespace: READ.to_owned(),
            items: items.collect(),
            token: Vec::new(),
        };
        let bytes = encode(&request);
        let call = MarkCall::parse(&bytes).expect("a request");
        let deadline = self.replica.ticker().now().plus_us(PATIENCE_US);
        let handled = self.replica.mark(&call, deadline, &Span::OFF, &mut Vec::new());
        let handled = handled.expect("handled");
        let Handled::Pending(answer) = handled else { panic!("something is written") };
        let response: v1::MarkResponse = decode(answer.await.expect("marked")).expect("a response");
        response.token
    }

    /// Has a user's entry built, by asking until memory alone answers.
    pub async fn build(&self, user: u64) {
        while !self.unread(user, 1).await.1 {
            sleep(Duration::from_millis(1)).await;
        }
    }
}

/// Waits for a condition; on paused time that takes no time.
pub async fn until(mut holds: impl FnMut() -> bool) {
    for _ in 0..100_000 {
        if holds() {
            return;
        }
        sleep(Duration::from_millis(1)).await;
    }
    panic!("does not come to hold");
}
