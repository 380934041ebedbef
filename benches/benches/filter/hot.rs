//! Criterion: hot filters, to follow changes from one version to the next.

use std::hint::black_box;

use criterion::{Criterion, Throughput};
use seen_filter::{Builder, Item, Kind, PackedIds, Sizing, UnixMillis, Verdicts};

use crate::measure::{CANDIDATES, history, keys, unread};

pub fn run() {
    let mut criterion = Criterion::default();
    let mut group = criterion.benchmark_group("check_400_hot");
    group.throughput(Throughput::Elements(CANDIDATES as u64));
    let request: Vec<u8> = unread(0).take(CANDIDATES).flat_map(u64::to_le_bytes).collect();
    for key in keys() {
        for items in [16, 1_000, 5_000] {
            let mut builder = Builder::new(&key, &Sizing::new(0.01, None));
            let rows = history(0, items).map(|id| Item::new(0, id));
            rows.for_each(|item| builder.push(item, UnixMillis::default(), 0));
            let state = builder.finish();
            group.bench_function(format!("{:?}/{items}_items", key.kernel()), |bencher| {
                bencher.iter(|| {
                    let mut seen = Verdicts::new();
                    let ids = PackedIds::new(black_box(&request)).unwrap_or(PackedIds::EMPTY);
                    state.check(&key, Kind::new(0), ids, 0, &mut seen);
                    seen
                });
            });
        }
    }
    group.finish();
    criterion.final_summary();
}
