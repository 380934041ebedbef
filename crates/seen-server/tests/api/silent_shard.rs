//! One shard of several does not answer: its own users are degraded, and nobody else.

use std::time::Duration;

use futures_util::StreamExt;
use seen_proto::model::PushAnswers;
use seen_proto::v1::{self, QualityLevel, UserAnswer, filter_users_response};
use seen_store::memory::{ReadFault, WriteFault};
use tonic::{Request, Status};

use super::ask::{KIND, READ, filter, forget, group, history, level, mark, patient, sound, within};
use super::blocked::{Blocked, quiet};
use super::refusal::OUTCOME_UNKNOWN;

const SHARDS: u32 = 4;
/// Users of one shard: more than may be at storage at once, of any class of work.
const USERS: u64 = 40;

/// Users of the shard that falls silent.
fn silent(user: u64) -> u64 {
    user * u64::from(SHARDS)
}

/// Users of another one.
fn other(user: u64) -> u64 {
    silent(user) + 1
}

async fn marked(blocked: &mut Blocked, user: u64, id: u64) -> Result<(), Status> {
    blocked.api.0.mark(Request::new(mark(user, READ, [id]))).await.map(drop)
}

async fn stage() -> Blocked {
    let mut blocked = Blocked::sharded(SHARDS).await;
    for user in 0..USERS {
        marked(&mut blocked, other(user), 7).await.expect("marked");
    }
    blocked.store.fail_reads(ReadFault::Silent, None);
    blocked.store.fail_writes(WriteFault::Silent, None);
    blocked
}

/// Callers of the silent shard, with patience, of every class of work.
async fn hold_up(blocked: &Blocked) {
    for user in (0..USERS).map(silent) {
        let mut api = blocked.api.clone();
        tokio::spawn(async move { api.0.mark(patient(mark(user, READ, [1]))).await.map(drop) });
        let mut api = blocked.api.clone();
        let ask = filter(user, &[READ], [1]);
        tokio::spawn(async move { api.0.filter(patient(ask)).await.map(drop) });
        let mut api = blocked.api.clone();
        tokio::spawn(async move { api.0.forget(patient(forget(user, READ))).await.map(drop) });
        let mut api = blocked.api.clone();
        tokio::spawn(async move { api.0.history(patient(history(user, READ))).await.map(drop) });
    }
    tokio::time::sleep(Duration::from_millis(10)).await;
}

#[tokio::test(start_paused = true)]
async fn a_silent_shard_holds_up_its_own_users_only() {
    let mut blocked = stage().await;
    hold_up(&blocked).await;
    OUTCOME_UNKNOWN.is(&marked(&mut blocked, silent(0), 2).await.expect_err("its shard is silent"));
    let answer = blocked.api.filter(filter(silent(0), &[READ], [3])).await;
    assert_eq!(level(&answer.quality), QualityLevel::Degraded, "its users are told so");

    blocked.pages_read();
    for user in (0..USERS).map(other) {
        let answer = blocked.api.filter(filter(user, &[READ], [7, 8])).await;
        assert_eq!(sound(&answer), [1], "a point check");
        marked(&mut blocked, user, 9).await.expect("marked in time");
    }
    quiet().await;
    assert_eq!(blocked.pages_read() as u64, USERS, "and everybody's build");
    let call = within(Duration::from_secs(2), forget(other(2), READ));
    blocked.api.0.forget(call).await.expect("forgotten");
    let list = Request::new(history(other(1), READ));
    let listed = blocked.api.0.history(list).await.expect("listed").into_inner();
    assert_eq!(listed.rows.len(), 2);

    blocked.store.heal();
    quiet().await;
    marked(&mut blocked, silent(0), 4).await.expect("marked again");
    assert_eq!(blocked.api.unread(silent(0), READ, &[3, 4]).await, [3]);
}

#[tokio::test(start_paused = true)]
async fn a_push_over_all_shards_flags_users_of_the_silent_one_only() {
    let mut blocked = stage().await;
    let users: Vec<u64> = (0..USERS).flat_map(|user| [silent(user), other(user)]).collect();
    let request = v1::FilterUsersRequest {
        request_id: 1,
        namespaces: vec![READ.to_owned()],
        items: vec![group(KIND, [7])],
        users: users.clone(),
        timeout_ms: 500,
        ..Default::default()
    };
    let asks = tokio_stream::iter([request]);
    let mut answers = blocked.api.0.filter_users(asks).await.expect("opened").into_inner();
    let answer = answers.next().await.expect("an answer").expect("answered");
    let Some(filter_users_response::Result::Users(result)) = answer.result else {
        panic!("{answer:?}");
    };
    let answers = PushAnswers::new(result, 1, users.len()).expect("sizes that fit");
    for (at, user) in users.iter().enumerate() {
        let is_silent = user % u64::from(SHARDS) == 0;
        let expected = if is_silent { UserAnswer::Unknown } else { UserAnswer::Exact };
        assert_eq!(answers.answer(at), expected, "user {user}");
        assert!(is_silent || answers.unseen(at).next().is_none(), "user {user} has read it");
    }
}

#[tokio::test(start_paused = true)]
async fn fences_of_a_silent_shard_hold_up_no_others() {
    let blocked = stage().await;
    let head = |blocked: &Blocked| blocked.others[0].head();
    // Those of the silent shard have been waiting for a while.
    quiet().await;
    let before = head(&blocked);
    tokio::time::sleep(Duration::from_secs(10)).await;
    let fences = head(&blocked) - before;
    assert!(fences >= 10, "{fences} fences in ten seconds");
}
