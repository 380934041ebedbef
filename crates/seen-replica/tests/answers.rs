//! What an answer from memory rests on, line by line (rule R5): claims, staleness, contested items, and what a point check is
//! or-ed with.

#[allow(dead_code, reason = "each test uses its part")]
mod case;

use seen_filter::{FeedEvent, Tick};
use seen_replica::rules::{Claim, Doubt, Input, Outcome, Refusal, Settings};

use case::*;

#[test]
fn a_feed_that_proved_nothing_for_long_is_not_believed_where_it_says_unread() {
    let case = Case::new().cached(&[1]);
    let (answer, _) = case.read(after(5), &[], &[1, 2]);
    assert!(answer.doubt.is_none() && answer.ask.is_empty() && answer.seen.get(0));
    let (answer, _) = case.read(after(5).plus_us(1), &[], &[1, 2]);
    assert_eq!(answer.doubt, Some(Doubt::FeedStale));
    assert!(answer.seen.get(0) && !answer.ask.get(0) && answer.ask.get(1));
}

#[test]
fn only_what_is_asked_puts_an_answer_in_doubt() {
    let case = Case::new().cached(&[1]);
    case.unmark(NOW, &[1], Some(stamp(2)));
    let (answer, _) = case.read(NOW, &[], &[1, 2]);
    assert_eq!(answer.doubt, Some(Doubt::Asked));
    assert!(answer.ask.get(0) && !answer.ask.get(1));
    let (answer, _) = case.read(NOW, &[], &[2]);
    assert_eq!(answer.doubt, None);
}

#[test]
fn who_wants_it_confirmed_has_every_seen_asked_that_may_be_wrong() {
    let many: Vec<u64> = (0..1_000).collect();
    for (rows, is_exact) in [(&many[..10], true), (&many[..], false)] {
        let case = Case::new().cached(rows);
        let answer = case.confirm(NOW, &[1, 2_000]);
        assert_eq!((answer.exact, answer.ask.get(0)), (is_exact, !is_exact));
        assert!(!answer.ask.get(1) || !is_exact, "nothing says that it was read");
    }
}

/// The entry was built by a read of commit 5, of which the feed has brought the first only.
#[test]
fn what_the_entrys_own_snapshot_shows_needs_no_fence() {
    let case = Case::new();
    case.built(NOW, &shown(&[1], 5));
    let doubt = |claim: Claim| case.read(NOW, &[claim], &[2]).0.doubt;
    assert_eq!(doubt(claim(1, Some(stamp(5)))), None);
    assert_eq!(doubt(claim(2, Some(stamp(6)))), Some(Doubt::TokenUncovered));
    assert_eq!(doubt(claim(3, None)), Some(Doubt::TokenUncovered));
    let wildcard = Claim { wildcard: true, ..claim(4, Some(stamp(5))) };
    assert_eq!(doubt(wildcard), Some(Doubt::TokenUncovered));
}

#[test]
fn a_fence_is_begun_for_what_nothing_else_covers_and_for_nothing_else() {
    let case = Case::new().cached(&[]);
    assert_eq!(case.heartbeat(NOW), None, "nothing waits for one");
    let (_, effects) = case.read(NOW, &[claim(1, Some(stamp(1)))], &[2]);
    assert_eq!(begun(&effects), None, "covered");
    case.mark(NOW, 3, Some(stamp(2)));
    assert_eq!(case.heartbeat(NOW), None, "its own event will release it");
    let (_, effects) = case.read(NOW, &[claim(1, Some(stamp(3)))], &[2]);
    assert!(begun(&effects).is_some());
    // What is presented while it is under way waits for the next.
    case.read(after(1), &[claim(2, Some(stamp(4)))], &[2]);
    assert!(case.heartbeat(after(6)).is_some());
    assert_eq!(case.heartbeat(after(12)), None, "nothing waits any more");
}

/// A mark of which no position is known, so that only a fence proves that it came back.
#[test]
fn a_fence_is_begun_for_marks_without_a_position() {
    let case = Case::new().cached(&[]);
    case.mark(NOW, 3, None);
    let seq = case.heartbeat(NOW).expect("a fence");
    case.tell(NOW, vec![fence(2, seq)]);
    assert_eq!(case.rules.lanes(NOW)[0].journal_rows, 0);
    assert_eq!(case.heartbeat(after(2)), None);
}

/// Rule R9: neither what was presented nor what was acknowledged after a fence's write began.
#[test]
fn a_fence_proves_nothing_of_what_came_after_it_began() {
    let case = Case::new().cached(&[]);
    let early = claim(1, Some(stamp(8)));
    let (_, effects) = case.read(NOW, &[early], &[2]);
    let seq = begun(&effects).expect("a fence");
    let late = claim(2, Some(stamp(9)));
    case.read(after(1), &[late], &[2]);
    case.mark(after(1), 3, None);
    case.tell(after(2), vec![fence(2, seq)]);
    let uncovered = |claim| case.rules.uncovered_claims(USER, &[claim]);
    assert_eq!((uncovered(early), uncovered(late)), (0, 1));
    assert_eq!(case.rules.lanes(after(2))[0].journal_rows, 1);
}

#[test]
fn an_own_mark_that_a_newer_check_does_not_show_was_removed_since() {
    let case = Case::new();
    case.mark(NOW, 1, Some(stamp(5)));
    assert_eq!(case.checked(NOW, 1, false, Some(stamp(5))), (false, false));
    assert!(case.checked(NOW, 1, false, Some(stamp(4))).0, "the check was too early for it");
}

/// Where no positions tell, a check that began S after a removal was told shows it, as a build does: what storage has then was marked again,
/// and the event of that may have been lost.
#[test]
fn what_storage_has_long_after_a_removal_was_marked_again() {
    let lag_us = SECOND_US;
    let remove_all = FeedEvent::RemoveAll { stamp: stamp(2), user: USER };
    for removal in [remove(2, 1), remove_all] {
        let case = Case::with(|settings| Settings { snapshot_lag_us_max: lag_us, ..settings });
        case.tell(NOW, vec![removal, user_gap(USER)]);
        let soon = Tick::new(after(1).get() - 1);
        assert_eq!(case.checked(soon, 1, true, None), (true, true));
        assert_eq!(case.checked(after(1), 1, true, None), (true, false));
        assert_eq!(
            case.checked(after(1), 1, true, Some(stamp(1))),
            (true, true),
            "it does not show it"
        );
        assert_eq!(case.checked(NOW, 1, true, Some(stamp(2))), (true, false), "it does");
        assert_eq!(case.checked(after(1), 1, false, None), (false, false));
    }
}

/// What a build holds back counts, also where the ring has lost it; not across a gap.
#[test]
fn a_check_is_ored_with_what_the_build_under_way_holds_back() {
    for has_gap in [false, true] {
        let case = Case::with(|settings| Settings { ring_bytes_max: 0, ..settings });
        case.begin_build(NOW);
        case.tell(NOW, vec![add(2, 1)]);
        case.tell(NOW, (3..40).map(add_else).collect());
        if has_gap {
            case.tell(NOW, vec![gap()]);
        }
        assert_eq!(case.checked(NOW, 1, false, None).0, !has_gap);
    }
}

#[test]
fn an_unread_that_storage_denies_is_no_news_where_it_was_in_doubt() {
    let verify = |case: &Case, at: Tick| {
        let input = Input::VerifiedUnread { user: USER, item: item(9), found: true, at };
        case.rules.step(NOW, input).0
    };
    let fresh = || {
        let case = Case::new().cached(&[1]);
        case.tell(after(1), Vec::new());
        case
    };
    assert!(matches!(verify(&fresh(), NOW), Outcome::FalseNegative));
    assert!(matches!(verify(&fresh(), after(2)), Outcome::OnItsWay));
    let contested = fresh();
    contested.unmark(NOW, &[9], Some(stamp(2)));
    assert!(matches!(verify(&contested, NOW), Outcome::Done));
    let dirty = fresh();
    dirty.tell(NOW, vec![user_gap(USER)]);
    assert!(matches!(verify(&dirty, NOW), Outcome::Done));
    let after_gap = fresh();
    after_gap.tell(NOW, vec![gap()]);
    assert!(matches!(verify(&after_gap, NOW), Outcome::Done));
}

/// Metrics and traces call a thing by its name in small letters, and no two the same.
#[test]
fn reasons_are_called_by_their_names() {
    let spelled = |name: String| {
        let letters = name.chars().flat_map(|c| {
            let split = if c.is_uppercase() { Some('_') } else { None };
            split.into_iter().chain(c.to_lowercase())
        });
        letters.skip(1).collect::<String>()
    };
    for doubt in [
        Doubt::Cold,
        Doubt::Dirty,
        Doubt::TokenUncovered,
        Doubt::FeedStale,
        Doubt::NotFollowed,
        Doubt::Asked,
    ] {
        assert_eq!(doubt.label(), spelled(format!("{doubt:?}")));
    }
    for refusal in [
        Refusal::Generation,
        Refusal::Epoch,
        Refusal::StaleSnapshot,
        Refusal::UserEpoch,
        Refusal::NotFollowed,
        Refusal::PendingOverflow,
        Refusal::Torn,
        Refusal::NotClean,
    ] {
        assert_eq!(refusal.label(), spelled(format!("{refusal:?}")));
    }
}
