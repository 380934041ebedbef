//! A database with the two tables that a feed carries, and a Kafka.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use seen_testbed::{Kafka, MariaDb, Record, or_skip, until};
use serde_json::Value;

/// Far more than the slowest machine needs.
const LIMIT: Duration = Duration::from_secs(60);
pub const TABLES: [&str; 2] = ["d.history", "d.seen_control"];
pub const TOPIC: &str = "seen";
pub const PARTITIONS: usize = 4;
/// A user whose number is negative where it is taken for a signed one.
pub const LARGE: u64 = u64::MAX - 4;

const SCHEMA: &str = "CREATE DATABASE d;
    CREATE TABLE d.history (user_id BIGINT UNSIGNED NOT NULL, kind TINYINT UNSIGNED NOT NULL,
        item_id BIGINT UNSIGNED NOT NULL, marked_at_ms BIGINT UNSIGNED NOT NULL,
        PRIMARY KEY (user_id, kind, item_id));
    CREATE TABLE d.seen_control (user_id BIGINT UNSIGNED NOT NULL,
        namespace SMALLINT UNSIGNED NOT NULL, writer BIGINT UNSIGNED NOT NULL,
        seq BIGINT UNSIGNED NOT NULL, at_ms BIGINT UNSIGNED NOT NULL,
        PRIMARY KEY (user_id, namespace, writer));";

pub struct Chain {
    pub database: MariaDb,
    pub kafka: Kafka,
}

impl Chain {
    /// Nothing, loudly, where the tools are not there.
    pub fn start(arguments: &[&str]) -> Option<Self> {
        let kafka = or_skip(Kafka::builder().partitions(PARTITIONS).start())?;
        let database = MariaDb::builder().arguments(arguments).start().expect("a database");
        database.sql(SCHEMA).expect("tables");
        kafka.create_topic(TOPIC, PARTITIONS, &[]).expect("a topic");
        Some(Self { database, kafka })
    }

    pub fn sql(&self, statements: &str) {
        self.database.sql(statements).expect("written");
    }

    /// A row of a user's history, and the user's fence after it.
    pub fn mark_and_fence(&self, user: u64, item: u64, seq: u64) {
        self.sql(&format!(
            "INSERT INTO d.history VALUES ({user}, 1, {item}, {seq});
             INSERT INTO d.seen_control VALUES ({user}, 1, 9, {seq}, 0)
                 ON DUPLICATE KEY UPDATE seq = VALUES(seq);"
        ));
    }

    /// Waits until a topic holds what is wanted, and gives all that it holds.
    pub fn records_once(&self, topic: &str, wanted: impl Fn(&[Record]) -> bool) -> Vec<Record> {
        let mut last = Vec::new();
        let seen = until(LIMIT, || {
            last = self.kafka.records(topic).expect("records");
            wanted(&last).then_some(())
        });
        assert!(seen.is_some(), "{topic} holds only {}", told(&last));
        last
    }
}

pub fn json(record: &Record) -> Value {
    serde_json::from_str(&record.value_text()).expect("JSON")
}

pub fn told(records: &[Record]) -> String {
    let lines = records.iter().map(|record| {
        let at = format!("{} {}", record.partition, record.offset);
        format!("\n{at}: {} => {}", record.key_text(), record.value_text())
    });
    lines.collect()
}

/// The partitions of each key.
pub fn partitions(records: &[Record]) -> BTreeMap<String, BTreeSet<i32>> {
    let mut partitions: BTreeMap<String, BTreeSet<i32>> = BTreeMap::new();
    for record in records {
        partitions.entry(record.key_text()).or_default().insert(record.partition);
    }
    partitions
}
