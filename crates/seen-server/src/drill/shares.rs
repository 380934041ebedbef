//! What the parts may use of the processor where it is measured what they bear: callers run on the same machine, and need more for a
//! call than the parts do.

use std::time::Duration;

use tokio::time::sleep;

use super::DrillError;
use super::limits::{self, Group};
use crate::cli::dev_cluster::{DevCluster, Part};

/// What all replicas may use together, of one core, and what all proxies may: each kind has its own, as with limits of their own in a
/// cluster, and more than they use without any callers, or nothing but the limit would be measured. The callers and storage
/// have the rest: a caller who is late proves nothing.
const REPLICAS_PERCENT: u64 = 18;
const PROXIES_PERCENT: u64 = 10;
/// So often they have it. Much more rarely, and their standing still alone would take as long as callers wait.
const PERIOD: Duration = Duration::from_millis(10);
/// The kernel takes no limit below a millisecond in each period.
const _: () = assert!(PERIOD.as_micros() as u64 * PROXIES_PERCENT / 100 >= 1_000);
/// How soon a part that was started again has its share.
const LOOKS_EVERY: Duration = Duration::from_millis(50);

/// The shares of all parts. They have all they want again once this is dropped.
pub(super) struct Shares {
    replicas: Group,
    proxies: Group,
}

impl Shares {
    /// What that is, in words.
    pub(super) fn text() -> String {
        format!(
            "replicas have {REPLICAS_PERCENT} % of a core together, and proxies {PROXIES_PERCENT} %"
        )
    }

    /// Gives each part that runs its share.
    ///
    /// # Errors
    /// This machine has no such control groups, or refuses.
    pub(super) fn give(cluster: &DevCluster) -> Result<Self, DrillError> {
        let of_kind = |is_replica: bool| {
            let parts = cluster.parts.iter().filter(|part| part.slot().is_some() == is_replica);
            parts.collect::<Vec<&Part>>()
        };
        Ok(Self {
            replicas: limits::slow(REPLICAS_PERCENT, PERIOD, cluster, &of_kind(true))?,
            proxies: limits::slow(PROXIES_PERCENT, PERIOD, cluster, &of_kind(false))?,
        })
    }

    /// Gives theirs to those that are started again, for as long as it is polled. What another limit has in hand is left to it.
    pub(super) async fn keep(&self, cluster: &DevCluster) {
        loop {
            sleep(LOOKS_EVERY).await;
            for part in cluster.parts.iter().chain(&cluster.spare) {
                let group = if part.slot().is_some() { &self.replicas } else { &self.proxies };
                let free = cluster.pid(&part.name).filter(|pid| group.is_free(*pid));
                // One that has ended meanwhile has nothing to share.
                let _ended = free.map(|pid| group.take(pid));
            }
        }
    }
}
