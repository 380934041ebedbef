//! The maps between two.

use seen_filter::VirtualSet;
use std::collections::BTreeSet;

use super::super::{Epoch, MapDraft, Pool, PoolDraft, ReplicaAddress, Slot, SlotMap};
use super::wait::{self, Wait};
use super::{PlanError, PlanOptions, Step, StepKind, describe};

/// What is left of a change that was broken off: the map says how far it went.
pub(super) fn unfinished(from: &SlotMap, options: &PlanOptions) -> Result<Vec<Step>, PlanError> {
    if !from.is_changing() {
        return Ok(Vec::new());
    }
    let switched = switched(from)?;
    let done = settled(&switched)?;
    let mut steps = Steps::after(from);
    if switched != *from {
        // Whoever is prepared may not be warm yet.
        steps.in_place(StepKind::Prepare, from, wait::for_prepared(from, from, &done, options));
    }
    steps.push(StepKind::Switch, &switched, wait::for_switched(&switched, &done, options));
    steps.push(StepKind::Done, &done, Wait::default());
    Ok(steps.all)
}

/// The map in which everything that is on its way has arrived.
fn switched(from: &SlotMap) -> Result<SlotMap, PlanError> {
    let mut draft = from.to_draft();
    for pool in &mut draft.pools {
        let arrived = pool.slots.iter().map(|slot| &slot.incoming);
        let arrived = arrived.fold(VirtualSet::NONE, |sum, incoming| sum.union(incoming));
        for slot in &mut pool.slots {
            let lost = slot.owned.intersection(&arrived);
            slot.leaving = slot.leaving.union(&lost).difference(&slot.incoming);
            let incoming = std::mem::take(&mut slot.incoming);
            slot.owned = slot.owned.difference(&lost).union(&incoming);
        }
    }
    Ok(SlotMap::new(draft)?)
}

/// The map in which nothing is kept for old times' sake. A slot that owned something and does not any more is gone.
fn settled(switched: &SlotMap) -> Result<SlotMap, PlanError> {
    let mut draft = switched.to_draft();
    for pool in &mut draft.pools {
        pool.slots.retain(|slot| !slot.owned.is_empty() || slot.leaving.is_empty());
        pool.slots.iter_mut().for_each(|slot| slot.leaving = VirtualSet::NONE);
    }
    Ok(SlotMap::new(draft)?)
}

/// The steps from a map in which no change goes on to another such map.
pub(super) fn between(
    from: &SlotMap,
    goal: &SlotMap,
    options: &PlanOptions,
) -> Result<Vec<Step>, PlanError> {
    if from.says_the_same(goal) {
        return Ok(Vec::new());
    }
    let prepared = SlotMap::new(merged(from, goal, StepKind::Prepare))?;
    let switched = SlotMap::new(merged(from, goal, StepKind::Switch))?;
    let mut steps = Steps::after(from);
    steps.push(StepKind::Prepare, &prepared, wait::for_prepared(from, &prepared, goal, options));
    let wait = wait::for_switched(&switched, goal, options);
    let replicas_go =
        wait::replicas_of(from).any(|one| wait::replicas_of(goal).all(|other| other != one));
    match replicas_go && switched.says_the_same(steps.last_map()) {
        // They had weight 0 before. For how long, nobody knows.
        true => steps.wait_more(wait),
        false => steps.push(StepKind::Switch, &switched, wait),
    }
    steps.push(StepKind::Done, goal, Wait::default());
    Ok(steps.all)
}

/// Steps whose epochs rise. A map that says nothing new is no step.
struct Steps {
    from: SlotMap,
    all: Vec<Step>,
}

impl Steps {
    fn after(from: &SlotMap) -> Self {
        Self { from: from.clone(), all: Vec::new() }
    }

    fn last_map(&self) -> &SlotMap {
        self.all.last().map_or(&self.from, |step| &step.map)
    }

    fn in_place(&mut self, kind: StepKind, map: &SlotMap, wait: Wait) {
        let lines = vec!["this epoch is in place; what is left is to wait".to_owned()];
        self.all.push(Step { kind, map: map.clone(), wait, lines });
    }

    /// Waits for more after the last step, or before the first one.
    fn wait_more(&mut self, wait: Wait) {
        match self.all.last_mut() {
            Some(last) => last.wait.drain = last.wait.drain.max(wait.drain),
            None => {
                let map = self.from.clone();
                self.in_place(StepKind::Switch, &map, wait);
            }
        }
    }

    fn push(&mut self, kind: StepKind, map: &SlotMap, wait: Wait) {
        let before = self.last_map();
        if map.says_the_same(before) {
            match self.all.last_mut() {
                // The change is over earlier than it could be.
                Some(last) if kind == StepKind::Done => last.kind = StepKind::Done,
                Some(_) => {}
                // What no map says has to be waited for all the same: that replicas were given other settings, or are ready.
                None => {
                    let waits = match kind {
                        StepKind::Prepare => wait.settings.is_some() || !wait.ready.is_empty(),
                        StepKind::Switch => self.from.is_changing(),
                        StepKind::Done => false,
                    };
                    if waits {
                        let map = self.from.clone();
                        self.in_place(kind, &map, wait);
                    }
                }
            }
            return;
        }
        let lines = describe::differences(before, map);
        let mut map = map.clone();
        map.epoch = before.epoch.next();
        self.all.push(Step { kind, map, wait, lines });
    }
}

/// What a map on the way says: it serves both what was and what will be.
fn merged(from: &SlotMap, goal: &SlotMap, kind: StepKind) -> MapDraft {
    let switched = kind != StepKind::Prepare;
    let routes = if switched { goal } else { from };
    let tags: BTreeSet<&str> =
        from.pools().iter().chain(goal.pools()).map(|pool| pool.tag()).collect();
    let pool = |tag: &str| match (from.pool(tag), goal.pool(tag)) {
        (Some(before), Some(after)) => merged_pool(before, after, switched),
        (before, after) => {
            let slots = after.or(before).map_or(&[][..], |pool| pool.slots());
            PoolDraft { tag: tag.to_owned(), slots: slots.to_vec() }
        }
    };
    MapDraft {
        epoch: Epoch::new(from.epoch.get().max(1)),
        cluster: goal.cluster,
        slot_key: goal.slot_key,
        settings: merged_settings(&from.settings, &goal.settings),
        namespace_pools: routes.namespace_pools().clone(),
        default_pool: routes.default_pool().to_owned(),
        pools: tags.into_iter().map(pool).collect(),
    }
}

/// Both are accepted on the way; none means any.
fn merged_settings(from: &[u64], goal: &[u64]) -> Vec<u64> {
    if from.is_empty() || goal.is_empty() {
        return Vec::new();
    }
    let new = goal.iter().filter(|one| !from.contains(one));
    from.iter().chain(new).copied().collect()
}

fn merged_pool(before: &Pool, after: &Pool, switched: bool) -> PoolDraft {
    let numbers: BTreeSet<_> =
        before.slots().iter().chain(after.slots()).map(|slot| slot.number).collect();
    let slot = |number| match (before.slot(number), after.slot(number)) {
        (Some(before), Some(after)) => merged_slot(before, after, switched),
        (Some(before), None) if switched => {
            Slot { owned: VirtualSet::NONE, leaving: before.owned, ..before.clone() }
        }
        (Some(before), None) => before.clone(),
        (None, Some(after)) if !switched => {
            Slot { owned: VirtualSet::NONE, incoming: after.owned, ..after.clone() }
        }
        (None, Some(after)) => after.clone(),
        (None, None) => Slot { number, ..Slot::default() },
    };
    PoolDraft { tag: before.tag().to_owned(), slots: numbers.into_iter().map(slot).collect() }
}

fn merged_slot(before: &Slot, after: &Slot, switched: bool) -> Slot {
    let none = VirtualSet::NONE;
    let gained = after.owned.difference(&before.owned);
    let lost = before.owned.difference(&after.owned);
    let name = |before: &Option<String>, after: &Option<String>| match switched {
        true => after.clone().or_else(|| before.clone()),
        false => before.clone().or_else(|| after.clone()),
    };
    let (owned, incoming, leaving) = match switched {
        true => (after.owned, none, lost),
        false => (before.owned, gained, none),
    };
    Slot {
        number: before.number,
        owned,
        incoming,
        leaving,
        replicas: merged_replicas(&before.replicas, &after.replicas, switched),
        dns: name(&before.dns, &after.dns),
        srv: name(&before.srv, &after.srv),
    }
}

/// All of both, in the old order. Those that go have weight 0 once all is ready for it.
fn merged_replicas(
    before: &[ReplicaAddress],
    after: &[ReplicaAddress],
    switched: bool,
) -> Vec<ReplicaAddress> {
    let find = |list: &[ReplicaAddress], address: &str| {
        list.iter().find(|replica| replica.address == address).cloned()
    };
    let old = before.iter().map(|replica| {
        let weight = if switched { 0 } else { replica.weight };
        let going = ReplicaAddress { address: replica.address.clone(), weight };
        find(after, &replica.address).unwrap_or(going)
    });
    let new = after.iter().filter(|replica| find(before, &replica.address).is_none()).cloned();
    old.chain(new).collect()
}
