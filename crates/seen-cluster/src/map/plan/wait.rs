//! What a change waits for.

use std::fmt;
use std::time::Duration;

use super::super::{Slot, SlotMap, SlotNumber};
use super::PlanOptions;

/// A replica of a slot, or all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// The pool.
    pub tag: String,
    /// The slot.
    pub slot: SlotNumber,
    /// The replica's address; none = each of the slot's.
    pub address: Option<String>,
}

impl Member {
    /// True if it stands for this replica.
    pub fn is(&self, tag: &str, slot: SlotNumber, address: &str) -> bool {
        let same = self.address.as_deref().is_none_or(|own| own == address);
        self.tag == tag && self.slot == slot && same
    }
}

/// What to wait for once a step's map is in place. That every replica and every proxy has it is always waited for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wait {
    /// These are ready.
    pub ready: Vec<Member>,
    /// These have at least so many thousandths of their incoming users in memory.
    pub warm: Vec<Member>,
    /// How many.
    pub incoming_permille_min: u32,
    /// Every replica has settings with one of these digests.
    pub settings: Option<Vec<u64>>,
    /// These are about to go, or may be gone: what they say, or that they say nothing, holds nothing up.
    pub excused: Vec<Member>,
    /// And then so long.
    pub drain: Duration,
}

fn slots(map: &SlotMap) -> impl Iterator<Item = (&str, &Slot)> {
    map.pools().iter().flat_map(|pool| pool.slots().iter().map(|slot| (pool.tag(), slot)))
}

/// The replicas that a map states by their address.
pub(super) fn replicas_of(map: &SlotMap) -> impl Iterator<Item = (&str, SlotNumber, &str)> {
    slots(map).flat_map(|(tag, slot)| {
        let number = slot.number;
        slot.replicas.iter().map(move |replica| (tag, number, replica.address.as_str()))
    })
}

fn has_slot(map: &SlotMap, tag: &str, number: SlotNumber) -> bool {
    map.pool(tag).is_some_and(|pool| pool.slot(number).is_some())
}

fn member(tag: &str, slot: SlotNumber, address: Option<&str>) -> Member {
    Member { tag: tag.to_owned(), slot, address: address.map(str::to_owned) }
}

/// The replicas of `map` that the goal does not have.
fn excused(map: &SlotMap, goal: &SlotMap) -> Vec<Member> {
    let gone = slots(map).filter(|(tag, slot)| !has_slot(goal, tag, slot.number));
    let gone = gone.map(|(tag, slot)| member(tag, slot.number, None));
    let stays = |one: &(&str, SlotNumber, &str)| replicas_of(goal).any(|other| other == *one);
    let going = replicas_of(map).filter(|one| !stays(one));
    gone.chain(going.map(|(tag, slot, address)| member(tag, slot, Some(address)))).collect()
}

/// What new owners and new replicas have to be before anything is theirs.
pub(super) fn for_prepared(
    from: &SlotMap,
    prepared: &SlotMap,
    goal: &SlotMap,
    options: &PlanOptions,
) -> Wait {
    let going = excused(prepared, goal);
    let warm = slots(prepared).filter(|(_, slot)| !slot.incoming.is_empty());
    let warm: Vec<Member> = warm.map(|(tag, slot)| member(tag, slot.number, None)).collect();
    let new = slots(prepared).filter(|(tag, slot)| !has_slot(from, tag, slot.number));
    let new = new.map(|(tag, slot)| member(tag, slot.number, None));
    let known = |one: &(&str, SlotNumber, &str)| {
        replicas_of(from).any(|other| other == *one) || !has_slot(from, one.0, one.1)
    };
    let come = replicas_of(prepared).filter(|one| !known(one));
    let come = come.map(|(tag, slot, address)| member(tag, slot, Some(address)));
    let mut ready: Vec<Member> = new.chain(come).collect();
    // Nobody goes before the others of its slot can do without it. Those that came for it may have come in an earlier plan.
    let loses = |tag: &str, slot| {
        let excused = |one: &Member| one.address.is_some() && one.tag == tag && one.slot == slot;
        going.iter().any(excused)
    };
    let stay = replicas_of(goal).filter(|(tag, slot, _)| loses(tag, *slot));
    let stay = stay.map(|(tag, slot, address)| member(tag, slot, Some(address)));
    for one in stay.chain(warm.iter().cloned()) {
        if !ready.contains(&one) {
            ready.push(one);
        }
    }
    let new_settings = goal.settings != from.settings && !goal.settings.is_empty();
    Wait {
        ready,
        warm,
        incoming_permille_min: options.incoming_permille_min,
        settings: new_settings.then(|| goal.settings.clone()),
        excused: going,
        drain: Duration::ZERO,
    }
}

/// What is to pass before the old owners let go.
pub(super) fn for_switched(switched: &SlotMap, goal: &SlotMap, options: &PlanOptions) -> Wait {
    Wait { drain: options.drain, excused: excused(switched, goal), ..Wait::default() }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.address {
            Some(address) => write!(f, "{address} (pool {}, slot {})", self.tag, self.slot),
            None => write!(f, "pool {}, slot {}", self.tag, self.slot),
        }
    }
}

impl Wait {
    /// What it waits for, a line each, for people.
    pub fn lines(&self) -> Vec<String> {
        let list = |members: &[Member]| {
            let members: Vec<String> = members.iter().map(ToString::to_string).collect();
            members.join("; ")
        };
        let mut lines = vec!["wait until every replica and proxy has this map".to_owned()];
        if !self.ready.is_empty() {
            lines.push(format!("wait until these are ready: {}", list(&self.ready)));
        }
        if !self.warm.is_empty() {
            let percent = f64::from(self.incoming_permille_min) / 10.0;
            lines.push(format!(
                "wait until {percent} % of the incoming users are in memory: {}",
                list(&self.warm)
            ));
        }
        if let Some(settings) = &self.settings {
            let settings: Vec<String> = settings.iter().map(|one| format!("{one:016x}")).collect();
            lines.push(format!("wait until every replica has settings {}", settings.join(" or ")));
        }
        if !self.drain.is_zero() {
            lines.push(format!("then wait {:?}", self.drain));
        }
        lines
    }
}
