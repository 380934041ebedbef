//! What is done to the parts of a cluster.

use std::fmt;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::time::sleep;

use super::DrillError;
use crate::cli::dev_cluster::{DevCluster, Part};

/// How long a part is frozen.
const FROZEN_FOR: Duration = Duration::from_secs(3);
/// How long a part may take to come back.
const BACK_WITHIN: Duration = Duration::from_secs(120);
/// How often it is looked whether it has.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long after its start a replica is fed by its donor, which is then killed.
const DONOR_AT_WORK: Duration = Duration::from_millis(400);

/// Something that happens to a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
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
    /// SIGKILL of a replica, and of the peer that warms it up again.
    KillDonor,
    /// SIGTERM of each part in turn, the next one when it is back.
    RollingRestart,
}

impl Fault {
    /// What is done, once each.
    pub(super) const ALL: [Fault; 8] = [
        Self::Calm,
        Self::KillReplica,
        Self::FreezeReplica,
        Self::KillProxy,
        Self::FreezeProxy,
        Self::KillSlot,
        Self::KillDonor,
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
            Self::RollingRestart => "rolling restart",
        })
    }
}

/// Does it, and returns when the cluster is whole again.
///
/// # Errors
/// The cluster does not come back.
pub(super) async fn inject(
    fault: Fault,
    cluster: &DevCluster,
    draw: &mut impl FnMut(usize) -> usize,
) -> Result<(), DrillError> {
    let slot = draw(2);
    let slot_parts = parts(cluster, &format!("feed-{slot}-"));
    let proxies = parts(cluster, "proxy-");
    let replica = &slot_parts[draw(slot_parts.len())];
    let proxy = &proxies[draw(proxies.len())];
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
            let donor = slot_parts.iter().find(|part| *part != replica);
            let before = cluster.pid(replica);
            signal(cluster, replica, Signal::KILL)?;
            restarted(cluster, replica, before).await?;
            sleep(DONOR_AT_WORK).await;
            if let Some(donor) = donor {
                signal(cluster, donor, Signal::KILL)?;
            }
        }
        Fault::RollingRestart => {
            for part in cluster.parts.iter().map(|part| part.name.clone()) {
                let before = cluster.pid(&part);
                signal(cluster, &part, Signal::TERM)?;
                restarted(cluster, &part, before).await?;
                whole(cluster).await?;
            }
        }
    }
    // The parts that were killed are noticed before they are waited for.
    sleep(LOOK_EVERY * 4).await;
    whole(cluster).await
}

fn parts(cluster: &DevCluster, prefix: &str) -> Vec<String> {
    let named = cluster.parts.iter().filter(|part: &&Part| part.name.starts_with(prefix));
    named.map(|part| part.name.clone()).collect()
}

async fn whole(cluster: &DevCluster) -> Result<(), DrillError> {
    match cluster.ready_within(BACK_WITHIN).await {
        true => Ok(()),
        false => Err(DrillError::NotBack { after_s: BACK_WITHIN.as_secs() }),
    }
}

async fn restarted(
    cluster: &DevCluster,
    part: &str,
    before: Option<u32>,
) -> Result<(), DrillError> {
    let looked = async {
        while cluster.pid(part).is_none() || cluster.pid(part) == before {
            sleep(LOOK_EVERY).await;
        }
    };
    let in_time = tokio::time::timeout(BACK_WITHIN, looked).await;
    in_time.map_err(|_| DrillError::NotBack { after_s: BACK_WITHIN.as_secs() })
}

async fn freeze(cluster: &DevCluster, part: &str) -> Result<(), DrillError> {
    signal(cluster, part, Signal::STOP)?;
    sleep(FROZEN_FOR).await;
    signal(cluster, part, Signal::CONT)
}

fn signal(cluster: &DevCluster, part: &str, signal: Signal) -> Result<(), DrillError> {
    let pid = cluster.pid(part).and_then(|pid| Pid::from_raw(i32::try_from(pid).ok()?));
    let Some(pid) = pid else {
        return Err(DrillError::NotRunning { part: part.to_owned() });
    };
    kill_process(pid, signal)
        .map_err(|error| DrillError::Signal { part: part.to_owned(), error: error.to_string() })
}
