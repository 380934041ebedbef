//! Building and installing: rules R1 and R2, and the installing half of R8 and R10.

use seen_filter::{CommitStamp, Generation, Inserted, Item, SnapshotId, Tick, UserId, UserState};

use super::Rules;
use super::fold::Folded;
use super::input::{Effect, Effects, Install, Origin, Outcome, Refusal};
use super::lane::{Lane, LaneState};
use super::sabotage::Rule;
use super::side::{Build, Change, Contested, Op, Side};
use super::table::{Slot, Stripe, Trust};

impl Rules {
    /// Enters Building (rule R1), unless a build is under way already: concurrent misses share one.
    pub(super) fn begin_build(
        &self,
        now: Tick,
        stripe: &mut Stripe,
        lane: &Lane,
        user: UserId,
        urgent: bool,
        effects: &mut Effects,
    ) {
        if let Some(generation) = self.enter_building(now, stripe, lane, user) {
            effects.push(Effect::StartBuild { user, generation, urgent });
        }
    }

    pub(super) fn enter_building(
        &self,
        now: Tick,
        stripe: &mut Stripe,
        lane: &Lane,
        user: UserId,
    ) -> Option<Generation> {
        if self.defends(Rule::R7) && !lane.following() {
            return None;
        }
        if stripe.side.get(&user).is_some_and(|side| side.build.is_some()) {
            return None;
        }
        let generation = stripe.new_generation();
        let (reg, epoch) = {
            let state = lane.state.lock();
            (state.applied, state.epoch)
        };
        let side = stripe.side.entry(user).or_default();
        side.owes = None;
        side.build =
            Some(Build { generation, reg, epoch, began: now, pending: Vec::new(), doubted: false });
        Some(generation)
    }

    /// Something of this user was removed, or is suspect: what is cached must be built anew by a
    /// snapshot that begins after this moment (rule R10). One follows the build under way.
    pub(super) fn rebuild_if_cached(
        &self,
        now: Tick,
        stripe: &mut Stripe,
        lane: &Lane,
        user: UserId,
        effects: &mut Effects,
    ) {
        if !self.defends(Rule::R10) {
            return;
        }
        if let Some(side) = stripe.side.get_mut(&user)
            && side.build.is_some()
        {
            side.owe(now);
        } else if stripe.find(&self.key, user).is_some() {
            self.begin_build(now, stripe, lane, user, false, effects);
        }
    }

    pub(super) fn rebuild(&self, now: Tick, user: UserId, effects: &mut Effects) -> Outcome {
        let Some(lane) = self.lane(user) else {
            return Outcome::Refused(Refusal::NotFollowed);
        };
        let mut stripe = self.stripe(user);
        match self.enter_building(now, &mut stripe, lane, user) {
            Some(generation) => {
                effects.push(Effect::StartBuild { user, generation, urgent: true });
                Outcome::Building(generation)
            }
            None => {
                if let Some(side) = stripe.side.get_mut(&user) {
                    side.owe(now);
                }
                Outcome::Done
            }
        }
    }

    pub(super) fn build_failed(&self, user: UserId, generation: Generation) -> Outcome {
        let mut stripe = self.stripe(user);
        let build = stripe
            .side
            .get_mut(&user)
            .and_then(|side| side.build.take_if(|build| build.generation == generation));
        if build.is_some() {
            self.came_to_nothing(&mut stripe, user);
        }
        Outcome::Done
    }

    /// A build is given up. Whoever had a reason to rebuild still has it: the next read begins again.
    fn came_to_nothing(&self, stripe: &mut Stripe, user: UserId) {
        let cached = stripe.find(&self.key, user).is_some();
        let Some(side) = stripe.side.get_mut(&user) else { return };
        if cached {
            side.owe(Tick::new(0));
            return;
        }
        // Nobody is held: journal and ring know enough for the next build.
        side.owes = None;
        side.contested.clear();
        side.stamp = None;
        if side.is_plain() {
            stripe.side.remove(&user);
        }
    }

    /// Installs a finished build, whole or not at all.
    pub(super) fn install(&self, now: Tick, install: Install, effects: &mut Effects) -> Outcome {
        let user = install.user;
        let lane = if self.defends(Rule::R7) { self.lane(user) } else { self.any_lane(user) };
        let Some(lane) = lane else {
            // What was begun before the partition was let go of must not stand in the way once it is
            // followed again.
            self.build_failed(user, install.generation);
            return Outcome::Refused(Refusal::NotFollowed);
        };
        let mut stripe = self.stripe(user);
        let result = self.try_install(now, &mut stripe, lane, install);
        match result {
            Ok(true) => self.begin_build(now, &mut stripe, lane, user, false, effects),
            Ok(false) | Err(Refusal::Generation) => {}
            // Row 52 and row 8: the reason to build stands, so it begins anew.
            Err(Refusal::Epoch | Refusal::PendingOverflow) => {
                self.begin_build(now, &mut stripe, lane, user, false, effects);
            }
            Err(_) => self.came_to_nothing(&mut stripe, user),
        }
        match result {
            Ok(_) => Outcome::Installed,
            Err(refusal) => Outcome::Refused(refusal),
        }
    }

    /// The install itself. `Ok(true)` if another build must follow at once.
    fn try_install(
        &self,
        now: Tick,
        stripe: &mut Stripe,
        lane: &Lane,
        install: Install,
    ) -> Result<bool, Refusal> {
        let Install { user, generation, mut state, snapshot, user_epoch, origin } = install;
        let Some(side) = stripe.side.get_mut(&user) else { return Err(Refusal::Generation) };
        // Row 7: compare-and-set on the generation.
        let own =
            |build: &mut Build| build.generation == generation || !self.defends(Rule::R1Generation);
        let Some(build) = side.build.take_if(own) else {
            return Err(Refusal::Generation);
        };
        let mut lane_state = lane.state.lock();
        self.admit(&build, &lane_state, &snapshot, origin)?;
        // Numbers that the feed does not share put none of its events before or after the snapshot: time
        // has to, for own commits as well, lest a remove counts as shown and the add before it does not.
        let shared = |lower: &CommitStamp| {
            lane_state.applied.is_none_or(|applied| applied.domain == lower.domain)
        };
        let lower = snapshot.lower_bound.filter(shared);
        let proof = Proof { lower, began: build.began, lag_us: self.lag_us(origin) };
        let is_older = user_epoch < side.user_epoch && self.defends(Rule::R10UserEpoch);
        if is_older && !proof.began_after(side.user_epoch_at) {
            return Err(Refusal::UserEpoch);
        }
        // Rule R10: what the snapshot is proven to contain need not be asked any more. What is known
        // of the present entry changes only if the new one replaces it.
        let unproven = |known: &&Contested| !proof.shows(known.stamp, known.since);
        let mut next = Side {
            build: None,
            contested: side.contested.iter().filter(unproven).copied().collect(),
            stamp: lower.filter(|lower| !lane_state.cover.is_some_and(|c| c.covers(*lower))),
            user_epoch,
            user_epoch_at: now,
            owes: side.owes,
        };
        self.fold_into(&mut next, &mut state, (user, &build), &lane_state, &proof)?;
        self.contest_own(&mut next, &state, user, &lane_state, &proof)?;
        let owes = self.owes(&mut next, &proof, now);
        self.insert_own(&mut next, &mut state, user, &lane_state, &proof)?;
        **side = next;
        let mut slot = Slot::new(user, generation, build.epoch, state);
        if build.doubted || !self.is_whole(&mut lane_state, user, &proof) {
            slot.trust = Trust::Dirty;
        }
        drop(lane_state);
        if side.is_plain() {
            stripe.side.remove(&user);
        }
        drop(self.put(stripe, slot));
        Ok(owes)
    }

    /// S for storage; nothing bounds how far back a peer stands.
    fn lag_us(&self, origin: Origin) -> Option<u64> {
        (origin == Origin::Storage).then_some(self.settings.snapshot_lag_us_max)
    }

    /// Rule R8: only a snapshot begun S after the feed was whole again, or one that is proven to hold
    /// what was lost, clears a doubt.
    fn is_whole(&self, lane: &mut LaneState, user: UserId, proof: &Proof) -> bool {
        if !self.defends(Rule::R8) || !self.defends(Rule::R8Whole) {
            return true;
        }
        let found = lane.user_gaps.get(&user).copied();
        let user_whole = found.is_none_or(|found| proof.began_after(found));
        if let Some(found) = found.filter(|_| user_whole) {
            lane.user_gaps.remove(&user);
            // What was lost may have been the removal of what the ring still adds.
            lane.ring.forget(user, found);
        }
        let holds_lost = || {
            lane.dropped_below.is_none()
                && !lane.lost_upstream
                && lane.whole_from.zip(proof.lower).is_some_and(|(from, l)| l.covers(from))
        };
        let lane_whole = lane.epoch.get() == 0
            || proof.began_after(lane.whole_since)
            || (proof.lag_us.is_none() && holds_lost());
        user_whole && lane_whole
    }

    /// Rule R10: a remove that the snapshot is not proven to contain owes another build. Where only
    /// time can prove it, that build serves nothing before its time, and would only loop.
    fn owes(&self, side: &mut Side, proof: &Proof, now: Tick) -> bool {
        if !self.defends(Rule::R10) {
            side.owes = None;
            return false;
        }
        let lag_us = self.settings.snapshot_lag_us_max;
        let from = |known: &Contested| match proof.compares(known.stamp) {
            true => now,
            // An add that this snapshot should show and does not: another build at once would not know
            // better.
            false if proof.shows(known.stamp, known.since) => now.plus_us(lag_us),
            false => known.since.plus_us(lag_us),
        };
        let contested = side.contested.iter().map(from);
        if let Some(from) = contested.max() {
            side.owe(from);
        }
        side.owes.is_some_and(|from| from <= now)
    }

    /// Rule R2, and the epochs of R8.
    fn admit(
        &self,
        build: &Build,
        lane: &LaneState,
        snapshot: &SnapshotId,
        origin: Origin,
    ) -> Result<(), Refusal> {
        let defends = self.defends(Rule::R8) && self.defends(Rule::R8Install);
        if build.epoch != lane.epoch && defends {
            return Err(Refusal::Epoch);
        }
        if build.pending.len() > self.settings.pending_events_max {
            return Err(Refusal::PendingOverflow);
        }
        if !self.defends(Rule::R2) {
            return Ok(());
        }
        if self.snapshot_reaches(build, lane, snapshot.lower_bound, origin) {
            Ok(())
        } else {
            Err(Refusal::StaleSnapshot)
        }
    }

    fn snapshot_reaches(
        &self,
        build: &Build,
        lane: &LaneState,
        lower: Option<CommitStamp>,
        origin: Origin,
    ) -> bool {
        match (lower, build.reg) {
            (Some(lower), Some(reg)) if lower.comparable(reg) => {
                lower.covers(reg) || lane.ring.reaches(lower) || !self.defends(Rule::R2Ring)
            }
            // Row 53: storage goes on under another timeline, and the feed has not said so yet. What
            // was applied here and what was read cannot be put in order.
            (Some(lower), Some(reg)) if lower.domain == reg.domain => false,
            // Nothing bounds how far back a donor of unknown position stands (row 31).
            _ if origin == Origin::Peer => false,
            // The position is unknown: the whole ring is merged, and must reach back S before the
            // read began.
            _ => {
                let lag_us = self.settings.snapshot_lag_us_max;
                let from = Tick::new(build.began.get().saturating_sub(lag_us));
                build.began.get() >= lag_us && lane.ring.reaches_tick(from)
            }
        }
    }

    /// Rule R1: into the snapshot go pending and ring, folded by position. What they say was removed
    /// and the snapshot still holds is contested (rule R10).
    fn fold_into(
        &self,
        side: &mut Side,
        state: &mut UserState,
        (user, build): (UserId, &Build),
        lane: &LaneState,
        proof: &Proof,
    ) -> Result<(), Refusal> {
        if !self.defends(Rule::R1) {
            return Ok(());
        }
        let mut changes: Vec<Change> = lane.ring.of(user);
        changes.extend_from_slice(&build.pending);
        // What only time shows is folded as well: a commit may have stalled for longer than S (row 4).
        let folded = Folded::new(changes, |change| proof.shows_stamp(change.stamp));
        let forgotten = folded.removed_all().is_some_and(|all| !proof.shows(all.stamp, all.at));
        if forgotten && state.items() > 0 && self.defends(Rule::R10) {
            // Row 41: whatever this holds may be what was forgotten.
            return Err(Refusal::StaleSnapshot);
        }
        for (item, last) in folded.removes().filter(|(_, last)| !proof.shows(last.stamp, last.at)) {
            if state.contains(&self.key, item) {
                self.contest_in(side, item, last.stamp, last.at)?;
            }
        }
        let bucket = self.bucket_now();
        let span_us = self.settings.namespace.retention.map(|retention| retention.span_ms * 1_000);
        let expired = |at: Tick| span_us.is_some_and(|span_us| build.began >= at.plus_us(span_us));
        let gap = lane.user_gaps.get(&user).filter(|found| proof.began_after(**found));
        let undone = |at: Tick| gap.is_some_and(|found| at <= *found);
        for (item, last) in folded.adds() {
            let old = proof.shows(last.stamp, last.at);
            if old && expired(last.at) {
                continue;
            }
            if old && undone(last.at) {
                if !state.contains(&self.key, item) {
                    self.contest_in(side, item, last.stamp, last.at)?;
                }
                continue;
            }
            let inserted = state.insert(&self.key, &self.sizing, item, bucket);
            if inserted == Inserted::AlreadySeen {
                continue;
            }
            // The read does not show what it should: either its commit still stalls, or a removal has
            // not come by yet.
            if old {
                self.contest_in(side, item, last.stamp, last.at)?;
            } else if last.doubtful {
                self.contest_in(side, item, lane.applied, last.at)?;
            }
        }
        Ok(())
    }

    /// Own removes that the snapshot may precede (rule R10).
    fn contest_own(
        &self,
        side: &mut Side,
        state: &UserState,
        user: UserId,
        lane: &LaneState,
        proof: &Proof,
    ) -> Result<(), Refusal> {
        for row in lane.journal.of(user).filter(|row| !proof.shows(row.stamp, row.at)) {
            match row.op {
                Op::Add(_) => {}
                Op::Remove(item) => {
                    if state.contains(&self.key, item) {
                        self.contest_in(side, item, row.stamp, row.at)?;
                    }
                }
                Op::RemoveAll => return Err(Refusal::StaleSnapshot),
            }
        }
        Ok(())
    }

    /// The other half of R1: own adds that are not proven to have come back, not folded. A suspect one
    /// is contested (rule R10); it owes a rebuild when it is released, and none before.
    fn insert_own(
        &self,
        side: &mut Side,
        state: &mut UserState,
        user: UserId,
        lane: &LaneState,
        proof: &Proof,
    ) -> Result<(), Refusal> {
        if !self.defends(Rule::R1) || !self.defends(Rule::R1Journal) {
            return Ok(());
        }
        let bucket = self.bucket_now();
        for row in lane.journal.of(user).filter(|row| !proof.shows_stamp(row.stamp)) {
            let Op::Add(item) = row.op else { continue };
            state.insert(&self.key, &self.sizing, item, bucket);
            if let Some(suspect) = &row.suspect {
                self.contest_in(side, item, suspect.stamp, suspect.at)?;
            }
        }
        Ok(())
    }

    /// Contests an id of an entry that is about to be installed. One too many refuses it.
    fn contest_in(
        &self,
        side: &mut Side,
        item: Item,
        stamp: Option<CommitStamp>,
        since: Tick,
    ) -> Result<(), Refusal> {
        if !self.defends(Rule::R10) || side.contest(item, stamp, since) {
            return Ok(());
        }
        Err(Refusal::StaleSnapshot)
    }
}

/// What a snapshot is proven to show.
struct Proof {
    lower: Option<CommitStamp>,
    began: Tick,
    /// How late it may be, if anything bounds that.
    lag_us: Option<u64>,
}

impl Proof {
    /// True if a commit known here since `at` is certainly shown.
    fn shows(&self, stamp: Option<CommitStamp>, at: Tick) -> bool {
        match (self.lower, stamp) {
            (Some(lower), Some(stamp)) if lower.comparable(stamp) => lower.covers(stamp),
            _ => self.began_after(at),
        }
    }

    /// True if a snapshot like this can prove by its position that it shows a commit.
    fn compares(&self, stamp: Option<CommitStamp>) -> bool {
        self.lower.zip(stamp).is_some_and(|(lower, stamp)| lower.comparable(stamp))
    }

    fn shows_stamp(&self, stamp: Option<CommitStamp>) -> bool {
        self.lower.zip(stamp).is_some_and(|(lower, stamp)| lower.covers(stamp))
    }

    /// True if it was begun so long after `at` that everything of that time is shown.
    fn began_after(&self, at: Tick) -> bool {
        self.lag_us.is_some_and(|lag_us| self.began >= at.plus_us(lag_us))
    }
}
