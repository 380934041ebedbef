//! A node as the replica of a slot: its map, its links, its peers, and how it warms up.

mod peers;

use seen_filter::VirtualSet;
use std::sync::Arc;
use std::time::Duration;

use seen_api::Tracer;
use seen_cluster::link::ServerOptions;
use seen_cluster::map::{
    MapHandle, MapSource, ResolvedMap, Slot, SlotMap, SlotNumber, SourceOptions,
};
use seen_proto::v1;
use seen_replica::Replica;
use seen_replica::link::readiness::ReadinessLimits;
use seen_replica::link::{ClusterRole, LinkDonors, ReplicaLink, Standing};
use seen_replica::warm::{DonorLimits, Progress, Summary, WarmupOptions, warm_up};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::{NodeError, tls};
use crate::config::{ClusterConfig, Config};
use crate::readiness::Readiness;
use crate::serving::{LinkOptions, LinkThreads};
use crate::shutdown::Stop;
use peers::{Peers, Place};

/// How long a starting replica waits until each peer has answered or failed.
const PEERS_WITHIN: Duration = Duration::from_secs(3);
/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// The period over which a donor's share of a processor is counted.
const DONOR_PERIOD_US: u64 = 10_000;
/// How long a replica that is ending still answers before it closes its links: proxies are told first.
const NOTICE: Duration = Duration::from_millis(200);

/// The part of a node that makes it a replica of a slot.
pub(super) struct ClusterSide {
    standing: Arc<Standing>,
    identity: v1::ReplicaIdentity,
    warming: Arc<Progress>,
    links: JoinHandle<()>,
    tasks: Vec<JoinHandle<()>>,
}

impl ClusterSide {
    /// Reads the map, and serves links from now on.
    ///
    /// # Errors
    /// [`NodeError`]: the map, certificates, or a map that is another cluster's.
    pub(super) async fn start(
        config: &Config,
        replica: &Arc<Replica>,
        listener: TcpListener,
        readiness: Readiness,
        stop: &Stop,
        tracer: Tracer,
    ) -> Result<Self, NodeError> {
        let cluster = &config.cluster;
        let path = cluster.map.as_ref().ok_or_else(super::map_is_unset)?;
        let (map, watching) = MapSource::start(SourceOptions::new(path)).await?;
        let tls = tls::link(&config.tls)?;
        let standing = Arc::new(Standing::new(Arc::clone(replica)));
        let link = ReplicaLink::new(Arc::clone(&standing), role(cluster)).traced(tracer);
        let link = Arc::new(link);
        let identity = link.identity().clone();
        check(&map.current().map, &identity)?;
        let server_tls = tls.as_ref().map(|tls| tls.server.clone());
        let links = serve(config, &link, listener, server_tls, stop)?;
        let peers = Arc::new(Peers::new(identity.clone(), tls));
        peers.follow(&map.current());
        let warming = Arc::new(Progress::new());
        let driver = Driver {
            standing: Arc::clone(&standing),
            peers: Arc::clone(&peers),
            map,
            place: place(&identity),
            warming: Arc::clone(&warming),
        };
        driver.keep(&driver.map.current(), None);
        let limits = limits(config);
        let tasks = vec![
            tokio::spawn(watching),
            tokio::spawn(keep(Arc::clone(&standing), limits, Arc::clone(&warming), peers)),
            tokio::spawn(tell(Arc::clone(&standing), readiness)),
            tokio::spawn(Arc::new(driver).run(cluster.warm_share > 0.0)),
        ];
        Ok(Self { standing, identity, warming, links, tasks })
    }

    /// As the operator's service shows it.
    pub(super) fn status(&self) -> impl Fn() -> v1::ClusterStatus + Send + Sync + 'static {
        let (standing, identity) = (Arc::clone(&self.standing), self.identity.clone());
        let warming = Arc::clone(&self.warming);
        move || {
            let state = standing.state();
            let warm = warming.view();
            v1::ClusterStatus {
                role: "replica".to_owned(),
                pool: identity.pool.clone(),
                slot: identity.slot,
                map_epoch: state.map_epoch,
                ready: state.ready,
                reason: state.reason,
                settings: format!("{:016x}", identity.settings),
                warm: Some(v1::WarmStatus {
                    donor: String::new(),
                    users: warm.installed,
                    users_expected: warm.expected,
                    bytes: warm.bytes,
                    refused: warm.refused,
                    done: warm.over,
                }),
                replicas: Vec::new(),
            }
        }
    }

    /// Tells proxies and peers at once that the replica is ending.
    pub(super) fn announce(&self) {
        self.standing.announce();
    }

    /// Waits until every link has ended. Stop first.
    pub(super) async fn end(self) {
        // An error is a panic of the links' task, which is logged by then.
        let _ = self.links.await;
        for task in self.tasks {
            task.abort();
        }
    }
}

fn role(cluster: &ClusterConfig) -> ClusterRole {
    let busy_us_max = (cluster.warm_cpu_share * DONOR_PERIOD_US as f64) as u64;
    ClusterRole {
        pool: cluster.pool.clone(),
        slot: cluster.slot.into(),
        program: env!("CARGO_PKG_VERSION").to_owned(),
        credit_bytes: cluster.link_credit_bytes,
        donor: DonorLimits {
            busy_us_max: busy_us_max.max(1),
            period_us: DONOR_PERIOD_US,
            ..DonorLimits::default()
        },
    }
}

fn limits(config: &Config) -> ReadinessLimits {
    let us = |span: Duration| u64::try_from(span.as_micros()).unwrap_or(u64::MAX);
    ReadinessLimits {
        stale_us_max: us(config.feed.stale_after),
        pause_us_max: us(config.cluster.pause_max),
        warm_share_min: config.cluster.warm_share,
        warm_us_max: us(config.cluster.warm_timeout),
        blind_us: super::store::snapshot_lag_us(config),
        ..ReadinessLimits::default()
    }
}

fn place(identity: &v1::ReplicaIdentity) -> Place {
    let slot = u16::try_from(identity.slot).unwrap_or(u16::MAX);
    Place { pool: identity.pool.clone(), slot: SlotNumber::new(slot) }
}

/// A map of another cluster, or that spreads users by another key, would send users to the wrong replicas.
fn check(map: &SlotMap, identity: &v1::ReplicaIdentity) -> Result<(), NodeError> {
    if map.cluster != identity.cluster {
        return Err(NodeError::Cluster(format!(
            "cluster.map is of cluster {:016x}, and the store of {:016x}; one of both is the wrong one",
            map.cluster, identity.cluster
        )));
    }
    if map.key_check() != identity.slot_key_check {
        let what =
            "cluster.map: slot_key is not this store's; seen cluster init prints the right one";
        return Err(NodeError::Cluster(what.to_owned()));
    }
    if !map.settings.is_empty() && !map.settings.contains(&identity.settings) {
        return Err(NodeError::Cluster(format!(
            "cluster.map: settings has not this replica's, {:016x}; bring the namespaces' settings together, or name both in the map while they change",
            identity.settings
        )));
    }
    if map.pool(&identity.pool).is_none() {
        tracing::warn!(
            pool = identity.pool,
            "the map has no such pool: nobody will ask this replica"
        );
    }
    Ok(())
}

fn serve(
    config: &Config,
    link: &Arc<ReplicaLink>,
    listener: TcpListener,
    tls: Option<seen_cluster::tls::ServerTls>,
    stop: &Stop,
) -> Result<JoinHandle<()>, NodeError> {
    let drain = config.server.drain;
    let options = LinkOptions {
        threads: config.server.thread_count(),
        links_max: config.cluster.links_max as usize,
        server: ServerOptions { drain_timeout: drain, ..ServerOptions::default() },
        tls,
    };
    let threads = LinkThreads::start(options, link)?;
    let stop = stop.clone();
    Ok(tokio::spawn(async move {
        let shutdown = async {
            let within = stop.requested_within().await;
            sleep(NOTICE).await;
            within
        };
        threads.serve(listener, shutdown, drain).await;
    }))
}

async fn keep(
    standing: Arc<Standing>,
    limits: ReadinessLimits,
    warming: Arc<Progress>,
    peers: Arc<Peers>,
) {
    // Until then it is not known whether it is alone: it would be ready at once, and cold.
    let _ = timeout(PEERS_WITHIN, peers.all_tried(LOOK_EVERY)).await;
    standing.keep(limits, &warming, || peers.states()).await;
}

/// Tells the rest of the process whether the replica wants requests.
async fn tell(standing: Arc<Standing>, readiness: Readiness) {
    let mut changes = standing.changes();
    loop {
        match standing.unready() {
            None => readiness.ready("cluster"),
            Some(unready) => readiness.not_ready("cluster", unready.text()),
        }
        if changes.changed().await.is_err() {
            return;
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
    owners: Vec<Place>,
    progress: Arc<Progress>,
    _taking: AbortOnDrop,
}

/// Follows the map: what the replica keeps, whom it takes users from, and who its peers are.
struct Driver {
    standing: Arc<Standing>,
    peers: Arc<Peers>,
    map: Arc<MapHandle>,
    place: Place,
    warming: Arc<Progress>,
}

impl Driver {
    async fn run(self: Arc<Self>, warms: bool) {
        let mut map = self.map.current();
        let mut incoming = self.begin(&map, None);
        let own = tokio::spawn(Arc::clone(&self).take_own(Arc::clone(&map), warms));
        let _aborted_with_this = AbortOnDrop(own);
        loop {
            map = self.map.changed(map.revision).await;
            self.peers.follow(&map);
            incoming = self.begin(&map, incoming);
        }
    }

    /// Takes the users of the own slot from peers, unless it is to start cold.
    async fn take_own(self: Arc<Self>, map: Arc<ResolvedMap>, warms: bool) {
        if !warms {
            return self.warming.end();
        }
        let own = own_slot(&map, &self.place).map(|slot| slot.owned).unwrap_or(VirtualSet::NONE);
        // The answers of the peers say whom to take users from.
        let _ = timeout(PEERS_WITHIN, self.peers.all_tried(LOOK_EVERY)).await;
        let summary = self.warm(&map, own, vec![self.place.clone()], &self.warming).await;
        tracing::info!(?summary, "warmed up");
    }

    /// Does what a map says. What was being taken over goes on if it is still to come from the same slots: an address
    /// that changed is no reason to begin anew.
    fn begin(
        self: &Arc<Self>,
        map: &Arc<ResolvedMap>,
        before: Option<Incoming>,
    ) -> Option<Incoming> {
        let coming = own_slot(map, &self.place).map(|slot| slot.incoming);
        let coming = coming.filter(|coming| !coming.is_empty());
        let owners = coming.as_ref().map(|coming| owners(&map.map, &self.place, coming));
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
        let taking = tokio::spawn(Arc::clone(self).take_incoming(
            Arc::clone(map),
            coming,
            owners.clone(),
            Arc::clone(&progress),
        ));
        Some(Incoming { coming, owners, progress, _taking: AbortOnDrop(taking) })
    }

    /// Keeps the users that the map says from now on.
    fn keep(&self, map: &ResolvedMap, incoming: Option<Arc<Progress>>) {
        let kept = own_slot(map, &self.place).map(|slot| slot.followed());
        self.standing.set_map(map.map.epoch.get(), &kept.unwrap_or(VirtualSet::NONE), incoming);
    }

    async fn take_incoming(
        self: Arc<Self>,
        map: Arc<ResolvedMap>,
        coming: VirtualSet,
        owners: Vec<Place>,
        progress: Arc<Progress>,
    ) {
        let summary = self.warm(&map, coming, owners, &progress).await;
        tracing::info!(?summary, "took the users of incoming virtual slots over");
    }

    async fn warm(
        &self,
        map: &ResolvedMap,
        slots: VirtualSet,
        from: Vec<Place>,
        progress: &Arc<Progress>,
    ) -> Summary {
        // Looked at again for each stream: one that was ready may be gone by then, and another one ready.
        let donors = || self.peers.donors(map, &from);
        let live = || donors().into_keys().collect();
        let connect = |address: &str| {
            self.peers.options(address, donors().get(address), v1::LinkLane::Transfer)
        };
        let options = WarmupOptions::of(slots);
        warm_up(self.standing.replica(), &LinkDonors::new(live, connect), &options, progress).await
    }
}

fn own_slot<'a>(map: &'a ResolvedMap, place: &Place) -> Option<&'a Slot> {
    map.map.pool(&place.pool)?.slot(place.slot)
}

/// The slots of the same pool that own some of these, the own one left out.
fn owners(map: &SlotMap, place: &Place, coming: &VirtualSet) -> Vec<Place> {
    let slots = map.pool(&place.pool).map(|pool| pool.slots().to_vec()).unwrap_or_default();
    let others = slots.into_iter().filter(|slot| slot.number != place.slot);
    let owning = others.filter(|slot| !slot.owned.intersection(coming).is_empty());
    owning.map(|slot| Place { pool: place.pool.clone(), slot: slot.number }).collect()
}
