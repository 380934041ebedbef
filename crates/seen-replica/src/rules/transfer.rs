//! Handing entries from replica to replica: rule R3. A transfer is a build whose snapshot is the
//! donor.

use seen_filter::state::UserState;
use seen_filter::transfer::{self, Header};
use seen_filter::{Generation, PrimaryId, SnapshotId, Tick, UserId};

use super::Rules;
use super::input::{Effects, Install, Origin, Outcome, Refusal};
use super::lane::Lane;
use super::sabotage::Rule;
use super::table::{Stripe, Trust};

impl Rules {
    /// Gives a clean entry away: the position first, the bits second, both under the user's lock.
    pub(super) fn donate(&self, user: UserId) -> Outcome {
        let Some(lane) = self.lane(user) else {
            return Outcome::Refused(Refusal::NotFollowed);
        };
        let stripe = self.stripe(user);
        let defends = self.defends(Rule::R3) && self.defends(Rule::R3Clean);
        if defends && !self.is_clean(&stripe, lane, user) {
            return Outcome::Refused(Refusal::NotClean);
        }
        let Some(slot) = stripe.find(&self.key, user) else {
            return Outcome::Refused(Refusal::NotClean);
        };
        let position = lane.state.lock().cover;
        let user_epoch = stripe.side.get(&user).map(|side| side.user_epoch).unwrap_or_default();
        let header = Header {
            namespace: self.settings.namespace.id,
            user,
            user_epoch,
            generation: slot.generation,
            position,
        };
        match transfer::encode(&slot.state, &header, &self.key) {
            Ok(bytes) => Outcome::Donated(bytes),
            // Too large to hand over: the receiver builds from storage.
            Err(_) => Outcome::Refused(Refusal::NotClean),
        }
    }

    /// Row 60: an entry that owes a rebuild, holds a contested id or a suspect journal row, is dirty,
    /// or is being fed a range again, would hand its error over for good.
    fn is_clean(&self, stripe: &Stripe, lane: &Lane, user: UserId) -> bool {
        let Some(slot) = stripe.find(&self.key, user) else { return false };
        let state = lane.state.lock();
        let plain = stripe.side.get(&user).is_none_or(|side| {
            side.build.is_none() && side.contested.is_empty() && side.owes.is_none()
        });
        plain
            && slot.trust == Trust::Clean
            && slot.epoch == state.epoch
            && !state.replaying
            && !state.journal.of(user).any(|row| row.suspect.is_some())
    }

    pub(super) fn begin_transfer(&self, now: Tick, user: UserId) -> Outcome {
        let Some(lane) = self.lane(user) else {
            return Outcome::Refused(Refusal::NotFollowed);
        };
        let mut stripe = self.stripe(user);
        match self.enter_building(now, &mut stripe, lane, user) {
            Some(generation) => Outcome::Building(generation),
            None => Outcome::Refused(Refusal::Generation),
        }
    }

    /// Installs what a peer gave, under the same conditions as a build.
    pub(super) fn transferred(
        &self,
        now: Tick,
        user: UserId,
        generation: Generation,
        bytes: &[u8],
        effects: &mut Effects,
    ) -> Outcome {
        let decoded: Result<(Header, UserState), _> = transfer::decode(bytes, &self.key);
        let (header, state) = match decoded {
            Ok((header, state)) if header.user == user => (header, state),
            _ => {
                self.build_failed(user, generation);
                return Outcome::Refused(Refusal::Torn);
            }
        };
        if header.namespace != self.settings.namespace.id {
            self.build_failed(user, generation);
            return Outcome::Refused(Refusal::Torn);
        }
        let lower_bound = if self.defends(Rule::R3) && self.defends(Rule::R3Position) {
            header.position
        } else {
            // Sabotage: believe that the donor is as far as we are.
            self.lane(user).and_then(|lane| lane.state.lock().applied)
        };
        // The donor's position is its cover, not a primary's read: no primary vouches for it.
        let snapshot = SnapshotId { primary: PrimaryId::default(), lower_bound };
        let user_epoch = header.user_epoch;
        let origin = Origin::Peer;
        let install = Install { user, generation, state, snapshot, user_epoch, origin };
        self.install(now, install, effects)
    }
}
