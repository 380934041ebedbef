//! What to do next.

use std::time::Duration;

use super::super::SlotMap;
use super::super::plan::{Plan, Step};
use super::ApplyError;

/// How far a plan is carried out. Reads no clock: time is what it is told, from any start.
#[derive(Clone, Debug)]
pub struct Course<'a> {
    plan: &'a Plan,
    at: usize,
    phase: Phase,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// The step's map is not in place.
    Write,
    /// It is, since then.
    Look { since: Duration },
    /// All that it waits for is so.
    Drain { until: Duration },
}

/// What to do next.
#[derive(Clone, Copy, Debug)]
pub enum Todo<'a> {
    /// Put a step's map in the place of another one, then say [`Course::written`].
    Write {
        /// Which step, from 0.
        at: usize,
        /// What has to be in place.
        before: &'a SlotMap,
        /// What is to be.
        step: &'a Step,
    },
    /// Look at the cluster until nothing is missing, then say [`Course::fulfilled`].
    Look {
        /// Which step, from 0.
        at: usize,
        /// It.
        step: &'a Step,
        /// Its map is in place since then.
        since: Duration,
    },
    /// Wait.
    Drain {
        /// Which step, from 0.
        at: usize,
        /// So long.
        left: Duration,
    },
    /// It is done.
    Nothing,
}

impl<'a> Course<'a> {
    /// A plan's course from where a map is in it.
    ///
    /// # Errors
    ///
    /// The map is none of the plan's.
    pub fn resume(plan: &'a Plan, current: &SlotMap) -> Result<Self, ApplyError> {
        let in_place = plan.steps.iter().rposition(|step| step.map == *current);
        match in_place {
            // What it waits for may not be so yet, or not any more.
            Some(at) => Ok(Self { plan, at, phase: Phase::Look { since: Duration::ZERO } }),
            None if plan.from == *current => Ok(Self { plan, at: 0, phase: Phase::Write }),
            None => Err(ApplyError::OtherMap(current.epoch)),
        }
    }

    /// What to do now.
    pub fn todo(&mut self, now: Duration) -> Todo<'a> {
        if let Phase::Drain { until } = self.phase
            && until <= now
        {
            self.at += 1;
            self.phase = Phase::Write;
        }
        let (at, plan) = (self.at, self.plan);
        let Some(step) = plan.steps.get(at) else { return Todo::Nothing };
        match self.phase {
            Phase::Write => {
                let before = at.checked_sub(1).and_then(|before| plan.steps.get(before));
                let before = before.map_or(&plan.from, |step| &step.map);
                Todo::Write { at, before, step }
            }
            Phase::Look { since } => Todo::Look { at, step, since },
            Phase::Drain { until } => Todo::Drain { at, left: until.saturating_sub(now) },
        }
    }

    /// The step's map is in place.
    pub fn written(&mut self, now: Duration) {
        self.phase = Phase::Look { since: now };
    }

    /// Nothing is missing.
    pub fn fulfilled(&mut self, now: Duration) {
        let drain = self.plan.steps.get(self.at).map_or(Duration::ZERO, |step| step.wait.drain);
        self.phase = Phase::Drain { until: now + drain };
    }
}
