//! Every kernel against plain code, at every length and alignment, on memory that ends where the ids and the entry end: a read beyond
//! is seen by Miri and by an address sanitizer.
//!
//! `RUSTFLAGS=-Ctarget-feature=+avx2 cargo +nightly miri test -p seen-filter --test filter kernels` for AVX2, and
//! `RUSTFLAGS=-Zsanitizer=address cargo +nightly test -p seen-filter --target x86_64-unknown-linux-gnu` for AVX-512, which Miri
//! does not know.

use seen_filter::{HashKey, Kernel, Kind, PackedIds, Sizing, UserState, Verdicts, transfer};

use crate::support::{build, ids, insert, key, mix};

/// Entries of every form: nothing, few items as they are, one layer of the smallest size, and several.
fn states(key: &HashKey) -> Vec<UserState> {
    let sizing = Sizing::new(0.01, None);
    let built = |items| build(key, &sizing, ids(0, items));
    let mut states = vec![UserState::EMPTY];
    states.extend([1, 2, 3, 4, 5, 8, 9, 15, 16, 17, 40].map(built));
    let mut grown = built(20);
    // Each time the newest layer is full there is one more: as many as a probe takes at once, and more.
    for step in 0..if cfg!(miri) { 6 } else { 12 } {
        insert(&mut grown, key, &sizing, ids(1_000 + 60 * step, 60));
        states.push(exact(&grown, key));
    }
    states
}

/// The same entry in memory that is no longer than it.
fn exact(state: &UserState, key: &HashKey) -> UserState {
    let header = transfer::Header {
        namespace: Default::default(),
        user: Default::default(),
        user_epoch: Default::default(),
        generation: Default::default(),
        position: None,
    };
    let bytes = transfer::encode(state, &header, key).expect("small");
    transfer::decode(&bytes, key).expect("as encoded").1
}

fn lengths() -> Vec<usize> {
    if cfg!(miri) {
        return vec![0, 1, 3, 4, 5, 7, 8, 9, 12, 17, 63, 65, 257];
    }
    (0..=80).chain(250..=264).chain([511, 512, 513, 1_000]).collect()
}

#[test]
fn every_kernel_agrees_with_plain_code_at_every_length_and_alignment() {
    let key = key(1);
    let kernels: Vec<Kernel> = Kernel::available().collect();
    for state in states(&key) {
        for length in lengths() {
            for before in 0..if cfg!(miri) { 2 } else { 8 } {
                // Some were read, at whatever places.
                let id = |at: usize| mix((at as u64 * 7) % 60);
                let bytes: Box<[u8]> = std::iter::repeat_n(0_u8, before)
                    .chain((0..length).flat_map(|at| id(at).to_le_bytes()))
                    .collect();
                let packed = PackedIds::new(&bytes[before..]).expect("whole ids");
                let first = if length < 900 { before } else { 0 };
                let mut plain = Verdicts::new();
                state.check(
                    &key.with_kernel(Kernel::PLAIN),
                    Kind::new(0),
                    packed,
                    first,
                    &mut plain,
                );
                for kernel in &kernels {
                    let mut found = Verdicts::new();
                    state.check(&key.with_kernel(*kernel), Kind::new(0), packed, first, &mut found);
                    assert_eq!(found, plain, "{kernel:?}: {length} ids, {before} bytes before");
                }
            }
        }
    }
}
