//! From a map to a file's text.

use seen_filter::VirtualSet;
use std::fmt::Write;

use super::{Pool, Slot, SlotMap, WEIGHT_DEFAULT};

/// The map's text.
pub(super) fn render(map: &SlotMap) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = write_map(&mut text, map);
    text
}

fn write_map(out: &mut String, map: &SlotMap) -> std::fmt::Result {
    let (first, second) = map.slot_key.words();
    writeln!(out, "epoch = {}", map.epoch)?;
    writeln!(out, "cluster = \"{:016x}\"", map.cluster)?;
    writeln!(out, "slot_key = \"{first:016x}{second:016x}\"")?;
    if !map.settings.is_empty() {
        let settings = map.settings.iter().map(|one| format!("\"{one:016x}\""));
        writeln!(out, "settings = [{}]", settings.collect::<Vec<_>>().join(", "))?;
    }
    writeln!(out, "default_pool = {}", quoted(map.default_pool()))?;
    if !map.namespace_pools().is_empty() {
        writeln!(out, "\n[namespace_pools]")?;
        for (namespace, tag) in map.namespace_pools() {
            writeln!(out, "{} = {}", quoted(namespace), quoted(tag))?;
        }
    }
    map.pools().iter().try_for_each(|pool| write_pool(out, pool))
}

fn write_pool(out: &mut String, pool: &Pool) -> std::fmt::Result {
    writeln!(out, "\n[[pool]]")?;
    writeln!(out, "tag = {}", quoted(pool.tag()))?;
    pool.slots().iter().try_for_each(|slot| write_slot(out, slot))
}

fn write_slot(out: &mut String, slot: &Slot) -> std::fmt::Result {
    writeln!(out, "\n[[pool.slot]]")?;
    writeln!(out, "number = {}", slot.number)?;
    writeln!(out, "virtual = \"{}\"", slot.owned)?;
    let sets: [(&str, &VirtualSet); 2] = [("incoming", &slot.incoming), ("leaving", &slot.leaving)];
    for (name, set) in sets.into_iter().filter(|(_, set)| !set.is_empty()) {
        writeln!(out, "{name} = \"{set}\"")?;
    }
    if !slot.replicas.is_empty() {
        writeln!(out, "replicas = [")?;
        for replica in &slot.replicas {
            write!(out, "    {{ address = {}", quoted(&replica.address))?;
            if replica.weight != WEIGHT_DEFAULT {
                write!(out, ", weight = {}", replica.weight)?;
            }
            writeln!(out, " }},")?;
        }
        writeln!(out, "]")?;
    }
    for (name, value) in [("dns", &slot.dns), ("srv", &slot.srv)] {
        if let Some(value) = value {
            writeln!(out, "{name} = {}", quoted(value))?;
        }
    }
    Ok(())
}

/// A string that may be a key, too: those may not be of several lines, which is how the crate writes some.
fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}
