//! The reader's end of the queue that a [source](super::source) fills.

use std::sync::Arc;
use std::time::Duration;

use seen_filter::feed::FeedBatch;
use seen_filter::history::SeamFuture;
use seen_filter::{FeedCursor, FeedError, FeedEvent, FeedId, FeedReader, FeedStart};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::source::{self, Shared};

/// News of an idle server is fresh for two heartbeats, but not for less than two of this.
const FRESH_MIN: Duration = Duration::from_millis(500);

/// What a source queues.
#[derive(Clone, Debug)]
pub(super) enum Queued {
    /// An event.
    Event {
        event: FeedEvent,
        /// Where to resume after it.
        after: FeedCursor,
        /// When nothing followed it, if nothing did.
        idle: Option<Instant>,
    },
    /// Nothing followed at this time.
    Idle(Instant),
    /// The feed cannot be read now.
    Trouble(FeedError),
}

/// One reader of one feed.
pub(super) struct BinlogReader {
    pub shared: Arc<Shared>,
    pub feed: FeedId,
    pub queue: mpsc::Receiver<Queued>,
    pub resume: FeedCursor,
    /// Taken from the queue after events that were delivered first.
    pub trouble: Option<FeedError>,
}

/// A batch that is being filled.
#[derive(Default)]
struct Filling {
    events: Vec<FeedEvent>,
    caught_up: bool,
}

impl FeedReader for BinlogReader {
    fn next(&mut self, events_max: usize) -> SeamFuture<'_, Result<FeedBatch, FeedError>> {
        Box::pin(async move {
            if let Some(error) = self.trouble.take() {
                return Err(error);
            }
            let mut batch = Filling::default();
            loop {
                // Nothing has been taken yet when a call is cancelled here.
                let Some(first) = self.queue.recv().await else { return Err(self.ended()) };
                self.take(first, &mut batch);
                // From here on nothing is awaited.
                while batch.events.len() < events_max.max(1) && self.trouble.is_none() {
                    let Ok(next) = self.queue.try_recv() else { break };
                    self.take(next, &mut batch);
                }
                if !batch.events.is_empty() || batch.caught_up {
                    let Filling { events, caught_up } = batch;
                    return Ok(FeedBatch { events, resume: self.resume, caught_up });
                }
                if let Some(error) = self.trouble.take() {
                    return Err(error);
                }
            }
        })
    }
}

impl BinlogReader {
    fn take(&mut self, queued: Queued, batch: &mut Filling) {
        match queued {
            Queued::Event { event, after, idle } => {
                let completes = |event: &FeedEvent| matches!(event, FeedEvent::Complete { .. });
                // What a later commit says of itself it says of the one before too.
                if completes(&event) && batch.events.last().is_some_and(completes) {
                    batch.events.pop();
                }
                batch.events.push(event);
                batch.caught_up = idle.is_some_and(|at| self.is_fresh(at));
                self.resume = after;
            }
            Queued::Idle(at) => batch.caught_up = self.is_fresh(at),
            Queued::Trouble(error) => self.trouble = Some(error),
        }
    }

    /// False for what lay in the queue for long: it proves nothing any more (coherence row 25).
    fn is_fresh(&self, at: Instant) -> bool {
        let heartbeat = Duration::from_millis(self.shared.options.heartbeat_ms);
        at.elapsed() < heartbeat.max(FRESH_MIN) * 2
    }

    /// The source is gone: the feed was closed, or bytes of the log have ended its task. A new one
    /// goes on where the events stop that were delivered.
    fn ended(&mut self) -> FeedError {
        if self.shared.is_closed() {
            return source::closed();
        }
        self.queue = source::spawn(&self.shared, self.feed, FeedStart::At(self.resume), None);
        FeedError { message: "reading the binary log has failed".to_owned(), retry_helps: true }
    }
}
