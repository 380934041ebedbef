//! What an export consists of: written in the place of the one before after each file that is whole, so
//! that a crash leaves one of the two, and going on from it neither loses nor repeats a row.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use seen_filter::{
    Item, NamespaceSettings, PositionSource, RowKey, SourcePosition, TimeRule, UserId,
};
use serde::{Deserialize, Serialize};

use crate::cli::CliError;

/// The name of the manifest in the export's folder.
pub(crate) const MANIFEST: &str = "manifest.json";
/// The form that is written.
const VERSION: u32 = 1;
/// Largest manifest that is read, in bytes.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// The form of the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    /// Lines of user, item, kind and time, which `seen import` reads
    Tsv,
    /// Columns user, item, kind, marked_at and bucket
    Parquet,
}

/// How files, or within Parquet pages, are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Compression {
    /// Small and fast
    Zstd,
    /// Where something old must read it
    Gzip,
    /// As it is
    None,
}

/// A row's key, as it stands in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Key {
    user: u64,
    kind: u8,
    item: u64,
}

impl From<RowKey> for Key {
    fn from((user, item): RowKey) -> Self {
        Self { user: user.get(), kind: item.kind.get(), item: item.id.get() }
    }
}

impl From<Key> for RowKey {
    fn from(key: Key) -> Self {
        (UserId::new(key.user), Item::new(key.kind, key.item))
    }
}

/// How far a part's change feed was; see [`SourcePosition`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Position {
    /// `sqlite`, `mariadb`, `mysql` or `tidb`.
    pub(crate) source: String,
    /// As the source writes it.
    pub(crate) text: String,
    timeline: String,
    number: Option<u64>,
}

impl From<&SourcePosition> for Position {
    fn from(found: &SourcePosition) -> Self {
        Self {
            source: found.source.name().to_owned(),
            text: found.text.clone(),
            timeline: found.timeline.clone(),
            number: found.number,
        }
    }
}

impl Position {
    /// True if what is found now is known not to follow this one.
    pub(super) fn is_beyond(&self, now: &SourcePosition) -> bool {
        PositionSource::named(&self.source).is_none_or(|source| {
            let (text, timeline) = (self.text.clone(), self.timeline.clone());
            now.is_behind(&SourcePosition { source, text, timeline, number: self.number })
        })
    }
}

/// One part (shard) of the namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Part {
    pub(crate) part: u16,
    /// Read before the first row: whoever follows the part's changes from here misses nothing.
    pub(crate) begin: Option<Position>,
    /// Read after the last row.
    pub(crate) end: Option<Position>,
    pub(crate) rows: u64,
    /// Where the next page begins.
    pub(super) after: Option<Key>,
    pub(crate) finished: bool,
}

impl Part {
    /// A part of which nothing is exported yet.
    pub(super) fn begun(part: u16, begin: Option<Position>) -> Self {
        Self { part, begin, end: None, rows: 0, after: None, finished: false }
    }
}

/// One file that is whole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Segment {
    /// Within the folder.
    pub(crate) name: String,
    pub(crate) part: u16,
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    /// Of the file as it lies there.
    pub(crate) crc32: String,
    /// Of its rows, whatever its form; see [`RowSum`](crate::history_file::RowSum).
    pub(crate) rows_crc32: String,
    pub(crate) first: Key,
    pub(crate) last: Key,
}

/// A checksum as it stands in a file.
pub(super) fn hex(crc32: u32) -> String {
    format!("{crc32:08x}")
}

/// What of the namespace's settings decides which rows there are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Settings {
    time_rule: String,
    retention_ms: Option<u64>,
    bucket_ms: Option<u64>,
    newest_max: Option<u64>,
}

impl From<&NamespaceSettings> for Settings {
    fn from(settings: &NamespaceSettings) -> Self {
        let time_rule = match settings.time_rule {
            TimeRule::First => "first",
            TimeRule::Last => "last",
        };
        Self {
            time_rule: time_rule.to_owned(),
            retention_ms: settings.retention.map(|retention| retention.span_ms),
            bucket_ms: settings.retention.map(|retention| retention.bucket_ms),
            newest_max: settings.newest_max.map(u64::from),
        }
    }
}

/// What decides whether a run may go on with what another began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Purpose {
    pub(crate) namespace: String,
    pub(crate) format: Format,
    pub(crate) compress: Compression,
    /// The store, as its tokens name it.
    pub(crate) store: String,
    pub(crate) settings: Settings,
    pub(crate) parts: u16,
}

/// The manifest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    version: u32,
    pub(crate) purpose: Purpose,
    /// When it was begun and finished, in milliseconds since 1970 by this machine's clock.
    pub(crate) began_at_ms: u64,
    pub(crate) finished_at_ms: Option<u64>,
    /// True once all rows are in files and these have been read again.
    pub(crate) finished: bool,
    pub(crate) rows: u64,
    pub(crate) parts: Vec<Part>,
    pub(crate) files: Vec<Segment>,
}

impl Manifest {
    pub(super) fn new(purpose: Purpose, began_at_ms: u64) -> Self {
        Self {
            version: VERSION,
            began_at_ms,
            finished_at_ms: None,
            finished: false,
            rows: 0,
            parts: (0..purpose.parts).map(|part| Part::begun(part, None)).collect(),
            files: Vec::new(),
            purpose,
        }
    }

    /// Reads the manifest of a folder; `None` if there is none.
    ///
    /// # Errors
    /// It cannot be read, or is no manifest of this version.
    pub(crate) fn read(folder: &Path) -> Result<Option<Self>, CliError> {
        let path = folder.join(MANIFEST);
        let wrong = |what: String| format!("{}: {what}", path.display());
        let metadata = match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            found => found.map_err(|error| wrong(error.to_string()))?,
        };
        if metadata.len() > FILE_BYTES_MAX {
            return Err(wrong(format!("{} bytes; it is no manifest", metadata.len())).into());
        }
        let text = fs::read_to_string(&path).map_err(|error| wrong(error.to_string()))?;
        let read: Self = serde_json::from_str(&text)
            .map_err(|error| wrong(format!("it is no manifest of `seen export`: {error}")))?;
        if read.version != VERSION {
            let version = read.version;
            return Err(
                wrong(format!("version = {version} is not known here ({VERSION} is)")).into()
            );
        }
        // What a manifest names is opened and removed.
        let outside =
            |file: &&Segment| file.name.contains(['/', '\\']) || file.name.starts_with('.');
        match read.files.iter().find(outside) {
            None => Ok(Some(read)),
            Some(file) => Err(wrong(format!("{:?} is no name of a file in it", file.name)).into()),
        }
    }

    /// Writes it in the place of the one before, once everything that it names is on the disk.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub(super) fn write(&self, folder: &Path) -> Result<(), CliError> {
        let path = folder.join(MANIFEST);
        let fresh = folder.join(format!("{MANIFEST}.new"));
        let text = serde_json::to_string_pretty(self)?;
        let write = || -> io::Result<()> {
            let mut file = File::create(&fresh)?;
            file.write_all(text.as_bytes())?;
            file.write_all(b"\n")?;
            file.sync_data()?;
            fs::rename(&fresh, &path)?;
            sync_folder(folder)
        };
        Ok(write().map_err(|error| failed(&path, &error))?)
    }

    /// The files with their paths, in the order of their rows.
    pub(crate) fn paths<'a>(
        &'a self,
        folder: &'a Path,
    ) -> impl Iterator<Item = (&'a Segment, PathBuf)> {
        self.files.iter().map(move |file| (file, folder.join(&file.name)))
    }
}

/// Names in a folder are on the disk once the folder is.
pub(super) fn sync_folder(folder: &Path) -> io::Result<()> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    File::open(folder)?.sync_all()
}

/// What to say where a file of the export cannot be written.
pub(super) fn failed(path: &Path, error: &io::Error) -> String {
    let advice = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => "free space, then run",
        _ => "once that is mended, run",
    };
    format!(
        "writing {}: {error}; {advice} the same command again: it goes on after the last whole file",
        path.display()
    )
}
