//! The journal: own commits not yet proven to have come back through the feed (rule R9). Merged at
//! every install and into every point check, so that an own write is never missing from an answer.

use std::collections::{BTreeMap, HashMap, VecDeque};

use seen_filter::{CommitStamp, Item, UserId};
use smallvec::SmallVec;

/// What one journal row costs in memory, its share of the index included.
pub const JOURNAL_ROW_BYTES: usize = 120;

/// Identifies a write between its begin and its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WriteId(pub(super) u64);

/// One acknowledged add.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub user: UserId,
    pub item: Item,
    pub stamp: Option<CommitStamp>,
    /// A remove of the id, or a gap, was applied between the commit's start and now (rule R10):
    /// releasing it owes a rebuild.
    pub suspect: bool,
    seq: u64,
}

#[derive(Debug)]
struct InFlight {
    user: UserId,
    items: SmallVec<[Item; 4]>,
    suspect: bool,
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
        let flight = InFlight { user, items: items.collect(), suspect: false };
        self.in_flight.insert(self.next_write, flight);
        WriteId(self.next_write)
    }

    /// Forgets a write that certainly did not happen.
    pub fn abandon(&mut self, id: WriteId) {
        self.in_flight.remove(&id.0);
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

    /// Moves a committed write in. True if the bound pushed older rows out unproven, which puts the
    /// whole partition in doubt.
    pub fn commit(&mut self, id: WriteId, stamp: Option<CommitStamp>, seq: u64) -> bool {
        let Some(flight) = self.in_flight.remove(&id.0) else { return false };
        let mut overflow = false;
        for item in flight.items {
            if self.rows.len() == self.rows_max {
                if let Some(row) = self.pop() {
                    self.kept_from = self.kept_from.max(row.seq + 1);
                }
                overflow = true;
            }
            let number = self.first + self.rows.len() as u64;
            self.of_user.entry(flight.user).or_default().push(number);
            let suspect = flight.suspect;
            self.rows.push_back(Row { user: flight.user, item, stamp, suspect, seq });
        }
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
            if row.suspect && suspects.last() != Some(&row.user) {
                suspects.push(row.user);
            }
        }
        suspects
    }

    /// True if the oldest row has no stamp, so that only a fence can release it.
    pub fn waits_for_fence(&self) -> bool {
        self.rows.front().is_some_and(|row| row.stamp.is_none())
    }

    /// A remove was applied: commits of the same id that have begun and are not released are suspect
    /// (coherence row 59). `None` stands for every item of the user.
    pub fn suspect(&mut self, user: UserId, item: Option<Item>) {
        for flight in self.in_flight.values_mut().filter(|flight| flight.user == user) {
            flight.suspect |= item.is_none_or(|item| flight.items.contains(&item));
        }
        for number in self.of_user.get(&user).into_iter().flatten() {
            if let Some(row) = self.rows.get_mut((number - self.first) as usize) {
                row.suspect |= item.is_none_or(|item| row.item == item);
            }
        }
    }

    /// A gap was found: everything not released is suspect.
    pub fn suspect_all(&mut self) {
        self.in_flight.values_mut().for_each(|flight| flight.suspect = true);
        self.rows.iter_mut().for_each(|row| row.suspect = true);
    }

    /// The rows of one user, oldest first.
    pub fn of(&self, user: UserId) -> impl Iterator<Item = &Row> {
        let numbers = self.of_user.get(&user).into_iter().flatten();
        numbers.filter_map(|number| self.rows.get((number - self.first) as usize))
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
        (seq, journal.commit(id, Some(stamp(at)), seq))
    }

    #[test]
    fn rows_are_released_by_proof_only_and_suspects_are_told() {
        let mut journal = Journal::new(0, 1);
        commit(&mut journal, 1, 10, 5);
        commit(&mut journal, 2, 20, 6);
        journal.suspect(UserId::new(2), Some(Item::new(0, 20)));
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
        journal.suspect(UserId::new(1), Some(Item::new(0, 10)));
        let seq = journal.acknowledge();
        journal.commit(id, Some(stamp(5)), seq);
        assert_eq!(journal.release_before(seq + 1), [UserId::new(1)]);
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
