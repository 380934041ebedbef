//! One simulated cluster from its start to the last check.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use seen_cluster::map::SlotMap;
use seen_filter::hash::HashKey;
use seen_filter::history::{Write, WriteOp};
use seen_filter::settings::Retention;
use seen_filter::{ChangeFeed, History, Incarnation, Item, NamespaceId, UserId};
use seen_proto::token::WildcardSource;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::aim::{Aim, Habit};
use crate::caller::{Callers, GRACE, KIND, OWN_RUNTIMES_GRACE, Session};
use crate::checker::{self, InTheEnd};
use crate::cluster::{Cluster, RING_EVENTS_MAX, Seat, Shape, resolved};
use crate::dice::Dice;
use crate::faults::{self, Fault};
use crate::ledger::{Deed, Ledger, Outcome};
use crate::net::Ways;
use crate::process::{Host, Process};
use crate::proxy::ProxyNode;
use crate::replica::ReplicaNode;
use crate::report::Played;
use crate::sabotage;
use crate::time::now;
use crate::workload;

/// How long callers call.
const CALLS_FOR: Duration = Duration::from_secs(12);
/// Faults begin within this time of the callers' begin.
const FAULTS_WITHIN: Duration = Duration::from_secs(9);
/// How long everything may take until it is well again.
const WELL_WITHIN: Duration = Duration::from_secs(15);
/// One feed lag, a fence after one that was lost (5 s), and the rebuilds that follow from it.
const SETTLES: Duration = Duration::from_millis(7_000);
/// More commits than a seed has.
const VANISHING_COMMITS: u64 = 4_000;
/// Seeds without an aim that have a pool for pushes, of a thousand.
const PUSH_POOL_PER_MILLE: u64 = 300;
/// How often it is looked whether something is so.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What a run is like, beside its seed.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// False to leave all faults out.
    pub faults: bool,
    /// True to lose every third event and say nothing of it, against which nothing defends: the checks must find it.
    pub events_vanish: bool,
    /// True to take down all that happens.
    pub traced: bool,
    /// The defence to play without, by its name; see [`crate::sabotage`].
    pub without: Option<&'static str>,
}

impl Default for Options {
    fn default() -> Self {
        Self { faults: true, events_vanish: false, traced: true, without: None }
    }
}

impl Options {
    /// As usual, and nothing is taken down.
    pub fn quiet() -> Self {
        Self { traced: false, ..Self::default() }
    }
}

/// A simulated cluster.
pub struct World {
    /// What all processes share.
    pub cluster: Arc<Cluster>,
    /// What all callers share.
    pub callers: Arc<Callers>,
    replicas: Mutex<BTreeMap<Seat, ReplicaNode>>,
    map: Mutex<SlotMap>,
    dice: Mutex<Dice>,
    timeline: AtomicU64,
    /// What goes wrong for what the seed aims at.
    aimed: Option<Vec<Fault>>,
}

/// Plays a seed to its end.
///
/// # Errors
/// The simulation itself could not be set up.
pub fn play(seed: u64, options: Options) -> Result<Played, String> {
    let mut runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = runtime.enable_time().start_paused(true).build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    let _given_back = sabotage::take_away(options.without)?;
    runtime.block_on(async {
        let world = World::begin(seed, options)?;
        world.live(options).await?;
        let report = std::mem::take(&mut *world.callers.report.lock());
        Ok(Played { seed, report, events: world.cluster.trace.take() })
    })
}

impl World {
    /// One of this shape, without any process: see [`Cluster::begin`].
    ///
    /// # Errors
    /// The shape has no slot, or no replica.
    pub fn of(shape: Shape, mut dice: Dice, ways: Option<Arc<dyn Ways>>) -> Result<Self, String> {
        let grace = if ways.is_some() { OWN_RUNTIMES_GRACE } else { GRACE };
        let cluster = Cluster::begin(shape, &mut dice, ways).map_err(|error| error.to_string())?;
        let map = cluster.first_map().map_err(|error| error.to_string())?;
        let callers = Arc::new(Callers {
            cluster: Arc::clone(&cluster),
            proxies: Mutex::new((0..shape.proxies).map(|_| None).collect()),
            ledger: Mutex::new(Ledger::of(shape.retention, &cluster.clock)),
            report: Mutex::default(),
            wildcards: WildcardSource::new(Incarnation::new(dice.draw() | 1)),
            grace,
        });
        Ok(Self {
            cluster,
            callers,
            replicas: Mutex::default(),
            map: Mutex::new(map),
            dice: Mutex::new(dice),
            timeline: AtomicU64::new(1),
            aimed: None,
        })
    }

    fn begin(seed: u64, options: Options) -> Result<Arc<Self>, String> {
        let mut dice = Dice::new(seed);
        let (aim, mut aims) = Aim::of(seed);
        let aim = if options.faults { aim } else { Aim::None };
        let mut shape = Shape {
            proxies: 2,
            slots: 2,
            replicas: 2,
            push_replicas: 0,
            numbers_commits: dice.in_mille(700),
            cache_bytes_max: if dice.in_mille(150) { 6_000 } else { 1 << 20 },
            life_interval: Duration::from_millis(100),
            retention: dice
                .in_mille(200)
                .then(|| Retention { span_ms: 1_000 * dice.within(4..=9), bucket_ms: 1_000 }),
            feed_events_max: if dice.in_mille(600) { 1_024 } else { dice.within(1..=6) as usize },
            ring_events_max: RING_EVENTS_MAX,
            habit: Habit::USUAL,
            traced: options.traced,
        };
        aim.change(&mut shape, &mut aims);
        if aim == Aim::None && aims.in_mille(PUSH_POOL_PER_MILLE) {
            shape.push_replicas = aims.within(1..=2) as u16;
        }
        let aimed = aim.faults(&shape, &mut aims);
        Ok(Arc::new(Self { aimed, ..Self::of(shape, dice, None)? }))
    }

    async fn live(self: &Arc<Self>, options: Options) -> Result<(), String> {
        self.cluster.net.begin();
        self.fill().await.map_err(|error| error.to_string())?;
        self.cluster.shape.seats().into_iter().for_each(|seat| self.start_replica(seat));
        (0..self.cluster.shape.proxies).for_each(|number| self.start_proxy(number));
        if !self.is_well_within(WELL_WITHIN).await {
            self.callers.broken(None, 4, "the cluster did not start".to_owned());
            return Ok(());
        }
        if options.events_vanish {
            self.lose_events();
        }
        let mut dice = self.dice.lock().fork();
        let faults = match options.faults {
            true => {
                let draw = || faults::draw(&mut dice, self, FAULTS_WITHIN);
                self.aimed.clone().unwrap_or_else(draw)
            }
            false => Vec::new(),
        };
        self.callers.report.lock().faults = faults.len() as u64;
        let faultless = faults.is_empty();
        let until = Instant::now() + CALLS_FOR;
        let mut tasks = JoinSet::new();
        for user in workload::users() {
            // Some have two devices.
            for device in 0..1 + u64::from(user % 4 == 0) {
                // What looks after pushes writes as well, and its pool's users are cached.
                let tag = if device == 0 { "" } else { self.cluster.shape.push_tag() };
                let session = Session::new(user, device, tag);
                let callers = Arc::clone(&self.callers);
                tasks.spawn(workload::browse(callers, session, dice.fork(), until));
            }
        }
        tasks.spawn(workload::push(Arc::clone(&self.callers), dice.fork(), until));
        for fault in faults {
            tasks.spawn(faults::befall(Arc::clone(self), fault));
        }
        while tasks.join_next().await.is_some() {}
        self.heal();
        if !self.is_well_within(WELL_WITHIN).await {
            self.callers.broken(None, 4, "the cluster did not become well again".to_owned());
        }
        sleep(SETTLES).await;
        checker::check(self, faultless, InTheEnd::AllIsWell).await
    }

    /// Brings into storage what heavy users read before.
    ///
    /// # Errors
    /// The store in memory cannot be written: a fault of the simulation.
    pub async fn fill(&self) -> Result<(), seen_filter::StoreError> {
        for user in workload::users().filter(|user| workload::is_heavy(*user)) {
            let ids: Vec<u64> = (0..workload::HEAVY_ITEMS).collect();
            let items = ids.iter().map(|id| (Item::new(KIND as u8, *id), None)).collect();
            let write = Write {
                namespace: NamespaceId::new(0),
                user: UserId::new(user),
                op: WriteOp::Append,
                items,
            };
            self.cluster.store.write(vec![write]).await?;
            let mut ledger = self.callers.ledger.lock();
            let op = ledger.begin(user, Deed::Mark, &ids);
            ledger.end(op, Outcome::Acknowledged(now()), self.cluster.store.head());
        }
        Ok(())
    }

    fn lose_events(&self) {
        let store = &self.cluster.store;
        let feeds = store.feeds();
        for position in (1..VANISHING_COMMITS).filter(|position| position % 3 == 0) {
            feeds.iter().for_each(|feed| store.lose_events(*feed, store.head() + position));
        }
    }

    /// Starts a replica, unless it runs.
    pub fn start_replica(&self, seat: Seat) {
        self.start_replica_with(seat, self.cluster.store.hash_key());
    }

    /// Starts one that hashes with this key, unless it runs.
    pub fn start_replica_with(&self, seat: Seat, key: HashKey) {
        let mut replicas = self.replicas.lock();
        if replicas.get(&seat).is_some_and(|node| !node.process.is_dead()) {
            return;
        }
        let (map, dice) = (resolved(self.map.lock().clone()), self.dice.lock().fork());
        match ReplicaNode::start(&self.cluster, seat, map, key, dice) {
            Ok(node) => drop(replicas.insert(seat, node)),
            Err(error) => self.callers.broken(None, 4, error.to_string()),
        }
    }

    /// Ends a replica at once.
    pub fn crash_replica(&self, seat: Seat) {
        let node = self.replicas.lock().remove(&seat);
        if let Some(node) = node {
            node.crash();
        }
    }

    /// A replica is no more.
    pub fn remove_replica(&self, seat: Seat) {
        self.crash_replica(seat);
        self.replicas.lock().remove(&seat);
    }

    /// The map, as whoever starts now finds it.
    pub fn map(&self) -> SlotMap {
        self.map.lock().clone()
    }

    /// Puts a map into use: everybody has it after a time of its own.
    pub fn publish(self: &Arc<Self>, map: &SlotMap, mut after: impl FnMut() -> Duration) {
        *self.map.lock() = map.clone();
        let seats: Vec<Seat> = self.replicas.lock().keys().copied().collect();
        for seat in seats {
            let (world, map, after) = (Arc::clone(self), resolved(map.clone()), after());
            tokio::spawn(async move {
                sleep(after).await;
                if let Some(node) = world.replicas.lock().get(&seat) {
                    node.publisher.publish(map);
                }
            });
        }
        for number in 0..usize::from(self.cluster.shape.proxies) {
            let (world, map, after) = (Arc::clone(self), resolved(map.clone()), after());
            tokio::spawn(async move {
                sleep(after).await;
                if let Some(Some(node)) = world.callers.proxies.lock().get(number) {
                    node.publisher.publish(map);
                }
            });
        }
    }

    /// Starts a proxy, unless it runs.
    pub fn start_proxy(&self, number: u16) {
        let (map, dice) = (resolved(self.map.lock().clone()), self.dice.lock().fork());
        let mut proxies = self.callers.proxies.lock();
        if let Some(place @ None) = proxies.get_mut(usize::from(number)) {
            *place = Some(ProxyNode::start(&self.cluster, number, map, dice));
        }
    }

    /// Ends a proxy at once.
    pub fn crash_proxy(&self, number: u16) {
        let mut proxies = self.callers.proxies.lock();
        let node = proxies.get_mut(usize::from(number)).and_then(Option::take);
        drop(proxies);
        if let Some(node) = node {
            node.crash(&self.cluster);
        }
    }

    /// A replica's process.
    pub fn replica_process(&self, seat: Seat) -> Option<Arc<Process>> {
        self.replicas.lock().get(&seat).map(|node| Arc::clone(&node.process))
    }

    /// A proxy's process.
    pub fn proxy_process(&self, number: u16) -> Option<Arc<Process>> {
        let proxies = self.callers.proxies.lock();
        let node = proxies.get(usize::from(number))?.as_ref()?;
        Some(Arc::clone(&node.process))
    }

    /// All machines.
    pub fn hosts(&self) -> impl Iterator<Item = Host> {
        let seats = self.cluster.shape.seats().into_iter().map(Seat::host);
        (0..self.cluster.shape.proxies).map(Host).chain(seats)
    }

    /// The number of another run of storage's numbering.
    pub fn next_timeline(&self) -> u64 {
        self.timeline.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Does something with each replica that runs.
    pub fn each_replica(&self, mut each: impl FnMut(&ReplicaNode)) {
        self.replicas.lock().values().for_each(&mut each);
    }

    /// Ends all faults.
    fn heal(&self) {
        self.cluster.net.heal();
        self.cluster.weather.heal();
        self.cluster.store.heal();
        self.cluster.store.land_stalled();
        self.each_replica(|node| node.process.thaw());
        for number in 0..self.cluster.shape.proxies {
            if let Some(process) = self.proxy_process(number) {
                process.thaw();
            }
            self.start_proxy(number);
        }
        self.cluster.shape.seats().into_iter().for_each(|seat| self.start_replica(seat));
        self.cluster.trace.tell(&"fault".into(), "all is healed");
    }

    /// Waits until all is well, for so long at most. False if it is not by then.
    pub async fn is_well_within(&self, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        while !self.is_well().await {
            if Instant::now() >= until {
                return false;
            }
            sleep(LOOK_EVERY).await;
        }
        true
    }

    /// True if every replica is ready, and every proxy knows that.
    async fn is_well(&self) -> bool {
        let replicas = {
            let replicas = self.replicas.lock();
            if !replicas.values().all(ReplicaNode::is_ready) {
                return false;
            }
            replicas.len()
        };
        let proxies = self.callers.proxies.lock().clone();
        for node in proxies {
            let Some(ProxyNode { process, proxy, .. }) = node else { return false };
            let Some(views) = process.ask(move || proxy.replicas()).await else { return false };
            if views.len() != replicas || views.iter().any(|view| view.state != "up") {
                return false;
            }
        }
        true
    }
}
