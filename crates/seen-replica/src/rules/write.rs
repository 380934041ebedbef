//! Writing through: rule R4 (commit, insert, acknowledge) and the acknowledged half of R10.

use seen_filter::{CommitStamp, Item, Tick, UserEpoch, UserId};

use std::sync::atomic::Ordering;

use super::Rules;
use super::input::{Claim, Effect, Effects, Outcome};
use super::journal::WriteId;
use super::lane::{Lane, LaneState};
use super::sabotage::Rule;
use super::side::{Change, Op};
use super::table::Stripe;

/// A write's user, items and commit.
type Written<'a> = (UserId, &'a [Item], Option<CommitStamp>);

impl Rules {
    pub(super) fn begin_write(&self, user: UserId, items: &[Item]) -> Outcome {
        // A user of no lane has no journal; its write still needs a number that ends it.
        let Some(lane) = self.any_lane(user) else { return Outcome::Began(WriteId(0)) };
        let write = lane.state.lock().journal.begin(user, items.iter().copied());
        Outcome::Began(write)
    }

    pub(super) fn abandoned(&self, write: WriteId, user: UserId) -> Outcome {
        if let Some(lane) = self.any_lane(user) {
            lane.state.lock().journal.abandon(write);
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
                self.add(
                    now,
                    stripe,
                    lane,
                    user,
                    Change { stamp, at: now, op: Op::Add(*item) },
                    effects,
                );
            }
        }
        let mut state = lane.state.lock();
        let seq = state.journal.acknowledge();
        let overflow = if self.defends(Rule::R4) {
            state.journal.commit(write, stamp, seq)
        } else {
            state.journal.abandon(write);
            false
        };
        if overflow {
            self.doubt_lane(now, lane, &mut state, "journal_overflow", effects);
        }
        Outcome::Acknowledged(self.claim(lane, seq, stamp))
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
            self.remove(
                now,
                &mut guard,
                lane,
                user,
                Change { stamp, at: now, op: Op::Remove(*item) },
            );
        }
        self.rebuild_if_cached(now, &mut guard, lane, user, effects);
        let mut state = lane.state.lock();
        state.journal.abandon(write);
        for item in items {
            // An own mark of the id may still be in the journal: what it says is now in doubt.
            state.journal.suspect(user, Some(*item));
        }
        let seq = state.journal.acknowledge();
        Outcome::Acknowledged(self.claim(lane, seq, stamp))
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
        self.raise_user_epoch(now, &mut guard, lane, user, epoch, effects);
        let seq = lane.state.lock().journal.acknowledge();
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
        let Some(slot) = stripe.find_mut(&self.key, user) else { return };
        let before = slot.state.heap_bytes();
        slot.state.insert(&self.key, &self.sizing, item, bucket);
        let grown = slot.state.heap_bytes() as i64 - before as i64;
        let due = grown != 0 && slot.state.rebuild_due(&self.sizing);
        if grown != 0 {
            self.count_bytes(grown);
        }
        if due {
            self.begin_build(now, stripe, lane, user, false, effects);
        }
    }

    /// Notes one remove: nothing leaves the bits, the id is contested. Too many contested ids drop
    /// the entry, so that everything is asked in storage.
    pub(super) fn remove(
        &self,
        now: Tick,
        stripe: &mut Stripe,
        _lane: &Lane,
        user: UserId,
        change: Change,
    ) {
        let Op::Remove(item) = change.op else { return };
        if !self.defends(Rule::R10) {
            return;
        }
        self.hold_back(stripe, user, change);
        let cached = stripe.find(&self.key, user).is_some();
        let building = stripe.side.get(&user).is_some_and(|side| side.build.is_some());
        if !cached && !building {
            return;
        }
        let side = stripe.side.entry(user).or_default();
        if !side.contest(item, change.stamp, now) {
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
        }
        lane.publish(state);
        effects.push(Effect::Doubted { feed: lane.feed, reason });
    }

    /// Keeps a change for the install of a build under way. One too many aborts the build: it is
    /// refused at its install (row 8).
    fn hold_back(&self, stripe: &mut Stripe, user: UserId, change: Change) {
        let Some(build) = stripe.side.get_mut(&user).and_then(|side| side.build.as_mut()) else {
            return;
        };
        // One beyond the bound marks the overflow.
        if build.pending.len() <= self.settings.pending_events_max {
            build.pending.push(change);
        }
    }
}
