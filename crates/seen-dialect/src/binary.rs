//! The formats that are no JSON: which of them a record is of, and what it says.

use crate::decoder::Dialect;
use crate::event::Event;
use crate::record::Record;
use crate::table::FollowedTable;
use crate::ticdc_avro::{self, Schemas};
use crate::{open_protocol, seen_event, simple_avro, tidb_binlog};

/// The format that a record says it is of, if it is one of these. No text of JSON is taken for one.
pub(crate) fn told(record: &Record<'_>) -> Option<Dialect> {
    let value = record.value.unwrap_or_default();
    if seen_event::is_one(value) {
        return Some(Dialect::Seen);
    }
    if open_protocol::is_one(record.key) {
        return Some(Dialect::OpenProtocol);
    }
    if tidb_binlog::is_one(value) {
        return Some(Dialect::TidbBinlog);
    }
    if simple_avro::is_one(value) {
        return Some(Dialect::Simple);
    }
    ticdc_avro::is_one(record).then_some(Dialect::Avro)
}

/// Appends what a record says, taken for one of this format. False for the formats that are JSON.
pub(crate) fn decode(
    dialect: Dialect,
    tables: &[FollowedTable],
    schemas: &mut Schemas,
    record: &Record<'_>,
    out: &mut Vec<Event>,
) -> bool {
    match dialect {
        Dialect::Seen => seen_event::decode(tables, record, out),
        Dialect::OpenProtocol => open_protocol::decode(tables, record, out),
        Dialect::TidbBinlog => tidb_binlog::decode(tables, record, out),
        Dialect::Avro => schemas.decode(tables, record, out),
        Dialect::Simple if record.value.is_some_and(simple_avro::is_one) => {
            simple_avro::decode(tables, record, out);
        }
        _ => return false,
    }
    true
}
