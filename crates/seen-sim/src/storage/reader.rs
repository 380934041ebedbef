//! The change feed as one process reads it: late, silent as a whole or in one partition, and in pieces.

use seen_filter::feed::FeedBatch;
use seen_filter::history::SeamFuture;
use seen_filter::{FeedError, FeedEvent, FeedId, FeedReader, GapScope, UserId};
use tokio::time::{Duration, sleep};

use super::SimStorage;

/// With so many events at once or fewer, there are pauses between what belongs together.
const PIECES_EVENTS_MAX: usize = 8;

/// A reader of the feed, as a process has it.
pub(super) struct SimReader {
    way: SimStorage,
    feed: FeedId,
    number: u64,
    /// Up to which commit all was given out.
    given: u64,
    inner: Box<dyn FeedReader>,
}

impl SimReader {
    /// One that begins after this commit.
    pub fn new(way: SimStorage, feed: FeedId, inner: Box<dyn FeedReader>, head: u64) -> Self {
        let number = way.applied.follow(feed, head);
        Self { way, feed, number, given: head, inner }
    }

    /// What the way takes for this batch, in milliseconds.
    fn late_ms(&self, events_max: usize) -> u64 {
        let mut late_ms = self.way.weather.now().feed_late_ms;
        if events_max <= PIECES_EVENTS_MAX {
            let mut dice = self.way.dice.lock();
            late_ms += if dice.in_mille(200) { dice.within(1..=3) } else { 0 };
        }
        late_ms
    }
}

impl Drop for SimReader {
    fn drop(&mut self) {
        self.way.applied.leave(self.feed, self.number);
    }
}

impl FeedReader for SimReader {
    fn next(&mut self, events_max: usize) -> SeamFuture<'_, Result<FeedBatch, FeedError>> {
        Box::pin(async move {
            // Whoever asks for more has applied what was given.
            self.way.applied.advance(self.feed, self.number, self.given);
            let (host, partition) = (self.way.process.host, self.feed.partition);
            self.way.process.runs().await;
            self.way.weather.feeds(host, partition).await;
            let mut batch = self.inner.next(events_max).await;
            if let (Ok(batch), Some(user)) = (&mut batch, self.way.weather.now().poisoned) {
                let lost = poison(&mut batch.events, user);
                self.way.weather.lose(lost);
            }
            let late_ms = self.late_ms(events_max);
            if late_ms > 0 {
                sleep(Duration::from_millis(late_ms)).await;
            }
            self.way.weather.feeds(host, partition).await;
            self.way.process.runs().await;
            for event in batch.iter().flat_map(|batch| &batch.events) {
                match event {
                    FeedEvent::Complete { stamp } => self.given = self.given.max(stamp.position),
                    FeedEvent::Gap { scope: GapScope::Partition, .. } => {
                        self.way.applied.begin_anew(self.feed, self.number);
                        self.given = 0;
                    }
                    _ => {}
                }
            }
            batch
        })
    }
}

/// A user's events cannot be read: whose they are is known, and not what they say. Gives the newest commit that has one.
fn poison(events: &mut [FeedEvent], poisoned: UserId) -> u64 {
    let mut newest = 0;
    for event in events {
        if let FeedEvent::Add { stamp, user, .. } | FeedEvent::Remove { stamp, user, .. } = *event
            && user == poisoned
        {
            newest = newest.max(stamp.position);
            *event = FeedEvent::Gap { scope: GapScope::User(user), reason: "poison" };
        }
    }
    newest
}
