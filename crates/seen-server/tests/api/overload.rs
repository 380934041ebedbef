//! Bounds: full queues refuse or flag, misses share one build, and slow readers are not read from.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::future::join_all;
use seen_proto::v1::{
    self, DegradedReason, FilterStreamRequest, QualityLevel, filter_stream_response,
};
use seen_replica::StorageLimits;
use seen_store::memory::{Delays, ReadFault, WriteFault};
use tokio::time::Instant;
use tonic::Request;

use super::ask::{
    PATIENCE_MS, READ, filter, forget, history, mark, patient, sound, unmark, within,
};
use super::blocked::{Blocked, quiet, until};
use super::refusal::{DEADLINE, OUTCOME_UNKNOWN, OVERLOADED};

/// Queues that are full at once.
fn tiny() -> StorageLimits {
    StorageLimits {
        checks_queued_max: 2,
        checks_in_flight_max: 1,
        writes_queued_max: 2,
        builds_queued_max: 1,
        builds_in_flight_max: 1,
        ..StorageLimits::default()
    }
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_of_checks_is_flagged_at_once() {
    let mut blocked = Blocked::with(tiny()).await;
    blocked.store.fail_reads(ReadFault::Silent, None);
    let ask = |user| {
        let mut api = blocked.api.clone();
        async move {
            let began = Instant::now();
            let answer = api.0.filter(Request::new(filter(user, &[READ], [1]))).await;
            let quality = answer.expect("answered").into_inner().quality.expect("there");
            assert_eq!(quality.level(), QualityLevel::Degraded);
            (quality.reason(), began.elapsed())
        }
    };
    let answers = join_all((0..50).map(ask)).await;
    let (overloaded, late): (Vec<_>, Vec<_>) =
        answers.into_iter().partition(|(reason, _)| *reason == DegradedReason::Overloaded);
    assert!(overloaded.iter().all(|(_, took)| *took == Duration::ZERO), "told at once");
    assert!(late.iter().all(|(reason, took)| {
        *reason == DegradedReason::Deadline && *took < Duration::from_millis(90)
    }));
    assert!(overloaded.len() >= 40 && !late.is_empty(), "{} overloaded", overloaded.len());
    blocked.store.heal();
    quiet().await;
    assert_eq!(blocked.api.unread(1, READ, &[1]).await, [1], "and recovers");
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_of_writes_refuses_and_writes_nothing() {
    let mut blocked = Blocked::with(tiny()).await;
    blocked.store.fail_writes(WriteFault::Silent, None);
    let write = |user| {
        let mut api = blocked.api.clone();
        async move { (user, api.0.mark(Request::new(mark(user, READ, [1]))).await) }
    };
    let mut refused = Vec::new();
    for (user, answer) in join_all((0..50).map(write)).await {
        let status = answer.expect_err("storage is silent");
        match status.code() {
            tonic::Code::Unknown => OUTCOME_UNKNOWN.is(&status),
            _ => {
                OVERLOADED.is(&status);
                refused.push(user);
            }
        }
    }
    assert!(refused.len() >= 40, "{} were refused", refused.len());
    blocked.store.heal();
    quiet().await;
    for user in refused {
        assert_eq!(blocked.api.unread(user, READ, &[1]).await, [1], "nothing of it was written");
    }
    blocked.api.mark(mark(1, READ, [2])).await;
}

#[tokio::test(start_paused = true)]
async fn full_queues_of_forgets_and_listings_refuse() {
    let mut blocked = Blocked::with(tiny()).await;
    blocked.store.fail_writes(WriteFault::Silent, None);
    blocked.store.fail_reads(ReadFault::Silent, None);
    let ask = |user| {
        let mut api = blocked.api.clone();
        async move {
            let second = Duration::from_secs(1);
            let forgotten = api.0.forget(within(second, forget(user, READ))).await.map(drop);
            (forgotten, api.0.history(within(second, history(user, READ))).await.map(drop))
        }
    };
    let (mut forgets, mut listings) = (0, 0);
    for (forgotten, listed) in join_all((0..400).map(ask)).await {
        let status = forgotten.expect_err("storage is silent");
        if status.code() == tonic::Code::ResourceExhausted {
            OVERLOADED.is(&status);
            forgets += 1;
        } else {
            OUTCOME_UNKNOWN.is(&status);
        }
        let status = listed.expect_err("storage is silent");
        if status.code() == tonic::Code::ResourceExhausted {
            OVERLOADED.is(&status);
            listings += 1;
        } else {
            DEADLINE.is(&status);
        }
    }
    assert!(forgets >= 300 && listings >= 50, "{forgets} forgets, {listings} listings");
    blocked.store.heal();
    quiet().await;
    blocked.api.history(history(1, READ)).await;
}

#[tokio::test(start_paused = true)]
async fn users_that_find_no_builder_are_answered_from_storage() {
    let mut blocked = Blocked::with(tiny()).await;
    for user in 0..30 {
        blocked.api.mark(mark(user, READ, 0..20)).await;
    }
    // The checks of this test find room; only builds do not.
    let delays = Delays { before_read: Duration::from_millis(1), ..Delays::default() };
    blocked.store.set_delays(delays);
    for round in 0..5 {
        for user in 0..30 {
            let answer = blocked.api.filter(filter(user, &[READ], 0..20)).await;
            assert_eq!(sound(&answer), [0_u32; 0], "user {user} in round {round}");
        }
    }
    let memory = blocked.replica.status("").memory.expect("there");
    assert!(memory.entries > 0, "some were built: {memory:?}");
}

#[tokio::test(start_paused = true)]
async fn rebuilds_in_the_background_are_begun_at_a_limited_rate() {
    const USERS: u64 = 40;
    let limits = StorageLimits { background_builds_per_s_max: 10, ..StorageLimits::default() };
    let mut blocked = Blocked::with(limits).await;
    for user in 0..USERS {
        blocked.warm(mark(user, READ, 0..3)).await;
    }
    blocked.pages_read();
    let began = Instant::now();
    for user in 0..USERS {
        // Each removal makes a rebuild due (rule R10).
        blocked.api.unmark(unmark(user, READ, [0])).await;
    }
    let mut read = 0;
    while read < USERS as usize {
        tokio::time::sleep(Duration::from_millis(500)).await;
        read += blocked.pages_read();
        let due = began.elapsed().as_millis() / 100 + 2;
        assert!(read as u128 <= due, "{read} rebuilds after {:?}", began.elapsed());
    }
    for user in 0..USERS {
        assert_eq!(blocked.api.unread(user, READ, &[0, 1, 2]).await, [0]);
    }
}

#[tokio::test(start_paused = true)]
async fn concurrent_misses_share_one_build_that_outlives_them() {
    let mut blocked = Blocked::open().await;
    for start in (0..10_000).step_by(1_000) {
        blocked.api.mark(mark(1, READ, start..start + 1_000)).await;
    }
    let delays = Delays { before_read: Duration::from_millis(40), ..Delays::default() };
    blocked.store.set_delays(delays);
    blocked.pages_read();
    let ask = |n: u64| {
        let mut api = blocked.api.clone();
        async move {
            let answer = api.filter(filter(1, &[READ], [n, 20_000])).await;
            assert_eq!(sound(&answer), [1]);
        }
    };
    join_all((0..100).map(ask)).await;
    // Nobody waits for it any more (row 9).
    until(|| blocked.replica.status("").memory.expect("there").entries == 1).await;
    quiet().await;
    assert_eq!(blocked.pages_read(), 3, "10,000 rows are three pages of 4,096, read once");
    let memory = blocked.replica.status("").memory.expect("there");
    assert_eq!((memory.builds, memory.builds_running), (1, 0));
    blocked.store.fail_reads(ReadFault::Silent, None);
    assert_eq!(blocked.api.unread(1, READ, &[9_999]).await, [0_u64; 0], "from memory");
}

#[tokio::test(start_paused = true)]
async fn a_build_goes_on_when_all_its_callers_have_gone() {
    let mut blocked = Blocked::open().await;
    blocked.api.mark(mark(1, READ, 0..100)).await;
    let delays = Delays { before_read: Duration::from_millis(500), ..Delays::default() };
    blocked.store.set_delays(delays);
    let mut api = blocked.api.clone();
    let call = api.0.filter(patient(filter(1, &[READ], [1])));
    assert!(tokio::time::timeout(Duration::from_millis(5), call).await.is_err(), "gone");
    until(|| blocked.replica.status("").memory.expect("there").entries == 1).await;
    blocked.store.fail_reads(ReadFault::Silent, None);
    assert_eq!(blocked.api.unread(1, READ, &[1, 99]).await, [0_u64; 0]);
}

/// Asks 20,000 questions of 8 KB and counts those that were taken.
fn flood(
    taken: &Arc<AtomicUsize>,
) -> impl futures_util::Stream<Item = FilterStreamRequest> + use<> {
    let taken = Arc::clone(taken);
    let questions = tokio_stream::iter(0..FLOOD);
    questions.map(move |request_id| {
        taken.fetch_add(1, Ordering::Relaxed);
        FilterStreamRequest {
            request_id,
            filter: Some(filter(1, &[READ], 0..1_000)),
            timeout_ms: PATIENCE_MS,
        }
    })
}

/// Questions of a flood.
const FLOOD: u64 = 5_000;
/// How many of them may be held by a stream that nobody reads: its queue of answers, the one that
/// waits for room in it, and what the two bodies hold in their buffers.
const HELD_MAX: usize = 100;

#[tokio::test(start_paused = true)]
async fn a_stream_that_nobody_reads_is_not_read_from() {
    let mut blocked = Blocked::open().await;
    blocked.warm(mark(1, READ, [1, 2])).await;
    let taken = Arc::new(AtomicUsize::new(0));
    let opened = blocked.api.0.filter_stream(flood(&taken)).await.expect("opened");
    let mut answers = opened.into_inner();
    quiet().await;
    let held = taken.load(Ordering::Relaxed);
    assert!((1..=HELD_MAX).contains(&held), "{held} questions were taken");
    quiet().await;
    assert_eq!(taken.load(Ordering::Relaxed), held, "and no more");
    let filters = blocked.replica.status("").traffic.expect("there").filters;
    assert!(filters as usize <= HELD_MAX, "{filters} were answered");
    // Whoever begins to read gets everything, in whatever time it takes.
    let mut answered = 0;
    while let Some(answer) = answers.next().await {
        let answer = answer.expect("the stream goes on");
        let Some(filter_stream_response::Result::Filter(filter)) = answer.result else {
            panic!("{answer:?}");
        };
        assert_eq!(sound(&filter).len(), 998);
        answered += 1;
        let ahead = taken.load(Ordering::Relaxed) - answered;
        assert!(ahead <= HELD_MAX, "{ahead} questions ahead of their reader");
    }
    assert_eq!(answered as u64, FLOOD);
}

#[tokio::test(start_paused = true)]
async fn a_push_that_nobody_reads_is_not_read_from() {
    let mut blocked = Blocked::open().await;
    let taken = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&taken);
    let asks = tokio_stream::iter(0..500_u64).map(move |request_id| {
        count.fetch_add(1, Ordering::Relaxed);
        v1::FilterUsersRequest {
            request_id,
            namespaces: vec![READ.to_owned()],
            items: vec![super::ask::group(1, [1])],
            users: (0..10_000).collect(),
            timeout_ms: PATIENCE_MS,
            ..Default::default()
        }
    });
    let mut answers = blocked.api.0.filter_users(asks).await.expect("opened").into_inner();
    quiet().await;
    let held = taken.load(Ordering::Relaxed);
    assert!((1..=12).contains(&held), "{held} messages were taken");
    for _ in 0..20 {
        answers.next().await.expect("open").expect("answered");
    }
    quiet().await;
    let ahead = taken.load(Ordering::Relaxed) - 20;
    assert!(ahead <= 12, "{ahead} messages ahead of their reader");
}
