//! Debezium's JSON, of its MySQL and MariaDB connectors, and TiCDC's imitation of it.
//!
//! A record is an envelope `{before, after, source, op, ...}`, bare or as the `payload` beside a
//! `schema` (which is most of the bytes, and not needed); TiCDC sends `{payload}` alone. `op` is `c`, `r`
//! (a snapshot's row), `u`, `d` or `t` (truncate, with neither key nor images, in one partition). A
//! delete is followed by a tombstone, which says nothing more. A change of a column of the message key
//! comes as a delete and an insert; of other key columns as one `u` with both images.
//!
//! Unsigned 64-bit columns come as negative numbers (`bigint.unsigned.handling.mode=long`), as base64
//! texts (`precise`; [`crate::value`] tells these from digits) or as numbers (`precise` with
//! `decimal.format=NUMERIC`).
//!
//! In topics of their own: schema changes (`{source, databaseName, ddl, tableChanges}`), the
//! transactions' beginnings and ends, and heartbeats. A snapshot begins with statements that drop and
//! create the captured tables; nobody ran those. But a connector that takes a snapshot does not know
//! what happened before, so they are a doubt.

use crate::decoder::Dialect;
use crate::event::{Event, Position, Scope, What};
use crate::followed;
use crate::json::{Object, Value};
use crate::meaning::{Before, RowChange, RowKind};
use crate::message_key;
use crate::position;
use crate::reading::Reading;
use crate::value::Texts;

/// The flavour that a payload is of, if it is one of these.
pub(crate) fn told(payload: &Object<'_>) -> Option<Dialect> {
    let is_ours = is_envelope(payload)
        || is_statement(payload)
        || is_transaction(payload)
        || is_heartbeat(payload);
    let connector = payload.object("source").and_then(|source| source.text("connector"));
    is_ours.then_some(match connector {
        Some("TiCDC") => Dialect::TicdcDebezium,
        _ => Dialect::Debezium,
    })
}

fn is_envelope(payload: &Object<'_>) -> bool {
    payload.object("source").is_some() && payload.text("op").is_some()
}

fn is_statement(payload: &Object<'_>) -> bool {
    payload.object("source").is_some()
        && payload.has("databaseName")
        && (payload.has("ddl") || payload.has("tableChanges"))
}

fn is_transaction(payload: &Object<'_>) -> bool {
    matches!(payload.text("status"), Some("BEGIN" | "END"))
        && payload.has("id")
        && payload.has("event_count")
        && payload.has("data_collections")
}

fn is_heartbeat(payload: &Object<'_>) -> bool {
    payload.has("ts_ms") && payload.has_only(&["ts_ms", "ts_us", "ts_ns"])
}

/// Says what a payload of [`told`] says.
pub(crate) fn decode(payload: &Object<'_>, reading: &mut Reading<'_, '_>) {
    if is_envelope(payload) {
        envelope(payload, reading);
    } else if is_statement(payload) {
        statement(payload, reading);
    } else if is_transaction(payload) {
        reading.ignore("transaction", None);
    } else {
        reading.push(What::Heartbeat, "heartbeat", None);
    }
}

fn envelope(payload: &Object<'_>, reading: &mut Reading<'_, '_>) {
    let Some(source) = payload.object("source") else { return reading.doubt("source_missing") };
    let position = position(source);
    let (before, after) = (payload.present("before"), payload.present("after"));
    let op = payload.text("op").unwrap_or_default();
    match op {
        // TiCDC's watermark; of other connectors a message that somebody wrote into the log.
        "m" if before.is_none() && after.is_none() => match source.has("commit_ts") {
            true => reading.push(What::Watermark, "watermark", position),
            false => reading.ignore("message", position),
        },
        "t" => {
            if let Some(table) = reading.table(source.text("db"), source.text("table")) {
                let reason = Some("truncate");
                reading.out.push(Event {
                    table: Some(table),
                    what: What::Truncate,
                    position,
                    reason,
                });
            }
        }
        _ => {
            if let Some(table) = reading.table(source.text("db"), source.text("table")) {
                row(table, op, [before, after], position, reading);
            }
        }
    }
}

/// A row's change. Images that do not fit the operation are a damaged record.
fn row(
    table: usize,
    op: &str,
    images: [Option<&Value<'_>>; 2],
    position: Option<Position>,
    reading: &mut Reading<'_, '_>,
) {
    let image = |row: &Object<'_>| reading.image(table, row, Texts::DecimalOrBase64);
    let (kind, before, after) = match (op, images) {
        ("c" | "r", [None, Some(Value::Object(after))]) => {
            (RowKind::Insert, Before::Unknown, image(after))
        }
        ("u", [None, Some(Value::Object(after))]) => {
            let is_whole = |table| message_key::is_whole(table, reading.record);
            let is_same = reading.tables.get(table).is_some_and(is_whole);
            let before = if is_same { Before::SameKey } else { Before::Unknown };
            (RowKind::Update, before, image(after))
        }
        ("u", [Some(Value::Object(before)), Some(Value::Object(after))]) => {
            (RowKind::Update, Before::Whole(image(before)), image(after))
        }
        ("d", [Some(Value::Object(before)), None]) => {
            (RowKind::Delete, Before::Whole(image(before)), Default::default())
        }
        _ => return reading.doubt("row_shape"),
    };
    let first = reading.out.len();
    reading.tell(&RowChange { table, kind, before, after, position });
    let told = reading.out.get_mut(first..).unwrap_or_default();
    message_key::settle(reading.tables, reading.record, told);
}

fn statement(payload: &Object<'_>, reading: &mut Reading<'_, '_>) {
    let source = payload.object("source");
    let position = source.and_then(position);
    let Some(text) = payload.text("ddl") else {
        return reading.out.push(Event::dirty(Scope::Table, "ddl_missing"));
    };
    let database = payload.text("databaseName").unwrap_or_default();
    let first = reading.out.len();
    followed::ddl(reading.tables, text, database, position.as_ref(), reading.out);
    let is_of_snapshot = source
        .and_then(|source| source.text("snapshot"))
        .is_some_and(|snapshot| !matches!(snapshot, "false" | "incremental"));
    if is_of_snapshot {
        let told = reading.out.get_mut(first..).unwrap_or_default();
        for event in told.iter_mut().filter(|event| event.what == What::Truncate) {
            // Nothing was dropped; but whoever follows may have missed what came before.
            event.what = What::Ddl;
            event.reason = Some("snapshot");
        }
    }
}

/// Where a source says that a change lies.
fn position(source: &Object<'_>) -> Option<Position> {
    if let Some(ts) = source.get("commit_ts").and_then(Value::unsigned) {
        return Some(Position::CommitTs(ts));
    }
    let transaction = source.text("gtid").and_then(position::transaction);
    transaction.or_else(|| {
        position::place(source.text("file")?, source.get("pos").and_then(Value::unsigned)?)
    })
}
