//! Bytes a row and insert rates of the ways to lay a history down on MariaDB: each word of
//! `mysql.engine`, and what was tried beside them.
//!
//! `cargo bench -p seen-benches --bench layouts -- --rows 20000000` starts a private server for each,
//! with the same memory, durable commits and a binary log, and makes the table by the store's own
//! statement. Rows ([`rows`] has their shape) are marked through the store, 1,000 a commit, in rounds
//! that go over the layouts in turn, so that what else the machine does hits all alike; only the
//! server whose turn it is runs. Tables with the (user, time) index are measured at `--index-rows`.
//! The servers' folders are in `$TMPDIR`, and go when it ends; at 20 million rows they take some
//! 8 GB. MyRocks is left out, loudly, where its plugin is missing.
#![allow(clippy::print_stdout)]

mod layout;
mod place;
mod report;
mod rows;
mod size;

use std::path::PathBuf;
use std::sync::Arc;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use layout::{ALL, Layout};
use place::{Place, Round};
use report::Figures;
use rows::Rows;

/// The sample history, from the package's folder.
const SAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../data/codereview.tsv.zst");

#[derive(Debug, Parser)]
struct Arguments {
    /// Rows of each table without an index.
    #[arg(long, default_value_t = 2_000_000)]
    rows: u64,
    /// Rows of each table with one; 0 leaves them out. A tenth of the rows unless given.
    #[arg(long)]
    index_rows: Option<u64>,
    /// Rows of a round.
    #[arg(long, default_value_t = 500_000)]
    round_rows: u64,
    /// Memory of each server for its pages, in MiB.
    #[arg(long, default_value_t = 1_024)]
    memory_mb: u64,
    /// Layouts whose names contain one of these words, beside the first.
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Layouts whose names contain one of these words have no more than `--index-rows` either way.
    #[arg(long, value_delimiter = ',')]
    fewer: Vec<String>,
    /// The history whose shape is taken.
    #[arg(long, default_value = SAMPLE)]
    sample: PathBuf,
    /// Prints JSON instead of a table.
    #[arg(long)]
    json: bool,
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> Result<(), String> {
    // `cargo test` runs benches with `--test`, to see whether they start.
    if std::env::args().any(|argument| argument == "--test") {
        return Ok(());
    }
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Runtime::new().map_err(|error| error.to_string())?;
    let figures = runtime.block_on(run(&arguments))?;
    if arguments.json {
        let text = serde_json::to_string_pretty(&figures).map_err(|error| error.to_string())?;
        println!("{text}");
    } else {
        print!("{}", report::table(&figures));
    }
    Ok(())
}

async fn run(arguments: &Arguments) -> Result<Vec<Figures>, String> {
    let rows = Arc::new(Rows::read(&arguments.sample, arguments.rows)?);
    let mut places = start(arguments).await?;
    let bar = bar(places.iter().map(|(_, place)| place.target_rows).sum());
    let mut figures: Vec<(usize, Figures)> = Vec::new();
    let mut base: Vec<Round> = Vec::new();
    for round in 0.. {
        if places.is_empty() {
            break;
        }
        let count = places.len();
        // Each round begins with another one.
        for at in (0..count).map(|at| (at + round) % count) {
            let (_, place) = &mut places[at];
            bar.set_message(place.name());
            place.round(&rows, arguments.round_rows, |rows| bar.inc(rows)).await?;
        }
        base.clone_from(&places[0].1.rounds);
        let (full, rest): (Vec<_>, Vec<_>) =
            places.into_iter().partition(|(_, place)| place.rows >= place.target_rows);
        places = rest;
        for (at, place) in full {
            bar.set_message(format!("{}: what it takes", place.name()));
            let sizes = [size::loaded(&place).await?, size::packed(&place).await?];
            let found = report::figures(&place, sizes, &base);
            bar.suspend(|| eprintln!("{found:?}"));
            figures.push((at, found));
        }
    }
    bar.finish_and_clear();
    figures.sort_unstable_by_key(|(at, _)| *at);
    Ok(figures.into_iter().map(|(_, figures)| figures).collect())
}

/// A place for every layout, numbered as they are reported: those with more rows first.
async fn start(arguments: &Arguments) -> Result<Vec<(usize, Place)>, String> {
    let index_rows = arguments.index_rows.unwrap_or(arguments.rows / 10).min(arguments.rows);
    let is_in = |words: &[String], layout: &Layout| {
        words.iter().any(|word| layout.name.contains(word.as_str()))
    };
    let is_wanted = |layout: &Layout| {
        layout.name == ALL[0].name || arguments.only.is_empty() || is_in(&arguments.only, layout)
    };
    let mut places = Vec::new();
    for (time_index, rows) in [(false, arguments.rows), (true, index_rows)] {
        for layout in ALL.into_iter().filter(is_wanted).filter(|_| rows > 0) {
            let rows = if is_in(&arguments.fewer, &layout) { rows.min(index_rows) } else { rows };
            match Place::start(layout, time_index, (rows, arguments.memory_mb)).await {
                Ok(place) => places.push((places.len(), place)),
                Err(missing @ seen_testbed::Error::Missing { .. }) if layout.is_rocksdb() => {
                    eprintln!("!!! LEFT OUT: {}: {missing}", layout.name);
                }
                Err(error) => return Err(error.to_string()),
            }
        }
    }
    Ok(places)
}

fn bar(rows: u64) -> ProgressBar {
    let bar = ProgressBar::new(rows);
    let line = "{elapsed_precise} {wide_bar} {human_pos}/{human_len} rows, {eta} left: {msg}";
    if let Ok(style) = ProgressStyle::with_template(line) {
        bar.set_style(style);
    }
    bar
}
