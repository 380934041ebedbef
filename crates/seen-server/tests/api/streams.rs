//! FilterStream and MarkStream: many questions over one call.

use std::collections::BTreeMap;

use futures_util::StreamExt;
use seen_client::{Client, ClientOptions, FilterCall, FilterStreamOptions, MarkCall, Session};
use seen_proto::v1::{
    self, FilterStreamRequest, MarkStreamRequest, filter_stream_response, mark_stream_response,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use super::ask::{PATIENCE, PATIENCE_MS, READ, filter, mark, sound};
use super::refusal::{UNKNOWN_NAMESPACE, invalid};
use super::stage::Stage;

fn question(request_id: u64, filter: v1::FilterRequest) -> FilterStreamRequest {
    FilterStreamRequest { request_id, filter: Some(filter), timeout_ms: PATIENCE_MS }
}

fn marking(request_id: u64, mark: v1::MarkRequest) -> MarkStreamRequest {
    MarkStreamRequest { request_id, mark: Some(mark), timeout_ms: PATIENCE_MS }
}

#[tokio::test]
async fn many_users_are_answered_each_under_its_id() {
    let mut stage = Stage::open().await;
    let marks = (0..300_u64).map(|user| marking(user, mark(user, READ, [user, user + 1])));
    let answers = stage.api.0.mark_stream(tokio_stream::iter(marks)).await.expect("opened");
    let mut tokens = BTreeMap::new();
    let mut answers = answers.into_inner();
    while let Some(answer) = answers.next().await {
        let answer = answer.expect("the stream goes on");
        match answer.result.expect("one of the two") {
            mark_stream_response::Result::Mark(mark) => {
                tokens.insert(answer.request_id, mark.token)
            }
            mark_stream_response::Result::Error(error) => panic!("{error:?}"),
        };
    }
    assert_eq!(tokens.len(), 300);
    // Twice: from storage, and, where the builds have come by then, from memory.
    for _ in 0..2 {
        let asks = tokens.iter().map(|(user, token)| {
            let ids = [*user, *user + 1, *user + 2];
            let ask = v1::FilterRequest { token: token.clone(), ..filter(*user, &[READ], ids) };
            question(*user, ask)
        });
        let asks: Vec<_> = asks.collect();
        let answers = stage.api.0.filter_stream(tokio_stream::iter(asks)).await.expect("opened");
        let mut answers = answers.into_inner();
        let mut seen = BTreeMap::new();
        while let Some(answer) = answers.next().await {
            let answer = answer.expect("the stream goes on");
            match answer.result.expect("one of the two") {
                filter_stream_response::Result::Filter(filter) => {
                    seen.insert(answer.request_id, sound(&filter).to_vec());
                }
                filter_stream_response::Result::Error(error) => panic!("{error:?}"),
            }
        }
        assert_eq!(seen.len(), 300);
        assert!(seen.values().all(|unread| unread == &[2]));
    }
    stage.close().await;
}

#[tokio::test]
async fn a_stream_answers_while_it_is_asked() {
    let mut stage = Stage::open().await;
    let (ask, asked) = mpsc::channel(1);
    let opened = stage.api.0.filter_stream(ReceiverStream::new(asked)).await.expect("opened");
    let mut answers = opened.into_inner();
    for turn in 0..20_u64 {
        // Ids need not be unique, and 0 is one.
        ask.send(question(turn % 3, filter(1, &[READ], 0..turn + 1))).await.expect("open");
        let answer = answers.next().await.expect("open").expect("answered");
        assert_eq!(answer.request_id, turn % 3);
        let Some(filter_stream_response::Result::Filter(filter)) = answer.result else {
            panic!("{answer:?}");
        };
        let expected: Vec<u32> = (turn as u32..turn as u32 + 1).collect();
        assert_eq!(sound(&filter), expected, "what was marked is read");
        stage.api.mark(mark(1, READ, [turn])).await;
    }
    drop(ask);
    assert!(answers.next().await.is_none(), "it ends when nothing more is asked");
    stage.close().await;
}

#[tokio::test]
async fn a_failed_question_is_answered_and_the_stream_goes_on() {
    let mut stage = Stage::open().await;
    let good = |id| question(id, filter(1, &[READ], [1]));
    let bad = vec![
        (question(1, filter(1, &["nowhere"], [1])), UNKNOWN_NAMESPACE),
        (question(2, filter(1, &[], [1])), invalid("namespaces", "1 to 8")),
        (question(3, filter(1, &[READ], 0..1_001)), invalid("candidates", "1000")),
        (question(4, filter(1, &[READ; 9], [1])), invalid("namespaces", "8")),
        (
            FilterStreamRequest { timeout_ms: 60_001, ..good(5) },
            invalid("timeout_ms", "60001; at most 60000"),
        ),
        (FilterStreamRequest { filter: None, ..good(6) }, invalid("filter", "absent")),
    ];
    let asks: Vec<_> = bad.iter().flat_map(|(bad, _)| [bad.clone(), good(100)]).collect();
    let answers = stage.api.0.filter_stream(tokio_stream::iter(asks)).await.expect("opened");
    let mut answers = answers.into_inner();
    let (mut errors, mut fine) = (BTreeMap::new(), 0);
    while let Some(answer) = answers.next().await {
        let answer = answer.expect("the stream goes on");
        match answer.result.expect("one of the two") {
            filter_stream_response::Result::Filter(_) => fine += 1,
            filter_stream_response::Result::Error(error) => {
                errors.insert(answer.request_id, error);
            }
        }
    }
    assert_eq!(fine, bad.len());
    for (question, refusal) in &bad {
        refusal.is_call_error(&errors[&question.request_id]);
    }
    stage.close().await;
}

#[tokio::test]
async fn a_failed_mark_is_answered_and_the_stream_goes_on() {
    let mut stage = Stage::open().await;
    let asks = vec![
        marking(1, mark(1, "nowhere", [1])),
        marking(2, mark(1, READ, 0..1_001)),
        MarkStreamRequest { mark: None, ..marking(3, mark(1, READ, [1])) },
        marking(4, mark(1, READ, [1])),
    ];
    let answers = stage.api.0.mark_stream(tokio_stream::iter(asks)).await.expect("opened");
    let mut answers = answers.into_inner();
    let mut errors = BTreeMap::new();
    while let Some(answer) = answers.next().await {
        let answer = answer.expect("the stream goes on");
        if let Some(mark_stream_response::Result::Error(error)) = answer.result {
            errors.insert(answer.request_id, error);
        }
    }
    assert_eq!(errors.len(), 3);
    UNKNOWN_NAMESPACE.is_call_error(&errors[&1]);
    invalid("items", "1000").is_call_error(&errors[&2]);
    invalid("mark", "absent").is_call_error(&errors[&3]);
    assert_eq!(stage.api.unread(1, READ, &[0, 1]).await, [0]);
    stage.close().await;
}

#[tokio::test]
async fn a_message_that_is_too_large_ends_the_stream() {
    let mut stage = Stage::open().await;
    let asks =
        vec![question(1, filter(1, &[READ], 0..40_000)), question(2, filter(1, &[READ], [1]))];
    let answers = stage.api.0.filter_stream(tokio_stream::iter(asks)).await.expect("opened");
    let ended = answers.into_inner().next().await.expect("an end").expect_err("too large");
    assert_eq!(ended.code(), Code::OutOfRange, "{ended:?}");
    stage.close().await;
}

#[tokio::test]
async fn the_rust_client_asks_over_a_stream_what_its_sessions_have_marked() {
    let stage = Stage::open().await;
    let client = Client::new(ClientOptions::new(stage.at.api.to_string())).expect("valid");
    let sessions: Vec<Session> = (0..20).map(Session::new).collect();
    let (asks, mut replies) = client.filter_stream(FilterStreamOptions::default()).expect("valid");
    for session in &sessions {
        let mark = MarkCall::new(READ).item(1, session.user()).timeout(PATIENCE);
        client.mark(session, mark).await.expect("marked");
        let call = FilterCall::new(READ).items(1, 0..20).timeout(PATIENCE);
        asks.ask(100 + session.user(), session, call).await.expect("room");
    }
    drop(asks);
    let mut answered = 0;
    while let Some(reply) = replies.next().await {
        let answer = reply.answer.expect("answered");
        assert!(!answer.is_flagged(), "{answer:?}");
        let user = (reply.request_id - 100) as u32;
        let unread: Vec<u32> = (0..20).filter(|place| *place != user).collect();
        assert_eq!(answer.unseen, unread, "user {user}");
        answered += 1;
    }
    assert_eq!(answered, 20);
    stage.close().await;
}
