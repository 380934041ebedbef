//! Maxwell: what it sends, and where to.

use seen_testbed::{Maxwell, Record, or_skip};

use crate::chain::{Chain, LARGE, TABLES, TOPIC, json, told};

/// Per row: the table, its user and the partition.
fn rows(records: &[Record]) -> Vec<(String, u64, i32)> {
    let events = records.iter().map(|record| (json(record), record.partition));
    let inserts = events.filter(|(event, _)| event["type"] == "insert");
    inserts
        .map(|(event, partition)| {
            let table = event["table"].as_str().expect("text").to_owned();
            (table, event["data"]["user_id"].as_u64().expect("a number"), partition)
        })
        .collect()
}

#[test]
fn both_tables_come_in_one_topic_by_user_and_a_crash_loses_nothing() {
    let Some(chain) = Chain::start(&Maxwell::MARIADB) else { return };
    let feed = Maxwell::builder(&chain.kafka, chain.database.port());
    let feed = feed.tables(&TABLES).key("user_id").into_topic(TOPIC);
    let Some(maxwell) = or_skip(feed.start()) else { return };
    let users: Vec<u64> = (1..=8).chain([LARGE]).collect();
    for user in &users {
        chain.mark_and_fence(*user, 5, 1);
    }
    let records = chain.records_once(TOPIC, |records| rows(records).len() >= 2 * users.len());
    let seen = rows(&records);
    for user in &users {
        let of_user: Vec<_> = seen.iter().filter(|row| row.1 == *user).collect();
        let tables: Vec<&str> = of_user.iter().map(|row| row.0.as_str()).collect();
        assert_eq!(tables, ["history", "seen_control"], "{}", told(&records));
        assert_eq!(of_user[0].2, of_user[1].2, "{}", told(&records));
    }
    assert!(seen.iter().any(|row| row.2 != seen[0].2), "{}", told(&records));
    maxwell.kill_9().expect("killed");
    chain.mark_and_fence(100, 5, 1);
    maxwell.restart().expect("restarted");
    chain.records_once(TOPIC, |records| {
        rows(records).iter().filter(|row| row.1 == 100).count() >= 2
    });
}

#[test]
fn rows_that_were_there_come_when_they_are_asked_for() {
    let Some(chain) = Chain::start(&Maxwell::MARIADB) else { return };
    chain.mark_and_fence(1, 5, 1);
    let feed = Maxwell::builder(&chain.kafka, chain.database.port());
    let Some(_maxwell) = or_skip(feed.tables(&TABLES).into_topic(TOPIC).start()) else { return };
    chain.sql("INSERT INTO maxwell.bootstrap (database_name, table_name) VALUES ('d', 'history')");
    let done = |records: &[Record]| {
        records.iter().any(|record| json(record)["type"] == "bootstrap-complete")
    };
    let records = chain.records_once(TOPIC, done);
    let row = records.iter().map(json).find(|event| event["type"] == "bootstrap-insert");
    assert_eq!(row.expect("the row")["data"]["user_id"], 1, "{}", told(&records));
}
