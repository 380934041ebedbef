//! Applying change events: rule R6 (apply, then advance), R8 (gaps), and the event half of R10.

use seen_filter::{
    CommitStamp, FeedBatch, FeedEvent, FeedId, FenceSeq, GapScope, Incarnation, Tick, UserEpoch,
    UserId,
};

use super::Rules;
use super::input::{Effect, Effects, Outcome};
use super::journal::Suspicion;
use super::lane::{Lane, LaneState};
use super::sabotage::Rule;
use super::side::{Change, Op};
use super::table::Stripe;

/// Most users of one partition whose lost events are remembered; one more puts the whole partition in
/// doubt.
const USER_GAPS_MAX: usize = 1_024;

impl Rules {
    pub(super) fn apply(
        &self,
        now: Tick,
        feed: FeedId,
        batch: &FeedBatch,
        effects: &mut Effects,
    ) -> Outcome {
        let Some(lane) = self.lanes.get(&feed) else { return Outcome::Done };
        let mut doubtful = Vec::with_capacity(batch.events.len());
        {
            let mut state = lane.state.lock();
            for event in &batch.events {
                doubtful.push(self.record(now, lane, &mut state, event, effects));
            }
        }
        // An install that comes here in between finds the events in the ring; one that came before
        // is inserted into below. So none is missed.
        for (event, doubtful) in batch.events.iter().zip(doubtful) {
            self.apply_to_user(now, lane, event, doubtful, effects);
        }
        let suspects = self.advance(now, lane, &batch.events, effects);
        self.rebuild_suspects(now, lane, suspects, effects);
        let proves = self.settings.quiet_is_fresh || !self.defends(Rule::R9Quiet);
        if batch.caught_up && proves {
            lane.set_fresh(now);
        }
        Outcome::Done
    }

    /// Nobody reads this partition any more: no user of it is believed, and the next beginning is as the first one.
    pub(super) fn unfollow(&self, now: Tick, feed: FeedId) -> Outcome {
        if let Some(lane) = self.lanes.get(&feed) {
            lane.unfollow(&mut lane.state.lock(), now);
        }
        Outcome::Done
    }

    fn rebuild_suspects(
        &self,
        now: Tick,
        lane: &Lane,
        suspects: Vec<UserId>,
        effects: &mut Effects,
    ) {
        for user in suspects {
            let mut stripe = self.stripe(user);
            self.rebuild_if_cached(now, &mut stripe, lane, user, effects);
        }
    }

    /// First pass, under the lane's lock: the ring, suspects, and doubts. True for an add that a
    /// remove may come after which is known here already.
    fn record(
        &self,
        now: Tick,
        lane: &Lane,
        state: &mut LaneState,
        event: &FeedEvent,
        effects: &mut Effects,
    ) -> bool {
        let mut again = false;
        let mut doubtful = false;
        if let Some(stamp) = event.stamp() {
            self.check_timeline(now, lane, state, stamp, effects);
            state.whole_from.get_or_insert(stamp);
            state.replaying = state.applied.is_some_and(|applied| stamp < applied);
            again = state.replaying || state.cover.is_some_and(|cover| cover.covers(stamp));
            if !self.defends(Rule::R6) {
                // Sabotage: one row of a transaction stands for all of it.
                state.cover = Some(stamp);
                state.applied = Some(stamp);
            }
        }
        match *event {
            // Whoever fills a topic may say again what the source said before a remove, and at places of
            // its own: no number tells such an add from a later one.
            FeedEvent::Add { stamp, user, item } => {
                doubtful = again
                    || state.journal.removes(user, item)
                    || (!self.settings.quiet_is_fresh && state.ring.removed_last(user, item));
                let change = change(stamp, now, Op::Add(item), doubtful);
                state.ring.push(user, stamp, change, again);
            }
            FeedEvent::Remove { stamp, user, item } => {
                let change = change(stamp, now, Op::Remove(item), false);
                state.ring.push(user, stamp, change, again);
                let suspicion = Suspicion { stamp: Some(stamp), at: now };
                if self.defends(Rule::R10Suspect) {
                    state.journal.suspect(user, Some(item), suspicion);
                }
            }
            FeedEvent::RemoveAll { stamp, user } => {
                state.ring.push(user, stamp, change(stamp, now, Op::RemoveAll, false), again);
                if self.defends(Rule::R10Suspect) {
                    state.journal.suspect(user, None, Suspicion { stamp: Some(stamp), at: now });
                }
            }
            FeedEvent::Gap { scope: GapScope::Partition, reason } => {
                self.doubt_lane(now, lane, state, reason, effects);
            }
            FeedEvent::Gap { scope: GapScope::User(user), .. } => {
                state.journal.suspect(user, None, Suspicion { stamp: None, at: now });
                state.user_gaps.insert(user, now);
                if state.user_gaps.len() > USER_GAPS_MAX {
                    state.user_gaps.clear();
                    self.doubt_lane(now, lane, state, "user_gaps", effects);
                }
            }
            FeedEvent::Complete { stamp } => {
                if !again {
                    state.ring.begin_after(stamp);
                }
            }
            FeedEvent::Forgotten { .. } | FeedEvent::Fence { .. } => {}
        }
        doubtful
    }

    /// Row 53: numbers of another timeline say nothing about what was applied before.
    fn check_timeline(
        &self,
        now: Tick,
        lane: &Lane,
        state: &mut LaneState,
        stamp: CommitStamp,
        effects: &mut Effects,
    ) {
        if state.applied.is_some_and(|applied| !applied.comparable(stamp)) {
            state.applied = None;
            state.cover = None;
            self.doubt_lane(now, lane, state, "timeline_changed", effects);
        }
    }

    /// Second pass, a user at a time.
    fn apply_to_user(
        &self,
        now: Tick,
        lane: &Lane,
        event: &FeedEvent,
        doubtful: bool,
        effects: &mut Effects,
    ) {
        match *event {
            FeedEvent::Add { stamp, user, item } => {
                let mut stripe = self.stripe(user);
                let change = change(stamp, now, Op::Add(item), doubtful);
                self.add(now, &mut stripe, lane, user, change, effects);
            }
            FeedEvent::Remove { stamp, user, item } => {
                let mut stripe = self.stripe(user);
                self.remove(&mut stripe, user, change(stamp, now, Op::Remove(item), false));
                self.rebuild_if_cached(now, &mut stripe, lane, user, effects);
            }
            FeedEvent::RemoveAll { user, .. } => {
                let mut stripe = self.stripe(user);
                self.restart(&mut stripe, user);
            }
            FeedEvent::Forgotten { user, epoch, .. } => {
                let mut stripe = self.stripe(user);
                self.raise_user_epoch(now, &mut stripe, lane, user, epoch, effects);
            }
            FeedEvent::Gap { scope: GapScope::User(user), reason } => {
                let mut stripe = self.stripe(user);
                self.doubt_user(now, &mut stripe, lane, user, effects);
                effects.push(Effect::Doubted { feed: lane.feed, reason });
            }
            FeedEvent::Gap { scope: GapScope::Partition, .. }
            | FeedEvent::Fence { .. }
            | FeedEvent::Complete { .. } => {}
        }
    }

    /// Third pass: everything is applied, so positions, cover and fences may advance. Returns the
    /// users whose released journal rows were suspect.
    fn advance(
        &self,
        now: Tick,
        lane: &Lane,
        events: &[FeedEvent],
        effects: &mut Effects,
    ) -> Vec<UserId> {
        let mut state = lane.state.lock();
        for event in events {
            if let Some(stamp) = event.stamp()
                && state.applied.is_none_or(|applied| applied < stamp)
            {
                state.applied = Some(stamp);
            }
            match *event {
                FeedEvent::Fence { writer, seq, .. } => {
                    // Row 25: as fresh as when the fence was begun. A feed that is never quiet has no
                    // other proof.
                    let own = writer == self.settings.incarnation;
                    if own && state.fences.came(seq) && self.defends(Rule::R9Passed) {
                        self.doubt_lane(now, lane, &mut state, "fence_lost", effects);
                    }
                    if let Some(began) = self.fence_returned(&mut state, writer, seq) {
                        lane.set_fresh(began);
                    }
                }
                FeedEvent::Complete { stamp } => {
                    if state.cover.is_none_or(|cover| cover < stamp) {
                        state.cover = Some(stamp);
                    }
                    if !lane.following() {
                        // What was committed before was never delivered here: the ring does not
                        // reach it, and it may have removed what was marked here meanwhile.
                        state.ring.begin_at(now);
                        state.fences.begin_anew();
                        state.journal.suspect_all(Suspicion { stamp: Some(stamp), at: now });
                        lane.set_following();
                    }
                }
                _ => {}
            }
        }
        self.pass_fence(lane, &mut state);
        if self.settings.heartbeat_fences {
            self.begin_fence(now, lane.feed, &mut state, effects);
        }
        let mut suspects = Vec::new();
        let mut more = state.release(&mut suspects);
        lane.publish(&state);
        drop(state);
        // A fence may prove all that the journal holds: readers get their turn in between.
        while more {
            more = lane.state.lock().release(&mut suspects);
        }
        suspects
    }

    /// A fence that stands for a commit comes back with it.
    fn pass_fence(&self, lane: &Lane, state: &mut LaneState) {
        let passed = match self.defends(Rule::R9Stands) {
            true => state.fences.passed(state.cover),
            false => state.fences.passed_too_soon(),
        };
        if let Some(seq) = passed
            && let Some(began) = self.fence_returned(state, self.settings.incarnation, seq)
        {
            lane.set_fresh(began);
        }
    }

    /// Storage's newest commit stands for a fence; it may be complete already.
    pub(super) fn fence_stands(
        &self,
        now: Tick,
        feed: FeedId,
        seq: FenceSeq,
        at: CommitStamp,
        effects: &mut Effects,
    ) -> Outcome {
        let Some(lane) = self.lanes.get(&feed) else { return Outcome::Done };
        lane.state.lock().fences.stands(seq, at);
        let suspects = self.advance(now, lane, &[], effects);
        self.rebuild_suspects(now, lane, suspects, effects);
        Outcome::Done
    }

    pub(super) fn fence_returned(
        &self,
        state: &mut LaneState,
        writer: Incarnation,
        seq: FenceSeq,
    ) -> Option<Tick> {
        if !self.defends(Rule::R9) {
            state.fences.returned_too_generously();
            let all = state.journal.next_seq();
            state.journal.fenced(all);
        }
        if !self.defends(Rule::R9Presented) {
            state.fences.returned_too_generously();
        }
        if !self.defends(Rule::R9Released) {
            let all = state.journal.next_seq();
            state.journal.fenced(all);
        }
        // Row 58: only this incarnation's own fence proves anything here.
        if writer != self.settings.incarnation && self.defends(Rule::R9Writer) {
            return None;
        }
        let (acknowledged_before, began) = state.fences.returned(seq)?;
        state.journal.fenced(acknowledged_before);
        if state.dropped_below.is_some_and(|dropped| dropped <= acknowledged_before) {
            state.dropped_below = None;
        }
        Some(began)
    }

    /// Drops the entry and the build of a user all of whose rows are gone: what is read from now on
    /// shows it, and the ring holds it for builds that began before.
    fn restart(&self, stripe: &mut Stripe, user: UserId) {
        if !self.defends(Rule::R10) || !self.defends(Rule::R10Forget) {
            return;
        }
        drop(self.drop_entry(stripe, user));
        if let Some(side) = stripe.side.get_mut(&user) {
            side.build = None;
            side.contested.clear();
            side.stamp = None;
            side.owes = None;
            if side.is_plain() {
                stripe.side.remove(&user);
            }
        }
    }

    /// Row 49: a forget, from the feed. Ignored unless it is newer than the one known; ring and journal
    /// are left alone.
    pub(super) fn raise_user_epoch(
        &self,
        now: Tick,
        stripe: &mut Stripe,
        lane: &Lane,
        user: UserId,
        epoch: UserEpoch,
        effects: &mut Effects,
    ) {
        let known = stripe.side.get(&user).map_or(UserEpoch::default(), |side| side.user_epoch);
        if epoch > known && self.is_held(stripe, user) {
            self.begin_epoch(now, stripe, lane, user, epoch, effects);
        }
    }

    /// Builds a forgotten user anew.
    pub(super) fn begin_epoch(
        &self,
        now: Tick,
        stripe: &mut Stripe,
        lane: &Lane,
        user: UserId,
        epoch: UserEpoch,
        effects: &mut Effects,
    ) {
        self.restart(stripe, user);
        let side = stripe.side.entry(user).or_default();
        side.user_epoch = epoch;
        side.user_epoch_at = now;
        self.begin_build(now, stripe, lane, user, false, effects);
    }
}

fn change(stamp: CommitStamp, at: Tick, op: Op, doubtful: bool) -> Change {
    Change { stamp: Some(stamp), at, op, doubtful }
}
