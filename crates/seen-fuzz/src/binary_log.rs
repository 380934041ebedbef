//! The binary log of MariaDB and MySQL, as the events of a change feed.

use std::collections::HashMap;

use seen_filter::{CommitStamp, Domain, FeedCursor, FeedEvent, GapScope, Timeline};
use seen_store::binlog::trial::{Trial, TrialLog};

use crate::{Target, take};

pub(crate) const BINARY_LOG: Target = Target {
    name: "binary_log",
    run: binary_log,
    seeds: logs,
    memory_bytes: 65_536,
    // A row of one byte is an event of some hundred, in lists that have just doubled, and so is what is remembered here.
    memory_per_byte: 1_024,
};

/// The events of a log, one after the other: a type, flags, a length of two bytes, and as many bytes.
fn events(mut data: &[u8]) -> Vec<(u8, u8, &[u8])> {
    let mut events = Vec::new();
    while !data.is_empty() {
        let [kind, flags, low, high] = take(&mut data);
        let length = usize::from(u16::from_le_bytes([low, high])).min(data.len());
        let (event, rest) = data.split_at(length);
        events.push((kind, flags, event));
        data = rest;
    }
    events
}

/// What is told goes on where the last left off: places never go back, and of a commit that is complete nothing is told any
/// more (rule R6), unless a gap comes first. The same log says the same to whoever reads it anew, and of one that is read again from its beginning nothing
/// is told twice.
fn binary_log(mut data: &[u8]) {
    let [how] = take(&mut data);
    let log = if how & 1 == 0 { TrialLog::MariaDb } else { TrialLog::MySql };
    let events = events(data);
    let read = |trial: &mut Trial| {
        let mut told = Vec::new();
        for (kind, flags, event) in &events {
            let server = u32::from(flags >> 1);
            let taken = trial.take(*kind, flags & 1 == 1, server, event);
            told.append(&mut trial.told());
            if flags & 128 != 0 {
                trial.idle();
                told.append(&mut trial.told());
            }
            if let Err(why) = taken {
                assert!(!why.is_empty());
                break;
            }
        }
        told
    };
    let mut trial = Trial::new(log, how & 2 == 2);
    let told = read(&mut trial);
    in_order(&told);
    if log == TrialLog::MariaDb {
        // A reader of MySQL's may count by itself, each in a numbering of its own.
        assert_eq!(read(&mut Trial::new(log, how & 2 == 2)), told);
        trial.reconnect();
        let again = read(&mut trial);
        in_order(&[told, again].concat());
    }
}

fn in_order(told: &[(FeedEvent, FeedCursor)]) {
    let mut last = FeedCursor::default();
    let mut complete: HashMap<(Domain, Timeline), u64> = HashMap::new();
    for (event, cursor) in told {
        if let FeedEvent::Gap { scope, reason } = event {
            assert!(!reason.is_empty());
            // What is numbered by another server may have come by already, before that one numbered the rest.
            if *scope == GapScope::Partition {
                complete.clear();
            }
        }
        if let Some(stamp) = event.stamp() {
            let CommitStamp { domain, timeline, position } = stamp;
            let known = complete.entry((domain, timeline)).or_default();
            assert!(position > *known, "{event:?} of a commit that was complete");
            if matches!(event, FeedEvent::Complete { .. }) {
                *known = position;
            }
        }
        let goes_on = cursor.timeline != last.timeline || cursor.offset >= last.offset;
        assert!(goes_on, "{event:?}: back from {last:?} to {cursor:?}");
        last = *cursor;
    }
}

fn event(log: &mut Vec<u8>, kind: u8, data: &[u8]) {
    log.extend([kind, 2]);
    log.extend((data.len() as u16).to_le_bytes());
    log.extend(data);
}

/// A transaction of MariaDB's begins.
fn gtid(log: &mut Vec<u8>, number: u64, flags: u8) {
    event(log, 162, &[&number.to_le_bytes()[..], &[0, 0, 0, 0, flags, 0, 0, 0, 0, 0, 0]].concat());
}

/// One of MySQL's.
fn numbered(log: &mut Vec<u8>, source: u8, number: u64) {
    event(log, 33, &[&[0][..], &[source; 16], &number.to_le_bytes(), &[2; 17]].concat());
}

/// `app.history_feed (user_id BIGINT UNSIGNED, kind TINYINT UNSIGNED, item_id BIGINT UNSIGNED)`.
fn table(log: &mut Vec<u8>) {
    let columns = b"\x03\x08\x01\x08\0\0\x01\x01\xe0\x04\x15\x07user_id\x04kind\x07item_id";
    event(log, 19, &[b"\x01\0\0\0\0\0\x01\0\x03app\0\x0chistory_feed\0", &columns[..]].concat());
}

/// `app.seen_control`, of four numbers of eight bytes.
fn control(log: &mut Vec<u8>) {
    let columns =
        b"\x04\x08\x08\x08\x08\0\0\x01\x01\xf0\x04\x1f\x07user_id\x09namespace\x06writer\x03seq";
    let length = [b"\x07user_id\x09namespace\x06writer\x03seq".len() as u8];
    let columns = [&columns[..11], &length, &columns[12..]].concat();
    event(log, 19, &[b"\x02\0\0\0\0\0\x01\0\x03app\0\x0cseen_control\0", &columns[..]].concat());
}

fn rows(log: &mut Vec<u8>, kind: u8, images: impl IntoIterator<Item = (u64, u64)>) {
    let mut data = b"\x01\0\0\0\0\0\x01\0".to_vec();
    if kind >= 30 {
        data.extend([2, 0]);
    }
    data.extend([3, 7]);
    if matches!(kind, 24 | 31) {
        data.push(7);
    }
    for (user, item) in images {
        data.push(0xf8);
        data.extend(user.to_le_bytes());
        data.push(1);
        data.extend(item.to_le_bytes());
    }
    event(log, kind, &data);
}

fn fence(log: &mut Vec<u8>, writer: u64, seq: u64) {
    let mut data = b"\x02\0\0\0\0\0\x01\0\x04\x0f\xf0".to_vec();
    [1, 9, writer, seq].iter().for_each(|number: &u64| data.extend(number.to_le_bytes()));
    event(log, 23, &data);
}

fn statement(log: &mut Vec<u8>, text: &str) {
    event(log, 2, &[b"\0\0\0\0\0\0\0\0\x03\0\0\0\0app\0", text.as_bytes()].concat());
}

fn logs() -> Vec<Vec<u8>> {
    let mut mariadb = vec![0];
    gtid(&mut mariadb, 1, 0);
    table(&mut mariadb);
    rows(&mut mariadb, 23, [(7, 1), (7, 2), (8, u64::MAX)]);
    event(&mut mariadb, 16, &[0; 8]);
    gtid(&mut mariadb, 2, 0);
    control(&mut mariadb);
    fence(&mut mariadb, 5, 1);
    fence(&mut mariadb, 0, 1);
    event(&mut mariadb, 16, &[0; 8]);
    gtid(&mut mariadb, 3, 1);
    statement(&mut mariadb, "DROP TABLE elsewhere");
    gtid(&mut mariadb, 4, 1);
    statement(&mut mariadb, "/* why */ TRUNCATE `history_feed`");
    gtid(&mut mariadb, 6, 0);
    table(&mut mariadb);
    rows(&mut mariadb, 25, [(7, 1)]);
    rows(&mut mariadb, 24, [(7, 2), (9, 2)]);
    statement(&mut mariadb, "COMMIT");
    let mut mysql = vec![3];
    for (number, kind) in [(1, 30), (2, 31), (3, 32), (5, 30), (4, 32)] {
        numbered(&mut mysql, 7, number);
        statement(&mut mysql, "BEGIN");
        table(&mut mysql);
        rows(&mut mysql, kind, [(number, 1), (number, 2)]);
        event(&mut mysql, 16, &[0; 8]);
    }
    numbered(&mut mysql, 8, 100);
    statement(&mut mysql, "ROLLBACK");
    let mut prepared = vec![0];
    gtid(&mut prepared, 1, 64);
    table(&mut prepared);
    rows(&mut prepared, 23, [(7, 1)]);
    event(&mut prepared, 38, &[0; 20]);
    gtid(&mut prepared, 2, 1);
    statement(&mut prepared, "XA ROLLBACK X'01',X'',1");
    let mut odd = vec![1];
    for kind in [40, 162, 42, 26, 20, 172, 165, 18, 39] {
        event(&mut odd, kind, &[0; 24]);
    }
    vec![mariadb, mysql, prepared, odd]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_seeds_say_what_they_are_made_to_say() {
        let count = |seed: &[u8], is: fn(&FeedEvent) -> bool| {
            let log = if seed[0] & 1 == 0 { TrialLog::MariaDb } else { TrialLog::MySql };
            let mut trial = Trial::new(log, false);
            for (kind, flags, event) in events(&seed[1..]) {
                trial.take(kind, false, u32::from(flags >> 1), event).expect("a log");
            }
            trial.idle();
            trial.told().iter().filter(|(event, _)| is(event)).count()
        };
        let seeds = logs();
        let is_add = |event: &FeedEvent| matches!(event, FeedEvent::Add { .. });
        let is_complete = |event: &FeedEvent| matches!(event, FeedEvent::Complete { .. });
        assert_eq!((count(&seeds[0], is_add), count(&seeds[0], is_complete)), (4, 5));
        let is_control = |event: &FeedEvent| {
            matches!(event, FeedEvent::Fence { .. } | FeedEvent::Forgotten { .. })
        };
        assert_eq!(count(&seeds[0], is_control), 2);
        assert_eq!((count(&seeds[1], is_add), count(&seeds[1], is_complete)), (5, 6));
        assert_eq!((count(&seeds[2], is_add), count(&seeds[2], is_complete)), (1, 2));
    }
}
