//! `seen serve`: all roles in one process.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::{CliError, ConfigSources, import};
use crate::config::Config;
use crate::node::{Node, NodeOptions};
use crate::runtime;
use crate::shutdown::Stop;
use crate::telemetry::{Logs, MetricsHandle};

/// Arguments of `seen serve`.
#[derive(Debug, Clone, Args)]
pub struct ServeArgs {
    /// Where the configuration is read from.
    #[command(flatten)]
    pub sources: ConfigSources,
    /// Keep the histories in a temporary folder that is removed at the end
    #[arg(long)]
    pub ephemeral: bool,
    /// Load this history (TSV or CSV, optionally .zst or .gz) into the first namespace before it is
    /// ready to serve
    #[arg(long, value_name = "FILE")]
    pub seed: Option<PathBuf>,
}

/// Serves until a signal, or the admin's Drain, ends it.
///
/// # Errors
/// What keeps the node from starting or from ending well.
pub fn run(args: ServeArgs) -> Result<ExitCode, CliError> {
    let config = args.sources.load()?.config;
    let logs = Logs::start(&config.log)?;
    let metrics = MetricsHandle::start(Some(logs.dropped()))?;
    let control = runtime::control()?;
    let ended = control.block_on(async {
        let stop = Stop::on_signals()?;
        let options =
            NodeOptions { config: config.clone(), ephemeral: args.ephemeral, linked: false };
        let parts: &[&str] = if args.seed.is_some() { &["seed"] } else { &[] };
        let node = Node::start_with(options, metrics, stop.clone(), parts).await?;
        let served = serve(&node, &config, args.seed.as_deref(), &stop).await;
        // Also after a failure: what was taken is finished, and a temporary folder removed.
        let stopped = node.stop().await;
        served?;
        stopped?;
        Ok(ExitCode::SUCCESS)
    });
    // A thread that still reads a history from a pipe must not hold up the end.
    control.shutdown_background();
    ended
}

async fn serve(
    node: &Node,
    config: &Config,
    history: Option<&Path>,
    stop: &Stop,
) -> Result<(), CliError> {
    if let Some(file) = history {
        node.readiness().not_ready("seed", "loading a history");
        import::seed(file, config, node.addresses().api, stop).await?;
        node.readiness().ready("seed");
    }
    tokio::select! {
        biased;
        () = node.stop_requested() => return Ok(()),
        () = node.ready() => {}
    }
    let at = node.addresses();
    eprintln!("seen: serving on {} (admin {}, http {})", at.api, at.admin, at.http);
    node.stop_requested().await;
    Ok(())
}
