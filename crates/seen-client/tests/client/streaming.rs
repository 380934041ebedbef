//! FilterStream: numbers, order, bounds, tokens, and a service that is away or breaks off.

use std::time::Duration;

use seen_client::{
    ErrorKind, FilterAsks, FilterCall, FilterReplies, FilterStreamOptions, Quality, Session,
    WhenAway, v1,
};
use seen_proto::status::{ApiError, call_error};
use tokio::time::Instant;
use tonic::Status;

use super::mock::{FilterResult, Stage, options};

const MS: Duration = Duration::from_millis(1);

fn feed() -> FilterCall {
    FilterCall::new("feed_read").items(1, [10, 11]).items(2, [12])
}

fn unseen(positions: &[u32], token: &[u8]) -> FilterResult {
    let quality = v1::Quality { level: v1::QualityLevel::Exact.into(), ..Default::default() };
    FilterResult::Filter(v1::FilterResponse {
        unseen: positions.to_vec(),
        quality: Some(quality),
        token: token.to_vec(),
    })
}

/// Answers every question with the position that is its user's number.
fn answer_all(stage: &Stage) {
    *stage.mock.on_filter.lock() = Some(Box::new(|asked| {
        let user = asked.filter.as_ref().expect("a question").user;
        Some(unseen(&[user as u32], b""))
    }));
}

fn open(
    stage: &Stage,
    change: impl FnOnce(&mut FilterStreamOptions),
) -> (FilterAsks, FilterReplies) {
    let mut bounds = FilterStreamOptions::default();
    change(&mut bounds);
    stage.client(options()).filter_stream(bounds).expect("valid options")
}

/// Waits until this many questions have arrived, and answers one of them by hand.
async fn answer(stage: &Stage, arrived: usize, place: usize, result: FilterResult) {
    stage.until(|mock| mock.filters.lock().len() >= arrived).await;
    let request_id = stage.mock.filters.lock()[place].message.request_id;
    let answer = v1::FilterStreamResponse { request_id, result: Some(result) };
    stage.mock.open.lock().last().expect("a stream").send(Ok(answer)).expect("it is open");
}

async fn next(replies: &mut FilterReplies) -> (u64, Result<Vec<u32>, ErrorKind>) {
    let reply = replies.next().await.expect("a reply");
    let answer = reply.answer.map(|answer| answer.unseen).map_err(|error| error.kind);
    (reply.request_id, answer)
}

#[tokio::test(start_paused = true)]
async fn replies_come_in_any_order_under_the_callers_numbers() {
    let stage = Stage::default();
    let (asks, mut replies) = open(&stage, |_| {});
    for (number, user) in [(u64::MAX, 0), (7, 1), (7, 2)] {
        asks.ask(number, &Session::new(user), feed()).await.unwrap();
    }
    assert_eq!(asks.pending_questions(), 3);
    answer(&stage, 3, 2, unseen(&[2], b"")).await;
    assert_eq!(next(&mut replies).await, (7, Ok(vec![2])));
    answer(&stage, 3, 0, unseen(&[0], b"")).await;
    assert_eq!(next(&mut replies).await, (u64::MAX, Ok(vec![0])));
    answer(&stage, 3, 1, unseen(&[1], b"")).await;
    assert_eq!(next(&mut replies).await, (7, Ok(vec![1])));
    assert_eq!((asks.pending_questions(), *stage.mock.streams.lock()), (0, 1));
    let sent = stage.mock.filters.lock();
    let users: Vec<u64> =
        sent.iter().filter_map(|one| Some(one.message.filter.as_ref()?.user)).collect();
    assert_eq!(users, [0, 1, 2]);
    assert!(sent.iter().all(|one| (80..=90).contains(&one.message.timeout_ms)));
}

#[tokio::test(start_paused = true)]
async fn open_questions_are_bounded_until_their_replies_are_taken() {
    let stage = Stage::default();
    answer_all(&stage);
    let (asks, mut replies) = open(&stage, |bounds| bounds.questions_max = 2);
    let session = Session::new(1);
    asks.ask(1, &session, feed()).await.unwrap();
    asks.try_ask(2, &session, feed()).unwrap();
    assert_eq!(asks.try_ask(3, &session, feed()).unwrap_err().kind, ErrorKind::Overloaded);
    stage.until(|mock| mock.filters.lock().len() == 2).await;
    let begin = Instant::now();
    let error = asks.ask(3, &session, feed().timeout(30 * MS)).await.unwrap_err();
    assert_eq!((error.kind, begin.elapsed().as_millis()), (ErrorKind::Overloaded, 30));
    let waiting = asks.clone();
    let third = tokio::spawn(async move { waiting.ask(4, &Session::new(2), feed()).await });
    assert_eq!(next(&mut replies).await, (1, Ok(vec![1])));
    third.await.unwrap().unwrap();
    assert_eq!(next(&mut replies).await, (2, Ok(vec![1])));
    assert_eq!(next(&mut replies).await, (4, Ok(vec![2])));
}

#[tokio::test(start_paused = true)]
async fn tokens_are_carried_and_taken_in() {
    let stage = Stage::default();
    *stage.mock.on_filter.lock() = Some(Box::new(|_| Some(unseen(&[], &[200, 1]))));
    let (asks, mut replies) = open(&stage, |_| {});
    let (session, other) = (Session::with_token(5, &[200]).unwrap(), Session::new(6));
    asks.ask(1, &session, feed()).await.unwrap();
    assert_eq!(next(&mut replies).await, (1, Ok(vec![])));
    assert_eq!(session.token(), [200, 1]);
    asks.ask(2, &session, feed()).await.unwrap();
    asks.ask(3, &other, feed()).await.unwrap();
    assert_eq!(next(&mut replies).await, (2, Ok(vec![])));
    assert_eq!(next(&mut replies).await, (3, Ok(vec![])));
    let sent = stage.mock.filters.lock();
    let tokens: Vec<&[u8]> =
        sent.iter().map(|one| one.message.filter.as_ref().unwrap().token.as_slice()).collect();
    assert_eq!(tokens, [&[200][..], &[200, 1], &[]]);
    assert_eq!(other.token(), [200, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_broken_stream_answers_what_was_open_as_each_question_declared() {
    let stage = Stage::default();
    let (asks, mut replies) = open(&stage, |_| {});
    let session = Session::new(1);
    for (number, choice) in (0..).zip([WhenAway::Error, WhenAway::ShowAll, WhenAway::HideAll]) {
        asks.ask(number, &session, feed().when_away(choice)).await.unwrap();
    }
    stage.until(|mock| mock.filters.lock().len() == 3).await;
    let begin = Instant::now();
    stage.cut();
    assert_eq!(next(&mut replies).await, (0, Err(ErrorKind::Unavailable)));
    let shown = replies.next().await.unwrap();
    let answer = shown.answer.unwrap();
    assert_eq!((shown.request_id, &answer.unseen[..]), (1, &[0, 1, 2][..]));
    assert!(answer.is_flagged() && answer.fallback.is_some());
    assert_eq!(next(&mut replies).await, (2, Ok(vec![])));
    assert!(begin.elapsed() < 5 * MS, "at once, not when their time is up");
    answer_all(&stage);
    asks.ask(3, &session, feed()).await.unwrap();
    assert_eq!(next(&mut replies).await, (3, Ok(vec![1])), "it came back");
    assert_eq!(*stage.mock.streams.lock(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_the_service_ends_by_an_error_blames_no_question() {
    let stage = Stage::default();
    let (asks, mut replies) = open(&stage, |_| {});
    asks.ask(1, &Session::new(1), feed().when_away(WhenAway::ShowAll)).await.unwrap();
    stage.until(|mock| mock.filters.lock().len() == 1).await;
    let wrong = Status::from(ApiError::invalid("message", "it cannot be read"));
    stage.mock.open.lock()[0].send(Err(wrong)).unwrap();
    assert_eq!(next(&mut replies).await, (1, Ok(vec![0, 1, 2])));
}

#[tokio::test(start_paused = true)]
async fn a_service_that_is_away_costs_no_question_its_time() {
    let stage = Stage::default();
    stage.close(true);
    let (asks, mut replies) = open(&stage, |_| {});
    let session = Session::new(1);
    let begin = Instant::now();
    for number in 0..100 {
        asks.ask(number, &session, feed().when_away(WhenAway::HideAll)).await.unwrap();
        assert_eq!(next(&mut replies).await, (number, Ok(vec![])));
    }
    // The first ones wait for another attempt that comes in time; soon there is none.
    assert!(begin.elapsed() < 500 * MS, "{:?}", begin.elapsed());
    stage.close(false);
    answer_all(&stage);
    asks.ask(100, &session, feed().timeout(Duration::from_secs(5))).await.unwrap();
    assert_eq!(
        next(&mut replies).await,
        (100, Ok(vec![1])),
        "it waits for a service that comes back"
    );
}

#[tokio::test(start_paused = true)]
async fn a_silent_service_is_answered_for_when_the_time_is_up() {
    let stage = Stage::default();
    let (asks, mut replies) = open(&stage, |_| {});
    let session = Session::new(1);
    let begin = Instant::now();
    asks.ask(1, &session, feed().timeout(70 * MS)).await.unwrap();
    asks.ask(2, &session, feed().timeout(50 * MS).when_away(WhenAway::ShowAll)).await.unwrap();
    assert_eq!(next(&mut replies).await, (2, Ok(vec![0, 1, 2])));
    assert_eq!(begin.elapsed().as_millis(), 50);
    assert_eq!(next(&mut replies).await, (1, Err(ErrorKind::DeadlineExceeded)));
    assert_eq!(begin.elapsed().as_millis(), 70);
    // Too late, and answered already.
    answer(&stage, 2, 0, unseen(&[0], b"")).await;
    asks.ask(3, &session, feed()).await.unwrap();
    answer(&stage, 3, 2, unseen(&[2], b"")).await;
    assert_eq!(next(&mut replies).await, (3, Ok(vec![2])));
}

#[tokio::test(start_paused = true)]
async fn a_service_that_reads_nothing_leaves_nobody_waiting() {
    let stage = Stage::default();
    answer_all(&stage);
    let (asks, mut replies) = open(&stage, |bounds| bounds.questions_max = 16);
    let session = Session::new(1);
    asks.ask(0, &session, feed()).await.unwrap();
    assert_eq!(next(&mut replies).await, (0, Ok(vec![1])));
    stage.stall(true);
    let begin = Instant::now();
    let large = || FilterCall::new("feed_read").items(1, 0..1_000).timeout(20 * MS);
    // More than the windows of stream and connection take.
    for round in 1..=30 {
        for number in 0..16 {
            asks.ask(number, &session, large().when_away(WhenAway::HideAll)).await.unwrap();
        }
        for _ in 0..16 {
            assert_eq!(next(&mut replies).await.1, Ok(vec![]));
        }
        assert_eq!(begin.elapsed().as_millis(), round * 20);
    }
    stage.stall(false);
    asks.ask(0, &session, feed()).await.unwrap();
    assert_eq!(next(&mut replies).await, (0, Ok(vec![1])));
}

#[tokio::test(start_paused = true)]
async fn one_wrong_question_does_not_hurt_the_others() {
    let stage = Stage::default();
    *stage.mock.on_filter.lock() = Some(Box::new(|asked| {
        let wrong = asked.filter.as_ref()?.namespaces == ["nowhere"];
        let refusal = || FilterResult::Error(call_error(ApiError::unknown_namespace("nowhere")));
        Some(if wrong { refusal() } else { unseen(&[0], b"") })
    }));
    let (asks, mut replies) = open(&stage, |_| {});
    let session = Session::new(1);
    asks.ask(1, &session, FilterCall::new("nowhere").when_away(WhenAway::ShowAll)).await.unwrap();
    assert_eq!(next(&mut replies).await, (1, Err(ErrorKind::UnknownNamespace)));
    let many = feed().items(3, 0..998);
    assert_eq!(asks.try_ask(2, &session, many).unwrap_err().violations[0].field, "candidates.ids");
    let groups = (0..1_001).fold(FilterCall::new("feed_read"), |call, _| call.items(1, []));
    assert_eq!(asks.try_ask(2, &session, groups).unwrap_err().violations[0].field, "candidates");
    let names = (0..8).fold(feed(), |call, _| call.namespace("feed_read"));
    assert_eq!(asks.try_ask(2, &session, names).unwrap_err().violations[0].field, "namespaces");
    let long = FilterCall::new("x".repeat(300_000));
    assert_eq!(asks.try_ask(2, &session, long).unwrap_err().kind, ErrorKind::UnknownNamespace);
    asks.ask(3, &session, feed()).await.unwrap();
    assert_eq!(next(&mut replies).await, (3, Ok(vec![0])));
    *stage.mock.on_filter.lock() = Some(Box::new(|_| Some(unseen(&[3], b""))));
    asks.ask(4, &session, feed()).await.unwrap();
    assert_eq!(next(&mut replies).await, (4, Err(ErrorKind::Internal)), "it fits no question");
    assert_eq!(*stage.mock.streams.lock(), 1);
}

#[tokio::test(start_paused = true)]
async fn an_old_stream_is_followed_by_another_one_and_loses_nothing() {
    let stage = Stage::default();
    answer_all(&stage);
    let (asks, mut replies) = open(&stage, |bounds| bounds.stream_age = Duration::from_secs(2));
    for number in 0..50 {
        let session = Session::new(number % 3);
        asks.ask(number, &session, feed()).await.unwrap();
        assert_eq!(next(&mut replies).await, (number, Ok(vec![(number % 3) as u32])));
        tokio::time::sleep(100 * MS).await;
    }
    assert!(*stage.mock.streams.lock() >= 3, "{}", stage.mock.streams.lock());
    // A question that is open while its stream becomes old keeps nobody else waiting.
    *stage.mock.on_filter.lock() = None;
    let arrived = stage.mock.filters.lock().len();
    let session = Session::new(1);
    asks.ask(50, &session, feed().timeout(Duration::from_secs(5))).await.unwrap();
    stage.until(|mock| mock.filters.lock().len() > arrived).await;
    let old = stage.mock.open.lock().last().expect("open").clone();
    let begun = *stage.mock.streams.lock();
    tokio::time::sleep(Duration::from_secs(3)).await;
    answer_all(&stage);
    let begin = Instant::now();
    asks.ask(51, &session, feed()).await.unwrap();
    assert_eq!(next(&mut replies).await, (51, Ok(vec![1])));
    assert!(begin.elapsed() < 10 * MS && *stage.mock.streams.lock() == begun + 1);
    let request_id = stage.mock.filters.lock()[arrived].message.request_id;
    let answer = v1::FilterStreamResponse { request_id, result: Some(unseen(&[2], b"")) };
    old.send(Ok(answer)).unwrap();
    assert_eq!(next(&mut replies).await, (50, Ok(vec![2])), "its last answer came still");
}

#[tokio::test(start_paused = true)]
async fn it_ends_from_either_end() {
    let stage = Stage::default();
    answer_all(&stage);
    let (asks, mut replies) = open(&stage, |_| {});
    asks.ask(1, &Session::new(1), feed()).await.unwrap();
    drop(asks);
    assert_eq!(next(&mut replies).await, (1, Ok(vec![1])));
    assert_eq!(replies.next().await, None);
    stage.until(|mock| mock.open.lock().is_empty()).await;
    let (asks, replies) = open(&stage, |_| {});
    drop(replies);
    while asks.ask(1, &Session::new(1), feed()).await.is_ok() {
        tokio::task::yield_now().await;
    }
    let error = asks.ask(1, &Session::new(1), feed()).await.unwrap_err();
    assert!(error.message.contains("replies were dropped"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_session_that_lost_part_of_its_token_is_flagged() {
    let stage = Stage::default();
    let given = parking_lot::Mutex::new(199);
    *stage.mock.on_filter.lock() = Some(Box::new(move |_| {
        *given.lock() += 1;
        Some(unseen(&[0], &[*given.lock(); 500]))
    }));
    let (asks, mut replies) = open(&stage, |_| {});
    let session = Session::new(1);
    for number in 0..3 {
        asks.ask(number, &session, feed()).await.unwrap();
    }
    let mut qualities = Vec::new();
    for _ in 0..3 {
        qualities.push(replies.next().await.unwrap().answer.unwrap().quality);
    }
    assert_eq!(qualities[..2], [Quality::Exact; 2]);
    assert!(matches!(qualities[2], Quality::Degraded { .. }), "{qualities:?}");
}

#[tokio::test(start_paused = true)]
async fn bounds_are_checked() {
    let client = Stage::default().client(options());
    let wrong = |change: fn(&mut FilterStreamOptions)| {
        let mut bounds = FilterStreamOptions::default();
        change(&mut bounds);
        client.filter_stream(bounds).map(drop).unwrap_err().field
    };
    assert_eq!(wrong(|bounds| bounds.questions_max = 0), "questions_max");
    assert_eq!(wrong(|bounds| bounds.questions_max = 4_097), "questions_max");
    assert_eq!(wrong(|bounds| bounds.stream_age = Duration::ZERO), "stream_age");
    assert_eq!(wrong(|bounds| bounds.open_timeout = Duration::ZERO), "open_timeout");
}
