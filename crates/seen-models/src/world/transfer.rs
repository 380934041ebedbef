//! Transfers: a replica takes an entry over from its peer.

use seen_filter::{Generation, UserId};
use seen_replica::rules::{Input, Outcome};

use super::action::name;
use super::config::USERS;
use super::{World, nth, pick};
use crate::landmark::Landmark;

/// A transfer under way.
#[derive(Hash)]
pub struct Transfer {
    pub to: usize,
    user: u64,
    generation: Generation,
    bytes: Option<Vec<u8>>,
}

impl Transfer {
    /// True if the peer has given its entry.
    pub fn is_given(&self) -> bool {
        self.bytes.is_some()
    }
}

impl World {
    pub(super) fn request(&mut self, replica: u8, user: u8) -> bool {
        let to = usize::from(replica) % 2;
        let user = pick(&USERS, user);
        self.trace(to, ("request", user));
        let outcome = self.step(to, Input::BeginTransfer { user: UserId::new(user) });
        let Outcome::Building(generation) = outcome else { return false };
        self.say(|| format!("{} is to take u{user} over from its peer ({generation})", name(to)));
        self.transfers.push(Transfer { to, user, generation, bytes: None });
        true
    }

    pub(super) fn donate(&mut self, transfer: u8) -> bool {
        let Some(at) = nth(&self.transfers, transfer, |t| !t.is_given()) else { return false };
        let Transfer { to, user, generation, .. } = self.transfers[at];
        let from = 1 - to;
        let outcome = self.step(from, Input::Donate { user: UserId::new(user) });
        self.replicas[from].steps -= 1;
        match outcome {
            Outcome::Donated(bytes) => {
                let applied = self.replicas[from].rules.entry(UserId::new(user), None).cover;
                let applied = applied.map(|stamp| stamp.position);
                self.say(|| format!("{} gives u{user} as of {applied:?}", name(from)));
                self.transfers[at].bytes = Some(bytes);
            }
            outcome => {
                self.say(|| format!("{} does not give u{user}: {outcome:?}", name(from)));
                self.transfers.remove(at);
                self.give_up(to, user, generation);
            }
        }
        true
    }

    pub(super) fn arrive(&mut self, transfer: u8, torn: bool) -> bool {
        let Some(at) = nth(&self.transfers, transfer, Transfer::is_given) else { return false };
        let Transfer { to, user, generation, bytes } = self.transfers.remove(at);
        let Some(mut bytes) = bytes else { return false };
        if torn {
            let middle = bytes.len() / 2;
            bytes[middle] ^= 4;
        }
        self.trace(to, ("transferred", user, generation, &bytes));
        self.say(|| format!("u{user} arrives at {}", name(to)));
        let user = UserId::new(user);
        let outcome = self.step(to, Input::Transferred { generation, bytes: &bytes, user });
        if matches!(outcome, Outcome::Installed) {
            self.reach(Landmark::Transferred);
        }
        self.say(|| format!("{outcome:?}"));
        true
    }
}
