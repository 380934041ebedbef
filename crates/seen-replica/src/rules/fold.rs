//! Folding changes by position (rules R5 and R10): a remove cancels earlier adds, a later add
//! stands, and a replayed event counts once, at its own position.

use std::collections::BTreeMap;

use seen_filter::{CommitStamp, Item, Tick};

use super::side::{Change, Op};

/// What a set of changes comes to.
#[derive(Debug, Default)]
pub(super) struct Folded {
    /// The last word on each named item (true for added), and when it was applied.
    items: BTreeMap<Item, (bool, Tick)>,
    /// Everything not named was removed, and when that was applied.
    all_removed: Option<Tick>,
}

impl Folded {
    /// Folds `changes`, leaving out what a snapshot that reaches `seen_up_to` already shows.
    /// Changes without a stamp are newer than all others: only own commits come without one.
    pub fn new(mut changes: Vec<Change>, seen_up_to: Option<CommitStamp>) -> Self {
        changes.retain(|change| match (change.stamp, seen_up_to) {
            (Some(stamp), Some(upper)) => !upper.covers(stamp),
            _ => true,
        });
        // Within one commit removes come first: a replay may repeat half of it, and "seen" is the
        // side on which the promise allows an error until the rebuild.
        changes.sort_by_key(|change| {
            let position = change.stamp.map_or(u64::MAX, |stamp| stamp.position);
            (position, matches!(change.op, Op::Add(_)))
        });
        let mut folded = Self::default();
        for change in changes {
            match change.op {
                Op::Add(item) => {
                    folded.items.insert(item, (true, change.at));
                }
                Op::Remove(item) => {
                    folded.items.insert(item, (false, change.at));
                }
                Op::RemoveAll => {
                    folded.items.clear();
                    folded.all_removed = Some(change.at);
                }
            }
        }
        folded
    }

    /// `Some(true)` if the item was added last, `Some(false)` if it was removed last.
    pub fn verdict(&self, item: Item) -> Option<bool> {
        match self.items.get(&item) {
            Some((added, _)) => Some(*added),
            None => self.all_removed.map(|_| false),
        }
    }

    /// The items that stand as added.
    pub fn adds(&self) -> impl Iterator<Item = Item> + '_ {
        self.items.iter().filter(|(_, (added, _))| *added).map(|(item, _)| *item)
    }

    /// When the last of the removes that stand was applied, or `None` if none stands.
    pub fn last_remove(&self) -> Option<Tick> {
        let removes = self.items.values().filter(|(added, _)| !*added).map(|(_, at)| *at);
        removes.chain(self.all_removed).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use seen_filter::{Domain, Timeline};

    fn change(position: u64, op: Op) -> Change {
        let stamp = CommitStamp::new(Domain::new(0), Timeline::new(1), position);
        Change { stamp: Some(stamp), at: Tick::new(0), op }
    }

    #[test]
    fn a_replayed_event_counts_at_its_own_position() {
        let x = Item::new(0, 1);
        let log = [change(4, Op::Add(x)), change(5, Op::Remove(x)), change(4, Op::Add(x))];
        assert_eq!(Folded::new(log.to_vec(), None).verdict(x), Some(false));
        let log = [change(4, Op::Remove(x)), change(5, Op::Add(x)), change(4, Op::Remove(x))];
        assert_eq!(Folded::new(log.to_vec(), None).verdict(x), Some(true));
    }

    #[test]
    fn remove_all_cancels_only_what_came_before() {
        let (x, y) = (Item::new(0, 1), Item::new(0, 2));
        let log = [change(4, Op::Add(x)), change(6, Op::Add(y)), change(5, Op::RemoveAll)];
        let folded = Folded::new(log.to_vec(), None);
        assert_eq!((folded.verdict(x), folded.verdict(y)), (Some(false), Some(true)));
        let seen = CommitStamp::new(Domain::new(0), Timeline::new(1), 5);
        assert_eq!(Folded::new(log.to_vec(), Some(seen)).verdict(x), None);
    }
}
