//! What is measured, and how much of it.

use std::path::PathBuf;

use clap::{Parser, ValueEnum};

/// One of the two measurements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// From commit to "seen" at both replicas
    Chain,
    /// Serving while a replica catches up
    CatchUp,
}

#[derive(Debug, Parser)]
pub struct Arguments {
    /// Measure only this.
    #[arg(long, value_enum)]
    pub only: Option<Part>,
    /// The `seen` to run: that of the same profile unless told otherwise.
    #[arg(long)]
    pub seen: Option<PathBuf>,
    /// One more setting of the replicas, as in `feed.stale_after=5s`; may be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,

    /// For how long rows are written and probes are made.
    #[arg(long, default_value_t = 30)]
    pub seconds: u64,
    /// For how long rows are written before that: Debezium and Kafka are slow until they are compiled.
    #[arg(long, default_value_t = 10)]
    pub warm_up_seconds: u64,
    /// Rows that somebody else writes in a second.
    #[arg(long, default_value_t = 5_000)]
    pub rows_per_second: u64,
    /// Rows of one of that writer's commits.
    #[arg(long, default_value_t = 50)]
    pub rows_per_commit: u64,
    /// Rows whose way is timed, in a second; each is a commit of its own.
    #[arg(long, default_value_t = 10)]
    pub probes_per_second: u64,
    /// Marks by the API in a second, for the journals' sake.
    #[arg(long, default_value_t = 50)]
    pub marks_per_second: u64,
    /// One more property of Debezium's connector; may be repeated.
    #[arg(long, value_name = "NAME=VALUE")]
    pub debezium: Vec<String>,

    /// How often a replica is cut off from Kafka and catches up.
    #[arg(long, default_value_t = 3)]
    pub rounds: u64,
    /// Events that it has to catch up with.
    #[arg(long, default_value_t = 2_000_000)]
    pub backlog: u64,
    /// Filters of 400 candidates in a second, whether or not earlier ones are answered.
    #[arg(long, default_value_t = 1_000)]
    pub filters_per_second: u64,
    /// How long is measured before and after each catch-up.
    #[arg(long, default_value_t = 3)]
    pub calm_seconds: u64,

    /// Users of the rows that are written to be looked for.
    #[arg(long, default_value_t = 20_000)]
    pub users: u64,
    /// How many of them are in the replicas' memory; half of a backlog's events are about these.
    #[arg(long, default_value_t = 5_000)]
    pub cached: u64,
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
