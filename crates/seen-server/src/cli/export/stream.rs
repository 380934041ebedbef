//! `seen export --out -` and `--out FILE`: all parts one after the other, in one stream.

use std::io;
use std::process::ExitCode;

use seen_filter::history::PAGE_ROWS_MAX;
use seen_filter::{ScanRequest, Shard};

use super::ExportArgs;
use super::encode::Encoder;
use super::manifest::{Compression, Format, Part, Position};
use super::pacer::Pacer;
use super::walk::{Shown, gone_back, namespace_id, position, purpose, scan};
use crate::cli::CliError;
use crate::cli::calls::table::grouped;
use crate::config::Config;
use crate::node::Reading;
use crate::shutdown::Stop;

/// All parts of a namespace, before their first rows.
pub(super) async fn parts(store: &Reading) -> Result<Vec<Part>, CliError> {
    let mut parts = Vec::new();
    for part in 0..store.scan.parts() {
        let begin = position(store, Shard::new(part)).await?;
        parts.push(Part::begun(part, begin.as_ref().map(Position::from)));
    }
    Ok(parts)
}

/// Writes the rows of every part. `None` if it was interrupted.
///
/// # Errors
/// A store that cannot be read, or what `failed` makes of a target that cannot be written.
pub(super) async fn rows(
    (args, config): (&ExportArgs, &Config),
    store: &Reading,
    stop: &Stop,
    parts: &mut [Part],
    (mut encoder, failed): (Encoder, impl Fn(io::Error) -> CliError),
) -> Result<Option<Encoder>, CliError> {
    let namespace = namespace_id(args, config);
    let mut pacer = Pacer::new(args.rate);
    let mut shown = Shown::new();
    let rows_max = pacer.page_rows(PAGE_ROWS_MAX);
    for of_part in parts {
        let part = Shard::new(of_part.part);
        let mut after = None;
        loop {
            let page = scan(store, ScanRequest { namespace, part, after, rows_max }).await?;
            let held = tokio::select! {
                biased;
                () = stop.requested() => true,
                () = pacer.pass(page.rows.len()) => false,
            };
            if held {
                shown.end();
                eprintln!("seen: interrupted after {} rows", grouped(encoder.rows()));
                return Ok(None);
            }
            let written = tokio::task::spawn_blocking(move || {
                encoder.write(&page.rows)?;
                encoder.flush()?;
                Ok::<_, io::Error>((encoder, page.rows.len() as u64))
            });
            let (back, rows) = written.await?.map_err(&failed)?;
            encoder = back;
            of_part.rows += rows;
            shown.add(rows);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        let now = position(store, part).await?;
        if let (Some(begin), Some(now)) = (&of_part.begin, &now)
            && begin.is_beyond(now)
        {
            return Err(gone_back(begin, now));
        }
        of_part.end = now.as_ref().map(Position::from);
        of_part.finished = true;
    }
    shown.end();
    Ok(Some(encoder))
}

/// Writes every part to stdout, and says on stderr where their changes are followed from.
///
/// # Errors
/// A store that cannot be read, or a pipe that was closed before the last row.
pub(super) async fn to_stdout(args: &ExportArgs, config: &Config) -> Result<ExitCode, CliError> {
    let stop = Stop::on_signals()?;
    let store = Reading::open(config).await?;
    let done = lines(args, config, &store, &stop).await;
    store.close().await;
    let whole = done?;
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn lines(
    args: &ExportArgs,
    config: &Config,
    store: &Reading,
    stop: &Stop,
) -> Result<bool, CliError> {
    purpose(args, config, store)?;
    let compress = args.compress.unwrap_or(Compression::None);
    let target = Box::new(io::stdout());
    let encoder = Encoder::new(target, Format::Tsv, compress, &Vec::new()).map_err(closed)?;
    let mut parts = parts(store).await?;
    for part in &parts {
        if let Some(begin) = &part.begin {
            let text = serde_json::to_string(begin)?;
            eprintln!("seen: part {}: follow its changes from {text}", part.part);
        }
    }
    let written = rows((args, config), store, stop, &mut parts, (encoder, closed)).await?;
    let Some(encoder) = written else { return Ok(false) };
    let written = encoder.finish().map_err(closed)?;
    eprintln!("seen: {} rows of {}", grouped(written.rows), args.namespace);
    Ok(true)
}

fn closed(error: io::Error) -> CliError {
    match error.kind() {
        io::ErrorKind::BrokenPipe => "stdout was closed before the last row".into(),
        _ => format!("writing to stdout: {error}").into(),
    }
}
