//! Each target with its seeds, with seeds that were damaged, and with garbage; and what memory that takes.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::path::Path;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::TestRunner;
use seen_fuzz::{TARGETS, Target, target};

thread_local! {
    /// What this thread holds, and the most that it has held.
    static HELD: Cell<(isize, isize)> = const { Cell::new((0, 0)) };
}

struct Counting;

fn count(more: usize, less: usize) {
    // A thread that ends may have no such place any more.
    let _ = HELD.try_with(|held| {
        let (now, peak) = held.get();
        let now = now + more as isize - less as isize;
        held.set((now, peak.max(now)));
    });
}

// SAFETY: every call is handed on to the system's allocator as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size(), 0);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(0, layout.size());
        // SAFETY: the pointer came from `System`, with this layout.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size, layout.size());
        // SAFETY: the pointer came from `System`, with this layout.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Runs a target, and looks at what it held at its peak.
fn feed(target: &Target, data: &[u8]) {
    HELD.set((0, 0));
    (target.run)(data);
    let (_, peak) = HELD.get();
    let bound = target.memory_bytes + target.memory_per_byte * data.len();
    assert!(peak <= bound as isize, "{peak} bytes for {}, at most {bound}", data.len());
}

/// What is done to a seed.
#[derive(Clone, Debug)]
enum Damage {
    Flip(Index, u8),
    Cut(Index),
    Insert(Index, Vec<u8>),
    /// A piece again, at another place.
    Repeat(Index, Index, usize),
    /// The rest of another seed.
    Splice(Index, Index, Index),
    /// A number as large, or as small, as it can be.
    Extreme(Index, u8, usize),
}

fn damage() -> impl Strategy<Value = Damage> {
    let at = any::<Index>;
    prop_oneof![
        4 => (at(), 1..=255_u8).prop_map(|(at, bits)| Damage::Flip(at, bits)),
        1 => at().prop_map(Damage::Cut),
        1 => (at(), vec(any::<u8>(), 1..9)).prop_map(|(at, bytes)| Damage::Insert(at, bytes)),
        1 => (at(), at(), 1..40_usize).prop_map(|(from, to, n)| Damage::Repeat(from, to, n)),
        1 => (at(), at(), at()).prop_map(|(at, seed, from)| Damage::Splice(at, seed, from)),
        1 => (at(), prop_oneof![Just(0), Just(0x7f), Just(0x80), Just(0xff)], 1..10_usize)
            .prop_map(|(at, byte, n)| Damage::Extreme(at, byte, n)),
    ]
}

fn damaged(mut bytes: Vec<u8>, seeds: &[Vec<u8>], done: &[Damage]) -> Vec<u8> {
    for one in done {
        let at = |index: &Index| index.index(bytes.len() + 1);
        match one {
            Damage::Flip(index, bits) if !bytes.is_empty() => {
                let at = index.index(bytes.len());
                bytes[at] ^= bits;
            }
            Damage::Flip(..) => {}
            Damage::Cut(index) => bytes.truncate(at(index)),
            Damage::Insert(index, more) => {
                let at = at(index);
                bytes.splice(at..at, more.iter().copied());
            }
            Damage::Repeat(from, to, length) => {
                let (from, to) = (at(from), at(to));
                let piece = bytes[from..(from + length).min(bytes.len())].to_vec();
                bytes.splice(to..to, piece);
            }
            Damage::Splice(index, seed, from) => {
                let other = &seeds[seed.index(seeds.len())];
                bytes.truncate(at(index));
                bytes.extend(&other[from.index(other.len() + 1)..]);
            }
            Damage::Extreme(index, byte, length) => {
                let at = at(index);
                let end = (at + length).min(bytes.len());
                bytes[at..end].fill(*byte);
            }
        }
    }
    bytes
}

/// Feeds a target what proptest makes of its seeds. More with `PROPTEST_CASES`.
fn holds(name: &str) {
    let target = target(name).expect("a target");
    let seeds = (target.seeds)();
    assert!(!seeds.is_empty());
    // What is set up once does not count.
    (target.run)(&seeds[0]);
    for seed in &seeds {
        feed(&target, seed);
    }
    for length in 0..24 {
        for byte in [0, 0xff] {
            feed(&target, &vec![byte; length]);
        }
    }
    let from_seed = (any::<Index>(), vec(damage(), 1..5))
        .prop_map(|(seed, done)| damaged(seeds[seed.index(seeds.len())].clone(), &seeds, &done));
    let bytes = prop_oneof![7 => from_seed, 1 => vec(any::<u8>(), 0..400)];
    let default = ProptestConfig::default();
    let cases = default.cases * 8;
    let config = ProptestConfig { cases, failure_persistence: None, ..default };
    let run = TestRunner::new(config).run(&bytes, |data| {
        feed(&target, &data);
        Ok(())
    });
    if let Err(error) = run {
        panic!("{name}: {error}");
    }
}

#[test]
fn filter() {
    holds("filter");
}

#[test]
fn mark() {
    holds("mark");
}

#[test]
fn stream() {
    holds("stream");
}

#[test]
fn other_calls() {
    holds("other_calls");
}

#[test]
fn token() {
    holds("token");
}

#[test]
fn link() {
    holds("link");
}

#[test]
fn map() {
    holds("map");
}

#[test]
fn entry() {
    holds("entry");
}

#[test]
fn transfer_frames() {
    holds("transfer_frames");
}

#[cfg(feature = "server")]
#[test]
fn transfer_stream() {
    holds("transfer_stream");
}

#[test]
fn change_json() {
    holds("change_json");
}

#[test]
fn change_binary() {
    holds("change_binary");
}

#[test]
fn change_seen() {
    holds("change_seen");
}

#[test]
fn avro_schema() {
    holds("avro_schema");
}

#[cfg(feature = "server")]
#[test]
fn commit_log() {
    holds("commit_log");
}

#[cfg(feature = "server")]
#[test]
fn configuration() {
    holds("configuration");
}

#[cfg(feature = "server")]
#[test]
fn history_file() {
    holds("history_file");
}

#[cfg(feature = "server")]
#[test]
fn history_parquet() {
    holds("history_parquet");
}

#[cfg(feature = "server")]
#[test]
fn binary_log() {
    holds("binary_log");
}

#[cfg(feature = "server")]
#[test]
fn every_target_is_tried_here_and_has_a_program() {
    let here = include_str!("decoders.rs");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz_targets");
    let programs: BTreeSet<String> = std::fs::read_dir(folder)
        .expect("a folder")
        .map(|entry| entry.expect("a file").path())
        .filter_map(|path| Some(path.file_stem()?.to_str()?.to_owned()))
        .collect();
    let names: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    assert_eq!(names, programs);
    for name in names {
        assert!(here.contains(&format!("holds(\"{name}\")")), "{name} is not tried");
    }
}

#[test]
fn memory_beyond_the_bound_is_noticed() {
    let greedy =
        Target { run: |_| drop(vec![0_u8; 100_000]), ..target("token").expect("a target") };
    let fed = std::panic::catch_unwind(|| feed(&greedy, b""));
    assert!(fed.is_err());
}
