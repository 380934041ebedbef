//! A store in memory behind the same two seams, for tests and simulation: it can be made to fail in
//! every way that a real one fails. It is deterministic: it reads no clock but the storage clock it
//! is handed, waits only on tokio's (paused) clock, and draws faults from the seed it is handed.

mod faults;
mod feed;
mod history;
mod scan;
mod state;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use seen_filter::{
    Domain, FeedId, GapScope, HashKey, NamespaceSettings, PrimaryId, StoreError, Timeline,
};
use tokio::sync::Notify;
use tokio::sync::futures::Notified;

use crate::request::{self, StorageClock, invalid};
use faults::{Dice, Planned};
use feed::{Delivery, Order};
use state::State;

pub use faults::{Chaos, Delays, FeedFault, ReadFault, WriteFault};

/// What the double is made with.
#[derive(Clone, Debug)]
pub struct MemoryOptions {
    /// Feed partitions of each namespace, 1 to 64.
    pub partitions: u16,
    /// Decides the partition of a user.
    pub hash_key: HashKey,
    /// Numbers the commits.
    pub domain: Domain,
    /// The first run of that numbering.
    pub timeline: Timeline,
    /// What reads say they were served by.
    pub primary: PrimaryId,
    /// False for a store that numbers no commits: writes and snapshots then have no stamps, while
    /// events still do.
    pub numbers_commits: bool,
    /// The storage's clock.
    pub clock: StorageClock,
    /// What faults by chance are drawn from.
    pub seed: u64,
    /// How long a reader of the feed waits before it says that it is alive, in milliseconds.
    pub feed_heartbeat_ms: u64,
}

impl MemoryOptions {
    /// A store with four partitions, on this clock.
    pub fn new(clock: StorageClock, seed: u64) -> Self {
        Self {
            partitions: 4,
            hash_key: HashKey::new(1, *b"a key of no note"),
            domain: Domain::new(0),
            timeline: Timeline::new(1),
            primary: PrimaryId::new(1),
            numbers_commits: true,
            clock,
            seed,
            feed_heartbeat_ms: 100,
        }
    }
}

/// A write whose outcome is open until it is landed.
type Stalled = Box<dyn FnOnce(&mut State) + Send>;

/// Everything under the one lock.
struct Core {
    state: State,
    delays: Delays,
    read: Option<Planned<ReadFault>>,
    write: Option<Planned<WriteFault>>,
    chaos: Option<Chaos>,
    dice: Dice,
    stalled: Vec<Stalled>,
    deliveries: BTreeMap<FeedId, Delivery>,
}

impl Core {
    fn delivery(&mut self, feed: FeedId) -> &mut Delivery {
        self.deliveries.entry(feed).or_default()
    }

    /// The last commit that a feed partition may deliver.
    fn visible(&self, feed: FeedId) -> u64 {
        let limit = self.deliveries.get(&feed).and_then(|d| d.limit);
        limit.map_or(self.state.head(), |limit| limit.min(self.state.head()))
    }
}

struct Shared {
    core: Mutex<Core>,
    /// Told of every commit and every turn of a knob. It wakes who waits in the order in which they came, so that
    /// what follows is the same each time.
    changed: Notify,
}

/// The store in memory. Clones share one state.
#[derive(Clone)]
pub struct MemoryStore {
    shared: Arc<Shared>,
}

impl fmt::Debug for MemoryStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("head", &self.head()).finish_non_exhaustive()
    }
}

impl MemoryStore {
    /// An empty store without faults.
    ///
    /// # Errors
    /// `InvalidRequest` for options or namespaces out of range.
    pub fn new(
        options: MemoryOptions,
        namespaces: Vec<NamespaceSettings>,
    ) -> Result<Self, StoreError> {
        request::namespaces(&namespaces)?;
        if !(1..=64).contains(&options.partitions) {
            let value = options.partitions;
            return Err(invalid(format!(
                "partitions = {value} is out of range (allowed: 1 to 64)"
            )));
        }
        let core = Core {
            delays: Delays::default(),
            read: None,
            write: None,
            chaos: None,
            dice: Dice::new(options.seed),
            stalled: Vec::new(),
            deliveries: BTreeMap::new(),
            state: State::new(options, namespaces),
        };
        let shared = Shared { core: Mutex::new(core), changed: Notify::new() };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The last commit's number.
    pub fn head(&self) -> u64 {
        self.with(|core| core.state.head())
    }

    /// The newest commit that a feed partition delivers so far: a reader that begins at its head begins after this one.
    pub fn feed_head(&self, feed: FeedId) -> u64 {
        self.with(|core| core.visible(feed))
    }

    /// The secret that users and items are hashed with.
    pub fn hash_key(&self) -> HashKey {
        self.with(|core| core.state.options.hash_key)
    }

    /// From now on calls take this long.
    pub fn set_delays(&self, delays: Delays) {
        self.turn(|core| core.delays = delays);
    }

    /// The next `calls` reads (all, if `None`) suffer `fault`.
    pub fn fail_reads(&self, fault: ReadFault, calls: Option<u32>) {
        self.turn(|core| core.read = Some(Planned::new(fault, calls)));
    }

    /// The next `calls` writes, forgets and fences (all, if `None`) suffer `fault`.
    pub fn fail_writes(&self, fault: WriteFault, calls: Option<u32>) {
        self.turn(|core| core.write = Some(Planned::new(fault, calls)));
    }

    /// The next `calls` reads of a feed partition (all, if `None`) suffer `fault`.
    pub fn fail_feed(&self, feed: FeedId, fault: FeedFault, calls: Option<u32>) {
        self.turn(|core| core.delivery(feed).fault = Some(Planned::new(fault, calls)));
    }

    /// Faults by chance from now on; `None` ends them.
    pub fn set_chaos(&self, chaos: Option<Chaos>) {
        self.turn(|core| core.chaos = chaos);
    }

    /// Lifts every fault and delay and releases every feed. Stalled writes stay stalled, lost events
    /// stay lost.
    pub fn heal(&self) {
        self.turn(|core| {
            core.delays = Delays::default();
            (core.read, core.write, core.chaos) = (None, None, None);
            for delivery in core.deliveries.values_mut() {
                (delivery.limit, delivery.fault) = (None, None);
            }
        });
    }

    /// Commits the writes that [`WriteFault::Stall`] held back, in order; returns how many.
    pub fn land_stalled(&self) -> usize {
        let mut landed = 0;
        self.turn(|core| {
            for commit in std::mem::take(&mut core.stalled) {
                commit(&mut core.state);
                landed += 1;
            }
        });
        landed
    }

    /// Delivers nothing further on a feed partition until it is released.
    pub fn hold_feed(&self, feed: FeedId) {
        self.turn(|core| {
            let visible = core.visible(feed);
            core.delivery(feed).limit = Some(visible);
        });
    }

    /// Lets a held feed partition deliver this many commits more (of whatever partition).
    pub fn release_commits(&self, feed: FeedId, commits: u64) {
        self.turn(|core| {
            let limit = &mut core.delivery(feed).limit;
            *limit = limit.map(|limit| limit.saturating_add(commits));
        });
    }

    /// Lets a held feed partition deliver everything.
    pub fn release_feed(&self, feed: FeedId) {
        self.turn(|core| core.delivery(feed).limit = None);
    }

    /// Makes every open reader of a feed partition deliver again from commit `position` on.
    pub fn replay_feed(&self, feed: FeedId, position: u64) {
        self.turn(|core| core.delivery(feed).orders.push(Order::Replay(position)));
    }

    /// Makes every open reader of a feed partition report a gap. Nothing is lost by that alone.
    pub fn report_gap(&self, feed: FeedId, scope: GapScope, reason: &'static str) {
        self.turn(|core| core.delivery(feed).orders.push(Order::Gap(scope, reason)));
    }

    /// Never delivers the events of commit `position` on a feed partition, and does not say so.
    pub fn lose_events(&self, feed: FeedId, position: u64) {
        self.turn(|core| {
            core.delivery(feed).lost.insert(position);
        });
    }

    /// Keeps no events up to and including commit `position`: readers that far back meet a gap.
    pub fn trim_log(&self, position: u64) {
        self.turn(|core| {
            core.state.floor = core.state.floor.max(position).min(core.state.head());
        });
    }

    /// Goes on as another timeline and primary, as after a restore or failover: positions of the
    /// old one become incomparable.
    pub fn begin_timeline(&self, timeline: Timeline, primary: PrimaryId) {
        self.turn(|core| {
            (core.state.options.timeline, core.state.options.primary) = (timeline, primary);
        });
    }

    fn with<T>(&self, look: impl FnOnce(&mut Core) -> T) -> T {
        look(&mut self.shared.core.lock())
    }

    /// Changes something that waiting calls must notice.
    fn turn(&self, change: impl FnOnce(&mut Core)) {
        self.with(change);
        self.announce();
    }

    fn announce(&self) {
        self.shared.changed.notify_waiters();
    }

    /// Ends with the next change after this call.
    fn changed(&self) -> Notified<'_> {
        self.shared.changed.notified()
    }
}
