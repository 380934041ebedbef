//! Replicas in this process, over one empty store in memory.

use std::sync::Arc;

use seen_filter::{Incarnation, Item, NamespaceId, NamespaceSettings, UnixMillis, UserId};
use seen_replica::{Replica, ReplicaLimits, ReplicaOptions, SampleLimits, StorageLimits};
use seen_store::memory::MemoryOptions;
use seen_store::{MemoryStore, StorageClock};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::time::{Duration, sleep};

use super::{KIND, NAMESPACE};

const CLUSTER: u64 = 77;
/// Different filters; users share them, since nobody looks at the bits on the way.
const STATES: u64 = 64;

/// A replica that follows its feed. Its storage side runs on the runtime that it was made on.
pub struct Node {
    pub replica: Arc<Replica>,
    stop: watch::Sender<bool>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

fn namespace() -> NamespaceSettings {
    NamespaceSettings::new(NamespaceId::new(0), NAMESPACE)
}

pub fn store() -> MemoryStore {
    let clock = StorageClock::new(|| UnixMillis::new(1_000_000));
    MemoryStore::new(MemoryOptions::new(clock, 7), vec![namespace()]).expect("in range")
}

impl Node {
    pub fn start(runtime: &Runtime, store: &MemoryStore, incarnation: u64) -> Self {
        runtime.block_on(async {
            let samples = SampleLimits { seen_share: 0.0, unread_share: 0.0, checks_per_s_max: 1 };
            let limits =
                ReplicaLimits { samples, cache_bytes_max: u64::MAX, ..ReplicaLimits::default() };
            let options = ReplicaOptions {
                namespaces: vec![namespace()],
                key: store.hash_key(),
                cluster: CLUSTER,
                incarnation: Incarnation::new(incarnation),
                history: Arc::new(store.clone()),
                feed: Arc::new(store.clone()),
                limits,
                storage: StorageLimits::default(),
            };
            let (replica, work) = Replica::new(options).expect("in range");
            let (stop, stopped) = watch::channel(false);
            tokio::spawn(work.run(Arc::clone(&replica), stopped));
            while !replica.following_all() {
                sleep(Duration::from_millis(1)).await;
            }
            Self { replica, stop }
        })
    }

    /// Puts users of so many items into memory.
    pub fn fill(&self, users: u64, items: u64) {
        let state = |of: u64| {
            let mut builder = self.replica.builder(NAMESPACE).expect("its namespace");
            let first = of * items;
            let all = (first..first + items).map(|id| Item::new(KIND, id));
            all.for_each(|item| builder.push(item, UnixMillis::new(0), 0));
            builder.finish()
        };
        let states: Vec<_> = (0..STATES.min(users)).map(state).collect();
        for (user, state) in (0..users).zip(states.iter().cycle()) {
            let filled = self.replica.preload(NAMESPACE, UserId::new(user), state.clone());
            filled.expect("the feed is followed");
        }
    }
}
