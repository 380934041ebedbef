//! A table that was there before: what its columns are, and whether it can serve as a history.

use std::collections::{BTreeMap, BTreeSet};

use seen_filter::{StoreError, StoreErrorKind};
use sqlx::{MySqlConnection, Row as _};

use super::errors::{Failure, Stage};
use super::finding::{Finding, Severity};
use super::mapping::{KindColumn, Name, TableMapping, TimeUnit};

/// What of a table's form the statements depend on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ColumnTypes {
    /// A signed column holds an id above 2^63 as the negative number with the same bits.
    pub user_signed: bool,
    pub kind_signed: bool,
    pub item_signed: bool,
    /// A soft-delete column holds the time of the removal, and NULL before.
    pub deleted_is_time: bool,
}

/// One column, as the server describes it.
#[derive(Clone, Debug)]
struct Column {
    /// Its type without length, in lower case.
    data_type: String,
    is_unsigned: bool,
    is_nullable: bool,
    /// An insert that does not name it is fine.
    has_default: bool,
    /// Its numbers are given by the server, each once.
    counts_up: bool,
}

/// The integer types, narrowest first.
const INTEGERS: [&str; 5] = ["tinyint", "smallint", "mediumint", "int", "bigint"];
/// The types of a point in time.
const TIMES: [&str; 2] = ["datetime", "timestamp"];

impl Column {
    fn is_integer(&self) -> bool {
        INTEGERS.contains(&self.data_type.as_str())
    }

    fn is_time(&self) -> bool {
        TIMES.contains(&self.data_type.as_str())
    }
}

fn failed(error: sqlx::Error) -> Failure {
    Failure::Sql(Stage::Open, error)
}

/// Looks at a table: its columns' types, what is wrong with it, and the mapping completed by what the
/// types say (a time column's unit).
pub(crate) async fn look(
    connection: &mut MySqlConnection,
    mapping: &TableMapping,
) -> Result<(TableMapping, ColumnTypes, Vec<Finding>), Failure> {
    let mut mapping = mapping.clone();
    let columns = columns(connection, &mapping).await?;
    let indexes = indexes(connection, &mapping).await?;
    let table = mapping.qualified();
    if columns.is_empty() {
        let what = "is not there, or may not be read";
        return Ok((mapping, ColumnTypes::default(), vec![Finding::error(table, what)]));
    }
    let mut findings = Vec::new();
    let types = types(&mut mapping, &columns, &mut findings);
    let made_by_server = |key: &[String]| {
        key.iter().any(|name| columns.get(name).is_some_and(|column| column.counts_up))
    };
    check_keys(&mapping, &indexes, made_by_server, &mut findings);
    if !mapping.read_only {
        check_inserts(&mapping, &columns, &mut findings);
        check_engine(connection, &mapping, &mut findings).await?;
    }
    Ok((mapping, types, findings))
}

/// The first finding that keeps the table from being used, as an error.
pub(crate) fn refuse(findings: &[Finding]) -> Result<(), StoreError> {
    match findings.iter().find(|finding| finding.severity == Severity::Error) {
        None => Ok(()),
        Some(finding) => Err(StoreError::new(
            StoreErrorKind::Schema,
            format!("{finding}; `seen doctor` lists everything"),
        )),
    }
}

async fn columns(
    connection: &mut MySqlConnection,
    mapping: &TableMapping,
) -> Result<BTreeMap<String, Column>, Failure> {
    let rows = sqlx::query(
        "SELECT CAST(column_name AS CHAR), CAST(data_type AS CHAR), CAST(column_type AS CHAR), \
         CAST(is_nullable AS CHAR), CAST(column_default IS NOT NULL AS SIGNED), \
         CAST(extra AS CHAR) FROM information_schema.columns \
         WHERE table_schema = COALESCE(?, DATABASE()) AND table_name = ?",
    )
    .bind(mapping.database.as_ref().map(Name::as_str))
    .bind(mapping.table.as_str())
    .fetch_all(connection)
    .await
    .map_err(failed)?;
    let one = |row: &sqlx::mysql::MySqlRow| -> Result<(String, Column), sqlx::Error> {
        let text = |n: usize| row.try_get::<String, _>(n).map(|text| text.to_ascii_lowercase());
        let has_default: i64 = row.try_get(4)?;
        let extra = text(5)?;
        let made_by_server = extra.contains("auto_increment") || extra.contains("generated");
        let counts_up = extra.contains("auto_increment") || extra.contains("auto_random");
        let is_nullable = text(3)? == "yes";
        let column = Column {
            data_type: text(1)?,
            is_unsigned: text(2)?.contains("unsigned"),
            is_nullable,
            has_default: has_default != 0 || is_nullable || made_by_server,
            counts_up,
        };
        Ok((text(0)?, column))
    };
    rows.iter().map(one).collect::<Result<_, _>>().map_err(failed)
}

/// Each index: whether it is unique, and its columns in order.
type Indexes = Vec<(bool, Vec<String>)>;

async fn indexes(
    connection: &mut MySqlConnection,
    mapping: &TableMapping,
) -> Result<Indexes, Failure> {
    let rows = sqlx::query(
        "SELECT CAST(index_name AS CHAR), CAST(non_unique AS SIGNED), CAST(column_name AS CHAR) \
         FROM information_schema.statistics \
         WHERE table_schema = COALESCE(?, DATABASE()) AND table_name = ? \
         ORDER BY index_name, seq_in_index",
    )
    .bind(mapping.database.as_ref().map(Name::as_str))
    .bind(mapping.table.as_str())
    .fetch_all(connection)
    .await
    .map_err(failed)?;
    let mut indexes: BTreeMap<String, (bool, Vec<String>)> = BTreeMap::new();
    for row in &rows {
        let name: String = row.try_get(0).map_err(failed)?;
        let non_unique: i64 = row.try_get(1).map_err(failed)?;
        let column: Option<String> = row.try_get(2).map_err(failed)?;
        let index = indexes.entry(name).or_insert((non_unique == 0, Vec::new()));
        index.1.push(column.unwrap_or_default().to_ascii_lowercase());
    }
    Ok(indexes.into_values().collect())
}

fn types(
    mapping: &mut TableMapping,
    columns: &BTreeMap<String, Column>,
    findings: &mut Vec<Finding>,
) -> ColumnTypes {
    let table = mapping.qualified();
    let mut find = |role: &str, name: &Name| {
        let column = columns.get(&name.as_str().to_ascii_lowercase());
        if column.is_none() {
            let what = format!("has no column {name}, which namespace.columns names as {role}");
            findings.push(Finding::error(table.clone(), what));
        }
        column.cloned()
    };
    let user = find("user", &mapping.user);
    let item = find("item", &mapping.item);
    let kind = match &mapping.kind {
        KindColumn::Column(name) => find("kind", name),
        KindColumn::Constant(_) => None,
    };
    let time = mapping.time.as_ref().and_then(|(name, _)| find("time", name));
    let deleted = mapping.deleted.as_ref().and_then(|name| find("deleted", name));
    for (role, column) in [("user", &user), ("kind", &kind), ("item", &item)] {
        let Some(column) = column else { continue };
        if !column.is_integer() {
            let what =
                format!("its {role} column is {}, and ids are whole numbers", column.data_type);
            findings.push(Finding::error(table.clone(), what));
        }
        if column.is_nullable {
            let what = format!("its {role} column may be NULL; such rows are nobody's");
            findings.push(Finding::warning(table.clone(), what));
        }
    }
    if let (Some((_, unit)), Some(column)) = (mapping.time.as_mut(), time) {
        match unit {
            TimeUnit::Millis | TimeUnit::Seconds if column.is_time() => *unit = TimeUnit::DateTime,
            TimeUnit::Millis | TimeUnit::Seconds if column.is_integer() => {}
            TimeUnit::DateTime | TimeUnit::Timestamp if column.is_time() => {}
            _ => {
                let what = format!("its time column is {}, which is no time", column.data_type);
                findings.push(Finding::error(table.clone(), what));
            }
        }
    }
    let is_signed = |column: &Option<Column>| column.as_ref().is_some_and(|c| !c.is_unsigned);
    ColumnTypes {
        user_signed: is_signed(&user),
        kind_signed: is_signed(&kind),
        item_signed: is_signed(&item),
        deleted_is_time: deleted.is_some_and(|column| column.is_time()),
    }
}

fn check_keys(
    mapping: &TableMapping,
    indexes: &Indexes,
    made_by_server: impl Fn(&[String]) -> bool,
    findings: &mut Vec<Finding>,
) {
    let lower = |name: &Name| name.as_str().to_ascii_lowercase();
    let mut key = vec![lower(&mapping.user)];
    if let KindColumn::Column(kind) = &mapping.kind {
        key.push(lower(kind));
    }
    key.push(lower(&mapping.item));
    let quoted: Vec<String> = key.iter().map(|column| format!("`{column}`")).collect();
    let quoted = quoted.join(", ");
    let table = mapping.qualified();
    let wanted: BTreeSet<&String> = key.iter().collect();
    let is_key = |columns: &[String]| columns.iter().collect::<BTreeSet<_>>() == wanted;
    if !mapping.read_only && !indexes.iter().any(|(unique, columns)| *unique && is_key(columns)) {
        let what = "has no unique key of user, kind and item, so that a repeated mark would be a \
                    second row";
        let mend = format!("ALTER TABLE {table} ADD UNIQUE KEY `seen_key` ({quoted})");
        findings.push(Finding::error(table.clone(), what).mended_by(mend));
    }
    // A row that meets another unique key would be taken for the same mark, and never be stored.
    let others = indexes.iter().filter(|(unique, columns)| {
        *unique && !key.iter().all(|column| columns.contains(column)) && !made_by_server(columns)
    });
    for (_, columns) in others.take(usize::from(!mapping.read_only) * indexes.len()) {
        let columns = columns.join(", ");
        let what = format!(
            "has another unique key ({columns}): a mark that meets a row by it would be lost"
        );
        findings.push(Finding::error(table.clone(), what));
    }
    let begins = |columns: &[String], with: &[String]| columns.starts_with(with);
    if !indexes.iter().any(|(_, columns)| begins(columns, &key[..1])) {
        let what = "has no index that begins with the user: every question would read all of it";
        let mend = format!("CREATE INDEX `seen_key` ON {table} ({quoted})");
        findings.push(Finding::error(table.clone(), what).mended_by(mend));
    } else if !indexes.iter().any(|(_, columns)| begins(columns, &key)) {
        let what = "has no index of user, kind and item in this order: a point check reads all rows \
                    of the user";
        let mend = format!("CREATE INDEX `seen_key` ON {table} ({quoted})");
        findings.push(Finding::warning(table, what).mended_by(mend));
    }
}

/// Without transactions half a commit stays after the rest has failed.
async fn check_engine(
    connection: &mut MySqlConnection,
    mapping: &TableMapping,
    findings: &mut Vec<Finding>,
) -> Result<(), Failure> {
    let engine: Option<String> = sqlx::query_scalar(
        "SELECT CAST(engine AS CHAR) FROM information_schema.tables \
         WHERE table_schema = COALESCE(?, DATABASE()) AND table_name = ?",
    )
    .bind(mapping.database.as_ref().map(Name::as_str))
    .bind(mapping.table.as_str())
    .fetch_optional(connection)
    .await
    .map_err(failed)?
    .flatten();
    let engine = engine.unwrap_or_default().to_ascii_lowercase();
    if !["innodb", "rocksdb", "tokudb"].contains(&engine.as_str()) {
        let table = mapping.qualified();
        let what = format!("its engine is {engine:?}, which has no transactions");
        let mend = format!("ALTER TABLE {table} ENGINE = InnoDB");
        findings.push(Finding::error(table, what).mended_by(mend));
    }
    Ok(())
}

fn check_inserts(
    mapping: &TableMapping,
    columns: &BTreeMap<String, Column>,
    findings: &mut Vec<Finding>,
) {
    let mut known: BTreeSet<String> = BTreeSet::new();
    let mut know = |name: &Name| known.insert(name.as_str().to_ascii_lowercase());
    know(&mapping.user);
    know(&mapping.item);
    if let KindColumn::Column(kind) = &mapping.kind {
        know(kind);
    }
    if let Some((time, _)) = &mapping.time {
        know(time);
    }
    for (name, column) in columns {
        if known.contains(name) || column.has_default {
            continue;
        }
        let table = mapping.qualified();
        let what = format!("its column `{name}` has no default, so that no mark can be inserted");
        let mend = format!("ALTER TABLE {table} ALTER COLUMN `{name}` SET DEFAULT ...");
        findings.push(Finding::error(table, what).mended_by(mend));
    }
}
