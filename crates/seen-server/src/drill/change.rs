//! One slot more, and one less again, while everything runs: by what `seen cluster apply` does.

use std::time::Duration;

use seen_cluster::map::apply::ApplyOptions;
use seen_cluster::map::plan::{Members, Plan, PlanOptions, Target, Wish, plan};
use seen_cluster::map::{ReplicaAddress, SlotMap, SlotNumber, WEIGHT_DEFAULT};
use tokio::time::sleep;

use super::DrillError;
use super::faults::BACK_WITHIN;
use crate::cli::CliError;
use crate::cli::cluster::apply::carried_out;
use crate::cli::dev_cluster::DevCluster;
use crate::node;

/// How long all slots are there.
const STEADY: Duration = Duration::from_secs(3);

/// Starts the replicas of one slot more, brings it into the map, takes it out again, and ends them.
///
/// # Errors
/// The map cannot be changed, or a step waits for too long.
pub(super) async fn there_and_back(cluster: &DevCluster) -> Result<(), DrillError> {
    changed(cluster).await.map_err(DrillError::Change)
}

async fn changed(cluster: &DevCluster) -> Result<(), CliError> {
    let (comes, goes) = wishes(cluster).ok_or("there are no replicas for one slot more")?;
    let joined: Vec<_> = cluster.spare.iter().cloned().map(|part| cluster.join(part)).collect();
    carry_out(cluster, comes).await?;
    sleep(STEADY).await;
    carry_out(cluster, goes).await?;
    for one in joined {
        one.end().await?;
    }
    Ok(())
}

async fn carry_out(cluster: &DevCluster, wish: Wish) -> Result<(), CliError> {
    let launch = &cluster.launch;
    let tls = node::link_tls(&launch.sources.clone().load()?.config.tls)?;
    let options = ApplyOptions { step_timeout: BACK_WITHIN, ..ApplyOptions::default() };
    let target = Target::Wishes(vec![wish]);
    let wished = |map: &SlotMap| -> Result<Plan, CliError> {
        Ok(plan(map, &target, &PlanOptions::default())?)
    };
    carried_out(&launch.map, wished, tls, &options, |_, _| {}).await?;
    Ok(())
}

/// That there is the slot of the spare replicas, and that there is not.
fn wishes(cluster: &DevCluster) -> Option<(Wish, Wish)> {
    let (tag, slot) = cluster.spare.first()?.slot()?;
    let (tag, slot) = (tag.to_owned(), SlotNumber::new(slot));
    let address =
        |port: u16| ReplicaAddress { address: format!("127.0.0.1:{port}"), weight: WEIGHT_DEFAULT };
    let replicas = cluster.spare.iter().map(|part| address(part.link())).collect();
    let members = Members { replicas, ..Members::default() };
    Some((Wish::Slot { tag: tag.clone(), slot, members }, Wish::NoSlot { tag, slot }))
}
