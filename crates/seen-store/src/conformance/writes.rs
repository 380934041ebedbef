//! Marks and unmarks.

use std::collections::BTreeMap;
use std::sync::Arc;

use seen_filter::history::{ITEMS_PER_CALL_MAX, PAGE_ROWS_MAX, Write, WriteOp};
use seen_filter::{
    History, Item, NamespaceId, NamespaceSettings, StoreErrorKind, TimeRule, UnixMillis,
};

use super::{
    Fixture, ManualClock, NS, OTHER, START_MS, items, items_of, kind, mark, plain, rows_by, unmark,
    user,
};

fn timed(user_id: u64, id: u64, time: u64) -> Write {
    let items = vec![(Item::new(1, id), Some(UnixMillis::new(time)))];
    Write { namespace: NS, user: user(user_id), op: WriteOp::Append, items }
}

async fn times(store: &impl History, user_id: u64) -> Vec<u64> {
    let rows = rows_by(store, NS, user_id, PAGE_ROWS_MAX).await;
    rows.iter().map(|row| row.marked_at.get()).collect()
}

/// Marking again keeps the row and its first time, within a call and over calls.
pub async fn marking_again_changes_nothing(fixture: &impl Fixture) {
    let store = fixture.open(plain(), ManualClock::at(START_MS).clock()).await;
    store.write(vec![timed(7, 1, 500)]).await.expect("a write");
    store.write(vec![timed(7, 1, 100), timed(7, 1, 900)]).await.expect("a write");
    store.write(vec![timed(7, 2, 300), timed(7, 2, 200)]).await.expect("a write");
    assert_eq!(times(&*store, 7).await, [500, 300]);
    let repeated = [1, 2, 1, 2, 2].map(|id| Item::new(1, id));
    store.write(vec![mark(NS, 7, &repeated)]).await.expect("a write");
    assert_eq!(times(&*store, 7).await, [500, 300]);
}

/// Where the namespace is set so, the last mark's time replaces the one before.
pub async fn the_last_time_counts_where_set_so(fixture: &impl Fixture) {
    let mut first = NamespaceSettings::new(NS, "first");
    first.time_rule = TimeRule::Last;
    first.time_index = true;
    let store = fixture.open(vec![first], ManualClock::at(START_MS).clock()).await;
    store.write(vec![timed(7, 1, 500)]).await.expect("a write");
    store.write(vec![timed(7, 1, 100), timed(7, 1, 900)]).await.expect("a write");
    assert_eq!(times(&*store, 7).await, [900]);
    store.write(vec![timed(7, 1, 200)]).await.expect("a write");
    assert_eq!(times(&*store, 7).await, [200], "the last mark, not the largest time");
    store.write(vec![mark(NS, 7, &items([1]))]).await.expect("a write");
    assert_eq!(times(&*store, 7).await, [START_MS]);
}

/// Unmarking removes rows; what is absent may be unmarked.
pub async fn unmarking_removes(fixture: &impl Fixture) {
    let store = fixture.open(plain(), ManualClock::at(START_MS).clock()).await;
    let all = items(0..100);
    store.write(vec![mark(NS, 7, &all), mark(OTHER, 7, &all), mark(NS, 8, &all)]).await.expect("1");
    store.write(vec![unmark(NS, 7, &items(10..200))]).await.expect("a write");
    assert_eq!(items_of(&*store, NS, 7).await, items(0..10));
    assert_eq!(items_of(&*store, OTHER, 7).await, all);
    assert_eq!(items_of(&*store, NS, 8).await, all);
    store.write(vec![unmark(NS, 9, &all)]).await.expect("nobody's");
    store.write(vec![timed(7, 50, 123)]).await.expect("marked again");
    assert_eq!(times(&*store, 7).await.last(), Some(&123), "its old time is gone");
}

/// A call whose last write is refused has written nothing.
pub async fn writes_are_all_or_none(fixture: &impl Fixture) {
    let store = fixture.open(plain(), ManualClock::at(START_MS).clock()).await;
    let good = mark(NS, 7, &items([1]));
    let unknown = mark(NamespaceId::new(2), 7, &items([1]));
    let refused = kind(store.write(vec![good.clone(), unknown]).await);
    assert_eq!(refused, Some(StoreErrorKind::InvalidRequest));
    assert_eq!(items_of(&*store, NS, 7).await, []);
    store.write(vec![good, mark(OTHER, 9, &items([2]))]).await.expect("a write");
    assert_eq!(items_of(&*store, NS, 7).await, items([1]));
    assert_eq!(items_of(&*store, OTHER, 9).await, items([2]));
}

/// The writes of one call take effect in their order.
pub async fn one_call_is_done_in_order(fixture: &impl Fixture) {
    let store = fixture.open(plain(), ManualClock::at(START_MS).clock()).await;
    let one = items([1]);
    store.write(vec![mark(NS, 7, &one), unmark(NS, 7, &one)]).await.expect("a write");
    assert_eq!(items_of(&*store, NS, 7).await, []);
    store.write(vec![unmark(NS, 7, &one), mark(NS, 7, &one)]).await.expect("a write");
    assert_eq!(items_of(&*store, NS, 7).await, one);
    store.write(vec![timed(7, 1, 5), unmark(NS, 7, &one), timed(7, 1, 6)]).await.expect("a write");
    assert_eq!(times(&*store, 7).await, [6], "marked anew, so that its first time is new");
}

/// A mark without a time has the storage clock's at the commit.
pub async fn missing_times_are_the_storage_clocks(fixture: &impl Fixture) {
    let clock = ManualClock::at(START_MS);
    let store = fixture.open(plain(), clock.clock()).await;
    store.write(vec![mark(NS, 7, &items([1]))]).await.expect("a write");
    clock.advance(1_234);
    store.write(vec![mark(NS, 7, &items([1, 2]))]).await.expect("a write");
    assert_eq!(times(&*store, 7).await, [START_MS, START_MS + 1_234]);
}

/// Too many items for one user are refused, the most allowed are taken.
pub async fn write_limits_are_enforced(fixture: &impl Fixture) {
    let store = fixture.open(plain(), ManualClock::at(START_MS).clock()).await;
    let full = items(0..ITEMS_PER_CALL_MAX as u64);
    store.write(vec![mark(NS, 7, &full)]).await.expect("the most allowed");
    assert_eq!(items_of(&*store, NS, 7).await, full);
    let more = items(0..=ITEMS_PER_CALL_MAX as u64);
    let refused = Some(StoreErrorKind::InvalidRequest);
    assert_eq!(kind(store.write(vec![mark(NS, 8, &more)]).await), refused);
    assert_eq!(kind(store.write(vec![timed(8, 1, u64::MAX)]).await), refused, "no column holds it");
    assert_eq!(items_of(&*store, NS, 8).await, []);
    store.write(Vec::new()).await.expect("nothing to write is no error");
    store.write(vec![mark(NS, 8, &[])]).await.expect("nor is a write of no items");
}

/// Stamps of one writer rise, shard by shard, and what is read after a write covers it.
pub async fn stamps_rise_and_snapshots_cover_them(fixture: &impl Fixture) {
    let store = fixture.open(plain(), ManualClock::at(START_MS).clock()).await;
    let mut before = BTreeMap::new();
    for id in 0..20 {
        let stamp = store.write(vec![mark(NS, id % 3, &items([id]))]).await.expect("a write");
        let earlier = stamp.and_then(|stamp| before.insert(stamp.domain, stamp));
        if let (Some(before), Some(stamp)) = (earlier, stamp) {
            assert!(before < stamp, "{before} then {stamp}");
        }
        let answers = store.check(NS, Vec::new()).await.expect("answers");
        if let (Some(stamp), Some(seen)) = (stamp, answers.snapshot.lower_bound) {
            assert!(seen.covers(stamp), "{seen} does not cover {stamp}");
        }
    }
}

/// Everything that concurrent callers were told is written is there.
pub async fn concurrent_writes_all_arrive<F: Fixture>(fixture: &F) {
    let store = fixture.open(plain(), ManualClock::at(START_MS).clock()).await;
    let mut callers = Vec::new();
    for caller in 0..32_u64 {
        let store: Arc<F::Store> = Arc::clone(&store);
        callers.push(tokio::spawn(async move {
            for round in 0..5 {
                let ids = items((0..10).map(|n| caller * 1_000 + round * 10 + n));
                // Shared users, so that callers meet in the same stretch of the table.
                store.write(vec![mark(NS, caller % 4, &ids)]).await.expect("a write");
            }
        }));
    }
    for caller in callers {
        caller.await.expect("a caller");
    }
    for user_id in 0..4 {
        assert_eq!(items_of(&*store, NS, user_id).await.len(), 8 * 50, "user {user_id}");
    }
}

/// Callers that go away in the middle leave nothing half done, and nobody else waiting.
pub async fn abandoned_writes_leave_a_whole_store<F: Fixture>(fixture: &F) {
    let store = fixture.open(plain(), ManualClock::at(START_MS).clock()).await;
    for round in 0..40_u64 {
        let ids = items((0..20).map(|n| round * 100 + n));
        let writing = store.write(vec![mark(NS, round, &ids), mark(OTHER, round, &ids)]);
        let polled_times = round % 4;
        abandon(writing, polled_times).await;
    }
    store.write(vec![mark(NS, 1_000, &items([1]))]).await.expect("a write after them");
    for round in 0..40 {
        // Nothing waits for an abandoned write: it may land between the two looks, once.
        let mut looks = Vec::new();
        while looks.last().is_none_or(|(here, there)| here != there) {
            assert!(looks.len() < 3, "round {round}: {looks:?}");
            let here = items_of(&*store, NS, round).await.len();
            looks.push((here, items_of(&*store, OTHER, round).await.len()));
        }
        assert!(matches!(looks.last(), Some((0 | 20, _))), "round {round}: {looks:?}");
    }
}

/// Polls a future a few times and drops it.
async fn abandon<T>(future: impl Future<Output = T>, polls: u64) {
    let mut future = std::pin::pin!(future);
    let mut left = polls;
    std::future::poll_fn(|context| {
        if left == 0 || future.as_mut().poll(context).is_ready() {
            return std::task::Poll::Ready(());
        }
        left -= 1;
        context.waker().wake_by_ref();
        std::task::Poll::Pending
    })
    .await;
}
