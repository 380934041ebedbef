//! The double's knobs do what they say.

use std::time::Duration;

use seen_filter::history::{PageRequest, Question, Write, WriteOp};
use seen_filter::{
    ChangeFeed, FeedEvent, FeedReader, FeedStart, GapScope, History, Item, NamespaceId,
    NamespaceSettings, PrimaryId, StoreErrorKind, Timeline, UnixMillis, UserId,
};
use seen_store::memory::{Chaos, Delays, FeedFault, MemoryOptions, ReadFault, WriteFault};
use seen_store::{MemoryStore, StorageClock};

const NS: NamespaceId = NamespaceId::new(0);
const ANN: UserId = UserId::new(7);

fn store() -> MemoryStore {
    let clock = StorageClock::new(|| UnixMillis::new(1_000));
    let namespaces = vec![NamespaceSettings::new(NS, "reads")];
    MemoryStore::new(MemoryOptions::new(clock, 42), namespaces).expect("a store")
}

fn mark(id: u64) -> Vec<Write> {
    let items = vec![(Item::new(1, id), None)];
    vec![Write { namespace: NS, user: ANN, op: WriteOp::Append, items }]
}

async fn has(store: &MemoryStore, id: u64) -> Result<bool, StoreErrorKind> {
    let question = Question { user: ANN, items: vec![Item::new(1, id)] };
    let answers = store.check(NS, vec![question]).await.map_err(|e| e.kind)?;
    Ok(answers.found[0][0])
}

async fn reader(store: &MemoryStore) -> Box<dyn FeedReader> {
    let mut reader = store.open(store.feed_of(NS, ANN), FeedStart::Head).await.expect("a reader");
    reader.next(10).await.expect("the head");
    reader
}

/// The ids added in the next batch; "gap" as `None`.
async fn added(reader: &mut Box<dyn FeedReader>) -> Vec<Option<u64>> {
    let batch = reader.next(100).await.expect("a batch");
    let id = |event: &FeedEvent| match event {
        FeedEvent::Add { item, .. } => Some(Some(item.id.get())),
        FeedEvent::Gap { .. } => Some(None),
        _ => None,
    };
    batch.events.iter().filter_map(id).collect()
}

#[tokio::test(start_paused = true)]
async fn reads_can_be_refused_old_or_unknown() {
    let store = store();
    for id in 1..=3 {
        store.write(mark(id)).await.expect("a write");
    }
    let page = PageRequest { namespace: NS, user: ANN, after: None, rows_max: 10 };
    store.fail_reads(ReadFault::Refuse(StoreErrorKind::Unavailable), Some(1));
    assert_eq!(has(&store, 1).await, Err(StoreErrorKind::Unavailable));
    assert_eq!(has(&store, 1).await, Ok(true), "once only");
    store.fail_reads(ReadFault::Old { commits: 2 }, Some(2));
    assert_eq!(has(&store, 3).await, Ok(false));
    let old = store.page(page).await.expect("a page");
    assert_eq!((old.rows.len(), old.snapshot.lower_bound.map(|s| s.position)), (1, Some(1)));
    store.fail_reads(ReadFault::OldUnknown { commits: 1 }, None);
    let unknown = store.page(page).await.expect("a page");
    assert_eq!((unknown.rows.len(), unknown.snapshot.lower_bound), (2, None));
    store.fail_reads(ReadFault::Unknown, None);
    let unknown = store.page(page).await.expect("a page");
    assert_eq!((unknown.rows.len(), unknown.snapshot.lower_bound), (3, None));
    store.heal();
    assert_eq!(has(&store, 3).await, Ok(true));
}

#[tokio::test(start_paused = true)]
async fn silence_lasts_until_it_is_healed() {
    let store = store();
    store.fail_reads(ReadFault::Silent, None);
    store.fail_writes(WriteFault::Silent, None);
    let writing = store.write(mark(1));
    let reading = has(&store, 1);
    tokio::pin!(writing, reading);
    let long = Duration::from_secs(3_600);
    assert!(tokio::time::timeout(long, &mut writing).await.is_err());
    assert!(tokio::time::timeout(long, &mut reading).await.is_err());
    assert_eq!(store.head(), 0);
    store.heal();
    writing.await.expect("written after all");
    assert_eq!(reading.await, Ok(true));
}

#[tokio::test(start_paused = true)]
async fn outcomes_are_lost_both_ways_and_stalled_writes_land_late() {
    let store = store();
    let lost = Some(StoreErrorKind::OutcomeUnknown);
    for (fault, id, is_there) in [
        (WriteFault::LoseCommitted, 1, true),
        (WriteFault::LoseUncommitted, 2, false),
        (WriteFault::Stall, 3, false),
    ] {
        store.fail_writes(fault, Some(1));
        assert_eq!(store.write(mark(id)).await.err().map(|e| e.kind), lost, "{fault:?}");
        assert_eq!(has(&store, id).await, Ok(is_there), "{fault:?}");
    }
    // Row 49: the user is forgotten, then the stalled commit lands.
    store.forget(NS, ANN).await.expect("forgotten");
    assert_eq!((store.land_stalled(), store.land_stalled()), (1, 0));
    assert_eq!((has(&store, 1).await, has(&store, 3).await), (Ok(false), Ok(true)));
    store.fail_writes(WriteFault::Refuse(StoreErrorKind::Full), Some(1));
    assert_eq!(store.write(mark(4)).await.err().map(|e| e.kind), Some(StoreErrorKind::Full));
}

#[tokio::test(start_paused = true)]
async fn delays_pass_on_the_callers_clock() {
    let store = store();
    let mut reader = reader(&store).await;
    store.set_delays(Delays {
        after_read: Duration::from_secs(5),
        before_commit: Duration::from_secs(1),
        after_commit: Duration::from_secs(10),
        ..Delays::default()
    });
    let began = tokio::time::Instant::now();
    let writing = store.write(mark(1));
    tokio::pin!(writing);
    // The event is delivered while the acknowledgement is still under way.
    let early = tokio::select! {
        _ = &mut writing => panic!("acknowledged first"),
        ids = async {
            loop {
                let ids = added(&mut reader).await;
                if !ids.is_empty() {
                    break ids;
                }
            }
        } => ids,
    };
    assert_eq!(early, [Some(1)]);
    // So is a read that began before the next commit and answers after it.
    let (stale, fresh) = tokio::join!(has(&store, 2), async {
        writing.await.expect("a write");
        assert_eq!(began.elapsed(), Duration::from_secs(11));
        store.set_delays(Delays::default());
        store.write(mark(2)).await.expect("a write");
        has(&store, 2).await
    });
    assert_eq!((stale, fresh), (Ok(false), Ok(true)));
}

#[tokio::test(start_paused = true)]
async fn feeds_are_held_released_replayed_and_lost_by_hand() {
    let store = store();
    let feed = store.feed_of(NS, ANN);
    let mut reader = reader(&store).await;
    store.hold_feed(feed);
    for id in 1..=4 {
        store.write(mark(id)).await.expect("a write");
    }
    assert_eq!(added(&mut reader).await, [], "a heartbeat, as of a feed that lags unnoticed");
    store.release_commits(feed, 2);
    assert_eq!(added(&mut reader).await, [Some(1), Some(2)]);
    store.replay_feed(feed, 1);
    assert_eq!(added(&mut reader).await, [Some(1), Some(2)], "delivered again");
    store.lose_events(feed, 3);
    store.release_feed(feed);
    assert_eq!(added(&mut reader).await, [Some(4)]);
    store.report_gap(feed, GapScope::User(ANN), "by hand");
    assert_eq!(added(&mut reader).await, [None]);
    store.fail_feed(feed, FeedFault::Refuse, Some(1));
    assert!(reader.next(10).await.is_err_and(|e| e.retry_helps));
    store.fail_feed(feed, FeedFault::Silent, None);
    let long = Duration::from_secs(3_600);
    assert!(tokio::time::timeout(long, reader.next(10)).await.is_err(), "no heartbeat either");
    store.heal();
    store.write(mark(5)).await.expect("a write");
    assert_eq!(added(&mut reader).await, [Some(5)]);
}

#[tokio::test(start_paused = true)]
async fn trimmed_logs_and_new_timelines_are_gaps() {
    let store = store();
    let feed = store.feed_of(NS, ANN);
    let mut behind = reader(&store).await;
    let mut close = reader(&store).await;
    for id in 1..=4 {
        store.write(mark(id)).await.expect("a write");
    }
    assert_eq!(added(&mut close).await.len(), 4);
    store.trim_log(3);
    assert_eq!(added(&mut behind).await, [None, Some(4)]);
    let before = store.write(mark(5)).await.expect("a write").expect("a stamp");
    assert_eq!(added(&mut close).await, [Some(5)]);
    store.begin_timeline(Timeline::new(2), PrimaryId::new(2));
    assert_eq!(added(&mut close).await, [None, Some(4), Some(5)]);
    let after = store.write(mark(6)).await.expect("a write").expect("a stamp");
    assert_eq!(before.partial_cmp(&after), None);
    assert_eq!(store.feed_of(NS, ANN), feed);
}

#[tokio::test(start_paused = true)]
async fn a_store_without_numbers_gives_no_stamps() {
    let clock = StorageClock::new(|| UnixMillis::new(1_000));
    let options = MemoryOptions { numbers_commits: false, ..MemoryOptions::new(clock, 1) };
    let store = MemoryStore::new(options, vec![NamespaceSettings::new(NS, "reads")]);
    let store = store.expect("a store");
    assert_eq!(store.write(mark(1)).await.expect("a write"), None);
    assert_eq!(store.forget(NS, ANN).await.expect("forgotten").stamp, None);
    let page = PageRequest { namespace: NS, user: ANN, after: None, rows_max: 10 };
    assert_eq!(store.page(page).await.expect("a page").snapshot.lower_bound, None);
}

#[tokio::test(start_paused = true)]
async fn chaos_comes_from_the_seed_alone() {
    async fn story() -> Vec<String> {
        let store = store();
        let mut reader = reader(&store).await;
        store.set_chaos(Some(Chaos {
            read_refuse_per_mille: 100,
            read_old_per_mille: 100,
            read_old_unknown_per_mille: 100,
            write_refuse_per_mille: 100,
            write_lose_committed_per_mille: 100,
            write_lose_uncommitted_per_mille: 100,
            feed_replay_per_mille: 100,
            feed_gap_per_mille: 100,
        }));
        let mut story = Vec::new();
        for id in 0..200 {
            let written = store.write(mark(id)).await.map_err(|e| e.kind);
            let read = has(&store, id).await;
            story.push(format!("{written:?} {read:?} {:?}", added(&mut reader).await));
        }
        story
    }
    let told = story().await;
    assert_eq!(told, story().await);
    for word in ["OutcomeUnknown", "Unavailable", "Ok(false)", "[None", "Ok(true)"] {
        assert!(told.iter().any(|line| line.contains(word)), "no {word} in 200 calls");
    }
}
