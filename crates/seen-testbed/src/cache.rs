//! The user's folder for what is made once and kept between runs.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::path::PathBuf;

use crate::error::{Error, While};

/// `${XDG_CACHE_HOME:-$HOME/.cache}/seen`; a user without a home keeps it among the temporary files.
pub(crate) fn folder() -> PathBuf {
    let set = |name: &str| env::var_os(name).filter(|value: &OsString| !value.is_empty());
    let cache = set("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| Some(PathBuf::from(set("HOME")?).join(".cache")));
    cache.unwrap_or_else(env::temp_dir).join("seen")
}

/// A folder in it, made where it is not there.
pub(crate) fn subfolder(name: &str) -> Result<PathBuf, Error> {
    let folder = folder().join(name);
    fs::create_dir_all(&folder).when(|| format!("make {}", folder.display()))?;
    Ok(folder)
}
