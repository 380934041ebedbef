//! The events applied lately in one partition, also for users that are not cached (rule R2). Bounded
//! in bytes; below its floor it knows nothing.

use std::collections::{HashMap, VecDeque};

use seen_filter::{CommitStamp, Item, Tick, UserId};

use super::side::{Change, Op};

/// What one event of the ring costs in memory, its share of the index included. A remove of one item takes
/// some 50 bytes more while it is the last that is known of the item.
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

/// Most events that are looked through for one item of a user all of whose rows were removed; beyond that a
/// remove is assumed.
const LOOKED_THROUGH_MAX: usize = 1_024;

/// The ring of one partition.
#[derive(Debug)]
pub(super) struct Ring {
    events: VecDeque<Event>,
    /// The number of the oldest event kept. Numbers begin at 1: 0 is no event.
    first: u64,
    /// The number of each user's newest event.
    newest: HashMap<UserId, u64, ahash::RandomState>,
    /// The items of which a remove is the last that it holds, one by one, and that remove's number.
    removed: HashMap<(UserId, Item), u64, ahash::RandomState>,
    /// How many removes of everything it holds of a user.
    all_removed: HashMap<UserId, u32, ahash::RandomState>,
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
            removed: HashMap::with_hasher(ahash::RandomState::with_seeds(seed, 1, 2, 4)),
            all_removed: HashMap::with_hasher(ahash::RandomState::with_seeds(seed, 1, 2, 5)),
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
        match op {
            // Without removes there is nothing to look for.
            Op::Add(_) if self.removed.is_empty() => {}
            Op::Add(item) => drop(self.removed.remove(&(user, item))),
            Op::Remove(item) => drop(self.removed.insert((user, item), number)),
            Op::RemoveAll => *self.all_removed.entry(user).or_default() += 1,
        }
        self.events.push_back(Event { user, stamp, op, delivered, doubtful, before });
    }

    fn drop_oldest(&mut self) {
        let Some(event) = self.events.pop_front() else { return };
        if self.newest.get(&event.user) == Some(&self.first) {
            self.newest.remove(&event.user);
        }
        self.unlist(event.user, event.op, self.first);
        if matches!(event.op, Op::RemoveAll)
            && let Some(left) = self.all_removed.get_mut(&event.user)
        {
            *left -= 1;
            if *left == 0 {
                self.all_removed.remove(&event.user);
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

    /// The event of this number says nothing any more of what was removed last.
    fn unlist(&mut self, user: UserId, op: Op, number: u64) {
        if let Op::Remove(item) = op
            && self.removed.get(&(user, item)) == Some(&number)
        {
            self.removed.remove(&(user, item));
        }
    }

    /// Forgets everything: events may have been lost, or numbers belong to another timeline.
    pub fn reset(&mut self, now: Tick) {
        self.first += self.events.len() as u64;
        self.events.clear();
        self.newest.clear();
        self.removed.clear();
        self.all_removed.clear();
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
        while number >= self.first {
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
        while number >= self.first {
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
        while let Some(event) =
            number.checked_sub(self.first).and_then(|at| self.events.get(at as usize))
        {
            let (op, before) = (event.op, event.before);
            self.unlist(user, op, number);
            number = before;
        }
    }

    /// True if the last that the ring holds about an item is a remove.
    pub fn removed_last(&self, user: UserId, item: Item) -> bool {
        if !self.removed.is_empty() && self.removed.contains_key(&(user, item)) {
            return true;
        }
        if !self.all_removed.contains_key(&user) {
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
    fn one_remove_says_nothing_of_other_items_however_much_came_after_it() {
        let (user, x) = (UserId::new(1), Item::new(0, 7));
        let mut ring = Ring::new(10_000 * RING_EVENT_BYTES, 9, Tick::new(0));
        let mut push = |n, op| {
            let change = Change { stamp: Some(stamp(n)), at: Tick::new(n), op, doubtful: false };
            ring.push(user, stamp(n), change, false);
        };
        push(1, Op::Remove(x));
        (2..3_000).for_each(|n| push(n, Op::Add(Item::new(0, n + 100))));
        assert!(ring.removed_last(user, x));
        assert!(!ring.removed_last(user, Item::new(0, 8)), "nobody has removed it");
    }

    #[test]
    fn a_remove_that_is_left_out_says_nothing() {
        let (user, x, y) = (UserId::new(1), Item::new(0, 7), Item::new(0, 8));
        let mut ring = Ring::new(16 * RING_EVENT_BYTES, 9, Tick::new(0));
        for (n, op) in [(1, Op::Remove(x)), (2, Op::RemoveAll), (3, Op::Remove(y))] {
            let change = Change { stamp: Some(stamp(n)), at: Tick::new(n), op, doubtful: false };
            ring.push(user, stamp(n), change, false);
        }
        assert!(ring.removed_last(user, x) && ring.removed_last(user, y));
        ring.forget(user, Tick::new(2));
        assert!(!ring.removed_last(user, x) && ring.removed_last(user, y));
        ring.forget(user, Tick::new(3));
        assert!(!ring.removed_last(user, y));
    }

    /// What is looked up is what a walk through the events that are kept would find.
    #[test]
    fn the_last_word_is_that_of_the_events_that_are_kept() {
        const KEPT: usize = 24;
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut draw = |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        let mut ring = Ring::new(KEPT * RING_EVENT_BYTES, 9, Tick::new(0));
        let mut kept: Vec<(u64, u64, Op)> = Vec::new();
        for n in 1..20_000 {
            let user = draw(3);
            if draw(40) == 0 {
                let until = n - draw(KEPT as u64);
                ring.forget(UserId::new(user), Tick::new(until));
                kept.retain(|(of, at, _)| *of != user || *at > until);
                continue;
            }
            let item = Item::new(0, draw(6));
            let op = match draw(20) {
                0 => Op::RemoveAll,
                1..8 => Op::Remove(item),
                _ => Op::Add(item),
            };
            let change = Change { stamp: Some(stamp(n)), at: Tick::new(n), op, doubtful: false };
            let oldest =
                (ring.len() == KEPT).then(|| ring.events.front().map(|e| e.delivered.get()));
            kept.retain(|(_, at, _)| Some(*at) != oldest.flatten());
            ring.push(UserId::new(user), stamp(n), change, false);
            kept.push((user, n, op));
            for (user, item) in (0..3).flat_map(|user| (0..6).map(move |item| (user, item))) {
                let item = Item::new(0, item);
                let last = kept.iter().rev().find_map(|(of, _, op)| match op {
                    Op::Add(added) => (*of == user && *added == item).then_some(false),
                    Op::Remove(removed) => (*of == user && *removed == item).then_some(true),
                    Op::RemoveAll => (*of == user).then_some(true),
                });
                let found = ring.removed_last(UserId::new(user), item);
                assert_eq!(found, last.unwrap_or(false), "{n}: user {user}, {item:?}");
            }
        }
        assert!(ring.removed.len() <= KEPT);
    }

    #[test]
    fn the_floor_is_where_it_began_and_rises_over_what_is_left_out() {
        let mut ring = Ring::new(16 * RING_EVENT_BYTES, 9, Tick::new(0));
        assert!(!ring.reaches(stamp(9)), "nothing is known of what came before");
        ring.begin_after(stamp(2));
        ring.begin_after(stamp(1));
        assert!(ring.reaches(stamp(2)) && !ring.reaches(stamp(1)));
        (3..=6).for_each(|n| ring.push(UserId::new(1), stamp(n), add(n), false));
        ring.forget(UserId::new(1), Tick::new(4));
        assert!(ring.reaches(stamp(4)) && !ring.reaches(stamp(3)));
        assert_eq!(ring.pushed(), 4);
    }

    #[test]
    fn what_falls_out_leaves_nothing_behind() {
        let (user, other) = (UserId::new(1), UserId::new(2));
        let mut ring = Ring::new(16 * RING_EVENT_BYTES, 9, Tick::new(0));
        for (n, op) in [(1, Op::RemoveAll), (2, Op::RemoveAll), (3, Op::Remove(Item::new(0, 7)))] {
            let change = Change { stamp: Some(stamp(n)), at: Tick::new(n), op, doubtful: false };
            ring.push(user, stamp(n), change, false);
        }
        assert_eq!((ring.all_removed[&user], ring.removed.len()), (2, 1));
        (4..=17).for_each(|n| ring.push(other, stamp(n), add(n), false));
        assert_eq!(ring.all_removed[&user], 1);
        (18..=30).for_each(|n| ring.push(other, stamp(n), add(n), false));
        assert!(ring.all_removed.is_empty() && ring.removed.is_empty() && !ring.knows(user));
        assert_eq!((ring.len(), ring.pushed()), (16, 30));
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
