//! Puts ready-made users into memory without reading storage, for benchmarks: filling a gigabyte of
//! filters by marks would take storage hours. It goes through the same steps as any build, so that
//! the rules hold; but nobody vouches that storage has what the state says.

use seen_filter::build::Builder;
use seen_filter::state::UserState;
use seen_filter::{PrimaryId, SnapshotId, Tick, UserEpoch, UserId};
use thiserror::Error;

use crate::replica::Replica;
use crate::rules::{Input, Install, Origin, Outcome, Refusal, Rules};

/// Why a user was not put into memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PreloadError {
    /// No namespace has this name.
    #[error("no namespace has this name; use one of the configuration's")]
    UnknownNamespace,
    /// A build of the user was under way already.
    #[error("the user is being built; preload users that nobody asks for")]
    Busy,
    /// The rules refused the install.
    #[error("the install was refused ({}); wait until the feed is followed", .0.label())]
    Refused(Refusal),
}

/// Builds a user's entry as storage's side of a build does, from a state made beforehand. Only for
/// users of whom storage has no rows beyond those in `state`: others would be answered wrongly.
///
/// # Errors
/// [`PreloadError`].
pub fn install(
    rules: &Rules,
    now: Tick,
    user: UserId,
    state: UserState,
) -> Result<(), PreloadError> {
    // Rule R1: Building first. The effect that asks for storage to be read is answered right here.
    let generation = match rules.step(now, Input::Rebuild { user }).0 {
        Outcome::Building(generation) => generation,
        Outcome::Refused(refusal) => return Err(PreloadError::Refused(refusal)),
        _ => return Err(PreloadError::Busy),
    };
    // Of unknown position: rule R2 then demands that the ring reaches back to this very tick.
    let snapshot = SnapshotId { primary: PrimaryId::default(), lower_bound: None };
    let (user_epoch, origin) = (UserEpoch::default(), Origin::Storage);
    let install = Install { user, generation, state, snapshot, user_epoch, origin };
    match rules.step(now, Input::Install(install)).0 {
        Outcome::Refused(refusal) => Err(PreloadError::Refused(refusal)),
        _ => Ok(()),
    }
}

impl Replica {
    /// A builder of states as a namespace holds them, `None` where no namespace has this name.
    pub fn builder(&self, namespace: &str) -> Option<Builder> {
        let rules = &self.namespaces[self.namespace_index(namespace)?].rules;
        Some(Builder::new(rules.key(), rules.sizing()))
    }

    /// Puts a user into memory; see [`install`].
    ///
    /// # Errors
    /// [`PreloadError`].
    pub fn preload(
        &self,
        namespace: &str,
        user: UserId,
        state: UserState,
    ) -> Result<(), PreloadError> {
        let at = self.namespace_index(namespace).ok_or(PreloadError::UnknownNamespace)?;
        install(&self.namespaces[at].rules, self.ticker.now(), user, state)
    }
}
