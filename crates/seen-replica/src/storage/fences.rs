//! Fences that fell due (rule R9), one after the other. A fence that cannot be written is simply lost:
//! another follows.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::FenceJob;
use crate::replica::Replica;

pub(super) async fn serve(replica: Arc<Replica>, mut jobs: mpsc::Receiver<FenceJob>) {
    while let Some(job) = jobs.recv().await {
        let users = replica.feed.fence_users(job.feed);
        if users.is_empty() {
            // Nothing that could come back would prove anything.
            continue;
        }
        match replica.history.fence(job.feed, users, replica.incarnation, job.seq).await {
            Ok(_) => replica.metrics.fences.increment(1),
            Err(error) => {
                tracing::debug!(error = %error, feed = %job.feed, "a fence could not be written");
            }
        }
    }
}
