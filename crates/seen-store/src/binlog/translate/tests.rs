use seen_filter::{Timeline, UserId};

use super::super::gtid::GtidSet;
use super::super::meaning::tests::subject;
use super::*;

const GTID: u8 = 162;
const TABLE: u8 = 19;
const INSERT: u8 = 23;
const XID: u8 = 16;
const QUERY: u8 = 2;

fn translator() -> Translator {
    let place = Place::after(Timeline::new(1), 0, LogPlace::After(None));
    Translator::new(subject(), place)
}

fn gtid(seq: u64, flags: u8) -> Vec<u8> {
    let mut data = seq.to_le_bytes().to_vec();
    data.extend([0, 0, 0, 0, flags, 0, 0, 0, 0, 0, 0]);
    data
}

/// `app.history_feed (user_id BIGINT UNSIGNED, kind TINYINT UNSIGNED, item_id BIGINT UNSIGNED)`.
fn table() -> Vec<u8> {
    b"\x01\0\0\0\0\0\x01\0\x03app\0\x0chistory_feed\0\x03\x08\x01\x08\0\0\x01\x01\xe0\x04\x15\x07user_id\
      \x04kind\x07item_id"
        .to_vec()
}

fn rows(items: impl IntoIterator<Item = u64>) -> Vec<u8> {
    let mut data = b"\x01\0\0\0\0\0\x01\0\x03\x07".to_vec();
    for item in items {
        data.push(0xf8);
        data.extend(7_u64.to_le_bytes());
        data.push(1);
        data.extend(item.to_le_bytes());
    }
    data
}

fn query(text: &str) -> Vec<u8> {
    let mut data = b"\0\0\0\0\0\0\0\0\x03\0\0\0\0app\0".to_vec();
    data.extend(text.as_bytes());
    data
}

fn take(translator: &mut Translator, event_type: u8, data: &[u8]) -> Result<(), Stop> {
    translator.take(LogEvent { event_type, is_ignorable: false, server: 1, data })
}

/// Takes events that must be fine; what they say, as short texts.
fn told(translator: &mut Translator, events: &[(u8, Vec<u8>)]) -> Vec<String> {
    for (event_type, data) in events {
        assert_eq!(take(translator, *event_type, data), Ok(()));
    }
    let out = std::mem::take(&mut translator.out);
    out.iter()
        .map(|(event, after)| {
            let at = format!("{}.{}", after.offset >> 20, after.offset & 0xf_ffff);
            match event {
                FeedEvent::Add { user, item, .. } => format!("+{user}/{item} {at}"),
                FeedEvent::Complete { stamp } => format!("complete {} {at}", stamp.position),
                FeedEvent::Gap { reason, .. } => format!("? {reason} {at}"),
                other => format!("{other:?}"),
            }
        })
        .collect()
}

#[test]
fn a_transaction_told_in_part_goes_on_after_a_new_connection() {
    let mut translator = translator();
    let begin = [(GTID, gtid(1, 0)), (TABLE, table()), (INSERT, rows(1..4))];
    let first = told(&mut translator, &begin);
    assert_eq!(first, ["+7/1:1 1.1", "+7/1:2 1.2", "+7/1:3 1.3"]);
    translator.restart();
    assert_eq!(told(&mut translator, &begin), Vec::<String>::new());
    let rest = told(&mut translator, &[(INSERT, rows(4..5)), (XID, vec![0; 8])]);
    assert_eq!(rest, ["+7/1:4 1.4", "complete 1 2.0"]);
}

#[test]
fn what_lies_before_the_cursor_is_passed_over() {
    let cursor = FeedCursor { timeline: Timeline::new(1), offset: 3 << 20 | 1 };
    let mut translator = Translator::new(subject(), Place::of(cursor, LogPlace::ByNumber));
    let events = [
        (GTID, gtid(1, 0)),
        (TABLE, table()),
        (INSERT, rows(0..3)),
        (XID, vec![0; 8]),
        (GTID, gtid(2, 1)),
        (QUERY, query("TRUNCATE history_feed")),
        (GTID, gtid(3, 0)),
        (TABLE, table()),
        (INSERT, rows(10..12)),
        (XID, vec![0; 8]),
    ];
    assert_eq!(told(&mut translator, &events), ["+7/1:11 3.2", "complete 3 4.0"]);
    // The transaction that the cursor points into is not there any more.
    let mut translator = Translator::new(subject(), Place::of(cursor, LogPlace::ByNumber));
    assert_eq!(take(&mut translator, GTID, &gtid(4, 0)), Err(Stop::Rewound));
}

#[test]
fn numbers_that_come_again_are_another_history() {
    let mut translator = translator();
    told(&mut translator, &[(GTID, gtid(5, 0)), (XID, vec![0; 8])]);
    assert_eq!(take(&mut translator, GTID, &gtid(5, 0)), Err(Stop::Rewound));
    let mut other = gtid(6, 0);
    other[8] = 3;
    assert!(matches!(take(&mut translator, GTID, &other), Err(Stop::Refused(_))));
}

/// A place that has no room for it would point anywhere.
#[test]
fn a_number_beyond_all_places_is_refused() {
    let mut translator = translator();
    let last = (1 << 44) - 2;
    let events = [(GTID, gtid(last, 0)), (TABLE, table()), (INSERT, rows(1..2)), (XID, vec![0; 8])];
    let told = told(&mut translator, &events);
    assert_eq!(told[1], format!("complete {last} {}.0", last + 1));
    let Err(Stop::Refused(why)) = take(&mut translator, GTID, &gtid(last + 1, 0)) else {
        panic!("it was taken")
    };
    assert!(why.contains(&(last + 1).to_string()) && why.contains(&last.to_string()));
}

#[test]
fn foreign_transactions_wait_and_the_last_speaks_for_all() {
    let mut translator = translator();
    let foreign = [
        (GTID, gtid(1, 0)),
        (XID, vec![0; 8]),
        (GTID, gtid(2, 1)),
        (QUERY, query("DROP TABLE elsewhere")),
        (GTID, gtid(3, 0)),
        (QUERY, query("COMMIT")),
    ];
    assert_eq!(told(&mut translator, &foreign), Vec::<String>::new());
    assert!(translator.has_quiet() && !translator.is_within());
    let own = [(GTID, gtid(4, 0)), (TABLE, table()), (INSERT, rows(1..2)), (XID, vec![0; 8])];
    assert_eq!(told(&mut translator, &own), ["complete 3 4.0", "+7/1:1 4.1", "complete 4 5.0"]);
    assert!(!translator.has_quiet());
}

#[test]
fn what_is_not_understood_is_a_doubt() {
    for (event_type, data, reason) in [
        (26, vec![1, 0], "incident"),
        (20, vec![], "old_rows"),
        (172, vec![], "unknown_event"),
        (INSERT, rows(1..2), "table_unknown"),
        (TABLE, table()[..20].to_vec(), "table_damaged"),
        (QUERY, vec![0; 3], "statement_damaged"),
        (18, b"LOAD DATA INFILE 'x' INTO TABLE history_feed".to_vec(), "statement_format"),
    ] {
        let mut translator = translator();
        let events = [(GTID, gtid(1, 0)), (event_type, data), (XID, vec![0; 8])];
        let expected = [format!("? {reason} 1.1"), "complete 1 2.0".to_owned()];
        assert_eq!(told(&mut translator, &events), expected);
    }
    let mut translator = translator();
    let ignorable = LogEvent { event_type: 172, is_ignorable: true, server: 1, data: &[] };
    assert_eq!((translator.take(ignorable), translator.out.len()), (Ok(()), 0));
}

#[test]
fn rows_that_were_cut_or_rolled_back_are_doubts() {
    let mut translator = translator();
    let mut cut = rows(1..3);
    cut.truncate(cut.len() - 1);
    let events = [(GTID, gtid(1, 0)), (TABLE, table()), (INSERT, cut), (XID, vec![0; 8])];
    let expected = ["+7/1:1 1.1", "? row_damaged 1.2", "complete 1 2.0"];
    assert_eq!(told(&mut translator, &events), expected);
    let undone = query("ROLLBACK");
    let events = [(GTID, gtid(2, 0)), (TABLE, table()), (INSERT, rows(1..2)), (QUERY, undone)];
    let expected = ["+7/1:1 2.1", "? rolled_back 2.2", "complete 2 3.0"];
    assert_eq!(told(&mut translator, &events), expected);
}

const MYSQL_GTID: u8 = 33;

/// A reader of MySQL's log that has told these numbers of its source.
fn mysql(told: &[(u64, u64)]) -> Translator {
    let source = SourceId([5; 16]);
    let set = GtidSet([(source, told.to_vec())].into());
    let newest = set.newest(source);
    Translator::new(subject(), Place::after(Timeline::new(1), newest, LogPlace::Set(set, source)))
}

fn mysql_gtid(number: u64) -> (u8, Vec<u8>) {
    let mut data = vec![0];
    data.extend([5; 16]);
    data.extend(number.to_le_bytes());
    (MYSQL_GTID, data)
}

/// A transaction of one added item.
fn mysql_add(number: u64, item: u64) -> Vec<(u8, Vec<u8>)> {
    let begin = (QUERY, query("BEGIN"));
    let row = (INSERT, rows([item]));
    vec![mysql_gtid(number), begin, (TABLE, table()), row, (XID, vec![0; 8])]
}

#[test]
fn a_compressed_transaction_that_was_not_unpacked_is_a_doubt() {
    let mut translator = mysql(&[]);
    let events = [mysql_gtid(1), (40, vec![1, 2]), mysql_gtid(2)];
    assert_eq!(told(&mut translator, &events), ["? compressed 1.1", "complete 1 2.0"]);
    let unpacked = [(40, vec![1, 2]), (QUERY, query("BEGIN")), (TABLE, table())];
    assert_eq!(told(&mut translator, &unpacked), Vec::<String>::new());
    let rest = told(&mut translator, &[(INSERT, rows(1..2)), (XID, vec![0; 8])]);
    assert_eq!(rest, ["+7/1:1 2.1", "complete 2 3.0"]);
}

/// One doubt, and from then on the transactions are counted as they come.
#[test]
fn numbers_without_an_order_are_one_doubt_and_counted() {
    let mut translator = mysql(&[(1, 4), (5, 6)]);
    let before = translator.place.timeline;
    // On a new connection the server sends what is missing, which is no repetition.
    let expected = ["? numbers_skipped 1.0", "+7/1:9 1.1", "complete 1 2.0"];
    assert_eq!(told(&mut translator, &mysql_add(4, 9)), expected);
    assert_ne!(translator.place.timeline, before);
    let expected = ["+7/1:1 2.1", "complete 2 3.0"];
    assert_eq!(told(&mut translator, &mysql_add(6, 1)), expected);
    // On the same connection, in front of what has been told.
    assert_eq!(told(&mut translator, &mysql_add(8, 2)), ["+7/1:2 3.1", "complete 3 4.0"]);
    assert_eq!(told(&mut translator, &mysql_add(7, 3)), ["+7/1:3 4.1", "complete 4 5.0"]);
    assert_eq!(told(&mut translator, &mysql_add(9, 4)), ["+7/1:4 5.1", "complete 5 6.0"]);
    // Members of a group number from blocks of their own, far apart.
    for (number, item) in [(1_000_001, 5), (11, 6), (1_000_002, 7), (12, 8)] {
        let at = translator.place.own_count.map_or(0, |own| own.told) + 1;
        let expected = [format!("+7/1:{item} {at}.1"), format!("complete {at} {}.0", at + 1)];
        assert_eq!(told(&mut translator, &mysql_add(number, item)), expected);
    }
    let foreign = [mysql_gtid(13), (QUERY, query("BEGIN")), (XID, vec![0; 8])];
    assert_eq!(told(&mut translator, &foreign), Vec::<String>::new());
    let LogPlace::Set(set, source) = &translator.place.log else { panic!("a set") };
    let mut ranges = set.0[source].clone();
    ranges.sort_unstable();
    let has = |number| ranges.iter().any(|(first, end)| (*first..*end).contains(&number));
    assert!((1..=13).all(|number| has(number) == (number != 10)), "{ranges:?}");
    // What has been told comes again: another history.
    let (event_type, data) = mysql_gtid(7);
    assert_eq!(take(&mut translator, event_type, &data), Err(Stop::Rewound));
}

/// Numbers of another source are covered by none of its later ones, as long as some are missing.
#[test]
fn another_source_with_holes_has_no_order() {
    let of = |number: u64, source: u8| {
        let (event_type, mut data) = mysql_gtid(number);
        data[1..17].fill(source);
        let begin = (event_type, data);
        [vec![begin], mysql_add(number, number)[1..].to_vec()].concat()
    };
    let timeline = |source| mysql_timeline(0, SourceId([source; 16]), 0);
    let mut translator = mysql(&[(1, 4)]);
    let expected = ["? source_changed 1.0", "+7/1:1 1.1", "complete 1 2.0"];
    assert_eq!(told(&mut translator, &of(1, 6)), expected);
    assert_eq!(translator.place.timeline, timeline(6));
    let expected = ["? source_changed 1.0", "+7/1:8 1.1", "complete 1 2.0"];
    assert_eq!(told(&mut translator, &of(8, 7)), expected);
    assert_ne!(translator.place.timeline, timeline(7));
    assert_eq!(told(&mut translator, &of(5, 7)), ["+7/1:5 2.1", "complete 2 3.0"]);
}

#[test]
fn a_missing_number_may_come_between_the_halves_of_another() {
    let mut translator = mysql(&[(1, 4)]);
    let (begun, rest) = (mysql_add(5, 1), mysql_add(5, 2));
    let before = translator.place.timeline;
    // From here on its numbers can be compared with nobody's.
    let expected = ["? numbers_skipped 1.0", "+7/1:1 1.1"];
    assert_eq!(told(&mut translator, &begun[..4]), expected);
    assert_ne!(translator.place.timeline, before);
    translator.restart();
    // Another server has it in front. What was told of the other has a position of its own.
    let expected = ["+7/1:9 2.1", "complete 2 3.0"];
    assert_eq!(told(&mut translator, &mysql_add(4, 9)), expected);
    let again = [&begun[..4], &rest[3..]].concat();
    let expected = ["+7/1:1 3.1", "+7/1:2 3.2", "complete 3 4.0"];
    assert_eq!(told(&mut translator, &again), expected, "once more, and whole");
    // Or the same server goes on where it stopped.
    assert_eq!(told(&mut translator, &mysql_add(6, 3)[..4]), ["+7/1:3 4.1"]);
    translator.restart();
    let again = [&mysql_add(6, 3)[..4], &mysql_add(6, 4)[3..]].concat();
    assert_eq!(told(&mut translator, &again), ["+7/1:4 4.2", "complete 4 5.0"]);
}

#[test]
fn rows_outside_of_all_transactions_are_a_doubt() {
    let mut translator = translator();
    let events = [(TABLE, table()), (INSERT, rows(1..2))];
    assert_eq!(told(&mut translator, &events), ["? no_transaction 1.0"]);
}

#[test]
fn the_key_of_a_row_is_read_from_its_own_columns() {
    let mut translator = translator();
    let events = [(GTID, gtid(1, 0)), (TABLE, table()), (INSERT, rows([u64::MAX]))];
    told(&mut translator, &events[..2]);
    assert_eq!(take(&mut translator, INSERT, &events[2].1), Ok(()));
    let Some((FeedEvent::Add { user, item, stamp }, _)) = translator.out.first() else {
        panic!("{:?}", translator.out);
    };
    assert_eq!((*user, item.id.get(), stamp.position), (UserId::new(7), u64::MAX, 1));
}

/// Bytes of a hostile or broken server: whatever comes of them, it is no panic.
#[test]
fn no_bytes_are_fatal() {
    let mut state = 0x5eed_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let good = [
        (GTID, gtid(1, 0)),
        (TABLE, table()),
        (INSERT, rows(1..4)),
        (QUERY, query("ALTER TABLE history_feed /* x")),
        (33, vec![0; 42]),
    ];
    let mut translator = translator();
    let mut seq = 0;
    for _ in 0..200_000 {
        let (event_type, mut data) = good[(random() % 5) as usize].clone();
        for _ in 0..random() % 4 {
            let at = (random() % data.len() as u64) as usize;
            data[at] = random() as u8;
        }
        data.truncate(data.len() - (random() % 3) as usize);
        // Mostly what fits the bytes, at times another type.
        let event_type = if random() % 8 == 0 { random() as u8 } else { event_type };
        let _ = take(&mut translator, event_type, &data);
        if random() % 16 == 0 {
            seq += 1;
            let _ = take(&mut translator, GTID, &gtid(seq, 0));
            let _ = take(&mut translator, TABLE, &table());
        }
        translator.out.clear();
    }
}
