//! The statements that make and change tables.

use std::fmt::{self, Write as _};

use seen_filter::{NamespaceSettings, Retention, UnixMillis};

use super::dialect::Dialect;
use super::mapping::{Name, TableMapping};
use super::options::Engine;

/// Marks the store's own partition changes, so that followers of the binary log know that they lose
/// no row that is still promised (coherence row 54).
pub(crate) const PARTITIONS_MARK: &str = "/* seen:partitions */";

/// Buckets beyond the present one that have a partition of their own.
pub(crate) const BUCKETS_AHEAD: u32 = 3;

/// The partition for rows beyond all others: it is empty as long as the worker comes by in time, and
/// no row is refused if it does not.
pub(crate) const LAST: &str = "p_later";

/// Most partitions of a table: MySQL allows 8,192.
pub(crate) const PARTITIONS_MAX: u64 = 8_000;

/// What a server with MyRocks should be started with (`rocksdb_default_cf_options`): Zstandard where nine
/// tenths of the rows end up, something faster above it, blocks that are large enough to compress well,
/// and Bloom filters on whole keys, since most marks and point checks ask for keys that are not there.
/// It counts for files written from then on. Statements cannot say it: options belong to the server.
pub const ROCKSDB_CF_OPTIONS: &str = "compression=kLZ4Compression;bottommost_compression=kZSTD;\
    level_compaction_dynamic_level_bytes=true;\
    block_based_table_factory={block_size=16384;filter_policy=bloomfilter:10:false;\
    whole_key_filtering=1}";

/// A partition of a table with buckets: it begins where the one before it ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Partition {
    pub name: Name,
    /// The first bucket that is not in it; `None` if all later ones are.
    pub end: Option<u64>,
}

/// As SQL, for a definition.
impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.end {
            Some(end) => write!(f, "PARTITION {} VALUES LESS THAN ({end})", self.name),
            None => write!(f, "PARTITION {} VALUES LESS THAN MAXVALUE", self.name),
        }
    }
}

/// The name of a bucket's partition.
pub(crate) fn partition_name(bucket: u64) -> String {
    format!("p{bucket}")
}

/// The buckets that have a partition at a storage time: from the horizon to some ahead.
pub(crate) fn buckets(retention: Retention, now: UnixMillis) -> std::ops::RangeInclusive<u32> {
    retention.horizon_at(now)..=retention.bucket_at(now).saturating_add(BUCKETS_AHEAD)
}

fn partition(bucket: u32) -> String {
    let bucket = u64::from(bucket);
    format!("PARTITION {} VALUES LESS THAN ({})", partition_name(bucket), bucket + 1)
}

/// Makes a namespace's own table.
pub(crate) fn create_table(
    settings: &NamespaceSettings,
    mapping: &TableMapping,
    (dialect, engine): (Dialect, Engine),
    now: UnixMillis,
) -> String {
    let table = &mapping.table;
    let (bucket, in_key) = match settings.retention {
        Some(_) => ("  `bucket` INT UNSIGNED NOT NULL,\n", ", `bucket`"),
        None => ("", ""),
    };
    let clustered = if dialect == Dialect::TiDb { " CLUSTERED" } else { "" };
    let mut text = format!(
        "CREATE TABLE IF NOT EXISTS {table} (\n  `user_id` BIGINT UNSIGNED NOT NULL,\n  \
         `kind` TINYINT UNSIGNED NOT NULL,\n  `item_id` BIGINT UNSIGNED NOT NULL,\n  \
         `marked_at_ms` BIGINT UNSIGNED NOT NULL,\n{bucket}  \
         PRIMARY KEY (`user_id`, `kind`, `item_id`{in_key}){clustered}"
    );
    if settings.time_index {
        let _ = write!(text, ",\n  KEY {BY_TIME}");
    }
    text += "\n)";
    text += layout(dialect, engine);
    if let Some(retention) = settings.retention {
        text += "\nPARTITION BY RANGE (`bucket`) (\n";
        for bucket in buckets(retention, now) {
            let _ = writeln!(text, "  {},", partition(bucket));
        }
        let _ = write!(text, "  PARTITION {LAST} VALUES LESS THAN MAXVALUE\n)");
    }
    text
}

/// How a table's rows are laid down. TiDB has its own way. MariaDB's pages that leave holes in the file
/// are smaller than those of a fixed size, and marks are faster (`ARCHITECTURE.md`); MySQL asks for such
/// pages in other words, and was not measured.
fn layout(dialect: Dialect, engine: Engine) -> &'static str {
    match (dialect, engine) {
        (Dialect::TiDb, _) => "",
        (_, Engine::InnoDb) => " ENGINE = InnoDB",
        (Dialect::MariaDb, Engine::Compressed) => " ENGINE = InnoDB PAGE_COMPRESSED = 1",
        (Dialect::MySql, Engine::Compressed) => {
            " ENGINE = InnoDB ROW_FORMAT = COMPRESSED KEY_BLOCK_SIZE = 8"
        }
        (_, Engine::RocksDb) => " ENGINE = ROCKSDB",
    }
}

/// The name of the time index.
pub(crate) const BY_TIME_NAME: &str = "by_time";
/// The time index: the key's other columns follow by themselves.
const BY_TIME: &str = "`by_time` (`user_id`, `marked_at_ms`)";

/// Adds the time index.
pub(crate) fn add_time_index(mapping: &TableMapping) -> String {
    format!("CREATE INDEX `by_time` ON {} (`user_id`, `marked_at_ms`)", mapping.table)
}

/// Drops the time index.
pub(crate) fn drop_time_index(mapping: &TableMapping) -> String {
    format!("DROP INDEX `by_time` ON {}", mapping.table)
}

/// Divides a partition into these, ascending: the last of them reaches as far as it did.
pub(crate) fn split_partition(
    mapping: &TableMapping,
    partition: &Partition,
    into: &[Partition],
) -> String {
    let (table, name) = (&mapping.table, &partition.name);
    let into = defined(into);
    format!("ALTER TABLE {table} {PARTITIONS_MARK} REORGANIZE PARTITION {name} INTO ({into})")
}

/// Adds partitions, ascending, after the present ones, none of which reaches to the end.
pub(crate) fn append_partitions(mapping: &TableMapping, new: &[Partition]) -> String {
    format!("ALTER TABLE {} {PARTITIONS_MARK} ADD PARTITION ({})", mapping.table, defined(new))
}

/// Drops partitions, and with them their rows.
pub(crate) fn drop_partitions(mapping: &TableMapping, old: &[Partition]) -> String {
    let names: Vec<String> = old.iter().map(|partition| partition.name.to_string()).collect();
    format!("ALTER TABLE {} {PARTITIONS_MARK} DROP PARTITION {}", mapping.table, names.join(", "))
}

fn defined(partitions: &[Partition]) -> String {
    let each: Vec<String> = partitions.iter().map(ToString::to_string).collect();
    each.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use seen_filter::NamespaceId;

    #[test]
    fn partitions_reach_from_the_horizon_to_some_ahead() {
        let retention = Retention { span_ms: 30_000, bucket_ms: 10_000 };
        assert_eq!(buckets(retention, UnixMillis::new(104_000)), 7..=13);
    }

    #[test]
    fn a_table_has_what_its_namespace_asks_for() {
        let mut settings = NamespaceSettings::new(NamespaceId::new(0), "push");
        let text = |settings: &NamespaceSettings| {
            let mapping = TableMapping::own(settings).expect("a mapping");
            let kind = (Dialect::MariaDb, Engine::InnoDb);
            create_table(settings, &mapping, kind, UnixMillis::new(104_000))
        };
        assert!(!text(&settings).contains("bucket") && !text(&settings).contains("by_time"));
        settings.retention = Some(Retention { span_ms: 30_000, bucket_ms: 10_000 });
        settings.time_index = true;
        let all = text(&settings);
        assert!(all.contains("`item_id`, `bucket`)") && all.contains("KEY `by_time`"), "{all}");
        assert!(all.contains("PARTITION p7 VALUES LESS THAN (8)"), "{all}");
    }
}
