//! The schema's tables: the store's own, and those of somebody else.

use std::collections::BTreeMap;
use std::sync::Arc;

use seen_filter::{NamespaceSettings, Shard, UnixMillis};
use sqlx::{Connection as _, MySqlConnection};

use super::super::dialect::{Dialect, ServerFacts};
use super::super::errors::Failure;
use super::super::finding::Finding;
use super::super::foreign::{self, ColumnTypes};
use super::super::mapping::{Name, TableMapping, TimeUnit};
use super::super::options::{Engine, MySqlOptions};
use super::super::schema::{Identity, Schema, SchemaPlan, storage_now};
use super::super::server::ServerAddress;
use super::super::tables::mapping_of;
use super::{Doctor, ask, number, text, within};

/// The zones in which a time without one means what the store takes it for.
const UTC: [&str; 8] = ["UTC", "+00:00", "-00:00", "GMT", "Etc/UTC", "UCT", "Universal", "Zulu"];
/// The engines whose transactions can be relied on.
const ENGINES: [&str; 2] = ["InnoDB", "ROCKSDB"];
/// What makes everything that the schema lacks.
const MIGRATE: &str = "seen migrate --apply";

/// A table that can be read.
pub(super) struct Sound {
    pub settings: NamespaceSettings,
    pub mapping: TableMapping,
    pub types: ColumnTypes,
    pub now: UnixMillis,
    pub dialect: Dialect,
}

/// One column as it is: its type in lower case, and whether it may be NULL.
struct Column {
    kind: String,
    is_nullable: bool,
}

impl Doctor {
    /// Looks at a shard's schema, at one of its servers.
    pub(super) async fn visit_shard(&mut self, shard: Shard, server: &ServerAddress) {
        let options = Arc::clone(&self.options);
        let Some(servers) = options.shards.get(usize::from(shard.get())) else { return };
        let database = &servers.database;
        let may_read = self.privileges(server, database).await;
        let mut now = UnixMillis::new(0);
        // Tables that may not be read look as if they were not there.
        if may_read {
            let Some((connection, facts)) = self.enter(server, database).await else { return };
            match self.schema(connection, &facts, shard, server).await {
                Some(at) => now = at,
                None => return,
            }
        }
        for settings in self.namespaces.clone() {
            let mapping = match mapping_of(&settings, &options.mappings) {
                Ok(mapping) => whole(mapping, database),
                Err(error) => {
                    let subject = format!("namespace {}", settings.name);
                    self.find(Finding::error(subject, error.message));
                    continue;
                }
            };
            if !mapping.foreign && !may_read {
                continue;
            }
            let schema = mapping.database.as_ref().unwrap_or(database);
            let Some((connection, facts)) = self.enter(server, schema).await else { continue };
            let place = Place { server, facts: &facts };
            self.table(connection, &place, settings, mapping, now).await;
        }
    }

    /// What the schema lacks, and whether it is this shard's. The storage's time; `None` where the
    /// schema cannot be read at all.
    async fn schema(
        &mut self,
        mut connection: MySqlConnection,
        facts: &ServerFacts,
        shard: Shard,
        server: &ServerAddress,
    ) -> Option<UnixMillis> {
        let (options, namespaces) = (Arc::clone(&self.options), self.namespaces.clone());
        let shards = u16::try_from(options.shards.len()).unwrap_or(u16::MAX);
        let looking = async {
            let now = storage_now(&mut connection, options.clock.as_ref()).await?;
            let mut schema = Schema {
                connection: &mut connection,
                dialect: facts.dialect,
                shard,
                shards,
                engine: options.engine,
                now,
                map_epoch: self.options.map_epoch,
            };
            let plan = schema.plan(&options, &namespaces).await?;
            // Where all is new there is no table to ask.
            let is_new = plan.steps.iter().any(|step| step.what.starts_with("migration 1 "));
            let identity = if is_new { None } else { schema.identity().await? };
            Ok((now, plan, identity))
        };
        let done = within(&options, looking).await;
        let database = &options.shards[usize::from(shard.get())].database;
        let subject = format!("schema {database}");
        let (now, plan, identity) = self.had(&subject, server, done)?;
        let _ = connection.close().await;
        self.schema_findings(&subject, &plan, identity, shards);
        Some(now)
    }

    fn schema_findings(
        &mut self,
        subject: &str,
        plan: &SchemaPlan,
        identity: Option<Identity>,
        shards: u16,
    ) {
        for step in &plan.steps {
            let what = format!("is not as this program expects it: {}", step.what);
            self.find(Finding::error(subject, what).mended_by(MIGRATE));
        }
        if let Some(found) = identity
            && (found.shard != plan.shard.get() || found.shards != shards)
        {
            let what = format!(
                "is shard {} of {}, and configured as shard {} of {shards}; correct the list of shards",
                found.shard, found.shards, plan.shard
            );
            self.find(Finding::error(subject, what));
        }
    }

    /// One namespace's table: its form, its rows, its histories.
    async fn table(
        &mut self,
        mut connection: MySqlConnection,
        place: &Place<'_>,
        settings: NamespaceSettings,
        mapping: TableMapping,
        now: UnixMillis,
    ) {
        let options = Arc::clone(&self.options);
        let (subject, server) = (format!("table {}", mapping.qualified()), place.server);
        let dialect = place.facts.dialect;
        let sound = if mapping.foreign {
            let looked = within(&options, foreign::look(&mut connection, &mapping)).await;
            let Some((mapping, types, findings)) = self.had(&subject, server, looked) else {
                return;
            };
            let is_refused = foreign::refuse(&findings).is_err();
            self.findings.extend(findings);
            let zones = time_zones(&mut connection, &options, &mapping).await;
            if let Some(true) = self.had(&subject, server, zones) {
                self.zone(&mapping, server);
            }
            let sound = Sound { settings, mapping, types, now, dialect };
            // A missing key hinders nobody from looking at rows; a missing column does.
            let probe = super::super::sql::TableSql::new(
                &sound.settings,
                &sound.mapping,
                sound.types,
                dialect,
            );
            let readable = sqlx::query(probe.probe).fetch_optional(&mut connection).await.is_ok();
            if is_refused && !readable {
                return;
            }
            sound
        } else {
            let columns = columns(&mut connection, &options, &mapping).await;
            let Some(columns) = self.had(&subject, server, columns) else { return };
            if columns.is_empty() {
                // Named by what the schema lacks.
                return;
            }
            let is_whole = self.own_columns(&mapping, &columns);
            let form = form(&mut connection, &options, &mapping).await;
            if let Some((engine, key)) = self.had(&subject, server, form) {
                self.own_form(&mapping, &engine, &key, dialect);
            }
            if !is_whole {
                return;
            }
            Sound { settings, mapping, types: ColumnTypes::default(), now, dialect }
        };
        self.rows(&mut connection, server, &sound).await;
        self.regions(&mut connection, server, &sound).await;
        let _ = connection.close().await;
    }

    /// The columns of the store's own table. True if all are there.
    fn own_columns(&mut self, mapping: &TableMapping, columns: &BTreeMap<String, Column>) -> bool {
        let table = mapping.qualified();
        let mut is_whole = true;
        for (name, kind) in expected(mapping) {
            let definition = format!("{name} {} NOT NULL", kind.to_ascii_uppercase());
            let subject = format!("table {table}");
            match columns.get(name.as_str()) {
                None => {
                    is_whole = false;
                    let what = format!("has lost its column {name}; what it held is lost with it");
                    let mend = format!("ALTER TABLE {table} ADD COLUMN {definition}");
                    self.find(Finding::error(subject, what).mended_by(mend));
                }
                Some(column) if !same_type(&column.kind, kind) || column.is_nullable => {
                    let null = if column.is_nullable { ", which may be NULL" } else { "" };
                    let what = format!(
                        "its column {name} is {}{null}: not every id or time fits",
                        column.kind
                    );
                    let mend = format!("ALTER TABLE {table} MODIFY COLUMN {definition}");
                    self.find(Finding::error(subject, what).mended_by(mend));
                }
                Some(_) => {}
            }
        }
        is_whole
    }

    /// The key and engine of the store's own table.
    fn own_form(&mut self, mapping: &TableMapping, engine: &str, key: &[String], dialect: Dialect) {
        let table = mapping.qualified();
        let subject = format!("table {table}");
        let wanted: Vec<String> = key_of(mapping).iter().map(|n| n.as_str().to_owned()).collect();
        if key != wanted.as_slice() {
            let columns: Vec<String> = key_of(mapping).iter().map(ToString::to_string).collect();
            let columns = columns.join(", ");
            let drop = if key.is_empty() { "" } else { "DROP PRIMARY KEY, " };
            let what = format!(
                "its primary key is ({}), not ({}): repeated marks become rows of their own, and \
                 questions read more than they need",
                key.join(", "),
                wanted.join(", ")
            );
            let mend = format!("ALTER TABLE {table} {drop}ADD PRIMARY KEY ({columns})");
            self.find(Finding::error(&subject, what).mended_by(mend));
        }
        if dialect == Dialect::TiDb {
            return;
        }
        if !ENGINES.iter().any(|one| one.eq_ignore_ascii_case(engine)) {
            let what = format!("is kept by {engine}, which has no transactions: marks can be lost");
            let mend = format!("ALTER TABLE {table} ENGINE = InnoDB");
            self.find(Finding::error(subject, what).mended_by(mend));
        } else if (self.options.engine == Engine::RocksDb) != engine.eq_ignore_ascii_case("ROCKSDB")
        {
            let what = format!("is kept by {engine}; mysql.engine counts for new tables only");
            self.find(Finding::note(subject, what));
        }
    }

    /// Times without a zone, where the server's own is not the store's.
    fn zone(&mut self, mapping: &TableMapping, server: &ServerAddress) {
        let Some((time, _)) = &mapping.time else { return };
        let zone = self.zones.get(server).map_or("", String::as_str);
        if zone.is_empty() || UTC.iter().any(|utc| utc.eq_ignore_ascii_case(zone)) {
            return;
        }
        let what = format!(
            "the times in its column {time} have no zone and are taken for UTC, and the server's is \
             {zone}: if other writers store NOW(), listings show other times than theirs; have them \
             store UTC_TIMESTAMP(), or make it a TIMESTAMP"
        );
        self.find(Finding::warning(format!("table {}", mapping.qualified()), what));
    }
}

/// With the schema's name, so that statements work wherever they are run.
fn whole(mapping: TableMapping, own: &Name) -> TableMapping {
    let database = Some(mapping.database.unwrap_or_else(|| own.clone()));
    TableMapping { database, ..mapping }
}

/// Where a table is looked at.
struct Place<'a> {
    server: &'a ServerAddress,
    facts: &'a ServerFacts,
}

/// The schema of a table as SQL, for `information_schema`.
pub(super) fn schema_of(mapping: &TableMapping) -> String {
    match &mapping.database {
        Some(database) => format!("'{}'", database.as_str()),
        None => "DATABASE()".to_owned(),
    }
}

async fn columns(
    connection: &mut MySqlConnection,
    options: &MySqlOptions,
    mapping: &TableMapping,
) -> Result<BTreeMap<String, Column>, Failure> {
    let (schema, table) = (schema_of(mapping), mapping.table.as_str());
    let sql = format!(
        "SELECT column_name, column_type, is_nullable FROM information_schema.columns \
         WHERE table_schema = {schema} AND table_name = '{table}'"
    );
    let rows = ask(connection, options, sql).await?;
    let one = |row| {
        let kind = text(row, 1).to_ascii_lowercase();
        let is_nullable = text(row, 2).eq_ignore_ascii_case("yes");
        (text(row, 0).to_ascii_lowercase(), Column { kind, is_nullable })
    };
    Ok(rows.iter().map(one).collect())
}

/// The engine of a table, and the columns of its primary key.
async fn form(
    connection: &mut MySqlConnection,
    options: &MySqlOptions,
    mapping: &TableMapping,
) -> Result<(String, Vec<String>), Failure> {
    let (schema, table) = (schema_of(mapping), mapping.table.as_str());
    let sql = format!(
        "SELECT engine FROM information_schema.tables \
         WHERE table_schema = {schema} AND table_name = '{table}'"
    );
    let engine = ask(connection, options, sql).await?;
    let sql = format!(
        "SELECT column_name FROM information_schema.statistics WHERE table_schema = {schema} \
         AND table_name = '{table}' AND index_name = 'PRIMARY' ORDER BY seq_in_index"
    );
    let key = ask(connection, options, sql).await?;
    let engine = engine.first().map_or(String::new(), |row| text(row, 0).to_owned());
    Ok((engine, key.iter().map(|row| text(row, 0).to_ascii_lowercase()).collect()))
}

/// True if a table's times have no zone: they are a DATETIME.
async fn time_zones(
    connection: &mut MySqlConnection,
    options: &MySqlOptions,
    mapping: &TableMapping,
) -> Result<bool, Failure> {
    let Some((time, TimeUnit::DateTime | TimeUnit::Timestamp)) = &mapping.time else {
        return Ok(false);
    };
    let (schema, table, time) = (schema_of(mapping), mapping.table.as_str(), time.as_str());
    let sql = format!(
        "SELECT COUNT(*) FROM information_schema.columns WHERE table_schema = {schema} \
         AND table_name = '{table}' AND column_name = '{time}' AND data_type = 'datetime'"
    );
    Ok(ask(connection, options, sql).await?.first().is_some_and(|row| number(row, 0) > 0))
}

/// The columns of the store's own table with their types.
fn expected(mapping: &TableMapping) -> Vec<(Name, &'static str)> {
    let key = key_of(mapping);
    let kind = |name: &Name| match name.as_str() {
        "kind" => "tinyint unsigned",
        "bucket" => "int unsigned",
        _ => "bigint unsigned",
    };
    let mut all: Vec<_> = key.iter().map(|name| (name.clone(), kind(name))).collect();
    all.extend(mapping.time.iter().map(|(name, _)| (name.clone(), "bigint unsigned")));
    all
}

/// The columns of the store's own key, in order.
fn key_of(mapping: &TableMapping) -> Vec<Name> {
    use super::super::mapping::KindColumn;
    let kind = match &mapping.kind {
        KindColumn::Column(name) => Some(name.clone()),
        KindColumn::Constant(_) => None,
    };
    let key =
        [Some(mapping.user.clone()), kind, Some(mapping.item.clone()), mapping.bucket.clone()];
    key.into_iter().flatten().collect()
}

/// True if a type as the server shows it, perhaps with a width, is the wanted one.
fn same_type(shown: &str, wanted: &str) -> bool {
    let mut plain = String::with_capacity(shown.len());
    let mut depth = 0_u32;
    for c in shown.chars() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            c if depth == 0 => plain.push(c),
            _ => {}
        }
    }
    plain.trim() == wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_compared_without_their_width() {
        assert!(same_type("bigint(20) unsigned", "bigint unsigned"));
        assert!(same_type("bigint unsigned", "bigint unsigned"));
        assert!(!same_type("bigint(20)", "bigint unsigned"));
        assert!(!same_type("int(10) unsigned", "bigint unsigned"));
    }
}
