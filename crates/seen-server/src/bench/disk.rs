//! What the disk below the store is, and how long it takes to make something durable: no commit can
//! be faster.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::time::Instant;

use super::process::median;

/// Syncs that are timed.
const SYNCS: usize = 40;
/// Bytes written before each.
const SYNC_BYTES: usize = 16 << 10;

/// Median time of writing some pages behind each other and syncing them, in milliseconds.
///
/// # Errors
/// The folder cannot be written.
pub(super) fn sync_ms(folder: &Path) -> io::Result<f64> {
    let path = folder.join("sync-probe");
    let mut file = OpenOptions::new().create(true).append(true).open(&path)?;
    let page = [7_u8; SYNC_BYTES];
    let mut times = Vec::with_capacity(SYNCS);
    for _ in 0..SYNCS {
        let began = Instant::now();
        file.write_all(&page)?;
        file.sync_data()?;
        times.push(began.elapsed().as_secs_f64() * 1_000.0);
    }
    fs::remove_file(&path)?;
    Ok(median(&times))
}

/// True if a folder lies in memory, where nothing is durable.
pub(super) fn in_memory(folder: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/mounts").unwrap_or_default();
    let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
    matches!(file_system(&mounts, &folder), Some("tmpfs" | "ramfs"))
}

/// The kind of the file system that a folder lies on: of the mount points above it, the longest.
fn file_system<'a>(mounts: &'a str, folder: &Path) -> Option<&'a str> {
    mounts
        .lines()
        .filter_map(|line| {
            let mut words = line.split_ascii_whitespace().skip(1);
            let point = Path::new(words.next()?);
            let kind = words.next()?;
            folder.starts_with(point).then(|| (point.components().count(), kind))
        })
        .max_by_key(|(depth, _)| *depth)
        .map(|(_, kind)| kind)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_mount_point_decides() {
        let mounts =
            "/dev/vda / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n/dev/vdb /tmp/disk xfs rw 0 0\n";
        let kind = |path: &str| file_system(mounts, Path::new(path));
        assert_eq!(kind("/tmp/a"), Some("tmpfs"));
        assert_eq!(kind("/tmp/disk/a"), Some("xfs"));
        assert_eq!(kind("/tmpfoo"), Some("ext4"));
    }
}
