//! Queued writes: a process that is killed in the middle, messages that say nothing, and both forms.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use seen_testbed::{Kafka, Record, or_skip};

use super::child::Child;
use super::process::Process;
use super::servers::{Place, mariadb, said, seen};

const MESSAGES: u64 = 12_000;
const PARTITIONS: u64 = 3;

fn rows(place: &Place) -> u64 {
    place.sql("SELECT COUNT(*) FROM history_feed_read").trim().parse().expect("a number")
}

/// One impression for each message, and in each partition one that says nothing.
fn fill(kafka: &Kafka, topic: &str) {
    kafka.create_topic(topic, PARTITIONS as usize, &[]).expect("a topic");
    for partition in 0..PARTITIONS {
        let numbers = (0..MESSAGES).filter(|number| number % PARTITIONS == partition);
        let message = |number: u64| {
            let value = format!("{{\"who\":{},\"what\":{number},\"at\":1790000000}}", number % 50);
            Record::new("", &value)
        };
        let mut messages: Vec<Record> = numbers.map(message).collect();
        messages.insert(100, Record::new("", "{\"who\":-1}"));
        for batch in messages.chunks(1_000) {
            kafka.send(topic, partition as i32, batch).expect("sent");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_ingest_has_committed_nothing_that_is_not_there() {
    let Some(kafka) = or_skip(Kafka::start()) else { return };
    let place = mariadb().expect("always there").migrated();
    let folder = tempfile::tempdir().expect("a folder");
    let flags = place.flags();
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let process = Process::start(folder.path(), &flags).await;
    fill(&kafka, "impressions");
    let (server, letters) = (format!("http://{}", process.at.api), folder.path().join("dead"));
    let arguments = [
        "ingest",
        "--topic",
        "impressions",
        "--format",
        "json",
        "--server",
        &server,
        "--columns",
        "user=who,item=what,kind=1,time=at:s",
        "--window",
        "500",
        "--dead-letters",
        letters.to_str().expect("UTF-8"),
    ];
    let settings = [
        format!("kafka.brokers={}", kafka.bootstrap()),
        // A member that was killed is not waited for.
        "kafka.client=session.timeout.ms=6000".to_owned(),
    ];
    let flags: Vec<String> =
        settings.into_iter().flat_map(|setting| ["--set".to_owned(), setting]).collect();
    let killed = Child::start(&[&arguments[..], &["--rate", "3000"]].concat(), &flags);
    while rows(&place) < MESSAGES / 3 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    killed.kill_9();
    assert!(rows(&place) < MESSAGES, "it was killed in the middle");
    let again = Child::start(&[&arguments[..], &["--once"]].concat(), &flags);
    let (code, text) = again.exit();
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(rows(&place), MESSAGES, "{text}");
    let times = place.sql("SELECT DISTINCT marked_at_ms FROM history_feed_read");
    assert_eq!(times.trim(), "1790000000000");
    let dead = std::fs::read_to_string(&letters).expect("the dead letters");
    let dead: BTreeSet<&str> = dead.lines().collect();
    assert_eq!(dead.len(), PARTITIONS as usize, "{dead:?}");
    assert!(dead.iter().all(|line| line.contains("\"offset\":100,") && line.contains("no_user")));
    the_apis_own_messages(&kafka, &place, &server, folder.path(), &flags);
    rows_of_another_store(&kafka, &place, &server, folder.path(), &flags);
    assert_eq!(process.terminate().await, Some(0));
}

/// The API's own messages, one of them for a history that is not there.
fn the_apis_own_messages(
    kafka: &Kafka,
    place: &Place,
    server: &str,
    folder: &Path,
    flags: &[String],
) {
    let message = |namespace: &str, user: u64| {
        let item = [&[0x08, 1, 0x11][..], &7_u64.to_le_bytes()].concat();
        let user = [&[0x09][..], &user.to_le_bytes()].concat();
        let name = [&[0x12, namespace.len() as u8][..], namespace.as_bytes()].concat();
        let value = [user, name, vec![0x1a, item.len() as u8], item].concat();
        Record { value: Some(value), ..Record::new("", "") }
    };
    kafka.create_topic("requests", 1, &[]).expect("a topic");
    let messages = [message("feed_read", 77), message("nowhere", 77), message("feed_read", 78)];
    kafka.send("requests", 0, &messages).expect("sent");
    let letters = folder.join("dead-requests");
    let letters = letters.to_str().expect("UTF-8");
    let ended = seen(
        &["ingest", "--topic", "requests", "--server", server, "--once", "--dead-letters", letters],
        flags,
    );
    assert!(ended.status.success(), "{}", said(&ended));
    assert_eq!(rows(place), MESSAGES + 2);
    let dead = std::fs::read_to_string(letters).expect("the dead letters");
    assert!(dead.lines().count() == 1 && dead.contains("\"refused\""), "{dead}");
}

/// What Canal tells of an old store's table; one row of it was deleted there.
fn rows_of_another_store(
    kafka: &Kafka,
    place: &Place,
    server: &str,
    folder: &Path,
    flags: &[String],
) {
    let change = |kind: &str, rows: &[(u64, u64)]| {
        let row = |(member, article): &(u64, u64)| {
            format!("{{\"member\":\"{member}\",\"article\":\"{article}\",\"at\":\"1790000001\"}}")
        };
        let rows: Vec<String> = rows.iter().map(row).collect();
        let text = format!(
            "{{\"data\":[{}],\"database\":\"old\",\"table\":\"reads\",\"type\":\"{kind}\",\
             \"isDdl\":false,\"es\":1790000002000,\"ts\":1790000002001,\"id\":1,\"old\":null,\"sql\":\"\",\
             \"pkNames\":[\"member\",\"article\"],\"sqlType\":{{}},\"mysqlType\":{{\
             \"member\":\"bigint(20)\",\"article\":\"bigint(20)\",\"at\":\"bigint(20)\"}}}}",
            rows.join(",")
        );
        Record::new("", &text)
    };
    kafka.create_topic("old", 1, &[]).expect("a topic");
    let messages = [
        change("INSERT", &[(901, 1), (902, 2), (901, 3)]),
        change("DELETE", &[(902, 2)]),
        change("INSERT", &[(903, 4)]),
    ];
    kafka.send("old", 0, &messages).expect("sent");
    let letters = folder.join("dead-changes");
    let letters = letters.to_str().expect("UTF-8");
    let arguments = [
        "ingest",
        "--topic",
        "old",
        "--format",
        "changes",
        "--server",
        server,
        "--once",
        "--columns",
        "user=member,item=article,kind=3,time=at:s",
        "--dead-letters",
        letters,
    ];
    let untold = seen(&arguments, flags);
    assert!(said(&untold).contains("--table"), "{}", said(&untold));
    let ended = seen(&[&arguments[..], &["--table", "old.reads"]].concat(), flags);
    assert!(ended.status.success(), "{}", said(&ended));
    let rows = place.sql(
        "SELECT user_id, kind, item_id, marked_at_ms FROM history_feed_read WHERE user_id > 900 \
         ORDER BY item_id",
    );
    let expected = [(901, 1), (902, 2), (901, 3), (903, 4)]
        .map(|(user, item)| format!("{user}\t3\t{item}\t1790000001000"));
    assert_eq!(rows.lines().collect::<Vec<_>>(), expected);
    let dead = std::fs::read_to_string(letters).expect("the dead letters");
    assert!(dead.lines().count() == 1 && dead.contains("\"row_deleted\""), "{dead}");
}
