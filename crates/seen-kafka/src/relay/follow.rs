//! Reading one feed of the source.

use std::sync::Arc;
use std::time::Duration;

use seen_filter::{ChangeFeed, FeedBatch, FeedError, FeedId, FeedReader, FeedStart};
use tokio::sync::mpsc::Sender;
use tokio::time::{Instant, sleep};

use super::metrics::SourceMetrics;

/// Pause after a failure, at first and at most.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// What one feed told: which of the shard's it is, and its events.
pub(super) type Told = (usize, Result<FeedBatch, FeedError>);

/// One feed to follow.
pub(super) struct Followed {
    pub source: Arc<dyn ChangeFeed>,
    pub feed: FeedId,
    pub start: FeedStart,
    /// Its number among those that share a target.
    pub at: usize,
    pub events_max: usize,
    pub metrics: SourceMetrics,
}

impl Followed {
    /// Reads until the other end is gone or the source cannot be read any more.
    pub async fn run(self, out: Sender<Told>) {
        let mut pause = PAUSE_MIN;
        let mut reader: Option<Box<dyn FeedReader>> = None;
        // The first place after the beginning is to be known as soon as can be.
        let mut events_max = 1;
        let mut at_end_at = Instant::now();
        loop {
            let read = match &mut reader {
                Some(reader) => reader.next(events_max).await,
                None => match self.source.open(self.feed, self.start).await {
                    Ok(opened) => {
                        reader = Some(opened);
                        continue;
                    }
                    Err(error) => Err(error),
                },
            };
            let told = match read {
                Err(error) if error.retry_helps => {
                    tracing::warn!(feed = %self.feed, %error, "the source cannot be read now");
                    self.metrics.retries.increment(1);
                    self.metrics.behind.set(at_end_at.elapsed().as_secs_f64());
                    sleep(pause).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                    continue;
                }
                Err(error) => Err(error),
                Ok(batch) => {
                    (pause, events_max) = (PAUSE_MIN, self.events_max);
                    self.metrics.events.increment(batch.events.len() as u64);
                    if batch.caught_up {
                        at_end_at = Instant::now();
                    }
                    self.metrics.behind.set(at_end_at.elapsed().as_secs_f64());
                    Ok(batch)
                }
            };
            let is_over = told.is_err();
            if out.send((self.at, told)).await.is_err() || is_over {
                return;
            }
        }
    }
}
