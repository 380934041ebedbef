//! What Debezium, Canal and Maxwell sent for twenty steps of SQL, step by step.

use seen_dialect::{Decoder, Dialect, Event, FollowedTable, Position, What};

use crate::recorded::{Line, decoder, lines, read, show, steps, told};

const WITH_ENVELOPE: [&str; 5] = [
    "debezium-mariadb-long",
    "debezium-mariadb-long-schemas",
    "debezium-mariadb-precise",
    "debezium-mariadb-precise-numeric",
    "debezium-mysql-on-mariadb",
];

/// What happened to rows in each step, whoever tells it.
fn rows(step: usize) -> Vec<&'static str> {
    match step {
        0 => vec![
            "upsert 1 0:10 @1700000000000",
            "upsert 1 1:9223372036854775808 @1700000000001",
            "upsert 2 0:18446744073709551615 @1700000000002",
            "upsert 18446744073709551615 255:9223372036854775807 @1700000000003",
        ],
        1 => vec!["upsert 3 0:30 @1700000000010"],
        2 => vec![
            "upsert 3 1:31 @1700000000020",
            "upsert 4 1:41 @1700000000020",
            "upsert 5 0:18446744073709551614 @1700000000020",
            "upsert 1 0:11 @1700000000021",
        ],
        3 => vec!["upsert 3 0:30 @1700000000030"],
        4 => vec!["delete 3 0:30", "upsert 3 0:33 @1700000000030"],
        5 => vec!["delete 4 1:41", "upsert 6 1:41 @1700000000020"],
        6 => vec!["delete 5 0:18446744073709551614"],
        7 => vec!["delete 3 0:33", "delete 3 1:31"],
        8 => vec!["upsert 1 0:10 @1700000000040", "upsert 1 0:12 @1700000000040"],
        9 => vec!["upsert 1 0:10 @1700000000050"],
        11 => vec!["upsert 0 0:0 @0"],
        12 => vec!["upsert 18446744073709551615 255:18446744073709551615 @18446744073709551615"],
        14 => vec!["upsert 7 0:70 @1700000000060"],
        16 => vec!["upsert 8 0:80 @1700000000070"],
        19 => vec!["upsert 1 0:10 @1700000000080"],
        _ => vec![],
    }
}

/// The rest of what Debezium with its envelope sends.
fn debezium_others(step: usize) -> Vec<&'static str> {
    match step {
        0 => [vec!["ddl snapshot"; 2], vec!["ignore other_table"; 3], vec!["ddl ddl"]].concat(),
        5 | 6 => vec!["ignore tombstone"],
        7 => vec!["ignore tombstone"; 2],
        13 | 15 => vec!["ddl ddl"],
        17 => vec!["ignore other_table"],
        18 => vec!["truncate truncate"],
        _ => vec![],
    }
}

fn sorted(mut texts: Vec<String>) -> Vec<String> {
    texts.sort();
    texts
}

/// Compares each step's events, in any order: lines of different partitions have none.
fn check(
    name: &str,
    dialects: &[Dialect],
    is_wanted: impl Fn(&Line) -> bool,
    expected: impl Fn(usize) -> Vec<&'static str>,
) -> Vec<Event> {
    let (lines, mut decoder, mut all) = (lines(name), decoder(), Vec::new());
    let steps = steps(name);
    assert_eq!(steps.len(), 20);
    for (step, range) in steps.into_iter().enumerate() {
        let mut texts = Vec::new();
        for line in lines[range.unwrap_or(0..0)].iter().filter(|line| is_wanted(line)) {
            let (dialect, events) = read(&mut decoder, line);
            let is_tombstone = line.value.is_none();
            assert_eq!(is_tombstone, dialect.is_none(), "{line:?}");
            assert!(dialect.is_none_or(|dialect| dialects.contains(&dialect)), "{dialect:?}");
            texts.extend(events.iter().map(show));
            all.extend(events);
        }
        let expected = expected(step).into_iter().map(str::to_owned).collect();
        assert_eq!(sorted(texts), sorted(expected), "{name}, step {step}");
    }
    all
}

#[test]
fn debezium_in_every_form_of_its_numbers() {
    for name in WITH_ENVELOPE {
        let events = check(
            name,
            &[Dialect::Debezium],
            |_| true,
            |step| [rows(step), debezium_others(step)].concat(),
        );
        let is_mysql = name == "debezium-mysql-on-mariadb";
        let is_ignored = |event: &&Event| event.reason != Some("tombstone");
        for (at, event) in events.iter().filter(is_ignored).enumerate() {
            // Ten are of the snapshot, which has no transactions.
            let is_of_file = matches!(event.position, Some(Position::File { .. }));
            let is_of_gtid = matches!(event.position, Some(Position::MariaDb { domain: 0, .. }));
            let expected = if is_mysql || at < 10 { is_of_file } else { is_of_gtid };
            assert!(expected, "{name}: {event:?}");
        }
    }
}

#[test]
fn debezium_with_heartbeats_and_transactions() {
    let name = "debezium-mariadb-long-heartbeat-txn";
    let (beats, marks) = ("__debezium-heartbeat.t", "t.transaction");
    let is_of_rows = |line: &Line| line.topic != beats && line.topic != marks;
    check(name, &[Dialect::Debezium], is_of_rows, |step| {
        [rows(step), debezium_others(step)].concat()
    });
    for (topic, expected) in [(beats, "heartbeat heartbeat"), (marks, "ignore transaction")] {
        let lines: Vec<_> = lines(name).into_iter().filter(|line| line.topic == topic).collect();
        assert!(lines.len() > 10 && lines.iter().all(|line| told(line) == [expected]), "{topic}");
    }
}

#[test]
fn debezium_without_its_envelope() {
    let dialects = [Dialect::Debezium, Dialect::DebeziumUnwrapped];
    check(
        "debezium-mariadb-long-unwrap",
        &dialects,
        |_| true,
        |step| {
            let statements =
                debezium_others(step).into_iter().filter(|text| *text != "ignore tombstone");
            match step {
                3 => vec!["upsert 3 0:30 @1700000000030", "dirty user 3 before_unknown"],
                4 => vec!["upsert 3 0:33 @1700000000030", "dirty user 3 before_unknown"],
                8 | 9 => [rows(step), vec!["dirty user 1 before_unknown"]].concat(),
                18 => vec![],
                _ => rows(step).into_iter().chain(statements).collect(),
            }
        },
    );
}

#[test]
fn canal() {
    let others = |step| match step {
        13 | 15 => vec!["ddl ddl"],
        18 => vec!["truncate truncate"],
        _ => vec![],
    };
    let rows = |step| if step == 0 { vec![] } else { rows(step) };
    let is_query = |line: &Line| line.value_text().contains(r#""type":"QUERY""#);
    let ranges = steps("canal-flat");
    let queries = |step: usize| {
        let lines = &lines("canal-flat")[ranges[step].clone().unwrap_or(0..0)];
        vec!["ignore query"; lines.iter().filter(|line| is_query(line)).count()]
    };
    check(
        "canal-flat",
        &[Dialect::CanalFlat],
        |_| true,
        |step| [rows(step), others(step), queries(step)].concat(),
    );
    // As Canal sends it when it is told to leave the texts of queries out.
    check(
        "canal-flat",
        &[Dialect::CanalFlat],
        |line| !is_query(line),
        |step| [rows(step), others(step)].concat(),
    );
}

#[test]
fn maxwell() {
    check(
        "maxwell",
        &[Dialect::Maxwell],
        |_| true,
        |step| {
            let others = match step {
                0 => vec!["ignore other_table", "ignore bootstrap", "ignore bootstrap"],
                13 | 15 => vec!["ddl ddl"],
                _ => vec![],
            };
            [rows(step), others].concat()
        },
    );
}

#[test]
fn the_old_row_is_removed_before_the_new_one_is_added() {
    for name in [&WITH_ENVELOPE[..], &["canal-flat", "maxwell"]].concat() {
        let (lines, mut decoder) = (lines(name), decoder());
        let range = steps(name)[4].clone().expect("lines");
        let last = lines[range].last().expect("a line");
        let texts: Vec<_> = read(&mut decoder, last).1.iter().map(show).collect();
        assert_eq!(texts, ["delete 3 0:30", "upsert 3 0:33 @1700000000030"], "{name}");
    }
}

#[test]
fn a_named_format_is_read_as_such_and_others_are_not() {
    for (name, named, other) in [
        ("debezium-mariadb-long", Dialect::Debezium, Dialect::Maxwell),
        ("debezium-mariadb-long", Dialect::TicdcDebezium, Dialect::Simple),
        ("canal-flat", Dialect::CanalJson, Dialect::Debezium),
        ("maxwell", Dialect::TicdcMaxwell, Dialect::CanalFlat),
    ] {
        let tables = || vec![FollowedTable::own("db", "feed_read")];
        for line in lines(name).iter().filter(|line| line.value.is_some()) {
            let (free, expected) = read(&mut decoder(), line);
            let (told, events) = read(&mut Decoder::new(tables(), Some(named)), line);
            assert!(free.is_some() && told == Some(named) && events == expected);
            let (told, events) = read(&mut Decoder::new(tables(), Some(other)), line);
            assert_eq!((told, events.len()), (None, 1));
            assert!(matches!(events[0].what, What::Dirty(_)), "{line:?}");
        }
    }
}
