//! FilterUsers in chunks, with partial answers.

use seen_client::limits::PUSH_USERS_MAX;
use seen_client::v1::UserAnswer;
use seen_client::v1::filter_users_response::Result as Answer;
use seen_client::{ApiError, ErrorKind, PushCall, Quality, WhenAway};
use seen_proto::model::{PushCall as Asked, PushRows};
use seen_proto::status::call_error;
use tokio::time::{Duration, Instant};

use super::mock::{Stage, options};

fn call() -> PushCall {
    PushCall::new("push_sent").items(1, [100, 101, 102])
}

/// Answers that even users have not read the middle item, and odd ones nothing.
fn answer(asked: &Asked) -> Answer {
    let mut rows = PushRows::new(asked);
    for (place, user) in asked.users.iter().enumerate() {
        let unseen = if user.get() % 2 == 0 { vec![1] } else { vec![0, 1, 2] };
        rows.set(place, UserAnswer::Filtered, unseen);
    }
    Answer::Users(rows.finish(Quality::Filtered { rate: 0.01 }))
}

#[tokio::test(start_paused = true)]
async fn any_number_of_users_is_asked_about_in_chunks() {
    let stage = Stage::default();
    let client = stage.client(options());
    *stage.mock.on_push.lock() =
        Some(Box::new(|asked| Some(answer(&Asked::try_from(asked.clone()).expect("valid")))));
    let users: Vec<u64> = (0..25_000).collect();
    let answer = client.filter_users(&call(), &users).await.unwrap();
    assert_eq!((answer.users(), answer.failures.len()), (25_000, 0));
    for user in [0, 1, 9_999, 10_000, 10_001, 24_999] {
        assert_eq!(answer.answer(user), UserAnswer::Filtered);
        let expected: &[usize] = if user % 2 == 0 { &[1] } else { &[0, 1, 2] };
        assert_eq!(answer.unseen(user).collect::<Vec<_>>(), expected, "user {user}");
    }
    assert_eq!(answer.answer(25_000), UserAnswer::Unknown);
    assert_eq!(answer.unseen(25_000).count(), 0);
    let sizes: Vec<usize> = stage.mock.pushes.lock().iter().map(|one| one.users.len()).collect();
    assert_eq!(sizes, [PUSH_USERS_MAX, PUSH_USERS_MAX, 5_000]);
    assert!(stage.mock.pushes.lock().iter().all(|one| (1..=1_000).contains(&one.timeout_ms)));
}

#[tokio::test(start_paused = true)]
async fn users_that_were_not_answered_are_named() {
    let stage = Stage::default();
    let client = stage.client(options());
    *stage.mock.on_push.lock() = Some(Box::new(|asked| match asked.request_id {
        0 => Some(answer(&Asked::try_from(asked.clone()).expect("valid"))),
        1 => Some(Answer::Error(call_error(ApiError::new(ErrorKind::Overloaded, "full")))),
        _ => None,
    }));
    let users: Vec<u64> = (0..30_000).collect();
    let begin = Instant::now();
    let shown = client.filter_users(&call().when_away(WhenAway::ShowAll), &users).await.unwrap();
    assert_eq!((Instant::now() - begin).as_millis(), 1_000, "the deadline of the whole call");
    let failures: Vec<_> =
        shown.failures.iter().map(|one| (one.users.clone(), one.error.kind)).collect();
    assert_eq!(
        failures,
        [(10_000..20_000, ErrorKind::Overloaded), (20_000..30_000, ErrorKind::DeadlineExceeded)]
    );
    assert_eq!(shown.answer(15_000), UserAnswer::Unknown);
    assert_eq!(shown.unseen(15_000).collect::<Vec<_>>(), [0, 1, 2]);
    let hidden = client.filter_users(&call().when_away(WhenAway::HideAll), &users).await.unwrap();
    assert_eq!(hidden.unseen(15_000).count(), 0);
    assert_eq!(hidden.unseen(0).collect::<Vec<_>>(), [1]);
    assert_eq!(hidden.quality(), Some(Quality::Filtered { rate: 0.01 }));
}

#[tokio::test(start_paused = true)]
async fn without_any_answer_the_call_fails_unless_declared_otherwise() {
    let stage = Stage::default();
    stage.close(true);
    let client = stage.client(options());
    let error = client.filter_users(&call(), &[1, 2]).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Unavailable);
    let shown = client.filter_users(&call().when_away(WhenAway::ShowAll), &[1, 2]).await.unwrap();
    assert_eq!((shown.failures.len(), shown.unseen(1).count()), (1, 3));
    stage.close(false);
    let refuse = || Answer::Error(call_error(ApiError::unknown_namespace("push_sent")));
    *stage.mock.on_push.lock() = Some(Box::new(move |_| Some(refuse())));
    let call = call().when_away(WhenAway::ShowAll).timeout(Duration::from_secs(5));
    let error = client.filter_users(&call, &[1, 2]).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::UnknownNamespace);
    let nobody = client.filter_users(&call, &[]).await.unwrap();
    assert_eq!((nobody.users(), nobody.quality()), (0, None));
}
