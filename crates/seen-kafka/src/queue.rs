//! What has been read for one reader and not yet taken.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

#[cfg(not(feature = "shuttle"))]
use parking_lot::{Condvar, Mutex};
use seen_filter::history::SeamFuture;
use seen_filter::{
    CommitStamp, FeedBatch, FeedCursor, FeedError, FeedEvent, FeedId, FeedReader, GapScope,
};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

#[cfg(feature = "shuttle")]
use threads::{Condvar, Mutex};

/// An event, and where to resume after it.
pub(crate) type Queued = (FeedEvent, FeedCursor);

#[derive(Debug)]
struct Inner {
    events: VecDeque<Queued>,
    /// Where to resume once all events are taken.
    tail: FeedCursor,
    /// What is complete once all events are taken, as long as that is not told. Nobody waits for it: it goes
    /// with the last of them, or with the next heartbeat.
    complete: Option<CommitStamp>,
    /// Nothing followed what is here when the topic's ends were looked at last.
    at_end: bool,
    closed: Option<FeedError>,
    /// The reader is gone.
    abandoned: bool,
}

/// A reader's queue: the topic's thread fills it, the reader takes from it.
#[derive(Debug)]
pub(crate) struct ReaderQueue {
    pub feed: FeedId,
    events_max: usize,
    inner: Mutex<Inner>,
    filled: Notify,
    drained: Condvar,
}

impl ReaderQueue {
    pub fn new(feed: FeedId, tail: FeedCursor, events_max: usize) -> Arc<Self> {
        let inner = Inner {
            events: VecDeque::new(),
            tail,
            complete: None,
            at_end: false,
            closed: None,
            abandoned: false,
        };
        Arc::new(Self {
            feed,
            events_max,
            inner: Mutex::new(inner),
            filled: Notify::new(),
            drained: Condvar::new(),
        })
    }

    /// Appends what a record says, maybe nothing: all that lies before `tail` has been read. `complete` says the same to whoever
    /// compares what was applied; `None` where places are not what events are numbered by. The bound is looked at by
    /// [`Self::is_full`], between records.
    pub fn put(&self, events: &mut Vec<Queued>, tail: FeedCursor, complete: Option<CommitStamp>) {
        let is_news = !events.is_empty();
        let mut inner = self.inner.lock();
        inner.events.extend(events.drain(..));
        (inner.tail, inner.complete) = (tail, complete);
        inner.at_end &= !is_news;
        drop(inner);
        if is_news {
            self.filled.notify_one();
        }
    }

    /// Appends something that belongs to no record of the reader's own partitions: nobody looks at its
    /// bound for that. Beyond it one doubt about all stands for the rest.
    pub fn say(&self, (event, cursor): Queued) {
        let mut inner = self.inner.lock();
        let is_over = inner.events.len() >= self.events_max.saturating_mul(2);
        let doubt = FeedEvent::Gap { scope: GapScope::Partition, reason: "queue_full" };
        let is_doubtful =
            is_over && matches!(inner.events.back(), Some((last, _)) if *last == doubt);
        if !is_doubtful {
            inner.events.push_back((if is_over { doubt } else { event }, cursor));
        }
        inner.tail = cursor;
        inner.at_end = false;
        drop(inner);
        self.filled.notify_one();
    }

    /// What was complete says nothing of what comes now.
    pub fn begin_anew(&self) {
        self.inner.lock().complete = None;
    }

    /// Says whether anything followed when the topic was looked at.
    pub fn set_at_end(&self, at_end: bool) {
        self.inner.lock().at_end = at_end;
    }

    /// True if nothing more is to be put in before some is taken out.
    pub fn is_full(&self) -> bool {
        self.inner.lock().events.len() >= self.events_max
    }

    /// True if there is enough room again.
    pub fn has_room(&self) -> bool {
        self.inner.lock().events.len() <= self.events_max / 2
    }

    /// Waits until there is room again, for so long at most. Without room, false.
    pub fn wait_for_room(&self, until: std::time::Instant) -> bool {
        let mut inner = self.inner.lock();
        while inner.events.len() > self.events_max / 2 && !inner.abandoned {
            if self.drained.wait_until(&mut inner, until).timed_out() {
                return false;
            }
        }
        true
    }

    pub fn is_abandoned(&self) -> bool {
        self.inner.lock().abandoned
    }

    /// The reader's calls fail from now on, once what is here is taken.
    pub fn close(&self, error: FeedError) {
        self.inner.lock().closed = Some(error);
        self.filled.notify_one();
    }

    fn take(&self, events_max: usize) -> Option<Result<FeedBatch, FeedError>> {
        let mut inner = self.inner.lock();
        if inner.events.is_empty() {
            return inner.closed.clone().map(Err);
        }
        let count = events_max.max(1).min(inner.events.len());
        let mut events = Vec::with_capacity(count);
        let mut resume = inner.tail;
        for (event, cursor) in inner.events.drain(..count) {
            events.push(event);
            resume = cursor;
        }
        if inner.events.is_empty() {
            resume = inner.tail;
            if count < events_max {
                events.extend(inner.complete.take().map(|stamp| FeedEvent::Complete { stamp }));
            }
        }
        if inner.events.len() <= self.events_max / 2 {
            self.drained.notify_all();
        }
        let caught_up = inner.events.is_empty() && inner.at_end;
        Some(Ok(FeedBatch { events, resume, caught_up }))
    }

    /// A batch without records; `None` if something has come meanwhile, which lies before the tail.
    fn beat(&self) -> Option<FeedBatch> {
        let mut inner = self.inner.lock();
        if !inner.events.is_empty() {
            return None;
        }
        let complete = inner.complete.take().map(|stamp| FeedEvent::Complete { stamp });
        let (resume, caught_up) = (inner.tail, inner.at_end);
        Some(FeedBatch { events: complete.into_iter().collect(), resume, caught_up })
    }
}

/// The reader's end.
pub(crate) struct KafkaReader {
    queue: Arc<ReaderQueue>,
    heartbeat: Duration,
}

impl KafkaReader {
    pub fn new(queue: Arc<ReaderQueue>, heartbeat: Duration) -> Self {
        Self { queue, heartbeat }
    }
}

impl FeedReader for KafkaReader {
    fn next(&mut self, events_max: usize) -> SeamFuture<'_, Result<FeedBatch, FeedError>> {
        Box::pin(async move {
            let beat_at = Instant::now() + self.heartbeat;
            loop {
                if let Some(taken) = self.queue.take(events_max) {
                    return taken;
                }
                tokio::select! {
                    () = self.queue.filled.notified() => {}
                    () = sleep_until(beat_at) => {
                        if let Some(beat) = self.queue.beat() {
                            return Ok(beat);
                        }
                    }
                }
            }
        })
    }
}

impl Drop for KafkaReader {
    fn drop(&mut self) {
        self.queue.inner.lock().abandoned = true;
        self.queue.drained.notify_all();
    }
}

#[cfg(feature = "shuttle")]
mod threads;
