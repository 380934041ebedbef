//! The other replicas of a cluster, as they say they are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use seen_cluster::link::{
    Answer, ClientOptions, LinkChange, LinkClient, LinkEvents, RequestId, VERSION_MAX, VERSION_MIN,
};
use seen_cluster::map::{ResolvedMap, SlotNumber};
use seen_proto::v1;
use seen_replica::link::readiness::PeerState;
use tokio::time::sleep;

use crate::node::LinkTls;

/// A slot of a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The pool.
    pub pool: String,
    /// The slot within the pool.
    pub slot: SlotNumber,
}

/// A replica that the map names.
#[derive(Clone, Debug)]
pub(super) struct Named {
    place: Place,
    name: String,
}

/// What a peer said last.
#[derive(Clone, Debug)]
struct Peer {
    identity: v1::ReplicaIdentity,
    state: v1::ReplicaState,
}

/// A peer's side of a link, as far as it is heard.
#[derive(Default)]
struct Heard(Mutex<HeardOf>);

#[derive(Default)]
struct HeardOf {
    peer: Option<Peer>,
    /// It has answered, or could not be reached.
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
            (LinkChange::Up { identity, state, .. }, _) => {
                heard.peer = Some(Peer { identity, state });
            }
            (LinkChange::State(state), Some(peer)) => peer.state = state,
            (LinkChange::Draining, Some(peer)) => peer.state.draining = true,
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
pub(super) struct Peers {
    own: v1::ReplicaIdentity,
    tls: Option<LinkTls>,
    watched: Mutex<BTreeMap<String, Watched>>,
}

impl Peers {
    pub(super) fn new(own: v1::ReplicaIdentity, tls: Option<LinkTls>) -> Self {
        Self { own, tls, watched: Mutex::default() }
    }

    /// Watches the replicas of the own slot in this map, and no others. Call it on a runtime.
    pub(super) fn follow(&self, map: &ResolvedMap) {
        let wanted = named(map, &[super::place(&self.own)]);
        let mut watched = self.watched.lock();
        watched.retain(|address, _| wanted.contains_key(address));
        for (address, named) in wanted {
            watched.entry(address).or_insert_with_key(|address| self.watch(address, &named));
        }
    }

    fn watch(&self, address: &str, named: &Named) -> Watched {
        let heard = Arc::new(Heard::default());
        let options = self.options(address, Some(named), v1::LinkLane::Filters);
        let link = LinkClient::start(options, Arc::clone(&heard) as Arc<dyn LinkEvents>);
        Watched { heard, _link: link }
    }

    /// How to connect to a replica that the map names; of the own slot, where it does not.
    pub(super) fn options(
        &self,
        address: &str,
        named: Option<&Named>,
        lane: v1::LinkLane,
    ) -> ClientOptions {
        let own = &self.own;
        let place = named.map_or_else(|| super::place(own), |named| named.place.clone());
        let hello = v1::LinkHello {
            version_min: VERSION_MIN,
            version_max: VERSION_MAX,
            cluster: own.cluster,
            pool: place.pool,
            slot: place.slot.get().into(),
            slot_known: true,
            hash_version: own.hash_version,
            slot_key_check: own.slot_key_check,
            // While settings change, peers have different ones: what is the same is told by the donor, namespace by namespace.
            settings: Vec::new(),
            lane: lane.into(),
            incarnation: own.incarnation,
            program: own.program.clone(),
            ..v1::LinkHello::default()
        };
        let mut options = ClientOptions::new(address, Arc::new(move || hello.clone()));
        if let Some(tls) = &self.tls {
            let name = named.map_or(address, |named| named.name.as_str());
            let host = name.rsplit_once(':').map_or(name, |(host, _)| host);
            options.tls = Some(tls.client.clone());
            options.tls_name = Some(tls.name.clone().unwrap_or_else(|| host.to_owned()));
        }
        options
    }

    /// Waits until each has answered or could not be reached.
    pub(super) async fn all_tried(&self, look_every: Duration) {
        let tried = || self.watched.lock().values().all(|watched| watched.heard.0.lock().tried);
        while !tried() {
            sleep(look_every).await;
        }
    }

    /// How the peers fare that are heard. Never this process itself, which the map names as well.
    pub(super) fn states(&self) -> Vec<PeerState> {
        self.heard().map(|(_, state)| state).collect()
    }

    fn heard(&self) -> impl Iterator<Item = (String, PeerState)> {
        let watched = self.watched.lock();
        let heard = watched.iter().filter_map(|(address, watched)| {
            let heard = watched.heard.0.lock();
            let peer = heard.peer.as_ref()?;
            let state = PeerState {
                ready: peer.state.ready,
                draining: peer.state.draining,
                feed_lag_us: peer.state.feed_lag_us,
            };
            (peer.identity.incarnation != self.own.incarnation).then(|| (address.clone(), state))
        });
        heard.collect::<Vec<_>>().into_iter()
    }

    /// The replicas of these slots that can give users: of the own slot, those that are heard and ready.
    pub(super) fn donors(&self, map: &ResolvedMap, from: &[Place]) -> BTreeMap<String, Named> {
        let own = super::place(&self.own);
        let ready: Vec<String> = self
            .heard()
            .filter(|(_, state)| state.ready && !state.draining)
            .map(|(address, _)| address)
            .collect();
        let mut donors = named(map, from);
        donors.retain(|address, named| named.place != own || ready.contains(address));
        donors
    }
}

/// The replicas of these slots, by their addresses.
fn named(map: &ResolvedMap, places: &[Place]) -> BTreeMap<String, Named> {
    let all = map.replicas().map(|(pool, slot, replica)| {
        let place = Place { pool: pool.pool.tag().to_owned(), slot: slot.number };
        (replica.address.to_string(), Named { place, name: replica.name.to_string() })
    });
    all.filter(|(_, named)| places.contains(&named.place)).collect()
}
