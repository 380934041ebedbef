//! What was asked of the cluster and what it said, and what follows from that: which items a reader must be told "read",
//! and which ones storage must hold, or must not.
//!
//! An operation takes effect at some moment between its begin and its acknowledgement. One whose outcome nobody knows may
//! take effect at any later moment, or never; one that was certainly refused never does.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use seen_filter::settings::Retention;
use tokio::time::Instant;

use crate::cluster::Clock;
use crate::faults::JUMP_MS_MAX;

/// What an operation does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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
    /// What storage's clock showed when it began.
    began_ms: u64,
    /// Storage's newest commit when it was acknowledged: its own is that one, or an earlier one.
    commit: u64,
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
    expiry: Option<Expiry>,
}

/// How rows expire.
#[derive(Debug)]
struct Expiry {
    span_ms: u64,
    clock: Arc<Clock>,
}

impl Ledger {
    /// Of rows that are kept for so long by this clock.
    pub fn of(retention: Option<Retention>, clock: &Arc<Clock>) -> Self {
        let expiry = |retention: Retention| {
            let clock = Arc::clone(clock);
            Expiry { span_ms: retention.span_ms, clock }
        };
        Self { expiry: retention.map(expiry), ..Self::default() }
    }

    /// True if no row of an item can have expired. Whether a mark renews the row of an earlier one is not looked at.
    pub fn is_fresh(&self, user: u64, item: u64) -> bool {
        let Some(Expiry { span_ms, clock }) = &self.expiry else { return true };
        // The clock may have jumped back between a mark's begin and its commit.
        let kept_ms = span_ms.saturating_sub(JUMP_MS_MAX);
        let now_ms = clock.highest_ms();
        let mut marks =
            self.of_item(user, item).filter(|(_, op)| op.deed == Deed::Mark && !op.is_refused());
        marks.all(|(_, mark)| now_ms <= mark.began_ms + kept_ms)
    }

    /// An operation begins.
    pub fn begin(&mut self, user: u64, deed: Deed, items: &[u64]) -> OpId {
        let id = self.ops.len();
        let began_ms = self.expiry.as_ref().map_or(0, |expiry| expiry.clock.now_ms());
        self.ops.push(Op {
            deed,
            began: Instant::now(),
            outcome: Outcome::Unknown,
            began_ms,
            commit: u64::MAX,
        });
        let of_user = self.items.entry(user).or_default();
        for item in items {
            of_user.entry(*item).or_default().push(id);
        }
        if deed == Deed::Forget {
            self.forgets.entry(user).or_default().push(id);
        }
        id
    }

    /// It ended, when storage's newest commit was this one.
    pub fn end(&mut self, id: OpId, outcome: Outcome, commit: u64) {
        if let Some(op) = self.ops.get_mut(id) {
            (op.outcome, op.commit) = (outcome, commit);
        }
    }

    /// The items that anything was done to.
    pub fn touched(&self, user: u64) -> Vec<u64> {
        self.items.get(&user).map(|items| items.keys().copied().collect()).unwrap_or_default()
    }

    fn of_item(&self, user: u64, item: u64) -> impl Iterator<Item = (OpId, &Op)> {
        let own = self.items.get(&user).and_then(|items| items.get(&item));
        let forgets = self.forgets.get(&user);
        let ids = own.into_iter().flatten().chain(forgets.into_iter().flatten());
        ids.filter_map(|id| Some((*id, self.ops.get(*id)?)))
    }

    /// True if a reader that holds the tokens of these writes must be told that the item is read; or anybody must, since the
    /// event of a write is `applied` everywhere.
    pub fn must_see(&self, user: u64, item: u64, held: &BTreeSet<OpId>, applied: u64) -> bool {
        let acknowledged = |op: &Op| matches!(op.outcome, Outcome::Acknowledged(_));
        let marks = self
            .of_item(user, item)
            .filter(|(_, op)| op.deed == Deed::Mark && acknowledged(op))
            .filter(|(id, op)| held.contains(id) || op.commit <= applied);
        let mut stands = marks.filter(|(_, mark)| !self.may_be_undone(user, item, mark));
        stands.next().is_some() && self.is_fresh(user, item)
    }

    /// True if an item was certainly undone, and marked by nobody since, and the event of that is `applied` everywhere.
    pub fn is_undone(&self, user: u64, item: u64, applied: u64) -> bool {
        let undone = |op: &Op| {
            op.deed != Deed::Mark
                && matches!(op.outcome, Outcome::Acknowledged(_))
                && op.commit <= applied
        };
        let marks = || self.of_item(user, item).filter(|(_, op)| op.deed == Deed::Mark);
        let mut undone = self.of_item(user, item).filter(|(_, op)| undone(op));
        undone.any(|(_, op)| !marks().any(|(_, mark)| mark.may_follow(op.began)))
    }

    fn may_be_undone(&self, user: u64, item: u64, mark: &Op) -> bool {
        self.of_item(user, item).any(|(_, op)| op.deed != Deed::Mark && op.may_follow(mark.began))
    }

    /// What storage holds of an item once nothing is under way any more.
    pub fn holds(&self, user: u64, item: u64) -> Holds {
        let stands = self.of_item(user, item).any(|(_, op)| {
            op.deed == Deed::Mark
                && matches!(op.outcome, Outcome::Acknowledged(_))
                && !self.may_be_undone(user, item, op)
        });
        match (stands, self.is_fresh(user, item)) {
            (true, true) => return Holds::Yes,
            (true, false) => return Holds::Either,
            (false, _) => {}
        }
        let marks = || self.of_item(user, item).filter(|(_, op)| op.deed == Deed::Mark);
        let undone = self.of_item(user, item).find(|(_, op)| {
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
        ledger.end(id, Outcome::Acknowledged(now), 7);
        later().await;
        id
    }

    #[tokio::test(start_paused = true)]
    async fn who_holds_a_marks_token_must_see_it_until_it_may_be_undone() {
        let mut ledger = Ledger::default();
        let mark = done(&mut ledger, Deed::Mark).await;
        let held = BTreeSet::from([mark]);
        assert!(ledger.must_see(1, 5, &held, 6));
        assert!(!ledger.must_see(1, 5, &BTreeSet::new(), 6), "not by its token");
        assert!(ledger.must_see(1, 5, &BTreeSet::new(), 7), "it is applied everywhere");
        assert_eq!(ledger.holds(1, 5), Holds::Yes);
        let unmark = ledger.begin(1, Deed::Unmark, &[5]);
        assert!(!ledger.must_see(1, 5, &held, 6), "it is under way");
        assert_eq!(ledger.holds(1, 5), Holds::Either);
        ledger.end(unmark, Outcome::Refused, 7);
        assert!(ledger.must_see(1, 5, &held, 6));
        done(&mut ledger, Deed::Unmark).await;
        assert!(!ledger.must_see(1, 5, &held, 6));
        assert!(ledger.is_undone(1, 5, 7) && !ledger.is_undone(1, 5, 6));
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
        ledger.end(mark, Outcome::Refused, 7);
        assert_eq!(ledger.holds(1, 5), Holds::No { forgotten: true });
        done(&mut ledger, Deed::Mark).await;
        assert_eq!(ledger.holds(1, 5), Holds::Yes);
    }
}
