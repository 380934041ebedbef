//! A replica's process: the real replica, its real end of links, and what the server puts around them.

use std::sync::Arc;
use std::time::Duration;

use seen_cluster::link::{ServerOptions, Socket, serve};
use seen_cluster::map::{MapHandle, MapPublisher, ResolvedMap, Slot, SlotMap, SlotNumber};
use seen_cluster::sabotage::defends;
use seen_filter::hash::HashKey;
use seen_filter::{Incarnation, SettingsError, VirtualSet};
use seen_replica::link::readiness::ReadinessLimits;
use seen_replica::link::{ClusterRole, ReplicaLink, Standing};
use seen_replica::warm::{DonorLimits, Progress, WarmupOptions, warm_up};
use seen_replica::{Replica, ReplicaOptions, SampleLimits, StorageLimits};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::cluster::{CLUSTER, Cluster, Seat, namespace};
use crate::dice::Dice;
use crate::net::Accept;
use crate::peers::{Peers, SimDonors};
use crate::process::Process;
use crate::storage::SimStorage;

/// How long a starting replica waits until each peer has answered or failed.
const PEERS_WITHIN: Duration = Duration::from_secs(3);

/// A replica that runs.
pub struct ReplicaNode {
    /// Its process.
    pub process: Arc<Process>,
    /// The replica.
    pub replica: Arc<Replica>,
    /// How it fares.
    pub standing: Arc<Standing>,
    /// Its map's file, as it were.
    pub publisher: MapPublisher,
    seat: Seat,
    peers: Arc<Peers>,
    cluster: Arc<Cluster>,
    _stop: watch::Sender<bool>,
}

impl ReplicaNode {
    /// Starts one, which finds this map and hashes with this key.
    ///
    /// # Errors
    /// The namespace's settings are out of range.
    pub fn start(
        cluster: &Arc<Cluster>,
        seat: Seat,
        map: ResolvedMap,
        key: HashKey,
        mut dice: Dice,
    ) -> Result<Self, SettingsError> {
        let process = Process::begin(&seat.name(), seat.host());
        if cluster.own_runtimes {
            process.open_desk();
        }
        let life = dice.draw() | 1;
        let place = 1 + u64::from(seat.slot) * 100 + u64::from(seat.number);
        // A name that survives a restart proves nothing (rule R9, coherence row 58).
        let incarnation =
            Incarnation::new(if defends("replica.incarnation") { life } else { place });
        let storage = SimStorage::new(&process, cluster, dice.fork());
        let (replica, work) = Replica::new(options(cluster, incarnation, key, storage))?;
        let (stop, stopped) = watch::channel(false);
        process.spawn(work.run(Arc::clone(&replica), stopped));
        let standing = Arc::new(Standing::new(Arc::clone(&replica)));
        let link = Arc::new(ReplicaLink::new(Arc::clone(&standing), role(seat)));
        let peers = Arc::new(Peers::new(&cluster.ways, &process, link.identity().clone()));
        peers.follow(&map);
        let (publisher, map) = MapHandle::new(map);
        let warming = Arc::new(Progress::new());
        let driver = Arc::new(Driver {
            standing: Arc::clone(&standing),
            peers: Arc::clone(&peers),
            map,
            pool: seat.pool(),
            slot: seat.slot_number(),
            warming: Arc::clone(&warming),
        });
        driver.keep(&driver.map.current(), None);
        process.spawn(look(Arc::clone(&standing), warming, Arc::clone(&peers)));
        process.spawn(Arc::clone(&driver).run());
        process.spawn(tell(Arc::clone(&standing), Arc::clone(cluster), Arc::clone(&process)));
        let accept = accept(&process, link, cluster.shape.life_interval);
        cluster.ways.listen(seat.address(), &process, accept);
        cluster.trace.tell(&process.name, "starts");
        let cluster = Arc::clone(cluster);
        Ok(Self { process, replica, standing, publisher, seat, peers, cluster, _stop: stop })
    }

    /// Ends at once, in the middle of everything.
    pub fn crash(&self) {
        self.cluster.ways.leave(self.seat.address());
        self.process.kill();
        self.peers.leave();
        self.cluster.trace.tell(&self.process.name, "crashes");
    }

    /// True if it wants requests.
    pub fn is_ready(&self) -> bool {
        self.process.is_running() && self.standing.unready().is_none()
    }
}

fn options(
    cluster: &Cluster,
    incarnation: Incarnation,
    key: HashKey,
    storage: SimStorage,
) -> ReplicaOptions {
    // What is sampled is not decided by a seed's story; the checker looks at all of it anyway.
    let samples = SampleLimits { seen_share: 0.0, unread_share: 0.0, checks_per_s_max: 1 };
    ReplicaOptions {
        namespaces: vec![namespace(cluster.shape.retention)],
        key,
        cluster: CLUSTER,
        incarnation,
        history: Arc::new(storage.clone()),
        feed: Arc::new(storage),
        limits: seen_replica::ReplicaLimits { samples, ..cluster.limits() },
        storage: StorageLimits::default(),
    }
}

fn role(seat: Seat) -> ClusterRole {
    ClusterRole {
        pool: seat.pool().to_owned(),
        slot: seat.slot_number().get().into(),
        program: "simulated".to_owned(),
        // Little, so that what is not given back is missed.
        credit_bytes: 16 << 10,
        donor: DonorLimits::default(),
    }
}

fn accept(process: &Arc<Process>, link: Arc<ReplicaLink>, life_interval: Duration) -> Accept {
    let options = Arc::new(ServerOptions { life_interval, ..ServerOptions::default() });
    let process = Arc::downgrade(process);
    Arc::new(move |socket: Box<dyn Socket>| {
        let (link, options) = (Arc::clone(&link), Arc::clone(&options));
        let Some(process) = process.upgrade() else { return };
        process.spawn(async move {
            // How a connection ends is the other end's to tell.
            let _ = serve(socket, &*link, &options, std::future::pending()).await;
        });
    })
}

async fn look(standing: Arc<Standing>, warming: Arc<Progress>, peers: Arc<Peers>) {
    let _ = timeout(PEERS_WITHIN, peers.all_tried()).await;
    standing.keep(ReadinessLimits::default(), &warming, || peers.states()).await;
}

/// Takes down whenever it is ready or not any more.
async fn tell(standing: Arc<Standing>, cluster: Arc<Cluster>, process: Arc<Process>) {
    let mut changes = standing.changes();
    let mut told = standing.unready();
    while changes.changed().await.is_ok() {
        let now = standing.unready();
        if now != told {
            let what = now.map_or("is ready".to_owned(), |why| format!("waits: {}", why.text()));
            cluster.trace.tell(&process.name, what);
            told = now;
        }
    }
}

/// Ends a task when it is let go of.
struct AbortOnDrop(JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Users that are being taken over before they are this slot's own.
struct Incoming {
    coming: VirtualSet,
    owners: Vec<SlotNumber>,
    progress: Arc<Progress>,
    _taking: AbortOnDrop,
}

/// Follows the map, as the server's own does.
struct Driver {
    standing: Arc<Standing>,
    peers: Arc<Peers>,
    map: Arc<MapHandle>,
    pool: &'static str,
    slot: SlotNumber,
    warming: Arc<Progress>,
}

impl Driver {
    async fn run(self: Arc<Self>) {
        let mut map = self.map.current();
        let mut incoming = self.begin(&map, None);
        let own = tokio::spawn(Arc::clone(&self).take_own(Arc::clone(&map)));
        let _aborted_with_this = AbortOnDrop(own);
        loop {
            map = self.map.changed(map.revision).await;
            self.peers.follow(&map);
            incoming = self.begin(&map, incoming);
        }
    }

    async fn take_own(self: Arc<Self>, map: Arc<ResolvedMap>) {
        let own = self.own_slot(&map).map_or(VirtualSet::NONE, |slot| slot.owned);
        let _ = timeout(PEERS_WITHIN, self.peers.all_tried()).await;
        self.warm(&map, own, vec![self.slot], &self.warming).await;
    }

    fn begin(
        self: &Arc<Self>,
        map: &Arc<ResolvedMap>,
        before: Option<Incoming>,
    ) -> Option<Incoming> {
        let coming = self.own_slot(map).map(|slot| slot.incoming);
        let coming = coming.filter(|coming| !coming.is_empty());
        let owners = coming.as_ref().map(|coming| self.owners(&map.map, coming));
        let same = before.filter(|before| {
            coming.as_ref() == Some(&before.coming) && owners.as_ref() == Some(&before.owners)
        });
        if let Some(same) = same {
            self.keep(map, Some(Arc::clone(&same.progress)));
            return Some(same);
        }
        let progress = coming.as_ref().map(|_| Arc::new(Progress::new()));
        self.keep(map, progress.clone());
        let (coming, owners, progress) = (coming?, owners?, progress?);
        let (driver, given) = (Arc::clone(self), (Arc::clone(map), coming, owners.clone()));
        let taken = Arc::clone(&progress);
        let taking = tokio::spawn(async move {
            let (map, slots, owners) = given;
            driver.warm(&map, slots, owners, &taken).await;
        });
        Some(Incoming { coming, owners, progress, _taking: AbortOnDrop(taking) })
    }

    fn keep(&self, map: &ResolvedMap, incoming: Option<Arc<Progress>>) {
        let kept = self.own_slot(map).map_or(VirtualSet::NONE, |slot| slot.followed());
        self.standing.set_map(map.map.epoch.get(), &kept, incoming);
    }

    async fn warm(
        &self,
        map: &Arc<ResolvedMap>,
        slots: VirtualSet,
        from: Vec<SlotNumber>,
        progress: &Arc<Progress>,
    ) {
        let donors = SimDonors { peers: Arc::clone(&self.peers), map: Arc::clone(map), from };
        let options = WarmupOptions::of(slots);
        warm_up(self.standing.replica(), &donors, &options, progress).await;
    }

    fn own_slot<'a>(&self, map: &'a ResolvedMap) -> Option<&'a Slot> {
        map.map.pool(self.pool)?.slot(self.slot)
    }

    /// The slots that own some of these, the own one left out.
    fn owners(&self, map: &SlotMap, coming: &VirtualSet) -> Vec<SlotNumber> {
        let slots = map.pool(self.pool).map(|pool| pool.slots().to_vec()).unwrap_or_default();
        let others = slots.into_iter().filter(|slot| slot.number != self.slot);
        let owning = others.filter(|slot| !slot.owned.intersection(coming).is_empty());
        owning.map(|slot| slot.number).collect()
    }
}
