//! The journal: own commits not yet proven to have come back through the feed (rule R9). Adds are
//! merged at every install and into every point check, so that an own write is never missing from an
//! answer. Removes are kept so that no snapshot from before them, and no add that is still on its way
//! here, brings an id back unnoticed (rule R10).

use std::collections::{BTreeMap, HashMap, VecDeque};

use seen_filter::{CommitStamp, Item, Tick, UserId};
use smallvec::SmallVec;

use super::side::{Op, later};

/// What one journal row costs in memory, its share of both indexes and of the room that they grow into
/// included.
pub const JOURNAL_ROW_BYTES: usize = 240;
/// Most rows released in one go: one hold of the lane's lock lasts well under a millisecond.
pub(super) const RELEASE_ROWS_MAX: usize = 2_048;

/// Identifies a write between its begin and its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WriteId(pub(super) u64);

/// Why an own add may be void: a remove of its id, or a gap, was applied after its commit began, or
/// nobody knows whether it was committed (rule R10, row 59). Releasing it owes a rebuild.
#[derive(Clone, Copy, Debug)]
pub(super) struct Suspicion {
    /// The latest remove, where known; an add with a later stamp is above suspicion.
    pub stamp: Option<CommitStamp>,
    /// When it arose last.
    pub at: Tick,
}

impl Suspicion {
    fn join(known: &mut Suspect, new: Self) {
        match known {
            None => *known = Some(Box::new(new)),
            Some(known) => {
                known.stamp = known.stamp.zip(new.stamp).and_then(|(a, b)| later(a, b));
                known.at = known.at.max(new.at);
            }
        }
    }

    fn concerns(self, stamp: Option<CommitStamp>) -> bool {
        !self.stamp.zip(stamp).is_some_and(|(remove, add)| remove < add)
    }
}

/// Rare, and so kept out of the row.
type Suspect = Option<Box<Suspicion>>;

/// One acknowledged change.
#[derive(Debug)]
pub(super) struct Row {
    pub user: UserId,
    pub op: Op,
    pub stamp: Option<CommitStamp>,
    /// When it was acknowledged.
    pub at: Tick,
    /// Only of adds.
    pub suspect: Suspect,
    seq: u64,
    before: Before,
}

impl Row {
    /// What the row names; `None` stands for every item of the user.
    fn item(&self) -> Option<Item> {
        match self.op {
            Op::Add(item) | Op::Remove(item) => Some(item),
            Op::RemoveAll => None,
        }
    }
}

/// The numbers of the rows before this one that have the same user, and the same user and item. Such
/// chains end at a row that is no longer kept. A user may have many thousands of rows, so that none
/// of them may be moved or walked over for one.
#[derive(Clone, Copy, Debug)]
struct Before {
    of_user: u64,
    of_item: u64,
}

/// A commit's acknowledgement.
#[derive(Clone, Copy, Debug)]
pub(super) struct Acknowledged {
    pub seq: u64,
    pub stamp: Option<CommitStamp>,
    pub at: Tick,
}

/// What became of the rows of a commit.
#[derive(Debug)]
pub(super) struct Journaled {
    /// The bound pushed older rows out unproven, which puts the whole partition in doubt.
    pub overflow: bool,
    /// The adds are void, perhaps.
    pub suspect: Option<Suspicion>,
}

#[derive(Debug)]
struct InFlight {
    items: SmallVec<[Item; 4]>,
    suspect: Suspect,
}

/// The numbers of the newest rows of something.
type Newest<K> = HashMap<K, u64, ahash::RandomState>;

/// The journal of one partition.
#[derive(Debug)]
pub(super) struct Journal {
    rows: VecDeque<Row>,
    /// The number of the oldest row kept. Numbers begin at 1: 0 is no row.
    first: u64,
    of_user: Newest<UserId>,
    of_item: Newest<(UserId, Option<Item>)>,
    in_flight: BTreeMap<(UserId, u64), InFlight>,
    next_write: u64,
    next_seq: u64,
    /// Rows of lower sequence numbers were dropped by the bound, not by proof.
    kept_from: u64,
    /// Rows of lower sequence numbers have been proven to have come back, by a fence.
    fenced_below: u64,
    rows_max: usize,
}

impl Journal {
    pub fn new(bytes_max: usize, seed: u64) -> Self {
        let hasher = |number| ahash::RandomState::with_seeds(seed, 4, 5, number);
        Self {
            rows: VecDeque::new(),
            first: 1,
            of_user: HashMap::with_hasher(hasher(6)),
            of_item: HashMap::with_hasher(hasher(7)),
            in_flight: BTreeMap::new(),
            next_write: 0,
            next_seq: 1,
            kept_from: 0,
            fenced_below: 0,
            rows_max: (bytes_max / JOURNAL_ROW_BYTES).max(16),
        }
    }

    /// Notes that a commit of these items is about to start.
    pub fn begin(&mut self, user: UserId, items: impl Iterator<Item = Item>) -> WriteId {
        self.next_write += 1;
        let flight = InFlight { items: items.collect(), suspect: None };
        self.in_flight.insert((user, self.next_write), flight);
        WriteId(self.next_write)
    }

    /// Forgets a write that certainly did not happen.
    pub fn abandon(&mut self, user: UserId, id: WriteId) {
        self.in_flight.remove(&(user, id.0));
    }

    /// Notes that nobody knows whether a write will happen, or has (row 11).
    pub fn doubt(&mut self, user: UserId, id: WriteId, at: Tick) {
        if let Some(flight) = self.in_flight.get_mut(&(user, id.0)) {
            Suspicion::join(&mut flight.suspect, Suspicion { stamp: None, at });
        }
    }

    /// The sequence number of an acknowledgement made now (rule R9: not of the commit's start).
    pub fn acknowledge(&mut self) -> u64 {
        let seq = self.next_seq;
        self.next_seq += 1;
        seq
    }

    /// The sequence number that the next acknowledgement will get.
    pub fn next_seq(&self) -> u64 {
        self.next_seq
    }

    /// Every own write of this sequence number and above is still held or proven.
    pub fn kept_from(&self) -> u64 {
        self.kept_from
    }

    /// Moves a committed mark in.
    pub fn commit(&mut self, user: UserId, id: WriteId, acknowledged: Acknowledged) -> Journaled {
        let Some(flight) = self.in_flight.remove(&(user, id.0)) else {
            return Journaled { overflow: false, suspect: None };
        };
        let suspect = flight.suspect.filter(|suspect| suspect.concerns(acknowledged.stamp));
        let suspect = suspect.map(|suspect| *suspect);
        let mut overflow = false;
        for item in flight.items {
            overflow |= self.push(user, Op::Add(item), acknowledged, suspect);
        }
        Journaled { overflow, suspect }
    }

    /// Keeps a committed remove.
    pub fn commit_remove(&mut self, user: UserId, op: Op, acknowledged: Acknowledged) -> bool {
        self.push(user, op, acknowledged, None)
    }

    /// True if the bound pushed another row out.
    fn push(
        &mut self,
        user: UserId,
        op: Op,
        Acknowledged { seq, stamp, at }: Acknowledged,
        suspect: Option<Suspicion>,
    ) -> bool {
        let overflow = self.rows.len() == self.rows_max;
        if overflow && let Some(row) = self.pop() {
            self.kept_from = self.kept_from.max(row.seq + 1);
        }
        let number = self.first + self.rows.len() as u64;
        let before = Before { of_user: 0, of_item: 0 };
        let suspect = suspect.map(Box::new);
        let mut row = Row { user, op, stamp, at, suspect, seq, before };
        row.before.of_user = self.of_user.insert(user, number).unwrap_or(0);
        row.before.of_item = self.of_item.insert((user, row.item()), number).unwrap_or(0);
        self.rows.push_back(row);
        overflow
    }

    fn pop(&mut self) -> Option<Row> {
        let row = self.rows.pop_front()?;
        // The oldest row of all is also the last link of its chains.
        if self.of_user.get(&row.user) == Some(&self.first) {
            self.of_user.remove(&row.user);
        }
        let item = (row.user, row.item());
        if self.of_item.get(&item) == Some(&self.first) {
            self.of_item.remove(&item);
        }
        self.first += 1;
        Some(row)
    }

    /// Rows that were acknowledged before `seq` have come back: an own fence did.
    pub fn fenced(&mut self, seq: u64) {
        self.fenced_below = self.fenced_below.max(seq);
    }

    /// Releases leading rows that a fence has proven, or that are covered: at most
    /// [`RELEASE_ROWS_MAX`]. Adds the users of suspect ones. True if more may be released.
    pub fn release(&mut self, cover: Option<CommitStamp>, suspects: &mut Vec<UserId>) -> bool {
        for _ in 0..RELEASE_ROWS_MAX {
            let Some(row) = self.rows.front() else { return false };
            let covered = cover.zip(row.stamp).is_some_and(|(cover, stamp)| cover.covers(stamp));
            if row.seq >= self.fenced_below && !covered {
                return false;
            }
            let Some(row) = self.pop() else { return false };
            if row.suspect.is_some() && suspects.last() != Some(&row.user) {
                suspects.push(row.user);
            }
        }
        true
    }

    /// True if the oldest row has no stamp that `cover` could ever reach, so that only a fence can
    /// release it.
    pub fn waits_for_fence(&self, cover: Option<CommitStamp>) -> bool {
        let reachable = |stamp: CommitStamp| cover.is_none_or(|cover| cover.comparable(stamp));
        self.rows.front().is_some_and(|row| !row.stamp.is_some_and(reachable))
    }

    /// A remove was applied: commits of the same id that have begun and are not released are suspect
    /// (coherence row 59). `None` stands for every item of the user.
    pub fn suspect(&mut self, user: UserId, item: Option<Item>, suspicion: Suspicion) {
        for (_, flight) in self.in_flight.range_mut((user, 0)..=(user, u64::MAX)) {
            if item.is_none_or(|item| flight.items.contains(&item)) {
                Suspicion::join(&mut flight.suspect, suspicion);
            }
        }
        let newest = match item {
            Some(_) => self.of_item.get(&(user, item)),
            None => self.of_user.get(&user),
        };
        let mut number = newest.copied().unwrap_or(0);
        while let Some(row) = number.checked_sub(self.first) {
            let Some(row) = self.rows.get_mut(row as usize) else { break };
            if matches!(row.op, Op::Add(_)) && suspicion.concerns(row.stamp) {
                Suspicion::join(&mut row.suspect, suspicion);
            }
            number = if item.is_some() { row.before.of_item } else { row.before.of_user };
        }
    }

    /// A gap was found: every add not released is suspect.
    pub fn suspect_all(&mut self, suspicion: Suspicion) {
        self.in_flight.values_mut().for_each(|f| Suspicion::join(&mut f.suspect, suspicion));
        let adds = self.rows.iter_mut().filter(|row| matches!(row.op, Op::Add(_)));
        let concerned = adds.filter(|row| suspicion.concerns(row.stamp));
        concerned.for_each(|row| Suspicion::join(&mut row.suspect, suspicion));
    }

    fn row(&self, number: u64) -> Option<&Row> {
        self.rows.get(number.checked_sub(self.first)? as usize)
    }

    /// The rows of one user, newest first.
    pub fn of(&self, user: UserId) -> impl Iterator<Item = &Row> {
        let newest = self.of_user.get(&user).and_then(|number| self.row(*number));
        std::iter::successors(newest, |row| self.row(row.before.of_user))
    }

    /// The rows that name one item of a user, newest first.
    fn of_item(&self, user: UserId, item: Option<Item>) -> impl Iterator<Item = &Row> {
        let newest = self.of_item.get(&(user, item)).and_then(|number| self.row(*number));
        std::iter::successors(newest, |row| self.row(row.before.of_item))
    }

    /// The own adds of an item that are not proven to have come back, newest first.
    pub fn adds(&self, user: UserId, item: Item) -> impl Iterator<Item = &Row> {
        self.of_item(user, Some(item)).filter(|row| matches!(row.op, Op::Add(_)))
    }

    /// True if an own remove of the id is not proven to have come back.
    pub fn removes(&self, user: UserId, item: Item) -> bool {
        let mut named = self.of_item(user, Some(item));
        named.any(|row| matches!(row.op, Op::Remove(_)))
            || self.of_item(user, None).next().is_some()
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use seen_filter::{Domain, Timeline};

    fn stamp(position: u64) -> CommitStamp {
        CommitStamp::new(Domain::new(0), Timeline::new(1), position)
    }

    fn commit(journal: &mut Journal, user: u64, item: u64, at: u64) -> (u64, bool) {
        let id = journal.begin(UserId::new(user), std::iter::once(Item::new(0, item)));
        let seq = journal.acknowledge();
        (seq, journal.commit(UserId::new(user), id, acknowledged(seq, at)).overflow)
    }

    fn acknowledged(seq: u64, at: u64) -> Acknowledged {
        Acknowledged { seq, stamp: Some(stamp(at)), at: Tick::new(0) }
    }

    fn release(journal: &mut Journal, cover: Option<CommitStamp>) -> Vec<UserId> {
        let mut suspects = Vec::new();
        while journal.release(cover, &mut suspects) {}
        suspects
    }

    fn removed_at(at: u64) -> Suspicion {
        Suspicion { stamp: Some(stamp(at)), at: Tick::new(0) }
    }

    #[test]
    fn rows_are_released_by_proof_only_and_suspects_are_told() {
        let mut journal = Journal::new(0, 1);
        commit(&mut journal, 1, 10, 5);
        commit(&mut journal, 2, 20, 6);
        journal.suspect(UserId::new(2), Some(Item::new(0, 20)), removed_at(7));
        assert!(release(&mut journal, Some(stamp(4))).is_empty());
        assert_eq!(journal.len(), 2);
        assert!(release(&mut journal, Some(stamp(5))).is_empty());
        assert_eq!(journal.of(UserId::new(1)).count(), 0);
        journal.fenced(3);
        assert_eq!(release(&mut journal, None), [UserId::new(2)]);
        assert_eq!(journal.len(), 0);
    }

    #[test]
    fn a_remove_during_the_commit_makes_it_suspect() {
        let mut journal = Journal::new(0, 1);
        let id = journal.begin(UserId::new(1), std::iter::once(Item::new(0, 10)));
        journal.suspect(UserId::new(1), Some(Item::new(0, 10)), removed_at(6));
        let seq = journal.acknowledge();
        journal.commit(UserId::new(1), id, acknowledged(seq, 5));
        journal.fenced(seq + 1);
        assert_eq!(release(&mut journal, None), [UserId::new(1)]);
    }

    #[test]
    fn a_remove_before_the_commit_does_not() {
        let mut journal = Journal::new(0, 1);
        commit(&mut journal, 1, 10, 5);
        journal.suspect(UserId::new(1), Some(Item::new(0, 10)), removed_at(4));
        assert!(release(&mut journal, Some(stamp(5))).is_empty());
        assert_eq!(journal.len(), 0);
    }

    #[test]
    fn the_bound_gives_up_ownership_of_what_it_pushes_out() {
        let mut journal = Journal::new(0, 1);
        let (first, _) = commit(&mut journal, 1, 0, 1);
        let overflows = (1..20).filter(|n| commit(&mut journal, 1, *n, n + 1).1).count();
        assert_eq!((journal.len(), overflows), (16, 4));
        assert_eq!(journal.kept_from(), first + 4);
    }

    /// Within one commit there is no order (row 47).
    #[test]
    fn a_remove_of_the_same_commit_makes_it_suspect() {
        let mut journal = Journal::new(0, 1);
        commit(&mut journal, 1, 10, 5);
        journal.suspect(UserId::new(1), Some(Item::new(0, 10)), removed_at(5));
        assert_eq!(release(&mut journal, Some(stamp(5))), [UserId::new(1)]);
    }

    #[test]
    fn what_was_abandoned_is_not_kept() {
        let mut journal = Journal::new(0, 1);
        let user = UserId::new(1);
        let id = journal.begin(user, std::iter::once(Item::new(0, 10)));
        journal.abandon(user, id);
        journal.commit(user, id, acknowledged(1, 5));
        assert_eq!((journal.len(), journal.in_flight.len()), (0, 0));
    }

    #[test]
    fn only_what_no_position_can_prove_waits_for_a_fence() {
        let mut journal = Journal::new(0, 1);
        assert!(!journal.waits_for_fence(None), "nothing is held");
        commit(&mut journal, 1, 10, 5);
        assert!(!journal.waits_for_fence(None) && !journal.waits_for_fence(Some(stamp(1))));
        let elsewhere = CommitStamp::new(Domain::new(0), Timeline::new(2), 9);
        assert!(journal.waits_for_fence(Some(elsewhere)));
        let (mut journal, seq) = (Journal::new(0, 1), 1);
        let op = Op::Add(Item::new(0, 10));
        journal.push(UserId::new(1), op, Acknowledged { seq, stamp: None, at: Tick::new(0) }, None);
        assert!(journal.waits_for_fence(None));
    }

    /// With a list to move, or to walk over, for each of them this would not end within minutes.
    #[test]
    fn one_user_may_have_all_rows() {
        const ROWS: u64 = 200_000;
        let user = UserId::new(1);
        let mut journal = Journal::new(ROWS as usize * JOURNAL_ROW_BYTES, 1);
        (0..ROWS).for_each(|n| assert!(!commit(&mut journal, 1, n, n).1));
        for n in 0..ROWS {
            let item = Item::new(0, n);
            assert!(journal.adds(user, item).count() == 1 && !journal.removes(user, item));
        }
        journal.suspect(user, Some(Item::new(0, ROWS - 1)), removed_at(ROWS));
        assert!(release(&mut journal, Some(stamp(ROWS - 2))).is_empty());
        assert_eq!(release(&mut journal, Some(stamp(ROWS))), [user]);
        assert_eq!(journal.len() + journal.of_user.len() + journal.of_item.len(), 0);
    }

    #[test]
    fn chains_agree_with_a_plain_list() {
        let mut journal = Journal::new(0, 1);
        let mut plain: Vec<(UserId, Op)> = Vec::new();
        let mut x = 1_u64;
        let mut below = |limit: u64| {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (x >> 33) % limit
        };
        for n in 0..5_000 {
            let (user, item) = (UserId::new(below(3)), Item::new(0, below(4)));
            let op = [Op::Add(item), Op::Remove(item), Op::RemoveAll][below(3) as usize];
            let seq = journal.acknowledge();
            journal.push(user, op, acknowledged(seq, n), None);
            plain.push((user, op));
            if below(20) == 0 {
                release(&mut journal, Some(stamp(n - below(n.min(9) + 1))));
            }
            plain.drain(..plain.len() - journal.len());
            let mut of_user = plain.iter().filter(|(of, _)| *of == user).map(|(_, op)| *op).rev();
            assert!(journal.of(user).map(|row| row.op).eq(&mut of_user));
            let count = |op| plain.iter().filter(|row| **row == (user, op)).count();
            assert_eq!(journal.adds(user, item).count(), count(Op::Add(item)));
            let removes = count(Op::Remove(item)) + count(Op::RemoveAll) > 0;
            assert_eq!(journal.removes(user, item), removes);
        }
    }
}
