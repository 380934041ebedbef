//! What was asked of the cluster and what it said, and what follows from that: which items a reader must be told "read",
//! and which ones storage must hold, or must not.
//!
//! An operation takes effect at some moment between its begin and its acknowledgement. One whose outcome nobody knows may
//! take effect at any later moment, or never; one that was certainly refused never does.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use seen_filter::settings::Retention;
use tokio::time::Instant;

use crate::cluster::Clock;
use crate::faults::JUMP_MS_MAX;
use crate::time::now;

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

/// The longest that a write is waited for.
const WRITES_WITHIN: Duration = Duration::from_secs(1);

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
    /// True if it may have taken effect, or take effect, after `moment`. Several things happen at one moment of a clock that stands
    /// still meanwhile, in any order.
    fn may_follow(&self, moment: Instant) -> bool {
        match self.outcome {
            Outcome::Unknown => true,
            Outcome::Acknowledged(at) => at >= moment,
            Outcome::Refused => false,
        }
    }

    fn is_acknowledged(&self) -> bool {
        matches!(self.outcome, Outcome::Acknowledged(_))
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
    /// By the user's number.
    users: Vec<OfUser>,
    expiry: Option<Expiry>,
}

/// What was done to one user's items. Numbers of users and of items that are touched are small, and are asked for very often.
#[derive(Debug, Default)]
struct OfUser {
    /// By the item's number.
    items: Vec<Vec<OpId>>,
    forgets: Vec<OpId>,
}

/// The place of a number, and all before it.
fn place<T: Default>(of: &mut Vec<T>, number: u64) -> &mut T {
    let at = number as usize;
    if at >= of.len() {
        of.resize_with(at + 1, T::default);
    }
    &mut of[at]
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
        let ids = self.of_item(user, item);
        if ids.is_empty() {
            return true;
        }
        // The clock may have jumped back between a mark's begin and its commit.
        let kept_ms = span_ms.saturating_sub(JUMP_MS_MAX);
        let now_ms = clock.highest_ms();
        let mut marks = self.marks(ids).filter(|(_, op)| !op.is_refused());
        marks.all(|(_, mark)| now_ms <= mark.began_ms + kept_ms)
    }

    /// An operation begins.
    pub fn begin(&mut self, user: u64, deed: Deed, items: &[u64]) -> OpId {
        let id = self.ops.len();
        let began_ms = self.expiry.as_ref().map_or(0, |expiry| expiry.clock.now_ms());
        self.ops.push(Op {
            deed,
            began: now(),
            outcome: Outcome::Unknown,
            began_ms,
            commit: u64::MAX,
        });
        let of_user = place(&mut self.users, user);
        for item in items {
            place(&mut of_user.items, *item).push(id);
        }
        if deed == Deed::Forget {
            of_user.forgets.push(id);
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
        let items = self.of_user(user).map_or(&[][..], |user| &user.items);
        let touched = items.iter().enumerate().filter(|(_, ids)| !ids.is_empty());
        touched.map(|(item, _)| item as u64).collect()
    }

    /// True if anything was done to a user, or may have been, since `moment`.
    pub fn wrote_since(&self, user: u64, moment: Instant) -> bool {
        let of_items = self.of_user(user).into_iter().flat_map(|user| user.items.iter().flatten());
        let mut ids = of_items.chain(self.forgets_of(user));
        ids.any(|id| {
            self.ops.get(*id).is_some_and(|op| match op.outcome {
                // Under way still, unless it was given up.
                Outcome::Unknown => op.began + WRITES_WITHIN > moment,
                _ => op.may_follow(moment),
            })
        })
    }

    fn of_user(&self, user: u64) -> Option<&OfUser> {
        self.users.get(user as usize)
    }

    /// What was done to one item.
    fn of_item(&self, user: u64, item: u64) -> &[OpId] {
        self.of_user(user).and_then(|user| user.items.get(item as usize)).map_or(&[], Vec::as_slice)
    }

    fn forgets_of(&self, user: u64) -> &[OpId] {
        self.of_user(user).map_or(&[], |user| &user.forgets)
    }

    fn ops(&self, ids: &[OpId]) -> impl Iterator<Item = (OpId, &Op)> {
        ids.iter().filter_map(|id| Some((*id, self.ops.get(*id)?)))
    }

    fn marks(&self, ids: &[OpId]) -> impl Iterator<Item = (OpId, &Op)> {
        self.ops(ids).filter(|(_, op)| op.deed == Deed::Mark)
    }

    /// What may have made the item unread.
    fn undoings(&self, ids: &[OpId], user: u64) -> impl Iterator<Item = &Op> {
        let own = self.ops(ids).filter(|(_, op)| op.deed != Deed::Mark);
        own.chain(self.ops(self.forgets_of(user))).map(|(_, op)| op)
    }

    /// True if a reader that holds the tokens of these writes must be told that the item is read; or anybody must, since the
    /// event of a write is `applied` everywhere.
    pub fn must_see(&self, user: u64, item: u64, held: &BTreeSet<OpId>, applied: u64) -> bool {
        let ids = self.of_item(user, item);
        let mut marks = self
            .marks(ids)
            .filter(|(_, op)| op.is_acknowledged())
            .filter(|(id, op)| op.commit <= applied || held.contains(id));
        marks.any(|(_, mark)| !self.may_be_undone(ids, user, mark)) && self.is_fresh(user, item)
    }

    /// True if an item was certainly undone, and marked by nobody since, and the event of that is `applied` everywhere.
    pub fn is_undone(&self, user: u64, item: u64, applied: u64) -> bool {
        let ids = self.of_item(user, item);
        let mut undone =
            self.undoings(ids, user).filter(|op| op.is_acknowledged() && op.commit <= applied);
        undone.any(|op| !self.marks(ids).any(|(_, mark)| mark.may_follow(op.began)))
    }

    fn may_be_undone(&self, ids: &[OpId], user: u64, mark: &Op) -> bool {
        self.undoings(ids, user).any(|op| op.may_follow(mark.began))
    }

    /// What storage holds of an item once nothing is under way any more.
    pub fn holds(&self, user: u64, item: u64) -> Holds {
        let ids = self.of_item(user, item);
        let stands = self
            .marks(ids)
            .any(|(_, op)| op.is_acknowledged() && !self.may_be_undone(ids, user, op));
        match (stands, stands && self.is_fresh(user, item)) {
            (true, true) => return Holds::Yes,
            (true, false) => return Holds::Either,
            (false, _) => {}
        }
        let undone = self.undoings(ids, user).find(|op| {
            op.is_acknowledged() && !self.marks(ids).any(|(_, mark)| mark.may_follow(op.began))
        });
        match undone {
            Some(op) => Holds::No { forgotten: op.deed == Deed::Forget },
            None if self.marks(ids).all(|(_, op)| op.is_refused()) => {
                Holds::No { forgotten: false }
            }
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
