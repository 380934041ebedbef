//! Against a real Kafka: topics that are made, a relay that is taken over while it writes, and how fast it is.

use std::sync::Arc;
use std::time::{Duration, Instant};

use seen_filter::history::{Write, WriteOp};
use seen_filter::{ChangeFeed, FeedEvent, History, Item, UserId};
use seen_kafka::relay::{RelayError, RelayOptions, relay};
use seen_testbed::{Kafka, or_skip};
use tokio::sync::oneshot;

use super::stage::{NS, PATIENCE, Stage, drain, read, user_of, wait_for_record};

const ROWS: u64 = 300_000;

/// Relays many rows, and says how fast that was.
async fn fill(stage: &Stage, options: &RelayOptions) {
    for user in 0..ROWS / 500 {
        let items = (0..500).map(|item| (Item::new(1, item), None)).collect();
        let write = Write { namespace: NS, user: UserId::new(user), op: WriteOp::Append, items };
        stage.store.write(vec![write]).await.expect("a write");
    }
    let begin = Instant::now();
    let done = stage.relay(options.clone()).await.expect("relayed");
    let took = begin.elapsed();
    let rate = done.events as f64 / took.as_secs_f64();
    eprintln!("{} events, {} records in {took:?}: {rate:.0} events/s", done.events, done.records);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_topic_is_made_filled_and_taken_over() {
    let Some(kafka) = or_skip(Kafka::start()) else { return };
    let stage = Stage::new(1);
    let options = RelayOptions {
        commit_interval_ms: 20,
        commit_bytes: 4 << 20,
        batch_events_max: 4_096,
        ..stage.options_at(kafka.bootstrap(), "slots")
    };
    let refused = stage.relay(options.clone()).await.expect_err("no topic");
    assert!(matches!(&refused, RelayError::NoTopic { topic } if topic == "slots"), "{refused}");
    let options = RelayOptions { create: Some(4), ..options };
    stage.relay(options.clone()).await.expect("a beginning");
    assert_eq!(kafka.partitions("slots").expect("it answers"), 4);

    let mut readers = stage.readers().await;
    fill(&stage, &options).await;

    // Two at once: the first one ends, and nothing is missing.
    let going_on = |stage: &Stage, stopped: oneshot::Receiver<()>| {
        let source: Arc<dyn ChangeFeed> = Arc::new(stage.store.clone());
        let options = RelayOptions { once: false, ..options.clone() };
        tokio::spawn(relay(source, options, async { drop(stopped.await) }))
    };
    let end = |at| kafka.offsets("slots", at).expect("it answers").end;
    let ends: Vec<i64> = (0..4).map(end).collect();
    let (_never, stopped) = oneshot::channel();
    let first = going_on(&stage, stopped);
    stage.work(0, 20).await;
    // The second one begins only when the first one writes: of two that begin at the same time the later
    // one to take the topic over goes on, whichever that is.
    wait_for_record(&kafka.bootstrap(), "slots", &ends, || {
        assert!(!first.is_finished(), "the first relay ended");
    });
    let began = Instant::now();
    let (stop, stopped) = oneshot::channel();
    let second = going_on(&stage, stopped);
    let mut at = 20;
    while !first.is_finished() {
        assert!(began.elapsed() < PATIENCE, "the first relay goes on");
        // It finds out when it writes.
        stage.work(at, 1).await;
        at += 1;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let ended = first.await.expect("no panic").expect_err("an end");
    assert!(matches!(&ended, RelayError::Fenced { .. }), "{ended}");
    // It has ended only when its producer has: one that is still beginning would shut out the next.
    drop(stop);
    second.await.expect("no panic").expect("stopped");
    stage.relay(options.clone()).await.expect("relayed");

    let mut source = drain(&mut readers[0]).await;
    let mut told: Vec<FeedEvent> =
        read(&kafka.bootstrap(), "slots").into_iter().flatten().flat_map(|v| v.events).collect();
    told.retain(|event| user_of(event).is_some());
    for events in [&mut source, &mut told] {
        events.sort_by_cached_key(|event| format!("{event:?}"));
        events.dedup();
    }
    assert_eq!(source.len(), told.len());
    assert!(source == told, "the same events");
}
