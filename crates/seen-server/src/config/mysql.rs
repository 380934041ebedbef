//! `[mysql]`: the database servers, read where `storage.kind` is `mysql`.

use std::path::PathBuf;
use std::time::Duration;

use seen_filter::{NamespaceId, StoreError};
use seen_store::mysql::{
    ClientIdentity, Engine, Login, MySqlOptions, NAME_CHARACTERS_MAX, Name, PasswordSource,
    ServerAddress, ShardServers, Tls,
};
use serde::{Deserialize, Serialize};

use super::error::OutOfRange;
use super::namespace::NamespaceConfig;
use super::options::{Allowed, OptionInfo, SectionInfo, ms, option, optional, secs};
use super::secret::Secret;
use super::storage::StorageConfig;
use super::units::span;

/// What `[mysql]` is about.
pub const SECTION: SectionInfo = SectionInfo {
    name: "mysql",
    help: "The database servers, where storage.kind is mysql: MySQL, MariaDB or TiDB, told apart by themselves.",
    options: OPTIONS,
};

const OPTIONS: &[OptionInfo] = &[
    option(
        "servers",
        Allowed::Text(
            "addresses separated by commas, each host, host:port or [v6]:port; groups separated by ;",
        ),
        "The servers that may be the primary; the one that takes writes is found by asking. With several shards one group for each run of them, in order.",
    ),
    option(
        "witnesses",
        Allowed::Text("addresses separated by commas, or nothing; groups as in servers"),
        "Servers that only vote: without a majority of all in reach nothing is written.",
    ),
    option(
        "shards",
        Allowed::Count(1, 1_024),
        "Logical shards, a power of two that is fixed when the store is made; each group of servers holds an equal run of them.",
    ),
    option(
        "map_epoch",
        Allowed::Count(0, 4_000_000_000),
        "The age of this map of shards: count it up whenever a shard moves to other servers. A shard that was told of a newer map (seen shards --raise) refuses this one.",
    ),
    option(
        "database",
        Allowed::Text("letters, digits, _, $ and -"),
        "The schema that holds the tables; with several shards the beginning of their schemas' names, as in seen_0.",
    ),
    option("user", Allowed::Text("a name"), "Who one is at the servers."),
    option(
        "password",
        Allowed::Secret,
        "Its password; better set by the environment, or by password_file. Never shown.",
    ),
    optional(
        "password_file",
        Allowed::Text("a file"),
        "A file whose first line is the password; read again for each connection, so that a rotated one is picked up.",
        "/run/secrets/seen-mysql",
    ),
    option(
        "tls",
        Allowed::OneOf(&["off", "required"]),
        "Encryption; where required, the server's name and certificate are checked.",
    ),
    optional(
        "tls_ca",
        Allowed::Text("a PEM file"),
        "The authority that signed the servers' certificates, trusted beside the system's; read again for each connection.",
        "/etc/seen/mysql-ca.pem",
    ),
    optional(
        "tls_cert",
        Allowed::Text("a PEM file"),
        "The certificate to show to servers that ask for one (REQUIRE X509); with tls_key. Read again for each connection.",
        "/etc/seen/mysql-client.pem",
    ),
    optional(
        "tls_key",
        Allowed::Text("a PEM file"),
        "The private key of tls_cert.",
        "/run/secrets/seen-mysql-client.key",
    ),
    option(
        "engine",
        Allowed::OneOf(&["innodb", "compressed", "rocksdb"]),
        "How new tables are laid down; rocksdb needs MariaDB's plugin. TiDB has its own way.",
    ),
    option("write_connections", Allowed::Count(1, 64), "Connections for writes."),
    option(
        "connect_timeout",
        Allowed::Span(ms(10), secs(60)),
        "How long opening a connection may take.",
    ),
    option(
        "check_timeout",
        Allowed::Span(ms(10), secs(60)),
        "Limit of a point check at the server; the client waits half as long again.",
    ),
    option(
        "write_timeout",
        Allowed::Span(ms(10), secs(60)),
        "Limit of a write at the server; the client waits half as long again, and so does a forget for stalled commits of others.",
    ),
    option(
        "page_timeout",
        Allowed::Span(ms(10), secs(600)),
        "Limit of one page of a build or a listing at the server.",
    ),
    option(
        "probe_interval",
        Allowed::Span(ms(10), secs(60)),
        "How often the servers are asked which of them takes writes.",
    ),
    option(
        "feed",
        Allowed::OneOf(&["auto", "binlog", "kafka", "none"]),
        "Where changes come from: the server's own binary log (auto: where there is one, which is on MySQL and MariaDB), Kafka (see kafka), or nowhere: then nothing is cached and every answer is asked of the servers.",
    ),
    option(
        "snapshot_lag",
        Allowed::Span(ms(100), secs(60)),
        "S of rule R2: the longest time after which a commit that the binary log has shown is seen by a fresh read.",
    ),
    option(
        "check_lag",
        Allowed::Span(ms(0), secs(60)),
        "How old the timestamp of a point check may be on TiDB, where memory holds what came since: such checks take timestamps of low resolution, on as many connections again as storage.read_connections. At least half a second above the server's tidb_low_resolution_tso_update_interval (2 s by default); 0s: every check is fresh.",
    ),
];

/// Whether connections are encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TlsMode {
    /// They are not.
    #[default]
    Off,
    /// They are, and the server proves who it is.
    Required,
}

/// How new tables are laid down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TableEngine {
    /// InnoDB as it is.
    #[default]
    Innodb,
    /// InnoDB with compressed pages.
    Compressed,
    /// MyRocks.
    Rocksdb,
}

/// Where changes come from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FeedSource {
    /// The server's binary log, where there is one.
    #[default]
    Auto,
    /// The server's binary log.
    Binlog,
    /// Kafka, see `[kafka]`.
    Kafka,
    /// Nowhere.
    None,
}

/// `[mysql]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[expect(missing_docs, reason = "the options' help is the documentation, stated once")]
pub struct MySqlConfig {
    pub servers: String,
    pub witnesses: String,
    pub shards: u16,
    pub map_epoch: u32,
    pub database: String,
    pub user: String,
    pub password: Secret,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    pub tls: TlsMode,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_ca: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_cert: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_key: Option<PathBuf>,
    pub engine: TableEngine,
    pub write_connections: u16,
    #[serde(with = "span")]
    pub connect_timeout: Duration,
    #[serde(with = "span")]
    pub check_timeout: Duration,
    #[serde(with = "span")]
    pub write_timeout: Duration,
    #[serde(with = "span")]
    pub page_timeout: Duration,
    #[serde(with = "span")]
    pub probe_interval: Duration,
    pub feed: FeedSource,
    #[serde(with = "span")]
    pub snapshot_lag: Duration,
    #[serde(with = "span")]
    pub check_lag: Duration,
}

impl Default for MySqlConfig {
    fn default() -> Self {
        Self {
            servers: "127.0.0.1:3306".to_owned(),
            witnesses: String::new(),
            shards: 1,
            map_epoch: 0,
            database: "seen".to_owned(),
            user: "seen".to_owned(),
            password: Secret::default(),
            password_file: None,
            tls: TlsMode::Off,
            tls_ca: None,
            tls_cert: None,
            tls_key: None,
            engine: TableEngine::Innodb,
            write_connections: 4,
            connect_timeout: secs(2),
            check_timeout: secs(1),
            write_timeout: secs(2),
            page_timeout: secs(10),
            probe_interval: ms(500),
            feed: FeedSource::Auto,
            snapshot_lag: secs(2),
            check_lag: secs(0),
        }
    }
}

impl MySqlConfig {
    /// Checks every value against its range.
    ///
    /// # Errors
    /// The first value out of range.
    pub fn validate(&self) -> Result<(), OutOfRange> {
        SECTION.check(SECTION.name, self)?;
        self.validate_names()?;
        self.validate_groups()?;
        self.validate_tls()?;
        if !self.password.is_empty() && self.password_file.is_some() {
            return Err(OutOfRange {
                key: "mysql.password_file".to_owned(),
                value: "set beside mysql.password".to_owned(),
                allowed: "one of the two".to_owned(),
            });
        }
        Ok(())
    }

    /// Servers, witnesses and shards must fit together.
    fn validate_groups(&self) -> Result<(), OutOfRange> {
        let refuse = |key: &str, value: &str, error: &StoreError| OutOfRange {
            key: format!("mysql.{key}"),
            value: value.to_owned(),
            allowed: error.message.clone(),
        };
        let servers = groups(&self.servers).map_err(|e| refuse("servers", &self.servers, &e))?;
        groups(&self.witnesses).map_err(|e| refuse("witnesses", &self.witnesses, &e))?;
        let out_of_range = |key: &str, value: &str, allowed: String| {
            Err(OutOfRange { key: format!("mysql.{key}"), value: value.to_owned(), allowed })
        };
        if servers.iter().any(Vec::is_empty) {
            let allowed = "at least one address in each group".to_owned();
            return out_of_range("servers", &self.servers, allowed);
        }
        let shards = usize::from(self.shards);
        if !self.shards.is_power_of_two() {
            return out_of_range("shards", &shards.to_string(), "a power of two".to_owned());
        }
        if shards % servers.len() != 0 {
            let allowed = format!("a number of groups that divides {shards} (mysql.shards)");
            return out_of_range("servers", &self.servers, allowed);
        }
        let voters = groups(&self.witnesses).map_or(0, |groups| groups.len());
        if voters > 1 && voters != servers.len() {
            let allowed = format!("no witnesses, or {} groups as in servers", servers.len());
            return out_of_range("witnesses", &self.witnesses, allowed);
        }
        Name::new("mysql.database", &self.database)
            .map_err(|e| refuse("database", &self.database, &e))?;
        let homes = self.shard_servers().map_err(|e| refuse("servers", &self.servers, &e))?;
        let twofold = |home: &ShardServers| {
            let twice = home.named_twice()?;
            Some((home.candidates.contains(twice), twice.clone()))
        };
        if let Some((is_candidate, twice)) = homes.iter().find_map(twofold) {
            let (key, value) = match is_candidate {
                true => ("servers", &self.servers),
                false => ("witnesses", &self.witnesses),
            };
            let allowed = format!(
                "each server once in its group, as a candidate or as a witness; {twice} is there twice"
            );
            return out_of_range(key, value, allowed);
        }
        Ok(())
    }

    /// The schemas' names must fit: the last shard's is the longest.
    fn validate_names(&self) -> Result<(), OutOfRange> {
        let longest = self.database_of(self.shards.saturating_sub(1));
        if longest.len() <= NAME_CHARACTERS_MAX {
            return Ok(());
        }
        let added = longest.len() - self.database.len();
        Err(OutOfRange {
            key: "mysql.database".to_owned(),
            value: self.database.clone(),
            allowed: format!(
                "at most {} characters with mysql.shards = {}: the schema {longest} has {}, and the \
                 servers allow {NAME_CHARACTERS_MAX}",
                NAME_CHARACTERS_MAX - added,
                self.shards,
                longest.len()
            ),
        })
    }

    /// What belongs together must be set together.
    fn validate_tls(&self) -> Result<(), OutOfRange> {
        let files =
            [("tls_ca", &self.tls_ca), ("tls_cert", &self.tls_cert), ("tls_key", &self.tls_key)];
        let refuse = |key: &str, file: &PathBuf, allowed: &str| {
            let (key, value) = (format!("mysql.{key}"), file.display().to_string());
            Err(OutOfRange { key, value, allowed: allowed.to_owned() })
        };
        for (key, file) in files {
            if let (TlsMode::Off, Some(file)) = (self.tls, file) {
                return refuse(
                    key,
                    file,
                    "unset while mysql.tls = \"off\"; or mysql.tls = \"required\"",
                );
            }
        }
        match (&self.tls_cert, &self.tls_key) {
            (Some(file), None) => refuse("tls_cert", file, "set together with mysql.tls_key"),
            (None, Some(file)) => refuse("tls_key", file, "set together with mysql.tls_cert"),
            _ => Ok(()),
        }
    }

    /// The schema of a shard.
    fn database_of(&self, number: u16) -> String {
        match self.shards {
            1 => self.database.clone(),
            _ => format!("{}_{number}", self.database),
        }
    }

    fn shard_servers(&self) -> Result<Vec<ShardServers>, StoreError> {
        let (servers, witnesses) = (groups(&self.servers)?, groups(&self.witnesses)?);
        let shards = usize::from(self.shards);
        let one = |number: u16| {
            let group = usize::from(number) * servers.len() / shards.max(1);
            Ok(ShardServers {
                database: Name::new("mysql.database", &self.database_of(number))?,
                candidates: servers.get(group).cloned().unwrap_or_default(),
                // One group votes for all.
                witnesses: witnesses.get(group).or(witnesses.first()).cloned().unwrap_or_default(),
            })
        };
        (0..self.shards).map(one).collect()
    }

    /// What the store is told.
    ///
    /// # Errors
    /// `InvalidRequest` for a name or address that [`Self::validate`] refuses.
    pub fn options(
        &self,
        storage: &StorageConfig,
        namespaces: &[NamespaceConfig],
    ) -> Result<MySqlOptions, StoreError> {
        let millis = |span: Duration| u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
        let password = match (&self.password_file, self.password.is_empty()) {
            (Some(file), _) => PasswordSource::File(file.clone()),
            (None, true) => PasswordSource::None,
            (None, false) => PasswordSource::Text(self.password.reveal().to_owned()),
        };
        let tls = match self.tls {
            TlsMode::Off => Tls::Off,
            TlsMode::Required => {
                let files = self.tls_cert.clone().zip(self.tls_key.clone());
                let identity = files.map(|(certificate, key)| ClientIdentity { certificate, key });
                Tls::Required { ca: self.tls_ca.clone(), identity }
            }
        };
        let numbered = (0..).map(NamespaceId::new).zip(namespaces);
        let mappings: Result<Vec<_>, _> =
            numbered.filter_map(|(id, one)| one.mapping(id).transpose()).collect();
        Ok(MySqlOptions {
            mappings: mappings?,
            login: Login { user: self.user.clone(), password, tls },
            shards: self.shard_servers()?,
            map_epoch: self.map_epoch,
            engine: match self.engine {
                TableEngine::Innodb => Engine::InnoDb,
                TableEngine::Compressed => Engine::Compressed,
                TableEngine::Rocksdb => Engine::RocksDb,
            },
            check_connections_max: usize::from(storage.read_connections),
            write_connections_max: usize::from(self.write_connections),
            page_connections_max: usize::from(storage.build_connections),
            pending_writes_max: storage.pending_writes_max as usize,
            commit_rows_max: storage.commit_rows_max as usize,
            connect_timeout_ms: millis(self.connect_timeout),
            check_timeout_ms: millis(self.check_timeout),
            write_timeout_ms: millis(self.write_timeout),
            page_timeout_ms: millis(self.page_timeout),
            probe_interval_ms: millis(self.probe_interval),
            check_lag_ms: millis(self.check_lag),
            ..MySqlOptions::default()
        })
    }
}

/// The groups of a list: one for each run of shards.
fn groups(list: &str) -> Result<Vec<Vec<ServerAddress>>, StoreError> {
    list.split(';').map(addresses).collect()
}

fn addresses(list: &str) -> Result<Vec<ServerAddress>, StoreError> {
    list.split(',').map(str::trim).filter(|one| !one.is_empty()).map(str::parse).collect()
}
