//! Changes, step by step.

use proptest::prelude::*;
use seen_cluster::map::plan::{
    Members, Plan, PlanError, PlanOptions, StepKind, Target, Wish, plan,
};
use seen_cluster::map::{Epoch, PoolDraft, SlotMap, SlotNumber};
use seen_filter::{SlotKey, VirtualSet};

use super::world::{feed, owners, replica, slot, two_slots};

pub fn members(replicas: &[&str]) -> Members {
    let replicas = replicas.iter().map(|address| replica(address, 100)).collect();
    Members { replicas, ..Members::default() }
}

pub fn third_slot() -> Wish {
    Wish::Slot {
        tag: "feed".to_owned(),
        slot: SlotNumber::new(2),
        members: members(&["10.0.2.1:7430", "10.0.2.2:7430"]),
    }
}

pub fn no_third_slot() -> Wish {
    Wish::NoSlot { tag: "feed".to_owned(), slot: SlotNumber::new(2) }
}

pub fn planned(from: &SlotMap, wishes: &[Wish]) -> Result<Plan, PlanError> {
    plan(from, &Target::Wishes(wishes.to_vec()), &PlanOptions::default())
}

fn kinds(plan: &Plan) -> Vec<StepKind> {
    plan.steps.iter().map(|step| step.kind).collect()
}

fn moved(from: &SlotMap, to: &SlotMap) -> usize {
    owners(from, "feed").iter().zip(owners(to, "feed")).filter(|(a, b)| **a != *b).count()
}

fn sizes(map: &SlotMap) -> Vec<usize> {
    map.pool("feed").unwrap().slots().iter().map(|slot| slot.owned.len()).collect()
}

/// What makes a change harmless while two neighbouring epochs are in use (coherence rows 34 and 35): whoever owns a virtual slot by one
/// of them follows it by both.
fn assert_harmless(plan: &Plan) {
    let mut before = &plan.from;
    for step in &plan.steps {
        let rises = step.map.epoch == before.epoch.next();
        let in_place = step.map == *before;
        assert!(rises || in_place, "{} after {}", step.map.epoch, before.epoch);
        assert_eq!(SlotMap::parse(&step.map.to_toml()).as_ref(), Ok(&step.map));
        for (one, other) in [(before, &step.map), (&step.map, before)] {
            for pool in one.pools() {
                let Some(other) = other.pool(pool.tag()) else { continue };
                for slot in pool.slots() {
                    let followed = other.slot(slot.number).map(|slot| slot.followed());
                    let lost = slot.owned.difference(&followed.unwrap_or_default());
                    assert!(lost.is_empty(), "{lost} of slot {} at {:?}", slot.number, step.kind);
                }
            }
        }
        before = &step.map;
    }
    assert!(!plan.goal().is_changing());
}

#[test]
fn from_two_slots_to_three_and_back() {
    let two = two_slots();
    let there = planned(&two, &[third_slot()]).unwrap();
    assert_harmless(&there);
    assert_eq!(kinds(&there), [StepKind::Prepare, StepKind::Switch, StepKind::Done]);
    let three = there.goal();
    assert_eq!((sizes(three), three.epoch), (vec![1_365, 1_366, 1_365], Epoch::new(10)));
    // Only what the new slot owns has moved.
    assert_eq!(moved(&two, three), 1_365);
    let [prepare, switch, done] = &there.steps[..] else { panic!("{there:?}") };
    assert_eq!(owners(&prepare.map, "feed"), owners(&two, "feed"));
    assert_eq!(
        prepare.map.pool("feed").unwrap().slots()[2].incoming.to_string(),
        "1365-2047,3414-4095"
    );
    assert_eq!(owners(&switch.map, "feed"), owners(three, "feed"));
    assert_eq!(switch.map.pool("feed").unwrap().slots()[0].leaving.to_string(), "1365-2047");
    assert_eq!(prepare.wait.warm, prepare.wait.ready);
    assert_eq!(prepare.wait.warm.len(), 1);
    assert_eq!(prepare.wait.incoming_permille_min, 950);
    assert!(prepare.wait.drain.is_zero() && done.wait.drain.is_zero());
    assert_eq!(switch.wait.drain, PlanOptions::default().drain);

    let back = planned(three, &[no_third_slot()]).unwrap();
    assert_harmless(&back);
    assert_eq!(sizes(back.goal()), [2_048, 2_048]);
    assert_eq!(moved(three, back.goal()), 1_365);
    assert!(back.goal().says_the_same(&two), "{}", back.goal().to_toml());
    // Until the end the slot that goes is there, and follows what it owned.
    let going = back.steps[1].map.pool("feed").unwrap().slot(SlotNumber::new(2)).unwrap();
    assert!(going.owned.is_empty() && going.leaving.len() == 1_365);
}

#[test]
fn what_a_step_does_is_told() {
    let plan = planned(&two_slots(), &[third_slot()]).unwrap();
    assert_eq!(
        plan.steps[0].lines,
        [
            "pool feed, slot 2: comes",
            "pool feed, slot 2: follows and warms 1365 virtual slots (1365-2047,3414-4095), still slot 0's (683) and slot 1's (682)",
            "pool feed, slot 2: replica 10.0.2.1:7430 comes, weight 100",
            "pool feed, slot 2: replica 10.0.2.2:7430 comes, weight 100",
        ]
    );
    assert_eq!(
        plan.steps[0].wait.lines(),
        [
            "wait until every replica and proxy has this map",
            "wait until these are ready: pool feed, slot 2",
            "wait until 95 % of the incoming users are in memory: pool feed, slot 2",
        ]
    );
    assert_eq!(
        plan.steps[1].lines,
        [
            "pool feed, slot 0: still follows 683 virtual slots that it owned",
            "pool feed, slot 1: still follows 682 virtual slots that it owned",
            "pool feed, slot 2: owns 1365 virtual slots (1365-2047,3414-4095), before slot 0's (683) and slot 1's (682)",
        ]
    );
    assert_eq!(
        plan.steps[2].lines,
        [
            "pool feed, slot 0: lets go of 683 virtual slots",
            "pool feed, slot 1: lets go of 682 virtual slots"
        ]
    );
    assert_eq!(plan.steps[1].wait.lines()[1], "then wait 10s");
}

#[test]
fn a_slot_in_the_place_of_another_takes_what_that_one_had() {
    let gone = Wish::NoSlot { tag: "feed".to_owned(), slot: SlotNumber::new(1) };
    let plan = planned(&two_slots(), &[third_slot(), gone]).unwrap();
    assert_harmless(&plan);
    assert_eq!((moved(&two_slots(), plan.goal()), sizes(plan.goal())), (2_048, vec![2_048, 2_048]));
}

#[test]
fn replicas_come_first_and_go_last() {
    let wish = |address: &str| Wish::NoReplica {
        tag: "feed".to_owned(),
        slot: SlotNumber::new(0),
        address: address.to_owned(),
    };
    let come = Wish::Replica {
        tag: "feed".to_owned(),
        slot: SlotNumber::new(0),
        replica: replica("10.0.0.3:7430", 5),
    };
    let plan = planned(&two_slots(), &[wish("10.0.0.1:7430"), come.clone()]).unwrap();
    assert_harmless(&plan);
    assert_eq!(kinds(&plan), [StepKind::Prepare, StepKind::Switch, StepKind::Done]);
    let replicas = |step: usize| -> Vec<(&str, u16)> {
        let slot = &plan.steps[step].map.pool("feed").unwrap().slots()[0];
        slot.replicas.iter().map(|one| (&one.address[7..8], one.weight)).collect()
    };
    assert_eq!(replicas(0), [("1", 100), ("2", 100), ("3", 5)]);
    assert_eq!(replicas(1), [("1", 0), ("2", 100), ("3", 5)]);
    assert_eq!(replicas(2), [("2", 100), ("3", 5)]);
    let [prepare, switch, _] = &plan.steps[..] else { panic!("{plan:?}") };
    assert_eq!(prepare.wait.ready[0].address.as_deref(), Some("10.0.0.3:7430"));
    // The one that goes may be dead: that may be why it goes.
    assert_eq!(prepare.wait.excused[0].address.as_deref(), Some("10.0.0.1:7430"));
    assert!(!switch.wait.drain.is_zero());
    // Planned anew after the first step, the one that came is still waited for.
    let again = planned(&prepare.map, &[wish("10.0.0.1:7430"), come.clone()]).unwrap();
    assert_eq!(again.steps[0].map, prepare.map);
    let ready: Vec<_> = again.steps[0].wait.ready.iter().map(ToString::to_string).collect();
    assert_eq!(ready, ["10.0.0.2:7430 (pool feed, slot 0)", "10.0.0.3:7430 (pool feed, slot 0)"]);
    // One that comes alone needs one step, and none once it is there.
    let alone = planned(&two_slots(), std::slice::from_ref(&come)).unwrap();
    assert_eq!((kinds(&alone), alone.steps[0].wait.ready.len()), (vec![StepKind::Done], 1));
    assert!(planned(alone.goal(), &[come]).unwrap().steps.is_empty());
    // One that had weight 0 all the time still waits for those who do not know yet.
    let switched = &plan.steps[1].map;
    let rest = planned(switched, &[wish("10.0.0.1:7430")]).unwrap();
    assert_eq!(kinds(&rest), [StepKind::Prepare, StepKind::Done]);
    assert_eq!(rest.steps[0].map, *switched);
    assert!(!rest.steps[0].wait.drain.is_zero());
}

#[test]
fn a_weight_changes_in_one_step() {
    let wish = Wish::Replica {
        tag: "feed".to_owned(),
        slot: SlotNumber::new(1),
        replica: replica("10.0.1.2:7430", 300),
    };
    let plan = planned(&two_slots(), &[wish]).unwrap();
    assert_eq!(kinds(&plan), [StepKind::Done]);
    assert_eq!(
        plan.steps[0].lines,
        ["pool feed, slot 1: replica 10.0.1.2:7430 has weight 300, before 100"]
    );
}

#[test]
fn settings_change_by_accepting_both() {
    let mut from = two_slots();
    from.settings = vec![1];
    let plan = planned(&from, &[Wish::Settings(vec![2])]).unwrap();
    let settings: Vec<_> = plan.steps.iter().map(|step| step.map.settings.clone()).collect();
    assert_eq!(settings, [vec![1, 2], vec![2]]);
    assert_eq!(plan.steps[0].wait.settings.as_deref(), Some(&[2][..]));
    assert_eq!(plan.steps[1].wait.settings, None);
    // From any to one: nothing to write, but to wait for before.
    let plan = planned(&two_slots(), &[Wish::Settings(vec![2])]).unwrap();
    assert_eq!((plan.steps.len(), &plan.steps[0].map), (2, &two_slots()));
    assert_eq!(plan.steps[0].wait.settings.as_deref(), Some(&[2][..]));
    // From one to any: nothing to wait for.
    let plan = planned(&from, &[Wish::Settings(Vec::new())]).unwrap();
    assert_eq!((plan.steps.len(), &plan.steps[0].wait.settings), (1, &None));
}

#[test]
fn pools_come_and_go_by_a_whole_map() {
    let mut draft = two_slots().to_draft();
    let slots = vec![slot(0, "0-4095", &["10.0.9.1:7430"])];
    draft.pools.push(PoolDraft { tag: "push".to_owned(), slots });
    draft.namespace_pools.insert("push_sent".to_owned(), "push".to_owned());
    draft.epoch = Epoch::new(1);
    let wished = SlotMap::new(draft).unwrap();
    let options = PlanOptions::default();
    let come = plan(&two_slots(), &Target::Map(Box::new(wished.clone())), &options).unwrap();
    // The pool is there and ready before anything is sent to it.
    assert_eq!(come.steps[0].map.tag_for("push_sent"), "feed");
    assert_eq!(come.steps[0].wait.ready[0].tag, "push");
    assert_eq!(come.steps[1].map.tag_for("push_sent"), "push");
    assert!(come.goal().says_the_same(&wished) && come.steps.len() == 2);
    let go = plan(come.goal(), &Target::Map(Box::new(two_slots())), &options).unwrap();
    assert_eq!(kinds(&go), [StepKind::Switch, StepKind::Done]);
    assert_eq!(go.steps[0].map.tag_for("push_sent"), "feed");
    assert!(go.steps[0].map.pool("push").is_some() && !go.steps[0].wait.drain.is_zero());
    assert!(go.goal().pool("push").is_none());
}

#[test]
fn wishes_that_cannot_be_are_refused() {
    let two = two_slots();
    let tag = "feed".to_owned();
    let text = |wishes: &[Wish]| planned(&two, wishes).unwrap_err().to_string();
    assert_eq!(text(&[Wish::Even { tag: "x".to_owned() }]), "no pool has the tag \"x\"");
    let all = VirtualSet::ALL;
    let owns = |slot| Wish::Owns {
        tag: tag.clone(),
        slot: SlotNumber::new(slot),
        virtuals: Box::new(all),
    };
    assert_eq!(text(&[owns(5)]), "pool \"feed\" has no slot 5");
    assert!(text(&[owns(1)]).starts_with("slot 0 of pool \"feed\" would own nothing"));
    let none = |slot| Wish::NoSlot { tag: tag.clone(), slot: SlotNumber::new(slot) };
    assert!(text(&[none(0), none(1)]).contains("no slot owns 0-4095"));
    let twice = Wish::Replica {
        tag: tag.clone(),
        slot: SlotNumber::new(0),
        replica: replica("10.0.1.1:7430", 1),
    };
    assert!(text(&[twice]).contains("names it, too"));
    let contradictions =
        [vec![no_third_slot(), third_slot()], vec![Wish::Even { tag: tag.clone() }, owns(1)]];
    for wishes in contradictions {
        assert!(text(&wishes).contains("contradict"), "{wishes:?}");
    }
    let with = |change: &dyn Fn(&mut SlotMap)| {
        let mut map = two.clone();
        change(&mut map);
        plan(&two, &Target::Map(Box::new(map)), &PlanOptions::default()).unwrap_err().to_string()
    };
    assert!(with(&|map| map.cluster = 5).contains("another cluster"));
    assert!(with(&|map| map.slot_key = SlotKey::from_words((5, 5))).contains("slot_key"));
    let changing = planned(&two, &[third_slot()]).unwrap().steps[0].map.clone();
    let unsettled = plan(&two, &Target::Map(Box::new(changing)), &PlanOptions::default());
    assert_eq!(unsettled, Err(PlanError::Unsettled));
}

#[derive(Clone, Debug)]
enum Move {
    Come(u16),
    Go(u16),
    Owns(u16, u16, u16),
    Even,
    Replica(u16, u16, u16),
    NoReplica(u16, u16),
    Settings(u64),
}

fn any_move() -> impl Strategy<Value = Move> {
    prop_oneof![
        (0_u16..6).prop_map(Move::Come),
        (0_u16..6).prop_map(Move::Go),
        (0_u16..6, 0_u16..4_096, 1_u16..300).prop_map(|(a, b, c)| Move::Owns(a, b, c)),
        Just(Move::Even),
        (0_u16..6, 0_u16..4, 0_u16..300).prop_map(|(a, b, c)| Move::Replica(a, b, c)),
        (0_u16..6, 0_u16..4).prop_map(|(a, b)| Move::NoReplica(a, b)),
        (1_u64..3).prop_map(Move::Settings),
    ]
}

fn wish(one: &Move) -> Wish {
    let tag = "feed".to_owned();
    let address = |slot: u16, replica: u16| format!("10.0.{slot}.{replica}:7430");
    match *one {
        Move::Come(slot) => Wish::Slot {
            tag,
            slot: SlotNumber::new(slot),
            members: members(&[&address(slot, 1), &address(slot, 2)]),
        },
        Move::Go(slot) => Wish::NoSlot { tag, slot: SlotNumber::new(slot) },
        Move::Owns(slot, first, count) => {
            let range = format!("{first}-{}", (first + count).min(4_095));
            let virtuals = VirtualSet::parse(&range).unwrap();
            Wish::Owns { tag, slot: SlotNumber::new(slot), virtuals: Box::new(virtuals) }
        }
        Move::Even => Wish::Even { tag },
        Move::Replica(slot, at, weight) => Wish::Replica {
            tag,
            slot: SlotNumber::new(slot),
            replica: replica(&address(slot, at), weight),
        },
        Move::NoReplica(slot, at) => {
            Wish::NoReplica { tag, slot: SlotNumber::new(slot), address: address(slot, at) }
        }
        Move::Settings(settings) => Wish::Settings(vec![settings]),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn any_change_is_harmless_and_can_be_broken_off_and_taken_up(
        changes in prop::collection::vec(prop::collection::vec(any_move(), 1..4), 1..5),
    ) {
        let mut map = two_slots();
        for moves in &changes {
            let wishes: Vec<Wish> = moves.iter().map(wish).collect();
            // Many ask for what cannot be.
            let Ok(plan) = planned(&map, &wishes) else { continue };
            assert_harmless(&plan);
            prop_assert!(plan.steps.len() <= 3);
            for step in &plan.steps {
                let rest = planned(&step.map, &wishes).unwrap();
                assert_harmless(&rest);
                prop_assert!(rest.goal().says_the_same(plan.goal()), "after {:?}", step.kind);
            }
            map = plan.goal().clone();
            prop_assert!(planned(&map, &wishes).unwrap().steps.is_empty());
        }
    }

    #[test]
    fn no_more_moves_than_must(
        come in prop::collection::btree_set(2_u16..12, 0..6),
        go in prop::collection::btree_set(0_u16..2, 0..2),
    ) {
        prop_assume!(!come.is_empty());
        let wishes: Vec<Wish> =
            come.iter().map(|slot| Move::Come(*slot)).chain(go.iter().map(|slot| Move::Go(*slot))).map(|one| wish(&one)).collect();
        let from = two_slots();
        let plan = planned(&from, &wishes).unwrap();
        let count = 2 + come.len() - go.len();
        let share = 4_096 / count;
        let freed = 2_048 * go.len();
        prop_assert_eq!(moved(&from, plan.goal()), freed.max(share * come.len()), "{:?}", sizes(plan.goal()));
        let sizes = sizes(plan.goal());
        prop_assert!(sizes.iter().all(|size| *size >= share), "{:?}", sizes);
    }

    #[test]
    fn evening_out_moves_only_what_is_over(cuts in prop::collection::btree_set(1_u16..4_095, 1..7)) {
        let ends: Vec<u16> = cuts.iter().copied().chain([4_096]).collect();
        let starts = [0].into_iter().chain(cuts.iter().copied());
        let slots = starts.zip(&ends).enumerate().map(|(at, (first, end))| {
            slot(at as u16, &format!("{first}-{}", end - 1), &[&format!("10.0.{at}.1:7430")])
        });
        let from = SlotMap::new(feed(1, slots.collect())).unwrap();
        let plan = planned(&from, &[Wish::Even { tag: "feed".to_owned() }]).unwrap();
        let (share, rest) = (4_096 / ends.len(), 4_096 % ends.len());
        let mut before = sizes(&from);
        before.sort_unstable_by(|a, b| b.cmp(a));
        let quota = |at: usize| if at < rest { share + 1 } else { share };
        let over: usize = before.iter().enumerate().map(|(at, size)| size.saturating_sub(quota(at))).sum();
        prop_assert_eq!(moved(&from, plan.goal()), over);
        prop_assert!(sizes(plan.goal()).iter().all(|size| (share..=share + 1).contains(size)));
        assert_harmless(&plan);
    }
}
