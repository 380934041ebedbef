//! What the store and the server read: the commit log of the embedded store, configurations, and histories in files.

use std::cell::RefCell;
use std::io::{Seek, SeekFrom, Write};

use seen_filter::{CommitStamp, Domain, FeedEvent, Item, Timeline, UnixMillis, UserId};
use seen_server::config::{ConfigError, Sources};
use seen_server::history_file::{Event, HistoryFile, write_line};
use tempfile::NamedTempFile;

use crate::{Target, take};

pub(crate) const COMMIT_LOG: Target = Target {
    name: "commit_log",
    run: commit_log,
    seeds: commits,
    memory_bytes: 4_096,
    memory_per_byte: 64,
};

pub(crate) const CONFIGURATION: Target = Target {
    name: "configuration",
    run: configuration,
    seeds: configurations,
    memory_bytes: 4 << 20,
    memory_per_byte: 4_096,
};

pub(crate) const HISTORY_FILE: Target = Target {
    name: "history_file",
    run: history_file,
    seeds: histories,
    // Read ahead, the window of a compressed file, and a batch of rows of a Parquet file.
    memory_bytes: 64 << 20,
    memory_per_byte: 4_096,
};

thread_local! {
    static FILE: RefCell<NamedTempFile> =
        RefCell::new(NamedTempFile::new().expect("a temporary file"));
}

/// Calls `with` with a file that holds these bytes.
pub(crate) fn in_file(bytes: &[u8], with: impl FnOnce(&std::path::Path)) {
    FILE.with_borrow_mut(|file| {
        let path = file.path().to_owned();
        let mut write = || {
            file.seek(SeekFrom::Start(0))?;
            file.write_all(bytes)?;
            file.as_file().set_len(bytes.len() as u64)
        };
        write().expect("a file that can be written");
        with(&path);
    });
}

/// A commit is read whole, each of its events with its stamp, or not at all.
fn commit_log(bytes: &[u8]) {
    let stamp = CommitStamp::new(Domain::new(0), Timeline::new(7), 42);
    let Some(events) = seen_store::sqlite::commit_events(bytes, stamp) else { return };
    for event in events {
        let (FeedEvent::Add { stamp: told, .. }
        | FeedEvent::Remove { stamp: told, .. }
        | FeedEvent::RemoveAll { stamp: told, .. }
        | FeedEvent::Forgotten { stamp: told, .. }
        | FeedEvent::Fence { stamp: told, .. }) = event
        else {
            panic!("{event:?} is none of a commit");
        };
        assert_eq!(told, stamp);
    }
}

fn commits() -> Vec<Vec<u8>> {
    let user = 9_u64.to_le_bytes();
    let add = [&[1, 1][..], &user, &2_u32.to_le_bytes(), &[5; 18]].concat();
    let forgotten = [&[3][..], &user, &[4], &user, &3_u32.to_le_bytes()].concat();
    let fence = [&[5][..], &user, &user].concat();
    vec![[&add[..], &forgotten, &fence].concat(), add]
}

/// A configuration is in range, or an error names the key and where it came from. The text up to a line of three
/// dashes is a file; each line behind it is a variable, if it begins as one, or a flag.
fn configuration(raw: &[u8]) {
    let Ok(text) = std::str::from_utf8(raw) else { return };
    let (file, rest) = text.split_once("\n---\n").unwrap_or((text, ""));
    let (mut variables, mut flags) = (Vec::new(), Vec::new());
    for line in rest.lines() {
        match line.split_once('=') {
            Some((name, value)) if name.starts_with("SEEN_") => {
                variables.push((name.to_owned(), value.to_owned()));
            }
            _ => flags.push(line.to_owned()),
        }
    }
    in_file(file.as_bytes(), |path| {
        let loaded = Sources { file: Some(path.to_owned()), variables, flags }.load();
        match loaded {
            Ok(effective) => {
                assert_eq!(effective.config.validate(), Ok(()));
                assert!(!effective.table().is_empty() && effective.json().is_object());
                // What is in range can be used.
                let _ = effective.config.mysql_options();
                effective.config.namespaces();
            }
            Err(error) => refused(&error),
        }
    });
}

fn refused(error: &ConfigError) {
    let text = error.to_string();
    match error {
        ConfigError::Invalid { key, message, .. } => {
            assert!(!key.is_empty() && !message.is_empty(), "{text}");
        }
        ConfigError::Unknown { key, .. } => assert!(text.contains(key.as_str()), "{text}"),
        ConfigError::OutOfRange { error, .. } => {
            assert!(!error.key.is_empty() && !error.allowed.is_empty(), "{text}");
        }
        ConfigError::Flag { text: flag } => assert!(!flag.contains('='), "{text}"),
        ConfigError::Unreadable { .. } => panic!("the file is there: {text}"),
    }
}

fn configurations() -> Vec<Vec<u8>> {
    let example = include_bytes!("../../../seen.example.toml").to_vec();
    let small = br#"[server]
threads = 2

[storage]
kind = "mysql"

[cache]
bytes_max = "4GiB"

[[namespace]]
name = "feed_read"
false_positive_rate = 0.02
---
SEEN_MYSQL__SHARDS=2
SEEN_NAMESPACE=[{name="push_sent"}]
feed.heartbeat=1s
"#;
    let commented = String::from_utf8_lossy(&example).replace("\n# ", "\n");
    vec![example, small.to_vec(), commented.into_bytes()]
}

/// Every event that is read is one that could have been written; reading again up to where it ended reads the same.
pub(crate) fn history_file(bytes: &[u8]) {
    let mut data = bytes;
    let [malformed_max] = take(&mut data);
    let mut events: Vec<Event> = Vec::new();
    in_file(data, |path| {
        let Ok(mut file) = HistoryFile::open(path, malformed_max.into()) else { return };
        let whole = loop {
            match file.next_event() {
                Ok(Some(event)) => events.push(event),
                Ok(None) => break true,
                Err(error) => {
                    assert!(!error.to_string().is_empty());
                    break false;
                }
            }
            // A few compressed bytes can be a great many lines.
            if events.len() >= 20_000 {
                break false;
            }
        };
        assert!(file.first_malformed().iter().all(|one| !one.what.is_empty() && one.line > 0));
        if whole {
            let mut again = HistoryFile::open(path, malformed_max.into()).expect("as before");
            let mut read = Vec::new();
            again.read_again(file.position(), |event| read.push(event)).expect("the same file");
            assert_eq!(read, events);
        }
        events.truncate(100);
    });
    in_file(&lines(&events), |path| {
        let mut again = HistoryFile::open(path, 0).expect("lines");
        for event in &events {
            assert_eq!(again.next_event().expect("a line"), Some(*event));
        }
    });
}

fn lines(events: &[Event]) -> Vec<u8> {
    let mut text = Vec::new();
    events.iter().for_each(|event| write_line(&mut text, event));
    text
}

fn histories() -> Vec<Vec<u8>> {
    let text = "user\titem\ttime\n1\t2\t1000129890\r\n\n# a comment\n3,4,255,1000129890123\n\
                \"5\", \"6\" ,0, 2001-09-10T13:51:30Z\n18446744073709551615\t0\t0\nwrong\n1\t2\t3.5\n";
    let packed = zstd::encode_all(text.as_bytes(), 1).unwrap_or_default();
    let event = Event { user: UserId::new(1), item: Item::new(2, 3), at: UnixMillis::new(4) };
    let mut line = vec![0];
    write_line(&mut line, &event);
    vec![[&[100], text.as_bytes()].concat(), [&[100], &packed[..]].concat(), line]
}
