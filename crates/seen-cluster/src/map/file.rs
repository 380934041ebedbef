//! A map's file: read whole, and replaced whole.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use super::{MAP_BYTES_MAX, MapError, SlotMap};

/// The text of a map's file.
pub(super) async fn read(path: &Path) -> Result<String, MapError> {
    let path = path.to_owned();
    let read = tokio::task::spawn_blocking(move || read_now(&path)).await;
    read.unwrap_or_else(|_| Err(MapError::file("reading it was stopped")))
}

fn read_now(path: &Path) -> Result<String, MapError> {
    let unreadable = |error: io::Error| MapError::file(format!("cannot be read: {error}"));
    let file = File::open(path).map_err(unreadable)?;
    let mut text = String::new();
    // A byte more than a map may have, so that a longer one is refused and not cut.
    file.take(MAP_BYTES_MAX as u64 + 1).read_to_string(&mut text).map_err(unreadable)?;
    Ok(text)
}

/// A map's file that this process alone changes.
#[derive(Debug)]
pub struct MapFile {
    path: PathBuf,
    /// Locked while it is open.
    _lock: File,
}

impl MapFile {
    /// Opens a file to be changed. Beside it lies another one, which is locked until this is dropped.
    ///
    /// # Errors
    ///
    /// Another process changes it, or its folder cannot be written to.
    pub fn open(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        // A link is followed: what it names is replaced, not the link.
        let path = fs::canonicalize(&path).unwrap_or(path);
        let lock = File::create(beside(&path, "lock"))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path, _lock: lock }),
            Err(fs::TryLockError::WouldBlock) => Err(io::Error::new(
                io::ErrorKind::WouldBlock,
                format!("another process changes {}", path.display()),
            )),
            Err(fs::TryLockError::Error(error)) => Err(error),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The map in it.
    ///
    /// # Errors
    ///
    /// It cannot be read, or is no map.
    pub fn read(&self) -> Result<SlotMap, MapError> {
        SlotMap::parse(&read_now(&self.path)?)
    }

    /// Replaces the map in it. Whoever reads meanwhile, or after a crash, finds the old one or the new one.
    ///
    /// # Errors
    ///
    /// The old one is still there, but for an error of the last step, making the new name durable.
    pub fn write(&self, map: &SlotMap) -> io::Result<()> {
        let fresh = beside(&self.path, "new");
        let mut file = File::create(&fresh)?;
        file.write_all(map.to_toml().as_bytes())?;
        if let Ok(before) = fs::metadata(&self.path) {
            file.set_permissions(before.permissions())?;
        }
        file.sync_all()?;
        fs::rename(&fresh, &self.path)?;
        match self.path.parent() {
            Some(folder) if folder != Path::new("") => File::open(folder)?.sync_all(),
            _ => File::open(".")?.sync_all(),
        }
    }
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    name.into()
}
