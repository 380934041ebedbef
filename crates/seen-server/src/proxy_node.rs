//! A proxy's process: the map, the front with one proxy a thread, and the operator's ports.

mod admin;
mod watch;

use std::sync::Arc;
use std::time::{Duration, Instant};

use seen_cluster::map::{MapSource, SourceOptions};
use seen_proxy::{Clock, LinkConnector, Proxy, ProxyOptions, Rates};
use tokio::task::JoinHandle;

use crate::config::{Config, OutOfRange};
use crate::node::{Addresses, NodeError, api, bind, link_tls, map_is_unset};
use crate::readiness::Readiness;
use crate::serving::{Drained, Front};
use crate::shutdown::Stop;
use crate::telemetry::{MetricsHandle, Role, Traces};
use admin::ProxyAdmin;
use watch::Watched;

/// How long the process stays in place after it has said that it is ending, so that balancers see it first.
const NOTICE: Duration = Duration::from_millis(200);

/// How often it is looked whether the replicas were tried.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// A running proxy.
pub struct ProxyNode {
    addresses: Addresses,
    readiness: Readiness,
    front: JoinHandle<Drained>,
    tasks: Vec<JoinHandle<()>>,
    stop: Stop,
    traces: Traces,
}

impl ProxyNode {
    /// Starts a proxy. Call it on a runtime that lives as long as the node.
    ///
    /// # Errors
    /// [`NodeError`]; nothing stays behind.
    pub async fn start(
        config: Config,
        metrics: MetricsHandle,
        stop: Stop,
    ) -> Result<Self, NodeError> {
        let path = config.cluster.map.as_ref().ok_or_else(map_is_unset)?;
        let traces = Traces::start(&config.traces, Role::Proxy)?;
        let listeners = bind(&config, false).await?;
        let addresses = listeners.addresses();
        let (map, watching) = MapSource::start(SourceOptions::new(path)).await?;
        let tls = link_tls(&config.tls)?;
        let incarnation: u64 = rand::random();
        let connector = Arc::new(LinkConnector {
            map: Arc::clone(&map),
            tls_name: tls.as_ref().and_then(|tls| tls.name.clone()),
            tls: tls.map(|tls| tls.client),
            incarnation,
            program: env!("CARGO_PKG_VERSION").to_owned(),
        });
        let watched = Arc::new(Watched::new(Arc::clone(&map)));
        let options = ProxyOptions { tracer: traces.tracer(), ..options(&config)? };
        let clock = Clock::start();
        let made = Arc::clone(&watched);
        let make = move |_thread| {
            // Its own number: claims of moved users are counted under it.
            let options = ProxyOptions { incarnation: rand::random(), ..options.clone() };
            let proxy = Proxy::new(options, clock, Arc::clone(&map), connector.clone());
            tokio::spawn(proxy.clone().run());
            made.add(proxy.clone());
            proxy
        };
        let (front, health) = api::front(&config, make).await?;
        let readiness = Readiness::waiting_for(&["replicas"]);
        let admin = ProxyAdmin {
            watched: Arc::clone(&watched),
            readiness: readiness.clone(),
            stop: stop.clone(),
            incarnation,
            started: Instant::now(),
        };
        let mut tasks = vec![
            tokio::spawn(watching),
            tokio::spawn(api::serve_admin(listeners.admin, admin)?),
            tokio::spawn(api::serve_http(listeners.http, metrics, readiness.clone())),
        ];
        all_tried(&watched, &stop).await;
        let calls =
            listeners.api.listen().inspect_err(|_| tasks.iter().for_each(JoinHandle::abort))?;
        let front = tokio::spawn(serve(front, calls, stop.clone()));
        let look = move |readiness: &Readiness| {
            // Once and for all: where no replica answers any more, somebody has to say so to callers, flagged.
            if watched.is_ready() {
                readiness.ready("replicas");
            }
        };
        let watching = api::watch_readiness(look, readiness.clone(), health, stop.clone());
        tasks.push(tokio::spawn(watching));
        tracing::info!(
            api = %addresses.api, admin = %addresses.admin, http = %addresses.http,
            map = %path.display(), "proxying"
        );
        Ok(Self { addresses, readiness, front, tasks, stop, traces })
    }

    /// Where it listens.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Ends when the proxy may be sent requests.
    pub async fn ready(&self) {
        let mut looks = tokio::time::interval(LOOK_EVERY);
        while !self.readiness.is_ready() {
            looks.tick().await;
        }
    }

    /// Drains with the configured bound.
    ///
    /// # Errors
    /// [`NodeError::Ended`] if a part had died before.
    pub async fn stop(self) -> Result<(), NodeError> {
        self.readiness.not_ready("drain", "draining");
        self.stop.request();
        let drained = self.front.await.map_err(|_| NodeError::Ended("the front"))?;
        tracing::info!(?drained, "connections closed");
        for task in &self.tasks {
            task.abort();
        }
        self.traces.end().await;
        Ok(())
    }
}

/// How a proxy is to do its work.
///
/// # Errors
/// Rates that are none.
pub(crate) fn options(config: &Config) -> Result<ProxyOptions, OutOfRange> {
    let proxy = &config.proxy;
    Ok(ProxyOptions {
        hedge_after_min: proxy.hedge_after_min,
        hedge_after_max: proxy.hedge_after_max,
        extra_share: proxy.extra_share,
        suspect_after: proxy.suspect_after,
        eject_after: proxy.eject_after,
        moved_for: proxy.moved_for,
        in_flight_max: proxy.in_flight_max as usize,
        rates: Arc::new(Rates::new(proxy.rates_per_s()?)),
        ..ProxyOptions::new(0)
    })
}

/// Waits until every replica was connected to, or could not be, which a link's bound of connecting bounds. Who called before
/// would be told that no replica can be reached; who is refused asks another proxy.
async fn all_tried(watched: &Watched, stop: &Stop) {
    let tried = async {
        while !watched.has_tried_all() {
            tokio::time::sleep(LOOK_EVERY).await;
        }
    };
    tokio::select! {
        biased;
        () = stop.requested() => {}
        () = tried => {}
    }
}

/// Serves until it is to stop; a moment longer, so that whoever asks /readyz first sees that it ends.
async fn serve(front: Front, listener: tokio::net::TcpListener, stop: Stop) -> Drained {
    let shutdown = async {
        let within = stop.requested_within().await;
        tokio::time::sleep(NOTICE).await;
        within
    };
    front.serve(listener, shutdown).await
}
