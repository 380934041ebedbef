//! Canal: what it sends, and where to.

use seen_testbed::{Canal, or_skip};

use crate::chain::{Chain, LARGE, PARTITIONS, TABLES, TOPIC, json, told};

/// What it makes of a row: the table, the row's user and the partition.
type Row = (String, String, i32);

fn rows(records: &[seen_testbed::Record]) -> Vec<Row> {
    let mut rows = Vec::new();
    for record in records {
        let event = json(record);
        if event["type"] != "INSERT" {
            continue;
        }
        for row in event["data"].as_array().expect("rows") {
            let text = |value: &serde_json::Value| value.as_str().expect("text").to_owned();
            rows.push((text(&event["table"]), text(&row["user_id"]), record.partition));
        }
    }
    rows
}

#[test]
fn both_tables_come_in_one_topic_by_user() {
    let Some(chain) = Chain::start(&["--binlog-annotate-row-events=0"]) else { return };
    let feed = Canal::builder(&chain.kafka, chain.database.port());
    let feed = feed.tables(&TABLES).key("user_id", PARTITIONS).into_topic(TOPIC);
    let Some(canal) = or_skip(feed.start()) else { return };
    let users: Vec<u64> = (1..=8).chain([LARGE]).collect();
    for user in &users {
        chain.mark_and_fence(*user, 5, 1);
    }
    let records = chain.records_once(TOPIC, |records| rows(records).len() >= 2 * users.len());
    let rows = rows(&records);
    for user in &users {
        let of_user: Vec<&Row> = rows.iter().filter(|row| row.1 == user.to_string()).collect();
        let tables: Vec<&str> = of_user.iter().map(|row| row.0.as_str()).collect();
        assert_eq!(tables, ["history", "seen_control"], "{}", told(&records));
        assert_eq!(of_user[0].2, of_user[1].2, "{}", told(&records));
    }
    assert!(rows.iter().any(|row| row.2 != rows[0].2), "{}", told(&records));
    assert!(canal.is_alive());
}

#[test]
fn left_alone_it_sends_everything_to_the_first_partition() {
    let Some(chain) = Chain::start(&[]) else { return };
    let feed = Canal::builder(&chain.kafka, chain.database.port()).tables(&TABLES);
    let Some(canal) = or_skip(feed.into_topic(TOPIC).start()) else { return };
    for user in 1..=8 {
        chain.mark_and_fence(user, 5, 1);
    }
    let records = chain.records_once(TOPIC, |records| rows(records).len() >= 16);
    assert!(records.iter().all(|record| record.partition == 0), "{}", told(&records));
    canal.kill_9().expect("killed");
    canal.restart().expect("restarted");
    chain.mark_and_fence(9, 5, 1);
    chain.records_once(TOPIC, |records| rows(records).iter().any(|row| row.1 == "9"));
}
