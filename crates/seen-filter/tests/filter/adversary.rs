//! Ids chosen to be bad for weak hashes, as what was read and as what is asked.

use seen_filter::{HashKey, Sizing};

use crate::support::{build, ids, insert, key, mix, seen};

const READ: u64 = 4_000;
const ASKED: u64 = 300_000;

/// Asserts that ids that were not read are reported as seen no more often than promised.
fn assert_no_more_than_promised(name: &str, read: impl Fn(u64) -> u64, asked: impl Fn(u64) -> u64) {
    let sizing = Sizing::new(0.01, None);
    let key = key(3);
    let mut state = build(&key, &sizing, (0..READ).map(&read));
    insert(&mut state, &key, &sizing, (READ..READ + READ / 3).map(&read));
    let was_read: std::collections::HashSet<u64> = (0..READ + READ / 3).map(&read).collect();
    let unread: Vec<u64> = (0..ASKED).map(&asked).filter(|id| !was_read.contains(id)).collect();
    let rate = seen(&state, &key, unread.iter().copied()) as f64 / unread.len() as f64;
    let deviation = (0.01 / unread.len() as f64).sqrt();
    assert!(unread.len() > 100_000 && rate < 0.011 - 3.0 * deviation, "{name}: {rate}");
}

#[test]
fn patterns_of_ids_do_not_correlate() {
    let plain = |i: u64| i;
    assert_no_more_than_promised("sequential", plain, plain);
    assert_no_more_than_promised("sequential, asked at random", plain, |i| mix(i + ASKED));
    for power in [1, 7, 8, 16, 32, 40] {
        let multiple = move |i: u64| i << power;
        assert_no_more_than_promised("multiples of a power of two", multiple, multiple);
        assert_no_more_than_promised("their neighbours", multiple, move |i| (i << power) + 1);
    }
    assert_no_more_than_promised("complements", mix, |i| !mix(i));
    assert_no_more_than_promised("complements but for the lowest bit", mix, |i| !mix(i) ^ 1);
    assert_no_more_than_promised("complements of sequential ids", plain, |i| !i);
    assert_no_more_than_promised("negated", mix, |i| mix(i).wrapping_neg());
    assert_no_more_than_promised("halves swapped", mix, |i| mix(i).rotate_left(32));
    assert_no_more_than_promised("bytes swapped", plain, |i| (i + 1).swap_bytes());
    for bit in [0, 1, 31, 32, 62, 63] {
        let flip = move |i: u64| mix(i) ^ 1 << bit;
        assert_no_more_than_promised("one bit flipped", mix, flip);
        assert_no_more_than_promised("one bit flipped", plain, move |i| i ^ 1 << bit);
    }
}

#[test]
fn false_positives_of_one_key_are_none_of_another() {
    let sizing = Sizing::new(0.01, None);
    let (ours, theirs) = (key(1), HashKey::new(2, [9; 16]).with_kernel(key(1).kernel()));
    let known = build(&theirs, &sizing, ids(0, 4_000));
    let state = build(&ours, &sizing, ids(0, 4_000));
    let asked: Vec<u64> = ids(1 << 40, 3_000_000).collect();
    let false_positive = |id: &u64| known.contains(&theirs, seen_filter::Item::new(0, *id));
    let chosen: Vec<u64> = asked.into_iter().filter(false_positive).collect();
    assert!(chosen.len() > 15_000, "{} to choose from", chosen.len());
    let rate = seen(&state, &ours, chosen.iter().copied()) as f64 / chosen.len() as f64;
    let deviation = (0.0084 / chosen.len() as f64).sqrt();
    assert!((rate - 0.0084).abs() < 5.0 * deviation, "{rate}");
}

#[test]
fn a_kind_is_not_another_kind() {
    let sizing = Sizing::new(0.01, None);
    let key = key(5);
    let state = build(&key, &sizing, ids(0, 10_000));
    let request: Vec<u8> = ids(0, 1_000).flat_map(u64::to_le_bytes).collect();
    assert_eq!(crate::support::verdicts(&state, &key, 0, &request).count(), 1_000);
    for kind in [1, 2, 128, 255] {
        let seen = crate::support::verdicts(&state, &key, kind, &request).count();
        assert!(seen < 30, "{seen} of kind {kind}");
    }
}
