//! The feed across processes, and where it no longer reaches back.

mod store;

use std::collections::BTreeSet;

use seen_filter::{
    ChangeFeed, FeedCursor, FeedEvent, FeedStart, FenceSeq, GapScope, History, Incarnation, UserId,
};
use seen_store::conformance::ManualClock;
use seen_store::{SqliteOptions, SqliteStore};
use store::{NS, events, ids, mark, open, options, other_process, plain, role, say};

const USERS: u64 = 40;

/// Not a test of its own: a replica in another process, which follows all partitions until it has
/// seen a fence on each, and then marks something itself.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_processes_part() {
    let Some((_, path)) = role() else { return };
    let store = open(&path).await;
    let mut readers = Vec::new();
    for feed in store.feeds() {
        readers.push(ChangeFeed::open(&*store, feed, FeedStart::Head).await.expect("a reader"));
    }
    for reader in &mut readers {
        events(reader).await;
    }
    say("ready");
    let mut added = BTreeSet::new();
    for reader in &mut readers {
        let mut fenced = false;
        while !fenced {
            for event in events(reader).await {
                match event {
                    FeedEvent::Add { user, item, .. } => {
                        added.insert((user.get(), item.id.get()));
                    }
                    FeedEvent::Fence { .. } => fenced = true,
                    FeedEvent::Gap { reason, .. } => panic!("a gap: {reason}"),
                    _ => {}
                }
            }
        }
    }
    say(&added.len().to_string());
    store.write(mark(1_000, [42])).await.expect("a write");
    say("marked");
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_process_follows_and_is_followed() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("seen.db");
    let store = open(&path).await;
    store.write(mark(1, [999])).await.expect("older than the follower");
    let feed = store.feed_of(NS, UserId::new(1_000));
    let mut reader = ChangeFeed::open(&*store, feed, FeedStart::Head).await.expect("a reader");
    let mut other = other_process(&[], "other_processes_part", "follow", &path);
    assert_eq!(other.line().await.as_deref(), Some("ready"));
    for round in 0..5 {
        for user in 0..USERS {
            store.write(mark(user, [round])).await.expect("a write");
        }
    }
    for feed in store.feeds() {
        store
            .fence(feed, vec![UserId::new(0)], Incarnation::new(1), FenceSeq::new(1))
            .await
            .expect("a fence");
    }
    let expected = (USERS * 5).to_string();
    assert_eq!(other.line().await, Some(expected), "what the other process saw added");
    assert_eq!(other.line().await.as_deref(), Some("marked"));
    // This process's own reader finds the other's commit, between its own from memory.
    let mut read = Vec::new();
    while !read.iter().any(|e| matches!(e, FeedEvent::Add { user, .. } if user.get() == 1_000)) {
        read.extend(events(&mut reader).await);
    }
    let stamps: Vec<_> = read
        .iter()
        .filter_map(|event| match event {
            FeedEvent::Add { stamp, .. } | FeedEvent::Complete { stamp } => Some(stamp.position),
            _ => None,
        })
        .collect();
    assert!(stamps.is_sorted(), "{stamps:?}");
    assert_eq!(ids(&*store, 1_000).await, [42]);
    let after = store.write(mark(1_000, [43])).await.expect("a write").expect("a stamp");
    let last = read.iter().rev().find_map(|event| match event {
        FeedEvent::Complete { stamp } => Some(*stamp),
        _ => None,
    });
    assert!(last.is_some_and(|last| last < after), "numbered after the other process's commit");
    other.finish().await;
    store.close().await;
}

/// The first event of a reader at `from`, a commit number.
async fn first_event(store: &SqliteStore, from: u64) -> FeedEvent {
    let at = FeedCursor { timeline: store.timeline(), offset: from << 20 };
    let feed = store.feed_of(NS, UserId::new(7));
    let mut reader = ChangeFeed::open(store, feed, FeedStart::At(at)).await.expect("a reader");
    reader.next(1).await.expect("a batch").events[0]
}

#[tokio::test]
async fn a_cursor_below_the_kept_log_meets_a_gap_and_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("seen.db");
    let short = SqliteOptions { log_commits_max: 100, ..options(&path) };
    let store = SqliteStore::open(short, plain()).await.expect("a store");
    for id in 0..1_500 {
        store.write(mark(7, [id])).await.expect("a write");
    }
    store.sweep_now().await.expect("swept");
    assert_eq!(store.stats().log_commits_trimmed, 1_400);
    assert!(matches!(first_event(&store, 1).await, FeedEvent::Add { .. }), "still in memory");
    store.close().await;
    let store = open(&path).await;
    let feed = store.feed_of(NS, UserId::new(7));
    let gap = FeedEvent::Gap { scope: GapScope::Partition, reason: "trimmed" };
    assert_eq!(first_event(&store, 1).await, gap);
    assert_eq!(first_event(&store, 1_400).await, gap, "the last one dropped");
    assert!(matches!(first_event(&store, 1_401).await, FeedEvent::Add { .. }), "the first kept");

    let at = FeedCursor { timeline: store.timeline(), offset: 1 << 20 };
    let mut reader = ChangeFeed::open(&*store, feed, FeedStart::At(at)).await.expect("a reader");
    let mut added = Vec::new();
    let mut gaps = 0;
    loop {
        let batch = reader.next(1_000).await.expect("a batch");
        for event in &batch.events {
            match event {
                FeedEvent::Add { item, .. } => added.push(item.id.get()),
                FeedEvent::Gap { .. } => gaps += 1,
                _ => {}
            }
        }
        if batch.caught_up {
            break;
        }
    }
    assert_eq!((gaps, added), (1, (1_400..1_500).collect()));
    store.close().await;
}

#[tokio::test]
async fn the_log_is_bounded_in_bytes_and_in_age_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let clock = ManualClock::at(1_790_000_000_000);
    let base = SqliteOptions { clock: clock.clock(), ..options(&folder.path().join("a.db")) };
    let small = SqliteOptions { log_bytes_max: 20_000, ..base.clone() };
    let store = SqliteStore::open(small, plain()).await.expect("a store");
    for round in 0..30 {
        store.write(mark(7, round * 1_000..round * 1_000 + 100)).await.expect("a write");
    }
    store.sweep_now().await.expect("swept");
    let kept = 30 - store.stats().log_commits_trimmed;
    assert!((5..=21).contains(&kept), "{kept} commits of 914 bytes kept in 20,000");
    store.close().await;

    let path = folder.path().join("b.db");
    let young = SqliteOptions { log_age_ms_max: 60_000, path, ..base };
    let store = SqliteStore::open(young, plain()).await.expect("a store");
    for round in 0..10 {
        store.write(mark(7, [round])).await.expect("a write");
        clock.advance(10_000);
    }
    store.sweep_now().await.expect("swept");
    // Commits at 0 s to 90 s, seen at 100 s: those before 40 s are too old.
    assert_eq!(store.stats().log_commits_trimmed, 4);
    assert!(matches!(first_event(&store, 5).await, FeedEvent::Add { .. }));
    store.close().await;
}

#[tokio::test]
async fn a_damaged_event_is_a_gap_and_reading_goes_on() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("seen.db");
    let store = open(&path).await;
    for id in 0..3 {
        store.write(mark(7, [id])).await.expect("a write");
    }
    store.close().await;
    let mut raw = store::raw(&path).await;
    sqlx::query("UPDATE commit_log SET events = x'ff00' WHERE id >> 16 = 2")
        .execute(&mut raw)
        .await
        .expect("damaged");
    let store = open(&path).await;
    let at = FeedCursor { timeline: store.timeline(), offset: 1 << 20 };
    let feed = store.feed_of(NS, UserId::new(7));
    let mut reader = ChangeFeed::open(&*store, feed, FeedStart::At(at)).await.expect("a reader");
    let read = events(&mut reader).await;
    let told: Vec<_> = read
        .iter()
        .map(|event| match event {
            FeedEvent::Add { item, .. } => item.id.to_string(),
            FeedEvent::Gap { reason, .. } => (*reason).to_owned(),
            FeedEvent::Complete { stamp } => format!("through {}", stamp.position),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(told, ["0", "damaged", "2", "through 3"]);
    store.close().await;
}

#[tokio::test]
async fn commits_of_others_between_ones_own_are_not_passed_over() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("seen.db");
    let (ours, theirs) = (open(&path).await, open(&path).await);
    let feed = ours.feed_of(NS, UserId::new(7));
    let mut reader = ChangeFeed::open(&*ours, feed, FeedStart::Head).await.expect("a reader");
    events(&mut reader).await;
    // The reader looks only when all are there: those of this store are in its memory.
    for id in 0..12 {
        let store = if id % 3 == 1 { &theirs } else { &ours };
        store.write(mark(7, [id])).await.expect("a write");
    }
    let mut added = Vec::new();
    while added.len() < 12 {
        for event in events(&mut reader).await {
            match event {
                FeedEvent::Add { item, .. } => added.push(item.id.get()),
                FeedEvent::Complete { stamp } => {
                    assert_eq!(stamp.position, added.len() as u64, "complete and not delivered");
                }
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(added, (0..12).collect::<Vec<_>>());
    ours.close().await;
    theirs.close().await;
}

#[tokio::test]
async fn a_long_way_behind_is_caught_up_with_step_by_step() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("seen.db");
    let store = open(&path).await;
    for id in 0..200 {
        store.write(mark(7, [id])).await.expect("a write");
    }
    store.close().await;
    // As after very many commits of other partitions, with one more of this at the end.
    let mut raw = store::raw(&path).await;
    for sql in [
        "UPDATE store SET head = 50000",
        "INSERT INTO commit_log SELECT (49999 << 16) | (id & 65535), committed_at, events \
         FROM commit_log WHERE id >> 16 = 1",
    ] {
        sqlx::query(sql).execute(&mut raw).await.expect("more commits");
    }
    let store = open(&path).await;
    let at = FeedCursor { timeline: store.timeline(), offset: 1 << 20 };
    let feed = store.feed_of(NS, UserId::new(7));
    let mut reader = ChangeFeed::open(&*store, feed, FeedStart::At(at)).await.expect("a reader");
    let mut added = Vec::new();
    let mut complete = 0;
    loop {
        let batch = reader.next(1_000).await.expect("a batch");
        for event in &batch.events {
            match *event {
                FeedEvent::Add { item, stamp, .. } => {
                    assert!(stamp.position > complete, "added after it was complete");
                    added.push(item.id.get());
                }
                FeedEvent::Complete { stamp } => complete = stamp.position,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(batch.caught_up, complete == 50_000, "at {complete}");
        if batch.caught_up {
            break;
        }
    }
    assert_eq!(added, (0..200).chain([0]).collect::<Vec<_>>());
    store.close().await;
}

#[tokio::test]
async fn a_reader_is_behind_by_the_commits_that_it_has_not_taken() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(&folder.path().join("seen.db")).await;
    let feed = store.feed_of(NS, UserId::new(1));
    assert_eq!(store.lag(feed), None, "nobody reads it");
    let mut reader = ChangeFeed::open(&*store, feed, FeedStart::Head).await.expect("a reader");
    events(&mut reader).await;
    for item in 1..=3 {
        store.write(mark(1, [item])).await.expect("a write");
    }
    let behind = store.lag(feed).expect("a lag");
    assert_eq!(behind.records, Some(3));
    while store.lag(feed).and_then(|lag| lag.records) != Some(0) {
        events(&mut reader).await;
    }
    let none = store.lag(feed).expect("a lag");
    assert_eq!((none.behind_ms, none.position), (Some(0), behind.position.map(|at| at + 3)));
    store.close().await;
}
