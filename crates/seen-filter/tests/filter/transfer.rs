//! Transferred states: whatever arrives is either what was sent or an error that says what is wrong.

use proptest::collection::vec;
use proptest::prelude::*;
use seen_filter::transfer::{Header, TRANSFER_BYTES_MAX, decode, encode};
use seen_filter::{
    CommitStamp, Domain, Generation, HashKey, Item, NamespaceId, Sizing, Timeline, TransferError,
    UserEpoch, UserId, UserState,
};

use crate::support::{build, ids, insert, key, seen};

const HEADER_BYTES: usize = 64;

fn header(position: Option<u64>) -> Header {
    let stamp = |at| CommitStamp::new(Domain::new(1), Timeline::new(u64::MAX), at);
    Header {
        namespace: NamespaceId::new(65_535),
        user: UserId::new(u64::MAX - 1),
        user_epoch: UserEpoch::new(u32::MAX),
        generation: Generation::new(1 << 31),
        position: position.map(stamp),
    }
}

/// States of every form: empty, exact of one kind and of many, one layer, several.
fn states(key: &HashKey) -> Vec<UserState> {
    let sizing = Sizing::new(0.01, None);
    let mut many_kinds = UserState::EMPTY;
    for kind in 0..16 {
        many_kinds.insert(key, &sizing, Item::new(kind, u64::from(kind)), 3);
    }
    let mut grown = build(key, &sizing, ids(0, 300));
    insert(&mut grown, key, &sizing, ids(300, 900));
    let built = |items| build(key, &sizing, ids(0, items));
    vec![UserState::EMPTY, built(1), built(16), many_kinds, built(17), built(2_000), grown]
}

/// Puts a right checksum at the end of changed bytes.
fn resealed(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.len() - 4;
    let checksum = crc32fast::hash(&bytes[..end]);
    bytes[end..].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

/// Uses everything of a state that was accepted, which must not panic.
fn exercise(mut state: UserState, key: &HashKey) {
    let sizing = Sizing::new(0.01, None);
    seen(&state, key, ids(0, 500));
    for kernel in seen_filter::Kernel::available() {
        seen(&state, &key.with_kernel(kernel), ids(500, 500));
    }
    let rates = (state.promised_rate(), state.estimated_rate(), state.rebuild_due(&sizing));
    assert!(rates.1.is_finite());
    assert!(state.describe().len() < 256 && state.oldest_bucket().is_some() == (state.items() > 0));
    insert(&mut state, key, &sizing, ids(1_000, 100));
    assert_eq!(seen(&state, key, ids(1_000, 100)), 100);
}

#[test]
fn a_state_arrives_as_it_was_sent() {
    let key = key(7);
    for state in states(&key) {
        for position in [None, Some(0), Some(u64::MAX)] {
            let bytes = encode(&state, &header(position), &key).expect("small");
            assert_eq!(decode(&bytes, &key), Ok((header(position), state.clone())));
        }
    }
}

#[test]
fn each_fault_has_its_own_error() {
    let key = key(7);
    let state = build(&key, &Sizing::new(0.01, None), ids(0, 100));
    let good = encode(&state, &header(None), &key).expect("small");
    let with = |at: usize, value: &[u8]| {
        let mut bytes = good.clone();
        bytes[at..at + value.len()].copy_from_slice(value);
        resealed(bytes)
    };
    let refused = |bytes: &[u8]| decode(bytes, &key).expect_err("a fault");
    assert_eq!(refused(&[]), TransferError::Truncated { have: 0, needed: HEADER_BYTES });
    let (have, needed) = (good.len() - 1, good.len());
    assert_eq!(refused(&good[..have]), TransferError::Truncated { have, needed });
    assert_eq!(refused(&[&good[..], &[0]].concat()), TransferError::Trailing { extra: 1 });
    assert_eq!(refused(&with(0, b"GET ")), TransferError::Magic);
    assert_eq!(refused(&with(4, &[9, 0])), TransferError::Algorithm { found: 9, expected: 1 });
    assert_eq!(refused(&with(6, &[2, 0])), TransferError::HashVersion { found: 2, expected: 1 });
    assert_eq!(refused(&with(8, &[8, 0, 0, 0])), TransferError::KeyId { found: 8, expected: 7 });
    assert_eq!(refused(&with(14, &[2])), TransferError::Malformed { part: "position" });
    assert_eq!(refused(&with(64, &[0])), TransferError::Malformed { part: "state" });
    let absurd = u64::MAX;
    assert_eq!(
        refused(&with(56, &absurd.to_le_bytes())),
        TransferError::TooLarge { bytes: absurd }
    );
    let vast = vec![0; TRANSFER_BYTES_MAX + 1];
    assert_eq!(refused(&vast), TransferError::TooLarge { bytes: vast.len() as u64 });
    let mut flipped = good.clone();
    flipped[90] ^= 1;
    assert!(matches!(refused(&flipped), TransferError::Checksum { .. }));
    // A length that is no whole number of words, with everything else right.
    let mut odd = good[..good.len() - 5].to_vec();
    let body = (odd.len() - HEADER_BYTES) as u64;
    odd[56..64].copy_from_slice(&body.to_le_bytes());
    odd.extend([0; 4]);
    assert_eq!(refused(&resealed(odd)), TransferError::Malformed { part: "length" });
}

/// The transfer of a state with these words.
fn transfer_of(words: &[u64], key: &HashKey) -> Vec<u8> {
    let empty = encode(&UserState::EMPTY, &header(None), key).expect("small");
    let mut bytes = empty[..HEADER_BYTES].to_vec();
    bytes[56..64].copy_from_slice(&(8 * words.len() as u64).to_le_bytes());
    bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    bytes.extend([0; 4]);
    resealed(bytes)
}

/// The words of a state.
fn words_of(state: &UserState, key: &HashKey) -> Vec<u64> {
    let bytes = encode(state, &header(None), key).expect("small");
    let body = &bytes[HEADER_BYTES..bytes.len() - 4];
    body.as_chunks().0.iter().map(|word| u64::from_le_bytes(*word)).collect()
}

/// The vector kernels rely on these: a layer without blocks would be read out of its bounds.
#[test]
fn words_that_no_build_makes_are_refused() {
    let key = key(7);
    let sizing = Sizing::new(0.01, None);
    let layered = words_of(&build(&key, &sizing, ids(0, 17)), &key);
    let exact = words_of(&build(&key, &sizing, 0..5), &key);
    let nan = u64::from(f32::NAN.to_bits()) << 32;
    let low = 0xffff_ffff;
    let without_blocks = |blocks: u64, kept: usize| {
        let mut words = layered[..kept].to_vec();
        words[2] = words[2] & !low | blocks;
        words
    };
    let changed = |words: &[u64], at: usize, change: &dyn Fn(u64) -> u64| {
        let mut words = words.to_vec();
        words[at] = change(words[at]);
        words
    };
    let layer_after = |more: &[u64]| [&layered[..], more].concat();
    let cases: [(&str, Vec<u64>); 15] = [
        ("no layer", layered[..2].to_vec()),
        ("half a header", layered[..1].to_vec()),
        ("a layer of no block", without_blocks(0, 4)),
        ("a layer of one block, which leaves a part empty", without_blocks(1, 8)),
        ("more blocks than words", without_blocks(3, layered.len())),
        ("a second layer of no block", layer_after(&[1 << 32, 0])),
        ("a word after the layers", layer_after(&[0])),
        ("no capacity", changed(&layered, 2, &|word| word & low)),
        ("a layer's rate is no number", changed(&layered, 3, &|word| word & low | nan)),
        ("the promise is no number", changed(&layered, 1, &|word| word & low | nan)),
        ("items that no layer holds", changed(&layered, 1, &|word| word + 1)),
        ("unknown bits in the header", changed(&layered, 0, &|word| word | 1 << 8)),
        ("exact items out of order", changed(&exact, 1, &|_| 77)),
        ("an exact item twice", changed(&exact, 1, &|_| 1)),
        ("kinds in words of their own for nothing", {
            let mut words = changed(&exact, 0, &|word| word & !63 & !0xffff_f800 & low | 2);
            words.extend([0, 0]);
            words
        }),
    ];
    for (name, words) in cases {
        let refused = decode(&transfer_of(&words, &key), &key);
        assert_eq!(refused, Err(TransferError::Malformed { part: "state" }), "{name}");
    }
    for words in [layered, exact] {
        assert!(decode(&transfer_of(&words, &key), &key).is_ok(), "unchanged");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn cut_or_flipped_bytes_are_refused(form in 0..7_usize, cut in any::<prop::sample::Index>(),
        flip in any::<prop::sample::Index>(), bit in 0..8_u32)
    {
        let key = key(7);
        let good = encode(&states(&key)[form], &header(Some(5)), &key).expect("small");
        prop_assert!(decode(&good[..cut.index(good.len())], &key).is_err());
        let mut flipped = good.clone();
        flipped[flip.index(good.len())] ^= 1 << bit;
        prop_assert!(decode(&flipped, &key).is_err());
    }

    #[test]
    fn changed_bytes_with_a_right_checksum_never_panic(form in 0..7_usize,
        changes in vec((any::<prop::sample::Index>(), any::<u8>()), 1..6), head in any::<bool>())
    {
        let key = key(7);
        let mut bytes = encode(&states(&key)[form], &header(None), &key).expect("small");
        let end = bytes.len() - 4;
        for (at, value) in changes {
            // Either anywhere, or in the first words of the state, which say what the others are.
            let range = if head { HEADER_BYTES..end.min(HEADER_BYTES + 40) } else { 0..end };
            if !range.is_empty() {
                bytes[range.start + at.index(range.len())] = value;
            }
        }
        if let Ok((_, state)) = decode(&resealed(bytes), &key) {
            exercise(state, &key);
        }
    }

    #[test]
    fn garbage_is_refused(bytes in vec(any::<u8>(), 0..300)) {
        prop_assert!(decode(&bytes, &key(7)).is_err());
    }
}
