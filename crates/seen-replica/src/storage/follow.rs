//! Following one feed partition: every event goes through the rules, then the reader moves on.

use std::sync::Arc;

use seen_filter::{FeedEvent, FeedId, FeedReader, FeedStart};
use tokio::time::{Duration, sleep};

use crate::replica::Replica;
use crate::rules::Input;

/// Longest pause between attempts at a feed that fails.
const PAUSE_MAX: Duration = Duration::from_secs(2);
/// First pause.
const PAUSE_MIN: Duration = Duration::from_millis(20);

/// Follows `feed` for as long as users of it may be kept here, until it is dropped.
pub(super) async fn follow(replica: Arc<Replica>, feed: FeedId) {
    let mut changes = replica.wants.follow();
    // The sender lives as long as the replica, which is held here.
    while changes.wait_for(|_| replica.wants(feed)).await.is_ok() {
        tokio::select! {
            biased;
            () = open_and_read(&replica, feed) => {}
            _ = changes.wait_for(|_| !replica.wants(feed)) => {}
        }
        // The reader is gone by now: nothing comes by after this.
        let namespace = usize::from(feed.namespace.get());
        replica.step(namespace, replica.ticker.now(), Input::Unfollowed { feed });
    }
}

async fn open_and_read(replica: &Replica, feed: FeedId) {
    let mut pause = PAUSE_MIN;
    let mut reader = loop {
        match replica.feed.open(feed, FeedStart::Head).await {
            Ok(reader) => break reader,
            Err(error) => {
                tracing::warn!(%feed, error = %error, "the change feed cannot be opened");
                replica.could_not_open(feed);
                sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
    };
    read(replica, feed, reader.as_mut()).await;
}

async fn read(replica: &Replica, feed: FeedId, reader: &mut dyn FeedReader) {
    let namespace = usize::from(feed.namespace.get());
    let mut pause = PAUSE_MIN;
    loop {
        match reader.next(replica.limits.feed_events_max).await {
            Ok(batch) => {
                pause = PAUSE_MIN;
                let gap = |event: &&FeedEvent| matches!(event, FeedEvent::Gap { .. });
                let gaps = batch.events.iter().filter(gap).count();
                replica.metrics.feed_events.increment(batch.events.len() as u64);
                replica.metrics.feed_gaps.increment(gaps as u64);
                replica.step(namespace, replica.ticker.now(), Input::Feed { feed, batch: &batch });
            }
            Err(error) => {
                tracing::warn!(%feed, error = %error, "the change feed cannot be read");
                sleep(pause).await;
                pause = (pause * 2).min(PAUSE_MAX);
            }
        }
    }
}
