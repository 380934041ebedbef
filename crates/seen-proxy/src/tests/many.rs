//! FilterUsers: split, and put together again.

use seen_proto::model::PushAnswers;
use seen_proto::status::ErrorKind;
use seen_proto::v1::UserAnswer;

use super::*;
use crate::fake::Mode;

const USERS: u64 = 200;

fn body(users: Vec<u64>, token: &[u8]) -> Bytes {
    encode(&v1::FilterUsersRequest {
        request_id: 42,
        namespaces: vec!["feed_read".to_owned()],
        items: vec![v1::ItemGroup { kind: 1, ids: (0..10).collect() }],
        users,
        token: token.to_vec(),
        ..Default::default()
    })
}

impl Bench {
    fn users(&self, users: impl IntoIterator<Item = u64>) -> Asked {
        let body = body(users.into_iter().collect(), b"");
        self.ask(Call::FilterUsers, body, Duration::from_secs(1), "")
    }

    fn push_links(&self) -> Vec<Arc<FakeLink>> {
        let links = self.net.all().into_iter();
        links.filter(|link| link.lane == LinkLane::Push).collect()
    }
}

fn result(answer: Result<Bytes, ApiError>) -> v1::FilterUsersResult {
    let response: v1::FilterUsersResponse = decode(answer.expect("an answer")).expect("its type");
    assert_eq!(response.request_id, 42);
    match response.result {
        Some(v1::filter_users_response::Result::Users(users)) => users,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn each_user_is_asked_at_home_and_answered_in_order() {
    let bench = Bench::start(&[("feed", 2, 2)]).await;
    let users: Vec<u64> = (0..USERS).rev().chain([7, 7]).collect();
    let answer = bench.users(users.clone()).answer().await;
    let answers = PushAnswers::new(result(answer), 10, users.len()).expect("it fits");
    for (at, user) in users.iter().enumerate() {
        assert_eq!(answers.answer(at), UserAnswer::Filtered);
        let bits = answers.unseen(at).fold(0_u64, |bits, item| bits | 1 << item);
        assert_eq!(bits, user & 0x3ff, "{user}");
    }
    assert_eq!(answers.quality(), Quality::Filtered { rate: 0.01 });
    let mut seen = 0;
    for link in bench.push_links() {
        let asked: v1::FilterUsersRequest = decode(link.last().body).expect("a part");
        assert!(asked.users.iter().all(|user| bench.home(*user).target == link.target));
        seen += asked.users.len();
    }
    assert_eq!(seen, users.len());
    assert_eq!(bench.sent(), 4, "one part a replica, on the lane for it");
}

#[tokio::test(start_paused = true)]
async fn users_of_a_silent_slot_are_named_and_the_others_answered() {
    let bench = Bench::start(&[("feed", 2, 1)]).await;
    let silent = bench.push_links().remove(0);
    silent.set(Mode::Silent);
    let (answer, took) = bench.users(0..USERS).timed().await;
    assert!(took > ms(900) && took <= ms(990), "{took:?}");
    let answers = PushAnswers::new(result(answer), 10, USERS as usize).expect("it fits");
    let mut unknown = 0;
    for user in 0..USERS {
        let is_unknown = bench.home(user).target == silent.target;
        let expected = if is_unknown { UserAnswer::Unknown } else { UserAnswer::Filtered };
        assert_eq!(answers.answer(user as usize), expected);
        unknown += u32::from(is_unknown);
    }
    assert!(unknown > 0);
    let reason = v1::DegradedReason::Deadline;
    assert_eq!(answers.quality(), Quality::Degraded { rate: 0.01, reason, unknown });
}

#[tokio::test(start_paused = true)]
async fn a_part_that_fails_is_asked_elsewhere() {
    let bench = Bench::start(&[("feed", 2, 2)]).await;
    bench.push_links()[0].set(Mode::Fails(ErrorKind::Unavailable));
    let answer = bench.users(0..USERS).answer().await;
    let answers = PushAnswers::new(result(answer), 10, USERS as usize).expect("it fits");
    assert_eq!(answers.quality(), Quality::Filtered { rate: 0.01 });
    assert_eq!(bench.sent(), 5);
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_with_the_message_is_wrong_with_all_of_it() {
    let bench = Bench::start(&[("feed", 2, 1)]).await;
    bench.push_links()[0].set(Mode::Fails(ErrorKind::UnknownNamespace));
    let error = bench.users(0..USERS).answer().await.expect_err("refused");
    assert_eq!(error.kind, ErrorKind::UnknownNamespace);
    let many = bench.users(0..10_001).answer().await.expect_err("refused");
    assert_eq!(many.kind, ErrorKind::InvalidArgument);
    bench.push_links().iter().for_each(|link| link.set(Mode::Fails(ErrorKind::Overloaded)));
    let error = bench.users(0..USERS).answer().await.expect_err("refused");
    assert_eq!(error.kind, ErrorKind::Overloaded);
    assert_eq!(bench.proxy.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn nobody_is_answered_about_nobody() {
    let bench = Bench::start(&[("feed", 2, 1)]).await;
    let answer = result(bench.users([]).answer().await);
    assert_eq!((answer.answers.len(), answer.unseen.len()), (0, 0));
    assert_eq!(bench.sent(), 0);
}

#[tokio::test(start_paused = true)]
async fn users_who_were_moved_are_claimed_by_themselves() {
    let bench = Bench::start(&[("feed", 1, 2)]).await;
    sleep(Duration::from_secs(10)).await;
    bench.home(5).state(false);
    bench.users(0..USERS).answer().await.expect("an answer");
    let asked: Vec<_> = bench.push_links().into_iter().filter(|link| link.sent() > 0).collect();
    assert_eq!(asked.len(), 1);
    let sent = asked[0].sent.lock().clone();
    assert_eq!(sent.len(), 2, "those who are at home here, and those who are not");
    for part in sent {
        let users: v1::FilterUsersRequest = decode(part.body).expect("a part");
        let moved = |user: &u64| bench.home(*user).target != asked[0].target;
        assert!(users.users.iter().all(|user| moved(user) == part.moved.is_some()));
    }
}

/// Each group has a claim of its own: who wrote elsewhere since the group before is not taken for somebody who did not.
#[tokio::test(start_paused = true)]
async fn claims_of_groups_are_drawn_anew() {
    let bench = Bench::start(&[("feed", 1, 2)]).await;
    sleep(Duration::from_secs(10)).await;
    bench.home(5).state(false);
    let mut claims = Vec::new();
    for _ in 0..3 {
        bench.users(0..USERS).answer().await.expect("an answer");
        let links = bench.push_links();
        let sent = links.iter().flat_map(|link| link.sent.lock().clone()).collect::<Vec<_>>();
        claims.push(sent.iter().filter_map(|part| part.moved).map(|moved| moved.sequence).max());
    }
    assert!(claims.is_sorted_by(|one, next| one < next), "{claims:?}");
}
