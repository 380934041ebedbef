//! The rare states of a user: a build under way, contested ids, a build stamp newer than the
//! partition's cover. Kept beside the table, so that the ordinary entry pays nothing for them.

use seen_filter::{CommitStamp, Generation, Item, ScopeEpoch, Tick, UserEpoch};
use smallvec::SmallVec;

/// Most contested ids of one user; one more drops the whole entry, so that all is asked in storage.
pub const CONTESTED_ITEMS_MAX: usize = 64;

/// What an event did to one item, or to all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Add(Item),
    Remove(Item),
    RemoveAll,
}

/// A change with its commit, as far as that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub stamp: Option<CommitStamp>,
    /// When it was applied here.
    pub at: Tick,
    pub op: Op,
    /// An add that a remove known here may come after: it is delivered again, or an own remove of
    /// the id has not come back yet. Where the bits lack the id, it is contested.
    pub doubtful: bool,
}

/// A build under way: the user is Building, or Ready and being rebuilt.
#[derive(Debug)]
pub(super) struct Build {
    pub generation: Generation,
    /// The partition's applied position when the build was entered (rule R1).
    pub reg: Option<CommitStamp>,
    /// The partition's epoch then (row 52).
    pub epoch: ScopeEpoch,
    pub began: Tick,
    /// What arrived since.
    pub pending: Vec<Change>,
    /// The user's own events were in doubt while it ran.
    pub doubted: bool,
}

/// An id of which a remove is known, so that the bits must not decide (rule R10).
#[derive(Clone, Copy, Debug)]
pub(super) struct Contested {
    pub item: Item,
    pub stamp: Option<CommitStamp>,
    pub since: Tick,
}

/// Everything rare about one user.
#[derive(Debug, Default)]
pub(super) struct Side {
    pub build: Option<Build>,
    pub contested: SmallVec<[Contested; 2]>,
    /// The entry's snapshot, where it is newer than what the partition covered at the install.
    pub stamp: Option<CommitStamp>,
    /// The highest forget that is known of.
    pub user_epoch: UserEpoch,
    /// Since when. Storage that still shows a lower one much later was restored from a backup.
    pub user_epoch_at: Tick,
    /// Another build must follow, and serves its purpose if it begins at this tick or later.
    pub owes: Option<Tick>,
}

impl Side {
    pub fn is_contested(&self, item: Item) -> bool {
        self.contested_since(item).is_some()
    }

    /// Since when an id is contested, if it is.
    pub fn contested_since(&self, item: Item) -> Option<Tick> {
        let mut contested = self.contested.iter();
        contested.find(|contested| contested.item == item).map(|contested| contested.since)
    }

    /// Notes a remove. False if there are too many to keep.
    ///
    /// A remove that is delivered again must not stand for a later one (row 47): the later of two
    /// stamps is kept, and where they cannot be compared none, so that only time proves it.
    pub fn contest(&mut self, item: Item, stamp: Option<CommitStamp>, since: Tick) -> bool {
        if let Some(known) = self.contested.iter_mut().find(|known| known.item == item) {
            known.stamp = known.stamp.zip(stamp).and_then(|(a, b)| later(a, b));
            known.since = known.since.max(since);
            return true;
        }
        if self.contested.len() == CONTESTED_ITEMS_MAX {
            return false;
        }
        self.contested.push(Contested { item, stamp, since });
        true
    }

    /// True if nothing rare is left, so that it need not be kept.
    pub fn is_plain(&self) -> bool {
        self.build.is_none()
            && self.contested.is_empty()
            && self.stamp.is_none()
            && self.user_epoch.get() == 0
            && self.owes.is_none()
    }

    /// Notes that another build must follow, not before `from`.
    pub fn owe(&mut self, from: Tick) {
        self.owes = Some(self.owes.map_or(from, |owed| owed.max(from)));
    }
}

/// The later of two stamps, if they can be compared.
pub(super) fn later(a: CommitStamp, b: CommitStamp) -> Option<CommitStamp> {
    if a.covers(b) { Some(a) } else { b.covers(a).then_some(b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use seen_filter::{Domain, Timeline};

    fn stamp(timeline: u64, position: u64) -> CommitStamp {
        CommitStamp::new(Domain::new(0), Timeline::new(timeline), position)
    }

    #[test]
    fn the_later_of_two_is_known_where_they_can_be_compared() {
        assert_eq!(later(stamp(1, 5), stamp(1, 6)), Some(stamp(1, 6)));
        assert_eq!(later(stamp(1, 6), stamp(1, 5)), Some(stamp(1, 6)));
        assert_eq!(later(stamp(1, 5), stamp(1, 5)), Some(stamp(1, 5)));
        assert_eq!(later(stamp(1, 5), stamp(2, 6)), None);
    }

    /// Row 47.
    #[test]
    fn a_remove_that_comes_again_does_not_stand_for_a_later_one() {
        let (item, other) = (Item::new(0, 1), Item::new(0, 2));
        let mut side = Side::default();
        assert!(side.is_plain() && !side.is_contested(item));
        assert!(side.contest(item, Some(stamp(1, 5)), Tick::new(7)));
        assert!(side.contest(item, Some(stamp(1, 4)), Tick::new(6)));
        assert!(side.is_contested(item) && !side.is_contested(other) && !side.is_plain());
        assert_eq!(side.contested_since(item), Some(Tick::new(7)));
        assert_eq!((side.contested[0].stamp, side.contested.len()), (Some(stamp(1, 5)), 1));
        assert!(side.contest(item, Some(stamp(2, 9)), Tick::new(8)));
        assert_eq!(side.contested[0].stamp, None, "only time proves it");
    }

    #[test]
    fn what_is_rare_is_kept() {
        let sides = [
            Side { stamp: Some(stamp(1, 1)), ..Side::default() },
            Side { user_epoch: UserEpoch::new(1), ..Side::default() },
            Side { owes: Some(Tick::new(0)), ..Side::default() },
        ];
        assert!(sides.iter().all(|side| !side.is_plain()));
    }
}
