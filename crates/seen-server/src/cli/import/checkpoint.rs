//! How far a file was imported: written only after acknowledgement, so that going on from it never
//! leaves anything out. What lies between it and an interruption is marked twice, which is harmless.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::cli::CliError;
use crate::history_file::Position;

/// What the name of a checkpoint file ends with.
const SUFFIX: &str = ".seen-import.json";
/// The form that is written.
const VERSION: u32 = 1;
/// Largest checkpoint file that is read, in bytes.
const FILE_BYTES_MAX: u64 = 65_536;

/// How far a file was imported. The checksum of the position names the file: it is checked against
/// what the file begins with, whatever its name and dates are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Checkpoint {
    version: u32,
    /// The cluster that it was imported into, as tokens name it.
    pub(super) cluster: String,
    /// The history that it was imported into.
    pub(super) namespace: String,
    /// Everything up to here was acknowledged.
    pub(super) position: Position,
    /// How many events that is.
    pub(super) events: u64,
}

impl Checkpoint {
    pub(super) fn new(cluster: String, namespace: String) -> Self {
        let position = Position::default();
        Self { version: VERSION, cluster, namespace, position, events: 0 }
    }

    /// Where the checkpoint of a file lies; `None` for stdin, which cannot be gone on with. In a folder of
    /// its own its name begins with that of the file's folder: files of two exports are called alike.
    pub(super) fn path(file: &Path, folder: Option<&Path>) -> Option<PathBuf> {
        if file == Path::new("-") {
            return None;
        }
        let mut name = std::ffi::OsString::new();
        if let (Some(_), Some(from)) = (folder, file.parent().and_then(Path::file_name)) {
            name.push(from);
            name.push("-");
        }
        name.push(file.file_name()?);
        name.push(SUFFIX);
        let folder = folder.or(file.parent()).unwrap_or(Path::new("."));
        Some(folder.join(name))
    }

    /// Reads a checkpoint; `None` if there is none.
    ///
    /// # Errors
    /// It cannot be read, or is of another program or history.
    pub(super) fn read(path: &Path, namespace: &str) -> Result<Option<Self>, CliError> {
        let wrong = |what: String| {
            let path = path.display();
            format!("checkpoint {path}: {what}; remove it, or pass --restart, to begin anew")
        };
        let metadata = match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            found => found.map_err(|error| wrong(error.to_string()))?,
        };
        if metadata.len() > FILE_BYTES_MAX {
            return Err(wrong(format!("{} bytes; it is none", metadata.len())).into());
        }
        let text = fs::read_to_string(path).map_err(|error| wrong(error.to_string()))?;
        let read: Self = serde_json::from_str(&text).map_err(|error| wrong(error.to_string()))?;
        if read.version != VERSION {
            let version = read.version;
            return Err(wrong(format!("version {version} is not known here")).into());
        }
        if read.namespace != namespace {
            let other = &read.namespace;
            let what = format!("it is of namespace {other:?}, this import is into {namespace:?}");
            return Err(wrong(what).into());
        }
        Ok(Some(read))
    }

    /// Writes it in the place of the one before; a crash leaves one of the two.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub(super) fn write(&self, path: &Path) -> Result<(), CliError> {
        let failed = |error: io::Error| {
            let path = path.display();
            format!("checkpoint {path}: {error}; choose another folder with --checkpoint-dir")
        };
        let text = serde_json::to_string(self)?;
        let mut fresh = path.as_os_str().to_owned();
        fresh.push(".new");
        let write = || -> io::Result<()> {
            let mut file = File::create(&fresh)?;
            file.write_all(text.as_bytes())?;
            // Without it a crash of the machine could leave the new name with no content.
            file.sync_data()?;
            fs::rename(&fresh, path)
        };
        Ok(write().map_err(failed)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_lies_beside_its_file_or_in_a_folder() {
        let path = |file: &str, folder: Option<&str>| {
            Checkpoint::path(Path::new(file), folder.map(Path::new))
        };
        let expected = Some(PathBuf::from("/data/a.tsv.zst.seen-import.json"));
        assert_eq!(path("/data/a.tsv.zst", None), expected);
        assert_eq!(path("a.tsv", Some("/tmp")), Some("/tmp/a.tsv.seen-import.json".into()));
        assert_eq!(path("-", Some("/tmp")), None);
    }

    #[test]
    fn it_is_read_as_it_was_written_and_refused_otherwise() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.json");
        assert_eq!(Checkpoint::read(&path, "feed_read").unwrap(), None);
        let mut checkpoint = Checkpoint::new("00ff".to_owned(), "feed_read".to_owned());
        checkpoint.position = Position { lines: 10, bytes: 100, crc32: 7 };
        checkpoint.write(&path).unwrap();
        checkpoint.events = 9;
        checkpoint.write(&path).unwrap();
        assert_eq!(Checkpoint::read(&path, "feed_read").unwrap(), Some(checkpoint));
        let refused = |namespace: &str| {
            let error = Checkpoint::read(&path, namespace).unwrap_err().to_string();
            assert!(error.contains("--restart"), "{error}");
        };
        refused("push_sent");
        fs::write(&path, "{").unwrap();
        refused("feed_read");
        fs::write(&path, vec![b' '; 70_000]).unwrap();
        refused("feed_read");
        let nowhere = folder.path().join("no/such/folder.json");
        let error = Checkpoint::new(String::new(), String::new()).write(&nowhere).unwrap_err();
        assert!(error.to_string().contains("--checkpoint-dir"), "{error}");
    }
}
