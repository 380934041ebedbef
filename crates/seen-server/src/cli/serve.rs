//! `seen serve`: all roles in one process.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use super::{CliError, ConfigSources};
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
    /// Load this history (TSV or CSV, optionally .zst or .gz) before serving
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
    runtime::control()?.block_on(async {
        let stop = Stop::on_signals()?;
        let options = NodeOptions { config, ephemeral: args.ephemeral };
        let node = Node::start_with(options, metrics, stop).await?;
        if let Some(path) = &args.seed {
            let events = node.seed(path).await?;
            eprintln!("seen: {events} events loaded from {}", path.display());
        }
        node.ready().await;
        let at = node.addresses();
        eprintln!("seen: serving on {} (admin {}, http {})", at.api, at.admin, at.http);
        node.stop_requested().await;
        node.stop().await?;
        Ok(ExitCode::SUCCESS)
    })
}
