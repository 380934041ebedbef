//! The schema: what is there, what is missing, and making it. Safe to run twice and from two places at
//! once: a lock at the server lets one in at a time, and every step looks before it changes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use rand::RngCore as _;
use seen_filter::{NamespaceSettings, Shard, StoreError, StoreErrorKind, UnixMillis};
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::{MySqlConnection, Row as _};

use super::ddl;
use super::dialect::Dialect;
use super::errors::{Failure, Stage, number};
use super::options::{Engine, MySqlOptions};
use super::sql::safe;
use super::tables::mapping_of;
use crate::request::{StorageClock, invalid};

/// Where applied migrations are noted.
const MIGRATIONS_TABLE: &str = "seen_migrations";

static MYSQL: LazyLock<Migrator> =
    LazyLock::new(|| named(sqlx::migrate!("../../migrations/mysql")));
static TIDB: LazyLock<Migrator> = LazyLock::new(|| named(sqlx::migrate!("../../migrations/tidb")));

fn named(mut migrator: Migrator) -> Migrator {
    migrator.dangerous_set_table_name(MIGRATIONS_TABLE);
    migrator
}

fn migrator(dialect: Dialect) -> &'static Migrator {
    if dialect == Dialect::TiDb { &TIDB } else { &MYSQL }
}

/// One change of the schema.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaStep {
    /// What it is for, in a few words.
    pub what: String,
    /// The statement.
    pub sql: String,
    /// False for a step that is more than its statement.
    is_plain: bool,
}

/// What is to be done in one shard's schema.
#[derive(Clone, Debug)]
pub struct SchemaPlan {
    /// The shard.
    pub shard: Shard,
    /// The schema's name.
    pub database: String,
    /// What is missing, in order. Empty: everything is as this program expects it.
    pub steps: Vec<SchemaStep>,
    /// True if a history table there has rows.
    pub holds_data: bool,
}

/// What identifies a store, the same on every shard except for the shard's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub hash_key_id: u32,
    pub hash_secret: [u8; 16],
    pub timeline: u64,
    pub shard: u16,
    pub shards: u16,
}

/// One shard's schema on one connection.
pub(crate) struct Schema<'a> {
    pub connection: &'a mut MySqlConnection,
    pub dialect: Dialect,
    pub shard: Shard,
    pub shards: u16,
    pub engine: Engine,
    pub now: UnixMillis,
    /// The age of the configured map of shards.
    pub map_epoch: u32,
}

fn sql_failure(error: sqlx::Error) -> Failure {
    Failure::Sql(Stage::Open, error)
}

/// How long one of two that migrate at once waits for the other, in seconds.
const LOCK_WAIT_S: u32 = 120;

impl Schema<'_> {
    /// What is missing.
    pub(crate) async fn plan(
        &mut self,
        options: &MySqlOptions,
        namespaces: &[NamespaceSettings],
    ) -> Result<SchemaPlan, Failure> {
        let database = options.shards[usize::from(self.shard.get())].database.clone();
        let mut steps = self.missing_migrations().await?;
        let tables = self.tables().await?;
        let known = match tables.contains("seen_namespaces") {
            true => self.namespaces().await?,
            false => BTreeMap::new(),
        };
        if !tables.contains("seen_store") || self.identity().await?.is_none() {
            let what = "name the store: hash secret, timeline, shard".to_owned();
            steps.push(SchemaStep {
                what,
                sql: "INSERT INTO seen_store ...".to_owned(),
                is_plain: false,
            });
        }
        let mut holds_data = false;
        for settings in namespaces {
            let mapping = mapping_of(settings, &options.mappings).map_err(Failure::Store)?;
            let bucket_ms = settings.retention.map_or(0, |r| r.bucket_ms);
            match known.get(&settings.name) {
                None => steps.push(SchemaStep {
                    what: format!("number the namespace {}", settings.name),
                    sql: "INSERT INTO seen_namespaces ...".to_owned(),
                    is_plain: false,
                }),
                Some((_, stored_ms)) if *stored_ms != bucket_ms => {
                    return Err(Failure::Store(bucket_changed(settings, *stored_ms, bucket_ms)));
                }
                Some(_) => {}
            }
            if mapping.foreign {
                // Somebody else's: looked at when the store is opened, and by `seen doctor`.
                continue;
            }
            let exists = tables.contains(mapping.table.as_str());
            if !exists {
                check_partitions(settings).map_err(Failure::Store)?;
                let kind = (self.dialect, self.engine);
                steps.push(SchemaStep {
                    what: format!("the history of {}", settings.name),
                    sql: ddl::create_table(settings, &mapping, kind, self.now),
                    is_plain: true,
                });
                continue;
            }
            holds_data |= self.has_rows(mapping.table.as_str()).await?;
            match (settings.time_index, self.has_time_index(mapping.table.as_str()).await?) {
                (true, false) => steps.push(SchemaStep {
                    what: format!("the time index of {}", settings.name),
                    sql: ddl::add_time_index(&mapping),
                    is_plain: true,
                }),
                (false, true) => steps.push(SchemaStep {
                    what: format!("{} no longer keeps a time index", settings.name),
                    sql: ddl::drop_time_index(&mapping),
                    is_plain: true,
                }),
                _ => {}
            }
        }
        let database = database.as_str().to_owned();
        Ok(SchemaPlan { shard: self.shard, database, steps, holds_data })
    }

    /// Makes what is missing. `like`: the identity of shard 0, if this is another.
    pub(crate) async fn apply(
        &mut self,
        options: &MySqlOptions,
        namespaces: &[NamespaceSettings],
        like: Option<Identity>,
    ) -> Result<SchemaPlan, Failure> {
        if self.dialect == Dialect::MariaDb {
            // An index of a large table takes its time; so does waiting for another who migrates.
            sqlx::raw_sql("SET SESSION max_statement_time = 0")
                .execute(&mut *self.connection)
                .await
                .map_err(sql_failure)?;
        }
        self.lock().await?;
        let done = self.apply_locked(options, namespaces, like).await;
        // The lock goes with the connection, which nobody uses after this.
        let released =
            sqlx::query("SELECT RELEASE_LOCK(?)").bind(LOCK).execute(&mut *self.connection);
        released.await.map_err(sql_failure)?;
        done
    }

    async fn apply_locked(
        &mut self,
        options: &MySqlOptions,
        namespaces: &[NamespaceSettings],
        like: Option<Identity>,
    ) -> Result<SchemaPlan, Failure> {
        // Looked at under the lock: somebody may have done it meanwhile.
        let plan = self.plan(options, namespaces).await?;
        self.migrate().await?;
        if self.identity().await?.is_none() {
            self.name_store(like).await?;
        }
        let mut known = self.namespaces().await?;
        for settings in namespaces {
            if known.contains_key(&settings.name) {
                continue;
            }
            let id = known.values().map(|(id, _)| id + 1).max().unwrap_or(0);
            let bucket_ms = settings.retention.map_or(0, |r| r.bucket_ms);
            sqlx::query("INSERT INTO seen_namespaces (id, name, bucket_ms) VALUES (?, ?, ?)")
                .bind(id)
                .bind(&settings.name)
                .bind(bucket_ms)
                .execute(&mut *self.connection)
                .await
                .map_err(sql_failure)?;
            known.insert(settings.name.clone(), (id, bucket_ms));
        }
        for step in plan.steps.iter().filter(|step| step.is_plain) {
            let made = sqlx::raw_sql(safe(step.sql.clone())).execute(&mut *self.connection).await;
            made.map_err(|error| self.not_made(error))?;
        }
        Ok(plan)
    }

    /// What a table that could not be made is told by.
    fn not_made(&self, error: sqlx::Error) -> Failure {
        if number(&error) != Some(UNKNOWN_ENGINE) || self.engine != Engine::RocksDb {
            return sql_failure(error);
        }
        let message = format!("mysql.engine = \"rocksdb\": {}", no_rocksdb(self.dialect).0);
        Failure::Store(StoreError::new(StoreErrorKind::Schema, message))
    }

    async fn lock(&mut self) -> Result<(), Failure> {
        let got: Option<i64> = sqlx::query_scalar("SELECT GET_LOCK(?, ?)")
            .bind(LOCK)
            .bind(LOCK_WAIT_S)
            .fetch_one(&mut *self.connection)
            .await
            .map_err(sql_failure)?;
        if got == Some(1) {
            return Ok(());
        }
        Err(Failure::Store(StoreError::new(
            StoreErrorKind::Unavailable,
            format!("another program has been changing the schema for {LOCK_WAIT_S} s; try again"),
        )))
    }

    async fn migrate(&mut self) -> Result<(), Failure> {
        // What a killed migration left half done is done again: its statements look before they make.
        if self.tables().await?.contains(MIGRATIONS_TABLE) {
            sqlx::query("DELETE FROM seen_migrations WHERE success = FALSE")
                .execute(&mut *self.connection)
                .await
                .map_err(sql_failure)?;
        }
        let migrator = migrator(self.dialect);
        migrator.run_direct(None, &mut *self.connection, false).await.map_err(migrate_failure)
    }

    async fn missing_migrations(&mut self) -> Result<Vec<SchemaStep>, Failure> {
        let migrator = migrator(self.dialect);
        let applied: Vec<i64> = match self.tables().await?.contains(MIGRATIONS_TABLE) {
            // One that was cut short counts as missing.
            true => sqlx::query_scalar("SELECT version FROM seen_migrations WHERE success = TRUE")
                .fetch_all(&mut *self.connection)
                .await
                .map_err(sql_failure)?,
            false => Vec::new(),
        };
        let newest = migrator.iter().map(|m| m.version).max().unwrap_or(0);
        let applied: BTreeSet<i64> = applied.into_iter().collect();
        if let Some(newer) = applied.iter().find(|version| **version > newest) {
            return Err(Failure::Store(newer_schema(*newer, newest)));
        }
        let missing = migrator.iter().filter(|m| !applied.contains(&m.version));
        let step = |m: &sqlx::migrate::Migration| SchemaStep {
            what: format!("migration {} {}", m.version, m.description),
            sql: m.sql.as_str().to_owned(),
            is_plain: false,
        };
        Ok(missing.map(step).collect())
    }

    /// Who this store is, if it has a name already.
    pub(crate) async fn identity(&mut self) -> Result<Option<Identity>, Failure> {
        let row = sqlx::query(
            "SELECT hash_key_id, hash_secret, timeline, shard, shards FROM seen_store WHERE id = 1",
        )
        .fetch_optional(&mut *self.connection)
        .await
        .map_err(sql_failure)?;
        let Some(row) = row else { return Ok(None) };
        let read = || -> Result<Option<Identity>, sqlx::Error> {
            let secret: Vec<u8> = row.try_get(1)?;
            let Ok(hash_secret) = <[u8; 16]>::try_from(secret.as_slice()) else { return Ok(None) };
            Ok(Some(Identity {
                hash_key_id: row.try_get(0)?,
                hash_secret,
                timeline: row.try_get(2)?,
                shard: row.try_get(3)?,
                shards: row.try_get(4)?,
            }))
        };
        match read().map_err(sql_failure)? {
            Some(identity) => Ok(Some(identity)),
            None => Err(Failure::Store(StoreError::new(
                StoreErrorKind::Corrupt,
                "seen_store.hash_secret has no 16 bytes; restore that table from a backup",
            ))),
        }
    }

    async fn name_store(&mut self, like: Option<Identity>) -> Result<(), Failure> {
        let mut random = [0; 24];
        rand::rng().fill_bytes(&mut random);
        let (secret, timeline) = random.split_at(16);
        let timeline = timeline.try_into().map_or(1, u64::from_le_bytes);
        let (key_id, secret) = match &like {
            Some(first) => (first.hash_key_id, first.hash_secret.as_slice()),
            None => (1, secret),
        };
        sqlx::query(
            "INSERT INTO seen_store \
             (id, created_at_ms, hash_key_id, hash_secret, timeline, shard, shards) \
             VALUES (1, ?, ?, ?, ?, ?, ?)",
        )
        .bind(self.now.get())
        .bind(key_id)
        .bind(secret)
        .bind(timeline)
        .bind(self.shard.get())
        .bind(self.shards)
        .execute(&mut *self.connection)
        .await
        .map_err(sql_failure)?;
        sqlx::query("UPDATE seen_map SET epoch = ? WHERE id = 1")
            .bind(self.map_epoch)
            .execute(&mut *self.connection)
            .await
            .map_err(sql_failure)?;
        Ok(())
    }

    /// The numbers and bucket lengths of the namespaces known here, by name.
    pub(crate) async fn namespaces(&mut self) -> Result<BTreeMap<String, (u16, u64)>, Failure> {
        let rows = sqlx::query("SELECT name, id, bucket_ms FROM seen_namespaces")
            .fetch_all(&mut *self.connection)
            .await
            .map_err(sql_failure)?;
        let one =
            |row: &sqlx::mysql::MySqlRow| Ok((row.try_get(0)?, (row.try_get(1)?, row.try_get(2)?)));
        rows.iter().map(one).collect::<Result<_, sqlx::Error>>().map_err(sql_failure)
    }

    async fn tables(&mut self) -> Result<BTreeSet<String>, Failure> {
        let names: Vec<String> = sqlx::query_scalar(
            "SELECT CAST(table_name AS CHAR) FROM information_schema.tables \
             WHERE table_schema = DATABASE()",
        )
        .fetch_all(&mut *self.connection)
        .await
        .map_err(sql_failure)?;
        Ok(names.into_iter().collect())
    }

    async fn has_rows(&mut self, table: &str) -> Result<bool, Failure> {
        let sql = safe(format!("SELECT 1 FROM `{table}` LIMIT 1"));
        let row = sqlx::query(sql).fetch_optional(&mut *self.connection).await;
        row.map(|row| row.is_some()).map_err(sql_failure)
    }

    async fn has_time_index(&mut self, table: &str) -> Result<bool, Failure> {
        let found: Option<i32> = sqlx::query_scalar(
            "SELECT 1 FROM information_schema.statistics WHERE table_schema = DATABASE() \
             AND table_name = ? AND index_name = ? LIMIT 1",
        )
        .bind(table)
        .bind(ddl::BY_TIME_NAME)
        .fetch_optional(&mut *self.connection)
        .await
        .map_err(sql_failure)?;
        Ok(found.is_some())
    }
}

/// The server's number of the error for an engine that it does not have.
const UNKNOWN_ENGINE: u16 = 1286;

/// What is wrong where MyRocks is missing, and the statement that mends it, if there is one.
pub(crate) fn no_rocksdb(dialect: Dialect) -> (&'static str, Option<&'static str>) {
    match dialect {
        Dialect::MariaDb => (
            "the server has no MyRocks; install its plugin (Debian: apt-get install \
             mariadb-plugin-rocksdb) and load it, or choose \"compressed\"",
            Some("INSTALL SONAME 'ha_rocksdb'"),
        ),
        Dialect::MySql | Dialect::TiDb => {
            ("MyRocks is a plugin of MariaDB, and this is none; choose \"compressed\"", None)
        }
    }
}

/// The name of the lock that lets one migrate at a time.
const LOCK: &str = "seen.migrate";

/// The storage's time: the given clock's, or the server's.
pub(crate) async fn storage_now(
    connection: &mut MySqlConnection,
    clock: Option<&StorageClock>,
) -> Result<UnixMillis, Failure> {
    if let Some(clock) = clock {
        return Ok(clock.now());
    }
    let now: u64 = sqlx::query_scalar("SELECT CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS UNSIGNED)")
        .fetch_one(connection)
        .await
        .map_err(sql_failure)?;
    Ok(UnixMillis::new(now))
}

fn check_partitions(settings: &NamespaceSettings) -> Result<(), StoreError> {
    let Some(retention) = settings.retention else { return Ok(()) };
    let partitions = retention.span_ms / retention.bucket_ms + u64::from(ddl::BUCKETS_AHEAD) + 3;
    if partitions <= ddl::PARTITIONS_MAX {
        return Ok(());
    }
    Err(invalid(format!(
        "namespace {:?}: retention / bucket needs {partitions} partitions (allowed: {}); set a \
         longer bucket",
        settings.name,
        ddl::PARTITIONS_MAX
    )))
}

/// The error for a schema that lacks something.
pub(crate) fn missing_schema(what: &str, why: &str) -> StoreError {
    StoreError::new(StoreErrorKind::Schema, format!("{what} is missing; {why}"))
}

fn bucket_changed(settings: &NamespaceSettings, stored_ms: u64, wanted_ms: u64) -> StoreError {
    let length = |ms: u64| match ms {
        0 => "no retention".to_owned(),
        ms => format!("buckets of {ms} ms"),
    };
    StoreError::new(
        StoreErrorKind::Schema,
        format!(
            "namespace {:?} was made with {}, and is configured with {}: the bucket is part of its \
             table's key; export it and import it into a namespace of another name",
            settings.name,
            length(stored_ms),
            length(wanted_ms)
        ),
    )
}

fn newer_schema(version: i64, newest: i64) -> StoreError {
    StoreError::new(
        StoreErrorKind::Schema,
        format!(
            "schema version {version} is newer than this program, which knows up to {newest}; start \
             the newer program"
        ),
    )
}

fn migrate_failure(error: MigrateError) -> Failure {
    match error {
        MigrateError::Execute(e) | MigrateError::ExecuteMigration(e, _) => sql_failure(e),
        other => Failure::Store(StoreError::new(StoreErrorKind::Schema, other.to_string())),
    }
}
