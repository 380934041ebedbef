//! `seen proxy`: routes every call to a replica of its user's slot.

use std::process::ExitCode;

use clap::Args;

use super::{CliError, ConfigSources};
use crate::proxy_node::ProxyNode;
use crate::runtime;
use crate::shutdown::{Stop, stop_with_stdin};
use crate::telemetry::{Logs, MetricsHandle};

/// Arguments of `seen proxy`.
#[derive(Debug, Clone, Args)]
pub struct ProxyArgs {
    /// Where the configuration is read from.
    #[command(flatten)]
    sources: ConfigSources,
    /// End as well when stdin is closed
    #[arg(long, hide = true)]
    stop_with_stdin: bool,
}

/// Serves until a signal, or the admin's Drain, ends it.
///
/// # Errors
/// What keeps the proxy from starting or from ending well.
pub fn run(args: ProxyArgs) -> Result<ExitCode, CliError> {
    let config = args.sources.load()?.config;
    let logs = Logs::start(&config.log)?;
    let metrics = MetricsHandle::start(Some(logs.dropped()))?;
    let control = runtime::control()?;
    let ended = control.block_on(async {
        let stop = Stop::on_signals()?;
        if args.stop_with_stdin {
            stop_with_stdin(&stop);
        }
        let node = ProxyNode::start(config, metrics, stop.clone()).await?;
        tokio::select! {
            biased;
            () = stop.requested() => {}
            () = node.ready() => {
                let at = node.addresses();
                eprintln!("seen: proxy on {} (admin {}, http {})", at.api, at.admin, at.http);
                stop.requested().await;
            }
        }
        node.stop().await?;
        Ok(ExitCode::SUCCESS)
    });
    control.shutdown_background();
    ended
}
