//! `seen export --out FILE`: one file, which is there when all of it is. What it says of itself, where
//! its form has room for it, is where a follower of the changes goes on from.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use serde_json::json;

use super::encode::{Encoder, Labels, Written};
use super::manifest::{Compression, Format, Part, sync_folder};
use super::walk::purpose;
use super::{ExportArgs, positions, stream};
use crate::cli::calls::table::grouped;
use crate::cli::{CliError, print};
use crate::config::Config;
use crate::history_file::{HistoryFile, RowSum};
use crate::node::Reading;
use crate::shutdown::Stop;

/// The names of files, by their endings, and what is in them.
const ENDINGS: [(&str, Format, Option<Compression>); 4] = [
    (".tsv", Format::Tsv, Some(Compression::None)),
    (".tsv.zst", Format::Tsv, Some(Compression::Zstd)),
    (".tsv.gz", Format::Tsv, Some(Compression::Gzip)),
    // Its pages are compressed, as is asked for.
    (".parquet", Format::Parquet, None),
];

/// The form of a file of this name; `None` for a name that is a folder's.
///
/// # Errors
/// `--format` or `--compress` say something else than the name.
pub(super) fn form(args: &ExportArgs) -> Result<Option<(Format, Compression)>, CliError> {
    let name = args.out.to_string_lossy();
    let found = ENDINGS.iter().find(|(ending, ..)| name.ends_with(ending));
    let Some((ending, format, compress)) = found.filter(|_| !args.out.is_dir()) else {
        return Ok(None);
    };
    // Lines are the default, which nobody need have asked for.
    if args.format != *format && args.format != Format::Tsv {
        return Err(format!("--out {name}: a file *{ending} holds lines, no columns").into());
    }
    match (compress, args.compress) {
        (Some(own), Some(asked)) if *own != asked => Err(format!(
            "--out {name}: --compress says something else than its name, which ends with {ending}"
        )
        .into()),
        (own, asked) => Ok(Some((*format, own.or(asked).unwrap_or(Compression::Zstd)))),
    }
}

/// Exports into one file.
///
/// # Errors
/// A store that cannot be read, or a file that cannot be written; then there is none.
pub(super) async fn run(
    args: &ExportArgs,
    config: &Config,
    form: (Format, Compression),
) -> Result<ExitCode, CliError> {
    let path = args.out.as_path();
    if args.verify.is_some() {
        let what = "a single file has no manifest to look at again; give a folder";
        return Err(format!("--out {}: {what}", path.display()).into());
    }
    if !args.restart && path.exists() {
        let what = "it is there already; --restart replaces it";
        return Err(format!("--out {}: {what}", path.display()).into());
    }
    let stop = Stop::on_signals()?;
    let begin = Instant::now();
    let store = Reading::open(config).await?;
    let fresh = Fresh::new(path)?;
    let done = write(args, config, &store, &stop, (form, &fresh)).await;
    store.close().await;
    let Some((written, parts)) = done? else { return Ok(ExitCode::FAILURE) };
    fresh.keep(path)?;
    if args.json {
        let object = json!({
            "file": path.display().to_string(), "namespace": args.namespace, "format": form.0,
            "finished": true, "rows": written.rows, "bytes": written.bytes, "parts": parts,
            "duration_s": begin.elapsed().as_secs_f64(),
        });
        print(&format!("{object}\n"))?;
    } else {
        let (rows, seconds) = (grouped(written.rows), begin.elapsed().as_secs_f64());
        let name = path.display();
        print(&format!("{name}: {rows} rows of {}, in {seconds:.1} s\n", args.namespace))?;
        print(&positions(&parts))?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn write(
    args: &ExportArgs,
    config: &Config,
    store: &Reading,
    stop: &Stop,
    ((format, compress), fresh): ((Format, Compression), &Fresh),
) -> Result<Option<(Written, Vec<Part>)>, CliError> {
    let purpose = purpose(args, config, store)?;
    eprintln!("seen: exporting {} of {} to {}", args.namespace, store.place, args.out.display());
    let mut parts = stream::parts(store).await?;
    let begins: Vec<_> =
        parts.iter().map(|part| json!({"part": part.part, "begin": part.begin})).collect();
    let labels: Labels = vec![
        ("seen.namespace", purpose.namespace),
        ("seen.store", purpose.store),
        ("seen.positions.begin", serde_json::to_string(&begins)?),
    ];
    let failed = |error: io::Error| -> CliError { fresh.failed(&error).into() };
    let target = Box::new(fresh.file.try_clone().map_err(failed)?);
    let encoder = Encoder::new(target, format, compress, &labels).map_err(failed)?;
    let encoder = encoder.with_comments(&labels);
    let written = stream::rows((args, config), store, stop, &mut parts, (encoder, failed)).await?;
    let Some(encoder) = written else { return Ok(None) };
    let (path, name) = (fresh.path.clone(), args.out.clone());
    let checked = tokio::task::spawn_blocking(move || {
        let written = encoder.finish().map_err(|error| error.to_string())?;
        check(&path, written).map_err(|what| format!("{}: {what}", name.display()))?;
        Ok::<_, String>(written)
    });
    Ok(Some((checked.await??, parts)))
}

/// Reads the file again.
fn check(path: &Path, written: Written) -> Result<(), String> {
    let mut file = HistoryFile::open(path, 0).map_err(|error| error.to_string())?;
    let mut rows = RowSum::default();
    while let Some(event) = file.next_event().map_err(|error| error.to_string())? {
        rows.add(&event);
    }
    if (rows.rows(), rows.crc32()) == (written.rows, written.rows_crc32) {
        return Ok(());
    }
    Err(format!("read again it has {} rows, not as they were written", rows.rows()))
}

/// A file under another name until it is whole; removed if it does not come to that.
struct Fresh {
    path: PathBuf,
    file: File,
}

impl Fresh {
    /// Keeps other exports away from the name, too.
    fn new(path: &Path) -> Result<Self, CliError> {
        let mut name = path.as_os_str().to_owned();
        name.push(".new");
        let fresh = PathBuf::from(name);
        let failed = |error: io::Error| format!("--out {}: {error}", path.display());
        let file = File::options().create(true).truncate(false).write(true).open(&fresh);
        let file = file.map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                let what = "another export is writing it";
                return Err(format!("--out {}: {what}", path.display()).into());
            }
            Err(fs::TryLockError::Error(error)) => return Err(failed(error).into()),
        }
        // What a crash has left.
        file.set_len(0).map_err(failed)?;
        Ok(Self { path: fresh, file })
    }

    fn failed(&self, error: &io::Error) -> String {
        format!(
            "writing {}: {error}; it is removed, run the same command again",
            self.path.display()
        )
    }

    /// Gives it its name.
    fn keep(&self, path: &Path) -> Result<(), CliError> {
        let keep = || -> io::Result<()> {
            self.file.sync_all()?;
            fs::rename(&self.path, path)?;
            sync_folder(path.parent().unwrap_or(Path::new("")))
        };
        Ok(keep().map_err(|error| self.failed(&error))?)
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        // Under its other name it is not there any more.
        let _ = fs::remove_file(&self.path);
    }
}
