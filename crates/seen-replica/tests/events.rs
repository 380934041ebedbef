//! What events do, line by line: rules R6, R8, R9 and R10.

#[allow(dead_code, reason = "each test uses its part")]
mod case;

use seen_replica::rules::{EntryState, Outcome, Settings};

use case::*;

/// The journal's bound is sixteen rows.
fn small_journal() -> Case {
    Case::with(|settings| Settings { journal_bytes_max: 0, ..settings })
}

#[test]
fn a_lost_event_of_one_user_doubts_that_one() {
    let case = Case::new().cached(&[1]);
    assert!(started(&case.tell(NOW, vec![user_gap(ELSE)])).is_none());
    assert_eq!(case.rules.entry(USER, None).state, EntryState::Ready);
    let effects = case.tell(NOW, vec![user_gap(USER)]);
    assert!(started(&effects).is_some());
    assert_eq!(doubts(&effects), ["unreadable"]);
    assert_eq!(case.said(NOW, 2), Said::Asked(false));
}

/// A build under way when the event was lost may have read from before it.
#[test]
fn a_build_during_which_an_event_was_lost_is_not_believed() {
    let case = Case::new();
    let generation = case.begin_build(NOW);
    case.tell(NOW, vec![user_gap(USER)]);
    case.install(after(1), generation, &shown(&[1], 9));
    assert_eq!(case.rules.entry(USER, None).state, EntryState::Dirty);
}

#[test]
fn lost_events_of_too_many_users_doubt_everybody_once() {
    const REMEMBERED: u64 = 1_024;
    let case = Case::new();
    let lost = |users: std::ops::Range<u64>| {
        let events = users.map(|n| user_gap(seen_filter::UserId::new(n))).collect();
        let effects = case.tell(NOW, events);
        doubts(&effects).iter().filter(|reason| **reason == "user_gaps").count()
    };
    assert_eq!(lost(0..REMEMBERED), 0);
    assert_eq!(lost(REMEMBERED..REMEMBERED + 1), 1);
    assert_eq!(lost(0..REMEMBERED), 0);
}

/// Rows of one commit have one position: the second is no replay of the first.
#[test]
fn a_commits_second_row_is_as_good_as_its_first() {
    let case = Case::new().cached(&[]);
    case.tell(NOW, vec![add(5, 1), add(5, 2)]);
    assert_eq!((case.said(NOW, 1), case.said(NOW, 2)), (Said::Seen, Said::Seen));
    assert_eq!(case.rules.entry(USER, None).contested_items, 0);
}

/// A commit may come in two parts: what follows of the newest is no replay.
#[test]
fn a_commits_second_row_may_come_later() {
    let case = Case::new().cached(&[]);
    case.tell(NOW, vec![add(5, 1)]);
    case.tell(NOW, vec![add(5, 2)]);
    assert_eq!(case.said(NOW, 2), Said::Seen);
    assert!(case.donated().is_ok(), "nothing is delivered again");
}

#[test]
fn only_an_entry_without_doubt_is_held() {
    for doubt in [user_gap(USER), gap()] {
        let case = Case::new();
        assert!(!case.rules.holds(USER));
        let case = case.cached(&[1]);
        assert!(case.rules.holds(USER) && !case.rules.holds(ELSE));
        case.tell(NOW, vec![doubt]);
        assert!(!case.rules.holds(USER));
    }
}

/// An add that comes by again, of before what was applied, may have been removed since.
#[test]
fn an_add_of_before_is_doubted() {
    for (first, again) in [(vec![add(5, 1)], 4), (vec![add(5, 1), complete(5)], 5)] {
        let case = Case::new().cached(&[]);
        case.tell(NOW, first);
        case.tell(NOW, vec![add(again, 2)]);
        assert_eq!((case.said(NOW, 1), case.said(NOW, 2)), (Said::Seen, Said::Asked(true)));
    }
}

/// The snapshot of the entry shows commit 5 and lacks the row that the feed says it added: it was removed since.
#[test]
fn an_add_that_the_entry_should_have_held_is_doubted() {
    let case = Case::new();
    case.built(NOW, &shown(&[1], 5));
    let effects = case.tell(NOW, vec![add(3, 1), add(5, 2)]);
    assert!(started(&effects).is_some(), "built anew");
    assert_eq!((case.said(NOW, 1), case.said(NOW, 2)), (Said::Seen, Said::Asked(true)));
    let case = Case::new();
    case.built(NOW, &shown(&[1], 5));
    case.tell(NOW, vec![add(6, 2)]);
    assert_eq!(case.said(NOW, 2), Said::Seen);
}

/// What a replica dropped of its own writes it does not hold, and so they are no reason to believe it (rule R5).
#[test]
fn an_own_write_that_was_dropped_is_not_its_own_any_more() {
    let case = small_journal().cached(&[]);
    let mut claims = Vec::new();
    for n in 0..16 {
        match case.mark(NOW, n, None) {
            (Outcome::Acknowledged(claim), effects) => {
                assert!(doubts(&effects).is_empty());
                claims.push(claim);
            }
            (other, _) => panic!("{other:?}"),
        }
    }
    assert_eq!(case.rules.uncovered_claims(USER, &claims), 0);
    let (_, effects) = case.mark(NOW, 16, None);
    assert_eq!(doubts(&effects), ["journal_overflow"]);
    assert_eq!(case.rules.uncovered_claims(USER, &claims), 1);
    // Until a fence of after it has come back, only one helps.
    let seq = case.heartbeat(NOW).expect("a fence");
    case.tell(NOW, vec![fence(2, seq)]);
    assert_eq!(case.heartbeat(after(10)), None);
}

#[test]
fn a_removal_drops_own_writes_as_a_mark_does() {
    let case = small_journal();
    (0..15).for_each(|n| drop(case.mark(NOW, n, None)));
    assert_eq!(doubts(&case.unmark(NOW, &[100], None)), Vec::<&str>::new());
    assert_eq!(doubts(&case.unmark(NOW, &[101], None)), ["journal_overflow"]);
    let case = small_journal();
    (0..15).for_each(|n| drop(case.mark(NOW, n, None)));
    assert_eq!(doubts(&case.unmark(NOW, &[100, 101], None)), ["journal_overflow"]);
}
