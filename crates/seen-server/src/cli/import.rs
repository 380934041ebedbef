//! `seen import`: loads histories in bulk, with their own times; resumable, and verified at the end.

mod checkpoint;
mod load;
mod sample;
mod seed;
mod verify;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use seen_client::{Client, ClientOptions, Timeouts};
use serde_json::json;

use super::calls::NAMESPACE_DEFAULT;
use super::calls::table::{Table, grouped};
use super::{CliError, print};
use crate::history_file::{MALFORMED_MAX_DEFAULT, Malformed};
use crate::runtime;
use crate::shutdown::Stop;

use checkpoint::Checkpoint;
use load::Loaded;
pub(super) use seed::seed;
use verify::Verified;

/// Deadline of one mark. Long: a loader would rather wait than fail.
const MARK_TIMEOUT: Duration = Duration::from_secs(60);
/// Deadline of one verifying Filter; it asks storage.
const VERIFY_TIMEOUT: Duration = Duration::from_secs(10);

/// Arguments of `seen import`.
#[derive(Debug, Clone, Args)]
pub struct ImportArgs {
    /// Histories (TSV or CSV of user, item[, kind], time; optionally .zst or .gz); - is stdin
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Where the service is
    #[arg(long, value_name = "URL", env = "SEEN_SERVER", default_value = "http://127.0.0.1:7420")]
    server: String,
    /// Into which history
    #[arg(long, value_name = "NAME", default_value = NAMESPACE_DEFAULT)]
    namespace: String,
    /// Events a second at most [default: as many as there is time for]
    #[arg(long, value_name = "EVENTS_PER_S", value_parser = super::replay::parse_rate)]
    rate: Option<f64>,
    /// Streams that marks are sent over at the same time
    #[arg(long, value_name = "N", default_value_t = 2,
        value_parser = clap::value_parser!(u16).range(1..=64))]
    streams: u16,
    /// Folder of the checkpoint files [default: beside each history]
    #[arg(long, value_name = "DIR")]
    checkpoint_dir: Option<PathBuf>,
    /// Begin anew, whatever a checkpoint says
    #[arg(long)]
    restart: bool,
    /// Events that are looked up at the end: a number, all, or none
    #[arg(long, value_name = "EVENTS", default_value = "10000")]
    verify: HowMany,
    /// Malformed lines that are passed over; one more and the file is refused
    #[arg(long, value_name = "LINES", default_value_t = MALFORMED_MAX_DEFAULT)]
    malformed_max: u64,
    /// Print one JSON object as the last line of stdout
    #[arg(long)]
    json: bool,
}

/// How many events are looked up at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum HowMany {
    All,
    Sample(usize),
}

impl std::str::FromStr for HowMany {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "all" => Ok(Self::All),
            "none" => Ok(Self::Sample(0)),
            number => {
                let wrong = |_| format!("{number:?}; a number up to {SAMPLE_MAX}, all, or none");
                let sample: u32 = number.parse().map_err(wrong)?;
                if sample > SAMPLE_MAX {
                    return Err(format!("{sample}; at most {SAMPLE_MAX}, or all"));
                }
                Ok(Self::Sample(sample as usize))
            }
        }
    }
}

/// Most events of a sample; they are kept in memory.
const SAMPLE_MAX: u32 = 10_000_000;

/// What one file came to.
#[derive(Debug)]
struct FileReport {
    path: PathBuf,
    loaded: Loaded,
}

/// Imports, verifies, and reports. The exit status is 1 if something is missing afterwards, or if it
/// was interrupted.
///
/// # Errors
/// A file or checkpoint that cannot be used, or a service that refuses.
pub fn run(args: &ImportArgs) -> Result<ExitCode, CliError> {
    if let HowMany::All = args.verify
        && args.files.iter().any(|file| file == Path::new("-"))
    {
        return Err("--verify all: stdin cannot be read twice; give a number, or a file".into());
    }
    let control = runtime::control()?;
    let ended = control.block_on(import(args));
    // A thread that still reads from a pipe must not hold up the end.
    control.shutdown_background();
    ended
}

async fn import(args: &ImportArgs) -> Result<ExitCode, CliError> {
    let stop = Stop::on_signals()?;
    let begin = Instant::now();
    let client = Client::new(options(args))?;
    let mut sample = sample::Sample::new(match args.verify {
        HowMany::All => 0,
        HowMany::Sample(events) => events,
    });
    let mut reports = Vec::new();
    for path in &args.files {
        let place = Checkpoint::path(path, args.checkpoint_dir.as_deref());
        let loaded = load::load(args, &client, path, place, &mut sample, &stop).await?;
        reports.push(FileReport { path: path.clone(), loaded });
        if stop.is_requested() {
            break;
        }
    }
    let verified = match (stop.is_requested(), args.verify) {
        (true, _) => Verified::default(),
        (_, HowMany::All) => verify::all(args, &client).await?,
        (_, HowMany::Sample(_)) => verify::sample(args, &client, sample.into_events()).await?,
    };
    report(args, &reports, &verified, begin.elapsed())?;
    let whole = verified.missing == 0 && !stop.is_requested();
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn options(args: &ImportArgs) -> ClientOptions {
    let timeouts = Timeouts { filter: VERIFY_TIMEOUT, write: MARK_TIMEOUT, ..Timeouts::default() };
    ClientOptions {
        timeouts,
        connect_timeout: Duration::from_secs(5),
        // What is not acknowledged is bounded, so that repeats cannot pile up: all are allowed.
        attempts_max: 10,
        retry_percent_max: 100,
        ..ClientOptions::new(&args.server).connections(usize::from(args.streams))
    }
}

fn malformed_text(path: &Path, malformed: u64, first: &[Malformed]) -> String {
    if malformed == 0 {
        return String::new();
    }
    let mut text = format!("{}: {malformed} malformed lines passed over:\n", path.display());
    first.iter().for_each(|one| text.push_str(&format!("  {one}\n")));
    text
}

fn report(
    args: &ImportArgs,
    reports: &[FileReport],
    verified: &Verified,
    took: Duration,
) -> Result<(), CliError> {
    for FileReport { path, loaded } in reports {
        eprint!("{}", malformed_text(path, loaded.malformed, &loaded.first_malformed));
    }
    for story in &verified.stories {
        eprintln!("{story}");
    }
    if verified.missing > 0 {
        eprintln!(
            "If the checkpoint is of another service, pass --restart. A namespace that keeps the \
             newest items only, or for a time, drops the others."
        );
    }
    let sum = |of: fn(&Loaded) -> u64| reports.iter().map(|one| of(&one.loaded)).sum::<u64>();
    let (events, before) = (sum(|one| one.events), sum(|one| one.before));
    let rate = (events as f64 / took.as_secs_f64()).round();
    if args.json {
        let files: Vec<_> = reports
            .iter()
            .map(|one| {
                json!({
                    "file": one.path.display().to_string(), "events": one.loaded.events,
                    "imported_before": one.loaded.before, "malformed": one.loaded.malformed,
                    "whole": one.loaded.whole,
                })
            })
            .collect();
        let object = json!({
            "events": events, "imported_before": before, "malformed": sum(|one| one.malformed),
            "verified": verified.checked, "missing": verified.missing, "files": files,
            "duration_s": took.as_secs_f64(), "events_per_s": rate,
        });
        return Ok(print(&format!("{object}\n"))?);
    }
    let mut table = Table::new(["FILE", "EVENTS", "IMPORTED BEFORE", "MALFORMED", "STATE"]);
    for FileReport { path, loaded } in reports {
        let state = if loaded.whole { "whole" } else { "interrupted; run it again to go on" };
        table.row([
            path.display().to_string(),
            grouped(loaded.events),
            grouped(loaded.before),
            grouped(loaded.malformed),
            state.to_owned(),
        ]);
    }
    let (checked, missing) = (grouped(verified.checked), grouped(verified.missing));
    Ok(print(&format!(
        "{}{} events in {:.1} s ({}/s); looked up {checked}, MISSING {missing}\n",
        table.render(),
        grouped(events),
        took.as_secs_f64(),
        grouped(rate as u64)
    ))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn how_many_to_verify_is_a_number_or_a_word() {
        assert_eq!("all".parse(), Ok(HowMany::All));
        assert_eq!("none".parse(), Ok(HowMany::Sample(0)));
        assert_eq!("25".parse(), Ok(HowMany::Sample(25)));
        for bad in ["some", "-1", "10000001", ""] {
            assert!(bad.parse::<HowMany>().is_err(), "{bad:?}");
        }
    }
}
