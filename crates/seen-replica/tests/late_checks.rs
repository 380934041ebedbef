//! Point checks whose snapshot may be from before the question (TiDB's timestamps of low resolution):
//! allowed only where rule R5 holds already, and everything since that moment is here. Each case takes
//! one condition away.

#[allow(dead_code, reason = "each test uses its part")]
mod lone;

use std::sync::Arc;

use seen_filter::build::Builder;
use seen_filter::hash::HashKey;
use seen_filter::packed::PackedIds;
use seen_filter::settings::Retention;
use seen_filter::{
    CommitStamp, FeedBatch, FeedCursor, FeedEvent, FeedId, GapScope, Incarnation, Item, Kind,
    NamespaceSettings, PrimaryId, SnapshotId, Tick, UnixMillis, UserEpoch, UserId,
};
use seen_replica::rules::{
    CacheBudget, Candidates, Checked, Claim, Doubt, Effect, Input, Install, Origin, Outcome,
    RING_EVENT_BYTES, Read, ReadAnswer, Rules, Settings,
};

use lone::{NOW, item, namespace, stamp};

const SECOND_US: u64 = 1_000_000;
/// How late checks may be.
const LAG_US: u64 = 5 * SECOND_US;
/// So much further back the ring must reach.
const SPARE_US: u64 = SECOND_US;
/// Events that the ring holds.
const RING_EVENTS: usize = 100;
const OWN: Incarnation = Incarnation::new(1);
const OTHER: Incarnation = Incarnation::new(2);
const USER: UserId = UserId::new(7);

struct Ids(Vec<u8>);

impl Candidates for Ids {
    fn visit(&self, each: &mut dyn FnMut(Kind, PackedIds<'_>)) {
        each(Kind::new(1), PackedIds::new(&self.0).expect("whole ids"));
    }
}

fn after_us(us: u64) -> Tick {
    NOW.plus_us(us)
}

fn before_us(us: u64) -> Tick {
    Tick::new(NOW.get() - us)
}

fn feed() -> FeedId {
    FeedId { namespace: namespace().id, ..FeedId::default() }
}

fn settings(namespace: NamespaceSettings) -> Settings {
    let cache = Arc::new(CacheBudget::new(u64::MAX));
    let ring_bytes_max = RING_EVENTS * RING_EVENT_BYTES;
    Settings { ring_bytes_max, ..Settings::embedded(namespace, OWN, cache) }
}

/// A replica that was started an hour ago, and whose feed has said nothing yet.
fn silent(namespace: NamespaceSettings, feeds: &[FeedId]) -> Rules {
    let key = HashKey::new(1, [7; 16]);
    let rules = Rules::new(settings(namespace), key, feeds, Box::new(|_| feed()), Tick::new(1));
    rules.with_late_checks(LAG_US)
}

/// A replica that has followed its feed for ten minutes, up to commit 5, which is covered.
fn following(namespace: NamespaceSettings) -> Rules {
    let rules = silent(namespace, &[feed()]);
    tell(&rules, before_us(600 * SECOND_US), vec![complete(5)]);
    tell(&rules, NOW, vec![complete(5)]);
    rules
}

fn replica() -> Rules {
    following(namespace())
}

fn tell(rules: &Rules, now: Tick, events: Vec<FeedEvent>) {
    let batch = FeedBatch { events, resume: FeedCursor::default(), caught_up: true };
    rules.step(now, Input::Feed { feed: feed(), batch: &batch });
}

fn complete(position: u64) -> FeedEvent {
    FeedEvent::Complete { stamp: stamp(position) }
}

fn add_of(user: UserId, position: u64, n: u64) -> FeedEvent {
    FeedEvent::Add { stamp: stamp(position), user, item: item(n) }
}

fn add(position: u64, n: u64) -> FeedEvent {
    add_of(USER, position, n)
}

fn remove(position: u64, n: u64) -> FeedEvent {
    FeedEvent::Remove { stamp: stamp(position), user: USER, item: item(n) }
}

fn gap(scope: GapScope) -> FeedEvent {
    FeedEvent::Gap { scope, reason: "lost" }
}

fn claim(writer: Incarnation, seq: u64, position: Option<u64>) -> Claim {
    Claim { feed: feed(), writer, seq, stamp: position.map(stamp), wildcard: false }
}

fn read_with(rules: &Rules, now: Tick, claims: &[Claim], confirm: bool) -> ReadAnswer {
    let candidates = Ids([1_u64.to_le_bytes(), 2_u64.to_le_bytes()].concat());
    let read = Read { user: USER, claims, candidates: &candidates, confirm, build: false };
    match rules.step(now, Input::Read(read)).0 {
        Outcome::Answer(answer) => answer,
        other => panic!("{other:?}"),
    }
}

fn late_from(rules: &Rules, now: Tick) -> Option<Tick> {
    read_with(rules, now, &[], false).late_from
}

#[derive(Clone, Copy, Debug)]
enum Own {
    Mark,
    Unmark,
    Unknown,
    Forget,
}

/// An own write of item 1 is acknowledged.
fn write(rules: &Rules, now: Tick, own: Own, position: Option<u64>) -> Claim {
    let items: &[Item] = &[item(1)];
    let named = if matches!(own, Own::Unmark) { &[] } else { items };
    let stamp: Option<CommitStamp> = position.map(stamp);
    let (user, begin) = (USER, Input::BeginWrite { user: USER, items: named });
    let input = match (own, rules.step(now, begin).0) {
        (Own::Mark, Outcome::Began(write)) => Input::Committed { write, user, items, stamp },
        (Own::Unmark, Outcome::Began(write)) => Input::Removed { write, user, items, stamp },
        (Own::Unknown, Outcome::Began(write)) => Input::Uncertain { write, user, items },
        (Own::Forget, Outcome::Began(write)) => {
            rules.step(now, Input::Abandoned { write, user });
            Input::Forgot { user, epoch: UserEpoch::new(1), stamp }
        }
        (_, other) => panic!("{other:?}"),
    };
    match rules.step(now, input).0 {
        Outcome::Acknowledged(claim) => claim,
        other => panic!("{other:?}"),
    }
}

/// A check of items 1 and 2: which are seen, and whether that is flagged.
fn checked(
    rules: &Rules,
    now: Tick,
    found: [bool; 2],
    late_from: Option<Tick>,
) -> ([bool; 2], bool) {
    let snapshot = SnapshotId { primary: PrimaryId::new(0), lower_bound: None };
    let checked = Checked {
        user: USER,
        items: &[item(1), item(2)],
        found: &found,
        snapshot,
        asked: Tick::new(0),
    };
    match rules.step(now, checked.answering(late_from)).0 {
        Outcome::Decided { seen, contested } => ([seen.get(0), seen.get(1)], contested),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_user_who_is_not_cached_may_be_checked_late() {
    let answer = read_with(&replica(), NOW, &[], false);
    assert_eq!((answer.doubt, answer.ask.count()), (Some(Doubt::Cold), 2));
    assert_eq!(answer.late_from, Some(before_us(LAG_US)));
    let rules = silent(namespace(), &[feed()]).with_late_checks(0);
    tell(&rules, before_us(600 * SECOND_US), vec![complete(5)]);
    tell(&rules, NOW, vec![complete(5)]);
    assert_eq!(late_from(&rules, NOW), None, "it is off");
}

#[test]
fn who_asks_for_more_is_checked_fresh() {
    assert_eq!(read_with(&replica(), NOW, &[], true).late_from, None, "wants it confirmed");
    let mut expiring = namespace();
    expiring.retention = Some(Retention { span_ms: 3_600_000, bucket_ms: 1_800_000 });
    assert_eq!(late_from(&following(expiring), NOW), None, "rows expire without events");
}

#[test]
fn the_feed_must_be_followed_and_fresh() {
    let elsewhere = silent(namespace(), &[]);
    let answer = read_with(&elsewhere, NOW, &[], false);
    assert_eq!((answer.doubt, answer.late_from), (Some(Doubt::NotFollowed), None));
    let silent = silent(namespace(), &[feed()]);
    assert_eq!(late_from(&silent, NOW), None, "it has not begun");
    let rules = replica();
    let stale_us = rules.settings().feed_stale_us_max;
    assert!(late_from(&rules, after_us(stale_us)).is_some());
    assert_eq!(late_from(&rules, after_us(stale_us + 1)), None, "nothing was heard since");
}

/// A token that names a write of somebody else that has not come by here is never answered late. What is
/// covered is here; an own write is in the journal, and ored in.
#[test]
fn tokens_must_be_own_or_covered() {
    let rules = replica();
    let asks = |claims: &[Claim]| read_with(&rules, NOW, claims, false).late_from.is_some();
    assert!(asks(&[claim(OTHER, 1, Some(5))]), "covered");
    assert!(!asks(&[claim(OTHER, 1, Some(6))]), "a later commit");
    assert!(!asks(&[claim(OTHER, 1, None)]), "no stamp, and no fence");
    assert!(!asks(&[claim(OTHER, 1, Some(5)), claim(OTHER, 2, Some(6))]), "one of them");
    let wildcard = Claim { wildcard: true, ..claim(OWN, 1, Some(5)) };
    assert!(!asks(&[wildcard]), "a wildcard is nobody's");
    let own = write(&rules, NOW, Own::Mark, Some(6));
    let answer = read_with(&rules, NOW, &[own], false);
    assert!(answer.late_from.is_some(), "the journal has it");
    let late = checked(&rules, NOW, [false, false], answer.late_from);
    assert_eq!(late, ([true, false], false), "so its own writer reads it, however late the check");
}

#[test]
fn the_ring_must_reach_back() {
    let reach_us = LAG_US + SPARE_US;
    // It begins where the feed was first followed.
    let rules = silent(namespace(), &[feed()]);
    tell(&rules, NOW, vec![complete(5)]);
    tell(&rules, after_us(reach_us), vec![complete(5)]);
    assert_eq!(late_from(&rules, after_us(reach_us - 1)), None);
    assert!(late_from(&rules, after_us(reach_us)).is_some());
    // And anew after a gap.
    let rules = replica();
    tell(&rules, NOW, vec![gap(GapScope::Partition), complete(5)]);
    tell(&rules, after_us(reach_us), vec![complete(5)]);
    assert_eq!(late_from(&rules, after_us(reach_us - 1)), None);
    assert!(late_from(&rules, after_us(reach_us)).is_some());
    // And where its bound has cut it.
    let rules = replica();
    let other = UserId::new(8);
    let events = |at: u64| (0..60).map(|n| add_of(other, 10 + at + n, n)).collect();
    tell(&rules, before_us(SECOND_US), events(0));
    assert!(late_from(&rules, NOW).is_some());
    tell(&rules, NOW, events(60));
    assert_eq!(late_from(&rules, NOW), None);
    // A process that has hardly begun.
    let key = HashKey::new(1, [7; 16]);
    let young = settings(namespace());
    let young = Rules::new(young, key, &[feed()], Box::new(|_| feed()), Tick::new(0));
    let young = young.with_late_checks(LAG_US);
    tell(&young, Tick::new(0), vec![complete(5)]);
    assert_eq!(late_from(&young, Tick::new(reach_us - 1)), None);
}

#[test]
fn nothing_but_adds_may_be_known_of_the_user() {
    let told = |events: Vec<FeedEvent>| {
        let rules = replica();
        tell(&rules, NOW, events);
        late_from(&rules, NOW).is_some()
    };
    assert!(told(vec![add(6, 1), complete(6)]));
    assert!(!told(vec![add(6, 1), remove(7, 1), complete(7)]), "a remove");
    assert!(!told(vec![FeedEvent::RemoveAll { stamp: stamp(6), user: USER }]), "of everything");
    assert!(!told(vec![gap(GapScope::User(USER))]), "an event of this user was lost");
    assert!(told(vec![gap(GapScope::User(UserId::new(8)))]), "of another");
    assert!(!told(vec![add(4, 1)]), "told again: its remove may be told again, too");
    for (own, may_be_late) in
        [(Own::Mark, true), (Own::Unmark, false), (Own::Unknown, false), (Own::Forget, false)]
    {
        let rules = replica();
        let claim = write(&rules, NOW, own, Some(6));
        assert_eq!(late_from(&rules, NOW).is_some(), may_be_late, "{own:?}");
        let answer = read_with(&rules, NOW, &[claim], false);
        assert_eq!(answer.late_from.is_some(), may_be_late, "{own:?}, with its token");
    }
}

/// Whatever is asked about a user in memory is in doubt.
#[test]
fn cached_users_are_checked_fresh() {
    let rules = replica();
    let Outcome::Building(generation) = rules.step(NOW, Input::Rebuild { user: USER }).0 else {
        panic!("a build begins");
    };
    let mut builder = Builder::new(rules.key(), rules.sizing());
    builder.push(item(1), UnixMillis::new(0), 0);
    let install = Install {
        user: USER,
        generation,
        state: builder.finish(),
        snapshot: SnapshotId { primary: PrimaryId::new(0), lower_bound: Some(stamp(5)) },
        user_epoch: UserEpoch::default(),
        origin: Origin::Storage,
    };
    let (outcome, effects) = rules.step(NOW, Input::Install(install));
    assert!(matches!(outcome, Outcome::Installed), "{outcome:?}");
    assert!(!effects.iter().any(|effect| matches!(effect, Effect::StartBuild { .. })));
    let answer = read_with(&rules, NOW, &[], false);
    assert_eq!((answer.ask.count(), answer.late_from), (0, None));
    let uncovered = claim(OTHER, 1, Some(6));
    let answer = read_with(&rules, NOW, &[uncovered], false);
    assert_eq!((answer.ask.count(), answer.late_from), (2, None));
    tell(&rules, NOW, vec![remove(6, 1), complete(6)]);
    let answer = read_with(&rules, NOW, &[], false);
    assert_eq!((answer.ask.count(), answer.late_from), (1, None), "contested");
}

#[test]
fn what_came_since_is_ored_in() {
    let from = Some(before_us(LAG_US));
    let rules = replica();
    tell(&rules, before_us(LAG_US), vec![add(6, 1), complete(6)]);
    tell(&rules, NOW, vec![complete(6)]);
    assert_eq!(checked(&rules, NOW, [false, true], from), ([true, true], false));
    // A fresh check would have shown it: somebody has removed it since.
    assert_eq!(checked(&rules, NOW, [false, true], None), ([true, true], true));
    // And so would have a late one that is later than the event.
    let later = Some(before_us(LAG_US - 1));
    assert_eq!(checked(&rules, NOW, [false, true], later), ([true, true], true));
    let rules = replica();
    write(&rules, before_us(LAG_US), Own::Mark, None);
    assert_eq!(checked(&rules, NOW, [false, true], from), ([true, true], false));
    assert_eq!(checked(&rules, NOW, [false, true], later), ([true, true], true));
}

/// What comes between the question and a late answer is flagged where the answer cannot know.
#[test]
fn what_speaks_against_a_late_answer_flags_it() {
    let from = Some(before_us(LAG_US));
    let flagged = |events: Vec<FeedEvent>, found: [bool; 2]| {
        let rules = replica();
        tell(&rules, before_us(SECOND_US), vec![add(6, 2), complete(6)]);
        assert_eq!(late_from(&rules, NOW), from);
        tell(&rules, NOW, events);
        checked(&rules, NOW, found, from)
    };
    assert_eq!(flagged(vec![], [true, false]), ([true, true], false));
    assert_eq!(flagged(vec![remove(7, 1)], [true, true]), ([true, true], true), "a remove");
    assert_eq!(flagged(vec![remove(7, 2)], [true, false]), ([true, false], false), "not of it");
    assert_eq!(flagged(vec![add(4, 1)], [false, true]), ([true, true], true), "told again");
    let lost = vec![gap(GapScope::Partition)];
    assert_eq!(flagged(lost, [true, false]), ([true, false], true), "the ring is gone");
    let other = UserId::new(8);
    let many = (0..RING_EVENTS as u64).map(|n| add_of(other, 10 + n, n)).collect();
    assert_eq!(flagged(many, [true, false]), ([true, false], true), "the ring was cut");
    // An own remove of what was told, and an own mark of which nobody knows what became.
    for (own, events) in [(Own::Unmark, vec![add(6, 1), complete(6)]), (Own::Unknown, vec![])] {
        let rules = replica();
        tell(&rules, before_us(SECOND_US), events);
        write(&rules, NOW, own, None);
        assert_eq!(checked(&rules, NOW, [false, false], from), ([true, false], true), "{own:?}");
    }
}
