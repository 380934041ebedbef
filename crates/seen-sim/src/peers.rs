//! The other replicas of a slot, as they say they are: what the server's own does, over the simulated network.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use seen_cluster::link::transfer::TransferClient;
use seen_cluster::link::{
    Answer, ClientOptions, LinkChange, LinkClient, LinkEvents, RequestId, VERSION_MAX, VERSION_MIN,
};
use seen_cluster::map::{ResolvedMap, SlotNumber};
use seen_proto::v1;
use seen_replica::link::LinkPeer;
use seen_replica::link::readiness::PeerState;
use seen_replica::warm::Donors;
use tokio::time::{Duration, sleep};

use crate::net::{Dial, Ways};
use crate::process::Process;

/// How often it is looked whether all have answered.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A peer's side of a link, as far as it is heard.
#[derive(Default)]
struct Heard(Mutex<HeardOf>);

#[derive(Default)]
struct HeardOf {
    peer: Option<(v1::ReplicaIdentity, v1::ReplicaState)>,
    tried: bool,
}

impl LinkEvents for Heard {
    fn answered(&self, _id: RequestId, _answer: Answer) {
        // Nothing is asked on this link.
    }

    fn changed(&self, change: LinkChange) {
        let mut heard = self.0.lock();
        heard.tried = true;
        match (change, heard.peer.as_mut()) {
            (LinkChange::Up { identity, state, .. }, _) => heard.peer = Some((identity, state)),
            (LinkChange::State(state), Some((_, known))) => *known = state,
            (LinkChange::Draining, Some((_, known))) => known.draining = true,
            (LinkChange::Refused(_) | LinkChange::Down(_), _) => heard.peer = None,
            (LinkChange::Life | LinkChange::State(_) | LinkChange::Draining, _) => {}
        }
    }
}

struct Watched {
    heard: Arc<Heard>,
    _link: LinkClient,
}

/// Watches the replicas of the own slot.
pub(crate) struct Peers {
    ways: Arc<dyn Ways>,
    process: Arc<Process>,
    own: v1::ReplicaIdentity,
    watched: Mutex<BTreeMap<SocketAddr, Watched>>,
}

impl Peers {
    pub fn new(ways: &Arc<dyn Ways>, process: &Arc<Process>, own: v1::ReplicaIdentity) -> Self {
        let (ways, process) = (Arc::clone(ways), Arc::clone(process));
        Self { ways, process, own, watched: Mutex::default() }
    }

    /// Watches the replicas of the own slot in this map, and no others.
    pub fn follow(&self, map: &ResolvedMap) {
        let slot = SlotNumber::new(self.own.slot as u16);
        let wanted = replicas_of(map, &self.own.pool, &[slot]);
        let mut watched = self.watched.lock();
        watched.retain(|address, _| wanted.contains_key(address));
        for (address, slot) in wanted {
            watched.entry(address).or_insert_with(|| self.watch(address, slot));
        }
    }

    /// Lets go of all of them.
    pub fn leave(&self) {
        self.watched.lock().clear();
    }

    fn dial(&self, to: SocketAddr) -> Dial {
        Dial { ways: Arc::clone(&self.ways), owner: Arc::clone(&self.process), to }
    }

    fn watch(&self, address: SocketAddr, slot: SlotNumber) -> Watched {
        let heard = Arc::new(Heard::default());
        let options = self.options(address, slot, v1::LinkLane::Filters);
        let events = Arc::clone(&heard) as Arc<dyn LinkEvents>;
        let link = LinkClient::start_over(self.dial(address), options, events);
        Watched { heard, _link: link }
    }

    fn options(&self, to: SocketAddr, slot: SlotNumber, lane: v1::LinkLane) -> ClientOptions {
        let own = &self.own;
        let hello = v1::LinkHello {
            version_min: VERSION_MIN,
            version_max: VERSION_MAX,
            cluster: own.cluster,
            pool: own.pool.clone(),
            slot: slot.get().into(),
            slot_known: true,
            hash_version: own.hash_version,
            slot_key_check: own.slot_key_check,
            lane: lane.into(),
            incarnation: own.incarnation,
            program: own.program.clone(),
            ..v1::LinkHello::default()
        };
        ClientOptions::new(to.to_string(), Arc::new(move || hello.clone()))
    }

    /// Waits until each has answered or could not be reached.
    pub async fn all_tried(&self) {
        let tried = || self.watched.lock().values().all(|watched| watched.heard.0.lock().tried);
        while !tried() {
            sleep(LOOK_EVERY).await;
        }
    }

    /// How the peers fare that are heard, this process left out.
    pub fn states(&self) -> Vec<PeerState> {
        self.heard().into_values().collect()
    }

    fn heard(&self) -> BTreeMap<SocketAddr, PeerState> {
        let watched = self.watched.lock();
        let heard = watched.iter().filter_map(|(address, watched)| {
            let heard = watched.heard.0.lock();
            let (identity, state) = heard.peer.as_ref()?;
            let (ready, draining, feed_lag_us) = (state.ready, state.draining, state.feed_lag_us);
            let state = PeerState { ready, draining, feed_lag_us };
            (identity.incarnation != self.own.incarnation).then_some((*address, state))
        });
        heard.collect()
    }
}

/// The replicas of these slots that can give users.
pub(crate) struct SimDonors {
    pub peers: Arc<Peers>,
    pub map: Arc<ResolvedMap>,
    pub from: Vec<SlotNumber>,
}

impl SimDonors {
    fn known(&self) -> BTreeMap<SocketAddr, SlotNumber> {
        let own = SlotNumber::new(self.peers.own.slot as u16);
        let heard = self.peers.heard();
        let is_ready = |address: &SocketAddr| {
            heard.get(address).is_some_and(|state| state.ready && !state.draining)
        };
        let mut known = replicas_of(&self.map, &self.peers.own.pool, &self.from);
        known.retain(|address, slot| *slot != own || is_ready(address));
        known
    }
}

impl Donors for SimDonors {
    type Sink = LinkPeer;
    type Source = LinkPeer;

    fn live(&self) -> Vec<String> {
        self.known().into_keys().map(|address| address.to_string()).collect()
    }

    async fn open(&self, name: &str) -> io::Result<(LinkPeer, LinkPeer)> {
        let address = name.parse().map_err(io::Error::other)?;
        let slot = self.known().get(&address).copied().ok_or(io::ErrorKind::NotFound)?;
        let options = self.peers.options(address, slot, v1::LinkLane::Transfer);
        let dial = self.peers.dial(address);
        let client = TransferClient::connect_over(&dial, options);
        let client = client.await.map_err(|cut| io::Error::other(cut.to_string()))?;
        let peer = LinkPeer::over(client);
        Ok((peer.clone(), peer))
    }
}

/// The replicas of these slots of a pool.
fn replicas_of(
    map: &ResolvedMap,
    pool: &str,
    slots: &[SlotNumber],
) -> BTreeMap<SocketAddr, SlotNumber> {
    let of_pool = map.replicas().filter(|(of, ..)| of.pool.tag() == pool);
    let all = of_pool.filter(|(_, slot, _)| slots.contains(&slot.number));
    all.map(|(_, slot, replica)| (replica.address, slot.number)).collect()
}
