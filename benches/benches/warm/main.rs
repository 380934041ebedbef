//! Warm-up: `cargo bench -p seen-benches --bench warm`, for the second part after `cargo build --release -p
//! seen-server`, whose binary it runs.
//!
//! Rate: a donor gives its users to a receiver over loopback TCP, by the same code as in a cluster; beside it, in the
//! same rounds, the same bytes are copied in memory, sent over plain TCP, and sent over the link with nothing made of
//! them ([`rate`], [`plain`]). Restart: a replica of many users is killed and started again beside a live peer, both real
//! processes on one embedded store, until its `/readyz` says so ([`restart`]). Tables go to stdout and one line of JSON
//! after them; `--only`, `--users` and others say what and how much. `CHAIN_LOG=1` shows what the processes say.
#![allow(clippy::print_stdout)]

mod arguments;
mod cluster;
mod dump;
mod figures;
mod node;
mod plain;
#[path = "../chain/progress.rs"]
#[allow(dead_code, reason = "shared with the bench of the chain, which uses all of it")]
mod progress;
mod rate;
mod report;
mod restart;
#[path = "../chain/seen.rs"]
#[allow(dead_code, reason = "shared with the bench of the chain, which uses all of it")]
mod seen;
mod thread;

use arguments::{Arguments, Part};
use clap::Parser as _;
use progress::Bar;
use serde_json::json;

/// As the server has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The only history, and the kind of its items.
const NAMESPACE: &str = "feed_read";
const KIND: u8 = 1;

fn main() {
    // `cargo test` runs benches with `--test`, to see whether they start.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    // The bar's ticks belong to the runtime.
    let _entered = runtime.enter();
    let bar = Bar::new();
    let rates = arguments.wants(Part::Rate).then(|| rate::measure(&arguments, &runtime, &bar));
    let restart = arguments
        .wants(Part::Restart)
        .then(|| runtime.block_on(restart::measure(&arguments, &bar)));
    bar.end();
    for part in [rates.as_deref().map(report::rates), restart.as_ref().map(report::restart)] {
        println!("{}", part.unwrap_or_default());
    }
    println!("{}", json!({ "rates": rates, "restart": restart }));
}
