//! What an install takes and refuses, line by line: rules R1, R2, R3 and R10.

#[allow(dead_code, reason = "each test uses its part")]
mod case;

use seen_filter::settings::Retention;
use seen_filter::{FeedEvent, NamespaceSettings, UserEpoch};
use seen_replica::rules::{EntryState, Input, Origin, Outcome, Refusal, Settings};

use case::*;

fn refusal(outcome: &Outcome) -> Option<Refusal> {
    match outcome {
        Outcome::Installed => None,
        Outcome::Refused(refusal) => Some(*refusal),
        other => panic!("{other:?}"),
    }
}

/// Storage whose reads may be two seconds late.
fn late(settings: Settings) -> Settings {
    Settings { snapshot_lag_us_max: 2 * SECOND_US, ..settings }
}

#[test]
fn as_much_is_held_back_as_fits_and_one_more_refuses_the_install() {
    for (events, expected) in
        [(2, None), (3, Some(Refusal::PendingOverflow)), (5, Some(Refusal::PendingOverflow))]
    {
        // The ring forgets them again.
        let few = |settings| Settings { pending_events_max: 2, ring_bytes_max: 0, ..settings };
        let case = Case::with(few);
        let generation = case.begin_build(NOW);
        case.tell(NOW, (0..events).map(|n| add(2 + n, n)).collect());
        case.tell(NOW, (10..60).map(add_else).collect());
        let (outcome, effects) = case.install(NOW, generation, &shown(&[], 1));
        assert_eq!(refusal(&outcome), expected, "{events}");
        assert_eq!(started(&effects).is_some(), expected.is_some(), "it begins anew");
        if expected.is_none() {
            assert_eq!((case.said(NOW, 0), case.said(NOW, 1)), (Said::Seen, Said::Seen));
        }
    }
}

/// The journal has them: only what has a position can be put in order with what was read.
#[test]
fn own_marks_without_a_position_are_not_held_back() {
    let case = Case::with(|settings| Settings { pending_events_max: 2, ..settings });
    let generation = case.begin_build(NOW);
    (0..5).for_each(|n| drop(case.mark(NOW, n, None)));
    assert_eq!(refusal(&case.install(NOW, generation, &shown(&[], 1)).0), None);
    assert_eq!((case.said(NOW, 0), case.said(NOW, 4)), (Said::Seen, Said::Seen));
}

/// The ring reaches back to where the feed said that it begins, and not only to its first event.
#[test]
fn a_snapshot_of_the_feeds_beginning_is_new_enough() {
    let case = Case::new();
    case.tell(NOW, vec![add(2, 1)]);
    assert_eq!(refusal(&case.built(NOW, &shown(&[], 1)).0), None);
    assert_eq!(case.said(NOW, 1), Said::Seen);
    assert_eq!(refusal(&case.built(NOW, &shown(&[], 0)).0), Some(Refusal::StaleSnapshot));
}

/// Row 53: what was read under another timeline cannot be put before or after what was applied.
#[test]
fn a_snapshot_of_another_timeline_is_refused() {
    let case = Case::new();
    let elsewhere = |position| Shown { lower: Some(stamp_elsewhere(position)), ..shown(&[1], 0) };
    assert_eq!(refusal(&case.built(NOW, &elsewhere(9)).0), Some(Refusal::StaleSnapshot));
}

/// Row 31.
#[test]
fn a_peer_of_unknown_position_is_refused() {
    let case = Case::new();
    let peer = Shown { origin: Origin::Peer, ..unplaced(&[1]) };
    assert_eq!(refusal(&case.built(NOW, &peer).0), Some(Refusal::StaleSnapshot));
    let placed = Shown { origin: Origin::Peer, ..shown(&[1], 1) };
    assert_eq!(refusal(&case.built(NOW, &placed).0), None);
}

/// A snapshot shows by its position what it holds: what it lacks of that was removed since.
#[test]
fn what_a_snapshot_is_newer_than_is_not_brought_back() {
    let case = Case::new();
    case.tell(NOW, vec![add(5, 1)]);
    assert_eq!(refusal(&case.built(NOW, &shown(&[], 9)).0), None);
    assert_eq!(case.said(NOW, 1), Said::Unread);
}

/// A build that begins after the removal, by a read that does not show it yet.
#[test]
fn a_removal_is_contested_until_a_snapshot_of_a_later_commit() {
    let case = Case::new().cached(&[1, 2]);
    let effects = case.unmark(NOW, &[1], Some(stamp(5)));
    let generation = started(&effects).expect("a rebuild");
    let (_, effects) = case.install(after(1), generation, &shown(&[1, 2], 4));
    assert_eq!(case.said(after(1), 1), Said::Asked(true));
    let generation = started(&effects).expect("another, at once");
    let (_, effects) = case.install(after(2), generation, &shown(&[2], 5));
    assert_eq!((case.said(after(2), 1), case.said(after(2), 2)), (Said::Unread, Said::Seen));
    assert_eq!(started(&effects), None);
}

/// Only the ring knows of the removal.
#[test]
fn a_removal_that_came_by_while_nobody_was_held_is_contested() {
    let case = Case::new();
    case.tell(NOW, vec![remove(5, 1), complete(5)]);
    let (outcome, effects) = case.built(NOW, &shown(&[1, 2], 4));
    assert_eq!(refusal(&outcome), None);
    assert_eq!((case.said(NOW, 1), case.said(NOW, 2)), (Said::Asked(true), Said::Seen));
    assert!(started(&effects).is_some(), "another is owed");
}

/// Where reads may be late and tell their position, another one at once may show what this one does not.
#[test]
fn a_removal_that_can_be_compared_is_built_for_again_at_once() {
    let case = Case::with(late).cached(&[1]);
    let generation = started(&case.unmark(NOW, &[1], Some(stamp(5)))).expect("a rebuild");
    let (_, effects) = case.install(NOW, generation, &shown(&[1], 4));
    assert!(started(&effects).is_some());
}

/// Where only time can prove it, it is not built for before that time, and then is.
#[test]
fn a_removal_that_only_time_proves_is_built_for_when_it_can_be() {
    let case = Case::with(late);
    case.built(NOW, &unplaced(&[1]));
    let generation = started(&case.unmark(NOW, &[1], None)).expect("a rebuild");
    let (_, effects) = case.install(after(1), generation, &unplaced(&[1]));
    assert_eq!(started(&effects), None);
    let begins = |now| started(&case.read(now, &[], &[2]).1);
    case.tell(after(2), Vec::new());
    assert_eq!(begins(after(1).plus_us(SECOND_US - 1)), None);
    let generation = begins(after(2)).expect("a rebuild");
    case.install(after(2), generation, &unplaced(&[]));
    assert_eq!(case.said(after(2), 1), Said::Unread);
}

/// The journal alone knows of it: nobody was in memory.
#[test]
fn an_own_removal_counts_for_a_build_that_reads_from_before_it() {
    let case = Case::new();
    case.unmark(NOW, &[1], Some(stamp(5)));
    assert_eq!(case.rules.entry(USER, None).contested_items, 0, "journal and ring know enough");
    assert_eq!(refusal(&case.built(NOW, &shown(&[1, 2], 4)).0), None);
    assert_eq!((case.said(NOW, 1), case.said(NOW, 2)), (Said::Asked(true), Said::Seen));
    let case = Case::new();
    case.unmark(NOW, &[1], Some(stamp(5)));
    case.built(NOW, &shown(&[1], 5));
    assert_eq!(case.said(NOW, 1), Said::Seen, "marked again");
}

/// A mark and a removal that both came by, and a read from before them.
#[test]
fn what_was_removed_last_is_not_brought_back_by_an_older_add() {
    let case = Case::new();
    case.tell(NOW, vec![add(2, 1), remove(3, 1), remove(4, 2), add(5, 2)]);
    case.built(NOW, &shown(&[], 1));
    assert_eq!((case.said(NOW, 1), case.said(NOW, 2)), (Said::Unread, Said::Seen));
}

/// Whoever fills a topic may say an add again after its removal; the source itself does not (rule R10).
#[test]
fn an_add_behind_a_removal_is_doubted_in_a_topic_only() {
    for quiet_is_fresh in [true, false] {
        let case = Case::with(|settings| Settings { quiet_is_fresh, ..late(settings) });
        case.tell(NOW, vec![remove(5, 1), add(6, 1), add(7, 2)]);
        let read = unplaced(&[]);
        let generation = case.begin_build(NOW);
        assert_eq!(refusal(&case.install(NOW, generation, &read).0), None);
        let view = case.rules.entry(USER, Some(item(1)));
        assert_eq!((view.says_seen, view.contested), (Some(true), !quiet_is_fresh));
        assert!(!case.rules.entry(USER, Some(item(2))).contested);
    }
}

/// An event of the user was lost: what the ring adds of before that, and a later read does not show, may have been removed.
#[test]
fn after_a_lost_event_storage_decides_what_the_ring_alone_adds() {
    let case = Case::new().cached(&[]);
    case.tell(NOW, vec![add(5, 1), add(5, 2)]);
    let generation = started(&case.tell(NOW, vec![user_gap(USER)])).expect("a rebuild");
    assert_eq!(case.rules.entry(USER, None).state, EntryState::Dirty);
    assert_eq!(refusal(&case.install(after(1), generation, &unplaced(&[2])).0), None);
    assert_eq!((case.said(after(1), 1), case.said(after(1), 2)), (Said::Asked(false), Said::Seen));
    // Without such a gap it was only late.
    let case = Case::new();
    case.tell(NOW, vec![add(5, 1)]);
    case.built(after(1), &unplaced(&[]));
    assert_eq!(case.said(after(1), 1), Said::Asked(true));
}

#[test]
fn what_expires_is_held_until_then() {
    let retention = Some(Retention { span_ms: 5_000, bucket_ms: 1_000 });
    let expiring = |settings: Settings| {
        let namespace = NamespaceSettings { retention, ..settings.namespace.clone() };
        Settings { namespace, ..settings }
    };
    for (seconds, expected) in [(4, Said::Asked(true)), (5, Said::Unread)] {
        let case = Case::with(expiring);
        case.tell(NOW, vec![add(5, 1)]);
        case.built(after(seconds), &unplaced(&[]));
        assert_eq!(case.said(after(seconds), 1), expected, "after {seconds} s");
    }
}

/// Rows 41 and 49.
#[test]
fn a_forget_drops_the_entry_once_and_refuses_what_was_read_before_it() {
    let forgotten = |position, epoch| {
        vec![FeedEvent::Forgotten {
            stamp: stamp(position),
            user: USER,
            epoch: UserEpoch::new(epoch),
        }]
    };
    let nobody = Case::new();
    assert!(nobody.tell(NOW, forgotten(2, 2)).is_empty(), "nobody is held");
    let case = Case::new().cached(&[1]);
    let generation = started(&case.tell(NOW, forgotten(2, 2))).expect("a build");
    assert_eq!(case.rules.entry(USER, None).state, EntryState::Building);
    // Reads of before the forget, by where they stand: a peer's, which no time bounds.
    let old = Shown { user_epoch: 1, origin: Origin::Peer, ..shown(&[1], 2) };
    assert_eq!(refusal(&case.install(NOW, generation, &old).0), Some(Refusal::UserEpoch));
    let new = Shown { user_epoch: 2, origin: Origin::Peer, ..shown(&[], 2) };
    assert_eq!(refusal(&case.built(NOW, &new).0), None);
    assert_eq!(case.rules.entry(USER, None).user_epoch, UserEpoch::new(2));
    for (position, epoch) in [(3, 2), (4, 1)] {
        assert!(case.tell(NOW, forgotten(position, epoch)).is_empty(), "{epoch} is no news");
        assert_eq!(case.rules.entry(USER, None).state, EntryState::Ready);
    }
    let newer = Shown { user_epoch: 3, origin: Origin::Peer, ..shown(&[], 9) };
    assert_eq!(refusal(&case.built(NOW, &newer).0), None);
}

/// Row 41: what was read before everything was removed may be what was.
#[test]
fn rows_of_before_a_removal_of_all_are_refused() {
    let all = FeedEvent::RemoveAll { stamp: stamp(5), user: USER };
    let case = Case::new();
    case.tell(NOW, vec![add(4, 1), all]);
    assert_eq!(refusal(&case.built(NOW, &shown(&[1], 4)).0), Some(Refusal::StaleSnapshot));
    assert_eq!(refusal(&case.built(NOW, &shown(&[], 4)).0), None);
    assert_eq!(refusal(&case.built(NOW, &shown(&[1], 5)).0), None);
}

#[test]
fn only_clean_entries_are_given_away() {
    let case = Case::new().cached(&[1]);
    assert!(case.donated().is_ok());
    let not_clean = Err(Refusal::NotClean);
    // Being built anew.
    let generation = case.begin_build(NOW);
    assert_eq!(case.donated(), not_clean);
    case.install(NOW, generation, &shown(&[1], 1));
    assert!(case.donated().is_ok());
    // Fed again what it had applied, whoever that was about.
    case.tell(NOW, vec![add_else(5)]);
    assert!(case.donated().is_ok());
    case.tell(NOW, vec![add_else(3)]);
    assert_eq!(case.donated(), not_clean);
    case.tell(NOW, vec![add_else(6)]);
    assert!(case.donated().is_ok());
    // Contested, and no build under way before time can prove anything.
    let case = Case::with(late);
    case.built(NOW, &unplaced(&[1]));
    assert!(case.donated().is_ok());
    let generation = started(&case.unmark(NOW, &[1], None)).expect("a rebuild");
    case.install(NOW, generation, &unplaced(&[1]));
    let view = case.rules.entry(USER, None);
    assert_eq!((view.contested_items, view.building), (1, false));
    assert_eq!(case.donated(), not_clean);
}

#[test]
fn another_users_entry_is_not_taken() {
    let (donor, case) = (Case::new().cached(&[1]), Case::new());
    let bytes = donor.donated().expect("clean");
    for (user, expected) in [(ELSE, Some(Refusal::Torn)), (USER, None)] {
        let Outcome::Building(generation) = case.rules.step(NOW, Input::BeginTransfer { user }).0
        else {
            panic!("a transfer begins");
        };
        let given = Input::Transferred { generation, bytes: &bytes, user };
        assert_eq!(refusal(&case.rules.step(NOW, given).0), expected);
    }
}
