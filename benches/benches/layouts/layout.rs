//! The layouts that are compared, and how their servers are told to keep them.

use seen_store::mysql::{Engine, ROCKSDB_CF_OPTIONS};

/// One way to lay rows down.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// What it is called in the report.
    pub name: &'static str,
    /// The word of `mysql.engine`.
    pub engine: Engine,
    /// A change of the statement that the store makes the table by, for layouts that no word stands
    /// for: what is replaced, and by what.
    pub edit: Option<(&'static str, &'static str)>,
    /// For MyRocks: whether the server has the options that are recommended, or its own.
    pub tuned: bool,
}

const COMPRESSED: &str = "PAGE_COMPRESSED = 1";

/// The first is what the others are compared with.
pub const ALL: [Layout; 6] = [
    Layout { name: "innodb", engine: Engine::InnoDb, edit: None, tuned: false },
    Layout { name: "compressed", engine: Engine::Compressed, edit: None, tuned: false },
    Layout {
        name: "KEY_BLOCK_SIZE 8",
        engine: Engine::Compressed,
        edit: Some((COMPRESSED, "ROW_FORMAT = COMPRESSED KEY_BLOCK_SIZE = 8")),
        tuned: false,
    },
    Layout {
        name: "KEY_BLOCK_SIZE 4",
        engine: Engine::Compressed,
        edit: Some((COMPRESSED, "ROW_FORMAT = COMPRESSED KEY_BLOCK_SIZE = 4")),
        tuned: false,
    },
    Layout { name: "rocksdb as installed", engine: Engine::RocksDb, edit: None, tuned: false },
    Layout { name: "rocksdb", engine: Engine::RocksDb, edit: None, tuned: true },
];

impl Layout {
    pub fn is_rocksdb(&self) -> bool {
        self.engine == Engine::RocksDb
    }

    /// What its server is started with: the same memory for each, and no cache of the system beside
    /// it.
    pub fn arguments(&self, memory_mb: u64) -> Vec<String> {
        let mut arguments = vec![
            "--max-binlog-size=256M".to_owned(),
            "--innodb-flush-method=O_DIRECT".to_owned(),
            "--performance-schema=OFF".to_owned(),
        ];
        if !self.is_rocksdb() {
            arguments.push(format!("--innodb-buffer-pool-size={memory_mb}M"));
            arguments.push("--innodb-log-file-size=512M".to_owned());
            return arguments;
        }
        // What is written and not yet in a file is memory, too: two buffers of 64 MiB.
        let cache_mb = memory_mb.saturating_sub(128).max(64);
        arguments.push(format!("--rocksdb-block-cache-size={}", cache_mb << 20));
        arguments.push("--rocksdb-use-direct-reads=ON".to_owned());
        arguments.push("--rocksdb-use-direct-io-for-flush-and-compaction=ON".to_owned());
        arguments.push("--rocksdb-flush-log-at-trx-commit=1".to_owned());
        if self.tuned {
            arguments.push(format!("--rocksdb-default-cf-options={ROCKSDB_CF_OPTIONS}"));
        }
        arguments
    }
}
