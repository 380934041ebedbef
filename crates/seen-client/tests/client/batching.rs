//! The mark batcher: what travels together, when, and what becomes of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use seen_client::limits::{MARK_ITEMS_MAX, MARKED_AT_MS_MAX};
use seen_client::{BatcherOptions, ErrorKind, MarkBatcher, MarkCall, Session};
use tokio::time::Instant;

use super::mock::{Mock, Stage, acknowledged, options, refused};

const MS: Duration = Duration::from_millis(1);

fn mark(id: u64) -> MarkCall {
    MarkCall::new("feed_read").item(1, id)
}

fn marks(ids: std::ops::Range<u64>) -> MarkCall {
    ids.fold(MarkCall::new("feed_read"), |call, id| call.item(1, id))
}

fn batcher(stage: &Stage, change: impl FnOnce(&mut BatcherOptions)) -> MarkBatcher {
    let mut bounds = BatcherOptions::default();
    change(&mut bounds);
    stage.client(options()).mark_batcher(bounds).expect("valid options")
}

fn acknowledge_all(stage: &Stage) {
    *stage.mock.on_mark.lock() = Some(Box::new(|_| Some(acknowledged(b""))));
}

fn sent(mock: &Mock) -> Vec<(u64, usize)> {
    let marks = mock.marks.lock();
    let of = marks.iter().map(|one| one.message.mark.as_ref().expect("a mark"));
    of.map(|mark| (mark.user, mark.items.len())).collect()
}

#[tokio::test(start_paused = true)]
async fn marks_of_one_session_travel_together_and_are_acknowledged_one_by_one() {
    let stage = Stage::default();
    acknowledge_all(&stage);
    let batcher = batcher(&stage, |_| {});
    let (five, six) = (Session::new(5), Session::new(6));
    let mut tickets = Vec::new();
    for (session, id) in [(&five, 1), (&six, 2), (&five, 3), (&five, 4)] {
        tickets.push(batcher.mark(session, mark(id)).await.unwrap());
    }
    assert_eq!(batcher.pending_items(), 4);
    assert!(join_all(tickets).await.iter().all(Result::is_ok));
    assert_eq!(sent(&stage.mock), [(5, 3), (6, 1)]);
    assert_eq!(batcher.pending_items(), 0, "room is given back");
    assert_eq!(*stage.mock.streams.lock(), 1);
}

#[tokio::test(start_paused = true)]
async fn marks_are_sent_when_they_are_many_or_old() {
    let stage = Stage::default();
    acknowledge_all(&stage);
    let batcher = batcher(&stage, |bounds| {
        bounds.flush_items = 10;
        bounds.flush_after = 50 * MS;
    });
    let session = Session::new(5);
    // Opens the stream, so that what follows is about flushing only.
    batcher.mark(&session, marks(0..10)).await.unwrap().await.unwrap();
    let begin = Instant::now();
    batcher.mark(&session, marks(0..10)).await.unwrap().await.unwrap();
    assert!(Instant::now() - begin < 5 * MS, "ten are sent at once");
    let begin = Instant::now();
    batcher.mark(&session, marks(0..9)).await.unwrap().await.unwrap();
    let waited = Instant::now() - begin;
    assert!((50 * MS..55 * MS).contains(&waited), "nine wait for others: {waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_message_holds_no_more_items_than_the_service_takes() {
    let stage = Stage::default();
    acknowledge_all(&stage);
    let batcher = batcher(&stage, |bounds| bounds.flush_items = 65_536);
    let session = Session::new(5);
    let most = MARK_ITEMS_MAX as u64;
    let mut tickets = Vec::new();
    for size in [600, 600, 400, most] {
        tickets.push(batcher.mark(&session, marks(0..size)).await.unwrap());
    }
    assert!(join_all(tickets).await.iter().all(Result::is_ok));
    assert_eq!(sent(&stage.mock), [(5, 600), (5, 1_000), (5, 1_000)]);
    let error = batcher.mark(&session, marks(0..most + 1)).await.unwrap_err();
    assert!(error.message.contains("1001 items; at most 1000"), "{error}");
    let late = MarkCall::new("feed_read").item_at(1, 1, MARKED_AT_MS_MAX + 1);
    let error = batcher.try_mark(&session, late).unwrap_err();
    assert_eq!(error.violations[0].field, "items[0].marked_at_ms");
    for name in ["", &"x".repeat(49)] {
        let error = batcher.try_mark(&session, MarkCall::new(name).item(1, 1)).unwrap_err();
        assert!(error.message.contains("namespace"), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_acknowledged_is_bounded() {
    let stage = Stage::default();
    let batcher = batcher(&stage, |bounds| bounds.items_max = 1_000);
    let session = Session::new(5);
    let waiting = batcher.try_mark(&session, marks(0..999)).unwrap();
    let one = batcher.try_mark(&session, mark(1)).unwrap();
    let error = batcher.try_mark(&session, mark(2)).unwrap_err();
    assert_eq!(error.kind, ErrorKind::Overloaded);
    let begin = Instant::now();
    let error = batcher.mark(&session, mark(2).timeout(30 * MS)).await.unwrap_err();
    assert_eq!((error.kind, (Instant::now() - begin).as_millis()), (ErrorKind::Overloaded, 30));
    acknowledge_all(&stage);
    stage.cut();
    // The first attempt got no answer. Once its time is over it is repeated, and then there is room.
    let third = batcher.mark(&session, mark(2)).await.unwrap();
    assert!(join_all([waiting, one, third]).await.iter().all(Result::is_ok));
}

#[tokio::test(start_paused = true)]
async fn one_wrong_message_does_not_hurt_the_others() {
    let stage = Stage::default();
    *stage.mock.on_mark.lock() = Some(Box::new(|mark| {
        let wrong = mark.namespace == "nowhere";
        Some(if wrong { refused(ErrorKind::UnknownNamespace) } else { acknowledged(b"") })
    }));
    let batcher = batcher(&stage, |_| {});
    let session = Session::new(5);
    let wrong = batcher.mark(&session, MarkCall::new("nowhere").item(1, 1)).await.unwrap();
    let right = batcher.mark(&session, mark(1)).await.unwrap();
    assert_eq!(wrong.await.unwrap_err().kind, ErrorKind::UnknownNamespace);
    right.await.unwrap();
    assert_eq!(stage.mock.marks.lock().len(), 2, "it is not repeated");
}

#[tokio::test(start_paused = true)]
async fn a_refusal_that_passes_is_repeated() {
    let stage = Stage::default();
    let calls = AtomicU32::new(0);
    *stage.mock.on_mark.lock() = Some(Box::new(move |_| {
        let first = calls.fetch_add(1, Ordering::Relaxed) == 0;
        Some(if first { refused(ErrorKind::Overloaded) } else { acknowledged(b"") })
    }));
    let batcher = batcher(&stage, |_| {});
    batcher.mark(&Session::new(5), mark(1)).await.unwrap().await.unwrap();
    let marks = stage.mock.marks.lock();
    assert_eq!(marks.len(), 2);
    assert!(marks[1].at - marks[0].at >= 100 * MS, "the table asks for 100 ms of patience");
}

#[tokio::test(start_paused = true)]
async fn marks_on_a_lost_stream_are_repeated_only_after_their_time() {
    let stage = Stage::default();
    let batcher = batcher(&stage, |bounds| bounds.attempt_timeout = 500 * MS);
    let ticket = batcher.mark(&Session::new(5), mark(1)).await.unwrap();
    stage.until(|mock| mock.marks.lock().len() == 1).await;
    acknowledge_all(&stage);
    stage.cut();
    ticket.await.unwrap();
    let marks = stage.mock.marks.lock();
    let between = marks[1].at - marks[0].at;
    assert!(between >= 490 * MS, "{between:?}: it may still have been running (row 38)");
    assert_eq!(marks[0].message.timeout_ms, 500);
    assert_eq!(*stage.mock.streams.lock(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_mark_without_an_answer_ends_with_an_unknown_outcome() {
    let stage = Stage::default();
    let batcher = batcher(&stage, |bounds| bounds.timeout = 700 * MS);
    let begin = Instant::now();
    let error = batcher.mark(&Session::new(5), mark(1)).await.unwrap().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::OutcomeUnknown);
    let waited = Instant::now() - begin;
    assert!((700 * MS..720 * MS).contains(&waited), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_service_that_comes_back_in_time_gets_what_waited() {
    let stage = Stage::default();
    acknowledge_all(&stage);
    stage.close(true);
    let batcher = batcher(&stage, |bounds| bounds.timeout = Duration::from_secs(5));
    let ticket = batcher.mark(&Session::new(5), mark(1)).await.unwrap();
    tokio::time::advance(3_000 * MS).await;
    stage.close(false);
    ticket.await.unwrap();
    stage.close(true);
    stage.cut();
    let begin = Instant::now();
    let error = batcher.mark(&Session::new(5), mark(2)).await.unwrap().await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable, "it was certainly not sent: {error}");
    let waited = Instant::now() - begin;
    assert!((5_000 * MS..5_050 * MS).contains(&waited), "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_service_that_reads_nothing_leaves_nobody_waiting() {
    let stage = Stage::default();
    acknowledge_all(&stage);
    let batcher = batcher(&stage, |bounds| {
        bounds.timeout = Duration::from_secs(3);
        bounds.attempt_timeout = 100 * MS;
        bounds.items_max = 1 << 20;
        bounds.bytes_max = 1 << 28;
        bounds.messages_max = 16;
    });
    let session = Session::new(5);
    batcher.mark(&session, mark(1)).await.unwrap().await.unwrap();
    stage.stall(true);
    // More than the windows of stream and connection take, so that messages wait in front of them.
    let begin = Instant::now();
    let mut tickets = Vec::new();
    for _ in 0..400 {
        tickets.push(batcher.mark(&session, marks(0..1_000)).await.unwrap());
    }
    let outcomes = join_all(tickets).await;
    assert!(Instant::now() - begin < 3_100 * MS, "{:?}", Instant::now() - begin);
    assert!(outcomes.iter().all(Result::is_err));
    stage.stall(false);
    batcher.mark(&session, mark(2)).await.unwrap().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn closing_sends_what_waits() {
    let stage = Stage::default();
    acknowledge_all(&stage);
    let batcher = batcher(&stage, |bounds| bounds.flush_after = Duration::from_secs(1));
    let ticket = batcher.mark(&Session::new(5), mark(1)).await.unwrap();
    let begin = Instant::now();
    batcher.close().await;
    assert!(Instant::now() - begin < 100 * MS, "it does not wait for the flush");
    ticket.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn closing_is_bounded_and_leaves_nobody_waiting() {
    let stage = Stage::default();
    let batcher = batcher(&stage, |bounds| bounds.close_timeout = 300 * MS);
    let ticket = batcher.mark(&Session::new(5), mark(1)).await.unwrap();
    stage.until(|mock| mock.marks.lock().len() == 1).await;
    let begin = Instant::now();
    batcher.close().await;
    assert!(Instant::now() - begin < 320 * MS);
    assert_eq!(ticket.await.unwrap_err().kind, ErrorKind::OutcomeUnknown);
}

#[tokio::test(start_paused = true)]
async fn an_old_stream_is_ended_in_peace() {
    let stage = Stage::default();
    acknowledge_all(&stage);
    let batcher = batcher(&stage, |bounds| bounds.stream_age = Duration::from_secs(2));
    let session = Session::new(5);
    for id in 0..50 {
        batcher.mark(&session, mark(id)).await.unwrap().await.unwrap();
        tokio::time::sleep(100 * MS).await;
    }
    assert_eq!(stage.mock.marks.lock().len(), 50, "none was lost or repeated");
    assert!(*stage.mock.streams.lock() >= 3, "{}", stage.mock.streams.lock());
}

#[tokio::test(start_paused = true)]
async fn acknowledgements_reach_the_session() {
    let stage = Stage::default();
    let token = Arc::new(parking_lot::Mutex::new(vec![200_u8, 1]));
    let given = Arc::clone(&token);
    *stage.mock.on_mark.lock() = Some(Box::new(move |_| Some(acknowledged(&given.lock()))));
    let batcher = batcher(&stage, |_| {});
    let session = Session::new(5);
    batcher.mark(&session, mark(1)).await.unwrap().await.unwrap();
    assert_eq!(session.token(), [200, 1]);
    *token.lock() = vec![200, 2];
    batcher.mark(&session, mark(2)).await.unwrap().await.unwrap();
    let carried = stage.mock.marks.lock()[1].message.mark.clone().expect("a mark").token;
    assert_eq!((carried, session.token()), (vec![200, 1], vec![200, 2]));
}

#[tokio::test(start_paused = true)]
async fn bounds_are_checked() {
    let client = Stage::default().client(options());
    let wrong = |change: fn(&mut BatcherOptions)| {
        let mut bounds = BatcherOptions::default();
        change(&mut bounds);
        client.mark_batcher(bounds).map(drop).unwrap_err().field
    };
    assert_eq!(wrong(|bounds| bounds.items_max = 999), "items_max");
    assert_eq!(wrong(|bounds| bounds.bytes_max = 1), "bytes_max");
    assert_eq!(wrong(|bounds| bounds.flush_items = 0), "flush_items");
    assert_eq!(wrong(|bounds| bounds.messages_max = 0), "messages_max");
    assert_eq!(wrong(|bounds| bounds.flush_after = Duration::from_secs(2)), "flush_after");
    assert_eq!(wrong(|bounds| bounds.stream_age = Duration::ZERO), "stream_age");
    assert_eq!(wrong(|bounds| bounds.timeout = Duration::ZERO), "timeout");
}
