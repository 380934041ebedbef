//! Change events of other programs, format by format.

use seen_dialect::seen_event::{ChangeHead, ChangeRecord, ChangeSource, ReadRecord};
use seen_dialect::{Decoder, Dialect, Event, FollowedTable, Position, Record, What};
use seen_filter::{
    CommitStamp, Domain, FeedCursor, FeedEvent, GapScope, Item, Partition, Shard, Timeline, UserId,
};

use crate::{Target, take};

/// A JSON value of two bytes is some 64 in memory, in a list that has just doubled.
const PER_BYTE: usize = 256;

pub(crate) const CHANGE_JSON: Target = Target {
    name: "change_json",
    run: json,
    seeds: json_seeds,
    memory_bytes: 65_536,
    memory_per_byte: PER_BYTE,
};

pub(crate) const CHANGE_BINARY: Target = Target {
    name: "change_binary",
    run: binary,
    seeds: binary_seeds,
    memory_bytes: 65_536,
    memory_per_byte: PER_BYTE,
};

pub(crate) const CHANGE_SEEN: Target = Target {
    name: "change_seen",
    run: own,
    seeds: own_seeds,
    memory_bytes: 16_384,
    memory_per_byte: 64,
};

pub(crate) const AVRO_SCHEMA: Target = Target {
    name: "avro_schema",
    run: schema,
    seeds: schema_seeds,
    memory_bytes: 65_536,
    memory_per_byte: PER_BYTE,
};

const FORMS: [Option<Dialect>; 13] = [
    None,
    Some(Dialect::Seen),
    Some(Dialect::Debezium),
    Some(Dialect::DebeziumUnwrapped),
    Some(Dialect::CanalJson),
    Some(Dialect::Maxwell),
    Some(Dialect::CanalFlat),
    Some(Dialect::OpenProtocol),
    Some(Dialect::Simple),
    Some(Dialect::TicdcDebezium),
    Some(Dialect::TicdcMaxwell),
    Some(Dialect::TidbBinlog),
    Some(Dialect::Avro),
];

const SCHEMA: &str = r#"{"type":"record","name":"feed_read","namespace":"default.db","fields":[
{"name":"user_id","type":{"type":"long","connect.parameters":{"tidb_type":"BIGINT"}}},
{"name":"kind","type":{"type":"int","connect.parameters":{"tidb_type":"INT"}}},
{"name":"item_id","type":{"type":"string","connect.parameters":{"tidb_type":"BIGINT UNSIGNED"}}},
{"name":"marked_at_ms","default":null,"type":["null",{"type":"long","connect.parameters":{"tidb_type":"BIGINT"}}]},
{"name":"_tidb_commit_ts","type":"long"}]}"#;

fn decoder(forced: Option<Dialect>) -> Decoder {
    let tables = ["db", "test"];
    let tables = tables.iter().flat_map(|database| {
        [FollowedTable::own(database, "feed_read"), FollowedTable::control(database)]
    });
    let mut decoder = Decoder::new(tables.collect(), forced);
    decoder.schemas().add(1, SCHEMA).expect("a schema");
    decoder
}

/// A record says at least one thing, about a table that is followed, and why it doubts; and the same again to who has seen
/// nothing else.
fn record(forced: Option<Dialect>, record: &Record<'_>) {
    let mut first = decoder(forced);
    let mut events = Vec::new();
    let dialect = first.decode(record, &mut events);
    assert!(!events.is_empty(), "a record is passed over");
    let tables = first.tables().len();
    for Event { table, what, reason, position } in &events {
        assert!(table.is_none_or(|table| table < tables), "no such table");
        let row = matches!(what, What::Upsert { .. } | What::Delete { .. } | What::Control(_));
        // Our own format names a history, not a table.
        let has_table = table.is_some() || dialect == Some(Dialect::Seen);
        assert!(!row || has_table, "a row of no table");
        let explained = matches!(what, What::Ignore | What::Dirty(_) | What::Ddl | What::Truncate);
        assert!(!explained || reason.is_some_and(|reason| !reason.is_empty()), "{what:?}");
        position.as_ref().map(Position::to_string);
    }
    assert!(first.schemas().wanted().count() <= 64);
    let mut again = Vec::new();
    assert_eq!(decoder(forced).decode(record, &mut again), dialect);
    assert_eq!(again, events);
    // What one record says about the form of later ones must not make them fail.
    first.decode(record, &mut again);
}

/// Whether there is a key and a value, and of what form they are to be, from the first two bytes; then the key, then the value.
fn fed(mut data: &[u8]) {
    let [how, form, key_bytes] = take(&mut data);
    let (key, value) = data.split_at(data.len().min(key_bytes.into()));
    let forced = FORMS[usize::from(form) % FORMS.len()];
    let (has_key, has_value) = (how & 1 == 0, how & 2 == 0);
    let (key, value) = (has_key.then_some(key), has_value.then_some(value));
    record(forced, &Record { topic: "feed_read", key, value, ..Record::default() });
}

fn json(data: &[u8]) {
    fed(data);
}

/// The same: apart since what is found by coverage of the one would drown the other.
fn binary(data: &[u8]) {
    fed(data);
}

/// A record of our own format is read whole or not at all, and what is read is written and read again as the same.
fn own(value: &[u8]) {
    let record = match ReadRecord::read(value) {
        Ok(record) => record,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    let changes: Vec<_> = record.changes().collect();
    assert_eq!(changes.len(), record.len(), "an event is missing");
    let Ok(mut written) = ChangeRecord::new(&record.head) else {
        panic!("a head that was read cannot be written: {:?}", record.head)
    };
    for change in &changes {
        // A gap's reason is written as the one that is passed on; all else is the event's own.
        assert!(written.push(&change.event, change.marked_at_ms), "{change:?} does not fit");
    }
    let bytes = written.finish(record.source);
    let again = ReadRecord::read(&bytes).expect("what was written");
    assert_eq!((&again.head, again.source), (&record.head, record.source));
    let told = again.changes().map(|change| (change.event, change.marked_at_ms));
    assert!(told.eq(changes.iter().map(|change| (change.event, change.marked_at_ms))));
}

/// A schema of a registry is taken, or refused with a reason; and any row under it is read or doubted.
fn schema(mut data: &[u8]) {
    let [split] = take(&mut data);
    let (row, text) = data.split_at(data.len().min(split.into()));
    let Ok(text) = std::str::from_utf8(text) else { return };
    let mut decoder = decoder(Some(Dialect::Avro));
    if let Err(error) = decoder.schemas().add(2, text) {
        assert!(!error.to_string().is_empty());
        return;
    }
    let value = [&[0, 0, 0, 0, 2], row].concat();
    let mut events = Vec::new();
    decoder.decode(&Record { value: Some(&value), ..Record::default() }, &mut events);
    assert!(!events.is_empty());
}

const RECORDED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../seen-dialect/tests/golden");

/// Lines of recorded files, one of each length, as many as there is room for.
fn recorded(name: &str, bytes: impl Fn(&str) -> Vec<u8>) -> Vec<Vec<u8>> {
    let path = std::path::Path::new(RECORDED).join(name);
    let Ok(packed) = std::fs::read(&path) else { return Vec::new() };
    let text = if name.ends_with(".zst") { zstd::decode_all(&packed[..]) } else { Ok(packed) };
    let text = text.ok().and_then(|text| String::from_utf8(text).ok()).unwrap_or_default();
    let mut seeds: Vec<Vec<u8>> = Vec::new();
    for line in text.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
        let part = |name: &str| line[name].as_str().map(&bytes);
        let (key, value) = (part("key"), part("value"));
        let how = u8::from(key.is_none()) | u8::from(value.is_none()) << 1;
        let key = key.filter(|key| key.len() < 256).unwrap_or_default();
        let whole = [&[how, 0, key.len() as u8], &key[..], &value.unwrap_or_default()].concat();
        if seeds.iter().all(|seed| seed.len() != whole.len()) {
            seeds.push(whole);
        }
        if seeds.len() == 8 {
            break;
        }
    }
    seeds
}

fn json_seeds() -> Vec<Vec<u8>> {
    let files = [
        "canal-flat",
        "debezium-mariadb-long",
        "debezium-mariadb-long-heartbeat-txn",
        "debezium-mariadb-long-unwrap",
        "debezium-mariadb-precise",
        "debezium-mariadb-precise-numeric",
        "debezium-mysql-on-mariadb",
        "maxwell",
    ];
    let bytes = |text: &str| text.as_bytes().to_vec();
    let mut seeds: Vec<_> =
        files.iter().flat_map(|file| recorded(&format!("{file}.jsonl.zst"), bytes)).collect();
    let row = r#"{"user_id":"42","kind":"1","item_id":"18446744073709551615","marked_at_ms":"5"}"#;
    let numbers = r#"{"item_id":-1,"kind":1,"marked_at_ms":5,"user_id":42}"#;
    let values = [
        format!(
            r#"{{"id":0,"database":"db","table":"feed_read","pkNames":["user_id"],"isDdl":false,"type":"UPDATE","es":1,"ts":2,"sql":"","old":[{row}],"data":[{row}],"_tidb":{{"commitTs":470606528793018371}}}}"#
        ),
        format!(
            r#"{{"version":1,"database":"db","table":"feed_read","tableID":110,"type":"UPDATE","commitTs":470606528793280513,"buildTs":1795221438652,"schemaVersion":470606528790921217,"data":{row},"old":{row}}}"#
        ),
        format!(
            r#"{{"payload":{{"source":{{"connector":"TiCDC","db":"db","table":"feed_read","commit_ts":470606528793542664}},"op":"d","after":null,"before":{numbers}}}}}"#
        ),
        format!(
            r#"{{"database":"db","table":"feed_read","type":"delete","ts":1,"old":{numbers}}}"#
        ),
    ];
    seeds.extend(values.iter().map(|value| [&[1, 0, 0], value.as_bytes()].concat()));
    seeds
}

fn binary_seeds() -> Vec<Vec<u8>> {
    use base64::Engine as _;
    let bytes =
        |text: &str| base64::engine::general_purpose::STANDARD.decode(text).unwrap_or_default();
    let mut seeds = recorded("tidb-binlog.jsonl", bytes);
    seeds.extend(own_seeds().iter().map(|own| [&[1, 0, 0], &own[..]].concat()));
    // Avro under the known schema: user 7, kind 1, item "9", time 5, position 11.
    let row = [0, 0, 0, 0, 1, 14, 2, 2, b'9', 2, 10, 22];
    seeds.push([&[1, 12, 0], &row[..]].concat());
    seeds.push([&[2, 12, row.len() as u8], &row[..]].concat());
    // The open protocol: version, then length and JSON of key and value.
    let long = |text: &str| [&(text.len() as u64).to_be_bytes()[..], text.as_bytes()].concat();
    let key = [&1_u64.to_be_bytes()[..], &long(r#"{"ts":9,"scm":"test","tbl":"feed_read","t":1}"#)]
        .concat();
    let value = long(
        r#"{"u":{"user_id":{"t":8,"h":true,"f":11,"v":1},"kind":{"t":1,"f":0,"v":1},"item_id":{"t":8,"f":0,"v":3},"marked_at_ms":{"t":8,"f":0,"v":3}}}"#,
    );
    seeds.push([&[0, 0, key.len() as u8], &key[..], &value].concat());
    // Simple, as Avro.
    let simple = b"\x16\x06\x06\x02\x08test\x12feed_read\0\0\0\0\0\0\0\0\0\0\0\0\x02";
    seeds.push([&[1, 0, 0], &simple[..]].concat());
    seeds
}

fn own_seeds() -> Vec<Vec<u8>> {
    let head = ChangeHead {
        namespace: "feed_read",
        shard: Shard::new(1),
        partition: Partition::new(2),
        partitions: 4,
    };
    let stamp = |at| CommitStamp::new(Domain::new(1), Timeline::new(2), at);
    let (user, item) = (UserId::new(u64::MAX), Item::new(255, 7));
    let mut record = ChangeRecord::new(&head).expect("a head");
    let events = [
        FeedEvent::Add { stamp: stamp(9), user, item },
        FeedEvent::Remove { stamp: stamp(8), user, item },
        FeedEvent::RemoveAll { stamp: stamp(u64::MAX), user },
        FeedEvent::Complete { stamp: stamp(10) },
        FeedEvent::Gap { scope: GapScope::User(user), reason: "lost" },
        FeedEvent::Gap { scope: GapScope::Partition, reason: "lost" },
    ];
    for event in &events {
        record.push(event, Some(1_700_000_000_000));
    }
    let source = ChangeSource { partition: Partition::new(3), resume: FeedCursor::default() };
    vec![record.finish(source)]
}

fn schema_seeds() -> Vec<Vec<u8>> {
    vec![[&[7, 14, 2, 2, b'9', 2, 10, 22], SCHEMA.as_bytes()].concat()]
}
