//! Canal's flat JSON, and TiCDC's canal-json after it.
//!
//! A record is `{type, database, table, data, old, isDdl, sql, ...}`: `INSERT`, `UPDATE` and `DELETE` have
//! one or many rows in `data`, an update with the former values of what changed (TiCDC: or of all
//! columns) in `old`, at the same places. All values are texts, unsigned ones in full; `sqlType` varies
//! with the value. A change of any key column is one update (Canal), in the partition of the row as it
//! is now; TiCDC makes a delete and an insert of it. Statements have `isDdl` and no rows, on partition 0;
//! Canal also sends the text of row changes, as `QUERY`, without naming a table.
//!
//! With `enable-tidb-extension` TiCDC adds `_tidb`: the commit timestamp, a watermark's
//! (`TIDB_WATERMARK`), and for rows that are too large `onlyHandleKey` (key columns only, which is enough
//! but for the time) or `claimCheckLocation` (the row lies elsewhere, where nobody looks).

use crate::decoder::Dialect;
use crate::event::{Position, What};
use crate::json::{Object, Value};
use crate::meaning::RowKind;
use crate::position;
use crate::reading::Reading;

/// The producer, if a record is one of these. Canal says `gtid`, be it empty, TiCDC never.
pub(crate) fn told(record: &Object<'_>) -> Option<Dialect> {
    let is_one = matches!(record.get("isDdl"), Some(Value::Bool(_)))
        && record.text("type").is_some()
        && record.text("database").is_some()
        && record.text("table").is_some()
        && record.has("data");
    is_one.then_some(match record.has("_tidb") || !record.has("gtid") {
        true => Dialect::CanalJson,
        false => Dialect::CanalFlat,
    })
}

/// Says what a record of [`told`] says.
pub(crate) fn decode(record: &Object<'_>, reading: &mut Reading<'_, '_>) {
    let extension = record.object("_tidb");
    let of_extension = |name| extension?.get(name).and_then(Value::unsigned);
    let position = of_extension("commitTs")
        .map(Position::CommitTs)
        .or_else(|| position::transaction(record.text("gtid")?));
    let kind = match record.text("type").unwrap_or_default() {
        "INSERT" => RowKind::Insert,
        "UPDATE" => RowKind::Update,
        "DELETE" => RowKind::Delete,
        "TIDB_WATERMARK" if record.present("data").is_none() => {
            return match of_extension("watermarkTs") {
                Some(ts) => {
                    reading.push(What::Watermark, "watermark", Some(Position::CommitTs(ts)))
                }
                None => reading.doubt_partition("watermark_missing"),
            };
        }
        kind => return statement(record, kind, position.as_ref(), reading),
    };
    let Some(table) = reading.table(record.text("database"), record.text("table")) else { return };
    let claim = extension.and_then(|extension| extension.text("claimCheckLocation"));
    if claim.is_some_and(|place| !place.is_empty()) {
        return oversize(table, record, reading);
    }
    rows(table, kind, record, position.as_ref(), reading);
}

fn rows(
    table: usize,
    kind: RowKind,
    record: &Object<'_>,
    position: Option<&Position>,
    reading: &mut Reading<'_, '_>,
) {
    let Some(Value::List(rows)) = record.get("data") else {
        return reading.doubt_partition("row_shape");
    };
    if rows.is_empty() {
        return reading.doubt_partition("row_shape");
    }
    let old = match record.get("old") {
        Some(Value::List(old)) => old.as_slice(),
        _ => &[],
    };
    for (at, row) in rows.iter().enumerate() {
        let Value::Object(row) = row else {
            reading.doubt_partition("row_shape");
            continue;
        };
        let old = old.get(at).and_then(Value::object);
        reading.row_with_changes((table, position.cloned()), kind, row, old);
    }
}

/// Rows that lie elsewhere: the users that their key columns name are in doubt.
fn oversize(table: usize, record: &Object<'_>, reading: &mut Reading<'_, '_>) {
    let mut is_known = matches!(record.get("data"), Some(Value::List(rows)) if !rows.is_empty());
    for name in ["data", "old"] {
        let Some(Value::List(rows)) = record.get(name) else { continue };
        for row in rows {
            is_known &= row.object().is_some_and(|row| reading.oversize(table, row));
        }
    }
    if !is_known {
        reading.doubt_partition("oversize_row");
    }
}

/// A statement: of DDL, or the text of row changes.
fn statement(
    record: &Object<'_>,
    kind: &str,
    position: Option<&Position>,
    reading: &mut Reading<'_, '_>,
) {
    let is_ddl = record.get("isDdl") == Some(&Value::Bool(true));
    let is_shaped = (is_ddl || kind == "QUERY") && record.present("data").is_none();
    let Some(text) = record.text("sql").filter(|_| is_shaped) else {
        return reading.doubt_partition("type_unknown");
    };
    let database = record.text("database").unwrap_or_default();
    let table = record.text("table").filter(|_| is_ddl);
    reading.statement(text, database, table, position);
    if let Some(last) = reading.out.last_mut().filter(|last| !is_ddl && last.what == What::Ignore) {
        last.reason = Some("query");
    }
}
