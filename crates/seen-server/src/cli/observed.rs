//! What the long-running commands beside `seen serve` have in common: log lines, and metrics for who asks.

use std::net::SocketAddr;

use clap::Args;
use tokio::net::TcpListener;

use super::CliError;
use crate::config::Config;
use crate::http::{self, Shown};
use crate::readiness::Readiness;
use crate::shutdown::Stop;
use crate::telemetry::{Logs, MetricsHandle};

/// Where to look at it.
#[derive(Debug, Clone, Args)]
pub struct ObservedArgs {
    /// Serve /metrics, /livez and /readyz here [default: nowhere]
    #[arg(long, value_name = "ADDRESS")]
    http: Option<SocketAddr>,
}

/// Log lines and metrics; they end with this.
pub struct Observed {
    args: ObservedArgs,
    metrics: MetricsHandle,
    _logs: Logs,
}

impl Observed {
    /// Starts both.
    ///
    /// # Errors
    /// A log or recorder that cannot be started.
    pub fn start(args: ObservedArgs, config: &Config) -> Result<Self, CliError> {
        let logs = Logs::start(&config.log)?;
        let metrics = MetricsHandle::start(Some(logs.dropped()))?;
        Ok(Self { args, metrics, _logs: logs })
    }

    /// Opens the port, if there is to be one.
    ///
    /// # Errors
    /// An address that cannot be listened at.
    pub async fn listen(&self, stop: &Stop) -> Result<(), CliError> {
        let Some(address) = self.args.http else { return Ok(()) };
        let listener = TcpListener::bind(address).await.map_err(|error| {
            format!("cannot listen on {address} (--http): {error}; choose another address")
        })?;
        let readiness = Readiness::waiting_for(&[]);
        let shown = Shown { metrics: self.metrics.clone(), readiness };
        eprintln!("seen: metrics on http://{}/metrics", listener.local_addr()?);
        tokio::spawn(http::serve(listener, shown, stop.requested()));
        Ok(())
    }
}
