//! Writes the file's dirty pages to the disk from outside SQLite.
//!
//! A checkpoint that runs beside commits copies pages into the file but does not sync it: SQLite does
//! that only where a checkpoint reached the log's very end. Without help, all of it would be left to
//! the one that the writer finishes, while every mark waits.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use parking_lot::Mutex;

/// A device and a file on it.
type Identity = (u64, u64);

/// One handle a file, never closed: the system drops **all** of a process's locks on a file with any
/// one handle that it closes, SQLite's among them. So there are as many as this process ever opened
/// stores.
static HANDLES: LazyLock<Mutex<BTreeMap<Identity, Arc<File>>>> = LazyLock::new(Mutex::default);

fn identity(of: &std::fs::Metadata) -> Identity {
    (of.dev(), of.ino())
}

/// A handle to flush the file at `path` by.
///
/// # Errors
/// The file cannot be opened.
pub(crate) fn handle(path: &Path) -> io::Result<Arc<File>> {
    let mut handles = HANDLES.lock();
    if let Some(known) = handles.get(&identity(&std::fs::metadata(path)?)) {
        return Ok(Arc::clone(known));
    }
    let opened = Arc::new(File::open(path)?);
    // Kept before anything can fail: it must not be closed.
    let unread = (u64::MAX, handles.len() as u64);
    handles.insert(unread, Arc::clone(&opened));
    let is = identity(&opened.metadata()?);
    handles.remove(&unread);
    // Put back under its own name; another one of that name, by a race over the path, stays as well.
    if let Some(other) = handles.insert(is, Arc::clone(&opened)) {
        std::mem::forget(other);
    }
    Ok(opened)
}

/// Writes what is dirty, and waits for the disk.
///
/// # Errors
/// The disk failed. SQLite's own sync reports the same error again, on its own handle.
pub(crate) async fn flush(file: Arc<File>) -> io::Result<()> {
    let synced = tokio::task::spawn_blocking(move || file.sync_data()).await;
    synced.unwrap_or_else(|_| Err(io::Error::other("the runtime is stopping")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_one_handle_whatever_it_is_called() {
        let folder = tempfile::tempdir().expect("a folder");
        let (one, other) = (folder.path().join("one"), folder.path().join("other"));
        std::fs::write(&one, b"x").expect("written");
        std::fs::hard_link(&one, &other).expect("linked");
        let first = handle(&one).expect("opened");
        assert!(Arc::ptr_eq(&first, &handle(&other).expect("opened")));
        std::fs::remove_file(&one).expect("removed");
        std::fs::write(&one, b"y").expect("written");
        assert!(!Arc::ptr_eq(&first, &handle(&one).expect("opened")), "another file by now");
    }
}
