//! Resuming a feed.

use std::time::Duration;

use seen_filter::{
    ChangeFeed, CommitStamp, Domain, FeedCursor, FeedEvent, FeedStart, GapScope, History, Item,
    Timeline,
};

use super::{
    Fixture, Folded, ManualClock, NS, START_MS, at_head, drain, items, items_of, mark, next, plain,
    unmark, user,
};

fn is_row(event: &FeedEvent) -> bool {
    matches!(event, FeedEvent::Add { .. } | FeedEvent::Remove { .. })
}

/// A reader that stops after any event goes on with the next one: nothing is left out, however the
/// batches are cut, within a commit too.
pub async fn readers_resume_at_every_event(fixture: &impl Fixture<Store: ChangeFeed>) {
    let store = fixture.open(plain(), ManualClock::at(START_MS).clock()).await;
    let feed = store.feed_of(NS, user(7));
    let mut reader = at_head(&*store, feed).await;
    let begin = next(&mut reader, 1).await.resume;
    for round in 0..5_u64 {
        let ids = items(round * 10..round * 10 + 4);
        store.write(vec![mark(NS, 7, &ids)]).await.expect("a write");
        store.write(vec![unmark(NS, 7, &ids[..1])]).await.expect("a write");
    }
    let whole: Vec<_> =
        drain(&*store, &mut reader, feed).await.into_iter().filter(is_row).collect();
    assert_eq!(whole.len(), 25);
    for events_max in [1, 2, 3, 7, 100] {
        let mut read = Vec::new();
        let mut at = begin;
        let mut calls = 0;
        while read.len() < whole.len() {
            // A new reader for every batch.
            let mut resumed = store.open(feed, FeedStart::At(at)).await.expect("a reader");
            let batch = next(&mut resumed, events_max).await;
            assert!(!batch.events.iter().any(|e| matches!(e, FeedEvent::Gap { .. })), "{batch:?}");
            read.extend(batch.events.into_iter().filter(is_row));
            at = batch.resume;
            calls += 1;
            assert!(calls < 200, "no way forward by batches of {events_max}");
        }
        assert_eq!(read, whole, "batches of {events_max}");
    }
}

/// A call to `next` that is dropped while it waits, or just before its answer, loses no event.
pub async fn a_cancelled_read_loses_nothing(fixture: &impl Fixture<Store: ChangeFeed>) {
    let store = fixture.open(plain(), ManualClock::at(START_MS).clock()).await;
    let feed = store.feed_of(NS, user(7));
    let mut reader = at_head(&*store, feed).await;
    let mut read = Vec::new();
    for id in 0..50_u64 {
        store.write(vec![mark(NS, 7, &items([id]))]).await.expect("a write");
        // Sometimes long enough, sometimes not.
        let patience = Duration::from_micros(id * 20);
        if let Ok(batch) = tokio::time::timeout(patience, reader.next(2)).await {
            read.extend(batch.expect("a batch").events);
        }
    }
    read.extend(drain(&*store, &mut reader, feed).await);
    let added: Vec<Item> = read
        .iter()
        .filter_map(|event| match event {
            FeedEvent::Add { item, .. } => Some(*item),
            _ => None,
        })
        .collect();
    assert_eq!(added, items(0..50));
}

/// The first event for a cursor that the feed does not know is a gap; then reading goes on, at the
/// head at the latest.
async fn meets_a_gap<F: Fixture<Store: ChangeFeed>>(
    fixture: &F,
    spoil: impl Fn(FeedCursor) -> FeedCursor,
) {
    let store = fixture.open(plain(), ManualClock::at(START_MS).clock()).await;
    let feed = store.feed_of(NS, user(7));
    let mut reader = at_head(&*store, feed).await;
    store.write(vec![mark(NS, 7, &items([1, 2]))]).await.expect("a write");
    store.write(vec![unmark(NS, 7, &items([1]))]).await.expect("a write");
    drain(&*store, &mut reader, feed).await;
    let good = next(&mut reader, 10).await.resume;
    let spoilt = spoil(good);
    let mut folded = Folded::default();
    for item in items_of(&*store, NS, 7).await {
        let stamp = CommitStamp::new(Domain::new(0), good.timeline, 0);
        folded.apply(&FeedEvent::Add { stamp, user: user(7), item });
    }
    let mut reader = store.open(feed, FeedStart::At(spoilt)).await.expect("a reader");
    let first = next(&mut reader, 1).await;
    let [FeedEvent::Gap { scope, reason }] = first.events[..] else {
        panic!("the first events are {:?}", first.events);
    };
    assert_eq!(scope, GapScope::Partition);
    assert!(!reason.is_empty() && first.resume.timeline == good.timeline);
    store.write(vec![mark(NS, 7, &items([3])), unmark(NS, 7, &items([2]))]).await.expect("a write");
    for event in drain(&*store, &mut reader, feed).await {
        assert!(!matches!(event, FeedEvent::Gap { .. }), "a second gap");
        folded.apply(&event);
    }
    assert_eq!(folded.items(7), items_of(&*store, NS, 7).await);
}

/// Numbers of another timeline mean nothing here (coherence row 53).
pub async fn cursors_of_other_timelines_meet_a_gap(fixture: &impl Fixture<Store: ChangeFeed>) {
    let of_another = |good: FeedCursor| FeedCursor {
        timeline: Timeline::new(good.timeline.get().wrapping_add(1)),
        ..good
    };
    meets_a_gap(fixture, of_another).await;
}

/// A cursor that the feed has not reached yet was made by something else.
pub async fn cursors_beyond_the_head_meet_a_gap(fixture: &impl Fixture<Store: ChangeFeed>) {
    let beyond = |good: FeedCursor| FeedCursor { offset: good.offset + (1 << 40), ..good };
    meets_a_gap(fixture, beyond).await;
}
