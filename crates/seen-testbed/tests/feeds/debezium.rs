//! Debezium: what it sends, where to, and what a crash does to it.

use seen_testbed::{Connector, Debezium, DebeziumBuilder, MariaDb, Record, TcpProxy, or_skip};
use serde_json::Value;

use crate::chain::{Chain, LARGE, PARTITIONS, TABLES, TOPIC, json, partitions, told};

const ROWS: u64 = 40;

/// As the project's own pipeline is set up.
fn feed(chain: &Chain) -> DebeziumBuilder {
    let feed = Debezium::builder(&chain.kafka, chain.database.port());
    feed.tables(&TABLES).key("user_id").into_topic(TOPIC)
}

/// Users with a row each and a fence after it, again and again.
fn write(chain: &Chain, users: &[u64], seqs: std::ops::Range<u64>) {
    for seq in seqs {
        for user in users {
            chain.mark_and_fence(*user, 1_000 + seq, seq);
        }
    }
}

/// Per user, as they lie in the partition: the table's name, and the row's number in its sequence.
fn sequence(records: &[Record], user: u64) -> Vec<(String, u64)> {
    // As the connector writes it.
    let key = format!("{{\"user_id\":{}}}", user.cast_signed());
    let of_user = records.iter().filter(|record| record.key_text() == key);
    of_user
        .map(|record| {
            let event = json(record);
            let text = |value: &Value| value.as_str().expect("text").to_owned();
            let table = text(&event["source"]["table"]);
            let seq = &event["after"][if table == "history" { "marked_at_ms" } else { "seq" }];
            (table, seq.as_u64().expect("a number"))
        })
        .collect()
}

/// What is expected of [`write()`] without a fault.
fn expected(seqs: std::ops::Range<u64>) -> Vec<(String, u64)> {
    let both = |seq| [("history".to_owned(), seq), ("seen_control".to_owned(), seq)];
    seqs.flat_map(both).collect()
}

#[test]
fn both_tables_come_in_one_topic_by_user_in_the_order_of_their_commits() {
    let Some(chain) = Chain::start(&[]) else { return };
    let users: Vec<u64> = (1..=10).chain([LARGE]).collect();
    chain.mark_and_fence(1, 1_000, 0);
    let Some(debezium) = or_skip(feed(&chain).start()) else { return };
    assert!(debezium.port() < 32_768);
    write(&chain, &users, 1..5);
    let all = 2 + users.len() * 4 * 2;
    let records = chain.records_once(TOPIC, |records| records.len() >= all);
    assert_eq!(records.len(), all, "{}", told(&records));
    for user in &users {
        let mut sequence = sequence(&records, *user);
        if *user == 1 {
            // Tables are read one after the other at the start.
            let snapshot: Vec<_> = sequence.drain(..2).collect();
            assert!(snapshot.iter().all(|(_, seq)| *seq == 0), "{snapshot:?}");
        }
        assert_eq!(sequence, expected(1..5), "user {user}");
    }
    let partitions = partitions(&records);
    assert_eq!(partitions.len(), users.len(), "{partitions:?}");
    assert!(partitions.values().all(|of_key| of_key.len() == 1), "{partitions:?}");
    let used: std::collections::BTreeSet<_> = partitions.values().flatten().collect();
    assert!(used.len() > 1 && used.len() <= PARTITIONS, "{used:?}");
}

#[test]
fn the_way_into_one_topic_leaves_keys_and_values_as_they_are() {
    let Some(chain) = Chain::start(&[]) else { return };
    write(&chain, &[1, 2, LARGE], 0..2);
    let Some(_routed) = or_skip(feed(&chain).start()) else { return };
    let plain = Debezium::builder(&chain.kafka, chain.database.port());
    let _plain = plain.tables(&TABLES).key("user_id").start().expect("a second one");
    let all = 3 * 2 + 3;
    let records = chain.records_once(TOPIC, |records| records.len() >= all);
    let mut apart = Vec::new();
    for topic in TABLES.map(|table| format!("t.{table}")) {
        apart.extend(chain.records_once(&topic, |records| {
            records.len() >= if topic.ends_with("history") { 6 } else { 3 }
        }));
    }
    // What tells one reading from another: when it was, and which one.
    let bare = |record: &Record| {
        let mut event = json(record);
        for part in [&mut event["source"], &mut Value::Null] {
            for name in ["ts_ms", "ts_us", "ts_ns", "snapshot"] {
                part.as_object_mut().map(|part| part.remove(name));
            }
        }
        for name in ["ts_ms", "ts_us", "ts_ns"] {
            event.as_object_mut().map(|event| event.remove(name));
        }
        (record.key.clone(), record.partition, event.to_string())
    };
    let mut routed: Vec<_> = records.iter().map(bare).collect();
    let mut apart: Vec<_> = apart.iter().map(bare).collect();
    routed.sort();
    apart.sort();
    assert_eq!(routed, apart);
}

#[test]
fn with_schemas_and_exact_numbers_users_stay_together_too() {
    let Some(chain) = Chain::start(&[]) else { return };
    let feed = feed(&chain)
        .prefix("the.other")
        .with_schemas()
        .precise()
        .connector(Connector::MySql)
        .snapshot("no_data");
    let Some(_debezium) = or_skip(feed.start()) else { return };
    let users: Vec<u64> = (1..=10).chain([LARGE]).collect();
    write(&chain, &users, 0..3);
    let all = users.len() * 3 * 2;
    let records = chain.records_once(TOPIC, |records| records.len() >= all);
    let partitions = partitions(&records);
    assert_eq!(partitions.len(), users.len(), "{partitions:?}");
    assert!(partitions.values().all(|of_key| of_key.len() == 1), "{partitions:?}");
    let event = json(&records[0]);
    let source = &event["payload"]["source"];
    assert_eq!((&source["connector"], &source["name"]), (&"mysql".into(), &"the.other".into()));
    assert!(event["payload"]["after"]["user_id"].is_string(), "{event}");
    assert_eq!(event["schema"]["type"], "struct", "{event}");
}

#[test]
fn bare_rows_name_their_table_and_what_was_done() {
    let Some(chain) = Chain::start(&[]) else { return };
    let feed = feed(&chain).unwrapped().heartbeat_ms(1_000);
    let Some(_debezium) = or_skip(feed.start()) else { return };
    chain.mark_and_fence(7, 1, 1);
    chain.sql("DELETE FROM d.history");
    let records = chain.records_once(TOPIC, |records| records.len() >= 3);
    let told = told(&records);
    let events: Vec<Value> = records.iter().map(json).collect();
    let seen: Vec<_> = events
        .iter()
        .map(|event| (&event["__table"], &event["__op"], &event["__deleted"], &event["user_id"]))
        .map(|(table, op, deleted, user)| format!("{table} {op} {deleted} {user}"))
        .collect();
    let expected = [
        "\"history\" \"c\" \"false\" 7",
        "\"seen_control\" \"c\" \"false\" 7",
        "\"history\" \"d\" \"true\" 7",
    ];
    assert_eq!(seen, expected, "{told}");
    // Nothing is written any more.
    let heartbeats = "__debezium-heartbeat.t";
    let some = chain.records_once(heartbeats, |records| !records.is_empty()).len();
    chain.records_once(heartbeats, |records| records.len() > some + 1);
}

#[test]
fn a_killed_one_sends_again_what_it_had_not_noted_and_loses_nothing() {
    let Some(chain) = Chain::start(&[]) else { return };
    let feed = feed(&chain).offset_flush_ms(3_600_000);
    let Some(debezium) = or_skip(feed.start()) else { return };
    // Ended in order it notes where it is, from where it goes on after the crash.
    write(&chain, &[1], 0..1);
    // Before it has sent anything there is no place to note.
    chain.records_once(TOPIC, |records| records.len() >= 2);
    debezium.restart().expect("restarted");
    write(&chain, &[1], 1..ROWS);
    let rows = usize::try_from(ROWS).expect("small") * 2;
    chain.records_once(TOPIC, |records| records.len() >= rows);
    debezium.kill_9().expect("killed");
    write(&chain, &[1], ROWS..2 * ROWS);
    debezium.restart().expect("restarted");
    let last = |records: &[Record]| sequence(records, 1).last() == expected(0..2 * ROWS).last();
    let records = chain.records_once(TOPIC, last);
    let seen = sequence(&records, 1);
    let expected = expected(0..2 * ROWS);
    assert_eq!(seen[..rows], expected[..rows]);
    let again = &seen[rows..];
    assert!(again.len() > rows, "nothing came twice: {again:?}");
    assert!(expected.ends_with(again), "{again:?}");
}

#[test]
fn a_broker_that_was_away_is_sent_what_was_written_meanwhile() {
    let Some(chain) = Chain::start(&[]) else { return };
    let Some(_debezium) = or_skip(feed(&chain).start()) else { return };
    write(&chain, &[1], 0..2);
    chain.records_once(TOPIC, |records| records.len() >= 4);
    chain.kafka.kill_9().expect("killed");
    write(&chain, &[1], 2..4);
    chain.kafka.restart().expect("restarted");
    let all = expected(0..4);
    let last = |records: &[Record]| sequence(records, 1).last() == all.last();
    let records = chain.records_once(TOPIC, last);
    let mut seen = sequence(&records, 1);
    seen.dedup();
    assert!(all.iter().all(|row| seen.contains(row)), "{seen:?}");
}

/// MariaDB tells of each domain only its last number, and Debezium takes a place for gone that is of a server it is not told of.
#[test]
fn a_promoted_server_with_a_domain_of_its_own_is_followed() {
    let Some(mut chain) = Chain::start(&["--gtid-domain-id=1"]) else { return };
    let replica = MariaDb::builder().replica_of(&chain.database).argument("--gtid-domain-id=2");
    let replica = replica.start().expect("a replica");
    let way = TcpProxy::to(chain.database.port()).expect("a way");
    let feed = Debezium::builder(&chain.kafka, way.port()).tables(&TABLES).key("user_id");
    let Some(debezium) = or_skip(feed.into_topic(TOPIC).start()) else { return };
    write(&chain, &[1], 0..2);
    chain.records_once(TOPIC, |records| records.len() >= 4);
    debezium.stop().expect("stopped");
    // What it has not read, the promoted server tells it.
    write(&chain, &[1], 2..4);
    replica.catch_up_with(&chain.database).expect("all is there");
    chain.database.kill_9().expect("killed");
    replica.promote().expect("promoted");
    way.cut();
    way.retarget(replica.port());
    way.heal();
    let lost = std::mem::replace(&mut chain.database, replica);
    write(&chain, &[1], 4..6);
    for (seqs, all) in [(6..8, 16), (8..10, 20)] {
        debezium.restart().expect("restarted");
        write(&chain, &[1], seqs.clone());
        let records = chain.records_once(TOPIC, |records| records.len() >= all);
        assert_eq!(sequence(&records, 1), expected(0..seqs.end), "{}", told(&records));
    }
    drop(lost);
}
