//! A proxy's process: the real proxy over real links.

use std::sync::Arc;
use std::time::Duration;

use seen_cluster::link::{ClientOptions, Link, LinkClient, LinkEvents, VERSION_MAX, VERSION_MIN};
use seen_cluster::map::{MapHandle, MapPublisher, ResolvedMap};
use seen_filter::HASH_VERSION;
use seen_proto::v1::{self, LinkLane};
use seen_proxy::{Clock, Connector, Proxy, ProxyOptions, Target};

use crate::cluster::Cluster;
use crate::dice::Dice;
use crate::net::{Dial, Ways};
use crate::process::{Host, Process};

/// A proxy that runs.
#[derive(Clone)]
pub struct ProxyNode {
    /// Its process.
    pub process: Arc<Process>,
    /// The proxy.
    pub proxy: Proxy,
    /// This life of it.
    pub life: u64,
    /// Its map's file, as it were.
    pub publisher: Arc<MapPublisher>,
}

impl ProxyNode {
    /// Starts one, which finds this map.
    pub fn start(cluster: &Cluster, number: u16, map: ResolvedMap, mut dice: Dice) -> Self {
        let process = Process::begin(&format!("proxy {number}"), Host(number));
        if cluster.own_runtimes {
            process.open_desk();
        }
        let (publisher, handle) = MapHandle::new(map);
        let incarnation = dice.draw() | 1;
        let connector = Arc::new(SimConnector {
            ways: Arc::clone(&cluster.ways),
            process: Arc::clone(&process),
            map: Arc::clone(&handle),
            incarnation,
        });
        let beats = cluster.shape.life_interval;
        let options = ProxyOptions {
            // As many signs of life as usual, each of which may come as late.
            suspect_after: beats * 5 / 2,
            eject_after: (beats * 6).max(Duration::from_millis(300)),
            ..ProxyOptions::new(incarnation)
        };
        let proxy = Proxy::new(options, Clock::start(), handle, connector);
        process.spawn(proxy.clone().run());
        cluster.trace.tell(&process.name, "starts");
        Self { process, proxy, life: incarnation, publisher: Arc::new(publisher) }
    }

    /// Ends at once, in the middle of everything. Whoever holds it is to let go of it.
    pub fn crash(&self, cluster: &Cluster) {
        self.process.kill();
        cluster.trace.tell(&self.process.name, "crashes");
    }
}

struct SimConnector {
    ways: Arc<dyn Ways>,
    process: Arc<Process>,
    map: Arc<MapHandle>,
    incarnation: u64,
}

impl Connector for SimConnector {
    fn connect(
        &self,
        target: &Target,
        lane: LinkLane,
        events: Arc<dyn LinkEvents>,
    ) -> Arc<dyn Link> {
        let (map, target) = (Arc::clone(&self.map), target.clone());
        let (incarnation, to) = (self.incarnation, target.address);
        let hello = move || {
            let map = &map.current().map;
            v1::LinkHello {
                version_min: VERSION_MIN,
                version_max: VERSION_MAX,
                cluster: map.cluster,
                pool: target.pool.to_string(),
                slot: target.slot.get().into(),
                slot_known: true,
                hash_version: HASH_VERSION.into(),
                slot_key_check: map.key_check(),
                settings: map.settings.clone(),
                map_epoch: map.epoch.get(),
                lane: lane.into(),
                incarnation,
                program: "simulated".to_owned(),
            }
        };
        let dial = Dial { ways: Arc::clone(&self.ways), owner: Arc::clone(&self.process), to };
        let options = ClientOptions::new(to.to_string(), Arc::new(hello));
        Arc::new(LinkClient::start_over(dial, options, events))
    }
}
