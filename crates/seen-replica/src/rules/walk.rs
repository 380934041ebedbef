//! Walking over the cached users of some virtual slots, hottest first, while everything else goes on: for
//! whoever hands them to another replica. A stripe's lock is held for one look at a time.

use std::sync::atomic::Ordering;

use seen_filter::{Tick, UserId, VirtualSet, VirtualSlot};

use super::table::{HEAT_MAX, Trust, WALKS_MAX};
use super::{Rules, STRIPES};

/// Entries that one step looks at, about: it ends with the stripe in which it has looked at so many.
const ENTRIES_PER_STEP: usize = 2_048;
/// What a stripe costs beside its entries, in entries: its lock, and that it lies elsewhere.
const STRIPE_COST: usize = 16;

/// A walk under way. It goes over the table once to count, and then once for each heat. An entry is met once, at the heat
/// that it has by then; one that is built anew meanwhile is met again.
#[derive(Debug)]
pub struct Walk {
    /// Which of the bits in the entries is this walk's.
    number: u8,
    slots: VirtualSet,
    /// Entries of at least this heat are met now.
    heat: u8,
    /// The next stripe.
    stripe: usize,
    /// Users of each heat, as they were counted.
    found: [u64; HEAT_MAX as usize + 1],
}

impl Walk {
    /// Users that were counted. Some of them may be gone when it is their turn, and others be there instead.
    pub fn users(&self) -> u64 {
        self.found.iter().sum()
    }

    /// Those of them that were asked for since the eviction hand last came by.
    pub fn hot_users(&self) -> u64 {
        self.found[1..].iter().sum()
    }
}

impl Rules {
    /// Begins a walk over these slots: [`count_on`](Self::count_on) until all is counted, then
    /// [`walk_on`](Self::walk_on). `None` while too many are under way.
    pub fn begin_walk(&self, slots: VirtualSet) -> Option<Walk> {
        let mut taken = self.walks.load(Ordering::Acquire);
        let number = loop {
            let number = (0..WALKS_MAX).find(|number| taken >> number & 1 == 0)?;
            let next = taken | 1 << number;
            match self.walks.compare_exchange(taken, next, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => break number,
                Err(now) => taken = now,
            }
        };
        let found = [0; HEAT_MAX as usize + 1];
        Some(Walk { number, slots, heat: HEAT_MAX, stripe: 0, found })
    }

    /// Counts some of the users, and makes them ones that this walk has not met: an earlier one may have had its number. False
    /// once all are counted. Who comes later into a stripe that is counted already is met all the same.
    pub fn count_on(&self, walk: &mut Walk) -> bool {
        let mut looked_at = 0;
        while walk.stripe < self.stripes.len() {
            if looked_at >= ENTRIES_PER_STEP {
                return true;
            }
            let at = walk.stripe;
            walk.stripe += 1;
            if !self.has_slot(&walk.slots, at) {
                continue;
            }
            let mut stripe = self.stripes[at].lock();
            looked_at += STRIPE_COST + stripe.len();
            for slot in stripe.iter_mut() {
                if self.is_met(&walk.slots, slot.user) {
                    slot.set_walked(walk.number, false);
                    walk.found[usize::from(slot.heat())] += 1;
                }
            }
        }
        walk.stripe = 0;
        false
    }

    /// Adds some users that the walk had not met, with their heat; perhaps none, though there are more. False once it has
    /// met all.
    pub fn walk_on(&self, walk: &mut Walk, users: &mut Vec<(UserId, u8)>) -> bool {
        let before = users.len();
        let mut looked_at = 0;
        while looked_at < ENTRIES_PER_STEP && users.len() == before {
            if walk.stripe == self.stripes.len() {
                if walk.heat == 0 {
                    return false;
                }
                (walk.heat, walk.stripe) = (walk.heat - 1, 0);
            }
            let at = walk.stripe;
            walk.stripe += 1;
            if !self.has_slot(&walk.slots, at) {
                continue;
            }
            let mut stripe = self.stripes[at].lock();
            looked_at += STRIPE_COST + stripe.len();
            for slot in stripe.iter_mut() {
                let wanted = slot.heat() >= walk.heat && !slot.is_walked(walk.number);
                if wanted && self.is_met(&walk.slots, slot.user) {
                    slot.set_walked(walk.number, true);
                    users.push((slot.user, slot.heat()));
                }
            }
        }
        true
    }

    /// Ends a walk, so that another one may use its number.
    pub fn end_walk(&self, walk: &Walk) {
        self.walks.fetch_and(!(1 << walk.number), Ordering::AcqRel);
    }

    /// True if the user has an entry that is believed.
    pub fn holds(&self, user: UserId) -> bool {
        let Some(lane) = self.lane(user) else { return false };
        let stripe = self.stripe(user);
        let slot = stripe.find(&self.key, user);
        slot.is_some_and(|slot| slot.trust == Trust::Clean && slot.epoch == lane.epoch())
    }

    /// Has an entry count as asked for as often as its donor says, so that the eviction hand spares it and
    /// the next replica gets it early.
    pub fn warm(&self, user: UserId, heat: u8) {
        if let Some(slot) = self.stripe(user).find_mut(&self.key, user) {
            slot.warm(heat);
        }
    }

    /// How long ago the feed proved itself fresh, of the partition that waits longest, in microseconds; `None` until
    /// every partition has said where it begins.
    pub fn feed_lag_us(&self, now: Tick) -> Option<u64> {
        let mut wanted = self.lanes.values().filter(|lane| lane.wanted());
        wanted.try_fold(0, |longest, lane| Some(longest.max(lane.lag_us(now)?)))
    }

    /// True if every partition has proved since then that nothing was outstanding in it.
    pub fn fresh_since(&self, since: Tick) -> bool {
        self.lanes.values().filter(|lane| lane.wanted()).all(|lane| lane.fresh_at() >= since)
    }

    /// True if users of these slots may lie in this stripe.
    fn has_slot(&self, slots: &VirtualSet, stripe: usize) -> bool {
        self.stripes.len() != STRIPES || slots.contains(VirtualSlot::new(stripe as u16))
    }

    fn is_met(&self, slots: &VirtualSet, user: UserId) -> bool {
        self.stripes.len() == STRIPES || slots.contains(self.key.virtual_slot(user))
    }
}
