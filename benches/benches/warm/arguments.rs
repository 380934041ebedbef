//! What is measured, and how much of it.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

/// One of the two measurements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// From a donor to a receiver, against memory and loopback
    Rate,
    /// Until a restarted replica is ready
    Restart,
}

#[derive(Debug, Parser)]
pub struct Arguments {
    /// Measure only this.
    #[arg(long, value_enum)]
    pub only: Option<Part>,
    /// Rounds of every measurement; each takes its turn in each round.
    #[arg(long, default_value_t = 3)]
    pub rounds: usize,

    /// Users that are given, of each size; fewer where their entries would take more than --megabytes.
    #[arg(long, default_value_t = 400_000)]
    pub users: u64,
    /// Most that all entries of one size may take.
    #[arg(long, default_value_t = 300)]
    pub megabytes: u64,
    /// Items of a user; may be repeated.
    #[arg(long, default_values_t = [16, 300, 5_000])]
    pub items: Vec<u64>,

    /// Users of the replica that is restarted.
    #[arg(long, default_value_t = 1_000_000)]
    pub restart_users: u64,
    /// Items of each of them, all in storage.
    #[arg(long, default_value_t = 16)]
    pub restart_items: u64,
    /// The `seen` to run: that of the same profile unless told otherwise.
    #[arg(long)]
    pub seen: Option<PathBuf>,
    /// One more setting of the replicas, as in `cluster.warm_share=1`; may be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
    /// What `cargo bench` adds.
    #[arg(long, hide = true)]
    bench: bool,
}

impl Arguments {
    /// True if this part is wanted.
    pub fn wants(&self, part: Part) -> bool {
        self.only.is_none_or(|only| only == part)
    }
}
