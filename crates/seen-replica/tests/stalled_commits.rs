//! A commit that stalls at the primary for longer than S: its event has come by long ago, a fresh read
//! still does not show it (coherence row 4). Where snapshots have no position, the whole ring is
//! merged, however old its events are (rule R2), so that what is installed lacks nothing for good.

#[allow(dead_code, reason = "each test uses its part")]
mod lone;

use std::sync::Arc;

use seen_filter::build::Builder;
use seen_filter::hash::HashKey;
use seen_filter::packed::PackedIds;
use seen_filter::settings::Retention;
use seen_filter::{
    FeedBatch, FeedCursor, FeedEvent, FeedId, Generation, Incarnation, Kind, NamespaceSettings,
    PrimaryId, SnapshotId, Tick, UnixMillis, UserEpoch, UserId,
};
use seen_replica::rules::{
    CacheBudget, Candidates, Checked, Effect, Input, Install, Origin, Outcome, Read, ReadAnswer,
    Rules, Settings,
};

use lone::{NOW, item, namespace, stamp};

const SECOND_US: u64 = 1_000_000;
const USER: UserId = UserId::new(7);

struct Ids(Vec<u8>);

impl Candidates for Ids {
    fn visit(&self, each: &mut dyn FnMut(Kind, PackedIds<'_>)) {
        each(Kind::new(1), PackedIds::new(&self.0).expect("whole ids"));
    }
}

fn after(seconds: u64) -> Tick {
    NOW.plus_us(seconds * SECOND_US)
}

/// A replica of storage that tells no positions, with S of two seconds.
fn replica(namespace: NamespaceSettings) -> Rules {
    let feed = FeedId { namespace: namespace.id, ..FeedId::default() };
    let cache = Arc::new(CacheBudget::new(u64::MAX));
    let settings = Settings::embedded(namespace, Incarnation::new(1), cache);
    let settings = Settings { snapshot_lag_us_max: 2 * SECOND_US, ..settings };
    let begun = Tick::new(NOW.get() - 600 * SECOND_US);
    Rules::new(settings, HashKey::new(1, [7; 16]), &[feed], Box::new(move |_| feed), begun)
}

fn tell(rules: &Rules, now: Tick, events: Vec<FeedEvent>) -> Option<Generation> {
    let feed = FeedId { namespace: rules.settings().namespace.id, ..FeedId::default() };
    let batch = FeedBatch { events, resume: FeedCursor::default(), caught_up: true };
    started(rules.step(now, Input::Feed { feed, batch: &batch }).1)
}

fn add(position: u64, n: u64) -> FeedEvent {
    FeedEvent::Add { stamp: stamp(position), user: USER, item: item(n) }
}

fn remove(position: u64, n: u64) -> FeedEvent {
    FeedEvent::Remove { stamp: stamp(position), user: USER, item: item(n) }
}

fn started(effects: impl IntoIterator<Item = Effect>) -> Option<Generation> {
    effects.into_iter().find_map(|effect| match effect {
        Effect::StartBuild { generation, .. } => Some(generation),
        _ => None,
    })
}

/// Asks by a feed that has just proven itself fresh.
fn ask(rules: &Rules, now: Tick, n: u64) -> (ReadAnswer, Option<Generation>) {
    tell(rules, now, vec![FeedEvent::Complete { stamp: stamp(9) }]);
    let candidates = Ids(n.to_le_bytes().to_vec());
    let read =
        Read { user: USER, claims: &[], candidates: &candidates, confirm: false, build: true };
    match rules.step(now, Input::Read(read)) {
        (Outcome::Answer(answer), effects) => (answer, started(effects)),
        (other, _) => panic!("{other:?}"),
    }
}

/// Installs what a read showed, and whether another build follows at once.
fn install(rules: &Rules, now: Tick, generation: Generation, rows: &[u64]) -> Option<Generation> {
    let mut builder = Builder::new(rules.key(), rules.sizing());
    rows.iter().for_each(|n| builder.push(item(*n), UnixMillis::new(0), 0));
    let install = Install {
        user: USER,
        generation,
        state: builder.finish(),
        snapshot: SnapshotId { primary: PrimaryId::new(1), lower_bound: None },
        user_epoch: UserEpoch::default(),
        origin: Origin::Storage,
    };
    let (outcome, effects) = rules.step(now, Input::Install(install));
    assert!(matches!(outcome, Outcome::Installed), "{outcome:?}");
    started(effects)
}

/// True if memory alone says "unread".
fn said_unread(answer: &ReadAnswer) -> bool {
    !answer.seen.get(0) && !answer.ask.get(0)
}

#[test]
fn what_came_by_long_before_a_late_snapshot_is_not_lost() {
    let rules = replica(namespace());
    tell(&rules, NOW, vec![add(5, 1), FeedEvent::Complete { stamp: stamp(5) }]);
    // Ten seconds on, five times S, a fresh read still lacks the row.
    let generation = ask(&rules, after(10), 2).1.expect("a build");
    assert_eq!(install(&rules, after(10), generation, &[2]), None, "and it is not built in a loop");
    let (answer, _) = ask(&rules, after(11), 1);
    assert!(!said_unread(&answer), "an event that came by is lost");
    assert!(answer.ask.get(0), "the read and the feed disagree: storage decides");
    assert!(ask(&rules, after(11), 2).0.seen.get(0));
}

#[test]
fn a_removal_that_came_by_as_well_stands() {
    let rules = replica(namespace());
    let events = vec![add(5, 1), remove(6, 1), FeedEvent::Complete { stamp: stamp(6) }];
    tell(&rules, NOW, events);
    let generation = ask(&rules, after(10), 2).1.expect("a build");
    assert_eq!(install(&rules, after(10), generation, &[]), None);
    assert!(said_unread(&ask(&rules, after(11), 1).0), "removed, and nobody need be asked");
    // Where the read shows it all the same, it was marked again meanwhile.
    let Outcome::Building(generation) = rules.step(after(12), Input::Rebuild { user: USER }).0
    else {
        panic!("a rebuild begins");
    };
    assert_eq!(install(&rules, after(12), generation, &[1]), None);
    assert!(ask(&rules, after(13), 1).0.seen.get(0));
}

#[test]
fn a_forget_that_came_by_long_ago_refuses_no_later_marks() {
    let rules = replica(namespace());
    let events = vec![
        add(5, 1),
        FeedEvent::RemoveAll { stamp: stamp(6), user: USER },
        FeedEvent::Complete { stamp: stamp(6) },
    ];
    tell(&rules, NOW, events);
    let generation = ask(&rules, after(10), 2).1.expect("a build");
    assert_eq!(install(&rules, after(10), generation, &[3]), None);
    assert!(said_unread(&ask(&rules, after(11), 1).0));
    assert!(ask(&rules, after(11), 3).0.seen.get(0));
}

#[test]
fn what_has_expired_since_is_not_brought_back() {
    let retention = Some(Retention { span_ms: 5_000, bucket_ms: 1_000 });
    let rules = replica(NamespaceSettings { retention, ..namespace() });
    tell(&rules, NOW, vec![add(5, 1), FeedEvent::Complete { stamp: stamp(5) }]);
    let generation = ask(&rules, after(10), 2).1.expect("a build");
    assert_eq!(install(&rules, after(10), generation, &[2]), None);
    assert!(said_unread(&ask(&rules, after(11), 1).0));
}

/// A check of one item that began at a moment: whether it is seen, and whether that is flagged.
fn check(rules: &Rules, (asked, now): (Tick, Tick), n: u64, found: bool) -> (bool, bool) {
    let snapshot = SnapshotId { primary: PrimaryId::new(1), lower_bound: None };
    let checked = Checked { user: USER, items: &[item(n)], found: &[found], snapshot, asked };
    match rules.step(now, Input::Checked(checked)).0 {
        Outcome::Decided { seen, contested } => (seen.get(0), contested),
        other => panic!("{other:?}"),
    }
}

/// Nothing but a read begins the rebuild that a remove owes after S, so that the first read may come long after.
#[test]
fn what_was_marked_again_is_believed_once_a_check_must_show_the_remove() {
    let rules = replica(namespace());
    tell(&rules, NOW, vec![add(5, 1), FeedEvent::Complete { stamp: stamp(5) }]);
    let generation = ask(&rules, after(10), 1).1.expect("a build");
    assert_eq!(install(&rules, after(10), generation, &[1]), None);
    let events = vec![remove(6, 1), add(7, 1), FeedEvent::Complete { stamp: stamp(7) }];
    let generation = tell(&rules, after(20), events).expect("a rebuild");
    assert_eq!(install(&rules, after(20), generation, &[1]), None, "it would only loop");
    assert!(ask(&rules, after(21), 1).0.ask.get(0), "storage decides");
    assert_eq!(check(&rules, (after(21), after(30)), 1, true), (true, true), "of before S");
    assert_eq!(check(&rules, (after(22), after(30)), 1, true), (true, false));
}

/// The ring knows of no expiry. What it added long ago and a later check does not show has expired.
#[test]
fn what_has_expired_since_is_not_brought_back_by_a_check() {
    let retention = Some(Retention { span_ms: 5_000, bucket_ms: 1_000 });
    let rules = replica(NamespaceSettings { retention, ..namespace() });
    tell(&rules, NOW, vec![add(5, 1), FeedEvent::Complete { stamp: stamp(5) }]);
    assert_eq!(check(&rules, (after(4), after(4)), 1, false), (true, true), "it should be there");
    assert_eq!(check(&rules, (after(5), after(5)), 1, false), (false, false));
    assert_eq!(check(&rules, (after(5), after(5)), 1, true), (true, false), "it is still there");
}
