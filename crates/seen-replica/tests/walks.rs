//! Walks over the cached users: each meets everybody once, several do so beside each other, and none looks at much at a time.

#[allow(dead_code, reason = "each test uses its part")]
mod case;

use std::collections::BTreeSet;
use std::sync::Arc;

use seen_filter::build::Builder;
use seen_filter::{UserId, VirtualSet};
use seen_replica::preload;
use seen_replica::rules::{CacheBudget, Input, Outcome, Rules, STRIPES, Settings, Walk};

use case::*;

const USERS: u64 = 300;
/// Walks that may be under way at once.
const WALKS: usize = 6;
/// A step's bound, and what a stripe costs that holds nobody.
const STEP: usize = 2_048;
const STRIPE: usize = 16;

fn fill(rules: &Rules) {
    for user in 0..USERS {
        let state = Builder::new(rules.key(), rules.sizing()).finish();
        preload::install(rules, NOW, UserId::new(user), state).expect("installed");
    }
}

fn begun(rules: &Rules) -> Walk {
    rules.begin_walk(VirtualSet::ALL).expect("not too many")
}

fn counted(rules: &Rules, walk: &mut Walk) -> u64 {
    while rules.count_on(walk) {}
    walk.users()
}

/// Everybody whom a walk meets, each once, the hottest first.
fn met(rules: &Rules, walk: &mut Walk) -> BTreeSet<UserId> {
    let mut users = Vec::new();
    while rules.walk_on(walk, &mut users) {}
    let once: BTreeSet<UserId> = users.iter().map(|(user, _)| *user).collect();
    assert_eq!(once.len(), users.len(), "each once");
    assert!(users.is_sorted_by(|(_, before), (_, after)| before >= after), "{users:?}");
    once
}

#[test]
fn walks_do_not_see_each_other() {
    let case = Case::new();
    fill(&case.rules);
    let mut walks: Vec<Walk> = (0..WALKS).map(|_| begun(&case.rules)).collect();
    assert!(case.rules.begin_walk(VirtualSet::ALL).is_none(), "one too many");
    assert!(walks.iter_mut().all(|walk| counted(&case.rules, walk) == USERS));
    // All of them a step at a time, in turn.
    let mut users = [const { Vec::new() }; WALKS];
    let mut more = true;
    while more {
        more = false;
        for (walk, users) in walks.iter_mut().zip(&mut users) {
            more |= case.rules.walk_on(walk, users);
        }
    }
    for users in &users {
        let once: BTreeSet<UserId> = users.iter().map(|(user, _)| *user).collect();
        assert_eq!((once.len(), users.len()), (USERS as usize, USERS as usize));
    }
    // Whoever ends gives its number back, and none but its own.
    for ended in [4, 1] {
        case.rules.end_walk(&walks[ended]);
        let mut next = begun(&case.rules);
        assert!(case.rules.begin_walk(VirtualSet::ALL).is_none());
        assert_eq!(counted(&case.rules, &mut next), USERS);
        assert_eq!(met(&case.rules, &mut next).len(), USERS as usize, "not met by this one");
        walks[ended] = next;
    }
}

/// Walks that end leave the others what they had met.
#[test]
fn a_walk_may_begin_while_another_is_half_way() {
    let case = Case::new();
    fill(&case.rules);
    let (mut first, mut second) = (begun(&case.rules), begun(&case.rules));
    counted(&case.rules, &mut first);
    counted(&case.rules, &mut second);
    let mut half = Vec::new();
    while half.len() < USERS as usize / 2 {
        assert!(case.rules.walk_on(&mut first, &mut half));
    }
    case.rules.end_walk(&second);
    let mut third = begun(&case.rules);
    assert_eq!(counted(&case.rules, &mut third), USERS);
    assert_eq!(met(&case.rules, &mut third).len(), USERS as usize);
    let rest = met(&case.rules, &mut first);
    assert!(half.iter().all(|(user, _)| !rest.contains(user)));
    assert_eq!(half.len() + rest.len(), USERS as usize);
}

#[test]
fn a_step_over_empty_stripes_is_as_short_as_one_over_users() {
    let case = Case::new();
    let mut walk = begun(&case.rules);
    let mut steps = 0;
    while case.rules.count_on(&mut walk) {
        steps += 1;
    }
    let in_one_pass = STRIPES * STRIPE / STEP;
    assert_eq!(steps, in_one_pass - 1, "and the last one");
    let mut users = Vec::new();
    let mut steps = 0;
    while case.rules.walk_on(&mut walk, &mut users) {
        steps += 1;
    }
    assert_eq!(steps, 4 * in_one_pass, "a pass for each heat");
}

/// Among many users a step ends where it has met somebody.
#[test]
fn a_step_hands_over_the_users_of_one_stripe() {
    let case = Case::new();
    fill(&case.rules);
    let mut walk = begun(&case.rules);
    counted(&case.rules, &mut walk);
    let mut more = true;
    while more {
        let mut users = Vec::new();
        more = case.rules.walk_on(&mut walk, &mut users);
        let slot = |(user, _): &(UserId, u8)| case.rules.key().virtual_slot(*user);
        assert!(users.iter().all(|user| slot(user) == slot(&users[0])));
    }
}

/// Whoever was not asked for since the eviction hand came by is counted, but not as hot.
#[test]
fn hot_users_are_those_that_were_asked_for() {
    let cache = Arc::new(CacheBudget::new(0));
    let case = Case::with(|settings| Settings { cache, ..settings });
    fill(&case.rules);
    let mut walk = begun(&case.rules);
    assert_eq!((counted(&case.rules, &mut walk), walk.hot_users()), (USERS, USERS));
    // The hand comes by everybody before it takes the first.
    let (outcome, _) = case.rules.step(NOW, Input::Shed { entries_max: 1 });
    assert!(matches!(outcome, Outcome::Shed(1)));
    let left = (0..USERS).map(UserId::new).filter(|user| case.rules.holds(*user));
    let left: Vec<UserId> = left.collect();
    left[..40].iter().for_each(|user| case.rules.warm(*user, 1));
    left[40..50].iter().for_each(|user| case.rules.warm(*user, 3));
    let mut walk = begun(&case.rules);
    assert_eq!((counted(&case.rules, &mut walk), walk.hot_users()), (USERS - 1, 50));
    assert_eq!(met(&case.rules, &mut walk).len() as u64, USERS - 1);
}

/// Where all users lie in one stripe, each is looked at by itself.
#[test]
fn only_users_of_the_asked_slots_are_met() {
    let case = Case::new();
    let settings = case.rules.settings().clone();
    let key = *case.rules.key();
    let one = Rules::of_one_stripe(settings, key, &[feed()], Box::new(|_| feed()), NOW);
    let of_one = Case { rules: one };
    of_one.tell(NOW, vec![complete(1)]);
    for case in [case, of_one] {
        fill(&case.rules);
        let (asked, others): (Vec<UserId>, Vec<UserId>) = (0..USERS)
            .map(UserId::new)
            .partition(|user| key.virtual_slot(*user).get().is_multiple_of(2));
        assert!(asked.len() > 50 && others.len() > 50);
        let slots: VirtualSet = asked.iter().map(|user| key.virtual_slot(*user)).collect();
        let mut walk = case.rules.begin_walk(slots).expect("not too many");
        assert_eq!(counted(&case.rules, &mut walk), asked.len() as u64);
        assert!(met(&case.rules, &mut walk).into_iter().eq(asked));
    }
}
