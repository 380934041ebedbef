//! `seen replay`: replays a history through the API in its order, and compares every answer with
//! what is known to be true.

mod display;
pub(crate) mod embedded;
mod engine;
mod figures;
mod report;
mod truth;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;

use super::calls::NAMESPACE_DEFAULT;
use super::{CliError, ConfigSources, print};
use crate::history_file::MALFORMED_MAX_DEFAULT;
use crate::runtime;
use crate::shutdown::Stop;

use display::Display;
use embedded::Embedded;
use engine::{Progress, Replayed};

pub(crate) use engine::{Example, ReplayOptions, Source};
pub(crate) use report::Report;

/// Highest `--candidates`: what one Filter takes.
const CANDIDATES_MAX: i64 = seen_proto::limits::CANDIDATES_MAX as i64;

/// How a history is replayed; part of `seen replay` and `seen demo`.
#[derive(Debug, Clone, Args)]
pub struct Pace {
    /// Items of each Filter, half of them drawn from everything that the user has read
    #[arg(long, value_name = "N", default_value_t = 400,
        value_parser = clap::value_parser!(u16).range(1..=CANDIDATES_MAX))]
    candidates: u16,
    /// Users whose events are under way at the same time
    #[arg(long, value_name = "USERS", default_value_t = 128,
        value_parser = clap::value_parser!(u32).range(1..=65_536))]
    concurrency: u32,
    /// Events a second at most [default: as many as there is time for]
    #[arg(long, value_name = "EVENTS_PER_S", value_parser = parse_rate)]
    rate: Option<f64>,
    /// Events at most [default: all]
    #[arg(long, value_name = "EVENTS")]
    limit: Option<u64>,
    /// Deadline of a Filter
    #[arg(long, value_name = "DURATION", default_value = "1s")]
    timeout: humantime::Duration,
    /// Threads that generate load [default: one for four cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    load_threads: Option<u16>,
    /// Where the draws of candidates begin; the same number draws the same
    #[arg(long, value_name = "NUMBER", default_value_t = 1)]
    seed: u64,
}

/// Arguments of `seen replay`.
#[derive(Debug, Clone, Args)]
pub struct ReplayArgs {
    /// Histories (TSV or CSV of user, item[, kind], time; optionally .zst or .gz); - is stdin
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Where the service is
    #[arg(long, value_name = "URL", env = "SEEN_SERVER", default_value = "http://127.0.0.1:7420")]
    server: String,
    /// Where its admin service is, for the figures about memory [default: the next port]
    #[arg(long, value_name = "URL", env = "SEEN_ADMIN")]
    admin: Option<String>,
    /// Start a fresh embedded service for the replay instead
    #[arg(long)]
    embedded: bool,
    /// Where the embedded service keeps its data [default: a temporary folder]
    #[arg(long, value_name = "DIR", requires = "embedded")]
    data_dir: Option<PathBuf>,
    #[command(flatten)]
    sources: ConfigSources,
    /// In which history
    #[arg(long, value_name = "NAME", default_value = NAMESPACE_DEFAULT)]
    namespace: String,
    #[command(flatten)]
    pace: Pace,
    /// Malformed lines that are passed over; one more and the file is refused
    #[arg(long, value_name = "LINES", default_value_t = MALFORMED_MAX_DEFAULT)]
    malformed_max: u64,
    /// Print one JSON object as the last line of stdout
    #[arg(long)]
    json: bool,
}

/// A number of events a second.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn parse_rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| format!("{text:?} is no number"))?;
    if rate > 0.0 && rate <= 1e9 {
        Ok(rate)
    } else {
        Err(format!("{rate}; more than 0, at most 1,000,000,000"))
    }
}

impl Pace {
    /// What a replay of this kind is made with.
    pub(crate) fn options(
        &self,
        server: String,
        namespace: String,
        malformed_max: u64,
    ) -> ReplayOptions {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = self.load_threads.map_or(cores.div_ceil(4), usize::from);
        ReplayOptions {
            server,
            namespace,
            candidates: usize::from(self.candidates),
            concurrency: self.concurrency as usize,
            threads,
            // One connection is served by one thread: with as many as cores all of them work.
            connections: cores.max(threads),
            rate: self.rate,
            limit: self.limit,
            seed: self.seed,
            timeout: self.timeout.into(),
            malformed_max,
        }
    }
}

/// Replays and reports. The exit status is 1 if an unflagged answer called a read item unread.
///
/// # Errors
/// A file that cannot be read, a service that cannot be had, or too many failed calls.
pub fn run(args: ReplayArgs) -> Result<ExitCode, CliError> {
    let control = runtime::control()?;
    let stop = control.block_on(async { Stop::on_signals() })?;
    let embedded = match args.embedded {
        true => {
            Some(control.block_on(Embedded::start(args.sources.load()?.config, args.data_dir))?)
        }
        false => None,
    };
    let (server, admin) = match &embedded {
        Some(embedded) => (embedded.server(), Some(embedded.admin())),
        None => (args.server.clone(), args.admin.clone().or(next_port(&args.server))),
    };
    let options = args.pace.options(server, args.namespace, args.malformed_max);
    let sources = args.files.into_iter().map(Source::File).collect();
    let outcome = control.block_on(watched(options, sources, admin, stop));
    // Stopped even after a failure, so that what was written is closed in peace.
    let stopped = embedded.map_or(Ok(()), |embedded| control.block_on(embedded.stop()));
    let (report, _) = outcome?;
    stopped?;
    eprint!("{}", report.warnings());
    match args.json {
        true => print(&format!("{}\n", report.json()))?,
        false => print(&report.table())?,
    }
    Ok(report.exit_code())
}

/// The admin service's usual address: the port after the API's.
fn next_port(server: &str) -> Option<String> {
    let (host, port) = server.trim_end_matches('/').rsplit_once(':')?;
    let port = port.parse::<u16>().ok()?.checked_add(1)?;
    Some(format!("{host}:{port}"))
}

/// Replays on threads of its own, with a live display meanwhile.
///
/// # Errors
/// As for [`engine::replay`].
pub(crate) async fn watched(
    options: ReplayOptions,
    sources: Vec<Source>,
    admin: Option<String>,
    stop: Stop,
) -> Result<(Report, Option<Example>), CliError> {
    let progress = Arc::new(Progress::default());
    let mut display = Display::new(Arc::clone(&progress), admin.as_deref()).await;
    let shared = Arc::clone(&progress);
    let work = move || engine::replay(&options, sources, &shared, &stop);
    let mut replaying = tokio::task::spawn_blocking(work);
    let mut ticks = tokio::time::interval(Duration::from_secs(1));
    ticks.tick().await;
    let replayed = loop {
        tokio::select! {
            ended = &mut replaying => break ended?,
            _ = ticks.tick() => display.show().await,
        }
    };
    let last = display.end().await;
    let Replayed { read, example } = replayed?;
    Ok((Report::new(progress.figures.snapshot(), read, last), example))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_admin_service_is_looked_for_at_the_next_port() {
        assert_eq!(next_port("http://seen:7420").as_deref(), Some("http://seen:7421"));
        assert_eq!(next_port("127.0.0.1:7420/").as_deref(), Some("127.0.0.1:7421"));
        assert_eq!(next_port("http://seen"), None);
        assert_eq!(next_port("x:65535"), None);
    }

    #[test]
    fn rates_are_positive_numbers() {
        assert_eq!(parse_rate("0.5"), Ok(0.5));
        for bad in ["0", "-1", "NaN", "inf", "x", ""] {
            assert!(parse_rate(bad).is_err(), "{bad:?}");
        }
    }
}
