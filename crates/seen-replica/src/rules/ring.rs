//! The events applied lately in one partition, also for users that are not cached (rule R2). Bounded
//! in bytes; below its floor it knows nothing.

use std::collections::{HashMap, VecDeque};

use seen_filter::{CommitStamp, Item, Tick, UserId};

use super::side::{Change, Op};

/// What one event of the ring costs in memory, its share of the index included.
pub const RING_EVENT_BYTES: usize = 120;

#[derive(Debug)]
struct Event {
    user: UserId,
    stamp: CommitStamp,
    op: Op,
    delivered: Tick,
    doubtful: bool,
    /// The number of the same user's event before this one, plus one; 0 for none.
    before: u64,
}

/// Most events of a user that are looked through for one item; beyond that a remove is assumed.
const LOOKED_THROUGH_MAX: usize = 1_024;

/// The ring of one partition.
#[derive(Debug)]
pub(super) struct Ring {
    events: VecDeque<Event>,
    /// The number of the oldest event kept.
    first: u64,
    /// The number of each user's newest event.
    newest: HashMap<UserId, u64, ahash::RandomState>,
    /// How many removes of each user it holds.
    removes: HashMap<UserId, u32, ahash::RandomState>,
    events_max: usize,
    /// Every event above this stamp is kept; `None` if not even that is known.
    floor: Option<CommitStamp>,
    /// Every event delivered since this tick is kept.
    complete_since: Tick,
}

impl Ring {
    pub fn new(bytes_max: usize, seed: u64, now: Tick) -> Self {
        Self {
            events: VecDeque::new(),
            first: 1,
            newest: HashMap::with_hasher(ahash::RandomState::with_seeds(seed, 1, 2, 3)),
            removes: HashMap::with_hasher(ahash::RandomState::with_seeds(seed, 1, 2, 4)),
            events_max: (bytes_max / RING_EVENT_BYTES).max(16),
            floor: None,
            complete_since: now,
        }
    }

    /// Keeps an event. One that is delivered `again` sets no floor: what follows it has been applied
    /// before, and may have been dropped here.
    pub fn push(&mut self, user: UserId, stamp: CommitStamp, change: Change, again: bool) {
        if self.events.len() == self.events_max {
            self.drop_oldest();
        }
        if !again {
            // The rest of the first event's commit may have come before it.
            self.floor.get_or_insert(stamp);
        }
        let number = self.first + self.events.len() as u64;
        let before = self.newest.insert(user, number).unwrap_or(0);
        let Change { op, at: delivered, doubtful, .. } = change;
        if !matches!(op, Op::Add(_)) {
            *self.removes.entry(user).or_default() += 1;
        }
        self.events.push_back(Event { user, stamp, op, delivered, doubtful, before });
    }

    fn drop_oldest(&mut self) {
        let Some(event) = self.events.pop_front() else { return };
        if self.newest.get(&event.user) == Some(&self.first) {
            self.newest.remove(&event.user);
        }
        if !matches!(event.op, Op::Add(_))
            && let Some(left) = self.removes.get_mut(&event.user)
        {
            *left -= 1;
            if *left == 0 {
                self.removes.remove(&event.user);
            }
        }
        self.first += 1;
        // A cut by the bound counts as the floor (rule R2). The rest of the cut event's commit may
        // still be here, but the commit as a whole is not. A replay makes the ring unordered: the
        // floor never sinks.
        if self.floor.is_none_or(|floor| floor < event.stamp) {
            self.floor = Some(event.stamp);
        }
        self.complete_since = self.complete_since.max(event.delivered.plus_us(1));
    }

    /// Forgets everything: events may have been lost, or numbers belong to another timeline.
    pub fn reset(&mut self, now: Tick) {
        self.first += self.events.len() as u64;
        self.events.clear();
        self.newest.clear();
        self.removes.clear();
        self.floor = None;
        self.complete_since = now;
    }

    /// Sets the floor of a ring without one: everything after `stamp` is still to come.
    pub fn begin_after(&mut self, stamp: CommitStamp) {
        self.floor.get_or_insert(stamp);
    }

    /// The feed begins now: what was committed before was never delivered here (row 57).
    pub fn begin_at(&mut self, now: Tick) {
        self.complete_since = self.complete_since.max(now);
    }

    /// True if every event after `stamp` is here.
    pub fn reaches(&self, stamp: CommitStamp) -> bool {
        self.floor.is_some_and(|floor| stamp.covers(floor))
    }

    /// True if every event delivered since `tick` is here.
    pub fn reaches_tick(&self, tick: Tick) -> bool {
        self.complete_since <= tick
    }

    /// The user's events, oldest first.
    pub fn of(&self, user: UserId) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut number = self.newest.get(&user).copied().unwrap_or(0);
        while number >= self.first && number > 0 {
            let Some(event) = self.events.get((number - self.first) as usize) else { break };
            let Event { stamp, delivered: at, op, doubtful, .. } = *event;
            changes.push(Change { stamp: Some(stamp), at, op, doubtful });
            number = event.before;
        }
        changes.reverse();
        changes
    }

    /// Leaves out a user's events delivered up to `until`: an event of this user was lost then, and a
    /// snapshot that shows all of them has been read since. The floor rises over them: the ring is not
    /// complete below any more.
    pub fn forget(&mut self, user: UserId, until: Tick) {
        let Some(newest) = self.newest.get(&user).copied() else { return };
        let mut number = newest;
        let mut kept: Option<u64> = None;
        while number >= self.first && number > 0 {
            let Some(event) = self.events.get((number - self.first) as usize) else { break };
            if event.delivered <= until {
                if self.floor.is_none_or(|floor| floor < event.stamp) {
                    self.floor = Some(event.stamp);
                }
                self.complete_since = self.complete_since.max(until.plus_us(1));
                break;
            }
            (kept, number) = (Some(number), event.before);
        }
        match kept.and_then(|kept| self.events.get_mut((kept - self.first) as usize)) {
            Some(oldest) => oldest.before = 0,
            None => drop(self.newest.remove(&user)),
        }
    }

    /// True if the last that the ring holds about an item is a remove.
    pub fn removed_last(&self, user: UserId, item: Item) -> bool {
        if !self.removes.contains_key(&user) {
            return false;
        }
        let mut number = self.newest.get(&user).copied().unwrap_or(0);
        for _ in 0..LOOKED_THROUGH_MAX {
            let Some(event) =
                number.checked_sub(self.first).and_then(|at| self.events.get(at as usize))
            else {
                return false;
            };
            match event.op {
                Op::Add(added) if added == item => return false,
                Op::RemoveAll => return true,
                Op::Remove(removed) if removed == item => return true,
                Op::Add(_) | Op::Remove(_) => number = event.before,
            }
        }
        true
    }

    /// True if the ring holds events of this user.
    pub fn knows(&self, user: UserId) -> bool {
        self.newest.contains_key(&user)
    }

    /// How many events were ever put in.
    pub fn pushed(&self) -> u64 {
        self.first - 1 + self.events.len() as u64
    }

    pub fn len(&self) -> usize {
        self.events.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use seen_filter::{Domain, Timeline};

    fn stamp(position: u64) -> CommitStamp {
        CommitStamp::new(Domain::new(0), Timeline::new(1), position)
    }

    fn add(n: u64) -> Change {
        let op = Op::Add(Item::new(0, n));
        Change { stamp: Some(stamp(n)), at: Tick::new(n), op, doubtful: false }
    }

    #[test]
    fn the_last_word_on_an_item_is_found_while_it_is_kept() {
        let (user, x, y) = (UserId::new(1), Item::new(0, 7), Item::new(0, 8));
        let mut ring = Ring::new(16 * RING_EVENT_BYTES, 9, Tick::new(0));
        let mut push = |n, op| {
            let change = Change { stamp: Some(stamp(n)), at: Tick::new(n), op, doubtful: false };
            ring.push(user, stamp(n), change, false);
            (ring.removed_last(user, x), ring.removed_last(user, y))
        };
        assert_eq!(push(1, Op::Add(x)), (false, false));
        assert_eq!(push(2, Op::Remove(x)), (true, false));
        assert_eq!(push(3, Op::Add(y)), (true, false));
        assert_eq!(push(4, Op::RemoveAll), (true, true));
        assert_eq!(push(5, Op::Add(x)), (false, true));
        // Both removes fall out.
        let kept: Vec<bool> = (6..25).map(|n| push(n, Op::Add(Item::new(0, n + 100))).1).collect();
        assert!(kept[0] && !kept[18]);
        assert_eq!(push(25, Op::Remove(y)), (false, true));
        ring.reset(Tick::new(30));
        assert!(!ring.removed_last(user, y));
    }

    #[test]
    fn a_replay_lowers_no_floor() {
        let mut ring = Ring::new(16 * RING_EVENT_BYTES, 9, Tick::new(0));
        ring.reset(Tick::new(0));
        ring.push(UserId::new(1), stamp(5), add(5), true);
        assert!(!ring.reaches(stamp(5)));
        (10..30).for_each(|n| ring.push(UserId::new(1), stamp(n), add(n), false));
        (6..20).for_each(|n| ring.push(UserId::new(1), stamp(n), add(n), true));
        assert!(!ring.reaches(stamp(26)) && ring.reaches(stamp(29)));
    }

    #[test]
    fn a_cut_raises_the_floor_and_keeps_the_rest_in_order() {
        let mut ring = Ring::new(16 * RING_EVENT_BYTES, 9, Tick::new(0));
        ring.begin_after(stamp(0));
        for n in 1..=20 {
            ring.push(UserId::new(n % 2), stamp(n), add(n), false);
        }
        assert!(ring.reaches(stamp(4)) && !ring.reaches(stamp(3)));
        assert!(ring.reaches_tick(Tick::new(5)) && !ring.reaches_tick(Tick::new(4)));
        let odd: Vec<u64> =
            ring.of(UserId::new(1)).iter().filter_map(|c| c.stamp.map(|s| s.position)).collect();
        assert_eq!(odd, [5, 7, 9, 11, 13, 15, 17, 19]);
        let kept = |ring: &Ring| -> Vec<u64> {
            ring.of(UserId::new(1)).iter().map(|change| change.at.get()).collect()
        };
        ring.forget(UserId::new(1), Tick::new(16));
        assert_eq!(kept(&ring), [17, 19]);
        ring.push(UserId::new(1), stamp(21), add(21), false);
        assert_eq!(kept(&ring), [17, 19, 21]);
        ring.forget(UserId::new(1), Tick::new(21));
        assert!(!ring.knows(UserId::new(1)) && ring.knows(UserId::new(0)));
        ring.forget(UserId::new(1), Tick::new(21));
        ring.push(UserId::new(1), stamp(22), add(22), false);
        assert_eq!(kept(&ring), [22]);
        ring.reset(Tick::new(30));
        assert!(ring.of(UserId::new(1)).is_empty() && !ring.reaches(stamp(20)));
    }
}
