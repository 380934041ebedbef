//! The whole chain's speed: `cargo bench -p seen-benches --bench chain`, after `cargo build --release -p
//! seen-server`, whose binary it runs.
//!
//! Chain: somebody writes rows to a private MariaDB; Debezium and Kafka bring them to two replicas, which
//! are asked about some of them until both say "seen" ([`commit_to_seen`]). Catch-up: how long Filters
//! take while a replica reads a backlog in the project's own format ([`catch_up`]). Both tell what rings
//! and journals held at most, and what share of the machine each part took: everything runs on one
//! machine, so that the servers and the load take time from what is measured. A table goes to stdout and
//! one line of JSON after it; `--only`, `--seconds` and `--rows-per-second` and others say how much.
//! `CHAIN_LOG=1` shows what the processes say.
#![allow(clippy::print_stdout)]

mod arguments;
mod asking;
mod catch_up;
mod commit_to_seen;
mod figures;
mod held;
mod processor;
mod progress;
mod report;
mod seen;
mod stages;
mod warm;
mod watchdog;
mod writer;

use arguments::{Arguments, Part};
use clap::Parser as _;
use progress::Bar;
use seen_testbed::MariaDb;
use serde_json::json;

/// The database, and the history in it.
const DATABASE: &str = "db";
const NAMESPACE: &str = "feed_read";
const TABLE: &str = "history_feed_read";
/// The items' kind.
const KIND: u8 = 1;

fn main() {
    // `cargo test` runs benches with `--test`, to see whether they start.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let bar = Bar::new();
    let (chain, catch_up) = runtime.block_on(async {
        let mut found = (None, None);
        if arguments.wants(Part::Chain) {
            found.0 = Some(commit_to_seen::measure(&arguments, &bar).await);
        }
        if arguments.wants(Part::CatchUp) {
            found.1 = Some(catch_up::measure(&arguments, &bar).await);
        }
        found
    });
    bar.end();
    for part in [chain.as_ref().map(report::chain), catch_up.as_ref().map(report::catch_up)] {
        println!("{}", part.unwrap_or_default());
    }
    println!("{}", json!({ "chain": chain, "catch_up": catch_up }));
}

/// What leads a replica to the database.
fn settings(database: &MariaDb) -> Vec<String> {
    vec![
        "storage.kind=mysql".to_owned(),
        format!("mysql.servers=127.0.0.1:{}", database.port()),
        format!("mysql.database={DATABASE}"),
        "mysql.user=root".to_owned(),
        // An answer "unread" about a row that is on its way is looked up in storage and counted as
        // wrong, and its user read anew: then it would not be the feed that tells of the row.
        "limits.unread_sample=0".to_owned(),
    ]
}
