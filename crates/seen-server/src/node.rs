//! A node: every role in one process. Opens the store, makes the replica,
//! binds every port, announces, serves, and drains with a bound.

mod alone;
pub(crate) mod api;
mod cluster;
mod identity;
mod kafka;
mod listen;
mod reading;
mod source;
mod store;
mod tls;

use seen_filter::VirtualSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use seen_api::Tracer;
use seen_proxy::ProxyOptions;
use seen_replica::{Replica, ReplicaCalls};
use thiserror::Error;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tonic_health::server::HealthReporter;

use crate::config::{Config, OutOfRange};
use crate::proxy_node;
use crate::readiness::Readiness;
use crate::runtime::StorageRuntime;
use crate::serving::{Drained, Front, FrontStatus};
use crate::shutdown::Stop;
use crate::telemetry::{MetricsHandle, Role, Traces};
pub use alone::{Alone, AloneCalls};
use cluster::ClusterSide;
pub(crate) use identity::{store_identity, store_is_there};
pub(crate) use kafka::history as followed_table;
pub(crate) use listen::bind;
pub(crate) use reading::Reading;
pub(crate) use source::Source;
use store::Opened;
pub(crate) use tls::{LinkTls, link as link_tls};

/// How long closing the store may take after the drain.
const CLOSE_MAX: Duration = Duration::from_secs(30);

/// How a node is started.
pub struct NodeOptions {
    /// The configuration, validated.
    pub config: Config,
    /// True to keep the histories in a temporary folder that is removed at the end.
    pub ephemeral: bool,
    /// True to serve proxies and peers over links as well, as the replica of a slot.
    pub linked: bool,
}

/// Where a node listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// The gRPC API.
    pub api: SocketAddr,
    /// The operator's gRPC service.
    pub admin: SocketAddr,
    /// /metrics, /livez, /readyz.
    pub http: SocketAddr,
    /// Proxies and peers, where the node is a replica of a cluster.
    pub link: Option<SocketAddr>,
}

/// Why a node cannot start, or did not end well.
#[derive(Debug, Error)]
pub enum NodeError {
    /// The store.
    #[error("storage: {0}")]
    Store(#[from] seen_filter::StoreError),
    /// A namespace.
    #[error(transparent)]
    Settings(#[from] seen_filter::SettingsError),
    /// A temporary store is asked for where there is none.
    #[error(
        "--ephemeral keeps the histories in a temporary folder, and storage.kind is mysql; leave one out"
    )]
    Ephemeral,
    /// A binary log is to be followed where there is none.
    #[error("mysql.feed = binlog, and {0} keeps no binary log; set mysql.feed to auto or none")]
    NoBinlog(&'static str),
    /// Kafka.
    #[error(transparent)]
    Kafka(#[from] seen_kafka::KafkaFeedError),
    /// The template of a record's key.
    #[error(transparent)]
    Key(#[from] seen_kafka::BadTemplate),
    /// A setting that only the start can look at.
    #[error(transparent)]
    Setting(#[from] crate::config::OutOfRange),
    /// A port.
    #[error("cannot listen on {address} ({key}): {source}; choose another address")]
    Listen {
        /// The option.
        key: &'static str,
        /// Its value.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The front.
    #[error(transparent)]
    Serving(#[from] crate::serving::ServingError),
    /// A runtime, folder or thread.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// Why.
        source: std::io::Error,
    },
    /// Traces.
    #[error(transparent)]
    Traces(#[from] crate::telemetry::TracesError),
    /// The metrics recorder.
    #[error(transparent)]
    Metrics(#[from] crate::telemetry::MetricsError),
    /// Certificates.
    #[error("tls: {0}")]
    Tls(#[from] seen_cluster::tls::TlsError),
    /// The map of slots.
    #[error("cluster.map: {0}")]
    Map(#[from] seen_cluster::map::MapError),
    /// Something is not as the map of slots says.
    #[error("{0}")]
    Cluster(String),
    /// The compiled-in API description.
    #[error("the API description does not parse: {0}")]
    Reflection(String),
    /// A part ended before it was asked to.
    #[error("{0} ended unexpectedly; see the log")]
    Ended(&'static str),
}

/// A running node.
pub struct Node {
    addresses: Addresses,
    replica: Arc<Replica>,
    readiness: Readiness,
    front_status: FrontStatus,
    stop: Stop,
    drain: Duration,
    front: JoinHandle<Drained>,
    ports: Vec<JoinHandle<()>>,
    cluster: Option<ClusterSide>,
    storage_stop: watch::Sender<bool>,
    storage_work: JoinHandle<()>,
    opened: Opened,
    traces: Traces,
    _storage: StorageRuntime,
}

impl Node {
    /// Starts a node. Call it on a runtime that lives as long as the node, not on a serving thread's.
    ///
    /// # Errors
    /// [`NodeError`]; nothing stays behind.
    pub async fn start(options: NodeOptions) -> Result<Self, NodeError> {
        let metrics = MetricsHandle::shared()?;
        Self::start_with(options, metrics, Stop::default(), &[]).await
    }

    /// As [`Self::start`], with a metrics recorder that is installed already, and ended by `stop` as
    /// well. It is not ready before each of `parts` has been reported to [`Self::readiness`].
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn start_with(
        options: NodeOptions,
        metrics: MetricsHandle,
        stop: Stop,
        parts: &[&'static str],
    ) -> Result<Self, NodeError> {
        let config = &options.config;
        let role = if options.linked { Role::Replica } else { Role::Serve };
        let traces = Traces::start(&config.traces, role)?;
        let listeners = listen::bind(config, options.linked).await?;
        let (addresses, calls) = (listeners.addresses(), listeners.api.listen()?);
        let storage = StorageRuntime::start(config.storage.threads).map_err(|source| {
            NodeError::System { what: "cannot start the storage runtime".to_owned(), source }
        })?;
        let opened = store::open(config, options.ephemeral, storage.handle()).await?;
        let (replica, work) = Replica::new(store::replica_options(config, &opened))?;
        let own_parts: &[&str] = if options.linked { &["feed", "cluster"] } else { &["feed"] };
        let readiness = Readiness::waiting_for(&[own_parts, parts].concat());
        readiness.not_ready("feed", "the change feed has not begun");
        if options.linked {
            // Until the map of slots says whose users may be kept.
            replica.own_slots(&VirtualSet::NONE);
        }
        let (storage_stop, stopped) = watch::channel(false);
        let storage_work = storage.spawn(work.run(Arc::clone(&replica), stopped));
        let (front, health) = front(&options, &replica, &opened, traces.tracer()).await?;
        let front_status = front.status();
        let front = tokio::spawn(front.serve(calls, stop.requested_within()));
        let cluster = match listeners.link {
            Some(link) => {
                let (ready, tracer) = (readiness.clone(), traces.tracer());
                Some(ClusterSide::start(config, &replica, link, ready, &stop, tracer).await?)
            }
            None => None,
        };
        let admin = api::Admin {
            replica: Arc::clone(&replica),
            readiness: readiness.clone(),
            stop: stop.clone(),
            place: cluster.as_ref().map(|cluster| Arc::new(cluster.status()) as api::PlaceHook),
        };
        let looked_at = Arc::clone(&replica);
        let look = move |readiness: &Readiness| api::look_at_feed(&looked_at, readiness);
        let ports = vec![
            tokio::spawn(api::admin_port(listeners.admin, admin)?),
            tokio::spawn(api::serve_http(listeners.http, metrics, readiness.clone())),
            tokio::spawn(api::watch_readiness(look, readiness.clone(), health, stop.clone())),
        ];
        tracing::info!(
            api = %addresses.api, admin = %addresses.admin, http = %addresses.http,
            data = %opened.place, "serving"
        );
        Ok(Self {
            addresses,
            replica,
            readiness,
            front_status,
            stop,
            drain: config.server.drain,
            front,
            ports,
            cluster,
            storage_stop,
            storage_work,
            opened,
            traces,
            _storage: storage,
        })
    }

    /// Whether it should be sent requests; a part may be added that has to be ready, too.
    pub fn readiness(&self) -> &Readiness {
        &self.readiness
    }

    /// Where it listens.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// The replica, for looking at.
    pub fn replica(&self) -> &Arc<Replica> {
        &self.replica
    }

    /// What the serving threads do.
    pub fn front_status(&self) -> &FrontStatus {
        &self.front_status
    }

    /// Ends when the node may be sent requests.
    pub async fn ready(&self) {
        let mut looks = tokio::time::interval(Duration::from_millis(2));
        while !self.readiness.is_ready() {
            looks.tick().await;
        }
    }

    /// Ends when somebody has asked the node to stop: a signal, or the admin's Drain.
    pub async fn stop_requested(&self) {
        self.stop.requested().await;
    }

    /// Drains with the configured bound, finishes accepted writes, and closes the store.
    ///
    /// # Errors
    /// [`NodeError::Ended`] if a part had died before.
    pub async fn stop(self) -> Result<(), NodeError> {
        self.readiness.not_ready("drain", "draining");
        self.replica.begin_draining();
        if let Some(cluster) = &self.cluster {
            cluster.announce();
        }
        self.stop.request();
        let drained = self.front.await.map_err(|_| NodeError::Ended("the front"))?;
        tracing::info!(?drained, "connections closed");
        if let Some(cluster) = self.cluster {
            cluster.end().await;
        }
        self.storage_stop.send_replace(true);
        let closing = async {
            let worked = self.storage_work.await;
            self.opened.close().await;
            worked
        };
        let bound = self.drain.max(CLOSE_MAX);
        let worked = tokio::time::timeout(bound, closing).await;
        for port in &self.ports {
            port.abort();
        }
        self.traces.end().await;
        match worked {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(NodeError::Ended("the storage work")),
            Err(_) => Err(NodeError::Ended("closing the store")),
        }
    }
}

/// The serving threads: with proxies to the replica, or with the replica itself, where its proxies come over links and whoever calls
/// here wants to know what this one says.
async fn front(
    options: &NodeOptions,
    replica: &Arc<Replica>,
    opened: &Opened,
    tracer: Tracer,
) -> Result<(Front, HealthReporter), NodeError> {
    let config = &options.config;
    if options.linked {
        let calls = ReplicaCalls::new(Arc::clone(replica)).traced(tracer);
        return api::front(config, move |_thread| calls.clone()).await;
    }
    let pool = &config.cluster.pool;
    let proxy = ProxyOptions { tracer, ..proxy_node::options(config)? };
    let alone =
        Alone::new(replica, opened.hash_key.slot_key(), pool, proxy).map_err(|_| OutOfRange {
            key: "cluster.pool".to_owned(),
            value: pool.clone(),
            allowed: "letters, digits, '-', '_' and '.'".to_owned(),
        })?;
    api::front(config, move |_thread| alone.calls()).await
}

/// A cluster needs its map.
pub(crate) fn map_is_unset() -> NodeError {
    NodeError::Setting(OutOfRange {
        key: "cluster.map".to_owned(),
        value: "unset".to_owned(),
        allowed: "a map of slots; seen cluster init prints a first one".to_owned(),
    })
}
