//! What changes from one map to the next, for people.

use seen_filter::VirtualSet;
use std::collections::BTreeMap;

use super::super::{Pool, Slot, SlotMap, SlotNumber};

/// The differences, a line each.
pub(super) fn differences(before: &SlotMap, after: &SlotMap) -> Vec<String> {
    let mut lines = Vec::new();
    for pool in after.pools() {
        match before.pool(pool.tag()) {
            None => {
                lines.push(format!("pool {} comes, with {} slots", pool.tag(), pool.slots().len()))
            }
            Some(old) => in_pool(old, pool, &mut lines),
        }
    }
    let gone = before.pools().iter().filter(|pool| after.pool(pool.tag()).is_none());
    lines.extend(gone.map(|pool| format!("pool {} goes", pool.tag())));
    if before.default_pool() != after.default_pool() {
        let (old, new) = (before.default_pool(), after.default_pool());
        lines.push(format!("requests without a tag go to pool {new}, not {old}"));
    }
    if before.namespace_pools() != after.namespace_pools() {
        lines.push("namespaces have other pools".to_owned());
    }
    if before.settings != after.settings {
        let name = |settings: &[u64]| match settings {
            [] => "any".to_owned(),
            some => some.iter().map(|one| format!("{one:016x}")).collect::<Vec<_>>().join(", "),
        };
        let (old, new) = (name(&before.settings), name(&after.settings));
        lines.push(format!("settings that are accepted: {new} (before: {old})"));
    }
    lines
}

fn in_pool(before: &Pool, after: &Pool, lines: &mut Vec<String>) {
    let tag = after.tag();
    for slot in after.slots() {
        let name = format!("pool {tag}, slot {}", slot.number);
        let nothing = Slot { number: slot.number, ..Slot::default() };
        let old = before.slot(slot.number);
        if old.is_none() {
            lines.push(format!("{name}: comes"));
        }
        let old = old.unwrap_or(&nothing);
        in_slot(&name, before, old, slot, lines);
    }
    let gone = before.slots().iter().filter(|slot| after.slot(slot.number).is_none());
    lines.extend(gone.map(|slot| format!("pool {tag}, slot {}: goes", slot.number)));
}

fn in_slot(name: &str, pool: &Pool, old: &Slot, new: &Slot, lines: &mut Vec<String>) {
    let gained = new.owned.difference(&old.owned);
    if !gained.is_empty() {
        lines.push(format!(
            "{name}: owns {} ({gained}), before {}",
            count(&gained),
            owners(pool, &gained)
        ));
    }
    let follows = new.incoming.difference(&old.followed());
    if !follows.is_empty() {
        let owners = owners(pool, &follows);
        lines.push(format!(
            "{name}: follows and warms {} ({follows}), still {owners}",
            count(&follows)
        ));
    }
    let keeps = new.leaving.difference(&old.leaving);
    if !keeps.is_empty() {
        lines.push(format!("{name}: still follows {} that it owned", count(&keeps)));
    }
    let lets_go = old.followed().difference(&new.followed());
    if !lets_go.is_empty() {
        lines.push(format!("{name}: lets go of {}", count(&lets_go)));
    }
    for replica in &new.replicas {
        let (address, weight) = (&replica.address, replica.weight);
        match old.replicas.iter().find(|known| known.address == *address) {
            None => lines.push(format!("{name}: replica {address} comes, weight {weight}")),
            Some(known) if known.weight != weight => {
                lines.push(format!(
                    "{name}: replica {address} has weight {weight}, before {}",
                    known.weight
                ));
            }
            Some(_) => {}
        }
    }
    for replica in &old.replicas {
        if new.replicas.iter().all(|known| known.address != replica.address) {
            lines.push(format!("{name}: replica {} goes", replica.address));
        }
    }
    for (what, old, new) in [("dns", &old.dns, &new.dns), ("srv", &old.srv, &new.srv)] {
        if old != new {
            let shown = |name: &Option<String>| name.clone().unwrap_or_else(|| "none".to_owned());
            lines.push(format!("{name}: {what} is {}, before {}", shown(new), shown(old)));
        }
    }
}

fn count(set: &VirtualSet) -> String {
    match set.len() {
        1 => "1 virtual slot".to_owned(),
        many => format!("{many} virtual slots"),
    }
}

/// Who owns them: `slot 0's (682) and slot 1's (683)`.
fn owners(pool: &Pool, set: &VirtualSet) -> String {
    let mut counts: BTreeMap<SlotNumber, usize> = BTreeMap::new();
    for slot in set.iter() {
        *counts.entry(pool.owner(slot).number).or_default() += 1;
    }
    let owners: Vec<String> =
        counts.iter().map(|(slot, count)| format!("slot {slot}'s ({count})")).collect();
    owners.join(" and ")
}
