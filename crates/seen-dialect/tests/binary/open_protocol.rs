//! TiCDC's open protocol.

use super::said::{decoder, positions, said};

/// A message of these keys and values.
pub fn message(events: &[(&str, &str)]) -> (Vec<u8>, Vec<u8>) {
    let (mut key, mut value) = (1_u64.to_be_bytes().to_vec(), Vec::new());
    for (one, row) in events {
        for (text, bytes) in [(one, &mut key), (row, &mut value)] {
            bytes.extend((text.len() as u64).to_be_bytes());
            bytes.extend(text.as_bytes());
        }
    }
    (key, value)
}

pub const ROW: &str = r#"{"ts":470606528793280517,"scm":"test","tbl":"feed_read","t":1}"#;
pub const INSERT: &str = r#"{"u":{"item_id":{"t":8,"h":true,"f":171,"v":18446744073709551615},
    "kind":{"t":1,"h":true,"f":171,"v":1},"marked_at_ms":{"t":8,"f":129,"v":7},
    "user_id":{"t":8,"h":true,"f":171,"v":9223372036854775808}}}"#;

fn of(events: &[(&str, &str)]) -> Vec<String> {
    let (key, value) = message(events);
    said(&mut decoder(), Some(&key), Some(&value))
}

/// A row with this value of one of its columns.
fn with(column: &str, value: &str) -> String {
    let mut row = format!(r#"{{"u":{{"{column}":{value}"#);
    for (name, number) in [("user_id", 5), ("kind", 1), ("item_id", 6)] {
        if name != column {
            row += &format!(r#","{name}":{{"t":8,"v":{number}}}"#);
        }
    }
    row + "}}"
}

#[test]
fn every_kind_of_event() {
    let moved = r#"{"u":{"user_id":{"t":8,"v":3},"kind":{"t":1,"v":1},"item_id":{"t":8,"v":2}},
        "p":{"user_id":{"t":8,"v":1}}}"#;
    let keys = r#"{"d":{"user_id":{"v":3},"kind":{"v":1},"item_id":{"v":2}}}"#;
    let none = r#"{"u":null,"p":null,"d":{"user_id":{"v":3},"kind":{"v":1},"item_id":{"v":2}}}"#;
    let other = r#"{"ts":1,"scm":"test","tbl":"other","t":1}"#;
    let ddl = r#"{"ts":1,"scm":"test","tbl":"feed_read","t":2}"#;
    let resolved = r#"{"ts":9,"t":3}"#;
    for (key, value, expected) in [
        (ROW, INSERT, vec!["upsert 9223372036854775808 1 18446744073709551615 7"]),
        (ROW, moved, vec!["delete 1 1 2", "upsert 3 1 2 ?"]),
        (ROW, keys, vec!["delete 3 1 2"]),
        (ROW, none, vec!["delete 3 1 2"]),
        (other, "not looked at", vec!["ignore other_table"]),
        (ddl, r#"{"q":"TRUNCATE TABLE feed_read","t":11}"#, vec!["truncate truncate"]),
        (ddl, r#"{"q":"DROP TABLE test.another","t":4}"#, vec!["ignore other_table"]),
        (resolved, "", vec!["watermark"]),
        (ROW, "{}", vec!["dirty partition record_damaged"]),
        (ROW, r#"{"u":{}}"#, vec!["dirty partition value_missing"]),
        (ROW, "", vec!["dirty partition record_damaged"]),
        (r#"{"ts":1,"t":9}"#, "", vec!["dirty partition record_damaged"]),
        (ddl, "{}", vec!["dirty partition record_damaged"]),
    ] {
        assert_eq!(of(&[(key, value)]), expected, "{key} {value}");
    }
}

#[test]
fn values_of_every_type() {
    for (column, value, expected) in [
        ("item_id", r#"{"t":15,"v":"18446744073709551615"}"#, "upsert 5 1 18446744073709551615 ?"),
        ("item_id", r#"{"t":252,"v":"MTIz"}"#, "upsert 5 1 123 ?"),
        ("item_id", r#"{"t":8,"v":-1}"#, "upsert 5 1 18446744073709551615 ?"),
        ("item_id", r#"{"t":5,"v":1.5}"#, "dirty user 5 value_rounded"),
        ("item_id", r#"{"t":252,"v":"?"}"#, "dirty user 5 value_type"),
        ("item_id", r#"{"t":8,"v":null}"#, "dirty user 5 value_null"),
        ("item_id", r#"{"t":8}"#, "dirty user 5 value_missing"),
        ("item_id", r#"{"t":8,"v":[1,{"a":2}]}"#, "dirty user 5 value_type"),
        ("user_id", r#"{"t":8,"v":1e30}"#, "dirty partition value_rounded"),
        ("kind", r#"{"t":1,"v":256}"#, "dirty user 5 kind_range"),
        ("marked_at_ms", r#"{"t":12,"v":"1970-01-01 00:00:01.5"}"#, "upsert 5 1 6 1500"),
        ("marked_at_ms", r#"{"t":8,"v":null}"#, "upsert 5 1 6 ?"),
        ("note", r#"{"t":15,"v":{"deep":[[[]]]}}"#, "upsert 5 1 6 ?"),
    ] {
        assert_eq!(of(&[(ROW, &with(column, value))]), [expected], "{column} {value}");
    }
    let twice = with("item_id", r#"{"t":8,"v":1},"item_id":{"t":8,"v":2}"#);
    assert_eq!(of(&[(ROW, &twice)]), ["dirty user 5 value_type"]);
}

#[test]
fn rows_too_large_for_a_message_hold_their_key() {
    for marker in [r#""ohk":true"#, r#""ccl":"2026/11/21/file.json""#] {
        let key = format!(r#"{{"ts":7,"scm":"test","tbl":"feed_read","t":1,{marker}}}"#);
        assert_eq!(of(&[(&key, &with("item_id", r#"{"v":8}"#))]), ["upsert 5 1 8 ?"]);
        // The key of this table is without the kind.
        let lacking = r#"{"u":{"user_id":{"v":5},"item_id":{"v":8}}}"#;
        assert_eq!(of(&[(&key, lacking)]), ["dirty user 5 value_missing"]);
    }
}

#[test]
fn one_unreadable_event_does_not_take_the_others_along() {
    let other = r#"{"ts":1,"scm":"test","tbl":"other","t":1}"#;
    let upsert = "upsert 9223372036854775808 1 18446744073709551615 7";
    let events = [(ROW, INSERT), (ROW, "{"), (other, "{}"), (ROW, INSERT)];
    assert_eq!(of(&events), [upsert, "dirty partition record_damaged", upsert]);
    let (key, value) = message(&[(ROW, INSERT), (ROW, INSERT)]);
    let cut = said(&mut decoder(), Some(&key), Some(&value[..value.len() - 1]));
    assert_eq!(cut, [upsert, "dirty partition record_damaged"]);
    let more = said(&mut decoder(), Some(&key), Some(&[&value[..], &[0; 8]].concat()));
    assert_eq!(more, [upsert, upsert, "dirty partition record_damaged"]);
    assert_eq!(said(&mut decoder(), Some(&key), None), ["dirty partition record_damaged"]);
    assert_eq!(positions(&mut decoder(), Some(&key), Some(&value)), [470_606_528_793_280_517; 2]);
}
