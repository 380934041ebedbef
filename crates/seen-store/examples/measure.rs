//! Measures the embedded store on this machine's disk: durable rows, pages, point checks.
//!
//! `cargo run --release -p seen-store --example measure [FOLDER] [SECONDS]`

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use seen_filter::history::{PAGE_ROWS_MAX, PageRequest, Question, Write, WriteOp};
use seen_filter::{History, Item, NamespaceId, NamespaceSettings, UserId};
use seen_store::{SqliteOptions, SqliteStore};

const NS: NamespaceId = NamespaceId::new(0);
const WRITERS: u64 = 64;
const ROWS: usize = 10;
const USERS: u64 = 100_000;

/// A small seeded generator (xorshift64, G. Marsaglia).
struct Draw(u64);

impl Draw {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

fn mark(user: u64, items: Vec<Item>) -> Vec<Write> {
    let items = items.into_iter().map(|item| (item, None)).collect();
    vec![Write { namespace: NS, user: UserId::new(user), op: WriteOp::Append, items }]
}

/// Seconds of processor time that this process has used.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after_name = stat.rsplit(')').next().unwrap_or_default();
    let ticks = |n: usize| after_name.split(' ').nth(n).and_then(|t| t.parse::<f64>().ok());
    (ticks(12).unwrap_or(0.0) + ticks(13).unwrap_or(0.0)) / 100.0
}

#[allow(clippy::print_stdout, reason = "a program that prints what it measures")]
fn main() {
    let mut arguments = std::env::args().skip(1);
    let parent = arguments.next().unwrap_or_else(|| ".".to_owned());
    let seconds = arguments.next().and_then(|s| s.parse().ok()).unwrap_or(5);
    let folder = tempfile::tempdir_in(parent).expect("a folder");
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    for line in runtime.block_on(measure(folder.path(), seconds)) {
        println!("{line}");
    }
}

async fn measure(folder: &std::path::Path, seconds: u64) -> Vec<String> {
    let path = folder.join("seen.db");
    let options = SqliteOptions { path, ..SqliteOptions::default() };
    let namespaces = vec![NamespaceSettings::new(NS, "reads")];
    let store = SqliteStore::open(options, namespaces).await.expect("a store");
    let mut lines = Vec::new();
    for round in 0..3 {
        lines.push(durable_rows(&store, Duration::from_secs(seconds), round).await);
    }
    for calls_per_second in [2_000, 4_000] {
        lines.push(at_a_rate(&store, Duration::from_secs(seconds), calls_per_second).await);
    }
    let sizes = store.measure().await.expect("sizes");
    lines.push(format!("rows {}  bytes a row {:.1}", sizes[0].rows, sizes[0].bytes_per_row()));
    for block in 0..100 {
        let items = (0..500).map(|n| Item::new(1, scattered(block * 500 + n))).collect();
        store.write(mark(u64::MAX, items)).await.expect("a write");
    }
    lines.push(pages(&store).await);
    lines.push(checks(&store).await);
    store.close().await;
    lines
}

fn scattered(n: u64) -> u64 {
    n.wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

async fn durable_rows(store: &Arc<SqliteStore>, time: Duration, round: u64) -> String {
    let before = store.stats();
    let (began, cpu) = (Instant::now(), cpu_seconds());
    let slowest_us = Arc::new(AtomicU64::new(0));
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let (store, slowest_us) = (Arc::clone(store), Arc::clone(&slowest_us));
        writers.push(tokio::spawn(async move {
            let mut draw = Draw(1 + writer + round * WRITERS);
            let mut times_us = Vec::new();
            while began.elapsed() < time {
                let user = scattered(draw.next() % USERS);
                let items = (0..ROWS).map(|_| Item::new(1, draw.next())).collect();
                let asked = Instant::now();
                store.write(mark(user, items)).await.expect("a write");
                times_us.push(asked.elapsed().as_micros() as u64);
            }
            slowest_us.fetch_max(times_us.iter().copied().max().unwrap_or(0), Ordering::Relaxed);
            times_us
        }));
    }
    let mut times_us = Vec::new();
    for writer in writers {
        times_us.extend(writer.await.expect("a writer"));
    }
    times_us.sort_unstable();
    let at = |share: f64| times_us[(times_us.len() as f64 * share) as usize] as f64 / 1e3;
    let after = store.stats();
    let (took, cpu) = (began.elapsed().as_secs_f64(), cpu_seconds() - cpu);
    let rows = after.rows_appended - before.rows_appended;
    let commits = after.commits - before.commits;
    format!(
        "durable rows/s {:.0}  commits/s {:.0}  rows a commit {:.0}  CPU us a row {:.2}  \
         ms p50 {:.1} p99 {:.1} p999 {:.1} max {:.1}  wal {} MiB",
        rows as f64 / took,
        commits as f64 / took,
        rows as f64 / commits as f64,
        cpu * 1e6 / rows as f64,
        at(0.5),
        at(0.99),
        at(0.999),
        slowest_us.load(Ordering::Relaxed) as f64 / 1e3,
        after.wal_bytes >> 20,
    )
}

/// Calls that come at a steady rate, whether or not earlier ones have been answered; their times
/// count from when they should have come.
async fn at_a_rate(store: &Arc<SqliteStore>, time: Duration, calls_per_second: u64) -> String {
    let before = store.stats();
    let (began, cpu) = (tokio::time::Instant::now(), cpu_seconds());
    let mut draw = Draw(99);
    let mut calls = Vec::new();
    // In bursts of a millisecond, which is as finely as the runtime keeps time.
    for burst in 0..time.as_millis() as u64 {
        let due = began + Duration::from_millis(burst);
        tokio::time::sleep_until(due).await;
        for _ in 0..calls_per_second / 1_000 {
            let user = scattered(draw.next() % USERS);
            let items = (0..ROWS).map(|_| Item::new(1, draw.next())).collect();
            let store = Arc::clone(store);
            calls.push(tokio::spawn(async move {
                store.write(mark(user, items)).await.expect("a write");
                due.elapsed().as_micros() as u64
            }));
        }
    }
    let mut times_us = Vec::new();
    for call in calls {
        times_us.push(call.await.expect("a call"));
    }
    times_us.sort_unstable();
    let at = |share: f64| times_us[(times_us.len() as f64 * share) as usize] as f64 / 1e3;
    let after = store.stats();
    let rows = after.rows_appended - before.rows_appended;
    format!(
        "at {} rows/s: commits/s {:.0}  CPU share {:.2}  ms p50 {:.1} p99 {:.1} p999 {:.1} max {:.1}",
        calls_per_second * ROWS as u64,
        (after.commits - before.commits) as f64 / began.elapsed().as_secs_f64(),
        (cpu_seconds() - cpu) / began.elapsed().as_secs_f64(),
        at(0.5),
        at(0.99),
        at(0.999),
        times_us.last().copied().unwrap_or(0) as f64 / 1e3,
    ) + &format!("  rows {rows}")
}

async fn pages(store: &SqliteStore) -> String {
    let mut best = f64::MAX;
    for _ in 0..10 {
        let began = Instant::now();
        let mut request = PageRequest {
            namespace: NS,
            user: UserId::new(u64::MAX),
            after: None,
            rows_max: PAGE_ROWS_MAX,
        };
        loop {
            let page = store.page(request).await.expect("a page");
            request.after = page.rows.last().map(|row| row.item);
            if page.last {
                break;
            }
        }
        best = best.min(began.elapsed().as_secs_f64());
    }
    format!("page rows/s {:.0}  (50,000 rows in {:.1} ms)", 50_000.0 / best, best * 1e3)
}

async fn checks(store: &SqliteStore) -> String {
    let items = |from: u64| (from..from + 400).map(|n| Item::new(1, scattered(n * 2))).collect();
    let mut times_us = Vec::new();
    for round in 0..500 {
        let question = Question { user: UserId::new(u64::MAX), items: items(round * 50) };
        let began = Instant::now();
        store.check(NS, vec![question]).await.expect("answers");
        times_us.push(began.elapsed().as_micros() as u64);
    }
    let users: Vec<_> = (0..10_000_u64)
        .map(|n| Question { user: UserId::new(scattered(n)), items: vec![Item::new(1, n)] })
        .collect();
    let began = Instant::now();
    store.check(NS, users).await.expect("answers");
    let many_us = began.elapsed().as_micros();
    times_us.sort_unstable();
    format!(
        "check of 400 items us p50 {} p99 {}  check of 10,000 users x 1 item us {many_us}",
        times_us[250], times_us[495]
    )
}
