//! One queue for each shard: a shard that does not answer holds up its own users only.

use std::sync::Arc;

use seen_filter::Shard;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

/// Least room of one shard's queue, however many shards share the whole.
const SHARD_QUEUED_MIN: usize = 64;

/// The senders' side of one class of work.
pub(crate) struct ByShard<J>(Arc<[mpsc::Sender<J>]>);

impl<J> Clone for ByShard<J> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<J> ByShard<J> {
    /// Queues for so many shards, at least one, that share the room for `queued_max` jobs evenly.
    pub fn new(shards: u16, queued_max: usize) -> (Self, Vec<mpsc::Receiver<J>>) {
        let shards = usize::from(shards.max(1));
        let room = queued_max.div_ceil(shards).max(SHARD_QUEUED_MIN.min(queued_max)).max(1);
        let (senders, receivers): (Vec<_>, Vec<_>) =
            (0..shards).map(|_| mpsc::channel(room)).unzip();
        (Self(senders.into()), receivers)
    }

    /// Puts a job into its shard's queue.
    ///
    /// # Errors
    /// The job, if there is no room or nobody to do it.
    pub fn try_send(&self, shard: Shard, job: J) -> Result<(), TrySendError<J>> {
        match self.0.get(usize::from(shard.get())) {
            Some(queue) => queue.try_send(job),
            None => Err(TrySendError::Closed(job)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_shard_refuses_its_own_jobs_only() {
        let (queues, receivers) = ByShard::new(4, 400);
        assert_eq!(receivers.len(), 4);
        for _ in 0..100 {
            queues.try_send(Shard::new(1), ()).expect("room");
        }
        assert!(matches!(queues.try_send(Shard::new(1), ()), Err(TrySendError::Full(()))));
        queues.try_send(Shard::new(2), ()).expect("room");
        assert!(matches!(queues.try_send(Shard::new(4), ()), Err(TrySendError::Closed(()))));
        let room = |shards, max| ByShard::<()>::new(shards, max).1[0].max_capacity();
        assert_eq!((room(1, 10), room(0, 10), room(1_000, 400), room(3, 400)), (10, 10, 64, 134));
    }
}
