//! Whether all that a step waits for is so.

use super::super::plan::Step;
use super::super::{Slot, SlotNumber};
use super::{ApplyOptions, ClusterState, ReplicaReport, ReplicaSays};

/// What was found of what a step waits for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Judgement {
    /// What is missing, for people. Nothing: on with it.
    pub missing: Vec<String>,
    /// Replicas that are as they should be, of all that count.
    pub fulfilled: usize,
    /// All that count.
    pub replicas: usize,
    /// How warm the least warm of the new owners' replicas is, in thousandths.
    pub incoming_permille: u32,
}

/// Compares what a step waits for with how the cluster fares.
pub fn judge(step: &Step, state: &ClusterState, options: &ApplyOptions) -> Judgement {
    let mut judgement = Judgement { incoming_permille: 1_000, ..Judgement::default() };
    for pool in step.map.pools() {
        for slot in pool.slots() {
            judge_slot(step, state, options, (pool.tag(), slot), &mut judgement);
        }
    }
    for proxy in &state.proxies {
        match &proxy.epoch {
            Ok(epoch) if *epoch >= step.map.epoch => {}
            Ok(epoch) => judgement.missing.push(format!("proxy {} has epoch {epoch}", proxy.name)),
            Err(why) => judgement.missing.push(format!("proxy {}: {why}", proxy.name)),
        }
    }
    judgement
}

fn judge_slot(
    step: &Step,
    state: &ClusterState,
    options: &ApplyOptions,
    (tag, slot): (&str, &Slot),
    judgement: &mut Judgement,
) {
    let wait = &step.wait;
    let counts = |name: &str| !wait.excused.iter().any(|one| one.is(tag, slot.number, name));
    let here = |report: &&ReplicaReport| report.tag == tag && report.slot == slot.number;
    let reports: Vec<&ReplicaReport> = state.replicas.iter().filter(here).collect();
    let stated = slot.replicas.iter().map(|replica| replica.address.as_str());
    let unseen = stated.filter(|name| reports.iter().all(|report| report.name != *name));
    // Whoever is missing among the reports is as silent as one that does not answer.
    let mut silent: Vec<String> = unseen
        .filter(|name| counts(name))
        .map(|name| format!("{name} ({}): not found", place(tag, slot.number)))
        .collect();
    let mut speak = 0;
    for report in reports.into_iter().filter(|report| counts(&report.name)) {
        let name = format!("{} ({})", report.name, place(tag, slot.number));
        match &report.said {
            Err(why) => silent.push(format!("{name}: {why}")),
            Ok(says) => {
                speak += 1;
                match judge_replica(step, (tag, slot.number), &report.name, *says, judgement) {
                    None => judgement.fulfilled += 1,
                    Some(missing) => judgement.missing.push(format!("{name}: {missing}")),
                }
            }
        }
    }
    judgement.replicas += speak + silent.len();
    let is_excused = wait
        .excused
        .iter()
        .any(|one| one.address.is_none() && one.tag == tag && one.slot == slot.number);
    if speak == 0 && silent.is_empty() && !is_excused {
        judgement.missing.push(format!("{}: no replica is known", place(tag, slot.number)));
    }
    if silent.len() > options.silent_replicas_max || (speak == 0 && !silent.is_empty()) {
        judgement.missing.extend(silent);
    }
}

fn place(tag: &str, slot: SlotNumber) -> String {
    format!("pool {tag}, slot {slot}")
}

/// What one replica lacks.
fn judge_replica(
    step: &Step,
    (tag, slot): (&str, SlotNumber),
    name: &str,
    says: ReplicaSays,
    judgement: &mut Judgement,
) -> Option<String> {
    let wait = &step.wait;
    let is_warming = wait.warm.iter().any(|one| one.is(tag, slot, name));
    let is_behind = says.epoch < step.map.epoch;
    if is_warming {
        // What it says by another map is about other users.
        let warm = if is_behind { 0 } else { says.incoming_permille };
        judgement.incoming_permille = judgement.incoming_permille.min(warm);
    }
    if is_behind {
        return Some(format!("has epoch {}", says.epoch));
    }
    if let Some(settings) = wait.settings.as_ref().filter(|some| !some.contains(&says.settings)) {
        let wanted: Vec<String> = settings.iter().map(|one| format!("{one:016x}")).collect();
        return Some(format!("has settings {:016x}, not {}", says.settings, wanted.join(" or ")));
    }
    if !says.is_ready && wait.ready.iter().any(|one| one.is(tag, slot, name)) {
        return Some("is not ready".to_owned());
    }
    if is_warming && says.incoming_permille < wait.incoming_permille_min {
        let percent = f64::from(says.incoming_permille) / 10.0;
        return Some(format!("has {percent} % of the incoming users"));
    }
    None
}
