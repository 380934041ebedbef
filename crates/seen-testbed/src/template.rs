//! Data folders that are made once for a server's version, and copied for each start.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::cache;
use crate::error::{Error, While};

/// Part of the name: raised when folders are made in another way.
const FORMAT: u32 = 1;

/// Makes `folder` a fresh data folder.
///
/// `version` is what the server says of itself; `make` fills a new empty folder where there is no
/// template of that version yet.
pub(crate) fn copy_to(
    folder: &Path,
    version: &str,
    make: impl FnOnce(&Path) -> Result<(), Error>,
) -> Result<(), Error> {
    let safe = |c: char| if c.is_ascii_alphanumeric() || ".-+".contains(c) { c } else { '_' };
    let name: String = version.trim().chars().map(safe).collect();
    let template = cache::subfolder("templates")?.join(format!("{name}-{FORMAT}"));
    if !template.is_dir() {
        make_once(&template, make)?;
    }
    copy(&template, folder)
}

/// One process makes it, the others wait for it. Under another name until it is whole.
fn make_once(template: &Path, make: impl FnOnce(&Path) -> Result<(), Error>) -> Result<(), Error> {
    let beside = |suffix: &str| {
        let mut name = template.as_os_str().to_owned();
        name.push(suffix);
        PathBuf::from(name)
    };
    let what = || format!("make {}", template.display());
    let lock = File::create(beside(".lock")).when(what)?;
    lock.lock().when(what)?;
    if template.is_dir() {
        return Ok(());
    }
    let unfinished = beside(".new");
    if unfinished.exists() {
        fs::remove_dir_all(&unfinished).when(what)?;
    }
    fs::create_dir(&unfinished).when(what)?;
    make(&unfinished)?;
    fs::rename(&unfinished, template).when(what)
}

/// Files and folders; database servers have nothing else in a data folder that is not in use.
fn copy(from: &Path, to: &Path) -> Result<(), Error> {
    let what = || format!("copy {} to {}", from.display(), to.display());
    fs::create_dir_all(to).when(what)?;
    for entry in fs::read_dir(from).when(what)? {
        let entry = entry.when(what)?;
        let target = to.join(entry.file_name());
        if entry.file_type().when(what)?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target).when(what)?;
        }
    }
    Ok(())
}

/// Runs a program that makes a template; its output is the error's log.
pub(crate) fn run(server: &'static str, command: &mut Command) -> Result<(), Error> {
    let output = command.output().when(|| format!("run {:?}", command.get_program()))?;
    if output.status.success() {
        return Ok(());
    }
    let log = [output.stdout, output.stderr].concat();
    let log = String::from_utf8_lossy(&log).into_owned();
    Err(Error::DidNotStart { server, why: format!("{:?}: {}", command, output.status), log })
}

/// What a server says of its version.
pub(crate) fn version(command: &mut Command) -> Result<String, Error> {
    let output = command.output().when(|| format!("run {:?}", command.get_program()))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    // The beginning is the path by which it was called.
    Ok(text.split_once(" Ver ").map_or(text.clone(), |(_, version)| version.trim().to_owned()))
}
