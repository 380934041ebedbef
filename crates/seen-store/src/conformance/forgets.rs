//! Forgetting a user.

use seen_filter::history::PageRequest;
use seen_filter::{ChangeFeed, FeedEvent, History, NamespaceId, StoreErrorKind, UserEpoch};

use super::{
    Fixture, Folded, ManualClock, NS, OTHER, START_MS, at_head, drain, items, items_of, kind, mark,
    plain, user,
};

async fn epoch(store: &impl History, namespace: NamespaceId, user_id: u64) -> UserEpoch {
    let request = PageRequest { namespace, user: user(user_id), after: None, rows_max: 1 };
    store.page(request).await.expect("a page").user_epoch
}

/// All of one user's rows in one namespace go, and the epoch rises.
pub async fn forgetting_removes_one_user_and_raises_the_epoch(fixture: &impl Fixture) {
    let store = fixture.open(plain(), ManualClock::at(START_MS).clock()).await;
    let ids = items(0..1_000);
    for user_id in [6, 7, 8] {
        store.write(vec![mark(NS, user_id, &ids), mark(OTHER, user_id, &ids)]).await.expect("1");
    }
    // More rows than one transaction of any store removes.
    for block in 1..12_u64 {
        let more = items(block * 1_000..(block + 1) * 1_000);
        store.write(vec![mark(NS, 7, &more)]).await.expect("a write");
    }
    let forgotten = store.forget(NS, user(7)).await.expect("forgotten");
    assert_eq!((forgotten.rows, forgotten.epoch), (12_000, UserEpoch::new(1)));
    assert_eq!(items_of(&*store, NS, 7).await, []);
    assert_eq!(super::found(&*store, NS, 7, &ids).await, vec![false; 1_000]);
    assert_eq!(epoch(&*store, NS, 7).await, UserEpoch::new(1));
    for (namespace, user_id) in [(OTHER, 7), (NS, 6), (NS, 8)] {
        assert_eq!(items_of(&*store, namespace, user_id).await, ids, "{namespace} {user_id}");
        assert_eq!(epoch(&*store, namespace, user_id).await, UserEpoch::new(0));
    }
    let unknown = kind(store.forget(NamespaceId::new(2), user(7)).await);
    assert_eq!(unknown, Some(StoreErrorKind::InvalidRequest));
}

/// A user without rows can be forgotten, again and again.
pub async fn forgetting_nobody_raises_the_epoch(fixture: &impl Fixture) {
    let store = fixture.open(plain(), ManualClock::at(START_MS).clock()).await;
    for round in 1..=3 {
        let forgotten = store.forget(NS, user(7)).await.expect("forgotten");
        assert_eq!((forgotten.rows, forgotten.epoch), (0, UserEpoch::new(round)));
        assert_eq!(epoch(&*store, NS, 7).await, UserEpoch::new(round));
    }
}

/// What is marked after a forget was acknowledged stays, and reading it shows the new epoch.
pub async fn marks_after_forgetting_stay(fixture: &impl Fixture) {
    let store = fixture.open(plain(), ManualClock::at(START_MS).clock()).await;
    store.write(vec![mark(NS, 7, &items([1, 2]))]).await.expect("a write");
    store.forget(NS, user(7)).await.expect("forgotten");
    store.write(vec![mark(NS, 7, &items([2, 3]))]).await.expect("a write");
    assert_eq!(items_of(&*store, NS, 7).await, items([2, 3]));
    assert_eq!(epoch(&*store, NS, 7).await, UserEpoch::new(1));
}

/// The feed says that all rows went, at once or one by one, and the new epoch, after every earlier add
/// and before every later one: so that no late event brings a row back (coherence row 49).
pub async fn forgetting_is_told_in_the_feed(fixture: &impl Fixture<Store: ChangeFeed>) {
    let store = fixture.open(plain(), ManualClock::at(START_MS).clock()).await;
    let feed = store.feed_of(NS, user(7));
    let mut reader = at_head(&*store, feed).await;
    store.write(vec![mark(NS, 7, &items([1, 2]))]).await.expect("a write");
    let forgotten = store.forget(NS, user(7)).await.expect("forgotten");
    store.write(vec![mark(NS, 7, &items([2]))]).await.expect("a write");
    let events = drain(&*store, &mut reader, feed).await;
    let mut left = Folded::default();
    let mut epochs = Vec::new();
    let mut adds = Vec::new();
    for event in &events {
        left.apply(event);
        match event {
            FeedEvent::Add { item, .. } => {
                let already_forgotten = !epochs.is_empty();
                assert!(!already_forgotten || left.items(7) == items([2]), "{events:?}");
                adds.push((*item, already_forgotten));
            }
            FeedEvent::RemoveAll { user: who, stamp } => {
                assert_eq!(*who, user(7));
                assert!(forgotten.stamp.is_none_or(|acknowledged| acknowledged == *stamp));
            }
            FeedEvent::Forgotten { user: who, epoch, .. } => {
                assert_eq!(*who, user(7));
                epochs.push(*epoch);
            }
            _ => {}
        }
    }
    let [one, two] = [items([1])[0], items([2])[0]];
    assert_eq!(adds, [(one, false), (two, false), (two, true)]);
    assert_eq!(epochs, [forgotten.epoch]);
}
