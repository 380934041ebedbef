//! Carrying a plan out: a map, a wait, the next map.
//!
//! [`Course`] is the core: what to do next, from what is known now. It does nothing itself. [`apply`] drives it over a file and
//! over whoever knows how the replicas fare. Broken off at any moment, it is run again with a new [`plan`](super::plan::plan) for the
//! same wish, or with the same plan: the map in the file tells how far it came.

mod course;
mod judge;

use std::io;
use std::time::Duration;

use futures_util::future::BoxFuture;
use seen_proto::v1;
use tokio::time::{Instant, sleep};

pub use course::{Course, Todo};
pub use judge::{Judgement, judge};

use super::plan::{Plan, Step};
use super::{Epoch, MapError, MapFile, SlotMap, SlotNumber};

/// How a cluster fares, as far as somebody could be asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterState {
    /// Every replica that the map names, or that its names stand for.
    pub replicas: Vec<ReplicaReport>,
    /// The proxies that are known.
    pub proxies: Vec<ProxyReport>,
}

/// How one replica fares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaReport {
    /// Its pool.
    pub tag: String,
    /// Its slot.
    pub slot: SlotNumber,
    /// What the map calls it: [`super::ResolvedReplica::name`].
    pub name: String,
    /// What it says of itself, or why it says nothing.
    pub said: Result<ReplicaSays, String>,
}

/// What a replica says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplicaSays {
    /// The epoch of its map.
    pub epoch: Epoch,
    /// True if it wants requests.
    pub is_ready: bool,
    /// The share of the users of its incoming virtual slots that it has in memory.
    pub incoming_permille: u32,
    /// Its namespaces' settings.
    pub settings: u64,
}

impl ReplicaSays {
    /// What it says on the link.
    pub fn new(identity: &v1::ReplicaIdentity, state: &v1::ReplicaState) -> Self {
        Self {
            epoch: Epoch::new(state.map_epoch),
            is_ready: state.ready,
            incoming_permille: state.incoming_permille,
            settings: identity.settings,
        }
    }
}

/// How one proxy fares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProxyReport {
    /// What it is called.
    pub name: String,
    /// The epoch of its map, or why it does not say.
    pub epoch: Result<Epoch, String>,
}

/// Whoever knows how replicas and proxies fare.
pub trait ClusterView: Send + Sync {
    /// Asks all replicas of a map, and all proxies that are known. Takes a bounded time.
    fn look<'a>(&'a self, map: &'a SlotMap) -> BoxFuture<'a, ClusterState>;
}

/// How a plan is carried out.
#[derive(Clone, Debug)]
pub struct ApplyOptions {
    /// How often the cluster is looked at.
    pub look_interval: Duration,
    /// How long one step may wait.
    pub step_timeout: Duration,
    /// So many replicas of a slot may say nothing, but not all of them.
    pub silent_replicas_max: usize,
}

impl Default for ApplyOptions {
    fn default() -> Self {
        Self {
            look_interval: Duration::from_millis(500),
            step_timeout: Duration::from_secs(3_600),
            silent_replicas_max: 0,
        }
    }
}

/// How far it is.
#[derive(Clone, Copy, Debug)]
pub enum Progress<'a> {
    /// A step's map was written, or was in place already.
    InPlace {
        /// Which step, from 0.
        at: usize,
        /// It.
        step: &'a Step,
    },
    /// A step waits.
    Waiting {
        /// Which step, from 0.
        at: usize,
        /// What was found, and what is missing.
        judgement: &'a Judgement,
        /// For so long.
        elapsed: Duration,
    },
    /// All is as it should be; what is left is time.
    Draining {
        /// Which step, from 0.
        at: usize,
        /// So much.
        left: Duration,
    },
    /// The plan is carried out.
    Finished,
}

/// Why a plan was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The file holds a map that is no part of the plan.
    #[error("the file holds epoch {0}, which is no part of this plan; make a new one")]
    OtherMap(Epoch),
    /// The file holds no map.
    #[error("the map's file: {0}")]
    Map(#[from] MapError),
    /// The file cannot be written.
    #[error("the map's file cannot be written: {0}")]
    Write(#[from] io::Error),
    /// A step waited for too long. Its map stays in place; run it again to go on.
    #[error("epoch {epoch} waited for {waited:?}: {}", missing.join("; "))]
    Timeout {
        /// The step's epoch.
        epoch: Epoch,
        /// So long.
        waited: Duration,
        /// What was missing at the end.
        missing: Vec<String>,
    },
}

/// Carries a plan out, from where the file's map says it is. Writes to the file in the calling thread; that is short.
///
/// # Errors
///
/// The file changed under it or cannot be written, or a step waited for too long. What was done stands, and is safe to stay so for any time.
pub async fn apply(
    file: &MapFile,
    plan: &Plan,
    view: &dyn ClusterView,
    options: &ApplyOptions,
    progress: &mut (dyn FnMut(Progress<'_>) + Send),
) -> Result<(), ApplyError> {
    let start = Instant::now();
    let mut course = Course::resume(plan, &file.read()?)?;
    loop {
        let now = start.elapsed();
        match course.todo(now) {
            Todo::Write { at, before, step } => {
                let current = file.read()?;
                if current != *before {
                    return Err(ApplyError::OtherMap(current.epoch));
                }
                file.write(&step.map)?;
                progress(Progress::InPlace { at, step });
                course.written(now);
            }
            Todo::Look { at, step, since } => {
                let state = view.look(&step.map).await;
                let judgement = judge(step, &state, options);
                let now = start.elapsed();
                let elapsed = now.saturating_sub(since);
                if !judgement.missing.is_empty() && elapsed >= options.step_timeout {
                    let missing = judgement.missing;
                    return Err(ApplyError::Timeout {
                        epoch: step.map.epoch,
                        waited: elapsed,
                        missing,
                    });
                }
                progress(Progress::Waiting { at, judgement: &judgement, elapsed });
                match judgement.missing.is_empty() {
                    true => course.fulfilled(now),
                    false => sleep(options.look_interval).await,
                }
            }
            Todo::Drain { at, left } => {
                progress(Progress::Draining { at, left });
                sleep(left.min(options.look_interval)).await;
            }
            Todo::Nothing => {
                progress(Progress::Finished);
                return Ok(());
            }
        }
    }
}
