//! Writing through: rule R4 (commit, insert, acknowledge) and the acknowledged half of R10.

use std::sync::atomic::Ordering;

use seen_filter::{CommitStamp, Inserted, Item, Tick, UserEpoch, UserId};

use super::Rules;
use super::input::{Claim, Effect, Effects, Outcome};
use super::journal::{Acknowledged, Suspicion, WriteId};
use super::lane::{Lane, LaneState};
use super::sabotage::Rule;
use super::side::{Change, Op, later};
use super::table::Stripe;

/// A write's user, items and commit.
type Written<'a> = (UserId, &'a [Item], Option<CommitStamp>);

/// Doubts about what was lost between storage and the feed, where no reader can know of it by its place: a fence that did not come
/// back, a source that went back, and statements that a producer tells of without their rows.
const LOST_UPSTREAM: [&str; 4] = ["fence_lost", "source_rewound", "truncated", "snapshot"];

impl Rules {
    pub(super) fn begin_write(&self, user: UserId, items: &[Item]) -> Outcome {
        // A user of no lane has no journal; its write still needs a number that ends it.
        let Some(lane) = self.any_lane(user) else { return Outcome::Began(WriteId(0)) };
        let write = lane.state.lock().journal.begin(user, items.iter().copied());
        Outcome::Began(write)
    }

    pub(super) fn abandoned(&self, write: WriteId, user: UserId) -> Outcome {
        if let Some(lane) = self.any_lane(user) {
            lane.state.lock().journal.abandon(user, write);
        }
        Outcome::Done
    }

    /// A mark is committed: into the entry, pending and the journal, then the acknowledgement. All
    /// in one step, so that no reader comes between (row 12).
    pub(super) fn committed(
        &self,
        now: Tick,
        write: WriteId,
        (user, items, stamp): Written<'_>,
        effects: &mut Effects,
    ) -> Outcome {
        let Some(lane) = self.any_lane(user) else { return self.claim_without_lane(user, stamp) };
        let mut guard = self.stripe(user);
        let stripe = &mut *guard;
        if self.defends(Rule::R4) {
            for item in items {
                let change = Change { stamp, at: now, op: Op::Add(*item), doubtful: false };
                self.add(now, stripe, lane, user, change, effects);
            }
        }
        let mut state = lane.state.lock();
        let seq = state.journal.acknowledge();
        if !self.defends(Rule::R4) {
            state.journal.abandon(user, write);
            return Outcome::Acknowledged(self.claim(lane, seq, stamp));
        }
        let journaled = state.journal.commit(user, write, Acknowledged { seq, stamp, at: now });
        if journaled.overflow {
            self.dropped_unproven(now, lane, &mut state, effects);
        }
        drop(state);
        if let Some(Suspicion { stamp, at }) = journaled.suspect {
            // Row 59: the bits hold it now, and may be wrong until the rebuild.
            items.iter().for_each(|item| self.contest(stripe, user, *item, stamp, at));
        }
        Outcome::Acknowledged(self.claim(lane, seq, stamp))
    }

    /// Row 11: as if it were committed, and suspect from the first.
    pub(super) fn uncertain(
        &self,
        now: Tick,
        write: WriteId,
        (user, items): (UserId, &[Item]),
        effects: &mut Effects,
    ) -> Outcome {
        if let Some(lane) = self.any_lane(user) {
            lane.state.lock().journal.doubt(user, write, now);
        }
        self.committed(now, write, (user, items, None), effects)
    }

    /// An unmark is committed. The bits stay; the ids are contested until a build proves that it saw
    /// the remove (rule R10).
    pub(super) fn removed(
        &self,
        now: Tick,
        write: WriteId,
        (user, items, stamp): Written<'_>,
        effects: &mut Effects,
    ) -> Outcome {
        let Some(lane) = self.any_lane(user) else { return self.claim_without_lane(user, stamp) };
        let mut guard = self.stripe(user);
        for item in items {
            let change = Change { stamp, at: now, op: Op::Remove(*item), doubtful: false };
            self.remove(&mut guard, user, change);
        }
        self.rebuild_if_cached(now, &mut guard, lane, user, effects);
        let mut state = lane.state.lock();
        state.journal.abandon(user, write);
        let seq = state.journal.acknowledge();
        let removes = items.iter().map(|item| Op::Remove(*item));
        let acknowledged = Acknowledged { seq, stamp, at: now };
        self.journal_removes(lane, &mut state, (user, removes), acknowledged, effects);
        Outcome::Acknowledged(self.claim(lane, seq, stamp))
    }

    /// Keeps own removes until they have come back, so that neither an older snapshot nor an add that
    /// is still on its way brings the ids back (rule R10).
    fn journal_removes(
        &self,
        lane: &Lane,
        state: &mut LaneState,
        (user, removes): (UserId, impl Iterator<Item = Op>),
        acknowledged: Acknowledged,
        effects: &mut Effects,
    ) {
        if !self.defends(Rule::R10) {
            return;
        }
        let Acknowledged { stamp, at, .. } = acknowledged;
        let mut overflow = false;
        for op in removes {
            let item = if let Op::Remove(item) = op { Some(item) } else { None };
            // An own mark of the id may still be in the journal: what it says is now in doubt.
            state.journal.suspect(user, item, Suspicion { stamp, at });
            overflow |= state.journal.commit_remove(user, op, acknowledged);
        }
        if overflow {
            self.dropped_unproven(at, lane, state, effects);
        }
    }

    /// The journal's bound pushed own writes out before they came back: memory may lack them, and no
    /// peer's position says that it has them, until a fence has come by.
    fn dropped_unproven(
        &self,
        now: Tick,
        lane: &Lane,
        state: &mut LaneState,
        effects: &mut Effects,
    ) {
        state.dropped_below = Some(state.journal.kept_from());
        if !lane.following() {
            // Nobody of it is cached or built, and the whole journal is looked through again once it is followed.
            return lane.publish(state);
        }
        self.doubt_lane(now, lane, state, "journal_overflow", effects);
    }

    /// A forget is committed: the entry goes, and what is built from now on is of the new epoch.
    pub(super) fn forgot(
        &self,
        now: Tick,
        user: UserId,
        epoch: UserEpoch,
        stamp: Option<CommitStamp>,
        effects: &mut Effects,
    ) -> Outcome {
        let Some(lane) = self.any_lane(user) else { return self.claim_without_lane(user, stamp) };
        let mut guard = self.stripe(user);
        let stripe = &mut *guard;
        let seq = {
            let mut state = lane.state.lock();
            let seq = state.journal.acknowledge();
            let acknowledged = Acknowledged { seq, stamp, at: now };
            let removes = std::iter::once(Op::RemoveAll);
            self.journal_removes(lane, &mut state, (user, removes), acknowledged, effects);
            seq
        };
        // The control row may have come by before the rows were deleted, so that its epoch is known
        // already: what was built in between goes all the same.
        let known = stripe.side.get(&user).map_or(UserEpoch::default(), |side| side.user_epoch);
        if self.is_held(stripe, user) {
            self.begin_epoch(now, stripe, lane, user, epoch.max(known), effects);
        }
        Outcome::Acknowledged(self.claim(lane, seq, stamp))
    }

    fn claim(&self, lane: &Lane, seq: u64, stamp: Option<CommitStamp>) -> Claim {
        let writer = self.settings.incarnation;
        Claim { feed: lane.feed, writer, seq, stamp, wildcard: false }
    }

    /// A claim on a partition that is not followed here: no journal backs it, so that only another
    /// replica's cover, or storage, can satisfy it.
    fn claim_without_lane(&self, user: UserId, stamp: Option<CommitStamp>) -> Outcome {
        let feed = (self.feed_of)(user);
        let writer = self.settings.incarnation;
        let seq = self.foreign_seq.fetch_add(1, Ordering::Relaxed);
        Outcome::Acknowledged(Claim { feed, writer, seq, stamp, wildcard: false })
    }

    /// Inserts one add into the entry and into what a build under way holds back.
    pub(super) fn add(
        &self,
        now: Tick,
        stripe: &mut Stripe,
        lane: &Lane,
        user: UserId,
        change: Change,
        effects: &mut Effects,
    ) {
        let Op::Add(item) = change.op else { return };
        self.hold_back(stripe, user, change);
        let bucket = self.bucket_now();
        let (built, owed) =
            stripe.side.get(&user).map_or((None, false), |side| (side.stamp, side.owes.is_some()));
        let Some(slot) = stripe.find_mut(&self.key, user) else { return };
        let before = slot.state.heap_bytes();
        let inserted = slot.state.insert(&self.key, &self.sizing, item, bucket);
        let shown = built.zip(change.stamp).is_some_and(|(built, stamp)| built.covers(stamp));
        let doubtful = (change.doubtful || shown) && inserted != Inserted::AlreadySeen;
        let grown = slot.state.heap_bytes() as i64 - before as i64;
        if grown != 0 {
            self.count_bytes(grown);
        }
        // Begun before another layer has to be made. One that was given up is owed: the next read or
        // layer begins it again, not every mark.
        let due = inserted != Inserted::AlreadySeen && (grown != 0 || !owed);
        let due = due && slot.state.rebuild_due(&self.sizing);
        if due {
            self.begin_build(now, stripe, lane, user, false, effects);
        }
        if doubtful && self.defends(Rule::R10) {
            // The entry lacked what it should have held: it was removed since, by a remove that may
            // not come by again (rule R10).
            let applied = lane.state.lock().applied;
            let stamp =
                applied.and_then(|applied| built.map_or(Some(applied), |b| later(applied, b)));
            self.contest(stripe, user, item, stamp, change.at);
            self.rebuild_if_cached(now, stripe, lane, user, effects);
        }
    }

    /// Notes one remove: nothing leaves the bits, the id is contested.
    pub(super) fn remove(&self, stripe: &mut Stripe, user: UserId, change: Change) {
        let Op::Remove(item) = change.op else { return };
        if !self.defends(Rule::R10) {
            return;
        }
        self.hold_back(stripe, user, change);
        self.contest(stripe, user, item, change.stamp, change.at);
    }

    /// True if there is an entry, or one is being built.
    pub(super) fn is_held(&self, stripe: &Stripe, user: UserId) -> bool {
        stripe.find(&self.key, user).is_some()
            || stripe.side.get(&user).is_some_and(|side| side.build.is_some())
    }

    /// Lets storage decide about an id from now on. Too many contested ids drop the entry, so that
    /// everything is asked in storage. Of a user who is not held, journal and ring know enough.
    fn contest(
        &self,
        stripe: &mut Stripe,
        user: UserId,
        item: Item,
        stamp: Option<CommitStamp>,
        since: Tick,
    ) {
        if !self.defends(Rule::R10) || !self.is_held(stripe, user) {
            return;
        }
        let side = stripe.side.entry(user).or_default();
        if !side.contest(item, stamp, since) {
            // A build under way may have read ids that are no longer listed: it must not install.
            // Journal and ring keep what it held back.
            side.contested.clear();
            side.stamp = None;
            side.build = None;
            if side.is_plain() {
                stripe.side.remove(&user);
            }
            drop(self.drop_entry(stripe, user));
        }
    }

    /// Raises the whole partition's epoch (rule R8) under the lane's lock.
    pub(super) fn doubt_lane(
        &self,
        now: Tick,
        lane: &Lane,
        state: &mut LaneState,
        reason: &'static str,
        effects: &mut Effects,
    ) {
        if self.defends(Rule::R8) {
            state.doubt(now);
            state.lost_upstream |= LOST_UPSTREAM.contains(&reason);
        }
        lane.publish(state);
        effects.push(Effect::Doubted { feed: lane.feed, reason });
    }

    /// Keeps a change for the install of a build under way. One too many aborts the build: it is
    /// refused at its install (row 8). A change without a stamp, or with one of another numbering than the
    /// feed's, cannot be folded: the journal has it until its event has come back with one.
    fn hold_back(&self, stripe: &mut Stripe, user: UserId, change: Change) {
        let Some(build) = stripe.side.get_mut(&user).and_then(|side| side.build.as_mut()) else {
            return;
        };
        let applied = self.any_lane(user).and_then(|lane| lane.state.lock().applied);
        let folds = |stamp| applied.is_none_or(|applied: CommitStamp| applied.comparable(stamp));
        // One beyond the bound marks the overflow.
        if change.stamp.is_some_and(folds)
            && build.pending.len() <= self.settings.pending_events_max
        {
            build.pending.push(change);
        }
    }
}
