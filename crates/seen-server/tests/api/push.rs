//! FilterUsers: a few items against many users.

use std::collections::BTreeSet;

use futures_util::StreamExt;
use seen_proto::model::PushAnswers;
use seen_proto::v1::{
    self, FilterUsersRequest, QualityLevel, UserAnswer, filter_users_response::Result as Answer,
};

use super::ask::{KIND, PATIENCE_MS, READ, SENT, group, mark};
use super::refusal::{Refusal, UNKNOWN_NAMESPACE, failure, invalid};
use super::stage::Stage;
use tonic::Code;

fn push(items: impl IntoIterator<Item = u64>, users: Vec<u64>) -> FilterUsersRequest {
    FilterUsersRequest {
        request_id: 1,
        namespaces: vec![READ.to_owned()],
        items: vec![group(KIND, items)],
        users,
        timeout_ms: PATIENCE_MS,
        ..Default::default()
    }
}

/// Asks one message over a stream of its own.
async fn ask(stage: &mut Stage, request: FilterUsersRequest) -> v1::FilterUsersResponse {
    let asks = tokio_stream::iter([request]);
    let mut answers = stage.api.0.filter_users(asks).await.expect("opened").into_inner();
    let answer = answers.next().await.expect("an answer").expect("the stream goes on");
    assert!(answers.next().await.is_none(), "one question, one answer");
    answer
}

/// As [`ask`], of a question that is answered.
async fn answered(stage: &mut Stage, request: FilterUsersRequest) -> PushAnswers {
    let items = request.items.iter().map(|group| group.ids.len()).sum();
    let (id, users) = (request.request_id, request.users.len());
    let answer = ask(stage, request).await;
    assert_eq!(answer.request_id, id);
    match answer.result.expect("one of the two") {
        Answer::Users(result) => PushAnswers::new(result, items, users).expect("sizes that fit"),
        Answer::Error(error) => panic!("{error:?}"),
    }
}

fn level(answers: &PushAnswers) -> QualityLevel {
    v1::Quality::from(answers.quality()).level()
}

#[tokio::test]
async fn who_has_not_read_what_is_told_for_warm_and_cold_users() {
    let mut stage = Stage::open().await;
    stage.api.mark(mark(1, READ, [10, 12])).await;
    stage.api.mark(mark(2, READ, [11])).await;
    stage.api.mark(mark(3, READ, 0..200)).await;
    stage.rebuild(1, READ).await;
    stage.rebuild(3, READ).await;
    let before = stage.status().await.memory.expect("present");
    // Nine items make rows of two bytes; users repeat, and one has read nothing.
    let request = push([10, 11, 12, 13, 14, 15, 16, 17, 900], vec![2, 1, 4, 3, 1, u64::MAX]);
    let answers = answered(&mut stage, request).await;
    let unread = |user| answers.unseen(user).collect::<Vec<_>>();
    let all: Vec<usize> = (0..9).collect();
    assert_eq!(unread(0), [0, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(unread(1), [1, 3, 4, 5, 6, 7, 8]);
    assert_eq!(unread(4), unread(1), "a user who is asked about twice");
    assert_eq!((unread(2), unread(5)), (all.clone(), all));
    assert!(unread(3).iter().all(|at| *at == 8), "{:?}", unread(3));
    for user in [0, 1, 2, 4, 5] {
        assert_eq!(answers.answer(user), UserAnswer::Exact, "user {user}");
    }
    assert_eq!(answers.answer(3), UserAnswer::Filtered);
    assert_eq!(level(&answers), QualityLevel::Filtered);
    let after = stage.status().await.memory.expect("present");
    assert_eq!((after.entries, after.builds), (before.entries, before.builds), "it builds nothing");
    stage.close().await;
}

#[tokio::test]
async fn several_namespaces_count_together_and_stay_exact_where_no_filter_spoke() {
    let mut stage = Stage::open().await;
    stage.api.mark(mark(1, READ, [10])).await;
    stage.api.mark(mark(1, SENT, [11])).await;
    // The first history is in memory, the second one is asked in storage.
    stage.rebuild(1, READ).await;
    let namespaces = vec![READ.to_owned(), SENT.to_owned(), READ.to_owned()];
    let request = FilterUsersRequest { namespaces, ..push([10, 11, 12], vec![1]) };
    let answers = answered(&mut stage, request).await;
    assert_eq!(answers.unseen(0).collect::<Vec<_>>(), [2]);
    assert_eq!(answers.answer(0), UserAnswer::Exact);
    assert_eq!(level(&answers), QualityLevel::Exact);
    stage.close().await;
}

#[tokio::test]
async fn ten_thousand_users_are_answered_by_one_message() {
    let mut stage = Stage::open().await;
    let readers: BTreeSet<u64> = (0..10_000).step_by(500).collect();
    for user in &readers {
        stage.api.mark(mark(*user, READ, [77])).await;
    }
    let answers = answered(&mut stage, push([77, 78], (0..10_000).collect())).await;
    for user in 0..10_000_usize {
        let unread: Vec<_> = answers.unseen(user).collect();
        let read = readers.contains(&(user as u64));
        assert_eq!(unread, if read { vec![1] } else { vec![0, 1] }, "user {user}");
        assert_eq!(answers.answer(user), UserAnswer::Exact);
    }
    stage.close().await;
}

#[tokio::test]
async fn nothing_asked_is_nothing_answered() {
    let mut stage = Stage::open().await;
    let nobody = answered(&mut stage, push([1, 2], vec![])).await;
    assert_eq!(nobody.unseen(0).count(), 0);
    let nothing = answered(&mut stage, push([], vec![1, 2])).await;
    assert_eq!((nothing.unseen(0).count(), nothing.answer(1)), (0, UserAnswer::Exact));
    let groups = FilterUsersRequest { items: vec![], ..push([], vec![1]) };
    assert_eq!(answered(&mut stage, groups).await.answer(0), UserAnswer::Exact);
    stage.close().await;
}

#[tokio::test]
async fn a_bad_message_is_answered_by_an_error() {
    let mut stage = Stage::open().await;
    let named = |names: &[&str]| FilterUsersRequest {
        namespaces: names.iter().map(ToString::to_string).collect(),
        ..push([1], vec![1])
    };
    let good = || push([1], vec![1]);
    let garbage: Refusal = Refusal {
        field: Some(("token", "cut off")),
        ..failure(Code::InvalidArgument, "TOKEN_GARBAGE", false)
    };
    let bad = [
        (named(&["nowhere"]), UNKNOWN_NAMESPACE),
        (named(&[]), invalid("namespaces", "0 names; send 1 to 8")),
        (named(&[READ; 9]), invalid("namespaces", "9 names; send 1 to 8")),
        (push(0..101, vec![1]), invalid("items", "101 ids in all; at most 100")),
        (push([1], vec![1; 10_001]), invalid("users", "10001 users; at most 10000")),
        (
            FilterUsersRequest { items: vec![group(256, [1])], ..good() },
            invalid("items.kind", "256; kinds are 0 to 255"),
        ),
        (
            FilterUsersRequest { on_unknown: 3, ..good() },
            invalid("on_unknown", "3; ON_UNKNOWN_SHOW"),
        ),
        (
            FilterUsersRequest { timeout_ms: 60_001, ..good() },
            invalid("timeout_ms", "60001; at most 60000"),
        ),
        (FilterUsersRequest { token: vec![1, 2, 3], ..good() }, garbage),
        (
            FilterUsersRequest { token: vec![1; 1_025], ..good() },
            invalid("token", "1025 bytes; at most 1024"),
        ),
    ];
    for (request, refusal) in bad {
        let answer = ask(&mut stage, FilterUsersRequest { request_id: 9, ..request }).await;
        assert_eq!(answer.request_id, 9);
        match answer.result.expect("one of the two") {
            Answer::Error(error) => refusal.is_call_error(&error),
            Answer::Users(users) => panic!("{users:?} instead of {refusal:?}"),
        }
    }
    stage.close().await;
}
