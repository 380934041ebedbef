//! The clients of others, as `scripts/grpc-tools` installs them.

use std::env;
use std::path::PathBuf;

/// Where `scripts/grpc-tools` puts them: the version is part of the name.
const IN_CACHE: &str = "seen/grpc-tools-2";

/// grpcurl, which is grpc-go; none, loudly, where it is not installed.
pub fn grpcurl() -> Option<PathBuf> {
    find("grpcurl")
}

/// ghz, which is grpc-go under load; none, loudly, where it is not installed.
pub fn ghz() -> Option<PathBuf> {
    find("ghz")
}

/// A Python that has grpcio; none, loudly, where it is not installed.
pub fn python() -> Option<PathBuf> {
    find("python/bin/python3")
}

fn find(name: &str) -> Option<PathBuf> {
    let home = || env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home)?;
    let tool = cache.join(IN_CACHE).join(name);
    if !tool.exists() {
        eprintln!("SKIPPED: {} is missing; run scripts/grpc-tools", tool.display());
        return None;
    }
    Some(tool)
}
