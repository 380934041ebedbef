//! Messages that producers have really sent. Those of TiCDC are not part of the project: they are read
//! from the folder that `SEEN_GOLDEN_TICDC` names, and passed over where it names none.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use seen_dialect::{Decoder, Position, Record, What};
use serde_json::Value;

use super::said::{decoder, line};

/// A recorded record.
struct Recorded {
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
}

fn read(path: &Path) -> Vec<Recorded> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let bytes = |value: &Value| value.as_str().map(|text| STANDARD.decode(text).expect("base64"));
    let record = |line: &str| {
        let line: Value = serde_json::from_str(line).expect("JSON");
        Recorded { key: bytes(&line["key"]), value: bytes(&line["value"]) }
    };
    text.lines().map(record).collect()
}

/// What all records say, each event with its position; `tombstone`s are lines without a message.
fn told(decoder: &mut Decoder, records: &[Recorded]) -> Vec<(String, Option<Position>)> {
    let mut all = Vec::new();
    for Recorded { key, value } in records {
        let record = Record { key: key.as_deref(), value: value.as_deref(), ..Record::default() };
        let mut out = Vec::new();
        decoder.decode(&record, &mut out);
        assert!(!out.is_empty(), "a record is never passed over");
        let are_none = key.is_none() && value.is_none();
        if are_none {
            assert!(out.iter().all(|event| event.what == What::Ignore), "{out:?}");
        } else {
            all.extend(out.into_iter().map(|event| (line(&event), event.position)));
        }
    }
    all
}

#[test]
fn tidb_binlog() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/tidb-binlog.jsonl");
    let told = told(&mut decoder(), &read(&path));
    let lines: Vec<_> = told.iter().map(|(line, _)| line.as_str()).collect();
    assert_eq!(
        lines,
        [
            "upsert 42 1 18446744073709551615 1763683200123",
            "upsert 0 0 0 0",
            "upsert 9223372036854775808 2 7 1763683261000",
            "upsert 18446744073709551615 255 9223372036854775807 18446744073709551615",
            "upsert 42 1 18446744073709551615 1763683260456",
            "delete 42 1 18446744073709551615",
            "upsert 42 1 9223372036854775809 1763683260456",
            "delete 0 0 0",
            "ddl ddl",
            "truncate truncate",
            "upsert 42 1 18446744073709551615 1763683200123",
        ]
    );
    let ts: Vec<_> = told
        .iter()
        .map(|(line, position)| match position {
            Some(Position::CommitTs(ts)) => *ts,
            other => panic!("{line}: {other:?}"),
        })
        .collect();
    let (first, rest) = ts.split_first().expect("events");
    assert!(rest.windows(2).take(8).all(|two| two[0] <= two[1]), "{ts:?}");
    assert_eq!(ts.last(), Some(first), "the first message again");
}

/// The folder of TiCDC's recorded messages.
fn ticdc(name: &str) -> Option<PathBuf> {
    let Some(folder) = std::env::var_os("SEEN_GOLDEN_TICDC") else {
        eprintln!(
            "PASSED OVER: SEEN_GOLDEN_TICDC names no folder of TiCDC's recorded messages ({name})"
        );
        return None;
    };
    Some(Path::new(&folder).join(format!("ticdc-{name}.jsonl")))
}

/// What the rows of TiCDC's recordings say, in order; `first` is the sum of the first inserts.
const ROWS: [&str; 14] = [
    "upsert 42 1 18446744073709551615 1763683200123",
    "upsert 42 1 18446744073709551615 1763683260456",
    "upsert 0 0 0 0",
    "upsert 9223372036854775808 2 7 1763683261000",
    "upsert 18446744073709551615 255 9223372036854775807 18446744073709551615",
    "delete 42 1 18446744073709551615",
    "upsert 42 1 9223372036854775809 1763683260456",
    "upsert 42 1 9223372036854775809 1763683300000",
    "delete 0 0 0",
    "upsert 42 1 100 2",
    "delete 42 1 9223372036854775809",
    "upsert 42 1 101 1763683400000",
    "upsert 42 1 101 1763683400000",
    "upsert 42 1 102 1763683500000",
];

fn rows(told: &[(String, Option<Position>)]) -> Vec<&str> {
    let is_row = |line: &&str| line.starts_with("upsert") || line.starts_with("delete");
    told.iter().map(|(line, _)| line.as_str()).filter(is_row).collect()
}

fn check_whole(name: &str) {
    let Some(path) = ticdc(name) else { return };
    let told = told(&mut decoder(), &read(&path));
    assert_eq!(rows(&told), ROWS, "{name}");
    let count = |begin: &str| told.iter().filter(|(line, _)| line.starts_with(begin)).count();
    assert_eq!((count("watermark"), count("dirty")), (4, 0), "{name}: {told:?}");
    // Truncated, and later renamed; the DROP is of the new name, which is not followed.
    assert_eq!(count("truncate"), 2, "{name}: {told:?}");
    assert!(count("ddl") >= 1, "{name}: {told:?}");
    for (line, position) in &told {
        let is_ts =
            matches!(position, Some(Position::CommitTs(ts)) if *ts > 470_000_000_000_000_000);
        assert!(is_ts || line == "ignore bootstrap", "{name}: {line}: {position:?}");
    }
    let place = |what: &str| told.iter().position(|(line, _)| line.starts_with(what));
    assert!(place("truncate") > place(ROWS[11]), "{name}");
}

#[test]
fn open_protocol() {
    check_whole("open-protocol-single");
    check_whole("open-protocol-batch");
    check_whole("open-protocol-deletehandle");
}

#[test]
fn simple_avro() {
    check_whole("simple-avro-bootstrap");
}

/// The schemas that the recording was made with; a registry would hold them.
fn add_schemas(decoder: &mut Decoder) {
    let field = |name: &str, kind: &str| format!(r#"{{"name":"{name}","type":{kind}}}"#);
    let unsigned = r#"{"type":"string","connect.parameters":{"tidb_type":"BIGINT UNSIGNED"}}"#;
    let int = r#"{"type":"int","connect.parameters":{"tidb_type":"INT UNSIGNED"}}"#;
    let key = [field("user_id", unsigned), field("kind", int), field("item_id", unsigned)];
    let time = field("marked_at_ms", unsigned);
    let note = r#"["null",{"type":"string","connect.parameters":{"tidb_type":"TEXT"}}]"#;
    let tail = [
        field("_tidb_op", r#""string""#),
        field("_tidb_commit_ts", r#""long""#),
        field("_tidb_commit_physical_time", r#""long""#),
    ];
    let schema = |fields: &[&[String]]| {
        let fields = fields.concat().join(",");
        format!(
            r#"{{"type":"record","name":"feed_read","namespace":"default.test","fields":[{fields}]}}"#
        )
    };
    for (id, fields) in [
        (1, schema(&[&key])),
        (2, schema(&[&key, std::slice::from_ref(&time), &tail])),
        (4, schema(&[&key, &[time], &[field("note", note)], &tail])),
    ] {
        decoder.schemas().add(id, &fields).expect("a schema");
    }
}

#[test]
fn avro() {
    let Some(path) = ticdc("avro-bigint-string-tidbext") else { return };
    let records = read(&path);
    let mut decoder = decoder();
    let without = told(&mut decoder, &records);
    assert!(
        without.iter().all(|(line, _)| line == "dirty partition schema_unknown"),
        "{without:?}"
    );
    assert!(decoder.schemas().wanted().any(|id| id == 2), "it is told which one is missing");
    add_schemas(&mut decoder);
    // A key after the ALTER may have a schema of its own.
    let wanted: Vec<_> = decoder.schemas().wanted().collect();
    assert_eq!(wanted, [0_u32; 0]);
    let told = told(&mut decoder, &records);
    assert_eq!(rows(&told), ROWS);
    for (line, position) in &told {
        assert_eq!(position.is_some(), line.starts_with("upsert"), "{line}");
    }
}
