//! The part that is measured: a whole node, with users put into its memory beforehand; where a link is given, as the
//! replica of a slot.

use std::io::{self, Read};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use seen_filter::UserId;
use seen_replica::Replica;
use seen_replica::preload::PreloadError;
use seen_replica::rules::Refusal;

use super::certificates;
use super::hop::many::{self, Placed, placed};
use super::synthetic::{HISTORIES, NAMESPACE, state};
use crate::cli::{CliError, ConfigSources};
use crate::config::Config;
use crate::node::{Node, NodeOptions};
use crate::runtime;
use crate::shutdown::Stop;
use crate::telemetry::{Logs, MetricsHandle};

/// Memory for users while measuring: nobody is to be evicted.
const CACHE_BYTES: u64 = 8 << 30;

/// The longest that it may take until builds are admitted, and how often that is tried.
const ADMITTED_WITHIN: Duration = Duration::from_secs(120);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How the node is started.
#[derive(Clone, Debug, Args)]
pub struct ServeSpec {
    /// Serving threads
    #[arg(long)]
    threads: u16,
    /// Users that are put into memory
    #[arg(long, default_value_t = 0)]
    users: u64,
    /// Items that each of them has read
    #[arg(long, default_value_t = 0)]
    items: u64,
    /// Where the store keeps its files
    #[arg(long)]
    data_dir: PathBuf,
    /// Whose storage is used instead of the embedded store with its defaults
    #[arg(long)]
    config: Option<PathBuf>,
    /// Serves links as well, as in feed/0=127.0.0.1:7430; of several each is a replica of its own to whoever connects
    #[arg(long, value_parser = placed)]
    link: Vec<Placed>,
    /// The map of slots, where there are links
    #[arg(long)]
    map: Option<PathBuf>,
    /// Folder with certificates for links; none = without TLS
    #[arg(long)]
    tls: Option<PathBuf>,
}

impl ServeSpec {
    fn config(&self) -> Result<Config, CliError> {
        let mut config = match &self.config {
            None => Config::default(),
            file => ConfigSources { config: file.clone(), set: Vec::new() }.load()?.config,
        };
        let any = (std::net::Ipv4Addr::LOCALHOST, 0).into();
        config.server.listen = any;
        config.server.admin_listen = any;
        config.server.http_listen = any;
        config.server.threads = self.threads;
        // The end of a part is not measured.
        config.server.drain = Duration::from_secs(1);
        config.storage.data_dir.clone_from(&self.data_dir);
        config.cache.memory = CACHE_BYTES;
        config.log.level = "warn".to_owned();
        config.cluster.map.clone_from(&self.map);
        if let [one] = &*self.link {
            config.cluster.pool.clone_from(&one.pool);
            config.cluster.slot = one.slot;
            config.cluster.link_listen = one.address()?;
        }
        if let Some(folder) = &self.tls {
            certificates::link(&mut config.tls, folder);
        }
        Ok(config)
    }
}

/// Serves until standard input closes.
///
/// # Errors
/// What keeps the node from starting.
pub fn run(spec: &ServeSpec) -> Result<(), CliError> {
    let config = spec.config()?;
    config.validate()?;
    let logs = Logs::start(&config.log)?;
    let metrics = MetricsHandle::start(Some(logs.dropped()))?;
    let stop = Stop::default();
    stop_at_end_of_input(stop.clone())?;
    runtime::control()?.block_on(async {
        let linked = spec.link.len() == 1;
        let options = NodeOptions { config, ephemeral: false, linked };
        let node = Node::start_with(options, metrics, stop.clone(), &[]).await?;
        node.ready().await;
        if let (Some(map), false) = (&spec.map, linked) {
            many::links(node.replica(), map, &spec.link, &stop).await?;
        }
        builds_are_admitted(node.replica()).await?;
        preload(node.replica(), spec.users, spec.items)?;
        let at = node.addresses();
        let said = serde_json::json!({
            "api": [at.api], "admin": [at.admin], "http": [at.http], "users": spec.users,
        });
        crate::cli::print(&format!("{said}\n"))?;
        node.stop_requested().await;
        node.stop().await?;
        Ok(())
    })
}

/// Ends the process's work when its parent is gone.
pub(super) fn stop_at_end_of_input(stop: Stop) -> io::Result<()> {
    let wait = move || {
        let mut nothing = Vec::new();
        // An error ends the input as well.
        let _ = io::stdin().take(1 << 20).read_to_end(&mut nothing);
        stop.request();
    };
    std::thread::Builder::new().name("bench-parent".to_owned()).spawn(wait).map(|_| ())
}

/// Waits until what is read now may be put into memory: storage that tells no positions has to be
/// followed for `mysql.snapshot_lag` first (rule R2).
async fn builds_are_admitted(replica: &Replica) -> Result<(), PreloadError> {
    let nobody = UserId::new(u64::MAX);
    let mut looks = tokio::time::interval(LOOK_EVERY);
    let until = tokio::time::Instant::now() + ADMITTED_WITHIN;
    loop {
        looks.tick().await;
        let builder = replica.builder(NAMESPACE).ok_or(PreloadError::UnknownNamespace)?;
        match replica.preload(NAMESPACE, nobody, state(builder, 0, 0)) {
            Err(PreloadError::Refused(Refusal::StaleSnapshot))
                if tokio::time::Instant::now() < until => {}
            done => return done,
        }
    }
}

fn preload(replica: &Replica, users: u64, items: u64) -> Result<(), PreloadError> {
    let mut states = Vec::new();
    for history in 0..HISTORIES.min(users) {
        let builder = replica.builder(NAMESPACE).ok_or(PreloadError::UnknownNamespace)?;
        states.push(state(builder, history, items));
    }
    for user in 0..users {
        let copy = states[(user % HISTORIES) as usize].clone();
        replica.preload(NAMESPACE, UserId::new(user), copy)?;
    }
    Ok(())
}
