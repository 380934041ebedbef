//! What the store on database servers can be told.

use std::time::Duration;

use seen_filter::StoreError;

use super::mapping::{Name, TableMapping};
use super::server::{Login, PasswordSource, ServerAddress, Tls};
use crate::request::{StorageClock, WRITE_ROWS_MAX, invalid};

/// Most logical shards.
pub const SHARDS_MAX: usize = 1_024;

/// How the rows of new tables are laid down. The measured difference is in `ARCHITECTURE.md`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Engine {
    /// InnoDB as it is.
    #[default]
    InnoDb,
    /// InnoDB with compressed pages: on MariaDB as small as each comes out, on MySQL of 8 KiB.
    Compressed,
    /// MyRocks; the server needs its plugin.
    RocksDb,
}

/// The servers of one logical shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShardServers {
    /// The schema that holds its tables.
    pub database: Name,
    /// The servers that may be its primary. The writable one is found by asking.
    pub candidates: Vec<ServerAddress>,
    /// Servers that only vote: without a majority of candidates and witnesses in reach nothing is
    /// written, since a cut-off site sees only the old primary.
    pub witnesses: Vec<ServerAddress>,
}

impl ShardServers {
    /// A server that is named twice, as a candidate or as a witness: its vote would count twice.
    pub fn named_twice(&self) -> Option<&ServerAddress> {
        let all: Vec<_> = self.candidates.iter().chain(&self.witnesses).collect();
        all.iter().enumerate().find(|(place, one)| all[..*place].contains(one)).map(|(_, one)| *one)
    }
}

/// How to open the store on database servers.
#[derive(Clone, Debug)]
pub struct MySqlOptions {
    /// Who one is there.
    pub login: Login,
    /// The logical shards, by number; a power of two, fixed when the store is made.
    pub shards: Vec<ShardServers>,
    /// The age of this map of shards. A shard that has been told of a newer one refuses this store.
    pub map_epoch: u32,
    /// Namespaces whose tables are somebody else's; the others have the project's own.
    pub mappings: Vec<TableMapping>,
    /// How new tables are laid down.
    pub engine: Engine,
    /// Connections for point checks, 1 to 256 a shard.
    pub check_connections_max: usize,
    /// Connections for writes, 1 to 64 a shard.
    pub write_connections_max: usize,
    /// Connections for pages (builds, listings) and other background work, 1 to 64 a shard.
    pub page_connections_max: usize,
    /// Most calls that may wait for a connection to read by, for pages and checks each; further ones
    /// are refused with `Overloaded`.
    pub pending_reads_max: usize,
    /// Most calls that may wait for a commit, a shard; further ones are refused with `Overloaded`.
    pub pending_writes_max: usize,
    /// Most rows that calls may share a commit for. A single larger call is committed alone.
    pub commit_rows_max: usize,
    /// How long opening a connection may take, in milliseconds.
    pub connect_timeout_ms: u64,
    /// Limit of a point check's statement at the server, in milliseconds; the client waits half as
    /// long again.
    pub check_timeout_ms: u64,
    /// Limit of a write's statement at the server, in milliseconds; the client waits half as long
    /// again, and so does a forget for stalled commits of others.
    pub write_timeout_ms: u64,
    /// Limit of a page's statement at the server, in milliseconds; the client waits half as long
    /// again.
    pub page_timeout_ms: u64,
    /// How late a point check may be on TiDB, in milliseconds, for callers that hold what came since;
    /// 0 for not at all. Such checks have as many connections of their own as point checks have.
    pub check_lag_ms: u64,
    /// How often the servers are asked which of them takes writes, in milliseconds.
    pub probe_interval_ms: u64,
    /// Whether this process takes part in background work: expired partitions, old fences. At least
    /// one has to; of several, one at a time does it.
    pub upkeep: bool,
    /// How long the lease of background work lasts, in milliseconds: so long after a crash of its
    /// holder another store goes on. It is renewed three times as often.
    pub upkeep_lease_ms: u64,
    /// How long a change of partitions may take, in milliseconds. Moving rows of an absent worker's
    /// time takes longest.
    pub partitions_timeout_ms: u64,
    /// How long the fences of a process are kept that writes none any more, in milliseconds.
    pub fence_keep_ms: u64,
    /// The storage's clock; `None` for the server's own, which is what expiry should go by.
    pub clock: Option<StorageClock>,
}

impl Default for MySqlOptions {
    fn default() -> Self {
        Self {
            login: Login { user: "seen".to_owned(), password: PasswordSource::None, tls: Tls::Off },
            shards: Vec::new(),
            map_epoch: 0,
            mappings: Vec::new(),
            engine: Engine::default(),
            check_connections_max: 8,
            write_connections_max: 4,
            page_connections_max: 4,
            pending_reads_max: 4_096,
            pending_writes_max: 8_192,
            commit_rows_max: 8_192,
            connect_timeout_ms: 2_000,
            check_timeout_ms: 1_000,
            write_timeout_ms: 2_000,
            page_timeout_ms: 10_000,
            check_lag_ms: 0,
            probe_interval_ms: 500,
            upkeep: true,
            upkeep_lease_ms: 30_000,
            partitions_timeout_ms: 600_000,
            fence_keep_ms: 86_400_000,
            clock: None,
        }
    }
}

impl MySqlOptions {
    /// Checks every field against its range.
    ///
    /// # Errors
    /// `InvalidRequest`, naming the field, the value and what is allowed.
    pub fn validate(&self) -> Result<(), StoreError> {
        let ranges: [(&str, u64, u64, u64); 15] = [
            ("check_connections_max", self.check_connections_max as u64, 1, 256),
            ("write_connections_max", self.write_connections_max as u64, 1, 64),
            ("page_connections_max", self.page_connections_max as u64, 1, 64),
            ("pending_reads_max", self.pending_reads_max as u64, 1, 1 << 20),
            ("pending_writes_max", self.pending_writes_max as u64, 1, 1 << 20),
            ("commit_rows_max", self.commit_rows_max as u64, 1, WRITE_ROWS_MAX as u64),
            ("connect_timeout_ms", self.connect_timeout_ms, 10, 60_000),
            ("check_timeout_ms", self.check_timeout_ms, 10, 60_000),
            ("write_timeout_ms", self.write_timeout_ms, 10, 60_000),
            ("page_timeout_ms", self.page_timeout_ms, 10, 600_000),
            ("check_lag_ms", self.check_lag_ms, 0, 60_000),
            ("probe_interval_ms", self.probe_interval_ms, 10, 60_000),
            ("upkeep_lease_ms", self.upkeep_lease_ms, 3_000, 600_000),
            ("partitions_timeout_ms", self.partitions_timeout_ms, 1_000, 86_400_000),
            ("fence_keep_ms", self.fence_keep_ms, 60_000, 31_536_000_000),
        ];
        for (field, value, low, high) in ranges {
            if !(low..=high).contains(&value) {
                return Err(invalid(format!(
                    "{field} = {value} is out of range (allowed: {low} to {high})"
                )));
            }
        }
        let shards = self.shards.len();
        if !shards.is_power_of_two() || shards > SHARDS_MAX {
            return Err(invalid(format!(
                "{shards} shards (allowed: a power of two from 1 to {SHARDS_MAX})"
            )));
        }
        for (number, shard) in self.shards.iter().enumerate() {
            if shard.candidates.is_empty() {
                return Err(invalid(format!("shard {number} has no server; name at least one")));
            }
            if let Some(twice) = shard.named_twice() {
                return Err(invalid(format!(
                    "shard {number} names the server {twice} twice; each has one vote"
                )));
            }
        }
        Ok(())
    }

    pub(crate) fn connect_timeout(&self) -> Duration {
        Duration::from_millis(self.connect_timeout_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one_shard() -> ShardServers {
        ShardServers {
            database: Name::new("database", "seen").expect("a name"),
            candidates: vec!["127.0.0.1:3306".parse().expect("an address")],
            witnesses: Vec::new(),
        }
    }

    #[test]
    fn values_out_of_range_are_named() {
        let good = MySqlOptions { shards: vec![one_shard()], ..MySqlOptions::default() };
        good.validate().expect("the defaults are in range");
        let none = MySqlOptions::default();
        let three = MySqlOptions { shards: vec![one_shard(); 3], ..good.clone() };
        let slow = MySqlOptions { check_timeout_ms: 0, ..good.clone() };
        let brief = MySqlOptions { upkeep_lease_ms: 10, ..good.clone() };
        let nowhere = ShardServers { candidates: Vec::new(), ..one_shard() };
        let nowhere = MySqlOptions { shards: vec![nowhere], ..good.clone() };
        let witnesses = one_shard().candidates;
        let twofold =
            MySqlOptions { shards: vec![ShardServers { witnesses, ..one_shard() }], ..good };
        for (options, named) in [
            (none, "0 shards"),
            (three, "3 shards"),
            (slow, "check_timeout_ms = 0"),
            (brief, "upkeep_lease_ms = 10"),
            (nowhere, "shard 0"),
            (twofold, "127.0.0.1:3306 twice"),
        ] {
            let refused = options.validate().expect_err(named);
            assert!(refused.message.contains(named), "{refused}");
        }
    }
}
