//! What the entries of a replica take is counted as it changes, and bounded: entries go while they take too much, and no others do.

#[allow(dead_code, reason = "each test uses its part")]
mod case;

use std::sync::Arc;

use seen_filter::build::Builder;
use seen_filter::settings::Retention;
use seen_filter::{FeedEvent, NamespaceSettings, UnixMillis, UserId};
use seen_replica::preload;
use seen_replica::rules::{
    CacheBudget, EntryState, Input, Outcome, RING_EVENT_BYTES, Refusal, Settings,
};

use case::*;

const USERS: u64 = 300;
/// The most that an entry remembers.
const HOT: u8 = 3;

/// A replica whose entries may take so much.
fn bounded(bytes_max: u64) -> Case {
    Case::with(|settings| Settings { cache: Arc::new(CacheBudget::new(bytes_max)), ..settings })
}

/// Puts a user of `items` items into memory, in the place of an earlier entry if there is one.
fn put(case: &Case, user: u64, items: u64) {
    let mut builder = Builder::new(case.rules.key(), case.rules.sizing());
    (0..items).for_each(|n| builder.push(item(n), UnixMillis::new(0), 0));
    let done = preload::install(&case.rules, NOW, UserId::new(user), builder.finish());
    done.expect("installed");
}

fn shed(case: &Case, entries_max: usize) -> usize {
    match case.rules.step(NOW, Input::Shed { entries_max }).0 {
        Outcome::Shed(freed) => freed,
        other => panic!("{other:?}"),
    }
}

/// Users and bytes, as counted and as found.
fn taken(case: &Case) -> (u64, u64) {
    let (counted, found) = (case.rules.totals(), case.rules.census());
    assert_eq!((counted.users, counted.bytes), (found.users, found.bytes));
    assert_eq!(case.rules.settings().cache.used(), found.bytes);
    (found.users, found.bytes)
}

#[test]
fn what_the_entries_take_is_known_after_every_change() {
    let case = Case::new();
    assert_eq!(taken(&case), (0, 0));
    for user in 0..USERS {
        put(&case, user, user * 3);
        assert_eq!(taken(&case).0, user + 1);
    }
    let heap = |user| case.rules.entry(UserId::new(user), None).heap_bytes as u64;
    let (_, bytes) = taken(&case);
    let slots = bytes - (0..USERS).map(heap).sum::<u64>();
    assert!(slots >= USERS * 32 && slots.is_multiple_of(32), "{slots} bytes of places");
    // A larger and a smaller one in the place of another.
    for (user, items) in [(1, 10_000), (299, 20)] {
        let (before, was) = (heap(user), taken(&case).1);
        put(&case, user, items);
        assert_eq!(taken(&case), (USERS, was - before + heap(user)));
    }
    // A mark makes room for more.
    let before = heap(USER.get());
    (1_000..2_000).for_each(|n| drop(case.mark(NOW, n, Some(stamp(n)))));
    assert!(heap(USER.get()) > before);
    taken(&case);
    let forgotten = FeedEvent::RemoveAll { stamp: stamp(3_000), user: USER };
    case.tell(NOW, vec![forgotten]);
    assert_eq!(taken(&case).0, USERS - 1);
    for (freed, expected) in [(1, USERS - 2), (0, USERS - 2)] {
        let (outcome, _) = case.rules.step(NOW, Input::Evict { user: ELSE });
        assert!(matches!(outcome, Outcome::Shed(n) if n == freed));
        assert_eq!(taken(&case).0, expected);
    }
}

#[test]
fn builds_under_way_are_counted() {
    let case = Case::new();
    for user in 0..USERS {
        assert_eq!(case.rules.census().building, user);
        case.rules.step(NOW, Input::Rebuild { user: UserId::new(user) });
    }
    assert_eq!(case.rules.entry(USER, None).state, EntryState::Building);
    assert_eq!(case.rules.entry(UserId::new(USERS), None).state, EntryState::Absent);
}

/// However often they were asked for.
#[test]
fn as_many_entries_go_as_are_too_many() {
    let fill = |case: &Case| {
        (0..USERS).for_each(|user| put(case, user, 300));
        (0..USERS).for_each(|user| case.rules.warm(UserId::new(user), HOT));
        taken(case).1
    };
    let all = fill(&bounded(u64::MAX));
    let entry = |case: &Case| case.rules.entry(USER, None).heap_bytes as u64;
    let case = bounded(all);
    let one = (fill(&case), entry(&case)).1;
    assert_eq!(shed(&case, 10), 0, "as much as may be");
    let case = bounded(all - 4 * one - 1);
    fill(&case);
    assert_eq!((shed(&case, 0), shed(&case, 3), taken(&case).0), (0, 3, USERS - 3));
    assert_eq!((shed(&case, 100), taken(&case).0), (2, USERS - 5));
    assert_eq!(shed(&case, 100), 0);
    // Places for entries are no entries: with none left, there is nothing to free.
    let case = bounded(0);
    fill(&case);
    assert_eq!((shed(&case, 1_000), taken(&case).0), (USERS as usize, 0));
    assert_eq!(shed(&case, 1_000), 0);
}

/// Rows are of the bucket in which storage committed them: they expire with it, and not at once (row 54).
#[test]
fn a_mark_expires_when_its_bucket_does() {
    const HOUR_MS: u64 = 3_600_000;
    let retention = Some(Retention { span_ms: 24 * HOUR_MS, bucket_ms: HOUR_MS });
    let case = Case::with(|settings| {
        let namespace = NamespaceSettings { retention, ..settings.namespace.clone() };
        Settings { namespace, ..settings }
    });
    let at = |hours: u64| {
        case.rules.step(NOW, Input::StorageClock(UnixMillis::new(hours * HOUR_MS)));
    };
    at(1_000);
    case.built(NOW, &unplaced(&[]));
    case.mark(NOW, 1, Some(stamp(2)));
    for (hours, is_due) in [(1_000, false), (1_024, false), (1_026, true)] {
        at(hours);
        assert_eq!(started(&case.read(NOW, &[], &[1]).1).is_some(), is_due, "{hours}");
    }
}

/// Rule R2: a snapshot may be as old as the events that are kept by default.
#[test]
fn the_ring_keeps_as_many_events_as_it_has_room_for() {
    let kept = (8 << 20) / RING_EVENT_BYTES as u64;
    let case = Case::new();
    case.tell(NOW, (2..kept + 2).map(add_else).collect());
    assert!(matches!(case.built(NOW, &shown(&[], 1)).0, Outcome::Installed));
    case.tell(NOW, vec![add_else(kept + 2)]);
    let (outcome, _) = case.built(NOW, &shown(&[], 1));
    assert!(matches!(outcome, Outcome::Refused(Refusal::StaleSnapshot)), "{outcome:?}");
}
