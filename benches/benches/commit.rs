//! Group commit: marks of ten rows sent at the same time share a sync of the disk. The folder is the
//! working directory's, so that it lies on a real disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use seen_filter::history::{Write, WriteOp};
use seen_filter::{History, Item, NamespaceId, NamespaceSettings, UserId};
use seen_store::{SqliteOptions, SqliteStore};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

const ROWS_PER_MARK: u64 = 10;

/// Marks sent at once, each with items that were never marked before.
async fn round(store: &Arc<SqliteStore>, next: &AtomicU64, marks: u64) {
    let mut calls = JoinSet::new();
    for _ in 0..marks {
        let first = next.fetch_add(ROWS_PER_MARK, Ordering::Relaxed);
        let items = (first..first + ROWS_PER_MARK).map(|id| (Item::new(1, id), None)).collect();
        let user = UserId::new(first.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let namespace = NamespaceId::new(0);
        let write = Write { namespace, user, op: WriteOp::Append, items };
        let store = Arc::clone(store);
        calls.spawn(async move { store.write(vec![write]).await });
    }
    while let Some(call) = calls.join_next().await {
        call.expect("no panic").expect("committed");
    }
}

fn benches(c: &mut Criterion) {
    let runtime = Runtime::new().expect("a runtime");
    let folder = tempfile::tempdir_in(".").expect("a folder");
    let options = SqliteOptions { path: folder.path().join("seen.db"), ..Default::default() };
    let namespaces = vec![NamespaceSettings::new(NamespaceId::new(0), "feed_read")];
    let store = runtime.block_on(SqliteStore::open(options, namespaces)).expect("a store");
    let next = AtomicU64::new(0);
    let mut group = c.benchmark_group("group_commit");
    group.sample_size(20).measurement_time(Duration::from_secs(5));
    for marks in [1, 32, 256] {
        group.throughput(Throughput::Elements(marks * ROWS_PER_MARK));
        group.bench_with_input(BenchmarkId::new("marks", marks), &marks, |b, &marks| {
            b.iter_custom(|rounds| {
                let began = Instant::now();
                for _ in 0..rounds {
                    runtime.block_on(round(&store, &next, marks));
                }
                began.elapsed()
            });
        });
    }
    group.finish();
    runtime.block_on(store.close());
}

criterion_group!(all, benches);
criterion_main!(all);
