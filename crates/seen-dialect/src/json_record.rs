//! Which JSON dialect a record is of: told from the members that it has.
//!
//! The dialects are asked in an order in which no record of one is taken for another's, with rows that
//! have no envelope last, since their members may have any name.

use crate::decoder::Dialect;
use crate::event::Event;
use crate::json::{self, Object};
use crate::reading::Reading;
use crate::record::Record;
use crate::table::FollowedTable;
use crate::{canal, debezium, debezium_row, maxwell, simple};

/// What earlier records said about the form of later ones.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// Rows without their envelope came, and did not say whether they were deleted: deletes are
    /// tombstones, or nothing.
    deletes_are_tombstones: bool,
}

/// Appends what a record says, taken for one of `forced` if that is given. Returns the format that its
/// first object was taken for.
pub(crate) fn decode(
    tables: &[FollowedTable],
    record: &Record<'_>,
    forced: Option<Dialect>,
    state: &mut State,
    out: &mut Vec<Event>,
) -> Option<Dialect> {
    let mut reading = Reading { tables, record, out };
    let text = std::str::from_utf8(record.value.unwrap_or_default()).ok();
    let mut first = None;
    for object in json::objects(text.unwrap_or_default()) {
        let Some(payload) = object.ok().and_then(Object::into_payload) else {
            reading.doubt("json_unreadable");
            continue;
        };
        let told = told(&payload, record);
        let dialect = match forced {
            Some(Dialect::DebeziumUnwrapped) => forced,
            Some(forced) => told.filter(|told| is_like(*told, forced)).map(|_| forced),
            None => told.or(Some(Dialect::DebeziumUnwrapped)),
        };
        let read = dialect.filter(|dialect| one(*dialect, &payload, state, &mut reading));
        if read.is_none() {
            reading.doubt("format_unknown");
        }
        first = first.or(read);
    }
    first
}

/// Appends what a tombstone says. Every dialect sends it after a delete that was told, but for one.
pub(crate) fn tombstone(
    tables: &[FollowedTable],
    record: &Record<'_>,
    forced: Option<Dialect>,
    state: &State,
    out: &mut Vec<Event>,
) {
    let mut reading = Reading { tables, record, out };
    let is_bare = forced == Some(Dialect::DebeziumUnwrapped);
    match forced.is_none_or(|_| is_bare) && (state.deletes_are_tombstones || is_bare) {
        true => reading.doubt("tombstone_of_row"),
        false => reading.ignore("tombstone", None),
    }
}

/// The dialect that an object says it is of; none for rows without an envelope.
fn told(payload: &Object<'_>, record: &Record<'_>) -> Option<Dialect> {
    debezium::told(payload)
        .or_else(|| simple::is_one(payload).then_some(Dialect::Simple))
        .or_else(|| canal::told(payload))
        .or_else(|| maxwell::told(payload, record))
}

/// True for the formats that differ in their producer alone, which not every record betrays.
fn is_like(one: Dialect, other: Dialect) -> bool {
    let family = |dialect| match dialect {
        Dialect::TicdcDebezium => Dialect::Debezium,
        Dialect::TicdcMaxwell => Dialect::Maxwell,
        Dialect::CanalJson => Dialect::CanalFlat,
        other => other,
    };
    family(one) == family(other)
}

/// False if an object is not of this dialect after all.
fn one(
    dialect: Dialect,
    payload: &Object<'_>,
    state: &mut State,
    reading: &mut Reading<'_, '_>,
) -> bool {
    match dialect {
        Dialect::Debezium | Dialect::TicdcDebezium => debezium::decode(payload, reading),
        Dialect::Simple => simple::decode(payload, reading),
        Dialect::CanalFlat | Dialect::CanalJson => canal::decode(payload, reading),
        Dialect::Maxwell | Dialect::TicdcMaxwell => maxwell::decode(payload, reading),
        Dialect::DebeziumUnwrapped => {
            let Some(tells_deletes) = debezium_row::decode(payload, reading) else { return false };
            state.deletes_are_tombstones |= !tells_deletes;
        }
        Dialect::Seen | Dialect::OpenProtocol | Dialect::TidbBinlog | Dialect::Avro => {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A record of each format that has an envelope, as short as its producer may make it.
    const RECORDS: [(Dialect, &str); 10] = [
        (Dialect::Debezium, r#"{"before":null,"after":{},"source":{"db":"d"},"op":"c","ts_ms":1}"#),
        (Dialect::Debezium, r#"{"source":{},"databaseName":"d","ddl":"x","tableChanges":[]}"#),
        (
            Dialect::Debezium,
            r#"{"status":"END","id":"x","event_count":1,"data_collections":[],"ts_ms":1}"#,
        ),
        (Dialect::Debezium, r#"{"ts_ms":1}"#),
        (Dialect::TicdcDebezium, r#"{"source":{"connector":"TiCDC"},"op":"m","ts_ms":1}"#),
        (
            Dialect::Simple,
            r#"{"version":1,"database":"d","table":"t","type":"INSERT","commitTs":1,"buildTs":1,
            "data":{}}"#,
        ),
        (
            Dialect::CanalFlat,
            r#"{"data":[{}],"database":"d","es":1,"gtid":"","id":1,"isDdl":false,"table":"t","ts":1,
            "type":"INSERT"}"#,
        ),
        (
            Dialect::CanalJson,
            r#"{"data":[{}],"database":"d","es":1,"id":1,"isDdl":false,"table":"t","ts":1,
            "type":"INSERT"}"#,
        ),
        (Dialect::Maxwell, r#"{"database":"d","table":"t","type":"insert","ts":1,"data":{}}"#),
        (Dialect::TicdcMaxwell, r#"{"database":"d","table":"t","type":"delete","ts":1,"old":{}}"#),
    ];

    #[test]
    fn a_record_is_of_one_format_only() {
        let none = Record::default();
        for (expected, text) in RECORDS {
            let object = json::object(text.as_bytes()).expect("an object");
            let answers = [
                debezium::told(&object),
                simple::is_one(&object).then_some(Dialect::Simple),
                canal::told(&object),
                maxwell::told(&object, &none),
            ];
            let told: Vec<_> = answers.into_iter().flatten().collect();
            assert_eq!(told, [expected], "{text}");
        }
    }

    #[test]
    fn without_a_member_that_its_format_demands_a_record_is_of_none() {
        let none = Record::default();
        for (_, text) in RECORDS {
            for name in ["op", "source", "databaseName", "event_count", "ts_ms", "type", "database"]
            {
                let damaged = text.replace(&format!("\"{name}\""), "\"else\"");
                let object = json::object(damaged.as_bytes()).expect("an object");
                let told = told(&object, &none);
                // Debezium's own time is of no use to anybody.
                let is_free = name == "ts_ms" && text != r#"{"ts_ms":1}"#;
                // The simple protocol's statements and watermarks name no database.
                let is_simple = name == "database" && text.contains("buildTs");
                let is_same = damaged == text || is_free || is_simple;
                assert_eq!(told.is_some(), is_same, "{damaged}");
            }
        }
    }
}
