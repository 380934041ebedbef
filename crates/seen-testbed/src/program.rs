//! Programs of this machine.

use std::env;
use std::path::{Path, PathBuf};

use crate::error::Error;

/// Where servers lie that an ordinary user's PATH leaves out.
const FOR_ADMINISTRATORS: [&str; 3] = ["/usr/sbin", "/usr/local/sbin", "/usr/libexec"];

/// Finds a program, or says how to come by it.
pub(crate) fn find(name: &str, how: &str) -> Result<PathBuf, Error> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(FOR_ADMINISTRATORS.map(PathBuf::from));
    let mut found = folders.map(|folder| folder.join(name)).filter(|path| path.is_file());
    found.next().ok_or_else(|| missing(name, how))
}

/// What is looked for in one place only.
pub(crate) fn at(path: &Path, how: &str) -> Result<PathBuf, Error> {
    if path.is_file() {
        Ok(path.to_owned())
    } else {
        Err(missing(&path.display().to_string(), how))
    }
}

fn missing(what: &str, how: &str) -> Error {
    Error::Missing { what: what.to_owned(), how: how.to_owned() }
}

/// Whether this is root, for whom database servers want to be asked by name.
pub(crate) fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}
