//! `seen bench`: this program measured against rivals on this machine.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};

use super::{CliError, print};
use crate::bench::{
    self, EchoSpec, Effort, FootprintSpec, Group, Outcome, Plan, Progress, ProxySpec, ServeSpec,
};
use crate::runtime;
use crate::shutdown::Stop;

/// Arguments of `seen bench`.
#[derive(Debug, Clone, Args)]
pub struct BenchArgs {
    /// Less of everything, and the hop_* only if named: under a minute in all
    #[arg(long)]
    quick: bool,
    /// A million users where memory is measured, which takes about 12 GB of it and half an hour
    #[arg(long, conflicts_with = "quick")]
    full: bool,
    /// End with one JSON list on stdout: {name, ours, rival, ratio, unit, ...}; the table goes to
    /// stderr
    #[arg(long)]
    json: bool,
    /// Measure only this; may be repeated
    #[arg(long, value_name = "NAME", value_enum)]
    only: Vec<Group>,
    /// Write a self-contained HTML page with charts
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Users whose memory is measured [default: 200000; 20000 with --quick, 1000000 with --full]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(100..=10_000_000))]
    memory_users: Option<u64>,
    /// How long hop_push pushes beside feed [default: 30s; 3m with --full]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    push_lasting: Option<Duration>,
    /// Compare with the RedisBloom at this address, too; keys seen-bench:* are made and removed
    #[arg(long, value_name = "ADDRESS")]
    redisbloom: Option<SocketAddr>,
    /// A folder on a real disk, for the store's files while it is measured
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    dir: PathBuf,
    /// Measure durable_marks and build_user on this configuration's storage instead of the embedded
    /// store; it must hold no rows yet, and is left with made-up ones
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// Measures, and prints what was found. The exit status is 1 if something could not be measured; a
/// missed aim is a result like any other.
///
/// # Errors
/// What kept a measurement from being taken, or the report from being written.
pub fn run(args: BenchArgs) -> Result<ExitCode, CliError> {
    let effort = match (args.quick, args.full) {
        (true, _) => Effort::Quick,
        (_, true) => Effort::Full,
        _ => Effort::Usual,
    };
    let plan = Plan {
        effort,
        only: args.only,
        memory_users: args.memory_users,
        push_lasting: args.push_lasting,
        redisbloom: args.redisbloom,
        dir: args.dir,
        config: args.config,
    };
    let outcome = runtime::control()?.block_on(async {
        // A signal ends the run after the present step, so that every folder is removed on the way
        // out; a second one ends it at once.
        let stop = Stop::on_signals()?;
        tokio::task::spawn_blocking(move || {
            let progress = Progress::start(stop);
            bench::run(&plan, &progress)
        })
        .await
        .map_err(CliError::from)?
        .map_err(CliError::from)
    })?;
    if let Some(file) = &args.report {
        std::fs::write(file, bench::html(&outcome))
            .map_err(|error| format!("cannot write {} (--report): {error}", file.display()))?;
    }
    show(&outcome, args.json)?;
    Ok(if outcome.failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn show(outcome: &Outcome, json: bool) -> Result<(), CliError> {
    let table = bench::table(outcome);
    if json {
        eprint!("{table}");
        print(&format!("{}\n", bench::json(&outcome.figures)))?;
    } else {
        print(&table)?;
    }
    Ok(())
}

/// Arguments of `seen bench-part`, which only `seen bench` runs.
#[derive(Debug, Clone, Args)]
pub struct PartArgs {
    #[command(subcommand)]
    part: Part,
}

/// A child process of a benchmark.
#[derive(Debug, Clone, Subcommand)]
enum Part {
    /// A node with users in memory
    Serve(ServeSpec),
    /// A proxy
    Proxy(ProxySpec),
    /// A bare tonic service
    Echo(EchoSpec),
    /// A table of users
    Footprint(FootprintSpec),
}

/// Runs a child until its standard input closes or its work is done.
///
/// # Errors
/// What kept it from its work.
pub fn run_part(args: &PartArgs) -> Result<ExitCode, CliError> {
    match &args.part {
        Part::Serve(spec) => bench::run_serve(spec)?,
        Part::Proxy(spec) => bench::run_proxy(spec)?,
        Part::Echo(spec) => bench::run_echo(spec)?,
        Part::Footprint(spec) => bench::run_footprint(spec)?,
    }
    Ok(ExitCode::SUCCESS)
}
