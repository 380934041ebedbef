//! The keyed hash: independent of the ids' pattern, of the other uses of the secret, and of the CPU.

use std::collections::HashSet;

use seen_filter::hash::VIRTUAL_SLOTS;
use seen_filter::{HashKey, Item, Kernel, Kind, StringKey, UserId, calibrate, string_id};

#[test]
fn slots_are_spread_evenly_over_sequential_users() {
    let key = HashKey::new(1, [5; 16]);
    let mut users_in = vec![0_u32; usize::from(VIRTUAL_SLOTS)];
    let users = 100 * u64::from(VIRTUAL_SLOTS);
    (0..users).for_each(|user| users_in[key.virtual_slot(UserId::new(user)).get() as usize] += 1);
    // Poisson with mean 100: beyond six deviations either way once in a million sets of slots.
    assert!(users_in.iter().all(|users| (40..=160).contains(users)));
}

#[test]
fn the_uses_of_a_secret_are_independent() {
    let key = HashKey::new(1, [5; 16]);
    let same = (0..10_000_u64).filter(|id| {
        let item = key.item_hash(Item::new(0, *id)) % u64::from(VIRTUAL_SLOTS);
        item == u64::from(key.virtual_slot(UserId::new(*id)).get())
    });
    assert!(same.count() < 15, "about 2.4 are expected");
}

#[test]
fn every_bit_of_kind_id_and_secret_changes_half_of_the_hash() {
    let base = HashKey::new(1, [5; 16]);
    let changed = |other: u64| (other ^ base.item_hash(Item::new(1, 77))).count_ones();
    let half = |bits: u32| (12..=52).contains(&bits);
    for bit in 0..64 {
        assert!(half(changed(base.item_hash(Item::new(1, 77 ^ 1 << bit)))), "id bit {bit}");
    }
    for bit in 0..8 {
        assert!(half(changed(base.item_hash(Item::new(1 ^ 1 << bit, 77)))), "kind bit {bit}");
    }
    for byte in 0..16 {
        let mut secret = [5; 16];
        secret[byte] ^= 0x10;
        let other = HashKey::new(1, secret).item_hash(Item::new(1, 77));
        assert!(half(changed(other)), "secret byte {byte}");
    }
}

#[test]
fn a_folded_kind_gives_the_same_hash() {
    let key = HashKey::new(1, [5; 16]);
    for (kind, id) in [(0, 0), (3, 99), (255, u64::MAX)] {
        let folded = key.for_kind(Kind::new(kind)).hash(id);
        assert_eq!(folded, key.item_hash(Item::new(kind, id)));
    }
}

/// Values of an independent computation from the definition. The hash is part of what replicas
/// exchange: if this fails, raise `HASH_VERSION`.
#[test]
fn the_hash_of_version_1_is_fixed() {
    assert_eq!(seen_filter::HASH_VERSION, 1);
    let key = HashKey::new(1, *b"0123456789abcdef");
    assert_eq!(key.item_hash(Item::new(0, 0)), 0x3e7c_2e79_4676_a8fc);
    assert_eq!(key.item_hash(Item::new(7, 1 << 63)), 0x43b9_a4fd_67ca_7c9f);
    assert_eq!(key.virtual_slot(UserId::new(42)).get(), 1_012);
}

#[test]
fn secrets_are_not_printed() {
    let shown = format!("{:?}{:?}", HashKey::new(7, [0xab; 16]), StringKey::new([0xab; 16]));
    assert!(!shown.contains("171") && !shown.contains("abab"), "{shown}");
}

#[test]
fn strings_map_to_distinct_ids_under_each_key() {
    let (one, other) = (StringKey::new([1; 16]), StringKey::new([2; 16]));
    let texts = (0..20_000).map(|n| format!("article/{n}"));
    let ids: HashSet<u64> =
        texts.flat_map(|text| [string_id(&one, &text), string_id(&other, &text)]).collect();
    assert_eq!(ids.len(), 40_000);
    // Stored for ever, so never to change.
    let key = StringKey::new(*b"0123456789abcdef");
    assert_eq!(string_id(&key, "Zähler/7"), 0x2bc9_ba74_0e2c_fada);
}

#[test]
fn calibration_chooses_by_the_clock_alone() {
    // A clock that stands still: nothing is faster than plain. One that runs backwards is no panic.
    assert_eq!(calibrate(&mut || 7), Kernel::PLAIN);
    let mut now = u64::MAX;
    calibrate(&mut || {
        now -= 1;
        now
    });
    // The later kernels take less time by a clock that ticks less and less.
    let (mut now, mut tick) = (0, 1 << 40);
    let chosen = calibrate(&mut || {
        tick = tick / 10 * 9;
        now += tick;
        now
    });
    assert_eq!(Some(chosen), Kernel::available().last());
}
