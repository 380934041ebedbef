//! Maxwell's JSON, and TiCDC's Maxwell flavour.
//!
//! A record is `{database, table, type, ts, data, old}`: `insert`, `update` with the former values of the
//! changed columns in `old`, `delete` with the row in `data` (TiCDC: in `old`, and no `data`), a bootstrap's
//! rows as `bootstrap-insert` between `bootstrap-start` and `bootstrap-complete`. A change of any key
//! column is one update, in the partition of the row as it is now. Statements are `table-create`,
//! `table-alter`, `table-drop`, `database-...`, in a topic of their own and with the text in `sql`; of a
//! truncate Maxwell says nothing at all (TiCDC: as a `table-alter`). Unsigned numbers are in full. TiCDC may
//! join several records into one message, without anything between.

use crate::decoder::Dialect;
use crate::event::{Event, Position, Scope};
use crate::json::{Object, Value};
use crate::meaning::RowKind;
use crate::position;
use crate::reading::Reading;
use crate::record::Record;

/// The flavour, if a record is one of these.
pub(crate) fn told(object: &Object<'_>, record: &Record<'_>) -> Option<Dialect> {
    const KINDS: [&str; 12] = [
        "insert",
        "update",
        "delete",
        "bootstrap-start",
        "bootstrap-insert",
        "bootstrap-complete",
        "table-create",
        "table-alter",
        "table-drop",
        "database-create",
        "database-alter",
        "database-drop",
    ];
    let kind = object.text("type")?;
    let is_one = object.text("database").is_some()
        && (object.text("table").is_some() || kind.starts_with("database-"))
        && object.has("ts")
        && !object.has("isDdl")
        && !object.has("commitTs")
        && KINDS.contains(&kind);
    // The heads of TiCDC's messages: a version number of 8 bytes, or for statements a key of its own.
    let has_head = record.key.is_some_and(|key| {
        key == 1_u64.to_be_bytes() || key.starts_with(b"{\"ts\":") && !key.contains(&b'.')
    });
    let is_ticdc = has_head || (kind == "delete" && !object.has("data"));
    is_one.then_some(if is_ticdc { Dialect::TicdcMaxwell } else { Dialect::Maxwell })
}

/// Says what a record of [`told`] says.
pub(crate) fn decode(object: &Object<'_>, reading: &mut Reading<'_, '_>) {
    let position = position(object);
    let kind = match object.text("type").unwrap_or_default() {
        "insert" | "bootstrap-insert" => RowKind::Insert,
        "update" => RowKind::Update,
        "delete" => RowKind::Delete,
        "bootstrap-start" | "bootstrap-complete" => return reading.ignore("bootstrap", position),
        _ => return statement(object, position, reading),
    };
    let Some(table) = reading.table(object.text("database"), object.text("table")) else { return };
    let (data, old) = (object.object("data"), object.object("old"));
    let (row, old) = match (kind, data, old) {
        (RowKind::Delete, None, Some(old)) => (old, None),
        (RowKind::Insert | RowKind::Delete, Some(data), None) => (data, None),
        (RowKind::Update, Some(data), old) => (data, old),
        _ => return reading.doubt_partition("row_shape"),
    };
    reading.row_with_changes((table, position), kind, row, old);
}

fn statement(object: &Object<'_>, position: Option<Position>, reading: &mut Reading<'_, '_>) {
    let Some(text) = object.text("sql") else {
        return reading.out.push(Event::dirty(Scope::Table, "ddl_missing"));
    };
    let database = object.text("database").unwrap_or_default();
    reading.statement(text, database, object.text("table"), position.as_ref());
}

/// Where a record says that it lies, if Maxwell was told to add that.
fn position(object: &Object<'_>) -> Option<Position> {
    let transaction = object.text("gtid").and_then(position::transaction);
    transaction.or_else(|| object.text("position").and_then(position::place_text)).or_else(|| {
        // TiCDC's statements have the commit timestamp where Maxwell has milliseconds: it is larger
        // than any of these will be before the year 10000.
        const MILLIS_MAX: u64 = 253_402_300_800_000;
        let ts = object.get("ts").and_then(Value::unsigned)?;
        (ts > MILLIS_MAX).then_some(Position::CommitTs(ts))
    })
}
