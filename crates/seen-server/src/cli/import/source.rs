//! What is imported: files, and exports, which are folders of files that must be as they were written.

use std::path::{Path, PathBuf};

use super::{HowMany, ImportArgs};
use crate::cli::CliError;
use crate::cli::export::check;
use crate::cli::export::manifest::{MANIFEST, Manifest};

/// An export that is imported.
pub(super) struct Export {
    pub(super) folder: PathBuf,
    pub(super) manifest: Manifest,
}

/// The arguments with the files of each export in the place of its folder, and the exports.
///
/// # Errors
/// A folder without an export, one that is not finished, or with files that have changed.
pub(super) async fn expanded(args: &ImportArgs) -> Result<(ImportArgs, Vec<Export>), CliError> {
    let mut args = args.clone();
    let mut exports = Vec::new();
    for path in std::mem::take(&mut args.files) {
        if path == Path::new("-") || !path.is_dir() {
            args.files.push(path);
            continue;
        }
        let manifest = whole(&path).await?;
        args.files.extend(manifest.paths(&path).map(|(_, file)| file));
        exports.push(Export { folder: path, manifest });
    }
    Ok((args, exports))
}

async fn whole(folder: &Path) -> Result<Manifest, CliError> {
    let shown = folder.display();
    let manifest = Manifest::read(folder)?.ok_or_else(|| {
        format!("{shown} is a folder without {MANIFEST}; give its files one by one")
    })?;
    if !manifest.finished {
        let what = format!("{shown}: the export is not finished; run `seen export` again to go on");
        return Err(what.into());
    }
    let checked = check::files(folder, &manifest, HowMany::Sample(0)).await?;
    if checked.damaged == 0 {
        return Ok(manifest);
    }
    let mut what = format!("{shown}: {} files are not as they were written", checked.damaged);
    checked.stories.iter().for_each(|story| what += &format!("\n  {story}"));
    Err(what.into())
}
