//! What is wished, and the map that is wished.

use seen_filter::VirtualSet;
use std::collections::BTreeSet;

use super::super::{MapDraft, PoolDraft, ReplicaAddress, Slot, SlotMap, SlotNumber, balance};
use super::PlanError;

/// The replicas of a slot, as a map states them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Members {
    /// By address.
    pub replicas: Vec<ReplicaAddress>,
    /// By a name's addresses.
    pub dns: Option<String>,
    /// By a name's SRV records.
    pub srv: Option<String>,
}

/// Something that is to be so in the end. What is so already, changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// There is this slot, with these replicas. A new one takes an even share of the pool's virtual slots.
    Slot {
        /// The pool.
        tag: String,
        /// The slot.
        slot: SlotNumber,
        /// Its replicas: all of them.
        members: Members,
    },
    /// There is no such slot. What it owns goes to those that own least.
    NoSlot {
        /// The pool.
        tag: String,
        /// The slot.
        slot: SlotNumber,
    },
    /// These virtual slots are owned by this slot.
    Owns {
        /// The pool.
        tag: String,
        /// The slot.
        slot: SlotNumber,
        /// The virtual slots, beside what it owns.
        virtuals: Box<VirtualSet>,
    },
    /// All slots of the pool own the same number, or one more.
    Even {
        /// The pool.
        tag: String,
    },
    /// The slot has this replica, with this weight.
    Replica {
        /// The pool.
        tag: String,
        /// The slot.
        slot: SlotNumber,
        /// The replica.
        replica: ReplicaAddress,
    },
    /// The slot has no such replica.
    NoReplica {
        /// The pool.
        tag: String,
        /// The slot.
        slot: SlotNumber,
        /// The replica's address.
        address: String,
    },
    /// Replicas have settings with one of these digests. None = any.
    Settings(Vec<u64>),
}

/// What a map is to become.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// All of this holds.
    Wishes(Vec<Wish>),
    /// It is this map, whatever its epoch.
    Map(Box<SlotMap>),
}

/// The map that is wished, of the same epoch as the one that is.
pub(super) fn goal(from: &SlotMap, target: &Target) -> Result<SlotMap, PlanError> {
    let goal = match target {
        Target::Map(map) => {
            if map.cluster != from.cluster {
                return Err(PlanError::OtherCluster("cluster"));
            }
            if map.slot_key != from.slot_key {
                return Err(PlanError::OtherCluster("slot_key"));
            }
            if map.is_changing() {
                return Err(PlanError::Unsettled);
            }
            let mut map = (**map).clone();
            map.epoch = from.epoch;
            map
        }
        Target::Wishes(wishes) => wished(from, wishes)?,
    };
    for pool in goal.pools() {
        if let Some(slot) = pool.slots().iter().find(|slot| slot.owned.is_empty()) {
            return Err(PlanError::OwnsNothing(pool.tag().to_owned(), slot.number));
        }
    }
    Ok(goal)
}

fn wished(from: &SlotMap, wishes: &[Wish]) -> Result<SlotMap, PlanError> {
    contradictions(wishes)?;
    let mut draft = from.to_draft();
    // Slots come and go together, so that what is freed goes to those that come, and then what is wished in detail.
    come_and_go(&mut draft, wishes)?;
    wishes.iter().try_for_each(|wish| in_detail(&mut draft, wish))?;
    Ok(SlotMap::new(draft)?)
}

/// A wish that another one undoes would be carried out anew each time that a change is taken up again.
fn contradictions(wishes: &[Wish]) -> Result<(), PlanError> {
    let pairs = wishes.iter().flat_map(|one| wishes.iter().map(move |other| (one, other)));
    for (one, other) in pairs.filter(|(one, other)| tag_of(one) == tag_of(other)) {
        let problem = match (one, other) {
            (Wish::Even { .. }, Wish::Owns { .. }) => "even, and who owns what",
            (Wish::NoSlot { slot, .. }, Wish::Slot { slot: other, .. }) if slot == other => {
                "a slot that is to be there, and not"
            }
            _ => continue,
        };
        let tag = tag_of(one).unwrap_or_default().to_owned();
        return Err(PlanError::Contradiction(tag, problem));
    }
    Ok(())
}

fn pool_of<'a>(draft: &'a mut MapDraft, tag: &str) -> Result<&'a mut PoolDraft, PlanError> {
    let pool = draft.pools.iter_mut().find(|pool| pool.tag == tag);
    pool.ok_or_else(|| PlanError::NoPool(tag.to_owned()))
}

fn slot_of<'a>(
    draft: &'a mut MapDraft,
    tag: &str,
    number: SlotNumber,
) -> Result<&'a mut Slot, PlanError> {
    let slot = pool_of(draft, tag)?.slots.iter_mut().find(|slot| slot.number == number);
    slot.ok_or_else(|| PlanError::NoSlot(tag.to_owned(), number))
}

fn come_and_go(draft: &mut MapDraft, wishes: &[Wish]) -> Result<(), PlanError> {
    let tags: BTreeSet<&str> = wishes.iter().filter_map(tag_of).collect();
    for tag in tags {
        let pool = pool_of(draft, tag)?;
        let (mut freed, mut newcomers) = (VirtualSet::NONE, Vec::new());
        for wish in wishes.iter().filter(|wish| tag_of(wish) == Some(tag)) {
            match wish {
                Wish::Slot { slot: number, members, .. } => {
                    let known = pool.slots.iter_mut().find(|slot| slot.number == *number);
                    match known {
                        Some(slot) => set_members(slot, members),
                        None => {
                            let mut slot = Slot { number: *number, ..Slot::default() };
                            set_members(&mut slot, members);
                            newcomers.push(*number);
                            pool.slots.push(slot);
                        }
                    }
                }
                Wish::NoSlot { slot: number, .. } => {
                    let gone = pool.slots.extract_if(.., |slot| slot.number == *number);
                    freed = gone.fold(freed, |freed, slot| freed.union(&slot.owned));
                }
                _ => {}
            }
        }
        pool.slots.sort_by_key(|slot| slot.number);
        balance::share_out(&mut pool.slots, &freed, &newcomers);
    }
    Ok(())
}

fn set_members(slot: &mut Slot, members: &Members) {
    let Members { replicas, dns, srv } = members.clone();
    (slot.replicas, slot.dns, slot.srv) = (replicas, dns, srv);
}

fn tag_of(wish: &Wish) -> Option<&str> {
    match wish {
        Wish::Slot { tag, .. }
        | Wish::NoSlot { tag, .. }
        | Wish::Owns { tag, .. }
        | Wish::Even { tag }
        | Wish::Replica { tag, .. }
        | Wish::NoReplica { tag, .. } => Some(tag),
        Wish::Settings(_) => None,
    }
}

fn in_detail(draft: &mut MapDraft, wish: &Wish) -> Result<(), PlanError> {
    match wish {
        Wish::Slot { .. } | Wish::NoSlot { .. } => {}
        Wish::Owns { tag, slot, virtuals } => {
            slot_of(draft, tag, *slot)?;
            for one in &mut pool_of(draft, tag)?.slots {
                one.owned = match one.number == *slot {
                    true => one.owned.union(virtuals),
                    false => one.owned.difference(virtuals),
                };
            }
        }
        Wish::Even { tag } => balance::even_out(&mut pool_of(draft, tag)?.slots),
        Wish::Replica { tag, slot, replica } => {
            let slot = slot_of(draft, tag, *slot)?;
            match slot.replicas.iter_mut().find(|known| known.address == replica.address) {
                Some(known) => known.weight = replica.weight,
                None => slot.replicas.push(replica.clone()),
            }
        }
        Wish::NoReplica { tag, slot, address } => {
            slot_of(draft, tag, *slot)?.replicas.retain(|known| known.address != *address);
        }
        Wish::Settings(settings) => draft.settings.clone_from(settings),
    }
    Ok(())
}
