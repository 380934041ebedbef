//! `seen import`: loads histories in bulk, with their own times; resumable, and verified at the end.

mod checkpoint;
mod load;
pub(super) mod sample;
mod seed;
mod source;
mod token;
mod verify;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use seen_client::{Client, ClientOptions, Timeouts};
use serde_json::json;

use super::calls::table::{Table, grouped};
use super::calls::{NAMESPACE_DEFAULT, printed};
use super::export::positions;
use super::replay::embedded::Embedded;
use super::{CliError, ConfigSources, print};
use crate::history_file::{ColumnNames, MALFORMED_MAX_DEFAULT, Malformed};
use crate::runtime;
use crate::shutdown::Stop;

use checkpoint::Checkpoint;
use load::Loaded;
pub(super) use seed::seed;
use source::Export;
use token::Written;
use verify::Verified;

/// Deadline of one mark. Long: a loader would rather wait than fail.
const MARK_TIMEOUT: Duration = Duration::from_secs(60);
/// Deadline of one verifying Filter; it asks storage.
const VERIFY_TIMEOUT: Duration = Duration::from_secs(10);

/// Arguments of `seen import`.
#[derive(Debug, Clone, Args)]
pub struct ImportArgs {
    /// Histories (TSV or CSV of user, item[, kind], time, optionally .zst or .gz; Parquet; or the folder of
    /// an export); - is stdin
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Where the service is
    #[arg(long, value_name = "URL", env = "SEEN_SERVER", default_value = "http://127.0.0.1:7420")]
    server: String,
    /// Without a service: a node of this process on the configured store (--config, --set), which serves
    /// nobody else and is gone at the end; --server is not looked at
    #[arg(long)]
    direct: bool,
    #[command(flatten)]
    sources: ConfigSources,
    /// Into which history
    #[arg(long, value_name = "NAME", default_value = NAMESPACE_DEFAULT)]
    namespace: String,
    /// The columns of Parquet files, where they have other names than user, item, kind and marked_at, as
    /// in user=member_id,item=article_id,kind=1,time=read_at
    #[arg(long, value_name = "NAMES")]
    columns: Option<ColumnNames>,
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
pub(super) enum HowMany {
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

/// What all files came to.
struct Ended {
    reports: Vec<FileReport>,
    verified: Verified,
    exports: Vec<Export>,
    /// Whoever carries it reads everything that was imported now.
    token: String,
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
    if !args.direct && !args.sources.set.is_empty() {
        return Err("--set is for --direct; a service has a configuration of its own".into());
    }
    let control = runtime::control()?;
    let ended = control.block_on(reached(args));
    // A thread that still reads from a pipe must not hold up the end.
    control.shutdown_background();
    ended
}

/// Imports into the service that is named, or into one of this process.
async fn reached(args: &ImportArgs) -> Result<ExitCode, CliError> {
    if !args.direct {
        return import(args).await;
    }
    let config = args.sources.clone().load()?.config;
    let data_dir = config.storage.data_dir.clone();
    let node = Embedded::start(config, Some(data_dir)).await?;
    let done = import(&ImportArgs { server: node.server(), ..args.clone() }).await;
    let stopped = node.stop().await;
    let code = done?;
    stopped.map(|()| code)
}

async fn import(args: &ImportArgs) -> Result<ExitCode, CliError> {
    let stop = Stop::on_signals()?;
    let begin = Instant::now();
    let (expanded, exports) = source::expanded(args).await?;
    let args = &expanded;
    let client = Client::new(options(args))?;
    let mut written = Written::new();
    let mut sample = sample::Sample::new(match args.verify {
        HowMany::All => 0,
        HowMany::Sample(events) => events,
    });
    let mut reports = Vec::new();
    for path in &args.files {
        let place = Checkpoint::path(path, args.checkpoint_dir.as_deref());
        let loaded =
            load::load(args, &client, path, place, &mut sample, &mut written, &stop).await?;
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
    let ended = Ended { reports, verified, exports, token: printed(&written.token()) };
    report(args, &ended, begin.elapsed())?;
    let verified = &ended.verified;
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

fn report(args: &ImportArgs, ended: &Ended, took: Duration) -> Result<(), CliError> {
    let verified = &ended.verified;
    for FileReport { path, loaded } in &ended.reports {
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
    let took_s = took.as_secs_f64();
    let text = if args.json { format!("{}\n", object(ended, took_s)) } else { text(ended, took_s) };
    Ok(print(&text)?)
}

impl Ended {
    fn sum(&self, of: fn(&Loaded) -> u64) -> u64 {
        self.reports.iter().map(|one| of(&one.loaded)).sum()
    }

    fn events_per_s(&self, took_s: f64) -> f64 {
        (self.sum(|one| one.events) as f64 / took_s).round()
    }
}

fn object(ended: &Ended, took_s: f64) -> serde_json::Value {
    let file = |one: &FileReport| {
        json!({
            "file": one.path.display().to_string(), "events": one.loaded.events,
            "imported_before": one.loaded.before, "malformed": one.loaded.malformed,
            "whole": one.loaded.whole,
        })
    };
    let source = |export: &Export| {
        let purpose = &export.manifest.purpose;
        json!({
            "folder": export.folder.display().to_string(), "namespace": purpose.namespace,
            "store": purpose.store, "parts": export.manifest.parts,
        })
    };
    json!({
        "events": ended.sum(|one| one.events), "imported_before": ended.sum(|one| one.before),
        "malformed": ended.sum(|one| one.malformed),
        "verified": ended.verified.checked, "missing": ended.verified.missing,
        "files": ended.reports.iter().map(file).collect::<Vec<_>>(),
        "sources": ended.exports.iter().map(source).collect::<Vec<_>>(),
        "token": ended.token,
        "duration_s": took_s, "events_per_s": ended.events_per_s(took_s),
    })
}

fn text(ended: &Ended, took_s: f64) -> String {
    let mut table = Table::new(["FILE", "EVENTS", "IMPORTED BEFORE", "MALFORMED", "STATE"]);
    for FileReport { path, loaded } in &ended.reports {
        let state = if loaded.whole { "whole" } else { "interrupted; run it again to go on" };
        table.row([
            path.display().to_string(),
            grouped(loaded.events),
            grouped(loaded.before),
            grouped(loaded.malformed),
            state.to_owned(),
        ]);
    }
    let (checked, missing) = (grouped(ended.verified.checked), grouped(ended.verified.missing));
    let mut text = format!(
        "{}{} events in {took_s:.1} s ({}/s); looked up {checked}, MISSING {missing}\n",
        table.render(),
        grouped(ended.sum(|one| one.events)),
        grouped(ended.events_per_s(took_s) as u64)
    );
    if !ended.token.is_empty() {
        text += &format!("token: {}\n", ended.token);
    }
    for export in &ended.exports {
        text += &format!("exported from store {}:\n", export.manifest.purpose.store);
        text += &positions(&export.manifest.parts);
    }
    text
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
