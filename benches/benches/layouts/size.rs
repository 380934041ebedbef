//! What a table takes on the disk: its files' own blocks, with everything that waits in memory written
//! and everything that goes on in the background done.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;

use super::place::{DATABASE, Place, TABLE};

/// How long background work may take to end.
const SETTLE_LIMIT: Duration = Duration::from_secs(1_800);
/// How often it is asked for.
const LOOK: Duration = Duration::from_secs(1);
/// So many looks without a change are an end.
const QUIET_LOOKS: u32 = 3;

/// Bytes on the disk.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Size {
    /// Of all files of the table.
    pub files: u64,
    /// The time index's part of it, as the server divides it.
    pub index: u64,
}

/// As it stands after the load.
pub async fn loaded(place: &Place) -> Result<Size, String> {
    if place.layout.is_rocksdb() {
        place.sql("SET GLOBAL rocksdb_force_flush_memtable_now = 1")?;
    } else {
        // Writes the table's changed pages; what purge leaves behind it is done within seconds.
        place.sql(&format!("USE {DATABASE}; FLUSH TABLES {TABLE} FOR EXPORT; UNLOCK TABLES"))?;
    }
    settle(place).await?;
    size(place)
}

/// With its rows packed as densely as the server can.
pub async fn packed(place: &Place) -> Result<Size, String> {
    if place.layout.is_rocksdb() {
        place.sql("SET GLOBAL rocksdb_compact_cf = 'default'")?;
    } else {
        place.sql(&format!("USE {DATABASE}; OPTIMIZE TABLE {TABLE}"))?;
        place.sql(&format!("USE {DATABASE}; FLUSH TABLES {TABLE} FOR EXPORT; UNLOCK TABLES"))?;
    }
    settle(place).await?;
    size(place)
}

/// Waits until the files are what they will be.
async fn settle(place: &Place) -> Result<(), String> {
    let began = Instant::now();
    let (mut seen, mut quiet) = (0, 0);
    while quiet < QUIET_LOOKS {
        if began.elapsed() > SETTLE_LIMIT {
            return Err(format!("{}: no end of background work", place.name()));
        }
        tokio::time::sleep(LOOK).await;
        let pending = match place.layout.is_rocksdb() {
            true => place.sql(
                "SELECT COALESCE(SUM(value), 0) FROM information_schema.rocksdb_cfstats \
                 WHERE stat_type IN ('COMPACTION_PENDING', 'MEM_TABLE_FLUSH_PENDING')",
            )?,
            false => "0".to_owned(),
        };
        let now = files(place);
        let is_same = now == seen && pending.trim() == "0";
        quiet = if is_same { quiet + 1 } else { 0 };
        seen = now;
    }
    Ok(())
}

fn files(place: &Place) -> u64 {
    let (folder, wanted) = match place.layout.is_rocksdb() {
        true => (place.data().join("#rocksdb"), ".sst".to_owned()),
        false => (place.data().join(DATABASE), format!("{TABLE}.ibd")),
    };
    blocks(&folder, &wanted)
}

/// What the files whose names end so take of the disk, holes left out.
fn blocks(folder: &Path, end: &str) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let of = |entry: std::io::Result<std::fs::DirEntry>| {
        let entry = entry.ok()?;
        let is_one = entry.file_name().to_string_lossy().ends_with(end);
        // A file may go while it is looked at.
        is_one.then(|| entry.metadata().ok())?.map(|file| file.blocks() * 512)
    };
    entries.filter_map(of).sum()
}

fn size(place: &Place) -> Result<Size, String> {
    place.sql(&format!("ANALYZE TABLE {DATABASE}.{TABLE}"))?;
    let lengths = place.sql(&format!(
        "SELECT data_length, index_length FROM information_schema.tables \
         WHERE table_schema = '{DATABASE}' AND table_name = '{TABLE}'"
    ))?;
    let mut lengths = lengths.split_whitespace().filter_map(|text| text.parse::<u64>().ok());
    let (data, index) = (lengths.next().unwrap_or(0), lengths.next().unwrap_or(0));
    let files = files(place);
    let part = index as f64 / (data + index).max(1) as f64;
    Ok(Size { files, index: (files as f64 * part) as u64 })
}
