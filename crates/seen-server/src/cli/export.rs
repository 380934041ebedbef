//! `seen export`: all rows of a namespace into files or one file, with the positions that a follower of the store's
//! changes goes on from; resumable, and verified at the end.

pub(super) mod check;
mod columns;
mod encode;
pub(super) mod manifest;
pub(super) mod pacer;
mod single;
mod stream;
mod walk;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::json;

use super::calls::table::{Table, grouped};
use super::import::HowMany;
use super::{CliError, ConfigSources, print};
use crate::config::Config;
use crate::node::Reading;
use crate::runtime;
use crate::shutdown::Stop;

use check::{Checked, LookedUp};
use manifest::{Compression, Format, MANIFEST, Manifest, Part};

/// Rows that are looked up in storage by `--verify` alone.
const LOOKED_UP_DEFAULT: &str = "10000";

/// Arguments of `seen export`.
#[derive(Debug, Clone, Args)]
pub struct ExportArgs {
    #[command(flatten)]
    sources: ConfigSources,
    /// Which history
    #[arg(long, value_name = "NAME", default_value = super::calls::NAMESPACE_DEFAULT)]
    namespace: String,
    /// The folder that the files go to; a single file (*.tsv, *.tsv.zst, *.tsv.gz, *.parquet), which
    /// is there when it is whole; - is stdout
    #[arg(long, value_name = "PATH")]
    out: PathBuf,
    /// The form of the files in a folder
    #[arg(long, value_enum, default_value_t = Format::Tsv)]
    format: Format,
    /// How they are compressed [default: zstd; on stdout none]
    #[arg(long, value_enum)]
    compress: Option<Compression>,
    /// Rows a second at most [default: as many as there is time for]
    #[arg(long, value_name = "ROWS_PER_S", value_parser = super::replay::parse_rate)]
    rate: Option<f64>,
    /// Rows of a file; what a crash in its middle loses is read again
    #[arg(long, value_name = "ROWS", default_value_t = 1_000_000,
        value_parser = clap::value_parser!(u64).range(1..=1_000_000_000))]
    file_rows: u64,
    /// Remove what an export before has left there, and begin anew
    #[arg(long)]
    restart: bool,
    /// Export nothing: read a finished export again, and look so many of its rows up in storage (a
    /// number, all, or none) [default: 10000]
    #[arg(long, value_name = "ROWS", num_args = 0..=1, default_missing_value = LOOKED_UP_DEFAULT,
        conflicts_with = "restart")]
    verify: Option<HowMany>,
    /// Print one JSON object as the last line of stdout
    #[arg(long)]
    json: bool,
}

/// What a run came to.
struct Outcome {
    manifest: Manifest,
    /// Rows written now.
    rows: u64,
    checked: Option<Checked>,
    looked_up: Option<LookedUp>,
}

/// Exports, reads what it has written, and reports. The exit status is 1 if a file or row is not as it
/// should be, or if it was interrupted.
///
/// # Errors
/// A store or folder that cannot be used.
pub fn run(args: ExportArgs) -> Result<ExitCode, CliError> {
    let config = args.sources.clone().load()?.config;
    let control = runtime::control()?;
    let to_stdout = args.out == Path::new("-");
    if let Some(form) = single::form(&args)? {
        return control.block_on(single::run(&args, &config, form));
    }
    if !to_stdout {
        return control.block_on(export(&args, &config));
    }
    if args.json || args.verify.is_some() || args.restart || args.format == Format::Parquet {
        return Err(
            "--out -: stdout takes lines alone, and holds nothing to look at again; leave out \
                    --json, --verify, --restart and --format parquet, or give a folder"
                .into(),
        );
    }
    control.block_on(stream::to_stdout(&args, &config))
}

async fn export(args: &ExportArgs, config: &Config) -> Result<ExitCode, CliError> {
    let stop = Stop::on_signals()?;
    let begin = Instant::now();
    let store = Reading::open(config).await?;
    let outcome = match args.verify {
        None => walk::run(args, config, &store, &stop).await,
        Some(how_many) => verify(args, config, &store, how_many).await,
    };
    store.close().await;
    let outcome = outcome?;
    report(args, &outcome, begin.elapsed())?;
    let damaged = outcome.checked.as_ref().is_some_and(|checked| checked.damaged > 0);
    let missing = outcome.looked_up.as_ref().is_some_and(|looked_up| looked_up.missing > 0);
    let whole = outcome.manifest.finished && !damaged && !missing;
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Reads a finished export again, and looks rows of it up.
async fn verify(
    args: &ExportArgs,
    config: &Config,
    store: &Reading,
    how_many: HowMany,
) -> Result<Outcome, CliError> {
    let folder = &args.out;
    let manifest = Manifest::read(folder)?
        .ok_or_else(|| format!("{}: there is no {MANIFEST} in it", folder.display()))?;
    if !manifest.finished {
        let what =
            format!("{}: the export is not finished; run it again to go on", folder.display());
        return Err(what.into());
    }
    let purpose = walk::purpose(args, config, store)?;
    if (&purpose.namespace, &purpose.store)
        != (&manifest.purpose.namespace, &manifest.purpose.store)
    {
        let what = format!(
            "{} holds namespace {:?} of store {}, and this is {:?} of {}",
            folder.display(),
            manifest.purpose.namespace,
            manifest.purpose.store,
            purpose.namespace,
            purpose.store
        );
        return Err(what.into());
    }
    let checked = check::files(folder, &manifest, how_many).await?;
    let looked_up = check::look_up(args, config, store, &manifest, how_many, &checked).await?;
    Ok(Outcome { manifest, rows: 0, checked: Some(checked), looked_up: Some(looked_up) })
}

fn report(args: &ExportArgs, outcome: &Outcome, took: Duration) -> Result<(), CliError> {
    let Outcome { manifest, rows, checked, looked_up } = outcome;
    let stories = checked.iter().flat_map(|checked| &checked.stories);
    for story in stories.chain(looked_up.iter().flat_map(|looked_up| &looked_up.stories)) {
        eprintln!("{story}");
    }
    if looked_up.as_ref().is_some_and(|looked_up| looked_up.missing > 0) {
        eprintln!("Rows that were removed, or have expired, since the export are missing rightly.");
    }
    if args.json {
        let object = json!({
            "folder": args.out.display().to_string(),
            "namespace": manifest.purpose.namespace, "format": manifest.purpose.format,
            "finished": manifest.finished, "rows": manifest.rows, "rows_now": rows,
            "files": manifest.files.len(), "parts": manifest.parts,
            "bytes": manifest.files.iter().map(|file| file.bytes).sum::<u64>(),
            "read_again": checked.as_ref().map(|checked| checked.rows),
            "damaged": checked.as_ref().map(|checked| checked.damaged),
            "looked_up": looked_up.as_ref().map(|looked_up| looked_up.rows),
            "missing": looked_up.as_ref().map(|looked_up| looked_up.missing),
            "duration_s": took.as_secs_f64(),
        });
        return Ok(print(&format!("{object}\n"))?);
    }
    Ok(print(&text(args, outcome, took))?)
}

fn text(args: &ExportArgs, outcome: &Outcome, took: Duration) -> String {
    let Outcome { manifest, rows, checked, looked_up } = outcome;
    let mut text = format!(
        "{}: {} rows of {} in {} files; {} of them now, in {:.1} s\n",
        args.out.display(),
        grouped(manifest.rows),
        manifest.purpose.namespace,
        grouped(manifest.files.len() as u64),
        grouped(*rows),
        took.as_secs_f64()
    );
    if let Some(checked) = checked {
        text += &match checked.damaged {
            0 => format!("read again {} rows: as they were written\n", grouped(checked.rows)),
            damaged => format!("read again: DAMAGED {} files\n", grouped(damaged)),
        };
    }
    if let Some(looked_up) = looked_up {
        let (rows, missing) = (grouped(looked_up.rows), grouped(looked_up.missing));
        text += &match looked_up.missing {
            0 => format!("looked up {rows} rows in storage, none missing\n"),
            _ => format!("looked up {rows} rows in storage, MISSING {missing}\n"),
        };
    }
    if !manifest.finished {
        text += "not finished; run the same command again to go on\n";
    }
    text + &positions(&manifest.parts)
}

/// Where a follower of the store's changes goes on from.
pub(super) fn positions(parts: &[Part]) -> String {
    let mut table = Table::new(["PART", "ROWS", "FOLLOW ITS CHANGES FROM"]);
    for part in parts {
        let from =
            part.begin.as_ref().map_or("(its commits are not numbered)".to_owned(), |begin| {
                format!("{} {}", begin.source, begin.text)
            });
        table.row([part.part.to_string(), grouped(part.rows), from]);
    }
    table.render()
}
