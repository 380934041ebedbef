//! Point checks that may be late: their snapshot shows what was committed up to some moment before the
//! question (TiDB's timestamps of low resolution). Rule R5 allows them where it holds already, and only
//! with what came since beside them: pending, the journal, and a ring that reaches back that far.
//!
//! Adds that the snapshot lacks are ored in. A remove that it lacks could only be flagged, so that a user
//! of whom one is known is asked fresh. Whoever knows of none, and whose token names none, is told as
//! much as by a cached entry.

use seen_filter::{Item, Tick, UserId};

use super::Rules;
use super::fold::Last;
use super::input::Read;
use super::journal::{Journal, Row};
use super::lane::{Lane, LaneState};
use super::side::{Change, Op};

/// So much further back the ring must reach when the question is asked, in microseconds: it may be cut
/// before the answer comes, which would have to be flagged then.
pub(super) const LATE_SPARE_US: u64 = 1_000_000;

impl Rules {
    /// Allows point checks about users who are not cached to be late by this much, in microseconds; 0
    /// for not at all, as it is at first.
    #[must_use]
    pub fn with_late_checks(mut self, check_lag_us: u64) -> Self {
        self.check_lag_us = check_lag_us;
        self
    }

    /// From when on what came is here, if that suffices for a late check about a user who is not cached.
    /// The feed is fresh and the token covered, or own.
    pub(super) fn late_from(&self, now: Tick, lane: &Lane, read: &Read<'_>) -> Option<Tick> {
        // Rows that expire leave no events; and who wants a "seen" confirmed wants the present.
        let wants_fresh = read.confirm || self.settings.namespace.retention.is_some();
        if self.check_lag_us == 0 || wants_fresh {
            return None;
        }
        let reach = now.get().checked_sub(self.check_lag_us + LATE_SPARE_US)?;
        let state = lane.state.lock();
        let holds = state.ring.reaches_tick(Tick::new(reach)) && only_adds(&state, read.user);
        holds.then(|| Tick::new(reach + LATE_SPARE_US))
    }
}

/// True if nothing is known of this user but adds that nothing speaks against.
fn only_adds(state: &LaneState, user: UserId) -> bool {
    let told = |change: &Change| matches!(change.op, Op::Add(_)) && !change.doubtful;
    !state.user_gaps.contains_key(&user)
        && state.journal.of(user).all(is_certain)
        && (!state.ring.knows(user) || state.ring.of(user).iter().all(told))
}

/// True for an own add that no remove or gap has made suspect.
fn is_certain(row: &Row) -> bool {
    matches!(row.op, Op::Add(_)) && row.suspect.is_none()
}

/// True if an add is known that a late check need not show, and nothing that speaks against it: it came
/// at `from` or since. Of an earlier one a late check knows better.
pub(super) fn came_since(
    from: Tick,
    told: Option<Last>,
    journal: &Journal,
    user: UserId,
    item: Item,
) -> bool {
    let told = told.is_some_and(|last| last.at >= from && !last.doubtful);
    let own = journal.adds(user, item).any(|row| row.at >= from && is_certain(row));
    (told || own) && !journal.removes(user, item)
}
