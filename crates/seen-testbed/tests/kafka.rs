//! A Kafka that crashes, hangs, forgets, and grows.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use seen_testbed::{Error, Kafka, Record, or_skip};

const TOPIC: &str = "t";

fn values(kafka: &Kafka, topic: &str) -> Vec<String> {
    kafka.records(topic).expect("records").iter().map(Record::value_text).collect()
}

#[test]
fn records_go_round_as_they_are() {
    let Some(kafka) = or_skip(Kafka::start()) else { return };
    assert!(kafka.port() < 32_768);
    assert_eq!(kafka.bootstrap(), format!("127.0.0.1:{}", kafka.port()));
    assert_eq!(kafka.partitions(TOPIC).expect("an answer"), 0);
    assert_eq!(kafka.records(TOPIC).expect("an answer"), []);
    kafka.create_topic(TOPIC, 3, &[("cleanup.policy", "compact,delete")]).expect("a topic");
    assert_eq!(kafka.partitions(TOPIC).expect("an answer"), 3);
    let mut sent = vec![
        Record { timestamp_ms: 1_700_000_000_000, ..Record::new("k", "v") },
        Record {
            timestamp_ms: 1_700_000_000_123,
            headers: vec![("h".to_owned(), Some(vec![0, 255])), ("n".to_owned(), None)],
            ..Record::new("", &"é".repeat(5_000))
        },
        Record { timestamp_ms: 1_699_999_999_999, key: Some(vec![7]), ..Record::default() },
    ];
    assert_eq!(kafka.send(TOPIC, 1, &sent).expect("sent"), 0);
    let other = Record { timestamp_ms: 1, ..Record::new("x", "y") };
    assert_eq!(kafka.send(TOPIC, 0, std::slice::from_ref(&other)).expect("sent"), 0);
    assert_eq!(kafka.send(TOPIC, 1, &sent[..1]).expect("sent"), 3);
    sent.push(sent[0].clone());
    for (offset, record) in (0..).zip(&mut sent) {
        (record.partition, record.offset) = (1, offset);
    }
    assert_eq!(kafka.offsets(TOPIC, 1).expect("offsets"), 0..4);
    assert_eq!(kafka.records_from(TOPIC, 1, 2).expect("records"), sent[2..]);
    sent.insert(0, other);
    assert_eq!(kafka.records(TOPIC).expect("records"), sent);
}

#[test]
fn records_outlive_a_crash_and_a_stop() {
    let Some(kafka) = or_skip(Kafka::start()) else { return };
    kafka.create_topic(TOPIC, 1, &[]).expect("a topic");
    kafka.send(TOPIC, 0, &[Record::new("k", "first")]).expect("sent");
    let (port, pid) = (kafka.port(), kafka.pid());
    kafka.kill_9().expect("killed");
    assert!(!kafka.is_alive());
    TcpStream::connect(("127.0.0.1", port)).expect_err("nobody is there");
    kafka.restart().expect("restarted");
    assert_eq!(kafka.port(), port);
    assert_ne!(kafka.pid(), pid);
    kafka.send(TOPIC, 0, &[Record::new("k", "second")]).expect("sent");
    assert_eq!(values(&kafka, TOPIC), ["first", "second"]);
    kafka.stop().expect("stopped");
    assert!(!kafka.is_alive());
    kafka.restart().expect("restarted");
    assert_eq!(values(&kafka, TOPIC), ["first", "second"]);
}

#[test]
fn a_frozen_broker_answers_once_it_is_thawed() {
    let Some(kafka) = or_skip(Kafka::start()) else { return };
    kafka.create_topic(TOPIC, 1, &[]).expect("a topic");
    kafka.freeze().expect("frozen");
    std::thread::scope(|scope| {
        let (sender, receiver) = std::sync::mpsc::channel();
        let kafka = &kafka;
        scope.spawn(move || sender.send(kafka.send(TOPIC, 0, &[Record::new("k", "v")])));
        let silent = receiver.recv_timeout(Duration::from_millis(300));
        assert!(silent.is_err(), "{silent:?}");
        kafka.thaw().expect("thawed");
        receiver.recv().expect("an answer").expect("sent");
    });
    assert_eq!(values(&kafka, TOPIC), ["v"]);
}

#[test]
fn topics_are_cut_grow_and_are_made_again() {
    let Some(kafka) = or_skip(Kafka::builder().partitions(2).start()) else { return };
    kafka.create_topic(TOPIC, 1, &[]).expect("a topic");
    let again = kafka.create_topic(TOPIC, 1, &[]).expect_err("it is there");
    assert!(matches!(again, Error::Kafka { code: 36, .. }), "{again}");
    let unknown = kafka.set_topic(TOPIC, &[("no.such", "1")]).expect_err("no such setting");
    assert!(matches!(unknown, Error::Kafka { code: 40, .. }), "{unknown}");
    kafka.set_topic(TOPIC, &[("max.message.bytes", "200")]).expect("set");
    // Kafka says that it is set once it is written down; the broker obeys it some moments later.
    let (mut at, until) = (0, Instant::now() + Duration::from_secs(30));
    let large = loop {
        match kafka.send(TOPIC, 0, &[Record::new("k", &"v".repeat(500))]) {
            Ok(_) => at += 1,
            Err(error) => break error,
        }
        assert!(Instant::now() < until, "taken {at} times");
    };
    assert!(matches!(large, Error::Kafka { code: 10, .. }), "{large}");
    for value in ["a", "b", "c"] {
        kafka.send(TOPIC, 0, &[Record::new("k", value)]).expect("sent");
    }
    kafka.delete_records(TOPIC, 0, at + 2).expect("cut");
    assert_eq!(kafka.offsets(TOPIC, 0).expect("offsets"), at + 2..at + 3);
    assert_eq!(values(&kafka, TOPIC), ["c"]);
    let before = kafka.records_from(TOPIC, 0, at + 1).expect_err("cut off");
    assert!(matches!(before, Error::Kafka { code: 1, .. }), "{before}");
    kafka.add_partitions(TOPIC, 3).expect("more partitions");
    kafka.send(TOPIC, 2, &[Record::new("k", "d")]).expect("sent");
    assert_eq!(values(&kafka, TOPIC), ["c", "d"]);
    kafka.delete_topic(TOPIC).expect("removed");
    assert_eq!(kafka.records(TOPIC).expect("an answer"), []);
    kafka.create_topic(TOPIC, 1, &[]).expect("a topic");
    assert_eq!(kafka.offsets(TOPIC, 0).expect("offsets"), 0..0);
}
