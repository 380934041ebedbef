//! What was asked of the cluster and what it said, and what follows from that: which items a reader must be told "read",
//! and which ones storage must hold, or must not.
//!
//! An operation takes effect at some moment between its begin and its acknowledgement. One whose outcome nobody knows may
//! take effect at any later moment, or never; one that was certainly refused never does.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Items become read.
    Mark,
    /// Items become unread.
    Unmark,
    /// All of a user's items do.
    Forget,
}

/// What came of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is under way, or nobody knows.
    Unknown,
    /// It was acknowledged.
    Acknowledged(Instant),
    /// It was certainly not done.
    Refused,
}

/// The number of an operation.
pub type OpId = usize;

#[derive(Clone, Copy, Debug)]
struct Op {
    deed: Deed,
    began: Instant,
    outcome: Outcome,
}

impl Op {
    /// True if it may have taken effect, or take effect, after `moment`.
    fn may_follow(&self, moment: Instant) -> bool {
        match self.outcome {
            Outcome::Unknown => true,
            Outcome::Acknowledged(at) => at > moment,
            Outcome::Refused => false,
        }
    }

    fn is_refused(&self) -> bool {
        self.outcome == Outcome::Refused
    }
}

/// What storage holds of an item in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// It must be there.
    Yes,
    /// It must not be there; true if it was forgotten.
    No {
        /// The user was forgotten since it was marked.
        forgotten: bool,
    },
    /// Both would be right.
    Either,
}

/// All operations.
#[derive(Debug, Default)]
pub struct Ledger {
    ops: Vec<Op>,
    items: BTreeMap<u64, BTreeMap<u64, Vec<OpId>>>,
    forgets: BTreeMap<u64, Vec<OpId>>,
}

impl Ledger {
    /// An operation begins.
    pub fn begin(&mut self, user: u64, deed: Deed, items: &[u64]) -> OpId {
        let id = self.ops.len();
        self.ops.push(Op { deed, began: Instant::now(), outcome: Outcome::Unknown });
        let of_user = self.items.entry(user).or_default();
        for item in items {
            of_user.entry(*item).or_default().push(id);
        }
        if deed == Deed::Forget {
            self.forgets.entry(user).or_default().push(id);
        }
        id
    }

    /// It ended.
    pub fn end(&mut self, id: OpId, outcome: Outcome) {
        if let Some(op) = self.ops.get_mut(id) {
            op.outcome = outcome;
        }
    }

    /// The items that anything was done to.
    pub fn touched(&self, user: u64) -> Vec<u64> {
        self.items.get(&user).map(|items| items.keys().copied().collect()).unwrap_or_default()
    }

    fn of(&self, user: u64, item: u64) -> impl Iterator<Item = (OpId, &Op)> {
        let own = self.items.get(&user).and_then(|items| items.get(&item));
        let forgets = self.forgets.get(&user);
        let ids = own.into_iter().flatten().chain(forgets.into_iter().flatten());
        ids.filter_map(|id| Some((*id, self.ops.get(*id)?)))
    }

    /// True if a reader that holds the tokens of these writes must be told that the item is read.
    pub fn must_see(&self, user: u64, item: u64, held: &BTreeSet<OpId>) -> bool {
        let acknowledged = |op: &Op| matches!(op.outcome, Outcome::Acknowledged(_));
        let marks = self
            .of(user, item)
            .filter(|(id, op)| op.deed == Deed::Mark && held.contains(id) && acknowledged(op));
        let mut stands = marks.filter(|(_, mark)| !self.may_be_undone(user, item, mark));
        stands.next().is_some()
    }

    fn may_be_undone(&self, user: u64, item: u64, mark: &Op) -> bool {
        self.of(user, item).any(|(_, op)| op.deed != Deed::Mark && op.may_follow(mark.began))
    }

    /// What storage holds of an item once nothing is under way any more.
    pub fn holds(&self, user: u64, item: u64) -> Holds {
        let stands = self.of(user, item).any(|(_, op)| {
            op.deed == Deed::Mark
                && matches!(op.outcome, Outcome::Acknowledged(_))
                && !self.may_be_undone(user, item, op)
        });
        if stands {
            return Holds::Yes;
        }
        let marks = || self.of(user, item).filter(|(_, op)| op.deed == Deed::Mark);
        let undone = self.of(user, item).find(|(_, op)| {
            op.deed != Deed::Mark
                && matches!(op.outcome, Outcome::Acknowledged(_))
                && !marks().any(|(_, mark)| mark.may_follow(op.began))
        });
        match undone {
            Some((_, op)) => Holds::No { forgotten: op.deed == Deed::Forget },
            None if marks().all(|(_, op)| op.is_refused()) => Holds::No { forgotten: false },
            None => Holds::Either,
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::{Duration, advance};

    use super::*;

    async fn later() -> Instant {
        advance(Duration::from_millis(1)).await;
        Instant::now()
    }

    async fn done(ledger: &mut Ledger, deed: Deed) -> OpId {
        let id = ledger.begin(1, deed, if deed == Deed::Forget { &[] } else { &[5] });
        let now = later().await;
        ledger.end(id, Outcome::Acknowledged(now));
        later().await;
        id
    }

    #[tokio::test(start_paused = true)]
    async fn who_holds_a_marks_token_must_see_it_until_it_may_be_undone() {
        let mut ledger = Ledger::default();
        let mark = done(&mut ledger, Deed::Mark).await;
        let held = BTreeSet::from([mark]);
        assert!(ledger.must_see(1, 5, &held));
        assert!(!ledger.must_see(1, 5, &BTreeSet::new()), "not by its token");
        assert_eq!(ledger.holds(1, 5), Holds::Yes);
        let unmark = ledger.begin(1, Deed::Unmark, &[5]);
        assert!(!ledger.must_see(1, 5, &held), "it is under way");
        assert_eq!(ledger.holds(1, 5), Holds::Either);
        ledger.end(unmark, Outcome::Refused);
        assert!(ledger.must_see(1, 5, &held));
        done(&mut ledger, Deed::Unmark).await;
        assert!(!ledger.must_see(1, 5, &held));
        assert_eq!(ledger.holds(1, 5), Holds::No { forgotten: false });
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_have_been_done_proves_nothing() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.holds(1, 5), Holds::No { forgotten: false });
        let mark = ledger.begin(1, Deed::Mark, &[5]);
        assert_eq!(ledger.holds(1, 5), Holds::Either);
        done(&mut ledger, Deed::Forget).await;
        assert_eq!(ledger.holds(1, 5), Holds::Either, "it may still land");
        ledger.end(mark, Outcome::Refused);
        assert_eq!(ledger.holds(1, 5), Holds::No { forgotten: true });
        done(&mut ledger, Deed::Mark).await;
        assert_eq!(ledger.holds(1, 5), Holds::Yes);
    }
}
