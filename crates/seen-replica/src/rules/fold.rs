//! Folding changes by position (rules R5 and R10): a remove cancels earlier adds, a later add
//! stands, and a replayed event counts once, at its own position.

use std::collections::BTreeMap;

use seen_filter::{CommitStamp, Item, Tick};

use super::side::{Change, Op, later};

/// The last word on one item.
#[derive(Clone, Copy, Debug)]
pub(super) struct Last {
    pub added: bool,
    pub stamp: Option<CommitStamp>,
    /// When it was applied.
    pub at: Tick,
    /// See [`Change::doubtful`].
    pub doubtful: bool,
}

/// What a set of changes comes to.
#[derive(Debug, Default)]
pub(super) struct Folded {
    /// The last word on each named item.
    items: BTreeMap<Item, Last>,
    /// Everything not named was removed, by the last removal of everything.
    all_removed: Option<Last>,
}

impl Folded {
    /// Folds `changes`, all of which have stamps, leaving out what is `shown` already.
    ///
    /// Whatever shows a commit shows the earlier ones as well, also where one of these came by here
    /// later: an own commit's acknowledgement, or a replay.
    pub fn new(mut changes: Vec<Change>, shown: impl Fn(&Change) -> bool) -> Self {
        let shown_stamps = changes.iter().filter(|change| shown(change)).filter_map(|c| c.stamp);
        let up_to = shown_stamps.reduce(|a, b| later(a, b).unwrap_or(b));
        changes.retain(|change| {
            !shown(change) && !up_to.zip(change.stamp).is_some_and(|(up_to, s)| up_to.covers(s))
        });
        // Within one commit removes come first: a replay may repeat half of it, and "seen" is the
        // side on which the promise allows an error until the rebuild.
        changes.sort_by_key(|change| {
            let position = change.stamp.map_or(0, |stamp| stamp.position);
            (position, matches!(change.op, Op::Add(_)))
        });
        let mut folded = Self::default();
        for Change { stamp, at, op, doubtful } in changes {
            match op {
                Op::Add(item) => {
                    folded.items.insert(item, Last { added: true, stamp, at, doubtful });
                }
                Op::Remove(item) => {
                    folded.items.insert(item, Last { added: false, stamp, at, doubtful });
                }
                Op::RemoveAll => {
                    folded.items.clear();
                    folded.all_removed = Some(Last { added: false, stamp, at, doubtful });
                }
            }
        }
        folded
    }

    /// The last word on an item that stands as added.
    pub fn added(&self, item: Item) -> Option<Last> {
        self.items.get(&item).filter(|last| last.added).copied()
    }

    /// The last word on an item that stands as removed, by itself or with everything.
    pub fn removed(&self, item: Item) -> Option<Last> {
        match self.items.get(&item) {
            Some(last) => (!last.added).then_some(*last),
            None => self.all_removed,
        }
    }

    /// The items that stand as added.
    pub fn adds(&self) -> impl Iterator<Item = (Item, Last)> + '_ {
        self.items.iter().filter(|(_, last)| last.added).map(|(item, last)| (*item, *last))
    }

    /// The items that stand as removed, one by one.
    pub fn removes(&self) -> impl Iterator<Item = (Item, Last)> + '_ {
        self.items.iter().filter(|(_, last)| !last.added).map(|(item, last)| (*item, *last))
    }

    /// The last remove of everything, if there was one.
    pub fn removed_all(&self) -> Option<Last> {
        self.all_removed
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use seen_filter::{Domain, Timeline};

    fn change(position: u64, op: Op) -> Change {
        let stamp = CommitStamp::new(Domain::new(0), Timeline::new(1), position);
        Change { stamp: Some(stamp), at: Tick::new(0), op, doubtful: false }
    }

    /// `Some(true)` if the item was added last, `Some(false)` if it was removed last.
    fn verdict(folded: &Folded, item: Item) -> Option<bool> {
        let (added, removed) = (folded.added(item), folded.removed(item));
        assert!(added.is_none() || removed.is_none());
        added.map(|_| true).or(removed.map(|_| false))
    }

    #[test]
    fn a_replayed_event_counts_at_its_own_position() {
        let x = Item::new(0, 1);
        let log = [change(4, Op::Add(x)), change(5, Op::Remove(x)), change(4, Op::Add(x))];
        assert_eq!(verdict(&Folded::new(log.to_vec(), |_| false), x), Some(false));
        let log = [change(4, Op::Remove(x)), change(5, Op::Add(x)), change(4, Op::Remove(x))];
        assert_eq!(verdict(&Folded::new(log.to_vec(), |_| false), x), Some(true));
    }

    #[test]
    fn remove_all_cancels_only_what_came_before() {
        let (x, y) = (Item::new(0, 1), Item::new(0, 2));
        let log = [change(4, Op::Add(x)), change(6, Op::Add(y)), change(5, Op::RemoveAll)];
        let folded = Folded::new(log.to_vec(), |_| false);
        assert_eq!((verdict(&folded, x), verdict(&folded, y)), (Some(false), Some(true)));
        let seen = CommitStamp::new(Domain::new(0), Timeline::new(1), 5);
        let shown = |change: &Change| change.stamp.is_some_and(|stamp| seen.covers(stamp));
        assert_eq!(verdict(&Folded::new(log.to_vec(), shown), x), None);
    }
}
