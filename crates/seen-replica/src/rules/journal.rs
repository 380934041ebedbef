//! The journal: own commits not yet proven to have come back through the feed (rule R9). Adds are
//! merged at every install and into every point check, so that an own write is never missing from an
//! answer. Removes are kept so that no snapshot from before them, and no add that is still on its way
//! here, brings an id back unnoticed (rule R10).

use std::collections::{BTreeMap, HashMap, VecDeque};

use seen_filter::{CommitStamp, Item, Tick, UserId};
use smallvec::SmallVec;

use super::side::{Op, later};

/// What one journal row costs in memory, its share of the index included.
pub const JOURNAL_ROW_BYTES: usize = 136;

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
    user: UserId,
    items: SmallVec<[Item; 4]>,
    suspect: Suspect,
}

/// The journal of one partition.
#[derive(Debug)]
pub(super) struct Journal {
    rows: VecDeque<Row>,
    /// The number of the oldest row kept.
    first: u64,
    of_user: HashMap<UserId, SmallVec<[u64; 2]>, ahash::RandomState>,
    in_flight: BTreeMap<u64, InFlight>,
    next_write: u64,
    next_seq: u64,
    /// Rows of lower sequence numbers were dropped by the bound, not by proof.
    kept_from: u64,
    rows_max: usize,
}

impl Journal {
    pub fn new(bytes_max: usize, seed: u64) -> Self {
        Self {
            rows: VecDeque::new(),
            first: 0,
            of_user: HashMap::with_hasher(ahash::RandomState::with_seeds(seed, 4, 5, 6)),
            in_flight: BTreeMap::new(),
            next_write: 0,
            next_seq: 1,
            kept_from: 0,
            rows_max: (bytes_max / JOURNAL_ROW_BYTES).max(16),
        }
    }

    /// Notes that a commit of these items is about to start.
    pub fn begin(&mut self, user: UserId, items: impl Iterator<Item = Item>) -> WriteId {
        self.next_write += 1;
        let flight = InFlight { user, items: items.collect(), suspect: None };
        self.in_flight.insert(self.next_write, flight);
        WriteId(self.next_write)
    }

    /// Forgets a write that certainly did not happen.
    pub fn abandon(&mut self, id: WriteId) {
        self.in_flight.remove(&id.0);
    }

    /// Notes that nobody knows whether a write will happen, or has (row 11).
    pub fn doubt(&mut self, id: WriteId, at: Tick) {
        if let Some(flight) = self.in_flight.get_mut(&id.0) {
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
    pub fn commit(&mut self, id: WriteId, acknowledged: Acknowledged) -> Journaled {
        let Some(flight) = self.in_flight.remove(&id.0) else {
            return Journaled { overflow: false, suspect: None };
        };
        let suspect = flight.suspect.filter(|suspect| suspect.concerns(acknowledged.stamp));
        let suspect = suspect.map(|suspect| *suspect);
        let mut overflow = false;
        for item in flight.items {
            overflow |= self.push(flight.user, Op::Add(item), acknowledged, suspect);
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
        self.of_user.entry(user).or_default().push(number);
        let suspect = suspect.map(Box::new);
        self.rows.push_back(Row { user, op, stamp, at, suspect, seq });
        overflow
    }

    fn pop(&mut self) -> Option<Row> {
        let row = self.rows.pop_front()?;
        if let Some(numbers) = self.of_user.get_mut(&row.user) {
            numbers.retain(|number| *number != self.first);
            if numbers.is_empty() {
                self.of_user.remove(&row.user);
            }
        }
        self.first += 1;
        Some(row)
    }

    /// Releases the rows that were acknowledged before `seq` (a fence came back); returns the users
    /// of suspect ones.
    pub fn release_before(&mut self, seq: u64) -> Vec<UserId> {
        self.release_while(|row| row.seq < seq)
    }

    /// Releases the leading rows whose commits are covered; returns the users of suspect ones.
    pub fn release_covered(&mut self, cover: CommitStamp) -> Vec<UserId> {
        self.release_while(|row| row.stamp.is_some_and(|stamp| cover.covers(stamp)))
    }

    fn release_while(&mut self, released: impl Fn(&Row) -> bool) -> Vec<UserId> {
        let mut suspects = Vec::new();
        while self.rows.front().is_some_and(&released) {
            let Some(row) = self.pop() else { break };
            if row.suspect.is_some() && suspects.last() != Some(&row.user) {
                suspects.push(row.user);
            }
        }
        suspects
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
        for flight in self.in_flight.values_mut().filter(|flight| flight.user == user) {
            if item.is_none_or(|item| flight.items.contains(&item)) {
                Suspicion::join(&mut flight.suspect, suspicion);
            }
        }
        for number in self.of_user.get(&user).into_iter().flatten() {
            let Some(row) = self.rows.get_mut((number - self.first) as usize) else { continue };
            let Op::Add(added) = row.op else { continue };
            if item.is_none_or(|item| added == item) && suspicion.concerns(row.stamp) {
                Suspicion::join(&mut row.suspect, suspicion);
            }
        }
    }

    /// A gap was found: every add not released is suspect.
    pub fn suspect_all(&mut self, suspicion: Suspicion) {
        self.in_flight.values_mut().for_each(|f| Suspicion::join(&mut f.suspect, suspicion));
        let adds = self.rows.iter_mut().filter(|row| matches!(row.op, Op::Add(_)));
        let concerned = adds.filter(|row| suspicion.concerns(row.stamp));
        concerned.for_each(|row| Suspicion::join(&mut row.suspect, suspicion));
    }

    /// The rows of one user, oldest first.
    pub fn of(&self, user: UserId) -> impl Iterator<Item = &Row> {
        let numbers = self.of_user.get(&user).into_iter().flatten();
        numbers.filter_map(|number| self.rows.get((number - self.first) as usize))
    }

    /// True if an own add of the id is not proven to have come back.
    pub fn adds(&self, user: UserId, item: Item) -> bool {
        self.of(user).any(|row| row.op == Op::Add(item))
    }

    /// True if an own remove of the id is not proven to have come back.
    pub fn removes(&self, user: UserId, item: Item) -> bool {
        self.of(user).any(|row| row.op == Op::Remove(item) || row.op == Op::RemoveAll)
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
        (seq, journal.commit(id, acknowledged(seq, at)).overflow)
    }

    fn acknowledged(seq: u64, at: u64) -> Acknowledged {
        Acknowledged { seq, stamp: Some(stamp(at)), at: Tick::new(0) }
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
        assert!(journal.release_covered(stamp(4)).is_empty());
        assert_eq!(journal.len(), 2);
        assert!(journal.release_covered(stamp(5)).is_empty());
        assert_eq!(journal.of(UserId::new(1)).count(), 0);
        assert_eq!(journal.release_before(3), [UserId::new(2)]);
        assert_eq!(journal.len(), 0);
    }

    #[test]
    fn a_remove_during_the_commit_makes_it_suspect() {
        let mut journal = Journal::new(0, 1);
        let id = journal.begin(UserId::new(1), std::iter::once(Item::new(0, 10)));
        journal.suspect(UserId::new(1), Some(Item::new(0, 10)), removed_at(6));
        let seq = journal.acknowledge();
        journal.commit(id, acknowledged(seq, 5));
        assert_eq!(journal.release_before(seq + 1), [UserId::new(1)]);
    }

    #[test]
    fn a_remove_before_the_commit_does_not() {
        let mut journal = Journal::new(0, 1);
        commit(&mut journal, 1, 10, 5);
        journal.suspect(UserId::new(1), Some(Item::new(0, 10)), removed_at(4));
        assert!(journal.release_covered(stamp(5)).is_empty());
    }

    #[test]
    fn the_bound_gives_up_ownership_of_what_it_pushes_out() {
        let mut journal = Journal::new(0, 1);
        let (first, _) = commit(&mut journal, 1, 0, 1);
        let overflows = (1..20).filter(|n| commit(&mut journal, 1, *n, n + 1).1).count();
        assert_eq!((journal.len(), overflows), (16, 4));
        assert!(journal.kept_from() > first && journal.kept_from() <= 5);
    }
}
