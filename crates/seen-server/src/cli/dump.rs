//! `seen dump`: what a replica holds in memory, hottest users first, into a file that `seen warm` brings to another one.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use bytes::Bytes;
use clap::Args;
use seen_replica::link::LinkPeer;
use seen_replica::warm::{
    BytesSink, End, EndKind, FrameKind, FrameSink, FrameSource, Passed, Passing, TransferFailure,
};
use serde_json::json;
use tokio::io::{AsyncWriteExt, BufWriter};

use super::calls::table::grouped;
use super::warm::peer::{self, Meant, Own};
use super::warm::shown::Shown;
use super::{CliError, ConfigSources, print};
use crate::config::Config;
use crate::node;
use crate::runtime;
use crate::shutdown::Stop;

/// Arguments of `seen dump`.
#[derive(Debug, Clone, Args)]
pub struct DumpArgs {
    #[command(flatten)]
    sources: ConfigSources,
    /// The link port of the replica whose users these are
    #[arg(long, value_name = "HOST:PORT", value_parser = peer::address)]
    from: String,
    /// The file; it is there when it is whole
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    #[command(flatten)]
    meant: Meant,
    /// Print one JSON object as the last line of stdout
    #[arg(long)]
    json: bool,
}

/// Takes the stream, writes it, and reports. Without a whole stream there is no file.
///
/// # Errors
/// A replica that gives nothing, a stream that ends too early, a file that cannot be written, or an interruption.
pub fn run(args: DumpArgs) -> Result<ExitCode, CliError> {
    let config = args.sources.clone().load()?.config;
    let control = runtime::control()?;
    let begin = Instant::now();
    let end = control.block_on(async {
        let stop = Stop::on_signals()?;
        tokio::select! {
            end = dump(&args, &config) => end,
            () = stop.requested() => Err("interrupted; there is no file".into()),
        }
    })?;
    report(&args, &end, begin.elapsed())?;
    Ok(ExitCode::SUCCESS)
}

async fn dump(args: &DumpArgs, config: &Config) -> Result<End, CliError> {
    let tls = node::link_tls(&config.tls)?;
    let own = Own::open(config, args.meant.namespace.as_deref()).await?;
    let client = peer::connect("--from", &args.from, tls.as_ref()).await?;
    own.check("--from", &args.from, &client.identity)?;
    let mut donor = LinkPeer::over(client);
    let ask = own.ask(&args.meant, args.meant.share_permille()).encode();
    let named = |error: std::io::Error| format!("--out {}: {error}", args.out.display());
    let temporary = temporary(&args.out).map_err(named)?;
    let file = tokio::fs::File::from_std(temporary.reopen().map_err(named)?);
    let mut sink = BytesSink(BufWriter::new(file));
    let taken = async {
        donor.send(FrameKind::Ask, Bytes::from(ask)).await.map_err(TransferFailure::from)?;
        let mut passing = Passing::new();
        let mut shown = None;
        loop {
            let Some((kind, payload)) = donor.next().await.map_err(TransferFailure::from)? else {
                return Err(CliError::from(TransferFailure::Torn));
            };
            let passed = passing.take(kind, &payload)?;
            if passed == Passed::Alive {
                continue;
            }
            sink.send(kind, payload).await.map_err(named)?;
            let users = passing.header().map_or(0, |header| header.users);
            let shown = shown.get_or_insert_with(|| Shown::new("written", users));
            shown.set(passing.users(), passing.bytes());
            if let Passed::End(end) = passed {
                shown.end();
                return Ok(end);
            }
        }
    };
    let end = taken.await.map_err(|error| format!("--from {}: {error}", args.from))?;
    if end.kind != EndKind::Complete {
        let failure = TransferFailure::Declined(end.kind);
        return Err(format!("--from {}: {failure}; there is no file", args.from).into());
    }
    sink.0.flush().await.map_err(named)?;
    sink.0.get_ref().sync_all().await.map_err(named)?;
    temporary.persist(&args.out).map_err(|error| named(error.error))?;
    // The name as well must outlive a loss of power.
    std::fs::File::open(folder(&args.out)).and_then(|folder| folder.sync_all()).map_err(named)?;
    Ok(end)
}

fn folder(out: &Path) -> &Path {
    out.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// A file beside it that is removed unless it gets its name.
fn temporary(out: &Path) -> std::io::Result<tempfile::NamedTempFile> {
    tempfile::Builder::new().prefix(".seen-dump-").suffix(".part").tempfile_in(folder(out))
}

fn report(args: &DumpArgs, end: &End, took: Duration) -> Result<(), CliError> {
    let file = args.out.display();
    if args.json {
        let object = json!({
            "file": file.to_string(), "from": args.from, "users": end.users, "bytes": end.bytes,
            "left_out": end.left_out, "duration_s": took.as_secs_f64(),
        });
        return Ok(print(&format!("{object}\n"))?);
    }
    let (users, bytes) = (grouped(end.users), grouped(end.bytes));
    let mut text = format!("{file}: {users} users, {bytes} bytes, {:.1} s\n", took.as_secs_f64());
    if end.left_out > 0 {
        text += &format!(
            "left out {} users whose entries are not certain just now\n",
            grouped(end.left_out)
        );
    }
    Ok(print(&text)?)
}
