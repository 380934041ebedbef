//! The per-user state against other layouts, other crates, and other ways of caching.
//!
//! `cargo bench -p seen-benches --bench filter` prints the tables of ARCHITECTURE.md and then runs
//! criterion over hot filters. `SEEN_BENCH_COLD_MB` (1000) sets how much memory of filters is cold,
//! `SEEN_BENCH_USERS` (100000) how many users the memory table counts; 0 leaves a table out.
//! Words after `--` run only the tables (`checks`, `hashes`, `caches`, `memory`, `steps`) or the
//! criterion group (`hot`) named.
#![allow(clippy::print_stdout)]

mod caches;
mod checks;
mod hashes;
mod hot;
mod layouts;
mod measure;
mod memory;
mod steps;

fn main() {
    // `cargo test` runs benches with `--test`, to see whether they start.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let named: Vec<String> =
        std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    match named.first().map(String::as_str) {
        Some("growth") => return memory::print_growth(),
        Some("long-run") => return memory::print_long_run(),
        _ => {}
    }
    let wanted = |name: &str| named.is_empty() || named.iter().any(|argument| argument == name);
    let tables: [(&str, fn()); 5] = [
        ("checks", checks::print),
        ("hashes", hashes::print),
        ("caches", caches::print),
        ("memory", memory::print),
        ("steps", steps::print),
    ];
    for (_, print) in tables.into_iter().filter(|(name, _)| wanted(name)) {
        print();
    }
    if wanted("hot") {
        hot::run();
    }
}
