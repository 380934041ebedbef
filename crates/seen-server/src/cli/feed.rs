//! `seen feed`: change feeds, for people.

pub mod decode;
mod lines;
pub mod replay;
pub mod status;
pub mod table;
pub mod tail;
pub mod topics;

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::CliError;

/// Arguments of `seen feed`.
#[derive(Debug, Clone, Args)]
pub struct FeedArgs {
    #[command(subcommand)]
    command: FeedCommand,
}

/// What to do with a feed.
#[derive(Debug, Clone, Subcommand)]
enum FeedCommand {
    /// Show what captured change events say, record by record.
    Decode(decode::DecodeArgs),
    /// Show how far a running server has followed each feed partition.
    Status(status::FeedStatusArgs),
    /// Follow the configured topics and show what their records say.
    Tail(tail::TailArgs),
    /// Print a range of a topic as captured records, for seen feed decode and for reports.
    ///
    /// Nothing is written anywhere and no server is told: what a topic still holds is read once more, a
    /// line each record. A replica that shall read it again is restarted, or its users rebuilt.
    Replay(replay::ReplayArgs),
}

/// Runs the command.
///
/// # Errors
/// What the command failed with.
pub fn run(args: FeedArgs) -> Result<ExitCode, CliError> {
    match args.command {
        FeedCommand::Decode(args) => decode::run(&args),
        FeedCommand::Status(args) => status::run(&args),
        FeedCommand::Tail(args) => tail::run(args),
        FeedCommand::Replay(args) => replay::run(args),
    }
}
