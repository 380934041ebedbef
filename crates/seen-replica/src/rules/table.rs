//! The striped table of cached users. A stripe holds the users of one virtual slot in an
//! open-addressing array (Robin Hood order, growth by a quarter), so that a slot costs 32 bytes at a
//! load between 0.68 and 0.85: less than any general map with its own headers, and one short lock
//! serves one batch.

use std::collections::BTreeMap;

use seen_filter::hash::HashKey;
use seen_filter::state::UserState;
use seen_filter::{Generation, ScopeEpoch, UserId};

use super::side::Side;

/// Highest hits an entry remembers; each sweep of the eviction hand forgets one.
pub(super) const HEAT_MAX: u8 = 3;
/// The bits of a slot's `heat` that count hits.
const HEAT_BITS: u8 = 0b11;
/// Walks over the table that can be told apart at once: each has one of the bits that hits do not need.
pub(super) const WALKS_MAX: u8 = 6;
/// Slots of a stripe when its first user arrives.
const SLOTS_MIN: usize = 4;

/// Whether an entry may be believed when it says "unread".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Trust {
    /// Holds everything of storage up to the partition's cover.
    Clean,
    /// Something may be missing (rule R8): "seen" stands, "unread" is asked in storage.
    Dirty,
}

/// One cached user, in state Ready.
#[derive(Debug)]
pub(super) struct Slot {
    pub user: UserId,
    pub state: UserState,
    /// The life that installed `state`.
    pub generation: Generation,
    /// The partition's epoch at the install; a lower one than the partition's now means dirty.
    pub epoch: ScopeEpoch,
    pub trust: Trust,
    /// Hits in the low bits; above them, which walks came by.
    heat: u8,
}

impl Slot {
    pub fn new(user: UserId, generation: Generation, epoch: ScopeEpoch, state: UserState) -> Self {
        Self { user, state, generation, epoch, trust: Trust::Clean, heat: 1 }
    }

    /// Counts a hit for the eviction hand.
    pub fn touch(&mut self) {
        if self.heat() < HEAT_MAX {
            self.heat += 1;
        }
    }

    /// How many hits it remembers, at most [`HEAT_MAX`].
    pub fn heat(&self) -> u8 {
        self.heat & HEAT_BITS
    }

    /// Makes it remember at least so many hits.
    pub fn warm(&mut self, heat: u8) {
        let heat = heat.min(HEAT_MAX).max(self.heat());
        self.heat = (self.heat & !HEAT_BITS) | heat;
    }

    /// Forgets one hit. False if there was none.
    fn cool(&mut self) -> bool {
        let warm = self.heat() > 0;
        self.heat -= u8::from(warm);
        warm
    }

    /// True if the walk of this number, below [`WALKS_MAX`], came by.
    pub fn is_walked(&self, walk: u8) -> bool {
        self.heat & walk_bit(walk) != 0
    }

    /// Notes that a walk came by, or that it has not.
    pub fn set_walked(&mut self, walk: u8, walked: bool) {
        let bit = walk_bit(walk);
        self.heat = if walked { self.heat | bit } else { self.heat & !bit };
    }
}

const fn walk_bit(walk: u8) -> u8 {
    (HEAT_BITS + 1) << walk
}

// The memory aim (200 bytes for a user of 16 items) rests on this size.
const _: () = assert!(std::mem::size_of::<Option<Slot>>() == 32);

/// The users of one virtual slot.
#[derive(Debug, Default)]
pub(super) struct Stripe {
    slots: Box<[Option<Slot>]>,
    live: usize,
    hand: usize,
    /// The rare states of users: builds under way, contested ids. Empty most of the time; boxed, since
    /// a map keeps the room for eleven when it is empty again.
    pub side: BTreeMap<UserId, Box<Side>>,
    next_generation: u32,
}

impl Stripe {
    /// A generation that no build or entry of this stripe had before (it wraps after 2^32).
    pub fn new_generation(&mut self) -> Generation {
        self.next_generation = self.next_generation.wrapping_add(1);
        Generation::new(self.next_generation)
    }

    /// Bytes of the slot array; the heap behind the states is counted elsewhere.
    pub fn slot_bytes(&self) -> usize {
        self.slots.len() * std::mem::size_of::<Option<Slot>>()
    }

    /// Number of cached users.
    pub fn len(&self) -> usize {
        self.live
    }

    fn home(&self, key: &HashKey, user: UserId) -> usize {
        let high = key.table_hash(user) >> 32;
        ((high * self.slots.len() as u64) >> 32) as usize
    }

    fn distance(&self, key: &HashKey, at: usize, user: UserId) -> usize {
        let home = self.home(key, user);
        if at >= home { at - home } else { at + self.slots.len() - home }
    }

    fn position(&self, key: &HashKey, user: UserId) -> Option<usize> {
        if self.slots.is_empty() {
            return None;
        }
        let mut at = self.home(key, user);
        let mut walked = 0;
        while let Some(slot) = &self.slots[at] {
            if slot.user == user {
                return Some(at);
            }
            if self.distance(key, at, slot.user) < walked {
                return None;
            }
            walked += 1;
            at = (at + 1) % self.slots.len();
        }
        None
    }

    /// The entry of a cached user.
    pub fn find(&self, key: &HashKey, user: UserId) -> Option<&Slot> {
        self.position(key, user).and_then(|at| self.slots[at].as_ref())
    }

    /// The entry of a cached user, to change.
    pub fn find_mut(&mut self, key: &HashKey, user: UserId) -> Option<&mut Slot> {
        let at = self.position(key, user)?;
        self.slots[at].as_mut()
    }

    /// Puts an entry in, and hands back the one it replaces so that it is freed outside the lock.
    pub fn put(&mut self, key: &HashKey, slot: Slot) -> Option<Slot> {
        if let Some(at) = self.position(key, slot.user) {
            return self.slots[at].replace(slot);
        }
        if (self.live + 1) * 20 > self.slots.len() * 17 {
            self.grow(key);
        }
        self.live += 1;
        self.displace(key, slot);
        None
    }

    /// Robin Hood: whoever is further from home keeps the place.
    fn displace(&mut self, key: &HashKey, mut slot: Slot) {
        let mut at = self.home(key, slot.user);
        let mut walked = 0;
        while let Some(held) = self.slots[at].as_ref().map(|held| held.user) {
            let held_distance = self.distance(key, at, held);
            if held_distance < walked {
                if let Some(richer) = self.slots[at].replace(slot) {
                    slot = richer;
                    walked = held_distance;
                } else {
                    return;
                }
            }
            at = (at + 1) % self.slots.len();
            walked += 1;
        }
        self.slots[at] = Some(slot);
    }

    fn grow(&mut self, key: &HashKey) {
        let size = (self.slots.len() + self.slots.len() / 4 + 1).max(SLOTS_MIN);
        let fresh: Vec<Option<Slot>> = (0..size).map(|_| None).collect();
        let old = std::mem::replace(&mut self.slots, fresh.into_boxed_slice());
        for slot in old.into_iter().flatten() {
            self.displace(key, slot);
        }
        self.hand = 0;
    }

    /// Takes a user's entry out.
    pub fn remove(&mut self, key: &HashKey, user: UserId) -> Option<Slot> {
        let at = self.position(key, user)?;
        self.take(key, at)
    }

    fn take(&mut self, key: &HashKey, mut at: usize) -> Option<Slot> {
        let taken = self.slots[at].take()?;
        self.live -= 1;
        loop {
            let next = (at + 1) % self.slots.len();
            let moves = match &self.slots[next] {
                Some(slot) => self.distance(key, next, slot.user) > 0,
                None => false,
            };
            if !moves {
                return Some(taken);
            }
            self.slots[at] = self.slots[next].take();
            at = next;
        }
    }

    /// Moves the clock hand over at most `slots_max` slots and takes out the first entry that had no
    /// hit since the hand last came by. Entries with a build under way stay (coherence row 8).
    pub fn evict(&mut self, key: &HashKey, slots_max: usize) -> Option<Slot> {
        for _ in 0..slots_max.min(self.slots.len()) {
            let at = self.hand % self.slots.len();
            self.hand = at + 1;
            let Some(slot) = self.slots[at].as_mut() else { continue };
            if slot.cool() {
                continue;
            }
            let user = slot.user;
            if self.side.get(&user).is_some_and(|side| side.build.is_some()) {
                continue;
            }
            self.side.remove(&user);
            // The next entry moves into this place, so the hand stays.
            self.hand = at;
            return self.take(key, at);
        }
        None
    }

    /// All cached users.
    pub fn iter(&self) -> impl Iterator<Item = &Slot> {
        self.slots.iter().flatten()
    }

    /// All cached users, to change.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Slot> {
        self.slots.iter_mut().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_are_found_after_any_mix_of_puts_and_removes() {
        let key = HashKey::new(1, [7; 16]);
        let mut stripe = Stripe::default();
        let mut plain = std::collections::BTreeSet::new();
        let mut x = 1_u64;
        for step in 0..20_000 {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let user = UserId::new((x >> 33) % 700);
            if (x >> 20).is_multiple_of(3) {
                assert_eq!(stripe.remove(&key, user).is_some(), plain.remove(&user), "{step}");
            } else {
                let slot =
                    Slot::new(user, Generation::new(step), ScopeEpoch::new(0), UserState::EMPTY);
                assert_eq!(stripe.put(&key, slot).is_none(), plain.insert(user), "{step}");
            }
            assert_eq!(stripe.len(), plain.len());
        }
        for id in 0..700 {
            let user = UserId::new(id);
            assert_eq!(stripe.find(&key, user).is_some(), plain.contains(&user));
        }
    }

    #[test]
    fn the_hand_takes_the_cold_before_the_hot() {
        let key = HashKey::new(1, [7; 16]);
        let mut stripe = Stripe::default();
        for id in 0..100 {
            let user = UserId::new(id);
            stripe.put(
                &key,
                Slot::new(user, Generation::new(0), ScopeEpoch::new(0), UserState::EMPTY),
            );
        }
        for id in 0..50 {
            if let Some(slot) = stripe.find_mut(&key, UserId::new(id)) {
                slot.touch();
            }
        }
        let mut evicted = Vec::new();
        while evicted.len() < 50 {
            evicted.extend(stripe.evict(&key, 1_000).map(|slot| slot.user.get()));
        }
        assert!(evicted.iter().all(|id| *id >= 50), "{evicted:?}");
    }

    fn filled(key: &HashKey, users: u64) -> Stripe {
        let mut stripe = Stripe::default();
        for id in 0..users {
            let (user, life) = (UserId::new(id), Generation::new(0));
            stripe.put(key, Slot::new(user, life, ScopeEpoch::new(0), UserState::EMPTY));
        }
        stripe
    }

    /// Most places are taken, some are free, and nobody is far from where the hash says.
    #[test]
    fn an_array_is_filled_well_and_looked_through_nowhere() {
        let key = HashKey::new(1, [7; 16]);
        assert_eq!(Stripe::default().slot_bytes(), 0);
        for users in [1, 10, 100, 1_000, 10_000_u64] {
            let stripe = filled(&key, users);
            let slots = (stripe.slot_bytes() / 32) as u64;
            assert_eq!(stripe.slots.len() as u64, slots, "an entry takes 32 bytes");
            assert!(users * 20 <= slots * 17, "{users} users in {slots} slots");
            assert!(slots <= users * 100 / 68 + 4, "{users} users in {slots} slots");
            let distance = |(at, slot): (usize, &Option<Slot>)| {
                slot.as_ref().map_or(0, |slot| stripe.distance(&key, at, slot.user) as u64)
            };
            let sum: u64 = stripe.slots.iter().enumerate().map(distance).sum();
            assert!(sum < users * 4, "{users} users are {sum} places from home");
        }
    }

    /// All of its entries move when it grows.
    #[test]
    fn an_array_grows_seldom() {
        let key = HashKey::new(1, [7; 16]);
        let mut sizes = std::collections::BTreeSet::new();
        let mut stripe = Stripe::default();
        for id in 0..10_000 {
            let (user, life) = (UserId::new(id), Generation::new(0));
            stripe.put(&key, Slot::new(user, life, ScopeEpoch::new(0), UserState::EMPTY));
            sizes.insert(stripe.slot_bytes());
        }
        assert_eq!(sizes.len(), 35, "a quarter more each time");
    }

    /// A walk's mark says nothing of hits, nor of other walks.
    #[test]
    fn each_walk_has_its_own_mark_beside_the_hits() {
        for (walk, hits) in (0..WALKS_MAX).flat_map(|walk| (0..=HEAT_MAX).map(move |h| (walk, h))) {
            let user = UserId::new(1);
            let mut slot =
                Slot::new(user, Generation::new(0), ScopeEpoch::new(0), UserState::EMPTY);
            while slot.cool() {}
            slot.warm(hits);
            slot.set_walked(walk, true);
            slot.set_walked(walk, true);
            let marked: Vec<u8> = (0..WALKS_MAX).filter(|other| slot.is_walked(*other)).collect();
            assert_eq!((slot.heat(), marked), (hits, vec![walk]));
            slot.warm(0);
            assert_eq!((slot.heat(), slot.is_walked(walk)), (hits, true), "as warm as it was");
            (0..10).for_each(|_| slot.touch());
            let marked: Vec<u8> = (0..WALKS_MAX).filter(|other| slot.is_walked(*other)).collect();
            assert_eq!((slot.heat(), marked), (HEAT_MAX, vec![walk]));
            slot.set_walked(walk, false);
            slot.set_walked(walk, false);
            assert_eq!((slot.heat(), slot.is_walked(walk)), (HEAT_MAX, false));
        }
    }
}
