//! Fences that fell due (rule R9), one after the other. A fence that cannot be written is simply lost:
//! another follows. Where a row of the control table would prove nothing, storage's newest commit stands
//! for the fence.

use std::sync::Arc;

use seen_filter::{FeedProof, StoreError};
use tokio::sync::mpsc;

use super::FenceJob;
use crate::replica::Replica;
use crate::rules::Input;

pub(super) async fn serve(replica: Arc<Replica>, mut jobs: mpsc::Receiver<FenceJob>) {
    while let Some(job) = jobs.recv().await {
        let done = match replica.feed.proof(job.feed) {
            FeedProof::Fences => write(&replica, &job).await,
            FeedProof::Positions => look(&replica, &job).await,
        };
        match done {
            Ok(None) => {}
            Ok(Some(input)) => {
                replica.metrics.fences.increment(1);
                let namespace = usize::from(job.feed.namespace.get());
                replica.step(namespace, replica.ticker.now(), input);
            }
            Err(error) => {
                tracing::debug!(error = %error, feed = %job.feed, "a fence could not be written");
            }
        }
    }
}

async fn write<'a>(replica: &Replica, job: &FenceJob) -> Result<Option<Input<'a>>, StoreError> {
    let (feed, seq) = (job.feed, job.seq);
    let users = replica.feed.fence_users(feed);
    if users.is_empty() {
        // Nothing that could come back would prove anything.
        return Ok(None);
    }
    replica.history.fence(feed, users, replica.incarnation, seq).await?;
    Ok(Some(Input::FenceWritten { feed, seq }))
}

async fn look<'a>(replica: &Replica, job: &FenceJob) -> Result<Option<Input<'a>>, StoreError> {
    let (feed, seq) = (job.feed, job.seq);
    let at = replica.history.head(feed.shard).await?;
    Ok(at.map(|at| Input::FenceStands { feed, seq, at }))
}
