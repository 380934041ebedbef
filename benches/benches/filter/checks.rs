//! Table: nanoseconds a check in requests of 400, and false positives at the same memory.

use bloomfilter::Bloom;
use fastbloom::BloomFilter;
use rapidhash::fast::SeedableState;
use seen_filter::{
    Builder, HashKey, Item, Kind, PackedIds, Sizing, UnixMillis, UserState, Verdicts,
};

use crate::layouts::{Classic, Lines, each};
use crate::measure::{ITEMS, best_quarter, check_ns, history, key, keys, setting, unread};

const KIND: Kind = Kind::new(0);
/// Distinct histories; the cold users are copies of them in memory of their own.
const HISTORIES: usize = 200;
/// Unread ids asked of each of some filters for the false-positive rate.
const PROBES: usize = 40_000;

struct Table {
    histories: Vec<Vec<u64>>,
    cold_bytes: usize,
    rows: Vec<Row>,
}

struct Row {
    name: String,
    cold_ns: f64,
    hot_ns: f64,
    false_positives: f64,
    bits: f64,
}

impl Table {
    fn add<T: Clone>(
        &mut self,
        name: &str,
        build: impl Fn(&[u64]) -> T,
        bytes: impl Fn(&T) -> usize,
        check: impl Fn(&T, &[u8], &mut Verdicts),
    ) {
        eprintln!("measuring {name}");
        let built: Vec<T> = self.histories.iter().map(|ids| build(ids)).collect();
        let bytes: usize = built.iter().map(bytes).sum::<usize>() / built.len();
        let users = (self.cold_bytes / bytes).max(1);
        let mut found = 0;
        for (filter, from) in built.iter().zip(0_u64..) {
            let ids: Vec<u64> = unread(from << 32).take(PROBES).collect();
            for request in ids.chunks(1_000) {
                let request: Vec<u8> = request.iter().flat_map(|id| id.to_le_bytes()).collect();
                let mut seen = Verdicts::new();
                check(filter, &request, &mut seen);
                found += seen.count();
            }
        }
        let cold: Vec<T> = (0..users).map(|user| built[user % built.len()].clone()).collect();
        self.rows.push(Row {
            name: name.to_owned(),
            cold_ns: check_ns(&self.histories, &cold, &check),
            hot_ns: check_ns(&self.histories, &built[..1], &check),
            false_positives: found as f64 / (PROBES * built.len()) as f64,
            bits: 8.0 * bytes as f64 / ITEMS as f64,
        });
    }

    fn print(&self) {
        let best = self.rows.iter().map(|row| row.cold_ns).fold(f64::MAX, f64::min);
        println!("\n| layout | cold ns | hot ns | cold, ratio | false positives | bits an item |");
        println!("|---|---:|---:|---:|---:|---:|");
        for row in &self.rows {
            println!(
                "| {} | {:.1} | {:.1} | {:.1} | {:.2} % | {:.2} |",
                row.name,
                row.cold_ns,
                row.hot_ns,
                row.cold_ns / best,
                100.0 * row.false_positives,
                row.bits,
            );
        }
    }
}

fn state(key: &HashKey, ids: &[u64]) -> UserState {
    let mut builder = Builder::new(key, &Sizing::new(0.01, None));
    ids.iter().for_each(|id| builder.push(Item::new(0, *id), UnixMillis::default(), 0));
    builder.finish()
}

/// A state built from two thirds of the ids, into which the rest was inserted.
fn grown(key: &HashKey, ids: &[u64]) -> UserState {
    let (before, after) = ids.split_at(ids.len() * 2 / 3);
    let mut state = state(key, before);
    let sizing = Sizing::new(0.01, None);
    for id in after {
        state.insert(key, &sizing, Item::new(0, *id), 0);
    }
    state
}

fn check_state(key: &HashKey, state: &UserState, request: &[u8], seen: &mut Verdicts) {
    let ids = PackedIds::new(request).unwrap_or(PackedIds::EMPTY);
    state.check(key, KIND, ids, 0, seen);
}

pub fn print() {
    let cold_bytes = setting("SEEN_BENCH_COLD_MB", 1_000) << 20;
    if cold_bytes == 0 {
        return;
    }
    let histories = (0..HISTORIES).map(|user| history(user, ITEMS).collect()).collect();
    let mut table = Table { histories, cold_bytes, rows: Vec::new() };
    for key in keys() {
        let name = format!("seen: two half-line blocks, {:?}", key.kernel());
        table.add(
            &name,
            |ids| state(&key, ids),
            UserState::heap_bytes,
            |state, request, seen| check_state(&key, state, request, seen),
        );
    }
    let key = key();
    table.add(
        &format!("seen, grown by half (4 layers more), {:?}", key.kernel()),
        |ids| grown(&key, ids),
        UserState::heap_bytes,
        |state, request, seen| check_state(&key, state, request, seen),
    );
    let bytes = state(&key, &table.histories[0]).heap_bytes();
    let kind = key.for_kind(KIND);
    table.add(
        "classic, 7 bits, no branches, lines touched first, plain",
        |ids| Classic::build(&kind, ids, bytes),
        |_| bytes,
        |filter, request, seen| filter.check(&kind, request, seen),
    );
    table.add(
        "classic, 7 bits, early exit, plain",
        |ids| Classic::build(&kind, ids, bytes),
        |_| bytes,
        |filter, request, seen| filter.check_with_early_exit(&kind, request, seen),
    );
    table.add(
        "512-bit blocks, 7 bits, lines touched first, plain",
        |ids| Lines::build(&kind, ids, bytes),
        |_| bytes,
        |filter, request, seen| filter.check(&kind, request, seen),
    );
    add_crates(&mut table, bytes);
    table.print();
    print_small(&key);
}

fn add_crates(table: &mut Table, bytes: usize) {
    table.add(
        "crate fastbloom, rapidhash",
        |ids| {
            let builder = BloomFilter::with_num_bits(8 * bytes).hasher(SeedableState::new(7));
            let mut filter = builder.expected_items(ids.len());
            for id in ids {
                filter.insert(id);
            }
            filter
        },
        |_| bytes,
        |filter, request, seen| each(request, |at, id| seen.set_if(at, filter.contains(&id))),
    );
    table.add(
        "crate fastbloom, its SipHash",
        |ids| {
            let mut filter =
                BloomFilter::with_num_bits(8 * bytes).seed(&7).expected_items(ids.len());
            for id in ids {
                filter.insert(id);
            }
            filter
        },
        |_| bytes,
        |filter, request, seen| each(request, |at, id| seen.set_if(at, filter.contains(&id))),
    );
    let seed: [u8; 32] = std::array::from_fn(|at| at as u8);
    table.add(
        "crate bloomfilter",
        |ids| {
            let built = Bloom::<u64>::new_with_seed(bytes, ids.len(), &seed);
            let mut filter = built.unwrap_or_else(|error| unreachable!("{error}"));
            ids.iter().for_each(|id| filter.set(id));
            filter
        },
        |_| bytes,
        |filter, request, seen| each(request, |at, id| seen.set_if(at, filter.check(&id))),
    );
}

/// Checks of small histories, which are exact, and of empty ones.
fn print_small(best: &HashKey) {
    println!("\n| hot history of | {} ns a check | plain ns a check |", best.kernel().name());
    println!("|---:|---:|---:|");
    let request: Vec<u8> = unread(0).take(400).flat_map(u64::to_le_bytes).collect();
    let plain = best.with_kernel(seen_filter::Kernel::PLAIN);
    for items in [1, 4, 8, 16, 17, 100, 1_000] {
        let ids: Vec<u64> = history(0, items).collect();
        let ns = |key: &HashKey| {
            let state = state(key, &ids);
            let rounds = (0..400).map(|_| {
                let mut seen = Verdicts::new();
                let start = std::time::Instant::now();
                for _ in 0..50 {
                    check_state(key, &state, &request, &mut seen);
                    std::hint::black_box(&mut seen);
                }
                start.elapsed().as_nanos() as f64 / (50.0 * 400.0)
            });
            best_quarter(rounds.collect())
        };
        println!("| {items} | {:.2} | {:.2} |", ns(best), ns(&plain));
    }
}
