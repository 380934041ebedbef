//! `seen drill`: real processes, real faults, and a checker that knows every acknowledged mark.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use super::calls::NAMESPACE_DEFAULT;
use super::dev_cluster::{DevCluster, News, Part, started};
use super::{CliError, ConfigSources, print};
use crate::drill::{self, Backing, DrillOptions, Fault, Report, Setting};
pub use crate::drill::{Act, BigUser, Stage};
use crate::runtime;
use crate::shutdown::Stop;

/// How long the cluster may take to start.
const START_MAX: Duration = Duration::from_secs(120);
/// Warm-ups are made slow, so that they last for long enough to be torn.
const SLOW_WARM_UP: &str = "cluster.warm_cpu_share=0.01";
/// Users that the callers ask about.
const USERS: u64 = 400;
/// The replica in front of which something stands that can be made slow, where a fault needs it.
const SLOWED: &str = "feed-1-1";

/// Arguments of `seen drill`.
#[derive(Debug, Clone, Args)]
pub struct DrillArgs {
    /// Where the configuration of all parts is read from
    #[command(flatten)]
    sources: ConfigSources,
    /// Where the map, the logs and the embedded store are kept [default: a temporary folder]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// The first of the ports on 127.0.0.1 that the parts take
    #[arg(long, value_name = "PORT", default_value_t = 7600)]
    port_base: u16,
    /// How long: each fault once, and then random ones until this has passed
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = humantime::parse_duration)]
    time: Duration,
    /// Only this happens; may be given several times [default: everything]
    #[arg(long, value_name = "FAULT", value_enum)]
    fault: Vec<Fault>,
    /// How long nothing happens between two faults
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = humantime::parse_duration)]
    pause: Duration,
    /// Filters of 400 candidates a second
    #[arg(long, value_name = "N", default_value_t = 400)]
    filters: u32,
    /// Marks a second
    #[arg(long, value_name = "N", default_value_t = 200)]
    marks: u32,
    /// So many percent of the Filters that the cluster bears with little of the processor, which is found out first; with so many
    /// marks to a Filter as --filters and --marks say. Needs control groups
    #[arg(long, value_name = "PERCENT", value_parser = clap::value_parser!(u32).range(1..=100))]
    load: Option<u32>,
    /// Storage is a TiDB without change events: what is expected of faults is what can be where every answer is asked of storage
    #[arg(long)]
    tidb: bool,
    /// Where the random choices begin [default: another one each time]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// The history that is marked and asked about; best one of its own, since users of any number are made up
    #[arg(long, value_name = "NAME", default_value = NAMESPACE_DEFAULT)]
    namespace: String,
    /// Every fault once that can be done here: those to servers and networks too, which scripts/faults has
    #[arg(long, conflicts_with = "fault")]
    all: bool,
    /// How long Kafka is gone
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = humantime::parse_duration)]
    long: Duration,
    /// Write what was expected and measured into this document, and end with 1 if that is not the same
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Tell of every fault, and do nothing
    #[arg(long)]
    list: bool,
    /// What the parts run [default: this program]
    #[arg(long, value_name = "FILE", hide = true)]
    program: Option<PathBuf>,
    /// Print one JSON object as the last line of stdout
    #[arg(long)]
    json: bool,
}

/// Starts a cluster, drills it, and reports. The exit status is 1 if the promise was broken.
///
/// # Errors
/// What keeps it from starting or from ending.
pub fn run(args: DrillArgs) -> Result<ExitCode, CliError> {
    run_on(args, None)
}

/// The same on servers that somebody has started for it.
///
/// # Errors
/// As [`run`].
pub fn run_on(args: DrillArgs, stage: Option<Arc<dyn Stage>>) -> Result<ExitCode, CliError> {
    if args.list {
        print(&drill::listed(backing(&args)))?;
        return Ok(ExitCode::SUCCESS);
    }
    let callers = runtime::callers()?;
    let ended = callers.block_on(drilled(args, stage));
    callers.shutdown_background();
    ended
}

async fn drilled(mut args: DrillArgs, stage: Option<Arc<dyn Stage>>) -> Result<ExitCode, CliError> {
    let asked_to_stop = Stop::on_signals()?;
    // The parts end after the drill, not with the signal.
    let stop = Stop::default();
    let seed = args.seed.unwrap_or_else(|| rand::random::<u64>() >> 1);
    eprintln!("seen: drill with --seed {seed}");
    // First, so that what is set by hand comes after it.
    args.sources.set.insert(0, SLOW_WARM_UP.to_owned());
    let places = (args.port_base, args.program.as_deref());
    let is_wanted = args.all || args.fault.iter().any(|fault| drill::wants_a_way(*fault));
    let way = |part: &Part| {
        let is_it = is_wanted && part.name == SLOWED;
        stage.as_ref().filter(|_| is_it)?.way_to(part.link())
    };
    let dir = args.dir.as_deref();
    let mut cluster = started(&args.sources, dir, places, way, &stop, note).await?;
    let setting = setting(&args, seed, stage.as_deref());
    let backing = setting.backing;
    // The servers stay until the parts have ended.
    let servers = stage.clone();
    let options = DrillOptions {
        faults: args.fault,
        all: args.all,
        long: args.long,
        time: if args.all { Duration::ZERO } else { args.time },
        pause: args.pause,
        namespace: args.namespace,
        users: USERS,
        filters_per_s: args.filters,
        marks_per_s: args.marks,
        percent_of_borne: args.load,
        backing,
        seed,
    };
    let report = match cluster.ready_within(START_MAX).await {
        false => Err(not_started(&cluster).await.into()),
        true => {
            let tell = |line: &str| eprintln!("seen: {line}");
            let report = drill::run(&cluster, stage, &options, &asked_to_stop, tell).await;
            report.map_err(CliError::from)
        }
    };
    // First of all: whatever else fails, what was measured is told.
    let held = report.and_then(|report| {
        if let Some(why) = &report.ended_early {
            eprintln!("seen: the drill did not come to its end: {why}");
        }
        told(&report, &setting, args.report.as_deref(), args.json)
    });
    if !matches!(held, Ok(true)) {
        cluster.keep_folder();
        eprintln!("seen: logs {}", cluster.launch.logs().display());
    }
    cluster.end().await?;
    drop(servers);
    Ok(if held? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn not_started(cluster: &DevCluster) -> String {
    let said = cluster.complaints().await.join("; ");
    format!("the cluster was not whole after {} s: {said}", START_MAX.as_secs())
}

/// Prints a report and writes it. True if all was as it has to be.
fn told(
    report: &Report,
    setting: &Setting,
    document: Option<&Path>,
    as_json: bool,
) -> Result<bool, CliError> {
    match as_json {
        true => print(&format!("{}\n", report.json()))?,
        false => print(&report.table())?,
    }
    let Some(path) = document else { return Ok(report.is_sound()) };
    drill::written(path, setting, report)
        .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    Ok(report.is_as_expected())
}

fn setting(args: &DrillArgs, seed: u64, stage: Option<&dyn Stage>) -> Setting {
    let stage = stage.map_or_else(|| "the store of the configuration".to_owned(), Stage::tell);
    let callers = format!("by {USERS} users through two proxies; --seed {seed}");
    Setting { stage, backing: backing(args), callers }
}

fn backing(args: &DrillArgs) -> Backing {
    if args.tidb { Backing::Tidb } else { Backing::Fed }
}

fn note(news: &News) {
    if let News::Ended { part, status, .. } = news {
        eprintln!("seen: {part} ended ({status})");
    }
}
