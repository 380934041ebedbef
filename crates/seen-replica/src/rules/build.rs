//! Building and installing: rules R1 and R2, and the installing half of R8 and R10.

use seen_filter::{CommitStamp, Generation, SnapshotId, Tick, UserId};

use super::Rules;
use super::fold::Folded;
use super::input::{Effect, Effects, Install, Origin, Outcome, Refusal};
use super::lane::{Lane, LaneState};
use super::sabotage::Rule;
use super::side::{Build, Change};
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
        side.owes = false;
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
            side.owes = true;
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
                    side.owes = true;
                }
                Outcome::Done
            }
        }
    }

    pub(super) fn build_failed(&self, user: UserId, generation: Generation) -> Outcome {
        let mut stripe = self.stripe(user);
        if let Some(side) = stripe.side.get_mut(&user) {
            if side.build.as_ref().is_some_and(|build| build.generation == generation) {
                side.build = None;
                // Whoever had a reason to rebuild still has it: the next read begins again.
                side.owes = true;
            }
            if stripe.find(&self.key, user).is_none()
                && let Some(side) = stripe.side.get_mut(&user)
                && side.build.is_none()
            {
                side.owes = false;
                side.contested.clear();
                if side.is_plain() {
                    stripe.side.remove(&user);
                }
            }
        }
        Outcome::Done
    }

    /// Installs a finished build, whole or not at all.
    pub(super) fn install(&self, now: Tick, install: Install, effects: &mut Effects) -> Outcome {
        let user = install.user;
        let lane = if self.defends(Rule::R7) { self.lane(user) } else { self.any_lane(user) };
        let Some(lane) = lane else { return Outcome::Refused(Refusal::NotFollowed) };
        let mut stripe = self.stripe(user);
        let result = self.try_install(&mut stripe, lane, install);
        let again = match result {
            Ok(owes) => owes,
            // Row 52 and row 8: the reason to build stands, so it begins anew.
            Err(Refusal::Epoch | Refusal::PendingOverflow) => true,
            Err(_) => false,
        };
        if again {
            self.begin_build(now, &mut stripe, lane, user, false, effects);
        }
        match result {
            Ok(_) => Outcome::Installed,
            Err(refusal) => Outcome::Refused(refusal),
        }
    }

    /// The install itself. `Ok(true)` if another build must follow.
    pub(super) fn try_install(
        &self,
        stripe: &mut Stripe,
        lane: &Lane,
        install: Install,
    ) -> Result<bool, Refusal> {
        let Install { user, generation, mut state, snapshot, user_epoch, origin } = install;
        let Some(side) = stripe.side.get_mut(&user) else { return Err(Refusal::Generation) };
        // Row 7: compare-and-set on the generation.
        let Some(build) = side.build.take_if(|build| build.generation == generation) else {
            return Err(Refusal::Generation);
        };
        let lane_state = lane.state.lock();
        self.admit(&build, &lane_state, &snapshot, origin)?;
        if user_epoch < side.user_epoch {
            return Err(Refusal::UserEpoch);
        }
        side.user_epoch = user_epoch;
        let folded = self.fold_into(&mut state, user, &build, &lane_state, &snapshot);
        let lower = snapshot.lower_bound;
        // Rule R10: a remove that the snapshot is not proven to contain owes another build.
        let lag_us = self.settings.snapshot_lag_us_max;
        side.contested.retain(|contested| match (lower, contested.stamp) {
            (Some(lower), Some(stamp)) if lower.comparable(stamp) => !lower.covers(stamp),
            _ => build.began < contested.since.plus_us(lag_us),
        });
        // Positions known: what was folded lies above the snapshot. Unknown: the snapshot must have
        // begun S after the remove was applied, or rebuilds would loop as long as the ring holds it.
        let unproven_remove = folded
            .last_remove()
            .is_some_and(|at| lower.is_some() || build.began < at.plus_us(lag_us));
        let unproven = !side.contested.is_empty() || unproven_remove;
        let owes = (unproven || side.owes) && self.defends(Rule::R10);
        side.owes = false;
        side.stamp = lower.filter(|lower| !lane_state.cover.is_some_and(|c| c.covers(*lower)));
        let mut slot = Slot::new(user, generation, build.epoch, state);
        // Rule R8: only a snapshot begun S after the feed was whole again clears a doubt.
        let whole =
            build.began >= lane_state.whole_since.plus_us(lag_us) || lane_state.epoch.get() == 0;
        if build.doubted || (!whole && self.defends(Rule::R8)) {
            slot.trust = Trust::Dirty;
        }
        drop(lane_state);
        if side.is_plain() {
            stripe.side.remove(&user);
        }
        drop(self.put(stripe, slot));
        Ok(owes)
    }

    /// Rule R2, and the epochs of R8.
    fn admit(
        &self,
        build: &Build,
        lane: &LaneState,
        snapshot: &SnapshotId,
        origin: Origin,
    ) -> Result<(), Refusal> {
        if build.epoch != lane.epoch && self.defends(Rule::R8) {
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
                lower.covers(reg) || lane.ring.reaches(lower)
            }
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

    /// Rule R1: snapshot, then pending and ring folded by position, then the journal unfolded.
    fn fold_into(
        &self,
        state: &mut seen_filter::state::UserState,
        user: UserId,
        build: &Build,
        lane: &LaneState,
        snapshot: &SnapshotId,
    ) -> Folded {
        let lower = snapshot.lower_bound;
        if !self.defends(Rule::R1) {
            return Folded::default();
        }
        let mut changes: Vec<Change> = lane.ring.of(user);
        changes.extend_from_slice(&build.pending);
        let folded = Folded::new(changes, lower);
        let bucket = self.bucket_now();
        for item in folded.adds() {
            state.insert(&self.key, &self.sizing, item, bucket);
        }
        for row in lane.journal.of(user) {
            let shown = lower.zip(row.stamp).is_some_and(|(lower, stamp)| lower.covers(stamp));
            if !shown {
                state.insert(&self.key, &self.sizing, row.item, bucket);
            }
        }
        folded
    }
}
