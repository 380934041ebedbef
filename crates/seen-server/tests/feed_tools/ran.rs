//! Running the binary, and records as Debezium writes them.

use std::process::{Command, Output, Stdio};

use seen_filter::UserId;
use seen_kafka::{Digits, KeyTemplate, Partitioner};
use seen_testbed::{Kafka, Record};

/// The time of the first record; each number's is a second later.
const BEGAN_MS: u64 = 1_700_000_000_000;
/// Partitions of every topic here.
pub const PARTITIONS: u16 = 4;

/// The command, led to this topic.
pub fn seen(kafka: &str, topic: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_seen"));
    command.args(arguments).env_remove("SEEN_CONFIG").stdin(Stdio::null());
    command.current_dir(std::env::temp_dir());
    let settings = [
        "storage.kind=mysql".to_owned(),
        "mysql.feed=kafka".to_owned(),
        "mysql.database=db".to_owned(),
        format!("kafka.brokers={kafka}"),
        format!("kafka.topic={topic}"),
    ];
    for setting in settings {
        command.args(["--set", &setting]);
    }
    command
}

/// What it printed, and its exit status.
pub fn said(output: &Output) -> (String, Option<i32>) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("UTF-8");
    (text(&output.stdout) + &text(&output.stderr), output.status.code())
}

/// Runs it to its end.
pub fn run(kafka: &str, topic: &str, arguments: &[&str]) -> Output {
    seen(kafka, topic, arguments).output().expect("it starts")
}

/// A row that was added, with the partition of its user.
pub fn row(user: u64, item: u64) -> (i32, Record) {
    let after = format!("{{\"user_id\":{user},\"kind\":0,\"item_id\":{item},\"marked_at_ms\":5}}");
    added("history_feed_read", user, item, &after)
}

/// A fence under a user's id.
pub fn fence(user: u64, seq: u64) -> (i32, Record) {
    let after =
        format!("{{\"user_id\":{user},\"namespace\":1,\"writer\":9,\"seq\":{seq},\"at_ms\":5}}");
    added("seen_control", user, seq, &after)
}

fn added(table: &str, user: u64, number: u64, after: &str) -> (i32, Record) {
    let key = KeyTemplate::parse("{\"user_id\":{user}}", Digits::Signed).expect("a template");
    let partition = Partitioner::Key(key).partition(UserId::new(user), PARTITIONS);
    let value = format!(
        "{{\"before\":null,\"after\":{after},\"op\":\"c\",\"source\":{{\"version\":\"3.5.0.Final\",\
         \"connector\":\"mariadb\",\"db\":\"db\",\"table\":\"{table}\",\"gtid\":\"0-1-{number}\"}}}}"
    );
    let mut record = Record::new(&format!("{{\"user_id\":{user}}}"), &value);
    record.timestamp_ms = (BEGAN_MS + number * 1_000) as i64;
    (i32::from(partition.expect("a partition")), record)
}

/// Writes rows of twenty users, and a fence each, where they belong.
pub fn fill(kafka: &Kafka, topic: &str) {
    for user in 1..=20 {
        for (partition, record) in [row(user, user), fence(user, user)] {
            kafka.send(topic, partition, &[record]).expect("sent");
        }
    }
}
