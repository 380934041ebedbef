//! What TiCDC's encoders gave for twenty-three events. The recorded files are not part of the project:
//! `SEEN_GOLDEN_TICDC` names their folder, and where it does not, nothing is tested here.

use std::fs;
use std::path::PathBuf;

use base64::Engine as _;
use seen_dialect::{Decoder, Dialect, FollowedTable};
use serde_json::Value;

use crate::recorded::{Line, read, show};

/// What each event means, by its number.
const EVENTS: [&str; 23] = [
    "watermark watermark",
    "ddl ddl",
    "upsert 42 1:18446744073709551615 @1763683200123",
    "upsert 42 1:18446744073709551615 @1763683260456",
    "upsert 0 0:0 @0",
    "upsert 9223372036854775808 2:7 @1763683261000",
    "upsert 18446744073709551615 255:9223372036854775807 @18446744073709551615",
    "delete 42 1:18446744073709551615",
    "upsert 42 1:9223372036854775809 @1763683260456",
    "watermark watermark",
    "upsert 42 1:9223372036854775809 @1763683300000",
    "delete 0 0:0",
    "upsert 42 1:100 @2",
    "delete 42 1:9223372036854775809",
    "watermark watermark",
    "ddl ddl",
    "upsert 42 1:101 @1763683400000",
    "upsert 42 1:101 @1763683400000",
    "truncate truncate",
    "upsert 42 1:102 @1763683500000",
    "truncate rename",
    "ignore other_table",
    "watermark watermark",
];

fn folder() -> Option<PathBuf> {
    let folder = std::env::var_os("SEEN_GOLDEN_TICDC").map(PathBuf::from);
    let found = folder.filter(|folder| folder.is_dir());
    if found.is_none() {
        eprintln!("SEEN_GOLDEN_TICDC names no folder: TiCDC's recorded messages are NOT tested");
    }
    found
}

/// The messages of a file, each with what it should mean; none for an event that gives no message.
fn messages(name: &str) -> Option<Vec<(Line, &'static str)>> {
    let text = fs::read_to_string(folder()?.join(format!("{name}.jsonl"))).expect("a file");
    let mut events = EVENTS.into_iter();
    let mut found = Vec::new();
    for line in text.lines() {
        let line: Value = serde_json::from_str(line).expect("a line");
        let bytes = |name: &str| {
            let engine = base64::engine::general_purpose::STANDARD;
            line[name].as_str().map(|text| engine.decode(text).expect("base64"))
        };
        let meaning = line["meaning"].as_str().expect("a meaning");
        // The schema that the simple protocol sends besides.
        let is_bootstrap = meaning.starts_with("bootstrap");
        let expected =
            if is_bootstrap { "ignore bootstrap" } else { events.next().expect("an event") };
        if !meaning.starts_with("NO MESSAGE for:") {
            let (key, value) = (bytes("key"), bytes("value"));
            found.push((
                Line { key, value, topic: "ticdc".to_owned(), ..Line::default() },
                expected,
            ));
        }
    }
    assert!(events.next().is_none() && found.len() >= 14);
    Some(found)
}

fn check(name: &str, dialect: Dialect, has_positions: bool) {
    let Some(messages) = messages(name) else { return };
    let mut decoder = Decoder::new(vec![FollowedTable::own("test", "feed_read")], None);
    for (line, expected) in messages {
        let (told, events) = read(&mut decoder, &line);
        assert_eq!((told, events.len()), (Some(dialect), 1), "{name}: {line:?}");
        let is_key_only = line.value_text().contains(r#""onlyHandleKey":true"#);
        let expected = match expected.split_once(" @") {
            Some((row, _)) if is_key_only => row,
            _ => expected,
        };
        assert_eq!(show(&events[0]), expected, "{name}");
        if has_positions && expected != "ignore bootstrap" {
            let position = events[0].position.as_ref().expect("a position").to_string();
            let is_whole = position.len() == 18 && line.value_text().contains(&position);
            assert!(is_whole, "{name}: {position}");
        }
    }
}

#[test]
fn canal_json() {
    check("ticdc-canal-json-plain", Dialect::CanalJson, false);
    for extension in ["", "-deletehandle", "-handlekeyonly", "-onlyupdated"] {
        check(&format!("ticdc-canal-json-tidbext{extension}"), Dialect::CanalJson, true);
    }
}

#[test]
fn simple() {
    check("ticdc-simple-json-bootstrap", Dialect::Simple, true);
    check("ticdc-simple-json-deletehandle", Dialect::Simple, true);
}

#[test]
fn debezium_flavour() {
    check("ticdc-debezium-noschema", Dialect::TicdcDebezium, true);
}

#[test]
fn maxwell_flavour() {
    check("ticdc-maxwell", Dialect::TicdcMaxwell, false);
}
