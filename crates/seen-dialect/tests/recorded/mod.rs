//! Recorded records, and events as short texts.

use std::fs;
use std::path::PathBuf;

use seen_dialect::{Decoder, Dialect, Event, FollowedTable, Record, Scope, What};
use serde_json::Value;

/// A record of a file.
#[derive(Clone, Debug, Default)]
pub struct Line {
    pub topic: String,
    pub partition: i32,
    pub offset: i64,
    pub key: Option<Vec<u8>>,
    pub value: Option<Vec<u8>>,
}

impl Line {
    pub fn new(topic: &str, key: Option<&str>, value: &str) -> Self {
        let bytes = |text: &str| text.as_bytes().to_vec();
        let (key, value) = (key.map(bytes), Some(bytes(value)));
        Self { topic: topic.to_owned(), key, value, ..Self::default() }
    }

    pub fn record(&self) -> Record<'_> {
        Record {
            topic: &self.topic,
            partition: self.partition,
            offset: self.offset,
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            ..Record::default()
        }
    }

    pub fn value_text(&self) -> &str {
        std::str::from_utf8(self.value.as_deref().unwrap_or_default()).expect("a text")
    }
}

fn golden(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

/// The records of a file.
pub fn lines(name: &str) -> Vec<Line> {
    let packed = fs::File::open(golden(&format!("{name}.jsonl.zst"))).expect("a recorded file");
    let text = zstd::decode_all(packed).expect("packed records");
    let text = String::from_utf8(text).expect("a text");
    let read = |line: &str| {
        let line: Value = serde_json::from_str(line).expect("a line");
        let bytes = |name: &str| line[name].as_str().map(|text| text.as_bytes().to_vec());
        Line {
            topic: line["topic"].as_str().expect("a topic").to_owned(),
            partition: i32::try_from(line["partition"].as_i64().expect("a number")).expect("small"),
            offset: line["offset"].as_i64().expect("a number"),
            key: bytes("key"),
            value: bytes("value"),
        }
    };
    text.lines().map(read).collect()
}

/// The lines that belong to each of the twenty steps, as a range of indices. Where a producer had to be
/// asked for its snapshot, that was a step of its own after the first, which gave no lines.
pub fn steps(name: &str) -> Vec<Option<std::ops::Range<usize>>> {
    let text = fs::read_to_string(golden(&format!("{name}.steps.jsonl"))).expect("a file of steps");
    let read = |line: &str| {
        let line: Value = serde_json::from_str(line).expect("a step");
        let at = |place: usize| usize::try_from(line["lines"][place].as_u64()?).ok();
        Some(at(0)? - 1..at(1)?)
    };
    let mut steps: Vec<_> = text.lines().map(read).collect();
    if steps.len() == 21 {
        assert_eq!(steps.remove(0), None);
    }
    steps
}

/// A decoder of the table that the recorded files are about.
pub fn decoder() -> Decoder {
    Decoder::new(vec![FollowedTable::own("db", "feed_read")], None)
}

/// What a decoder makes of a record.
pub fn read(decoder: &mut Decoder, line: &Line) -> (Option<Dialect>, Vec<Event>) {
    let mut events = Vec::new();
    let dialect = decoder.decode(&line.record(), &mut events);
    assert!(!events.is_empty(), "nothing for {line:?}");
    (dialect, events)
}

/// The same as texts, by a decoder that has seen nothing else.
pub fn told(line: &Line) -> Vec<String> {
    read(&mut decoder(), line).1.iter().map(show).collect()
}

/// `upsert 3 0:30 @1700000000010`, `dirty user 3 before_unknown`, `ignore tombstone`.
pub fn show(event: &Event) -> String {
    let name = event.what.name();
    let reason = event.reason.unwrap_or("-");
    match event.what {
        What::Upsert { user, item, marked_at_ms: Some(time) } => {
            format!("{name} {user} {item} @{time}")
        }
        What::Upsert { user, item, marked_at_ms: None } | What::Delete { user, item } => {
            format!("{name} {user} {item}")
        }
        What::Control(row) => {
            format!("{name} {} {} {} {}", row.user, row.namespace, row.writer, row.seq)
        }
        What::Dirty(Scope::User(user)) => format!("{name} user {user} {reason}"),
        What::Dirty(Scope::Partition) => format!("{name} partition {reason}"),
        What::Dirty(Scope::Table) => format!("{name} table {reason}"),
        _ => format!("{name} {reason}"),
    }
}
