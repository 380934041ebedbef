//! The command line. A command is one variant of [`Command`] and one file `cli/<command>.rs` with
//! its arguments and a `run` that returns the exit status.

pub mod bench;
pub mod calls;
pub mod cluster;
pub mod completions;
pub mod config;
pub mod demo;
pub mod dev_cluster;
pub mod doctor;
pub mod drill;
pub mod dump;
pub mod export;
pub mod feed;
pub mod import;
pub mod ingest;
pub mod migrate;
pub mod observed;
pub mod part;
pub mod proxy;
pub mod relay;
pub mod replay;
pub mod replica;
pub mod serve;
pub mod shards;
pub mod warm;

use std::error::Error;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{ConfigError, Effective, Sources};

/// What a command may fail with: shown to the user in one line, and then exit status 1.
pub type CliError = Box<dyn Error + Send + Sync>;

/// Filters what a user has already seen.
#[derive(Debug, Parser)]
#[command(name = "seen", version, propagate_version = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve: all roles in one process.
    Serve(serve::ServeArgs),
    /// Serve one slot of a cluster's users, for proxies.
    Replica(part::PartArgs),
    /// Route calls to the replicas of a cluster.
    Proxy(part::PartArgs),
    /// Run a whole cluster on this machine, each part a process of its own.
    DevCluster(dev_cluster::DevClusterArgs),
    /// Run a cluster, let faults happen to it, and check every answer.
    Drill(drill::DrillArgs),
    /// The map of slots, and the replicas that it names.
    Cluster(cluster::ClusterArgs),
    /// Write what a replica holds in memory to a file, hottest users first.
    Dump(dump::DumpArgs),
    /// Bring users into a replica's memory: from another one, from a file of seen dump, or from storage.
    Warm(warm::WarmArgs),
    /// Start a service and replay a real history against it: the tour.
    Demo(demo::DemoArgs),
    /// Replay a history against a service and check every answer.
    Replay(replay::ReplayArgs),
    /// Show what the database servers' schema lacks, and make it.
    Migrate(migrate::MigrateArgs),
    /// Look for what is wrong with the database servers, and say what mends it.
    Doctor(doctor::DoctorArgs),
    /// Show where users live on the database servers, and whether every row is there.
    Shards(shards::ShardsArgs),
    /// Load histories in bulk.
    Import(import::ImportArgs),
    /// Write all rows of a history to files, for analysis or another store.
    Export(export::ExportArgs),
    /// Look at change feeds.
    Feed(feed::FeedArgs),
    /// Pass changes on to a Kafka topic from which each replica follows its share.
    Relay(relay::RelayArgs),
    /// Mark what waits in a Kafka topic.
    Ingest(ingest::IngestArgs),
    /// Ask which items a user has not read.
    Filter(calls::filter::FilterArgs),
    /// Say that a user has read items.
    Mark(calls::mark::MarkArgs),
    /// Say that a user has not read items after all.
    Unmark(calls::mark::UnmarkArgs),
    /// Remove everything that is known about a user.
    Forget(calls::forget::ForgetArgs),
    /// List what a user has read.
    History(calls::history::HistoryArgs),
    /// Explain why an item is filtered, or not.
    Explain(calls::explain::ExplainArgs),
    /// Show how a server fares.
    Status(calls::status::StatusArgs),
    /// Measure this program against rivals on this machine.
    Bench(bench::BenchArgs),
    /// A child process of `seen bench`.
    #[command(hide = true)]
    BenchPart(bench::PartArgs),
    /// Print the effective configuration and where each value comes from.
    Config(config::ConfigArgs),
    /// Print the completions of a shell.
    Completions(completions::CompletionsArgs),
}

impl Cli {
    /// Runs the command.
    ///
    /// # Errors
    /// What the command failed with.
    pub fn run(self) -> Result<ExitCode, CliError> {
        match self.command {
            Command::Serve(args) => serve::run(args),
            Command::Replica(args) => replica::run(args),
            Command::Proxy(args) => proxy::run(args),
            Command::DevCluster(args) => dev_cluster::run(args),
            Command::Drill(args) => drill::run(args),
            Command::Cluster(args) => cluster::run(args),
            Command::Dump(args) => dump::run(args),
            Command::Warm(args) => warm::run(args),
            Command::Demo(args) => demo::run(args),
            Command::Replay(args) => replay::run(args),
            Command::Migrate(args) => migrate::run(args),
            Command::Doctor(args) => doctor::run(args),
            Command::Shards(args) => shards::run(args),
            Command::Import(args) => import::run(&args),
            Command::Export(args) => export::run(args),
            Command::Feed(args) => feed::run(args),
            Command::Relay(args) => relay::run(args),
            Command::Ingest(args) => ingest::run(args),
            Command::Filter(args) => calls::filter::run(&args),
            Command::Mark(args) => calls::mark::run(&args),
            Command::Unmark(args) => calls::mark::run_unmark(&args),
            Command::Forget(args) => calls::forget::run(&args),
            Command::History(args) => calls::history::run(&args),
            Command::Explain(args) => calls::explain::run(&args),
            Command::Status(args) => calls::status::run(&args),
            Command::Bench(args) => bench::run(args),
            Command::BenchPart(args) => bench::run_part(&args),
            Command::Config(args) => config::run(args),
            Command::Completions(args) => completions::run(&args),
        }
    }
}

/// Where the configuration is read from; part of every command that needs it.
#[derive(Debug, Clone, Default, Args)]
pub struct ConfigSources {
    /// Configuration file (TOML); seen.toml in the working directory if it is there
    #[arg(long, value_name = "FILE", env = "SEEN_CONFIG")]
    pub config: Option<PathBuf>,
    /// Set one option, as in --set cache.memory=8GiB
    #[arg(long, value_name = "KEY=VALUE")]
    pub set: Vec<String>,
}

impl ConfigSources {
    /// The same, with flags of a command of its own above everything else: each is an option of this
    /// section.
    #[must_use]
    pub fn with<'a>(
        mut self,
        section: &str,
        flags: impl IntoIterator<Item = (&'a str, Option<String>)>,
    ) -> Self {
        let set =
            |(key, value): (&str, Option<String>)| Some(format!("{section}.{key}={}", value?));
        self.set.extend(flags.into_iter().filter_map(set));
        self
    }

    /// Reads file, environment and flags.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load(self) -> Result<Effective, ConfigError> {
        Sources::of_process(self.config, self.set).load()
    }
}

/// Writes a command's result to stdout. A reader that went away (`seen config | head`) is no error.
///
/// # Errors
/// Anything else that writing fails with.
pub fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written,
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }
}
