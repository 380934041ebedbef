//! Reads while storage is blocked: every answer comes before its deadline, and is flagged where it
//! had to be weaker.

use std::time::Duration;

use futures_util::StreamExt;
use seen_filter::StoreErrorKind;
use seen_proto::model::PushAnswers;
use seen_proto::v1::{
    self, DegradedReason, OnUnknown, Presence, QualityLevel, UserAnswer, filter_stream_response,
    filter_users_response,
};
use seen_replica::StorageLimits;
use seen_store::memory::{Delays, FeedFault, ReadFault};
use tokio::time::Instant;
use tonic::Request;

use super::ask::{READ, explain, filter, history, mark, patient, sound, unmark, within};
use super::blocked::{Blocked, Direct, feeds, store, until};
use super::refusal::DEADLINE;

/// What a degraded answer says.
#[track_caller]
fn degraded(answer: &v1::FilterResponse, reason: DegradedReason, unknown: u32) {
    let quality = answer.quality.as_ref().expect("always present");
    assert_eq!(quality.level(), QualityLevel::Degraded, "{quality:?}");
    assert_eq!((quality.reason(), quality.unknown), (reason, unknown), "{quality:?}");
}

/// Asks with this timeout, or none, and says how long the answer took.
async fn ask(
    api: &mut Direct,
    timeout: Option<Duration>,
    request: v1::FilterRequest,
) -> (v1::FilterResponse, Duration) {
    let request = match timeout {
        Some(timeout) => within(timeout, request),
        None => Request::new(request),
    };
    let began = Instant::now();
    let answer = api.0.filter(request).await.expect("answered").into_inner();
    (answer, began.elapsed())
}

#[tokio::test(start_paused = true)]
async fn a_cold_user_is_answered_in_time_though_storage_is_silent() {
    let mut blocked = Blocked::open().await;
    blocked.api.mark(mark(1, READ, [1, 2])).await;
    blocked.store.fail_reads(ReadFault::Silent, None);
    for (timeout, at_most) in
        [(None, 90), (Some(90), 90), (Some(20), 20), (Some(2), 2), (Some(3_000), 3_000)]
    {
        let timeout = timeout.map(Duration::from_millis);
        for (on_unknown, expected) in [(0, vec![2]), (1, vec![2]), (2, vec![])] {
            let request = v1::FilterRequest { on_unknown, ..filter(1, &[READ], [1, 2, 3]) };
            let (answer, took) = ask(&mut blocked.api, timeout, request).await;
            assert!(took < Duration::from_millis(at_most), "{took:?} of {at_most} ms");
            // The own marks are in the journal: only the third item is unknown.
            degraded(&answer, DegradedReason::Deadline, 1);
            assert_eq!(answer.unseen, expected);
        }
        let stranger = v1::FilterRequest {
            on_unknown: OnUnknown::Hide.into(),
            ..filter(2, &[READ], 0..1_000)
        };
        let (answer, took) = ask(&mut blocked.api, timeout, stranger).await;
        assert!(took < Duration::from_millis(at_most), "{took:?} of {at_most} ms");
        degraded(&answer, DegradedReason::Deadline, 1_000);
        assert_eq!(answer.unseen, [0_u32; 0]);
    }
    blocked.store.heal();
    assert_eq!(blocked.api.unread(1, READ, &[1, 2, 3]).await, [3], "and recovers");
}

#[tokio::test(start_paused = true)]
async fn storage_that_is_slow_but_in_time_is_waited_for() {
    let mut blocked = Blocked::open().await;
    blocked.api.mark(mark(1, READ, [1])).await;
    let delays = |ms| Delays { before_read: Duration::from_millis(ms), ..Delays::default() };
    blocked.store.set_delays(delays(60));
    let (answer, took) = ask(&mut blocked.api, None, filter(1, &[READ], [1, 2])).await;
    assert_eq!(sound(&answer), [1]);
    assert_eq!(took, Duration::from_millis(60), "no longer than storage took");
    blocked.store.set_delays(delays(1_000));
    let (answer, took) = ask(&mut blocked.api, None, filter(3, &[READ], [1, 2])).await;
    degraded(&answer, DegradedReason::Deadline, 2);
    assert!(took < Duration::from_millis(90));
}

#[tokio::test(start_paused = true)]
async fn why_storage_could_not_be_asked_is_said() {
    let mut blocked = Blocked::open().await;
    let cases = [
        (StoreErrorKind::Unavailable, DegradedReason::StorageUnavailable),
        (StoreErrorKind::Corrupt, DegradedReason::StorageUnavailable),
        (StoreErrorKind::Overloaded, DegradedReason::Overloaded),
        (StoreErrorKind::Expired, DegradedReason::Deadline),
    ];
    for (kind, reason) in cases {
        blocked.store.fail_reads(ReadFault::Refuse(kind), None);
        let (answer, took) = ask(&mut blocked.api, None, filter(1, &[READ], [1, 2])).await;
        degraded(&answer, reason, 2);
        assert_eq!(took, Duration::ZERO, "there is nothing to wait for");
    }
}

#[tokio::test(start_paused = true)]
async fn users_in_memory_need_no_storage_but_to_confirm() {
    let mut blocked = Blocked::open().await;
    blocked.warm(mark(1, READ, 0..10)).await;
    blocked.warm(mark(2, READ, 0..100)).await;
    blocked.store.fail_reads(ReadFault::Silent, None);
    assert_eq!(blocked.api.unread(1, READ, &[9, 10]).await, [10]);
    assert_eq!(blocked.api.unread(2, READ, &[9]).await, [0_u64; 0]);
    let confirm = |user| v1::FilterRequest { confirm: true, ..filter(user, &[READ], [8, 9, 10]) };
    let (answer, _) = ask(&mut blocked.api, None, confirm(1)).await;
    assert_eq!(sound(&answer), [2], "an exact entry has nothing to confirm");
    let (answer, took) = ask(&mut blocked.api, None, confirm(2)).await;
    assert!(took < Duration::from_millis(90));
    assert_eq!(answer.quality.expect("present").reason(), DegradedReason::Deadline);
}

#[tokio::test(start_paused = true)]
async fn a_token_that_is_not_covered_sends_to_storage_or_is_flagged() {
    let store = store();
    let mut one = Blocked::beside(store.clone(), 1, StorageLimits::default()).await;
    let mut two = Blocked::beside(store.clone(), 2, StorageLimits::default()).await;
    two.warm(mark(1, READ, [1])).await;
    let feed = two.feed_of(1);
    store.hold_feed(feed);
    let token = one.api.mark(mark(1, READ, [2])).await;
    let with_token = || v1::FilterRequest { token: token.clone(), ..filter(1, &[READ], [1, 2, 3]) };
    // Row 27: acknowledged at one, asked at two, which has not heard of it.
    let (answer, _) = ask(&mut two.api, None, with_token()).await;
    assert_eq!(sound(&answer), [2]);
    store.fail_reads(ReadFault::Silent, None);
    let (answer, took) = ask(&mut two.api, None, with_token()).await;
    assert!(took < Duration::from_millis(90));
    degraded(&answer, DegradedReason::Deadline, 2);
    let (answer, _) = ask(&mut two.api, None, filter(1, &[READ], [1, 3])).await;
    assert_eq!(sound(&answer), [1], "without the token memory may answer");
    store.release_feed(feed);
    until(|| {
        let rules = two.replica.status("").partitions;
        rules.iter().any(|p| p.events >= 2)
    })
    .await;
    let (answer, _) = ask(&mut two.api, None, with_token()).await;
    assert_eq!(sound(&answer), [2], "once the feed has brought it, memory may answer again");
}

#[tokio::test(start_paused = true)]
async fn a_stale_feed_sends_to_storage_or_is_flagged() {
    let store = store();
    let mut one = Blocked::beside(store.clone(), 1, StorageLimits::default()).await;
    let mut two = Blocked::beside(store.clone(), 2, StorageLimits::default()).await;
    two.warm(mark(1, READ, [1])).await;
    feeds().for_each(|feed| store.fail_feed(feed, FeedFault::Silent, None));
    one.api.mark(mark(1, READ, [2])).await;
    tokio::time::sleep(Duration::from_secs(6)).await;
    let (answer, _) = ask(&mut two.api, None, filter(1, &[READ], [1, 2, 3])).await;
    assert_eq!(sound(&answer), [2], "storage knows better than a feed that has stopped");
    store.fail_reads(ReadFault::Silent, None);
    let (answer, _) = ask(&mut two.api, None, filter(1, &[READ], [1, 2, 3])).await;
    degraded(&answer, DegradedReason::Deadline, 2);
    assert!(!two.replica.status("").problems.is_empty(), "and Status says so");
}

#[tokio::test(start_paused = true)]
async fn an_unmarked_item_is_asked_or_flagged_but_never_soundly_seen() {
    let mut blocked = Blocked::open().await;
    blocked.warm(mark(1, READ, 0..100)).await;
    blocked.store.fail_reads(ReadFault::Silent, None);
    // The rebuild that the removal owes cannot be read; until then the item is contested.
    let token = blocked.api.unmark(unmark(1, READ, [7])).await;
    for token in [token, Vec::new()] {
        let request = v1::FilterRequest { token, ..filter(1, &[READ], [6, 7]) };
        let (answer, took) = ask(&mut blocked.api, None, request).await;
        degraded(&answer, DegradedReason::Deadline, 1);
        assert_eq!(answer.unseen, [1]);
        assert!(took < Duration::from_millis(90));
    }
}

#[tokio::test(start_paused = true)]
async fn explain_says_what_filter_answers_also_in_doubt() {
    let mut blocked = Blocked::lagging(Duration::from_secs(60)).await;
    // A build of before would not be kept.
    tokio::time::sleep(Duration::from_secs(61)).await;
    blocked.warm(mark(1, READ, 0..100)).await;
    feeds().for_each(|feed| blocked.store.hold_feed(feed));
    blocked.api.mark(mark(1, READ, [500])).await;
    blocked.store.fail_reads(ReadFault::OldUnknown { commits: 1 }, None);
    blocked.api.unmark(unmark(1, READ, [500])).await;
    // Storage answers from before the removal, and does not know it.
    for id in [3, 500, 501] {
        let explained = blocked.api.explain(1, READ, id).await;
        let (answer, _) = ask(&mut blocked.api, None, filter(1, &[READ], [id])).await;
        let (ours, filters) = (explained.quality.expect("there"), answer.quality.expect("there"));
        assert_eq!(explained.would_show, answer.unseen == [0], "item {id}");
        assert_eq!((ours.level(), ours.reason()), (filters.level(), filters.reason()), "item {id}");
    }
    let explained = blocked.api.explain(1, READ, 500).await;
    assert_eq!(explained.quality.expect("there").reason(), DegradedReason::Contested);
    assert!(explained.entry.expect("there").contested);
}

#[tokio::test(start_paused = true)]
async fn streams_keep_each_messages_deadline() {
    let mut blocked = Blocked::open().await;
    blocked.warm(mark(1, READ, [1])).await;
    blocked.store.fail_reads(ReadFault::Silent, None);
    let ask = |user, timeout_ms| v1::FilterStreamRequest {
        request_id: user,
        filter: Some(filter(user, &[READ], [1, 2])),
        timeout_ms,
    };
    let asks = tokio_stream::iter([ask(2, 500), ask(3, 0), ask(4, 10), ask(1, 0)]);
    let began = Instant::now();
    let mut answers = blocked.api.0.filter_stream(asks).await.expect("opened").into_inner();
    let mut came = Vec::new();
    while let Some(answer) = answers.next().await {
        let answer = answer.expect("the stream goes on");
        let Some(filter_stream_response::Result::Filter(filter)) = answer.result else {
            panic!("{answer:?}");
        };
        let ms = began.elapsed().as_millis();
        came.push((answer.request_id, filter.quality.expect("there").reason(), ms));
    }
    let ids: Vec<_> = came.iter().map(|(id, ..)| *id).collect();
    assert_eq!(ids, [1, 4, 3, 2], "whoever is ready is answered first");
    let sound = DegradedReason::Unspecified;
    assert!(came.iter().all(|(id, reason, _)| (*id == 1) == (*reason == sound)), "{came:?}");
    assert!(came.iter().zip([1, 10, 90, 500]).all(|((.., ms), limit)| *ms < limit), "{came:?}");
}

#[tokio::test(start_paused = true)]
async fn push_answers_in_part_and_in_time() {
    let mut blocked = Blocked::open().await;
    blocked.warm(mark(1, READ, [10])).await;
    blocked.store.fail_reads(ReadFault::Silent, None);
    for (on_unknown, rows) in [(OnUnknown::Show, vec![0, 1]), (OnUnknown::Hide, vec![])] {
        for (timeout_ms, at_most) in [(0, 1_000), (200, 200)] {
            let request = v1::FilterUsersRequest {
                request_id: 5,
                namespaces: vec![READ.to_owned()],
                items: vec![super::ask::group(1, [10, 11])],
                users: vec![2, 1, 3],
                on_unknown: on_unknown.into(),
                timeout_ms,
                ..Default::default()
            };
            let began = Instant::now();
            let asks = tokio_stream::iter([request]);
            let mut answers = blocked.api.0.filter_users(asks).await.expect("opened").into_inner();
            let answer = answers.next().await.expect("an answer").expect("answered");
            assert!(began.elapsed() < Duration::from_millis(at_most));
            let Some(filter_users_response::Result::Users(users)) = answer.result else {
                panic!("{answer:?}");
            };
            let quality = users.quality.expect("there");
            assert_eq!((quality.reason(), quality.unknown), (DegradedReason::Deadline, 2));
            let users = PushAnswers::new(users, 2, 3).expect("sizes that fit");
            assert_eq!(users.unseen(1).collect::<Vec<_>>(), [1]);
            assert_eq!(users.answer(1), UserAnswer::Exact, "who is in memory is answered");
            for cold in [0, 2] {
                assert_eq!(users.answer(cold), UserAnswer::Unknown);
                assert_eq!(users.unseen(cold).collect::<Vec<_>>(), rows);
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn what_only_storage_can_tell_is_refused_in_time() {
    let mut blocked = Blocked::open().await;
    blocked.warm(mark(1, READ, [1])).await;
    blocked.store.fail_reads(ReadFault::Silent, None);
    let began = Instant::now();
    let refused = blocked.api.0.history(Request::new(history(1, READ))).await;
    DEADLINE.is(&refused.expect_err("storage is silent"));
    assert!(began.elapsed() < Duration::from_millis(90));
    let began = Instant::now();
    let request = Request::new(explain(2, READ, 1));
    let explained = blocked.api.0.explain(request).await.expect("explained").into_inner();
    assert!(began.elapsed() < Duration::from_millis(90));
    let storage = explained.storage.expect("there");
    assert_eq!(storage.presence(), Presence::Unknown);
    assert!(!storage.message.is_empty() && storage.primary.is_empty());
    assert_eq!(explained.quality.expect("there").reason(), DegradedReason::Deadline);
    let began = Instant::now();
    let request = v1::RebuildUserRequest { user: 1, namespace: READ.to_owned() };
    let refused = blocked.admin.rebuild_user(within(Duration::from_millis(300), request)).await;
    DEADLINE.is(&refused.expect_err("storage is silent"));
    assert!(began.elapsed() < Duration::from_millis(300));
    // The build goes on behind.
    blocked.store.heal();
    let request = v1::RebuildUserRequest { user: 1, namespace: READ.to_owned() };
    blocked.admin.rebuild_user(patient(request)).await.expect("rebuilt");
}

#[tokio::test(start_paused = true)]
async fn a_rebuild_that_came_to_nothing_is_begun_again_within_its_time() {
    let mut blocked = Blocked::open().await;
    blocked.api.mark(mark(1, READ, [1])).await;
    blocked.store.fail_reads(ReadFault::Refuse(StoreErrorKind::Unavailable), Some(3));
    let rebuild = v1::RebuildUserRequest { user: 1, namespace: READ.to_owned() };
    blocked.admin.rebuild_user(patient(rebuild)).await.expect("rebuilt");
    assert_eq!(blocked.api.unread(1, READ, &[1, 2]).await, [2]);
}
