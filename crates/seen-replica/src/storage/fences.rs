//! Fences that fell due (rule R9): of one partition one after the other, so that none overtakes another; of several partitions
//! together, so that storage that answers slowly does not keep all of them waiting for the sum of it. A fence that cannot be
//! written is simply lost: another follows as soon as one may. Where a row of the control table would prove nothing, storage's newest commit
//! stands for the fence.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use seen_filter::{FeedId, FeedProof, StoreError};
use tokio::sync::mpsc;

use super::FenceJob;
use crate::replica::Replica;
use crate::rules::Input;

/// Most fences that are written at once: storage may gather them into one transaction, which has to be over within the time of a
/// write, and of a few connections some are left to marks.
const AT_ONCE_MAX: usize = 3;
/// Most that wait for that here; the others stay in the queue.
const WAITING_MAX: usize = 64;

pub(super) async fn serve(replica: Arc<Replica>, mut jobs: mpsc::Receiver<FenceJob>) {
    let mut written = FuturesUnordered::new();
    let mut turns = Turns::default();
    loop {
        tokio::select! {
            biased;
            Some(feed) = written.next() => turns.over(feed),
            job = jobs.recv(), if turns.waiting.len() < WAITING_MAX => match job {
                Some(job) => turns.waiting.push_back(job),
                None => return,
            },
        }
        while let Some(job) = turns.next() {
            written.push(write_one(&replica, job));
        }
    }
}

/// Which partitions' fences are being written, and which wait for one of their own.
#[derive(Default)]
struct Turns {
    under_way: Vec<FeedId>,
    waiting: VecDeque<FenceJob>,
}

impl Turns {
    /// The next one that may begin now.
    fn next(&mut self) -> Option<FenceJob> {
        if self.under_way.len() >= AT_ONCE_MAX {
            return None;
        }
        let is_free = |job: &FenceJob| !self.under_way.contains(&job.feed);
        let at = self.waiting.iter().position(is_free)?;
        let job = self.waiting.remove(at)?;
        self.under_way.push(job.feed);
        Some(job)
    }

    /// A partition's fence is written, or not.
    fn over(&mut self, feed: FeedId) {
        self.under_way.retain(|other| *other != feed);
    }
}

async fn write_one(replica: &Replica, job: FenceJob) -> FeedId {
    let done = match replica.feed.proof(job.feed) {
        FeedProof::Fences => write(replica, &job).await,
        FeedProof::Positions => look(replica, &job).await,
    };
    let FenceJob { feed, seq } = job;
    let input = match done {
        Ok(input) => {
            replica.metrics.fences.increment(u64::from(input.is_some()));
            input
        }
        Err(error) => {
            tracing::debug!(error = %error, feed = %feed, "a fence could not be written");
            Some(Input::FenceFailed(feed, seq))
        }
    };
    if let Some(input) = input {
        let namespace = usize::from(feed.namespace.get());
        replica.step(namespace, replica.ticker.now(), input);
    }
    feed
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

#[cfg(test)]
mod tests {
    use seen_filter::{FenceSeq, NamespaceId, Partition, Shard};

    use super::*;

    fn feed(partition: u16) -> FeedId {
        FeedId::new(NamespaceId::new(0), Shard::new(0), Partition::new(partition))
    }

    fn begun(turns: &mut Turns) -> Vec<(u16, u64)> {
        let next = std::iter::from_fn(|| turns.next());
        next.map(|job| (job.feed.partition.get(), job.seq.get())).collect()
    }

    #[test]
    fn a_partitions_fences_keep_their_order_and_others_do_not_wait_for_them() {
        let mut turns = Turns::default();
        for (partition, seq) in [(0, 1), (0, 2), (1, 1), (2, 1), (3, 1)] {
            turns.waiting.push_back(FenceJob { feed: feed(partition), seq: FenceSeq::new(seq) });
        }
        assert_eq!(begun(&mut turns), [(0, 1), (1, 1), (2, 1)], "as many as may be at once");
        turns.over(feed(2));
        assert_eq!(begun(&mut turns), [(3, 1)], "the first partition's next one waits for its own");
        turns.over(feed(0));
        assert_eq!(begun(&mut turns), [(0, 2)]);
        assert!(turns.waiting.is_empty());
    }
}
