//! `seen cluster apply`: carries a change of the map out, step by step, while everything runs.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use futures_util::future::BoxFuture;
use indicatif::ProgressBar;
use seen_cluster::map::apply::{
    ApplyOptions, ClusterState, ClusterView, Progress, ReplicaReport, ReplicaSays, apply,
};
use seen_cluster::map::plan::Plan;
use seen_cluster::map::{MapFile, MapHandle, MapSource, SlotMap, SourceOptions};

use super::ask;
use super::map_path;
use super::plan::step_text;
use super::wish::WishArgs;
use crate::cli::{CliError, ConfigSources};
use crate::node::{self, LinkTls};
use crate::runtime;

/// How long the names of a new map may take to be looked up before replicas are asked.
const NAMES_WITHIN: Duration = Duration::from_secs(10);

/// Arguments of `seen cluster apply`.
#[derive(Debug, Clone, Args)]
pub struct ApplyArgs {
    /// Where the configuration is read from: cluster.map names the map, which every process must see change
    #[command(flatten)]
    sources: ConfigSources,
    #[command(flatten)]
    wishes: WishArgs,
    /// How long one step may wait
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = humantime::parse_duration)]
    step_timeout: Duration,
    /// So many replicas of a slot may be silent, but not all of them
    #[arg(long, value_name = "N", default_value_t = 0)]
    silent_max: usize,
}

/// Carries the change out. Broken off, it is run again with the same wishes: the map itself says how far it came.
///
/// # Errors
/// A step that waited too long, or a map that somebody else changed; what was done stands and is safe to stay.
pub fn run(args: ApplyArgs) -> Result<ExitCode, CliError> {
    let config = args.sources.load()?.config;
    let path = map_path(&config)?.to_owned();
    let tls = node::link_tls(&config.tls)?;
    let control = runtime::control()?;
    control.block_on(async {
        let options = ApplyOptions {
            step_timeout: args.step_timeout,
            silent_replicas_max: args.silent_max,
            ..ApplyOptions::default()
        };
        let bar = ProgressBar::new_spinner();
        let wished = |map: &SlotMap| args.wishes.plan(map);
        let plan =
            carried_out(&path, wished, tls, &options, |of, step| show(&bar, of, &step)).await;
        bar.finish_and_clear();
        let plan = plan?;
        let done = if plan.steps.is_empty() { "as wished: nothing to do" } else { "in use: done" };
        eprintln!("seen: epoch {} is {done}", plan.goal().epoch);
        Ok(ExitCode::SUCCESS)
    })
}

/// Carries a change of the map in a file out: what is wished is asked for the map as it is now. `tell` is told how many steps
/// there are, and how far it is.
///
/// # Errors
/// As [`run`].
pub(crate) async fn carried_out(
    path: &Path,
    wished: impl Fn(&SlotMap) -> Result<Plan, CliError>,
    tls: Option<LinkTls>,
    options: &ApplyOptions,
    tell: impl Fn(usize, Progress<'_>) + Send + Sync,
) -> Result<Plan, CliError> {
    let file = MapFile::open(path)?;
    let plan = wished(&file.read()?)?;
    if plan.steps.is_empty() {
        return Ok(plan);
    }
    let (map, watching) = MapSource::start(SourceOptions::new(path)).await?;
    let watching = tokio::spawn(watching);
    let view = Asked { map, tls };
    let of = plan.steps.len();
    let applied = apply(&file, &plan, &view, options, &mut |progress| tell(of, progress)).await;
    watching.abort();
    applied?;
    Ok(plan)
}

fn show(bar: &ProgressBar, of: usize, progress: &Progress<'_>) {
    match progress {
        Progress::InPlace { at, step } => bar.suspend(|| eprint!("{}", step_text(*at, of, step))),
        Progress::Waiting { at, judgement, elapsed } => {
            let missing = judgement.missing.first().map_or("", String::as_str);
            bar.set_message(format!(
                "step {} of {of}: {} of {} replicas as they should be, {:.1} % of incoming users, {} s; {missing}",
                at + 1,
                judgement.fulfilled,
                judgement.replicas,
                f64::from(judgement.incoming_permille) / 10.0,
                elapsed.as_secs(),
            ));
            bar.tick();
        }
        Progress::Draining { at, left } => {
            bar.set_message(format!("step {} of {of}: {} s more", at + 1, left.as_secs()));
            bar.tick();
        }
        Progress::Finished => {}
    }
}

/// Asks the replicas themselves. Which proxies there are nobody here knows: they look at the map each second, and the
/// wait of a step is longer than that.
struct Asked {
    map: Arc<MapHandle>,
    tls: Option<LinkTls>,
}

impl ClusterView for Asked {
    fn look<'a>(&'a self, map: &'a SlotMap) -> BoxFuture<'a, ClusterState> {
        Box::pin(async move {
            let resolved = async {
                let mut resolved = self.map.current();
                while resolved.map.epoch < map.epoch {
                    resolved = self.map.changed(resolved.revision).await;
                }
                resolved
            };
            let Ok(resolved) = tokio::time::timeout(NAMES_WITHIN, resolved).await else {
                return ClusterState::default();
            };
            let told = ask::all(&resolved, self.tls.as_ref()).await;
            let replicas = told.into_iter().map(|one| ReplicaReport {
                tag: one.pool,
                slot: one.slot,
                name: one.name,
                said: one.said.map(|(identity, state)| ReplicaSays::new(&identity, &state)),
            });
            ClusterState { replicas: replicas.collect(), proxies: Vec::new() }
        })
    }
}
