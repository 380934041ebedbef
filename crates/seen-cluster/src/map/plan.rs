//! How a map becomes another one while everything runs: whole maps, one after the other, and what to wait for between them.
//!
//! A virtual slot changes hands in three epochs. *Prepare*: the old slot owns it, the new one follows and warms it. *Switch*: the new
//! one owns it, the old one still follows it, for whoever has not read the map yet. *Done*: the old one lets go of it. Replicas that
//! come are there from the first epoch on and take part as soon as they are ready; those that go have weight 0 in the second and are gone in
//! the third. A map says by `incoming` and `leaving` how far its change went, so that one that was broken off can be finished
//! from the map alone.

mod describe;
mod goal;
mod steps;
mod wait;

use std::time::Duration;

pub use goal::{Members, Target, Wish};
pub use wait::{Member, Wait};

use super::{MapError, SlotMap, SlotNumber};

/// What a plan holds to.
#[derive(Clone, Debug)]
pub struct PlanOptions {
    /// A slot owns virtual slots once so many thousandths of their users are in each of its replicas.
    pub incoming_permille_min: u32,
    /// How long a slot follows what it does not own any more, and replicas that go stay, once everybody is known to have the new map.
    /// Longer than a request may take and than a proxy needs to look at its file.
    pub drain: Duration,
}

impl Default for PlanOptions {
    fn default() -> Self {
        Self { incoming_permille_min: 950, drain: Duration::from_secs(10) }
    }
}

/// Which part of a change a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StepKind {
    /// New owners follow and warm; new replicas are there.
    Prepare,
    /// New owners own; old ones still follow.
    Switch,
    /// As wished.
    Done,
}

impl StepKind {
    /// Its name, for people.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Prepare => "prepare",
            Self::Switch => "switch",
            Self::Done => "done",
        }
    }
}

/// One epoch of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// Which part of the change it is.
    pub kind: StepKind,
    /// The whole map. That of the first step may be the one in place, if it is a change that was broken off: then only its wait is left.
    pub map: SlotMap,
    /// What to wait for before the next step, or before the change is over.
    pub wait: Wait,
    /// What changes with it, a line each, for people.
    pub lines: Vec<String>,
}

/// A change, step by step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The map that it begins with.
    pub from: SlotMap,
    /// What to do. None: all is as wished.
    pub steps: Vec<Step>,
}

impl Plan {
    /// The map at its end.
    pub fn goal(&self) -> &SlotMap {
        self.steps.last().map_or(&self.from, |step| &step.map)
    }
}

/// Why there is no plan.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// A wish is about a pool that does not exist.
    #[error("no pool has the tag {0:?}")]
    NoPool(String),
    /// A wish is about a slot that does not exist.
    #[error("pool {0:?} has no slot {1}")]
    NoSlot(String, SlotNumber),
    /// A slot would be left that owns nothing, or a pool without a slot.
    #[error("slot {1} of pool {0:?} would own nothing: remove it, or give it virtual slots")]
    OwnsNothing(String, SlotNumber),
    /// The wished map is another cluster's, or spreads users by another key.
    #[error("the wished map has another {0}: that is another cluster, not a change of this one")]
    OtherCluster(&'static str),
    /// The wished map is one of a change that is going on.
    #[error(
        "the wished map has incoming or leaving virtual slots: wish for what is to be in the end"
    )]
    Unsettled,
    /// Two wishes cannot both be, or not be wished again later.
    #[error("the wishes for pool {0:?} contradict each other: {1}")]
    Contradiction(String, &'static str),
    /// A map on the way would be none.
    #[error("{0}")]
    Map(#[from] MapError),
}

/// How `from` becomes what is wished. A change that was broken off is finished first; what is as wished already needs no step.
///
/// # Errors
///
/// The wish is about something that does not exist, or what is wished is no map.
pub fn plan(from: &SlotMap, target: &Target, options: &PlanOptions) -> Result<Plan, PlanError> {
    let mut all = steps::unfinished(from, options)?;
    let settled = all.last().map_or_else(|| from.clone(), |step| step.map.clone());
    let goal = goal::goal(&settled, target)?;
    all.extend(steps::between(&settled, &goal, options)?);
    Ok(Plan { from: from.clone(), steps: all })
}
