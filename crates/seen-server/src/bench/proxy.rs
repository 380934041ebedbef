//! A proxy as `seen proxy` runs it, on ports that it says.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::certificates;
use super::serve::stop_at_end_of_input;
use crate::cli::CliError;
use crate::config::Config;
use crate::proxy_node::ProxyNode;
use crate::runtime;
use crate::shutdown::Stop;
use crate::telemetry::{Logs, MetricsHandle};

/// How the proxy is started.
#[derive(Clone, Debug, Args)]
pub struct ProxySpec {
    /// Serving threads
    #[arg(long)]
    threads: u16,
    /// The map of slots
    #[arg(long)]
    map: PathBuf,
    /// Folder with certificates, for both its sides; none = without TLS
    #[arg(long)]
    tls: Option<PathBuf>,
    /// As proxy.rates
    #[arg(long, default_value = "")]
    rates: String,
}

impl ProxySpec {
    fn config(&self) -> Config {
        let mut config = Config::default();
        let any = (std::net::Ipv4Addr::LOCALHOST, 0).into();
        config.server.listen = any;
        config.server.admin_listen = any;
        config.server.http_listen = any;
        config.server.threads = self.threads;
        config.server.drain = Duration::from_secs(1);
        config.cluster.map = Some(self.map.clone());
        config.proxy.rates.clone_from(&self.rates);
        config.log.level = "warn".to_owned();
        if let Some(folder) = &self.tls {
            certificates::link(&mut config.tls, folder);
            certificates::public(&mut config.tls, folder);
        }
        config
    }
}

/// Serves until standard input closes.
///
/// # Errors
/// What keeps the proxy from starting.
pub fn run(spec: &ProxySpec) -> Result<(), CliError> {
    let config = spec.config();
    config.validate()?;
    let logs = Logs::start(&config.log)?;
    let metrics = MetricsHandle::start(Some(logs.dropped()))?;
    let stop = Stop::default();
    stop_at_end_of_input(stop.clone())?;
    runtime::control()?.block_on(async {
        let node = ProxyNode::start(config, metrics, stop.clone()).await?;
        node.ready().await;
        let at = node.addresses();
        let said = serde_json::json!({ "api": [at.api], "admin": [at.admin], "http": [at.http] });
        crate::cli::print(&format!("{said}\n"))?;
        stop.requested().await;
        Ok(node.stop().await?)
    })
}
