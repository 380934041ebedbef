//! The change feed.

use std::collections::BTreeSet;

use seen_filter::history::PageRequest;
use seen_filter::{
    ChangeFeed, FeedEvent, FeedId, FeedStart, FenceSeq, History, Incarnation, NamespaceId,
    Partition, Shard, StoreErrorKind,
};

use super::{
    Fixture, ManualClock, NS, OTHER, START_MS, at_head, drain, items, kind, mark, next, plain,
    stamp, unmark, user,
};

/// Every user's feed is one of the feeds, users are spread over them, and namespaces have their own.
pub async fn every_user_has_a_feed(fixture: &impl Fixture<Store: ChangeFeed>) {
    let store = fixture.open(plain(), ManualClock::at(START_MS).clock()).await;
    let feeds: BTreeSet<_> = store.feeds().into_iter().collect();
    assert_eq!(feeds.len(), store.feeds().len(), "a feed is listed twice");
    let mut used = BTreeSet::new();
    for namespace in [NS, OTHER] {
        for user_id in 0..1_000 {
            let feed = store.feed_of(namespace, user(user_id));
            assert!(feeds.contains(&feed), "{feed} is not listed");
            assert_eq!(feed.namespace, namespace);
            assert_eq!(feed, store.feed_of(namespace, user(user_id)), "a user moved");
            used.insert(feed);
        }
    }
    assert_eq!(used, feeds, "some feeds carry no user of a thousand");
}

/// From the head: first a `Complete` that names it, then what follows, and nothing older.
pub async fn a_reader_from_the_head_sees_what_follows(fixture: &impl Fixture<Store: ChangeFeed>) {
    let store = fixture.open(plain(), ManualClock::at(START_MS).clock()).await;
    let feed = store.feed_of(NS, user(7));
    let old = store.write(vec![mark(NS, 7, &items([1]))]).await.expect("a write");
    let mut reader = store.open(feed, FeedStart::Head).await.expect("a reader");
    let first = next(&mut reader, 10).await;
    if let Some(old) = old {
        let [FeedEvent::Complete { stamp: head }] = first.events[..] else {
            panic!("the first events are {:?}", first.events);
        };
        assert!(head.covers(old), "{head} does not cover {old}");
    }
    assert!(first.caught_up, "nothing followed");
    let new = store.write(vec![mark(NS, 7, &items([2]))]).await.expect("a write");
    let events = drain(&*store, &mut reader, feed).await;
    let added: Vec<_> = events
        .iter()
        .filter_map(|event| match event {
            FeedEvent::Add { stamp, user: who, item } => Some((*stamp, *who, *item)),
            _ => None,
        })
        .collect();
    assert_eq!(added.len(), 1, "{events:?}");
    assert_eq!((added[0].1, added[0].2), (user(7), items([2])[0]));
    assert!(new.is_none_or(|new| new == added[0].0));
}

/// Adds and removes come in the order of their commits, each under its commit's stamp, and stamps
/// never fall.
pub async fn events_come_in_commit_order(fixture: &impl Fixture<Store: ChangeFeed>) {
    let store = fixture.open(plain(), ManualClock::at(START_MS).clock()).await;
    let feed = store.feed_of(NS, user(7));
    let mut reader = at_head(&*store, feed).await;
    let mut expected = Vec::new();
    for round in 0..30_u64 {
        let item = items([round % 4]);
        let (is_add, write) = match round % 3 {
            2 => (false, unmark(NS, 7, &item)),
            _ => (true, mark(NS, 7, &item)),
        };
        let stamp = store.write(vec![write]).await.expect("a write");
        expected.push((stamp, is_add, item[0]));
    }
    let events = drain(&*store, &mut reader, feed).await;
    let stamps: Vec<_> = events.iter().filter_map(stamp).collect();
    assert!(stamps.is_sorted_by(|a, b| a <= b), "{stamps:?}");
    let told: Vec<_> = events
        .iter()
        .filter_map(|event| match *event {
            FeedEvent::Add { stamp, item, .. } => Some((stamp, true, item)),
            FeedEvent::Remove { stamp, item, .. } => Some((stamp, false, item)),
            _ => None,
        })
        .collect();
    // A mark of a row that is there may come back or not (coherence row 45); all else must.
    let mut present = BTreeSet::new();
    let mut told = told.into_iter().peekable();
    for (acknowledged, is_add, item) in expected {
        let changes = if is_add { present.insert(item) } else { present.remove(&item) };
        let matches = |t: &(seen_filter::CommitStamp, bool, seen_filter::Item)| {
            (t.1, t.2) == (is_add, item) && acknowledged.is_none_or(|a| a == t.0)
        };
        let came = told.next_if(matches).is_some();
        assert!(came || !changes, "no event of {item} ({is_add}) at {acknowledged:?}");
    }
    assert_eq!(told.next(), None);
}

/// A commit completes on every partition of every namespace, also where it changed nothing.
pub async fn completes_come_on_every_partition(fixture: &impl Fixture<Store: ChangeFeed>) {
    let store = fixture.open(plain(), ManualClock::at(START_MS).clock()).await;
    let mut readers = Vec::new();
    for feed in store.feeds() {
        readers.push(at_head(&*store, feed).await);
    }
    let marks = (0..50).map(|u| mark(NS, u, &items([u]))).collect();
    let Some(commit) = store.write(marks).await.expect("a write") else { return };
    for reader in &mut readers {
        let mut adds_after_complete = 0;
        'reading: loop {
            for event in next(reader, 7).await.events {
                match event {
                    FeedEvent::Complete { stamp } if stamp.covers(commit) => break 'reading,
                    FeedEvent::Complete { .. } => adds_after_complete = 0,
                    _ => adds_after_complete += 1,
                }
            }
        }
        assert!(adds_after_complete <= 50);
    }
}

/// A fence comes back on its own feed after everything that was acknowledged before it, and on no
/// other feed (rule R9).
pub async fn a_fence_comes_after_all_before_it(fixture: &impl Fixture<Store: ChangeFeed>) {
    let store = fixture.open(plain(), ManualClock::at(START_MS).clock()).await;
    let feed = store.feed_of(NS, user(7));
    let mut reader = at_head(&*store, feed).await;
    let other = store.feeds().into_iter().find(|f| *f != feed).expect("another feed");
    let mut elsewhere = at_head(&*store, other).await;
    let (writer, seq) = (Incarnation::new(0xfeed), FenceSeq::new(u64::MAX));
    for id in 0..20 {
        store.write(vec![mark(NS, 7, &items([id]))]).await.expect("a write");
    }
    store.fence(feed, store.fence_users(feed), writer, seq).await.expect("a fence");
    let mut added = 0;
    'reading: loop {
        for event in next(&mut reader, 3).await.events {
            match event {
                FeedEvent::Add { .. } => added += 1,
                FeedEvent::Fence { writer: w, seq: s, .. } => {
                    assert_eq!((w, s), (writer, seq));
                    break 'reading;
                }
                _ => {}
            }
        }
    }
    assert_eq!(added, 20);
    let others = drain(&*store, &mut elsewhere, other).await;
    assert!(!others.iter().any(|e| matches!(e, FeedEvent::Fence { .. })), "{others:?}");
    let unknown = FeedId { partition: Partition::new(u16::MAX), ..feed };
    let refused = kind(store.fence(unknown, vec![user(0)], writer, seq).await);
    assert_eq!(refused, Some(StoreErrorKind::InvalidRequest));
}

/// A feed without events says that it is fresh, by empty batches.
pub async fn a_quiet_feed_beats(fixture: &impl Fixture<Store: ChangeFeed>) {
    let store = fixture.open(plain(), ManualClock::at(START_MS).clock()).await;
    let mut reader = at_head(&*store, store.feeds()[0]).await;
    let mut beats = 0;
    while beats < 3 {
        let batch = next(&mut reader, 10).await;
        // A server that others use, too, completes their commits in between.
        let completes = batch.events.iter().all(|e| matches!(e, FeedEvent::Complete { .. }));
        assert!(completes && (batch.caught_up || !batch.events.is_empty()), "{batch:?}");
        beats += u32::from(batch.events.is_empty());
    }
    // And is still there when something comes.
    let quiet = store.feeds()[0];
    let of_feed = (0..).find(|u| store.feed_of(NS, user(*u)) == quiet).expect("a user");
    store.write(vec![mark(NS, of_feed, &items([1]))]).await.expect("a write");
    let events = drain(&*store, &mut reader, quiet).await;
    assert!(events.iter().any(|e| matches!(e, FeedEvent::Add { .. })), "{events:?}");
    let request = PageRequest { namespace: NS, user: user(of_feed), after: None, rows_max: 1 };
    assert_eq!(store.page(request).await.expect("a page").rows.len(), 1);
}

/// Feeds that are not there are refused for good.
pub async fn unknown_feeds_are_refused(fixture: &impl Fixture<Store: ChangeFeed>) {
    let store = fixture.open(plain(), ManualClock::at(START_MS).clock()).await;
    let feed = store.feeds()[0];
    for unknown in [
        FeedId { namespace: NamespaceId::new(2), ..feed },
        FeedId { shard: Shard::new(9), ..feed },
        FeedId { partition: Partition::new(u16::MAX), ..feed },
    ] {
        let refused = store.open(unknown, FeedStart::Head).await.err();
        let refused = refused.unwrap_or_else(|| panic!("{unknown} was opened"));
        assert!(!refused.retry_helps && !refused.message.is_empty(), "{refused:?}");
    }
}
