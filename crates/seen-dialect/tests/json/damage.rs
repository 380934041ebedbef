//! Damaged records: cut, with bytes changed, mixed with others.
//!
//! The promise about a row's record in which one byte is another (times and positions apart, which only
//! make a reader more careful): it says what it said, or it raises a doubt, or the byte lies within a
//! value and what it says is still about rows. Only a damaged name of a database or table may make it
//! say nothing.

use proptest::prelude::*;
use seen_dialect::{Event, What};
use serde_json::Value;

use crate::recorded::{Line, decoder, lines, read, show};

const FILES: [&str; 9] = [
    "canal-flat",
    "debezium-mariadb-long",
    "debezium-mariadb-long-heartbeat-txn",
    "debezium-mariadb-long-schemas",
    "debezium-mariadb-long-unwrap",
    "debezium-mariadb-precise",
    "debezium-mariadb-precise-numeric",
    "debezium-mysql-on-mariadb",
    "maxwell",
];

/// Records of TiCDC's forms, for which there is no file.
fn ticdc() -> Vec<Line> {
    let row = r#"{"user_id":"42","kind":"1","item_id":"18446744073709551615","marked_at_ms":"5"}"#;
    let old = r#"{"user_id":"42","kind":"1","item_id":"7","marked_at_ms":"4"}"#;
    let numbers = r#"{"item_id":-1,"kind":1,"marked_at_ms":5,"user_id":42}"#;
    let values = [
        format!(
            r#"{{"id":0,"database":"db","table":"feed_read","pkNames":["user_id"],"isDdl":false,"type":"UPDATE","es":1,"ts":2,"sql":"","old":[{old}],"data":[{row}],"_tidb":{{"commitTs":470606528793018371}}}}"#
        ),
        format!(
            r#"{{"version":1,"database":"db","table":"feed_read","tableID":110,"type":"UPDATE","commitTs":470606528793280513,"buildTs":1795221438652,"schemaVersion":470606528790921217,"data":{row},"old":{old}}}"#
        ),
        format!(
            r#"{{"version":1,"database":"db","table":"feed_read","tableID":110,"type":"DELETE","commitTs":470606528793280513,"buildTs":1795221438652,"old":{old}}}"#
        ),
        format!(
            r#"{{"database":"db","table":"feed_read","type":"delete","ts":1,"old":{numbers}}}"#
        ),
        format!(
            r#"{{"payload":{{"source":{{"connector":"TiCDC","db":"db","table":"feed_read","commit_ts":470606528793542664}},"op":"d","after":null,"before":{numbers}}}}}"#
        ),
    ];
    values.iter().map(|value| Line::new("ticdc", None, value)).collect()
}

/// A line of each step of a file that says something about rows of the followed table.
fn rows_of(file: &str) -> Vec<Line> {
    let is_row = |event: &Event| matches!(event.what, What::Upsert { .. } | What::Delete { .. });
    let mut seen = Vec::new();
    lines(file)
        .into_iter()
        .filter(|line| {
            let shape: Vec<_> = events(line).iter().map(|event| event.what.name()).collect();
            let is_new = events(line).iter().any(is_row) && !seen.contains(&shape);
            if is_new {
                seen.push(shape);
            }
            is_new
        })
        .collect()
}

fn events(line: &Line) -> Vec<Event> {
    read(&mut decoder(), line).1
}

/// What is said of rows: times and positions apart.
fn said(line: &Line) -> Vec<String> {
    let plain = |event: &Event| {
        let text = show(event);
        text.split_once(" @").map_or(text.clone(), |(row, _)| row.to_owned())
    };
    events(line).iter().map(plain).collect()
}

fn is_doubt(events: &[Event]) -> bool {
    events.iter().any(|event| matches!(event.what, What::Dirty(_)))
}

/// The path of the only value in which two texts of the same form differ.
fn changed_value(one: &Value, other: &Value, path: &str) -> Option<String> {
    match (one, other) {
        (Value::Object(one), Value::Object(other)) => {
            let is_same_form =
                one.len() == other.len() && one.keys().all(|name| other.contains_key(name));
            let changed = |(name, value): (&String, &Value)| {
                (other[name] != *value).then(|| changed_value(value, &other[name], name))?
            };
            is_same_form.then(|| one.iter().find_map(changed))?
        }
        (Value::Array(one), Value::Array(other)) => {
            let mut pairs = one.iter().zip(other);
            (one.len() == other.len())
                .then(|| pairs.find_map(|(one, other)| changed_value(one, other, path)))?
        }
        (Value::Object(_) | Value::Array(_), _) | (_, Value::Object(_) | Value::Array(_)) => None,
        _ => Some(path.to_owned()),
    }
}

/// Checks the promise for one damaged record.
fn check(whole: &Line, damaged: &Line) {
    let now = events(damaged);
    if is_doubt(&now) || said(damaged) == said(whole) {
        return;
    }
    let read = |line: &Line| serde_json::from_slice::<Value>(line.value.as_deref()?).ok();
    let path = read(whole)
        .zip(read(damaged))
        .and_then(|(whole, damaged)| changed_value(&whole, &damaged, ""));
    let Some(path) = path else {
        panic!("{:?} became {now:?}: {}", said(whole), damaged.value_text())
    };
    let is_name = matches!(path.as_str(), "db" | "database" | "table");
    let says_something = now.iter().all(|event| event.what != What::Ignore);
    assert!(is_name || says_something, "{path}: {now:?}: {}", damaged.value_text());
}

fn check_every_byte(whole: &Line) {
    const BYTES: &[u8] = b"\"\\{}[]:,. 019-+eAacdmrtux_n/=\n\0\x7f\xff";
    let value = whole.value.as_deref().expect("a value");
    for (at, was) in value.iter().enumerate() {
        for byte in BYTES.iter().chain(&[was ^ 1, was ^ 0x20]) {
            let mut damaged = whole.clone();
            damaged.value.as_mut().expect("a value")[at] = *byte;
            check(whole, &damaged);
        }
    }
}

#[test]
fn no_single_byte_silences_a_row() {
    let mut checked = 0;
    for file in FILES {
        for line in rows_of(file) {
            check_every_byte(&line);
            checked += 1;
        }
    }
    for line in ticdc() {
        check_every_byte(&line);
        checked += 1;
    }
    assert!(checked >= 30, "{checked}");
}

#[test]
fn no_cut_silences_a_row() {
    for line in FILES.into_iter().flat_map(rows_of).chain(ticdc()) {
        let value = line.value.clone().expect("a value");
        for end in 0..value.len() {
            let cut = Line { value: Some(value[..end].to_vec()), ..line.clone() };
            assert!(is_doubt(&events(&cut)), "{}", cut.value_text());
        }
    }
}

/// What is done to a record.
#[derive(Clone, Debug)]
enum Damage {
    /// Bytes are replaced.
    Bytes(Vec<(prop::sample::Index, u8)>),
    /// The end is missing.
    Cut(prop::sample::Index),
    /// A part is replaced by a part of another record.
    Mixed(Vec<prop::sample::Index>),
    /// Another record's key.
    Key,
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<prop::sample::Index>;
    prop_oneof![
        prop::collection::vec((at(), any::<u8>()), 1..8).prop_map(Damage::Bytes),
        at().prop_map(Damage::Cut),
        prop::collection::vec(at(), 4).prop_map(Damage::Mixed),
        Just(Damage::Key),
    ]
}

fn damaged(line: &Line, other: &Line, damage: &Damage) -> Line {
    let mut line = line.clone();
    let mut value = line.value.take().unwrap_or_default();
    let theirs = other.value.clone().unwrap_or_default();
    match damage {
        Damage::Bytes(changes) => {
            for (at, byte) in changes {
                if !value.is_empty() {
                    let at = at.index(value.len());
                    value[at] = *byte;
                }
            }
        }
        Damage::Cut(at) => value.truncate(at.index(value.len() + 1)),
        Damage::Mixed(at) => {
            let range = |one: usize, other: usize, length: usize| {
                let (one, other) = (at[one].index(length + 1), at[other].index(length + 1));
                one.min(other)..one.max(other)
            };
            let part = theirs[range(2, 3, theirs.len())].to_vec();
            value.splice(range(0, 1, value.len()), part);
        }
        Damage::Key => line.key.clone_from(&other.key),
    }
    Line { value: Some(value), ..line }
}

thread_local! {
    static ALL: Vec<Line> = FILES.into_iter().flat_map(lines).chain(ticdc()).collect();
    static ROWS: Vec<Line> = FILES.into_iter().flat_map(rows_of).chain(ticdc()).collect();
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, ..ProptestConfig::default() })]

    #[test]
    fn every_record_says_something(
        line: prop::sample::Index,
        other: prop::sample::Index,
        damages in prop::collection::vec(damage(), 1..4),
    ) {
        ALL.with(|all| {
            let other = line_of(all, &other);
            let mut line = line_of(all, &line).clone();
            for damage in &damages {
                line = damaged(&line, other, damage);
                // Asserts that there is an event.
                events(&line);
            }
        });
    }

    #[test]
    fn any_byte_of_a_row_keeps_the_promise(
        line: prop::sample::Index,
        at: prop::sample::Index,
        byte: u8,
    ) {
        ROWS.with(|rows| {
            let whole = line_of(rows, &line);
            let damage = Damage::Bytes(vec![(at, byte)]);
            check(whole, &damaged(whole, whole, &damage));
        });
    }

    #[test]
    fn any_bytes_at_all_are_no_harm(value: Vec<u8>, key: Option<Vec<u8>>) {
        events(&Line { key, value: Some(value), ..Line::default() });
    }
}

fn line_of<'a>(lines: &'a [Line], at: &prop::sample::Index) -> &'a Line {
    &lines[at.index(lines.len())]
}
