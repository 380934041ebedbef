//! `seen replica`: one slot's users, for proxies and, beside that, by gRPC for tools.

use std::process::ExitCode;

use clap::Args;

use super::{CliError, ConfigSources};
use crate::node::{Node, NodeOptions};
use crate::runtime;
use crate::shutdown::{Stop, stop_with_stdin};
use crate::telemetry::{Logs, MetricsHandle};

/// Arguments of `seen replica`.
#[derive(Debug, Clone, Args)]
pub struct ReplicaArgs {
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
/// What keeps the replica from starting or from ending well.
pub fn run(args: ReplicaArgs) -> Result<ExitCode, CliError> {
    let config = args.sources.load()?.config;
    let logs = Logs::start(&config.log)?;
    let metrics = MetricsHandle::start(Some(logs.dropped()))?;
    let control = runtime::control()?;
    let ended = control.block_on(async {
        let stop = Stop::on_signals()?;
        if args.stop_with_stdin {
            stop_with_stdin(&stop);
        }
        let options = NodeOptions { config, ephemeral: false, linked: true };
        let node = Node::start_with(options, metrics, stop.clone(), &[]).await?;
        let served = serve(&node).await;
        let stopped = node.stop().await;
        served?;
        stopped?;
        Ok(ExitCode::SUCCESS)
    });
    control.shutdown_background();
    ended
}

async fn serve(node: &Node) -> Result<(), CliError> {
    tokio::select! {
        biased;
        () = node.stop_requested() => return Ok(()),
        () = node.ready() => {}
    }
    let at = node.addresses();
    let link = at.link.map(|link| format!("link {link}, ")).unwrap_or_default();
    eprintln!("seen: replica on {} ({link}admin {}, http {})", at.api, at.admin, at.http);
    node.stop_requested().await;
    Ok(())
}
