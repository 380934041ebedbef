//! The map of slots, a file that operators write.

use seen_cluster::map::SlotMap;
use seen_filter::VirtualSet;

use crate::Target;

pub(crate) const MAP: Target = Target {
    name: "map",
    run: map,
    seeds,
    // A set of virtual slots takes 512 bytes, and three of them are in a slot.
    memory_bytes: 1 << 20,
    memory_per_byte: 2_048,
};

/// A map that is read is written and read again as the same; an error says where and what.
fn map(raw: &[u8]) {
    let Ok(text) = std::str::from_utf8(raw) else { return };
    if let Ok(set) = VirtualSet::parse(text) {
        assert_eq!(VirtualSet::parse(&set.to_string()).as_ref(), Ok(&set));
    }
    match SlotMap::parse(text) {
        Ok(map) => {
            assert_eq!(SlotMap::parse(&map.to_toml()).as_ref(), Ok(&map), "{}", map.to_toml());
            assert_eq!(SlotMap::new(map.to_draft()).as_ref(), Ok(&map));
        }
        Err(error) => {
            assert!(!error.problem.is_empty() && error.value.chars().count() <= 80, "{error:?}");
            let lines = text.lines().count().max(1);
            assert!(error.line.is_none_or(|line| (1..=lines + 1).contains(&line)), "{error:?}");
        }
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let whole = include_str!("../../seen-cluster/tests/map/example.toml");
    let small = whole.split("[[pool]]\ntag = \"push\"").next().unwrap_or_default();
    let small = small.replace("[namespace_pools]\npush_sent = \"push\"\n", "");
    vec![whole.into(), small.into(), b"0-2047,2050".to_vec()]
}
