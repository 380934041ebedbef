//! Who is asked: the first of the user's replicas that serves; where none does, anybody who can look into storage.
//!
//! Nothing here looks at how quickly a replica answers or how much it has to do: one that fails fast, or flags everything,
//! gets the users that are bound to it and no more.

use seen_cluster::sabotage::defends;
use seen_filter::Tick;

use crate::flight::Flight;
use crate::health::Health;
use crate::net::{Net, Place, virtual_slot};
use crate::replica::{Lane, ReplicaId};

/// So many other slots are looked at in an emergency.
const SLOTS_LOOKED_AT: usize = 8;

/// How good a choice is, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Standing {
    /// It serves.
    Good,
    /// Its breaker wants to find out.
    Probe,
    /// It is silent.
    Suspect,
    /// It is left out, and asked where nobody else is.
    Poor,
    /// It wants no requests, and is asked before nobody is.
    Unready,
}

/// Whom to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    pub replica: ReplicaId,
    pub standing: Standing,
    /// It may not know the user, or not be fresh: it is to look into storage.
    pub emergency: bool,
}

/// What is asked, as far as the choice goes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Need {
    pub place: Place,
    pub lane: Lane,
    pub is_write: bool,
}

impl Net {
    /// The user's home: the first of all replicas of its slot.
    pub fn home(&self, place: Place) -> Option<ReplicaId> {
        let table = self.table.as_ref()?;
        let replicas = &self.slot(place)?.replicas;
        if let [only] = replicas.as_slice() {
            return Some(*only);
        }
        let slot = table.resolved.pools.get(place.pool)?.slots.get(place.slot)?;
        replicas.get(slot.rank(place.user_hash).first()?).copied()
    }

    /// Whom the user's session is bound to: the first replica of its slot that serves, by its home's order.
    pub fn bound(&self, place: Place) -> Option<ReplicaId> {
        let table = self.table.as_ref()?;
        let replicas = &self.slot(place)?.replicas;
        let slot = table.resolved.pools.get(place.pool)?.slots.get(place.slot)?;
        let usable = |at: usize| {
            replicas.get(at).and_then(|id| self.replica(*id)).is_some_and(|replica| replica.serves)
        };
        replicas.get(slot.preferred(place.user_hash, usable)?).copied()
    }

    /// Whom to ask first.
    pub fn choose_first(&self, need: Need, now: Tick) -> Option<Choice> {
        let mut best: Option<Choice> = None;
        for choice in self.in_slot(need, need.place.slot, now, false) {
            let stays = match choice.standing {
                Standing::Good => true,
                // Reads stay with a silent home, and are asked elsewhere as well; a write would be stuck.
                Standing::Probe | Standing::Suspect => !need.is_write,
                Standing::Poor | Standing::Unready => false,
            };
            if stays {
                return Some(choice);
            }
            best = better(best, choice);
        }
        match best {
            Some(choice) if choice.standing < Standing::Unready => Some(choice),
            unready => self.elsewhere(need, now, &[]).or(unready),
        }
    }

    /// Whom to ask next: another replica of the slot that is well, or else anybody.
    pub fn choose_next(&self, need: Need, tried: &[ReplicaId], now: Tick) -> Option<Choice> {
        let in_slot = self.in_slot(need, need.place.slot, now, false);
        let untried = in_slot.into_iter().filter(|choice| !tried.contains(&choice.replica));
        let best = untried.fold(None, better);
        match best {
            Some(choice) if choice.standing == Standing::Good => Some(choice),
            other => self.elsewhere(need, now, tried).or(other),
        }
    }

    /// Another replica of the slot that is well.
    pub fn choose_second(&self, need: Need, tried: &[ReplicaId], now: Tick) -> Option<Choice> {
        let in_slot = self.in_slot(need, need.place.slot, now, false);
        in_slot
            .into_iter()
            .find(|choice| choice.standing == Standing::Good && !tried.contains(&choice.replica))
    }

    /// A replica of another slot that is well.
    pub fn elsewhere(&self, need: Need, now: Tick, tried: &[ReplicaId]) -> Option<Choice> {
        let slots = self.table.as_ref()?.pools.get(need.place.pool)?.slots.len();
        // Users of one slot are spread over the others.
        let from = (need.place.user_hash >> 32) as usize;
        (0..slots.min(SLOTS_LOOKED_AT + 1)).find_map(|step| {
            let slot = (from + step) % slots;
            let others = (slot != need.place.slot).then(|| self.in_slot(need, slot, now, true));
            others.into_iter().flatten().find(|choice| {
                choice.standing == Standing::Good && !tried.contains(&choice.replica)
            })
        })
    }

    /// The replicas of a slot that can be asked at all, in the order of the user's preference.
    fn in_slot(&self, need: Need, slot: usize, now: Tick, emergency: bool) -> Vec4 {
        let mut choices = Vec4::new();
        let place = Place { slot, ..need.place };
        let map_slot = self
            .table
            .as_ref()
            .and_then(|table| table.resolved.pools.get(place.pool))
            .and_then(|pool| pool.slots.get(slot));
        let (Some(map_slot), Some(table)) = (map_slot, self.slot(place)) else { return choices };
        for at in map_slot.rank(place.user_hash).iter() {
            let Some(replica) = table.replicas.get(at).copied() else { continue };
            if let Some(standing) = self.standing(replica, need, now) {
                let emergency = emergency || standing == Standing::Unready;
                choices.push(Choice { replica, standing, emergency });
            }
        }
        choices
    }

    fn standing(&self, id: ReplicaId, need: Need, now: Tick) -> Option<Standing> {
        let replica = self.replica(id)?;
        let linked = replica.links.get(need.lane as usize).is_some_and(Option::is_some);
        if !linked || (need.lane == Lane::Push && !replica.push_is_up) {
            return None;
        }
        let health = replica.heard.health(now);
        match health {
            Health::Down | Health::Refused | Health::Ejected | Health::Draining => return None,
            Health::Unready => return Some(Standing::Unready),
            Health::Suspect | Health::Up => {}
        }
        if replica.ejection.is_on(now) {
            return Some(Standing::Poor);
        }
        if !replica.breaker.is_closed() {
            let may_probe = need.lane == Lane::Filters;
            let probes = may_probe && replica.breaker.may_probe(now, need.is_write);
            return Some(if probes { Standing::Probe } else { Standing::Poor });
        }
        Some(if health == Health::Suspect { Standing::Suspect } else { Standing::Good })
    }

    /// The claim that a request must carry to this replica, if any; see [`crate::moved`].
    pub fn claim(&mut self, flight: &Flight, choice: Choice, now: Tick) -> Option<u64> {
        if flight.has_token || flight.call.writes() || !defends("proxy.moved") {
            return None;
        }
        let is_first = flight.attempts.is_empty();
        match flight.group_moved {
            None => self.claim_of(flight.place, is_first, choice, now),
            Some(_) if !is_first => Some(self.claims.draw()),
            // Drawn anew: some of them may have written elsewhere since the slot's last change.
            Some(moved) => moved.then(|| self.claims.draw()),
        }
    }

    /// The claim of one user who brings no token.
    pub fn claim_of(
        &mut self,
        place: Place,
        is_first: bool,
        choice: Choice,
        now: Tick,
    ) -> Option<u64> {
        let home = self.home(place);
        let serves = |id: ReplicaId| self.replica(id).is_some_and(|replica| replica.serves);
        let home_serves = home.is_some_and(serves);
        let moved = if self.bound(place) == Some(choice.replica) {
            home != Some(choice.replica)
                || self.was_moved(place, choice.replica, now)
                || self.strayed.contains(place.user_hash, now)
        } else {
            // Nobody drew a number when the user wrote to the one that it is bound to.
            if !serves(choice.replica) || self.wrote.contains(place.user_hash, now) {
                return Some(self.claims.draw());
            }
            // Asked elsewhere as well, a user who wrote nothing misses nothing of its own.
            is_first || !home_serves
        };
        moved.then(|| self.slot(place).map_or(0, |slot| slot.moved))
    }

    /// True if the user's home, which serves, may not have been asked about the user until lately.
    fn was_moved(&self, place: Place, home: ReplicaId, now: Tick) -> bool {
        if now < self.all_moved_until {
            return true;
        }
        let Some(replica) = self.replica(home) else { return true };
        let back = |since: Tick| now.since_us(since) < self.moved_for_us();
        if replica.back_since.is_some_and(back) && defends("proxy.back") {
            return true;
        }
        self.earlier.iter().any(|(map, until)| {
            let pool = map.pool(&replica.target.pool);
            let slot = pool.map(|pool| pool.owner(virtual_slot(place.user_hash)));
            let first =
                slot.and_then(|slot| slot.replicas.get(slot.rank(place.user_hash).first()?));
            now < *until && first.is_none_or(|first| first.name != replica.target.name)
        })
    }
}

/// Choices among the replicas of one slot.
type Vec4 = smallvec::SmallVec<[Choice; 4]>;

fn better(best: Option<Choice>, choice: Choice) -> Option<Choice> {
    match best {
        Some(best) if best.standing <= choice.standing => Some(best),
        _ => Some(choice),
    }
}
