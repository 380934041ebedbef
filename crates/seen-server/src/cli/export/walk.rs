//! Goes through all parts, page by page, and writes numbered files.

use std::fs::{self, File};
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use seen_filter::history::PAGE_ROWS_MAX;
use seen_filter::{NamespaceId, RowKey, ScanPage, ScanRequest, Shard, SourcePosition, StoreError};
use tokio::time::Instant;

use super::check;
use super::encode::{Encoder, Labels};
use super::manifest::{
    Compression, Format, Key, MANIFEST, Manifest, Position, Purpose, Segment, Settings, failed,
    hex, sync_folder,
};
use super::pacer::Pacer;
use super::{ExportArgs, Outcome};
use crate::cli::CliError;
use crate::cli::calls::table::grouped;
use crate::cli::import::HowMany;
use crate::config::Config;
use crate::node::Reading;
use crate::shutdown::Stop;

/// What the names of files begin with.
const PREFIX: &str = "part-";
/// What the names of files that are not whole end with.
const FRESH: &str = ".new";
/// Held by the run that writes into the folder.
const LOCK: &str = ".seen-export.lock";
/// How often a read that may succeed later is done again: a failover takes some seconds.
const READS_MAX: u32 = 20;
/// How long is waited before it is.
const READ_AGAIN_AFTER: Duration = Duration::from_millis(500);

/// What this run is about.
pub(super) fn purpose(
    args: &ExportArgs,
    config: &Config,
    store: &Reading,
) -> Result<Purpose, CliError> {
    let namespaces = config.namespaces();
    let Some(settings) = namespaces.iter().find(|one| one.name == args.namespace) else {
        let known: Vec<_> = namespaces.iter().map(|one| one.name.as_str()).collect();
        let (name, known) = (&args.namespace, known.join(", "));
        return Err(format!("--namespace {name:?} is not configured (there are {known})").into());
    };
    Ok(Purpose {
        namespace: args.namespace.clone(),
        format: args.format,
        compress: args.compress.unwrap_or(Compression::Zstd),
        store: format!("{:016x}", store.cluster),
        settings: Settings::from(settings),
        parts: store.scan.parts(),
    })
}

pub(super) fn namespace_id(args: &ExportArgs, config: &Config) -> NamespaceId {
    let namespaces = config.namespaces();
    let found = namespaces.iter().find(|one| one.name == args.namespace);
    found.map_or(NamespaceId::new(u16::MAX), |one| one.id)
}

/// Exports what is not exported yet, and reads all of it again.
pub(super) async fn run(
    args: &ExportArgs,
    config: &Config,
    store: &Reading,
    stop: &Stop,
) -> Result<Outcome, CliError> {
    let folder = args.out.as_path();
    let purpose = purpose(args, config, store)?;
    eprintln!("seen: exporting {} of {} to {}", args.namespace, store.place, folder.display());
    let lock = open_folder(folder)?;
    let manifest = begun(args, folder, purpose)?;
    let mut walk = Walk {
        args,
        store,
        stop,
        namespace: namespace_id(args, config),
        folder: folder.to_owned(),
        manifest,
        pacer: Pacer::new(args.rate),
        shown: Shown::new(),
        rows: 0,
    };
    for part in 0..walk.manifest.parts.len() {
        if !walk.manifest.parts[part].finished && !stop.is_requested() {
            walk.part(part).await?;
        }
    }
    walk.shown.end();
    let Walk { mut manifest, rows, .. } = walk;
    let mut checked = None;
    if manifest.parts.iter().all(|part| part.finished) {
        let found = check::files(folder, &manifest, HowMany::Sample(0)).await?;
        if found.damaged == 0 && !manifest.finished {
            manifest.finished = true;
            manifest.finished_at_ms = Some(now_ms());
            manifest.write(folder)?;
        }
        checked = Some(found);
    }
    drop::<File>(lock);
    Ok(Outcome { manifest, rows, checked, looked_up: None })
}

/// Makes the folder, and keeps other runs out of it while the returned file lives.
fn open_folder(folder: &Path) -> Result<File, CliError> {
    let shown = folder.display();
    fs::create_dir_all(folder).map_err(|error| format!("--out {shown}: {error}"))?;
    let path = folder.join(LOCK);
    let lock = File::options().create(true).truncate(false).write(true).open(&path);
    let lock = lock.map_err(|error| failed(&path, &error))?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(fs::TryLockError::WouldBlock) => {
            Err(format!("--out {shown}: another export is writing into it").into())
        }
        Err(fs::TryLockError::Error(error)) => Err(failed(&path, &error).into()),
    }
}

/// The manifest to go on with, and nothing in the folder that it does not name.
fn begun(args: &ExportArgs, folder: &Path, purpose: Purpose) -> Result<Manifest, CliError> {
    let shown = folder.display();
    let found = if args.restart { None } else { Manifest::read(folder)? };
    if let Some(found) = &found {
        let (before, now) = (&found.purpose, &purpose);
        if let Some(what) = difference(before, now) {
            return Err(format!(
                "--out {shown}: the export in it is of {what}; --restart begins anew"
            )
            .into());
        }
    }
    let is_new = found.is_none();
    let named = |name: &str| found.iter().flat_map(|m| &m.files).any(|file| file.name == name);
    let unlisted = |error: io::Error| format!("--out {shown}: {error}");
    for entry in fs::read_dir(folder).map_err(unlisted)? {
        let name = entry.map_err(unlisted)?.file_name();
        let name = name.to_string_lossy();
        if name == LOCK || named(&name) || (name == MANIFEST && !is_new) {
            continue;
        }
        // Not whole, not named any more, or of an export that is not to be gone on with.
        if is_ours(&name) && (args.restart || !is_new || name.ends_with(FRESH)) {
            let path = folder.join(&*name);
            fs::remove_file(&path).map_err(|error| failed(&path, &error))?;
        } else if is_new && !args.restart {
            let what =
                format!("--out {shown}: it holds {name:?} and no export; give an empty folder");
            return Err(what.into());
        }
    }
    Ok(found.unwrap_or_else(|| Manifest::new(purpose, now_ms())))
}

/// True for a name that this program gives to its files, and nobody else would.
fn is_ours(name: &str) -> bool {
    let name = name.strip_suffix(FRESH).unwrap_or(name);
    let digits =
        |text: &str, count| text.len() == count && text.bytes().all(|b| b.is_ascii_digit());
    let is_segment = || {
        let (number, ending) = name.strip_prefix(PREFIX)?.split_once('.')?;
        let (part, number) = number.split_once('-')?;
        let known = ["tsv", "tsv.zst", "tsv.gz", "parquet"].contains(&ending);
        Some(known && digits(part, 4) && digits(number, 6))
    };
    name == MANIFEST || is_segment().unwrap_or(false)
}

/// The first thing in which two purposes differ, for people.
fn difference(before: &Purpose, now: &Purpose) -> Option<String> {
    let each = [
        ("namespace", format!("{:?}", before.namespace), format!("{:?}", now.namespace)),
        ("format", format!("{:?}", before.format), format!("{:?}", now.format)),
        ("compress", format!("{:?}", before.compress), format!("{:?}", now.compress)),
        ("store", before.store.clone(), now.store.clone()),
        ("parts", before.parts.to_string(), now.parts.to_string()),
        ("settings", format!("{:?}", before.settings), format!("{:?}", now.settings)),
    ];
    let found = each.into_iter().find(|(_, before, now)| before != now);
    found
        .map(|(what, before, now)| format!("{what} {before}, and this one of {now}").to_lowercase())
}

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

struct Walk<'a> {
    args: &'a ExportArgs,
    store: &'a Reading,
    stop: &'a Stop,
    namespace: NamespaceId,
    folder: PathBuf,
    manifest: Manifest,
    pacer: Pacer,
    shown: Shown,
    rows: u64,
}

/// A file that is being written.
struct Open {
    encoder: Encoder,
    file: File,
    name: String,
    first: Option<RowKey>,
    last: Option<RowKey>,
}

impl Walk<'_> {
    /// Exports the rest of a part.
    async fn part(&mut self, at: usize) -> Result<(), CliError> {
        let part = Shard::new(self.manifest.parts[at].part);
        self.begin(at, part).await?;
        let mut after = self.manifest.parts[at].after.map(RowKey::from);
        let mut open: Option<Open> = None;
        let rows_max = self.pacer.page_rows(PAGE_ROWS_MAX.min(self.args.file_rows as usize));
        loop {
            let request = ScanRequest { namespace: self.namespace, part, after, rows_max };
            let page = match scan(self.store, request).await {
                Ok(page) => page,
                Err(error) => {
                    self.close(at, open, None)?;
                    return Err(format!("{error}; run it again to go on").into());
                }
            };
            let is_end = page.next.is_none();
            after = page.next;
            let held = tokio::select! {
                biased;
                () = self.stop.requested() => true,
                () = self.pacer.pass(page.rows.len()) => false,
            };
            if held {
                return self.close(at, open, None);
            }
            if !page.rows.is_empty() {
                open = Some(self.write(at, open, page).await?);
            }
            let is_full =
                open.as_ref().is_some_and(|open| open.encoder.rows() >= self.args.file_rows);
            if is_end || is_full || self.stop.is_requested() {
                self.close(at, open.take(), after)?;
            }
            if is_end {
                return self.end(at, part).await;
            }
            if self.stop.is_requested() {
                return Ok(());
            }
        }
    }

    /// Reads the part's position before its first row; later, whether storage went back in time.
    async fn begin(&mut self, at: usize, part: Shard) -> Result<(), CliError> {
        let now = position(self.store, part).await?;
        let begun = &mut self.manifest.parts[at];
        match (&begun.begin, &now) {
            (None, _) if begun.after.is_none() => begun.begin = now.as_ref().map(Position::from),
            (Some(begin), Some(now)) if begin.is_beyond(now) => return Err(gone_back(begin, now)),
            _ => {}
        }
        self.manifest.write(&self.folder)
    }

    /// Reads the part's position after its last row.
    async fn end(&mut self, at: usize, part: Shard) -> Result<(), CliError> {
        let now = position(self.store, part).await?;
        let ended = &mut self.manifest.parts[at];
        if let (Some(begin), Some(now)) = (&ended.begin, &now)
            && begin.is_beyond(now)
        {
            return Err(gone_back(begin, now));
        }
        ended.end = now.as_ref().map(Position::from);
        ended.finished = true;
        self.manifest.write(&self.folder)
    }

    /// Writes a page, into a new file if none is open.
    async fn write(
        &mut self,
        at: usize,
        open: Option<Open>,
        page: ScanPage,
    ) -> Result<Open, CliError> {
        let mut open = match open {
            Some(open) => open,
            None => self.open(at)?,
        };
        let rows = page.rows.len() as u64;
        let path = self.fresh(&open.name);
        let written = tokio::task::spawn_blocking(move || {
            open.first = open.first.or(page.rows.first().map(|row| row.key()));
            open.last = page.rows.last().map(|row| row.key()).or(open.last);
            open.encoder.write(&page.rows).map(|()| open)
        });
        let open = written.await?.map_err(|error| failed(&path, &error))?;
        self.rows += rows;
        self.shown.add(rows);
        Ok(open)
    }

    fn open(&self, at: usize) -> Result<Open, CliError> {
        let part = &self.manifest.parts[at];
        let number = self.manifest.files.iter().filter(|file| file.part == part.part).count();
        let (format, compress) = (self.manifest.purpose.format, self.manifest.purpose.compress);
        let ending = match (format, compress) {
            (Format::Parquet, _) => "parquet",
            (Format::Tsv, Compression::Zstd) => "tsv.zst",
            (Format::Tsv, Compression::Gzip) => "tsv.gz",
            (Format::Tsv, Compression::None) => "tsv",
        };
        let name = format!("{PREFIX}{:04}-{number:06}.{ending}", part.part);
        let begin = part.begin.as_ref().map(serde_json::to_string).transpose()?;
        let labels: Labels = vec![
            ("seen.namespace", self.manifest.purpose.namespace.clone()),
            ("seen.store", self.manifest.purpose.store.clone()),
            ("seen.part", part.part.to_string()),
            ("seen.position.begin", begin.unwrap_or_else(|| "null".to_owned())),
        ];
        let path = self.fresh(&name);
        let make = || -> io::Result<Open> {
            let file = File::create(&path)?;
            let target = Box::new(file.try_clone()?);
            let encoder = Encoder::new(target, format, compress, &labels)?;
            Ok(Open { encoder, file, name: name.clone(), first: None, last: None })
        };
        Ok(make().map_err(|error| failed(&path, &error))?)
    }

    /// The name that a file has until it is whole.
    fn fresh(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}{FRESH}"))
    }

    /// Makes what is written whole, and remembers where to go on: `after`, or behind the file's last row.
    fn close(
        &mut self,
        at: usize,
        open: Option<Open>,
        after: Option<RowKey>,
    ) -> Result<(), CliError> {
        if let Some(Open { encoder, mut file, name, first, last }) = open {
            let (fresh, path) = (self.fresh(&name), self.folder.join(&name));
            let finish = || -> io::Result<_> {
                let written = encoder.finish()?;
                file.flush()?;
                file.sync_all()?;
                fs::rename(&fresh, &path)?;
                sync_folder(&self.folder)?;
                Ok(written)
            };
            let written = finish().map_err(|error| failed(&path, &error))?;
            let part = &mut self.manifest.parts[at];
            part.rows += written.rows;
            part.after = last.map(Key::from);
            self.manifest.rows += written.rows;
            let (Some(first), Some(last)) = (first, last) else { return Ok(()) };
            self.manifest.files.push(Segment {
                name,
                part: part.part,
                rows: written.rows,
                bytes: written.bytes,
                crc32: hex(written.crc32),
                rows_crc32: hex(written.rows_crc32),
                first: first.into(),
                last: last.into(),
            });
        }
        if let Some(after) = after {
            self.manifest.parts[at].after = Some(after.into());
        }
        self.manifest.write(&self.folder)
    }
}

pub(super) fn gone_back(begin: &Position, now: &SourcePosition) -> CliError {
    format!(
        "the export was begun at {} {}, and storage is at {now} now: a backup was restored, or commits \
         were lost in a failover; begin anew with --restart",
        begin.source, begin.text
    )
    .into()
}

/// One page; again where that may help.
pub(super) async fn scan(store: &Reading, request: ScanRequest) -> Result<ScanPage, StoreError> {
    again(|| store.scan.scan(request)).await
}

/// A part's position; again where that may help.
pub(super) async fn position(
    store: &Reading,
    part: Shard,
) -> Result<Option<SourcePosition>, StoreError> {
    again(|| store.scan.position(part)).await
}

/// Reads, and reads again while that may help: nothing is lost by it.
pub(super) async fn again<T, F>(read: impl Fn() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    let mut reads = 1;
    loop {
        match read().await {
            Err(error) if error.kind.retry_helps() && reads < READS_MAX => {
                tracing::warn!(%error, "reading again");
                reads += 1;
                tokio::time::sleep(READ_AGAIN_AFTER).await;
            }
            done => return done,
        }
    }
}

/// A bar on a terminal, a line a second elsewhere.
pub(super) struct Shown {
    bar: ProgressBar,
    rows: u64,
    begin: Instant,
    told: Instant,
}

impl Shown {
    pub(super) fn new() -> Self {
        let style =
            ProgressStyle::with_template("{elapsed_precise} {spinner} {human_pos} rows, {per_sec}");
        let bar = ProgressBar::no_length()
            .with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        if !std::io::stderr().is_terminal() {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        Self { bar, rows: 0, begin: Instant::now(), told: Instant::now() }
    }

    pub(super) fn add(&mut self, rows: u64) {
        self.rows += rows;
        self.bar.set_position(self.rows);
        if self.bar.is_hidden() && self.told.elapsed() >= Duration::from_secs(1) {
            self.told = Instant::now();
            let rate = self.rows as f64 / self.begin.elapsed().as_secs_f64();
            eprintln!("{} rows exported, {}/s", grouped(self.rows), grouped(rate as u64));
        }
    }

    pub(super) fn end(&self) {
        self.bar.finish_and_clear();
    }
}
