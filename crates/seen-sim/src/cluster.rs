//! What all processes of a simulated cluster share.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use seen_cluster::map::plan::Members;
use seen_cluster::map::{
    Epoch, MapDraft, MapError, PoolDraft, ReplicaAddress, ResolvedMap, SlotMap, SlotNumber,
    WEIGHT_DEFAULT,
};
use seen_filter::settings::Retention;
use seen_filter::{NamespaceId, NamespaceSettings, StoreError, UnixMillis};
use seen_replica::ReplicaLimits;
use seen_replica::rules::RING_EVENT_BYTES;
use seen_store::memory::MemoryOptions;
use seen_store::{MemoryStore, StorageClock};
use tokio::time::Instant;

use crate::aim::Habit;
use crate::dice::Dice;
use crate::net::{Net, Ways};
use crate::process::Host;
use crate::storage::{Applied, Deadlines, Heads, Weather};
use crate::time::now;
use crate::trace::Trace;

/// The only namespace.
pub const NAMESPACE: &str = "feed_read";
/// The pool that answers whoever asks for none.
pub const POOL: &str = "feed";
/// The pool of pushes, in clusters that have one.
pub const PUSH_POOL: &str = "push";
/// The seats of that pool are those of slots from here on.
const PUSH_SLOTS_FROM: u16 = 8;
/// The cluster's number.
pub const CLUSTER: u64 = 0x5ee_0000_0000_0001;
/// The port of all replicas.
const PORT: u16 = 7_430;
/// Feed partitions.
pub const PARTITIONS: u16 = 4;
/// Events of a partition that a replica keeps: more than a seed has.
pub const RING_EVENTS_MAX: usize = 2_184;
/// By how much a read may lag where commits have no numbers: S.
pub const SNAPSHOT_LAG: Duration = Duration::from_millis(500);
/// When the storage's clock begins, in milliseconds since 1970.
const BEGIN_MS: u64 = 1_700_000_000_000;

/// A replica's place: it outlives the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seat {
    /// Its slot, the pool's among those of all pools.
    pub slot: u16,
    /// Its number within the slot.
    pub number: u16,
}

impl Seat {
    /// Where it is.
    pub fn address(self) -> SocketAddr {
        let ip = Ipv4Addr::new(10, 0, self.slot as u8, self.number as u8 + 1);
        SocketAddr::from((ip, PORT))
    }

    /// The pool that its slot is of.
    pub const fn pool(self) -> &'static str {
        if self.slot < PUSH_SLOTS_FROM { POOL } else { PUSH_POOL }
    }

    /// The number of its slot in its pool.
    pub const fn slot_number(self) -> SlotNumber {
        SlotNumber::new(self.slot % PUSH_SLOTS_FROM)
    }

    /// Its machine.
    pub const fn host(self) -> Host {
        Host(100 + self.slot * 10 + self.number)
    }

    /// Its name, for people.
    pub fn name(self) -> String {
        format!("replica {}.{}", self.slot, self.number)
    }
}

/// What differs between clusters.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Proxies.
    pub proxies: u16,
    /// Slots.
    pub slots: u16,
    /// Replicas of each slot.
    pub replicas: u16,
    /// Replicas of the pool of pushes, which has one slot; 0 = there is no such pool.
    pub push_replicas: u16,
    /// False for a store that numbers no commits.
    pub numbers_commits: bool,
    /// Bytes that a replica may keep of its users.
    pub cache_bytes_max: u64,
    /// After how long without anything else a replica says that it lives.
    pub life_interval: Duration,
    /// For how long rows are kept, if not for ever.
    pub retention: Option<Retention>,
    /// Events that a replica takes from the feed at once: with few, a commit comes in pieces.
    pub feed_events_max: usize,
    /// Events of a partition that a replica keeps.
    pub ring_events_max: usize,
    /// What users do.
    pub habit: Habit,
    /// True if what happens is taken down.
    pub traced: bool,
}

impl Shape {
    /// All seats of the first map.
    pub fn seats(&self) -> Vec<Seat> {
        let of = |slot| (0..self.replicas).map(move |number| Seat { slot, number });
        let push = (0..self.push_replicas).map(|number| Seat { slot: PUSH_SLOTS_FROM, number });
        (0..self.slots).flat_map(of).chain(push).collect()
    }

    /// What a push names as its pool; empty if it names none.
    pub const fn push_tag(&self) -> &'static str {
        if self.push_replicas > 0 { PUSH_POOL } else { "" }
    }
}

/// Storage's clock, which may jump.
#[derive(Debug)]
pub struct Clock {
    began: Instant,
    ahead_ms: AtomicI64,
    highest_ms: AtomicU64,
}

impl Clock {
    /// What it shows.
    pub fn now_ms(&self) -> u64 {
        let passed_ms = BEGIN_MS + now().duration_since(self.began).as_millis() as u64;
        let now_ms = passed_ms.saturating_add_signed(self.ahead_ms.load(Ordering::Relaxed));
        self.highest_ms.fetch_max(now_ms, Ordering::Relaxed);
        now_ms
    }

    /// The most that it ever showed to anybody: what expired by that may be gone from memory, though the clock went back.
    pub fn highest_ms(&self) -> u64 {
        self.now_ms().max(self.highest_ms.load(Ordering::Relaxed))
    }

    /// It jumps by so much.
    pub fn jump(&self, ms: i64) {
        self.ahead_ms.fetch_add(ms, Ordering::Relaxed);
    }
}

/// How long nothing was wrong.
#[derive(Debug, Default)]
pub struct Calm(Mutex<(u64, Option<Instant>)>);

impl Calm {
    /// Something goes wrong.
    pub fn disturb(&self) {
        self.0.lock().0 += 1;
    }

    /// It is over.
    pub fn settle(&self) {
        let mut calm = self.0.lock();
        *calm = (calm.0.saturating_sub(1), Some(now()));
    }

    /// For how long nothing has been wrong; zero while anything is, `None` if nothing ever was.
    pub fn lasts(&self) -> Option<Duration> {
        match *self.0.lock() {
            (0, since) => since.map(|since| now().duration_since(since)),
            _ => Some(Duration::ZERO),
        }
    }
}

/// What all processes share.
pub struct Cluster {
    /// The network of this crate, unless processes reach each other in another way.
    pub net: Arc<Net>,
    /// How processes reach each other.
    pub ways: Arc<dyn Ways>,
    /// True if each process has a runtime of its own.
    pub own_runtimes: bool,
    /// Storage.
    pub store: MemoryStore,
    /// How storage fares.
    pub weather: Arc<Weather>,
    /// Storage's clock.
    pub clock: Arc<Clock>,
    /// How far the change feed is applied.
    pub applied: Arc<Applied>,
    /// When storage's newest commit was which one.
    pub heads: Arc<Heads>,
    /// When the callers of writes give up.
    pub deadlines: Arc<Deadlines>,
    /// When anything was wrong last.
    pub calm: Calm,
    /// What happens.
    pub trace: Arc<Trace>,
    /// What differs between clusters.
    pub shape: Shape,
}

impl Cluster {
    /// An empty one, without any process, whose processes all run in one runtime and on this crate's network, or else each in
    /// its own and on these `ways`.
    ///
    /// # Errors
    /// The store refuses its options.
    pub fn begin(
        shape: Shape,
        dice: &mut Dice,
        ways: Option<Arc<dyn Ways>>,
    ) -> Result<Arc<Self>, StoreError> {
        let clock = Arc::new(Clock {
            began: now(),
            ahead_ms: AtomicI64::new(0),
            highest_ms: AtomicU64::new(0),
        });
        let storage_clock = {
            let clock = Arc::clone(&clock);
            StorageClock::new(move || UnixMillis::new(clock.now_ms()))
        };
        let options = MemoryOptions {
            partitions: PARTITIONS,
            numbers_commits: shape.numbers_commits,
            ..MemoryOptions::new(storage_clock, dice.draw())
        };
        let net = Net::new(dice.fork());
        Ok(Arc::new(Self {
            own_runtimes: ways.is_some(),
            ways: ways.unwrap_or_else(|| Arc::new(Arc::clone(&net))),
            net,
            store: MemoryStore::new(options, vec![namespace(shape.retention)])?,
            weather: Arc::default(),
            clock,
            applied: Arc::default(),
            heads: Arc::default(),
            deadlines: Arc::default(),
            calm: Calm::default(),
            trace: Arc::new(Trace::begin(shape.traced)),
            shape,
        }))
    }

    /// The map that it begins with.
    ///
    /// # Errors
    /// None, unless the shape has no slot or no replica.
    pub fn first_map(&self) -> Result<SlotMap, MapError> {
        let slots = (0..self.shape.slots).map(|slot| members(slot, self.shape.replicas));
        let slots: Vec<Members> = slots.collect();
        let mut pools = vec![PoolDraft::even(POOL, &slots)];
        if self.shape.push_replicas > 0 {
            let push = members(PUSH_SLOTS_FROM, self.shape.push_replicas);
            pools.push(PoolDraft::even(PUSH_POOL, &[push]));
        }
        SlotMap::new(MapDraft {
            epoch: Epoch::new(1),
            cluster: CLUSTER,
            slot_key: self.store.hash_key().slot_key(),
            settings: Vec::new(),
            namespace_pools: Default::default(),
            default_pool: POOL.to_owned(),
            pools,
        })
    }

    /// The bounds of its replicas. A store that numbers its commits is as the embedded one: what is read is fresh.
    pub fn limits(&self) -> ReplicaLimits {
        let numbered = self.shape.numbers_commits;
        ReplicaLimits {
            cache_bytes_max: self.shape.cache_bytes_max,
            ring_bytes_max: self.shape.ring_events_max * RING_EVENT_BYTES,
            journal_bytes_max: 256 << 10,
            snapshot_lag_us_max: if numbered { 0 } else { SNAPSHOT_LAG.as_micros() as u64 },
            heartbeat_fences: !numbered,
            feed_events_max: self.shape.feed_events_max,
            ..ReplicaLimits::default()
        }
    }
}

/// The replicas of a slot, as a map states them.
pub fn members(slot: u16, replicas: u16) -> Members {
    let replica = |number| ReplicaAddress {
        address: Seat { slot, number }.address().to_string(),
        weight: WEIGHT_DEFAULT,
    };
    Members { replicas: (0..replicas).map(replica).collect(), ..Members::default() }
}

/// The only namespace's settings.
pub fn namespace(retention: Option<Retention>) -> NamespaceSettings {
    NamespaceSettings { retention, ..NamespaceSettings::new(NamespaceId::new(0), NAMESPACE) }
}

/// A map as processes route by it.
pub fn resolved(map: SlotMap) -> ResolvedMap {
    let revision = u64::from(map.epoch.get());
    ResolvedMap { revision, ..ResolvedMap::of_addresses(Arc::new(map)) }
}
