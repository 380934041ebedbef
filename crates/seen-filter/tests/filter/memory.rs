//! Memory, everything included: the entry's slot in the table and the allocator's rounding.

use seen_filter::{Inserted, Item, Sizing, UserState};

use crate::support::{build, ids, insert, key};

/// A slot of the users' table (user, bookkeeping and state in 32 bytes) at its lowest load, 0.68.
const SLOT_BYTES: usize = 47;

/// The histories above 1,000 items of `data/codereview.tsv.zst`.
const REAL_SIZES: [usize; 104] = [
    1002, 1005, 1025, 1027, 1052, 1058, 1085, 1087, 1088, 1089, 1094, 1099, 1113, 1142, 1157, 1158,
    1158, 1167, 1168, 1183, 1260, 1277, 1278, 1286, 1350, 1350, 1359, 1386, 1423, 1436, 1480, 1488,
    1493, 1501, 1513, 1523, 1532, 1533, 1550, 1560, 1613, 1648, 1669, 1701, 1704, 1715, 1762, 1766,
    1770, 1792, 1795, 1905, 1979, 2005, 2029, 2136, 2144, 2230, 2238, 2330, 2354, 2407, 2569, 2615,
    2622, 2628, 2671, 2761, 2854, 3008, 3068, 3508, 3698, 3941, 4072, 4134, 4307, 4341, 4411, 4468,
    4633, 4768, 4850, 4985, 5078, 5123, 5443, 5563, 5912, 6215, 6406, 6508, 6744, 6896, 6930, 7999,
    9981, 11294, 12734, 15117, 20425, 25075, 43930, 47327,
];

/// What malloc takes: 8 bytes more for each allocation, and 8 for rounding up to 16 on average.
fn allocated(state: &UserState) -> usize {
    let layers = state.describe().len();
    let allocations = if layers > 1 { layers + 1 } else { layers };
    state.heap_bytes() + 16 * allocations
}

/// Bits an item over all users.
fn bits(users: &[UserState], items: usize) -> f64 {
    let bytes: usize = users.iter().map(|state| SLOT_BYTES + allocated(state)).sum();
    8.0 * bytes as f64 / items as f64
}

#[test]
fn real_histories_take_at_most_10_5_bits_an_item_and_13_while_they_grow_by_half() {
    const STEPS: usize = 20;
    let (key, sizing) = (key(1), Sizing::new(0.01, None));
    let first = |user: usize| (user as u64) << 32;
    let size = |user: usize, step: usize| REAL_SIZES[user] * (2 * STEPS + step) / (2 * STEPS);
    let mut users: Vec<UserState> =
        (0..104).map(|user| build(&key, &sizing, ids(first(user), size(user, 0)))).collect();
    let mut sum = 0.0;
    for step in 0..=STEPS {
        for (user, state) in users.iter_mut().enumerate() {
            let from = size(user, step.saturating_sub(1));
            let more = size(user, step) - from;
            insert(state, &key, &sizing, ids(first(user) + from as u64, more));
        }
        let bits = bits(&users, (0..104).map(|user| size(user, step)).sum());
        assert!(step > 0 || bits <= 10.5, "{bits} bits an item after a build");
        sum += bits;
    }
    let mean = sum / (STEPS + 1) as f64;
    assert!(mean <= 13.0, "{mean} bits an item on average");
}

#[test]
fn a_rebuild_reads_at_most_three_rows_a_mark() {
    let (key, sizing) = (key(1), Sizing::new(0.01, None));
    for items in (17..400).chain([1_000, 4_181, 47_327]) {
        let mut state = build(&key, &sizing, ids(0, items));
        let mut marks = 0;
        while !state.rebuild_due(&sizing) {
            insert(&mut state, &key, &sizing, ids((items + marks) as u64, 1));
            marks += 1;
        }
        assert!(items + marks <= 3 * marks, "{items} items, {marks} marks");
        assert!(items < 1_000 || marks < items * 6 / 10, "{items} items, {marks} marks");
    }
}

#[test]
fn sixteen_items_take_at_most_200_bytes_and_are_exact() {
    let (key, sizing) = (key(1), Sizing::new(0.01, None));
    for kinds in [1, 2] {
        let mut state = UserState::EMPTY;
        for id in 0..16 {
            let item = Item::new((id % kinds) as u8, id << 40);
            assert_eq!(state.insert(&key, &sizing, item, 5), Inserted::Added);
            assert!(state.is_exact() && SLOT_BYTES + allocated(&state) <= 200);
        }
        assert_eq!(state.insert(&key, &sizing, Item::new(0, 3), 5), Inserted::Layered);
        assert!(!state.is_exact() && SLOT_BYTES + allocated(&state) <= 200);
    }
}
