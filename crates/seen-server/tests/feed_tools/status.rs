//! How far a server has come.

use seen_testbed::{Kafka, MariaDb, or_skip};
use serde_json::Value;
use tokio::task::spawn_blocking;

use super::process::Process;
use super::ran::{PARTITIONS, fill, said, seen};

/// What `seen feed status` says of the server's partitions.
async fn partitions(server: &str) -> Vec<Value> {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_seen"));
    command.args(["feed", "status", "--json", "--server", server]);
    let output =
        spawn_blocking(move || command.output()).await.expect("no panic").expect("it starts");
    let (text, code) = said(&output);
    assert_eq!(code, Some(0), "{text}");
    let read: Value = serde_json::from_str(&text).expect("JSON");
    read["partitions"].as_array().expect("a list").clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topics_position_and_lag_are_shown() {
    let parts = || {
        let kafka = or_skip(Kafka::start())?;
        kafka.create_topic("seen", usize::from(PARTITIONS), &[]).expect("a topic");
        let database = MariaDb::start().expect("a MariaDB");
        database.sql("CREATE DATABASE db").expect("a database");
        Some((kafka, database))
    };
    let Some((kafka, database)) = spawn_blocking(parts).await.expect("no panic") else { return };
    let settings = [
        "storage.kind=mysql".to_owned(),
        "mysql.feed=kafka".to_owned(),
        "mysql.database=db".to_owned(),
        format!("mysql.servers=127.0.0.1:{}", database.port()),
        "mysql.user=root".to_owned(),
        "mysql.check_timeout=20s".to_owned(),
        "mysql.connect_timeout=20s".to_owned(),
        format!("kafka.brokers={}", kafka.bootstrap()),
    ];
    let flags: Vec<&str> = settings.iter().flat_map(|setting| ["--set", setting]).collect();
    let mut migrate = seen(&kafka.bootstrap(), "seen", &["migrate", "--apply"]);
    migrate.args(&flags);
    let made = spawn_blocking(move || migrate.output()).await.expect("no panic");
    let (text, code) = said(&made.expect("it starts"));
    assert_eq!(code, Some(0), "{text}");
    let folder = tempfile::tempdir().expect("a folder");
    let server = Process::start(folder.path(), &flags).await;
    let admin = format!("http://{}", server.at.admin);
    let written = spawn_blocking(move || {
        fill(&kafka, "seen");
        let ends = (0..PARTITIONS).map(|at| kafka.offsets("seen", at.into()).expect("asked").end);
        (ends.collect::<Vec<_>>(), kafka)
    });
    let (ends, kafka) = written.await.expect("no panic");
    // The ends are looked at from time to time.
    let mut looks = tokio::time::interval(std::time::Duration::from_millis(50));
    loop {
        looks.tick().await;
        let shown = partitions(&admin).await;
        assert_eq!(shown.len(), 2 * usize::from(PARTITIONS), "{shown:?}");
        let is_there = |one: &Value| {
            let at = one["partition"].as_u64().expect("a number") as usize;
            one["source_position"].as_i64() == Some(ends[at]) && one["lag_records"] == 0
        };
        if shown.iter().all(is_there) {
            for one in &shown {
                assert_eq!((&one["following"], &one["lag_ms"]), (&true.into(), &0.into()), "{one}");
                assert!(one["ring_bytes_max"].as_u64() > one["ring_bytes"].as_u64(), "{one}");
                assert!(one["journal_bytes_max"].as_u64() > Some(0), "{one}");
            }
            break;
        }
    }
    drop(kafka);
}
