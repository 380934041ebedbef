//! Fences that fell due (rule R9), one after the other. A fence that cannot be written is simply lost:
//! another follows.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::FenceJob;
use crate::replica::Replica;

pub(super) async fn serve(replica: Arc<Replica>, mut jobs: mpsc::Receiver<FenceJob>) {
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
