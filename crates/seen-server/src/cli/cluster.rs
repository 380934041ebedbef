//! `seen cluster`: the map of slots, and the replicas that it names.

mod ask;
pub mod init;
pub mod status;

use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};
use seen_cluster::map::{MapSource, ResolvedMap, SourceOptions};

use super::CliError;
use crate::config::Config;

/// Arguments of `seen cluster`.
#[derive(Debug, Clone, Args)]
pub struct ClusterArgs {
    #[command(subcommand)]
    command: ClusterCommand,
}

/// What to do with the cluster.
#[derive(Debug, Clone, Subcommand)]
enum ClusterCommand {
    /// Print the first map of slots for the store that is configured.
    Init(init::InitArgs),
    /// Ask every replica of the map how it fares.
    Status(status::StatusArgs),
}

/// Runs the command.
///
/// # Errors
/// What it failed with.
pub fn run(args: ClusterArgs) -> Result<ExitCode, CliError> {
    match args.command {
        ClusterCommand::Init(args) => init::run(args),
        ClusterCommand::Status(args) => status::run(args),
    }
}

/// The configured map, its names looked up once.
///
/// # Errors
/// None is configured, or it cannot be read.
pub(crate) async fn opened(config: &Config) -> Result<Arc<ResolvedMap>, CliError> {
    let Some(path) = &config.cluster.map else {
        return Err("cluster.map is not set: name the map of slots (seen cluster init prints a first one)".into());
    };
    let (handle, _watching) = MapSource::start(SourceOptions::new(path)).await?;
    Ok(handle.current())
}
