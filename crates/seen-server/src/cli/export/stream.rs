//! `seen export --out -`: rows as lines on stdout, for a pipe.

use std::io;
use std::process::ExitCode;

use seen_filter::history::PAGE_ROWS_MAX;
use seen_filter::{ScanRequest, Shard};

use super::ExportArgs;
use super::encode::Encoder;
use super::manifest::{Compression, Format, Position};
use super::pacer::Pacer;
use super::walk::{Shown, namespace_id, position, purpose, scan};
use crate::cli::CliError;
use crate::cli::calls::table::grouped;
use crate::config::Config;
use crate::node::Reading;
use crate::shutdown::Stop;

/// Writes every part, one after the other, and says on stderr where their changes are followed from.
///
/// # Errors
/// A store that cannot be read, or a pipe that was closed before the last row.
pub(super) async fn run(args: &ExportArgs, config: &Config) -> Result<ExitCode, CliError> {
    let stop = Stop::on_signals()?;
    let store = Reading::open(config).await?;
    let done = rows(args, config, &store, &stop).await;
    store.close().await;
    let whole = done?;
    Ok(if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn rows(
    args: &ExportArgs,
    config: &Config,
    store: &Reading,
    stop: &Stop,
) -> Result<bool, CliError> {
    purpose(args, config, store)?;
    let namespace = namespace_id(args, config);
    let compress = args.compress.unwrap_or(Compression::None);
    let target = Box::new(io::stdout());
    let mut encoder = Encoder::new(target, Format::Tsv, compress, &Vec::new()).map_err(closed)?;
    let mut pacer = Pacer::new(args.rate);
    let mut shown = Shown::new();
    let rows_max = pacer.page_rows(PAGE_ROWS_MAX);
    for part in 0..store.scan.parts() {
        let part = Shard::new(part);
        if let Some(begin) = position(store, part).await? {
            let text = serde_json::to_string(&Position::from(&begin))?;
            eprintln!("seen: part {part}: follow its changes from {text}");
        }
        let mut after = None;
        loop {
            let page = scan(store, ScanRequest { namespace, part, after, rows_max }).await?;
            tokio::select! {
                biased;
                () = stop.requested() => {
                    shown.end();
                    eprintln!("seen: interrupted after {} rows", grouped(encoder.rows()));
                    return Ok(false);
                }
                () = pacer.pass(page.rows.len()) => {}
            }
            let written = tokio::task::spawn_blocking(move || {
                encoder.write(&page.rows)?;
                encoder.flush()?;
                Ok::<_, io::Error>((encoder, page.rows.len() as u64))
            });
            let (back, rows) = written.await?.map_err(closed)?;
            encoder = back;
            shown.add(rows);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
    }
    let written = encoder.finish().map_err(closed)?;
    shown.end();
    eprintln!("seen: {} rows of {}", grouped(written.rows), args.namespace);
    Ok(true)
}

fn closed(error: io::Error) -> CliError {
    match error.kind() {
        io::ErrorKind::BrokenPipe => "stdout was closed before the last row".into(),
        _ => format!("writing to stdout: {error}").into(),
    }
}
