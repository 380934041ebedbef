//! `seen cluster`: the map of slots, and the replicas that it names.

pub mod apply;
mod ask;
pub mod init;
mod place;
pub mod plan;
pub mod status;
mod wish;

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use clap::{Args, Subcommand};
use seen_cluster::map::{MapSource, ResolvedMap, SlotMap, SourceOptions};

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
    /// Show the steps of a change of the map.
    Plan(plan::PlanArgs),
    /// Change the map step by step, while everything runs.
    Apply(apply::ApplyArgs),
}

/// Runs the command.
///
/// # Errors
/// What it failed with.
pub fn run(args: ClusterArgs) -> Result<ExitCode, CliError> {
    match args.command {
        ClusterCommand::Init(args) => init::run(args),
        ClusterCommand::Status(args) => status::run(args),
        ClusterCommand::Plan(args) => plan::run(args),
        ClusterCommand::Apply(args) => apply::run(args),
    }
}

/// The configured map's file.
///
/// # Errors
/// None is configured.
fn map_path(config: &Config) -> Result<&Path, CliError> {
    let unset =
        "cluster.map is not set: name the map of slots (seen cluster init prints a first one)";
    Ok(config.cluster.map.as_deref().ok_or(unset)?)
}

/// The map in a file.
///
/// # Errors
/// It cannot be read, or is no map.
fn read_map(path: &Path) -> Result<SlotMap, CliError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| format!("cluster.map {}: {error}", path.display()))?;
    Ok(SlotMap::parse(&text)?)
}

/// The configured map, its names looked up once.
///
/// # Errors
/// None is configured, or it cannot be read.
pub(crate) async fn opened(config: &Config) -> Result<Arc<ResolvedMap>, CliError> {
    let (handle, _watching) = MapSource::start(SourceOptions::new(map_path(config)?)).await?;
    Ok(handle.current())
}
