//! Only topics of its own; Kafka that goes away and comes back. (The mock cluster lets two producers of one
//! transactional id be: a second relay ends the first in the tests of the real Kafka.)

use std::sync::Arc;
use std::sync::mpsc::channel;

use seen_filter::{ChangeFeed, FeedEvent};
use seen_kafka::relay::{RelayError, RelayOptions, Relayed, relay};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::stage::{PATIENCE, Stage, Value, drain, user_of};

/// A relay that goes on until it is told to stop.
fn going_on(
    stage: &Stage,
    topic: &str,
) -> (oneshot::Sender<()>, JoinHandle<Result<Relayed, RelayError>>) {
    let options = RelayOptions { once: false, ..stage.options(topic) };
    let source: Arc<dyn ChangeFeed> = Arc::new(stage.store.clone());
    let (stop, stopped) = oneshot::channel::<()>();
    let running = relay(source, options, async move { drop(stopped.await) });
    (stop, tokio::spawn(running))
}

/// Reads a topic until this holds.
async fn until(stage: &Stage, topic: &str, mut holds: impl FnMut(&[Vec<Value>]) -> bool) {
    let began = std::time::Instant::now();
    while !holds(&stage.read(topic)) {
        assert!(began.elapsed() < PATIENCE, "topic {topic} does not come to hold it");
        tokio::task::yield_now().await;
    }
}

fn told(values: &[Vec<Value>]) -> Vec<FeedEvent> {
    let events = values.iter().flatten().flat_map(|value| &value.events);
    events.filter(|event| user_of(event).is_some()).copied().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_told_while_kafka_was_away_is_not_lost() {
    let stage = Stage::new(1);
    stage.topic("t", 2);
    let (stop, running) = going_on(&stage, "t");
    until(&stage, "t", |values| values.iter().all(|lane| !lane.is_empty())).await;
    let mut readers = stage.readers().await;
    stage.work(0, 5).await;
    stage.cluster.broker_down(1).expect("down");
    stage.work(5, 30).await;
    stage.cluster.broker_up(1).expect("up");
    stage.work(35, 5).await;
    let source = drain(&mut readers[0]).await;
    until(&stage, "t", |values| {
        let told = told(values);
        source.iter().all(|event| told.contains(event))
    })
    .await;
    stop.send(()).expect("it runs");
    running.await.expect("no panic").expect("a good end");
}

/// A runtime ends when its blocking calls have: a relay that went on trying would hold that up for good.
#[test]
fn a_relay_that_nobody_waits_for_ends_although_kafka_is_silent() {
    let (is_over, over) = channel();
    std::thread::spawn(move || {
        let runtime = Runtime::new().expect("a runtime");
        runtime.block_on(async {
            let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
            let address = silent.local_addr().expect("an address").to_string();
            let stage = Stage::new(1);
            let source: Arc<dyn ChangeFeed> = Arc::new(stage.store.clone());
            let options = stage.options_at(address, "t");
            let running = tokio::spawn(relay(source, options, std::future::pending()));
            // By now it waits for an answer.
            silent.accept().await.expect("a client");
            running.abort();
        });
        drop(runtime);
        is_over.send(()).expect("awaited");
    });
    over.recv_timeout(PATIENCE).expect("it ends");
}

#[tokio::test(flavor = "multi_thread")]
async fn topics_of_others_are_refused() {
    let stage = Stage::new(1);
    stage.topic("three", 3);
    stage.relay_once("three").await.expect("relayed");
    stage.topic("two", 2);
    stage.copy("two", &stage.read("three")[..2]);
    let refused = stage.relay_once("two").await.expect_err("three partitions").to_string();
    assert!(refused.contains("0 of 3") && refused.contains("topic of its own"), "{refused}");
    let mut foreign = stage.read("three");
    foreign[2][0].bytes = b"{\"payload\":{}}".to_vec();
    stage.topic("foreign", 3);
    stage.copy("foreign", &foreign);
    let refused = stage.relay_once("foreign").await.expect_err("a foreign record").to_string();
    assert!(refused.contains("no record of a relay"), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_work_is_refused() {
    let stage = Stage::new(1);
    let fine = stage.options("t");
    let many = RelayOptions { topics: vec!["a".to_owned(), "b".to_owned()], ..fine.clone() };
    let set = [("acks".to_owned(), "1".to_owned())].into();
    let loose = RelayOptions { client: set, ..fine.clone() };
    let none = RelayOptions { namespaces: Vec::new(), ..fine.clone() };
    for (bad, word) in [(many, "2 topics"), (loose, "acks"), (none, "no history")] {
        let refused = stage.relay(bad).await.expect_err(word).to_string();
        assert!(refused.contains(word), "{refused}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn quiet_lanes_are_told_how_far_the_source_has_come() {
    let stage = Stage::new(1);
    stage.topic("t", 8);
    let (stop, running) = going_on(&stage, "t");
    until(&stage, "t", |values| values.iter().all(|lane| !lane.is_empty())).await;
    stage.work(0, 1).await;
    let head = stage.store.head();
    let is_told = |lane: &Vec<Value>| {
        let newest = lane.iter().rev().flat_map(|value| value.events.iter().rev());
        let complete = newest.filter_map(|event| match event {
            FeedEvent::Complete { stamp } => Some(stamp.position),
            _ => None,
        });
        complete.max() == Some(head)
    };
    until(&stage, "t", |values| values.iter().all(is_told)).await;
    stop.send(()).expect("it runs");
    running.await.expect("no panic").expect("a good end");
}
