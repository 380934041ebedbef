//! TiCDC's simple protocol, as JSON.
//!
//! A record is `{version, type, commitTs, buildTs, ...}`. Rows name `database` and `table`: `INSERT` has
//! `data`, `UPDATE` `data` and `old`, `DELETE` only `old`; all values are texts, unsigned ones in full. `WATERMARK`
//! comes each second on all partitions; `BOOTSTRAP` says a table's schema, which the rows' own names make
//! unnecessary. Every other type is a statement with its text in `sql` and the table as it is
//! afterwards in `tableSchema`. Rows that are too large come with their key columns only
//! (`handleKeyOnly`), or lie elsewhere (`claimCheckLocation`).

use crate::event::{Position, What};
use crate::json::{Object, Value};
use crate::meaning::RowKind;
use crate::reading::Reading;

/// True if a record is one of these.
pub(crate) fn is_one(record: &Object<'_>) -> bool {
    record.get("version").and_then(Value::unsigned).is_some()
        && record.text("type").is_some()
        && record.get("commitTs").and_then(Value::unsigned).is_some()
        && record.has("buildTs")
}

/// Says what a record of [`is_one`] says.
pub(crate) fn decode(record: &Object<'_>, reading: &mut Reading<'_, '_>) {
    let position = record.get("commitTs").and_then(Value::unsigned).map(Position::CommitTs);
    let has_row = record.present("data").is_some() || record.present("old").is_some();
    let kind = match record.text("type").unwrap_or_default() {
        "INSERT" => RowKind::Insert,
        "UPDATE" => RowKind::Update,
        "DELETE" => RowKind::Delete,
        "WATERMARK" if !has_row => return reading.push(What::Watermark, "watermark", position),
        "BOOTSTRAP" if !has_row => return reading.ignore("bootstrap", position),
        _ => return statement(record, position.as_ref(), reading),
    };
    let Some(table) = reading.table(record.text("database"), record.text("table")) else { return };
    let (data, old) = (record.object("data"), record.object("old"));
    if record.text("claimCheckLocation").is_some_and(|place| !place.is_empty()) {
        return oversize(table, [data, old], reading);
    }
    let (row, old) = match (kind, data, old) {
        (RowKind::Delete, None, Some(old)) => (old, None),
        (RowKind::Insert, Some(data), None) => (data, None),
        (RowKind::Update, Some(data), old) => (data, old),
        _ => return reading.doubt_partition("row_shape"),
    };
    reading.row_with_changes((table, position), kind, row, old);
}

/// A row that lies elsewhere: the users that its key columns name are in doubt.
fn oversize(table: usize, images: [Option<&Object<'_>>; 2], reading: &mut Reading<'_, '_>) {
    let mut is_known = images.iter().any(Option::is_some);
    for row in images.into_iter().flatten() {
        is_known &= reading.oversize(table, row);
    }
    if !is_known {
        reading.doubt_partition("oversize_row");
    }
}

fn statement(record: &Object<'_>, position: Option<&Position>, reading: &mut Reading<'_, '_>) {
    let schema = record.object("tableSchema");
    let of_schema = |name| schema.and_then(|schema| schema.text(name));
    let Some(text) = record.text("sql") else {
        return reading.doubt_partition("type_unknown");
    };
    let database = of_schema("schema").unwrap_or_default();
    reading.statement(text, database, of_schema("table"), position);
}
