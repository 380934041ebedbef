//! A drill: a cluster of real processes under load, to which faults happen, while a checker that knows every
//! acknowledged mark looks at every answer.

mod change;
mod donor;
mod faults;
mod ledger;
mod load;
mod report;
mod tally;
mod watchdog;

use std::sync::Arc;
use std::time::{Duration, Instant};

use thiserror::Error;
use tokio::time::sleep;

use crate::cli::CliError;
use crate::cli::dev_cluster::DevCluster;
use crate::shutdown::Stop;
pub(crate) use faults::Fault;
use load::{Load, LoadOptions};
pub(crate) use report::Report;
use report::Row;
use watchdog::Watchdog;

/// How long a fault's consequences are looked at once the cluster is whole again.
const AFTERWARDS: Duration = Duration::from_secs(3);
/// How long the callers run before anything happens: filters are built meanwhile.
const WARM_UP: Duration = Duration::from_secs(5);

/// What a drill does.
#[derive(Clone, Debug)]
pub(crate) struct DrillOptions {
    /// What happens; empty = everything.
    pub faults: Vec<Fault>,
    /// How long: each fault once, and then random ones until this has passed.
    pub time: Duration,
    /// How long nothing happens between two faults.
    pub pause: Duration,
    /// The history.
    pub namespace: String,
    /// Users.
    pub users: u64,
    /// Filters of 400 candidates a second.
    pub filters_per_s: u32,
    /// Marks a second.
    pub marks_per_s: u32,
    /// Where the random choices begin.
    pub seed: u64,
}

/// Why a drill could not be finished.
#[derive(Debug, Error)]
pub(crate) enum DrillError {
    /// The cluster was not ready in time.
    #[error("the cluster was not whole again after {after_s} s; see the logs of its parts")]
    NotBack {
        /// The time.
        after_s: u64,
    },
    /// A part has no process.
    #[error("{part} does not run; see its log")]
    NotRunning {
        /// Which one.
        part: String,
    },
    /// A signal was refused.
    #[error("cannot signal {part}: {error}")]
    Signal {
        /// Which one.
        part: String,
        /// Why.
        error: String,
    },
    /// The callers.
    #[error(transparent)]
    Client(#[from] seen_client::OptionsError),
    /// Storage could not be asked in the end.
    #[error("what is in storage could not be asked: {0}")]
    Look(#[from] seen_proto::status::ApiError),
    /// The watchdog.
    #[error("cannot start the watchdog: {0}")]
    Watchdog(#[from] std::io::Error),
    /// The map.
    #[error("the map of slots could not be changed: {0}")]
    Change(CliError),
    /// Somebody ended it.
    #[error("ended before its time")]
    Stopped,
}

/// Runs a drill on a cluster that is started. `tell` is told each row as it is over.
///
/// # Errors
/// [`DrillError`].
pub(crate) async fn run(
    cluster: &DevCluster,
    options: &DrillOptions,
    stop: &Stop,
    mut tell: impl FnMut(&Row),
) -> Result<Report, DrillError> {
    let load = Load::new(load_options(cluster, options), Watchdog::start()?)?;
    let end_load = Stop::default();
    let callers = tokio::spawn(Arc::clone(&load).run(end_load.clone()));
    let drilled = async {
        sleep(WARM_UP).await;
        load.tally.take();
        let mut report = Report::default();
        let mut course = Course::new(options);
        while let Some(fault) = course.next() {
            let row = one(fault, cluster, &load, options, &mut course).await?;
            tell(&row);
            report.rows.push(row);
        }
        Ok::<_, DrillError>(report)
    };
    let drilled = tokio::select! {
        biased;
        () = stop.requested() => Err(DrillError::Stopped),
        drilled = drilled => drilled,
    };
    end_load.request();
    // A panic of a caller is a fault of this program, and would hide what it had to say.
    let callers = callers.await;
    let mut report = drilled?;
    callers.map_err(|panic| DrillError::Watchdog(std::io::Error::other(panic)))?;
    (report.acknowledged, report.missing) = load.look().await?;
    (report.starved_windows, report.starved) = load.watchdog().total();
    Ok(report)
}

fn load_options(cluster: &DevCluster, options: &DrillOptions) -> LoadOptions {
    let proxies = cluster.parts.iter().filter(|part| part.name.starts_with("proxy-"));
    LoadOptions {
        proxies: proxies.map(|part| format!("http://127.0.0.1:{}", part.api())).collect(),
        namespace: options.namespace.clone(),
        users: options.users,
        filters_per_s: options.filters_per_s,
        marks_per_s: options.marks_per_s,
        seed: options.seed,
    }
}

async fn one(
    fault: Fault,
    cluster: &DevCluster,
    load: &Load,
    options: &DrillOptions,
    course: &mut Course,
) -> Result<Row, DrillError> {
    load.tally.take();
    let began = Instant::now();
    let cut = faults::inject(fault, cluster, load, &mut |end| course.draw(end)).await?;
    let whole_after = began.elapsed();
    sleep(AFTERWARDS.max(options.pause)).await;
    Ok(Row { fault, whole_after, lasted: began.elapsed(), cut, counts: load.tally.take() })
}

/// Which fault comes next: each once, and then at random until the time is over.
struct Course {
    faults: Vec<Fault>,
    done: usize,
    ends: Instant,
    state: u64,
}

impl Course {
    fn new(options: &DrillOptions) -> Self {
        let ends = Instant::now() + options.time;
        let faults = match options.faults.is_empty() {
            true => Fault::ALL.to_vec(),
            false => options.faults.clone(),
        };
        Self { faults, done: 0, ends, state: options.seed }
    }

    fn draw(&mut self, end: usize) -> usize {
        self.state = self.state.wrapping_add(1);
        (seen_filter::hash::mix(self.state) % end.max(1) as u64) as usize
    }

    fn next(&mut self) -> Option<Fault> {
        if let Some(fault) = self.faults.get(self.done) {
            self.done += 1;
            return Some(*fault);
        }
        self.faults.retain(|fault| *fault != Fault::Calm);
        if self.faults.is_empty() || Instant::now() >= self.ends {
            return None;
        }
        self.done = self.faults.len();
        let at = self.draw(self.faults.len());
        self.faults.get(at).copied()
    }
}
