//! Fences that fell due (rule R9). A fence that cannot be written is simply lost: another follows.
//! Each shard's are written one after the other, and no shard waits for another.

use std::collections::HashMap;
use std::sync::Arc;

use seen_filter::Shard;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::FenceJob;
use crate::replica::Replica;

/// Fences of one shard that may wait; a lost one falls due again.
const SHARD_QUEUED_MAX: usize = 256;

pub(super) async fn serve(replica: Arc<Replica>, mut jobs: mpsc::Receiver<FenceJob>) {
    let mut shards: HashMap<Shard, mpsc::Sender<FenceJob>> = HashMap::new();
    let mut writers = JoinSet::new();
    while let Some(job) = jobs.recv().await {
        let queue = shards.entry(job.feed.shard).or_insert_with(|| {
            let (queue, of_shard) = mpsc::channel(SHARD_QUEUED_MAX);
            writers.spawn(write(Arc::clone(&replica), of_shard));
            queue
        });
        // A full queue loses it.
        let _ = queue.try_send(job);
    }
}

async fn write(replica: Arc<Replica>, mut jobs: mpsc::Receiver<FenceJob>) {
    while let Some(job) = jobs.recv().await {
        let written = replica.history.fence(job.feed, replica.incarnation, job.seq).await;
        match written {
            Ok(_) => replica.metrics.fences.increment(1),
            Err(error) => {
                tracing::debug!(error = %error, feed = %job.feed, "a fence could not be written");
            }
        }
    }
}
