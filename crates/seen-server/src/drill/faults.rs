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
    /// SIGKILL of all replicas at once.
    RestartReplicas,
    /// What one replica sends is lost.
    LinkOneWay,
    /// Packets to and from one replica are lost.
    LinkSilent,
    /// One replica's port answers with a reset.
    LinkRefused,
    /// Of the packets between proxies and replicas 5 % are lost.
    LinkLoss5,
    /// 20 % are.
    LinkLoss20,
    /// Few bytes a second pass to and from one replica.
    LinkNarrow,
    /// What passes between one replica and the others takes 20 to 60 ms longer, each way.
    LinkSlow,
    /// 150 to 250 ms longer.
    LinkSlower,
    /// A replica and a proxy may have 64 open files.
    FewFiles,
    /// A replica may use hardly more memory than it does.
    LittleMemory,
    /// A replica has 20 % of a core.
    LittleCpu,
    /// The clocks of a replica and a proxy are an hour off.
    ClockOff,
    /// Parts log all they can.
    LogStorm,
    /// A user of 500,000 rows is asked about.
    BigUser,
    /// Twice the Filters that the parts bear.
    OverloadTwice,
    /// Five times as many.
    OverloadFive,
    /// A thirtieth of the Filters, and then all of them for a minute.
    Peak,
    /// Storage's answers take longer.
    StorageSlow,
    /// Few bytes a second pass to and from storage.
    StorageNarrow,
    /// Of the packets to and from storage 5 % are lost.
    StorageLoss5,
    /// 20 % are.
    StorageLoss20,
    /// What storage sends is lost.
    StorageOneWay,
    /// Storage refuses connections.
    StorageRefused,
    /// Storage takes everything and answers nothing.
    StorageSilent,
    /// SIGSTOP of the primary, and SIGCONT.
    StorageFrozen,
    /// Connections break when storage answers what it has done.
    CommitLost,
    /// The primary is read-only.
    StorageReadOnly,
    /// SIGSTOP of Kafka, and SIGCONT.
    KafkaFrozen,
    /// Kafka is gone for long.
    KafkaDown,
    /// Records that nobody can read.
    Poison,
    /// Kafka forgets what a frozen replica has not read.
    RetentionGap,
    /// The primary's disk is full.
    DiskFull,
    /// SIGKILL of the primary, which is started again.
    StorageKilled,
    /// SIGKILL of the primary, and another server takes its place.
    StorageFailover,
}

impl Fault {
    /// What is done to a cluster of which only the parts are in reach, once each.
    pub(super) const OWN: [Fault; 9] = [
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

    /// Its name, as it is given on the command line.
    pub(super) fn name(self) -> String {
        self.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::KillReplica => "kill a replica",
            Self::FreezeReplica => "freeze a replica",
            Self::KillProxy => "kill a proxy",
            Self::FreezeProxy => "freeze a proxy",
            Self::KillSlot => "kill a slot",
            Self::KillDonor => "kill a donor",
            Self::ChangeMap => "2 to 3 slots and back",
            other => return f.write_str(&other.name().replace('-', " ")),
        })
    }
}

/// Does what concerns the parts, and returns when the cluster is whole again; with the number of warm-ups that were torn, where it is about them.
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
        Fault::RestartReplicas => {
            for part in parts(cluster, "").into_iter().filter(|part| part.slot().is_some()) {
                signal(cluster, part, Signal::KILL)?;
            }
        }
        Fault::RollingRestart => {
            for part in &cluster.parts {
                let before = cluster.pid(&part.name);
                signal(cluster, part, Signal::TERM)?;
                restarted(cluster, part, before).await?;
                whole(cluster).await?;
            }
        }
        // The others are not done to the parts: see the catalog.
        _ => {}
    }
    // The parts that were killed are noticed before they are waited for.
    sleep(LOOK_EVERY * 4).await;
    whole(cluster).await?;
    Ok(cut)
}

/// The parts whose names begin so.
pub(super) fn parts<'a>(cluster: &'a DevCluster, prefix: &str) -> Vec<&'a Part> {
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

/// Stops a part for a while.
///
/// # Errors
/// It does not run.
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
