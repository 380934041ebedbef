//! Links over sockets.

use std::sync::Arc;

use seen_cluster::link::{ClientOptions, Link, LinkClient, LinkEvents, VERSION_MAX, VERSION_MIN};
use seen_cluster::map::MapHandle;
use seen_cluster::tls::ClientTls;
use seen_filter::HASH_VERSION;
use seen_proto::v1::{self, LinkLane};

use crate::directory::Connector;
use crate::replica::Target;

/// Connects to replicas over TCP, with TLS or without.
pub struct LinkConnector {
    /// The map by which the replicas are told what is expected of them.
    pub map: Arc<MapHandle>,
    /// Certificates; `None` = without TLS.
    pub tls: Option<ClientTls>,
    /// The name that every replica's certificate must have; `None` = the host of its name in the map.
    pub tls_name: Option<String>,
    /// This life of the process.
    pub incarnation: u64,
    /// The program's version, for people.
    pub program: String,
}

impl Connector for LinkConnector {
    fn connect(
        &self,
        target: &Target,
        lane: LinkLane,
        events: Arc<dyn LinkEvents>,
    ) -> Arc<dyn Link> {
        let (map, target) = (self.map.clone(), target.clone());
        let (incarnation, program) = (self.incarnation, self.program.clone());
        let host = target.name.rsplit_once(':').map_or(&*target.name, |(host, _)| host);
        let tls_name = self.tls_name.clone().or_else(|| Some(host.to_owned()));
        let address = target.address.to_string();
        // Asked for each attempt: the map may have changed.
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
                program: program.clone(),
            }
        };
        let mut options = ClientOptions::new(address, Arc::new(hello));
        options.tls = self.tls.clone();
        options.tls_name = tls_name;
        Arc::new(LinkClient::start(options, events))
    }
}
