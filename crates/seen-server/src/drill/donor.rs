//! The death of a peer that is just handing its users over.

use std::time::Duration;

use rustix::process::Signal;
use tokio::time::{Instant, sleep};

use super::DrillError;
use super::faults::{BACK_WITHIN, restarted, signal, whole};
use super::load::Load;
use crate::cli::dev_cluster::{DevCluster, Part, counted, is_ready};

/// How often it is looked whether users come by now.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// So often it is tried to hit a transfer: the donor may have nobody to hand over, or be done before the signal comes.
const ATTEMPTS_MAX: u32 = 8;
/// How long the donor gathers users before the next attempt.
const PAUSE: Duration = Duration::from_secs(5);
/// How long after the receiver's way to its donor is open users are on their way.
const AT_WORK: Duration = Duration::from_millis(60);

/// Has many users asked about, so that there is much to hand over; kills a replica, and its donor as soon as users are on their
/// way. How many transfers were torn by that, as the receiver counts them.
///
/// # Errors
/// A part does not come back.
pub(super) async fn killed_at_work(
    cluster: &DevCluster,
    load: &Load,
    donor: &Part,
    receiver: &Part,
) -> Result<u64, DrillError> {
    for attempt in 0..ATTEMPTS_MAX {
        if attempt > 0 {
            whole(cluster).await?;
            sleep(PAUSE).await;
        }
        load.bystanders().await;
        let before = cluster.pid(&receiver.name);
        signal(cluster, receiver, Signal::KILL)?;
        restarted(cluster, receiver, before).await?;
        if !gives_users(donor, receiver).await {
            continue;
        }
        signal(cluster, donor, Signal::KILL)?;
        // The receiver gives the stream up, finds nobody else, and serves with what it has.
        whole(cluster).await?;
        let torn = torn_streams(receiver).await;
        if torn > 0 {
            return Ok(torn);
        }
    }
    Ok(0)
}

/// Waits until a donor is handing users over. False if the replica is ready without.
async fn gives_users(donor: &Part, receiver: &Part) -> bool {
    let until = Instant::now() + BACK_WITHIN;
    while Instant::now() < until {
        // The receiver's own counters can be asked for only once it has begun to serve.
        let is_over = is_ready(receiver).await;
        if open_transfers(donor).await > 0 {
            sleep(AT_WORK).await;
            return true;
        }
        if is_over {
            return false;
        }
        sleep(LOOK_EVERY).await;
    }
    false
}

async fn open_transfers(donor: &Part) -> u64 {
    let labels = ["lane=\"transfer\"", "end=\"server\""];
    counted(donor, "seen_link_connections_count", &labels).await.unwrap_or(0)
}

/// As the receiver counts streams that ended before their end.
async fn torn_streams(receiver: &Part) -> u64 {
    let labels = ["reason=\"broken\""];
    counted(receiver, "seen_warm_failures_total", &labels).await.unwrap_or(0)
}
