//! What is done to the parts of a cluster.

use std::fmt;
use std::time::Duration;

use clap::ValueEnum;
use rustix::process::{Pid, Signal, kill_process};
use tokio::time::sleep;

use super::load::Load;
use super::{DrillError, change, donor};
use crate::cli::dev_cluster::{DevCluster, Part};

/// How long a part is frozen.
const FROZEN_FOR: Duration = Duration::from_secs(3);
/// How long a part may take to come back.
pub(super) const BACK_WITHIN: Duration = Duration::from_secs(120);
/// How often it is looked whether it has.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// Something that happens to a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Fault {
    /// Nothing: what the others are compared with.
    Calm,
    /// SIGKILL of a replica.
    KillReplica,
    /// SIGSTOP of a replica, and SIGCONT.
    FreezeReplica,
    /// SIGKILL of a proxy.
    KillProxy,
    /// SIGSTOP of a proxy, and SIGCONT.
    FreezeProxy,
    /// SIGKILL of all replicas of a slot.
    KillSlot,
    /// SIGKILL of a replica, and then of the peer that warms it up again, while it does.
    KillDonor,
    /// One slot more in the map, and one less again.
    ChangeMap,
    /// SIGTERM of each part in turn, the next one when it is back.
    RollingRestart,
}

impl Fault {
    /// What is done, once each.
    pub(super) const ALL: [Fault; 9] = [
        Self::Calm,
        Self::KillReplica,
        Self::FreezeReplica,
        Self::KillProxy,
        Self::FreezeProxy,
        Self::KillSlot,
        Self::KillDonor,
        Self::ChangeMap,
        Self::RollingRestart,
    ];

    /// The highest share of flagged answers that is aimed at, where one is.
    pub(super) const fn flagged_share_aim(self) -> Option<f64> {
        match self {
            Self::Calm => Some(0.0),
            Self::KillReplica => Some(0.005),
            Self::RollingRestart => Some(0.001),
            _ => None,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Calm => "calm",
            Self::KillReplica => "kill a replica",
            Self::FreezeReplica => "freeze a replica",
            Self::KillProxy => "kill a proxy",
            Self::FreezeProxy => "freeze a proxy",
            Self::KillSlot => "kill a slot",
            Self::KillDonor => "kill a donor",
            Self::ChangeMap => "2 to 3 slots and back",
            Self::RollingRestart => "rolling restart",
        })
    }
}

/// Does it, and returns when the cluster is whole again; with the number of warm-ups that were torn, where it is about them.
///
/// # Errors
/// The cluster does not come back.
pub(super) async fn inject(
    fault: Fault,
    cluster: &DevCluster,
    load: &Load,
    draw: &mut impl FnMut(usize) -> usize,
) -> Result<Option<u64>, DrillError> {
    let mut cut = None;
    let slot = draw(2);
    let slot_parts = parts(cluster, &format!("feed-{slot}-"));
    let proxies = parts(cluster, "proxy-");
    let replica = slot_parts[draw(slot_parts.len())];
    let proxy = proxies[draw(proxies.len())];
    match fault {
        Fault::Calm => {}
        Fault::KillReplica => signal(cluster, replica, Signal::KILL)?,
        Fault::KillProxy => signal(cluster, proxy, Signal::KILL)?,
        Fault::FreezeReplica => freeze(cluster, replica).await?,
        Fault::FreezeProxy => freeze(cluster, proxy).await?,
        Fault::KillSlot => {
            for part in &slot_parts {
                signal(cluster, part, Signal::KILL)?;
            }
        }
        Fault::KillDonor => {
            let donor = slot_parts.iter().copied().find(|part| *part != replica);
            let donor = donor.unwrap_or(replica);
            cut = Some(donor::killed_at_work(cluster, load, donor, replica).await?);
        }
        Fault::ChangeMap => change::there_and_back(cluster).await?,
        Fault::RollingRestart => {
            for part in &cluster.parts {
                let before = cluster.pid(&part.name);
                signal(cluster, part, Signal::TERM)?;
                restarted(cluster, part, before).await?;
                whole(cluster).await?;
            }
        }
    }
    // The parts that were killed are noticed before they are waited for.
    sleep(LOOK_EVERY * 4).await;
    whole(cluster).await?;
    Ok(cut)
}

fn parts<'a>(cluster: &'a DevCluster, prefix: &str) -> Vec<&'a Part> {
    cluster.parts.iter().filter(|part| part.name.starts_with(prefix)).collect()
}

/// Waits until all parts are ready.
///
/// # Errors
/// They are not, for long.
pub(super) async fn whole(cluster: &DevCluster) -> Result<(), DrillError> {
    match cluster.ready_within(BACK_WITHIN).await {
        true => Ok(()),
        false => Err(DrillError::NotBack { after_s: BACK_WITHIN.as_secs() }),
    }
}

/// Waits until a part has another process than before.
///
/// # Errors
/// It has not, for long.
pub(super) async fn restarted(
    cluster: &DevCluster,
    part: &Part,
    before: Option<u32>,
) -> Result<(), DrillError> {
    let part = &part.name;
    let looked = async {
        while cluster.pid(part).is_none() || cluster.pid(part) == before {
            sleep(LOOK_EVERY).await;
        }
    };
    let in_time = tokio::time::timeout(BACK_WITHIN, looked).await;
    in_time.map_err(|_| DrillError::NotBack { after_s: BACK_WITHIN.as_secs() })
}

async fn freeze(cluster: &DevCluster, part: &Part) -> Result<(), DrillError> {
    signal(cluster, part, Signal::STOP)?;
    sleep(FROZEN_FOR).await;
    signal(cluster, part, Signal::CONT)
}

/// Signals a part's process.
///
/// # Errors
/// It has none, or the signal is refused.
pub(super) fn signal(cluster: &DevCluster, part: &Part, signal: Signal) -> Result<(), DrillError> {
    let part = &part.name;
    let pid = cluster.pid(part).and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
    let Some(pid) = pid else {
        return Err(DrillError::NotRunning { part: part.clone() });
    };
    kill_process(pid, signal)
        .map_err(|error| DrillError::Signal { part: part.clone(), error: error.to_string() })
}
