//! A feed that is never quiet sends no proof of its freshness but the own fences that come back: each
//! proves it as of when it was begun (coherence row 25).

#[allow(dead_code, reason = "each test uses its part")]
mod lone;

use std::sync::Arc;

use seen_filter::hash::HashKey;
use seen_filter::{
    Builder, FeedBatch, FeedCursor, FeedEvent, FeedId, FenceSeq, Incarnation, PrimaryId,
    SnapshotId, Tick, UserEpoch, UserId,
};
use seen_replica::rules::{CacheBudget, Effect, Input, Install, Origin, Outcome, Rules, Settings};

use lone::{NOW, item, namespace, stamp};

const SECOND_US: u64 = 1_000_000;

fn after(seconds: u64) -> Tick {
    NOW.plus_us(seconds * SECOND_US)
}

/// A replica whose heartbeats are fences.
fn beating() -> Rules {
    let namespace = namespace();
    let feed = FeedId { namespace: namespace.id, ..FeedId::default() };
    let cache = Arc::new(CacheBudget::new(u64::MAX));
    let settings = Settings::embedded(namespace, Incarnation::new(1), cache);
    let settings = Settings { heartbeat_fences: true, ..settings };
    Rules::new(settings, HashKey::new(1, [7; 16]), &[feed], Box::new(move |_| feed), NOW)
}

/// Something comes by, and more follows. The number of the fence that this begins.
fn told(rules: &Rules, now: Tick, event: FeedEvent) -> Option<FenceSeq> {
    let feed = FeedId { namespace: rules.settings().namespace.id, ..FeedId::default() };
    let events = vec![event];
    let batch = FeedBatch { events, resume: FeedCursor::default(), caught_up: false };
    let (_, effects) = rules.step(now, Input::Feed { feed, batch: &batch });
    effects.into_iter().find_map(|effect| match effect {
        Effect::WriteFence { seq, .. } => Some(seq),
        _ => None,
    })
}

fn quiet_us(rules: &Rules, now: Tick) -> u64 {
    rules.lanes(now)[0].quiet_us
}

/// A fence that comes back passes an earlier one that was committed: what came between was lost on the
/// way, whoever lost it, and the partition is in doubt (rule R8).
#[test]
fn a_fence_that_was_passed_tells_of_lost_events() {
    let own = Incarnation::new(1);
    let written = |rules: &Rules, now, seq| {
        let feed = FeedId { namespace: rules.settings().namespace.id, ..FeedId::default() };
        rules.step(now, Input::FenceWritten { feed, seq });
    };
    // (which fences are committed, which come back) -> how many doubts.
    for (committed, came, doubts) in [
        (vec![1, 2], vec![1, 2], 0),
        (vec![1, 2], vec![2], 1),
        // Without an outcome it may never have been committed.
        (vec![2], vec![2], 0),
        // It comes before its acknowledgement.
        (vec![1], vec![1, 2], 0),
        // A producer says again what it has said.
        (vec![1, 2, 3], vec![1, 2, 1, 2, 3], 0),
        (vec![1, 2, 3], vec![1, 3, 1, 2, 3], 1),
    ] {
        let rules = beating();
        told(&rules, NOW, FeedEvent::Complete { stamp: stamp(1) });
        let before = rules.lanes(NOW)[0].epoch;
        for seq in &committed {
            written(&rules, after(1), FenceSeq::new(*seq));
        }
        for (position, seq) in (2..).zip(&came) {
            told(&rules, after(1), fence(own, position, FenceSeq::new(*seq)));
        }
        let raised = rules.lanes(NOW)[0].epoch.get() - before.get();
        assert_eq!(raised, doubts, "committed {committed:?}, came {came:?}");
    }
    // What was written before the feed began may lie before its beginning.
    let rules = beating();
    written(&rules, NOW, FenceSeq::new(1));
    told(&rules, NOW, FeedEvent::Complete { stamp: stamp(1) });
    let before = rules.lanes(NOW)[0].epoch;
    told(&rules, after(1), fence(own, 2, FenceSeq::new(2)));
    assert_eq!(rules.lanes(NOW)[0].epoch, before);
}

/// A pipeline that is slow all the time: fences come back later than the next ones are begun, and prove
/// what they prove nevertheless.
#[test]
fn a_fence_that_is_late_still_counts() {
    let rules = beating();
    let own = Incarnation::new(1);
    let mut begun = vec![told(&rules, NOW, FeedEvent::Complete { stamp: stamp(1) }).expect("one")];
    for second in 1..=30 {
        // Each takes twelve seconds.
        let event = match second % 6 {
            0 if second >= 12 => fence(own, second, begun[(second / 6 - 2) as usize]),
            _ => FeedEvent::Complete { stamp: stamp(second) },
        };
        begun.extend(told(&rules, after(second), event));
    }
    let quiet = quiet_us(&rules, after(30));
    assert!(quiet <= 20 * SECOND_US, "proven {quiet} us ago");
    assert!(begun.len() >= 5, "{begun:?}");
}

/// Where no fence can be written storage's newest commit stands for it: the feed is as fresh as when it
/// was asked for, once everything up to it is complete (rule R9).
#[test]
fn a_commit_may_stand_for_a_fence() {
    let rules = beating();
    let feed = FeedId { namespace: rules.settings().namespace.id, ..FeedId::default() };
    let complete = |position| FeedEvent::Complete { stamp: stamp(position) };
    let seq = told(&rules, NOW, complete(1)).expect("a fence");
    rules.step(after(1), Input::FenceStands { feed, seq, at: stamp(5) });
    told(&rules, after(2), complete(4));
    assert!(quiet_us(&rules, after(2)) > 2 * SECOND_US, "not complete yet");
    let seq = told(&rules, after(3), complete(5)).expect("the next one");
    assert_eq!(quiet_us(&rules, after(3)), 3 * SECOND_US, "as of its beginning");
    // Nothing has been committed since, and nothing more comes.
    rules.step(after(4), Input::FenceStands { feed, seq, at: stamp(5) });
    assert_eq!(quiet_us(&rules, after(4)), SECOND_US);
    // An older question's answer, and numbers that cannot be compared, prove nothing.
    let another = seen_filter::CommitStamp { timeline: seen_filter::Timeline::new(99), ..stamp(1) };
    let next = FenceSeq::new(seq.get() + 1);
    rules.step(after(5), Input::FenceStands { feed, seq, at: stamp(5) });
    rules.step(after(5), Input::FenceStands { feed, seq: next, at: another });
    assert_eq!(quiet_us(&rules, after(5)), 2 * SECOND_US);
}

/// Row 25: that nothing follows in a topic says nothing about the source that fills it.
#[test]
fn a_quiet_topic_is_as_fresh_as_its_last_fence() {
    let settings = |quiet_is_fresh| Settings { quiet_is_fresh, ..beating().settings().clone() };
    for (quiet_is_fresh, expected_us) in [(true, 0), (false, 4 * SECOND_US)] {
        let settings = settings(quiet_is_fresh);
        let feed = FeedId { namespace: settings.namespace.id, ..FeedId::default() };
        let of = Box::new(move |_| feed);
        let rules = Rules::new(settings, HashKey::new(1, [7; 16]), &[feed], of, NOW);
        let first = told(&rules, NOW, FeedEvent::Complete { stamp: stamp(1) }).expect("a fence");
        told(&rules, after(1), fence(Incarnation::new(1), 2, first));
        let resume = FeedCursor::default();
        let batch = FeedBatch { events: Vec::new(), resume, caught_up: true };
        rules.step(after(4), Input::Feed { feed, batch: &batch });
        assert_eq!(quiet_us(&rules, after(4)), expected_us, "{quiet_is_fresh}");
    }
}

fn fence(writer: Incarnation, position: u64, seq: FenceSeq) -> FeedEvent {
    let user = UserId::new(0);
    FeedEvent::Fence { stamp: stamp(position), user, writer, seq }
}

#[test]
fn a_busy_feed_is_as_fresh_as_its_last_fence() {
    let rules = beating();
    let own = Incarnation::new(1);
    let first = told(&rules, NOW, FeedEvent::Complete { stamp: stamp(1) }).expect("a fence");
    let second = told(&rules, after(1), fence(own, 2, first)).expect("the next one");
    assert_eq!(quiet_us(&rules, after(4)), 4 * SECOND_US, "the first one's beginning");
    // Somebody else's proves nothing here (row 58).
    told(&rules, after(4), fence(Incarnation::new(2), 3, second));
    assert_eq!(quiet_us(&rules, after(4)), 4 * SECOND_US);
    told(&rules, after(4), fence(own, 4, second));
    assert_eq!(quiet_us(&rules, after(4)), 3 * SECOND_US, "not as of its return");
    // One that comes again takes nothing back.
    told(&rules, after(5), fence(own, 4, second));
    assert_eq!(quiet_us(&rules, after(5)), 4 * SECOND_US);
}

/// Has a user in memory who has read nothing.
fn hold(rules: &Rules, user: UserId) {
    let Outcome::Building(generation) = rules.step(NOW, Input::Rebuild { user }).0 else {
        panic!("a build begins");
    };
    let install = Install {
        user,
        generation,
        state: Builder::new(rules.key(), rules.sizing()).finish(),
        snapshot: SnapshotId { primary: PrimaryId::new(1), lower_bound: Some(stamp(1)) },
        user_epoch: UserEpoch::default(),
        origin: Origin::Storage,
    };
    let outcome = rules.step(NOW, Input::Install(install)).0;
    assert!(matches!(outcome, Outcome::Installed), "{outcome:?}");
}

/// Coherence rows 34 and 35: nobody waits for a partition that is not read, and what was missed meanwhile is not believed.
#[test]
fn a_partition_that_was_let_go_of_begins_anew() {
    let (rules, user) = (beating(), UserId::new(3));
    let feed = FeedId { namespace: rules.settings().namespace.id, ..FeedId::default() };
    let beats = |now| !rules.step(now, Input::Heartbeat).1.is_empty();
    assert!(rules.wants(feed) && !rules.following_all());
    assert_eq!(rules.feed_lag_us(after(3)), None, "it has not said where it begins");
    lone::complete(&rules, 1);
    hold(&rules, user);
    assert!(rules.following_all() && rules.holds(user));
    assert_eq!(rules.feed_lag_us(after(3)), Some(3 * SECOND_US));
    assert!(rules.fresh_since(NOW) && !rules.fresh_since(NOW.plus_us(1)));
    assert!(beats(after(10)));

    rules.want(feed, false, Tick::new(0));
    rules.step(after(11), Input::Unfollowed { feed });
    assert!(!rules.wants(feed) && rules.following_all() && !rules.holds(user));
    assert_eq!(rules.feed_lag_us(after(20)), Some(0), "nothing is waited for");
    assert!(rules.fresh_since(after(20)) && !beats(after(20)));

    rules.want(feed, true, after(30));
    assert!(rules.wants(feed) && !rules.following_all());
    assert!(!rules.fresh_since(Tick::new(1)), "it has proved nothing yet");
    // It is the same wish.
    rules.want(feed, true, after(31));
    assert_eq!(rules.feed_lag_us(after(32)), Some(2 * SECOND_US), "it is given that time");
    assert!(beats(after(32)));
    lone::complete(&rules, 5);
    assert!(rules.following_all() && !rules.holds(user), "what came meanwhile was missed");
    assert_eq!(rules.feed_lag_us(after(33)), Some(3 * SECOND_US));
    let batch = FeedBatch { events: vec![], resume: FeedCursor::default(), caught_up: true };
    rules.step(after(34), Input::Feed { feed, batch: &batch });
    assert_eq!(rules.feed_lag_us(after(35)), Some(SECOND_US));
}

/// Row 55: what storage has and memory lacks may be on its way. It is missing once a fence that was begun
/// after storage was asked has come back without it.
#[test]
fn a_row_on_its_way_is_no_false_negative() {
    let (user, own) = (UserId::new(3), Incarnation::new(1));
    for comes in [true, false] {
        let rules = beating();
        let early = told(&rules, NOW, FeedEvent::Complete { stamp: stamp(1) }).expect("a fence");
        hold(&rules, user);
        let verify = |seconds| {
            let input = Input::VerifiedUnread { user, item: item(7), found: true, at: after(2) };
            rules.step(after(seconds), input).0
        };
        assert!(matches!(verify(2), Outcome::OnItsWay));
        // One that was begun before proves nothing about it.
        let late = told(&rules, after(4), fence(own, 2, early)).expect("the next one");
        assert!(matches!(verify(4), Outcome::OnItsWay));
        if comes {
            told(&rules, after(5), FeedEvent::Add { user, item: item(7), stamp: stamp(3) });
        }
        told(&rules, after(5), fence(own, 4, late));
        match (verify(6), comes) {
            (Outcome::Done, true) | (Outcome::FalseNegative, false) => {}
            (judged, _) => panic!("comes: {comes}, {judged:?}"),
        }
    }
}

/// Writes of users whose partition is not read here, in an emergency of their own slot's: their journal fills, and there is nothing
/// to doubt. Looking through all of it for each one would hold up everybody else's writes.
#[test]
fn a_journal_that_nobody_empties_costs_no_look_a_write() {
    let namespace = namespace();
    let feed = FeedId { namespace: namespace.id, ..FeedId::default() };
    for (following, doubts_min, doubts_max) in [(false, 0, 0), (true, 1, 100)] {
        let cache = Arc::new(CacheBudget::new(u64::MAX));
        let settings = Settings::embedded(namespace.clone(), Incarnation::new(1), cache);
        // As few rows as there may be.
        let settings = Settings { journal_bytes_max: 1, ..settings };
        let key = HashKey::new(1, [7; 16]);
        let rules = Rules::new(settings, key, &[feed], Box::new(move |_| feed), NOW);
        if following {
            lone::complete(&rules, 1);
        }
        let mut doubts = 0;
        for number in 0..100 {
            let (items, user) = ([item(number)], UserId::new(number));
            let begun = rules.step(NOW, Input::BeginWrite { user, items: &items });
            let (Outcome::Began(write), _) = begun else { panic!("{begun:?}") };
            // Stamps that the feed does not share: only a fence would release the rows.
            let input = Input::Committed { write, user, items: &items, stamp: None };
            let (outcome, effects) = rules.step(NOW, input);
            assert!(matches!(outcome, Outcome::Acknowledged(_)), "{outcome:?}");
            let is_doubt = |effect: &&Effect| matches!(effect, Effect::Doubted { .. });
            doubts += effects.iter().filter(is_doubt).count();
        }
        assert!((doubts_min..=doubts_max).contains(&doubts), "{following}: {doubts}");
    }
}

/// Rule R8: that a peer has read further proves that it has read what a reader lost, and not what never came into the log.
#[test]
fn a_peer_proves_nothing_of_what_was_lost_before_the_feed() {
    use seen_filter::transfer::{self, Header};
    use seen_filter::{GapScope, Generation};
    use seen_replica::rules::EntryState;
    let user = UserId::new(7);
    let feed = FeedId { namespace: namespace().id, ..FeedId::default() };
    for (reason, expected) in [("retention", EntryState::Ready), ("fence_lost", EntryState::Dirty)]
    {
        let rules = lone::replica(namespace());
        let tell = |events: Vec<FeedEvent>| {
            let batch = FeedBatch { events, resume: FeedCursor::default(), caught_up: true };
            rules.step(NOW, Input::Feed { feed, batch: &batch });
        };
        tell(vec![FeedEvent::Gap { scope: GapScope::Partition, reason }]);
        tell(vec![FeedEvent::Complete { stamp: stamp(5) }]);
        let header = Header {
            namespace: namespace().id,
            user,
            user_epoch: UserEpoch::default(),
            generation: Generation::default(),
            position: Some(stamp(9)),
        };
        let state = Builder::new(rules.key(), rules.sizing()).finish();
        let bytes = transfer::encode(&state, &header, rules.key()).expect("small");
        let (begun, _) = rules.step(NOW, Input::BeginTransfer { user });
        let Outcome::Building(generation) = begun else { panic!("{begun:?}") };
        let given = Input::Transferred { user, generation, bytes: &bytes };
        let installed = rules.step(NOW, given).0;
        assert!(matches!(installed, Outcome::Installed), "{reason}: {installed:?}");
        assert_eq!(rules.entry(user, None).state, expected, "{reason}");
    }
}

/// One that was not written is not waited for, and one that was all the same proves what it would have: nothing is forgotten.
#[test]
fn a_fence_that_failed_is_followed_by_another_and_may_still_come() {
    let rules = beating();
    let feed = FeedId { namespace: rules.settings().namespace.id, ..FeedId::default() };
    let goes_on = |position| FeedEvent::Complete { stamp: stamp(position) };
    let first = told(&rules, NOW, goes_on(1)).expect("a fence");
    assert_eq!(told(&rules, after(2), goes_on(2)), None, "one is on its way");
    rules.step(after(2), Input::FenceFailed(feed, first));
    let second = told(&rules, after(2), goes_on(3)).expect("another");
    assert_ne!(first, second);
    rules.step(after(2), Input::FenceFailed(feed, second));
    assert_eq!(told(&rules, after(2), goes_on(4)), None, "at most one a second");
    told(&rules, after(2), fence(Incarnation::new(1), 5, first));
    assert_eq!(quiet_us(&rules, after(2)), 2 * SECOND_US, "proven as of when it was begun");
}
