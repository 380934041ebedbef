//! `seen bench`: this program measured against rivals, each ratio within one run, with the same
//! allocator, build profile and number of threads on both sides.
//!
//! Every server is a child process of this same binary, so that its CPU time can be read from the
//! operating system; the load comes from this process, over loopback only. Children end when their
//! standard input closes, so that none outlives the run.

mod build_user;
mod certificates;
mod chart;
mod disk;
mod echo;
mod figure;
mod filter;
mod footprint;
mod hop;
mod load;
mod marks;
mod memory;
mod part;
mod process;
mod progress;
mod proxy;
mod redis;
mod report;
mod resp;
mod serve;
mod synthetic;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;
use thiserror::Error;

use chart::Chart;
pub use echo::EchoSpec;
pub use figure::{Aim, Figure, json, table};
use filter::Server;
pub use footprint::{FootprintSpec, Phase};
pub use progress::Progress;
pub use proxy::ProxySpec;
pub use report::html;
pub use serve::ServeSpec;
pub use {
    echo::run as run_echo, footprint::run as run_footprint, proxy::run as run_proxy,
    serve::run as run_serve,
};

/// Something that `seen bench` can measure by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Group {
    /// Server CPU of a Filter of 400 ids with 288 in flight, against a bare tonic echo
    FilterCpuSaturation,
    /// The same with 16 in flight
    #[value(name = "filter_cpu_16_in_flight")]
    FilterCpu16InFlight,
    /// Checks a second of the whole machine, load generator included
    ChecksPerSecond,
    /// Durable marks beside filters, closed and open loop
    DurableMarks,
    /// Time to build a user from storage
    BuildUser,
    /// The same checks on redis-server, by GETBIT
    RedisBitset,
    /// Resident memory of filters
    Memory,
    /// CPU of a proxy and of the replica behind it with 288 in flight, against the echo; of `seen serve` as well
    HopCpuSaturation,
    /// The same with 16 in flight
    #[value(name = "hop_cpu_16_in_flight")]
    HopCpu16InFlight,
    /// The same with 50 replicas behind the proxy
    #[value(name = "hop_cpu_50_replicas")]
    HopCpu50Replicas,
    /// The same with TLS on the public port and on the link, against the echo with TLS
    HopCpuTls,
    /// Checks a second through proxy and replica on the whole machine, and latencies at 70 % of that
    HopChecksPerSecond,
    /// Latency of feed's Filters while FilterUsers asks about 50,000 users a second in another pool
    HopPush,
}

impl Group {
    /// Those with a proxy: they take some minutes, and need more processes than cores.
    const fn is_hop(self) -> bool {
        matches!(
            self,
            Self::HopCpuSaturation
                | Self::HopCpu16InFlight
                | Self::HopCpu50Replicas
                | Self::HopCpuTls
                | Self::HopChecksPerSecond
                | Self::HopPush
        )
    }
}

/// How long and how much is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effort {
    /// Under a minute in all.
    Quick,
    /// A few minutes.
    Usual,
    /// As usual, with a million users where memory is measured.
    Full,
}

/// What is measured, and how.
#[derive(Clone, Debug)]
pub struct Plan {
    /// How long.
    pub effort: Effort,
    /// Only these; empty = all.
    pub only: Vec<Group>,
    /// Users whose memory is measured; `None` = by effort.
    pub memory_users: Option<u64>,
    /// A server with RedisBloom to compare with.
    pub redisbloom: Option<SocketAddr>,
    /// How long push goes on beside feed; `None` = by effort.
    pub push_lasting: Option<Duration>,
    /// A folder on a real disk, for the store's files while it is measured.
    pub dir: PathBuf,
    /// Whose storage is measured by marks and builds, instead of the embedded store.
    pub config: Option<PathBuf>,
}

impl Plan {
    /// One of two values, by effort.
    fn pick<T>(&self, quick: T, usual: T) -> T {
        if self.effort == Effort::Quick { quick } else { usual }
    }

    fn wants(&self, group: Group) -> bool {
        let by_itself = !group.is_hop() || self.effort != Effort::Quick;
        if self.only.is_empty() { by_itself } else { self.only.contains(&group) }
    }
}

/// What was measured.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The numbers, in the order in which they were taken.
    pub figures: Vec<Figure>,
    /// Pictures of them.
    pub charts: Vec<Chart>,
    /// What to know when reading them.
    pub notes: Vec<String>,
    /// What could not be measured, and why.
    pub failures: Vec<String>,
}

impl Outcome {
    fn append(&mut self, other: Outcome) {
        self.figures.extend(other.figures);
        self.charts.extend(other.charts);
        self.notes.extend(other.notes);
        self.failures.extend(other.failures);
    }
}

/// A measurement, as a function.
type Measure = fn(&Plan, &Progress) -> Result<Outcome, BenchError>;

/// Why a measurement came to nothing.
#[derive(Debug, Error)]
pub enum BenchError {
    /// A signal asked for it.
    #[error("stopped")]
    Stopped,
    /// The operating system refused something.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// A child process did not begin, or ended early.
    #[error("the process {part:?} {what}; its own message is above")]
    Part {
        /// Which.
        part: String,
        /// What happened to it.
        what: String,
    },
    /// Requests failed: the figures would be of something else.
    #[error("{during}: {failures} of {requests} requests failed; the first: {first}")]
    Requests {
        /// What was measured.
        during: String,
        /// How many failed.
        failures: u64,
        /// Of how many.
        requests: u64,
        /// The first failure.
        first: String,
    },
    /// An answer was not what it must be: a fast wrong answer is worth nothing.
    #[error("wrong answers: {0}")]
    Wrong(String),
    /// A cluster for measuring cannot be made.
    #[error("cannot make a cluster: {0}")]
    Cluster(String),
    /// The configured storage is somebody's.
    #[error(
        "{namespace} holds {} rows, and a measurement writes made-up ones: name a database that was \
         made for it (--config)",
        rows.map_or("an unknown number of".to_owned(), |rows| rows.to_string())
    )]
    NotEmpty {
        /// Which history.
        namespace: &'static str,
        /// How many rows it holds, if that is known.
        rows: Option<u64>,
    },
    /// The service refused a call made beside the load.
    #[error("{what}: {error}")]
    Call {
        /// Which call.
        what: &'static str,
        /// Its error.
        error: seen_client::ApiError,
    },
}

/// Says what an I/O error was about.
pub(crate) fn system(what: impl Into<String>) -> impl FnOnce(io::Error) -> BenchError {
    let what = what.into();
    move |source| BenchError::System { what, source }
}

/// Measures what the plan asks for. One measurement that fails does not keep the others from being
/// taken. Blocks; not to be called on a runtime's thread.
///
/// # Errors
/// [`BenchError::Stopped`], or [`BenchError::NotEmpty`] and what else the configured storage refuses.
pub fn run(plan: &Plan, progress: &Progress) -> Result<Outcome, BenchError> {
    let all: [(Group, Measure); 13] = [
        (Group::FilterCpuSaturation, filter::saturation),
        (Group::FilterCpu16InFlight, filter::sixteen),
        (Group::ChecksPerSecond, filter::throughput),
        (Group::DurableMarks, marks::measure),
        (Group::BuildUser, build_user::measure),
        (Group::RedisBitset, redis::measure),
        (Group::Memory, memory::measure),
        (Group::HopCpuSaturation, hop::saturation),
        (Group::HopCpu16InFlight, hop::sixteen),
        (Group::HopCpu50Replicas, hop::replicas_50),
        (Group::HopCpuTls, hop::tls),
        (Group::HopChecksPerSecond, hop::throughput),
        (Group::HopPush, hop::push),
    ];
    if plan.config.is_some() {
        Server::on(1, 0, &plan.dir, plan.config.as_deref())?.is_empty()?;
    }
    let mut outcome = Outcome { notes: process::machine(), ..Outcome::default() };
    for (group, measure) in all.into_iter().filter(|(group, _)| plan.wants(*group)) {
        match measure(plan, progress) {
            Ok(measured) => outcome.append(measured),
            Err(BenchError::Stopped) => return Err(BenchError::Stopped),
            Err(error) => {
                let failure = format!("{group:?} was not measured: {error}");
                progress.warn(&failure);
                outcome.failures.push(failure);
            }
        }
    }
    Ok(outcome)
}
