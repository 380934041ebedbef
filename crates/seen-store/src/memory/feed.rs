//! The double's feed, delivered as its knobs say: at once, held back and released by hand, again, or
//! not at all.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use seen_filter::feed::FeedBatch;
use seen_filter::history::SeamFuture;
use seen_filter::{
    ChangeFeed, CommitStamp, FeedCursor, FeedError, FeedEvent, FeedId, FeedReader, FeedStart,
    GapScope, NamespaceId, Partition, Shard, Timeline, UserId, VirtualSlot,
};
use tokio::time::Instant;

use super::faults::{FeedFault, Planned};
use super::{Core, MemoryStore, Shared};

/// Bits of a cursor below the commit's number.
const EVENT_BITS: u32 = 20;

/// How one feed partition is delivered.
#[derive(Debug, Default)]
pub(crate) struct Delivery {
    /// Nothing after this commit is delivered; `None`: everything is.
    pub limit: Option<u64>,
    pub fault: Option<Planned<FeedFault>>,
    /// What readers must notice: each is told once, by its number.
    pub orders: Vec<Order>,
    /// Commits whose events are never delivered.
    pub lost: BTreeSet<u64>,
}

impl Delivery {
    /// The fault of the next call. Silence is not counted: it lasts until it is lifted.
    fn next_fault(&mut self) -> Option<FeedFault> {
        match Planned::peek(&self.fault) {
            Some(FeedFault::Silent) => Some(FeedFault::Silent),
            _ => Planned::next(&mut self.fault),
        }
    }
}

/// Something that befalls every open reader of a partition.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Order {
    /// Go back and deliver from this commit on again.
    Replay(u64),
    /// Say that events may be missing.
    Gap(GapScope, &'static str),
}

/// One reader.
struct MemoryReader {
    shared: Arc<Shared>,
    feed: FeedId,
    timeline: Timeline,
    position: u64,
    skip: usize,
    ready: VecDeque<(FeedEvent, FeedCursor)>,
    resume: FeedCursor,
    completed: Option<u64>,
    orders_seen: usize,
}

fn cursor(timeline: Timeline, position: u64, event: usize) -> FeedCursor {
    FeedCursor { timeline, offset: position << EVENT_BITS | event as u64 }
}

impl ChangeFeed for MemoryStore {
    fn feeds(&self) -> Vec<FeedId> {
        self.with(|core| {
            let namespaces = core.state.namespaces.iter().map(|s| s.id);
            let partitions = core.state.options.partitions;
            let of = |namespace: NamespaceId| {
                let ids = (0..partitions).map(Partition::new);
                ids.map(move |p| FeedId::new(namespace, Shard::new(0), p))
            };
            namespaces.flat_map(of).collect()
        })
    }

    fn feed_of(&self, namespace: NamespaceId, user: UserId) -> FeedId {
        self.with(|core| core.state.feed_of(namespace, user))
    }

    fn carries(&self, feed: FeedId, slot: VirtualSlot) -> bool {
        self.with(|core| slot.range_of(core.state.options.partitions) == feed.partition.get())
    }

    fn open(
        &self,
        feed: FeedId,
        start: FeedStart,
    ) -> SeamFuture<'_, Result<Box<dyn FeedReader>, FeedError>> {
        Box::pin(async move {
            if !self.feeds().contains(&feed) {
                let message = format!("feed {feed} is unknown");
                return Err(FeedError { message, retry_helps: false });
            }
            let (at, orders_seen) = self.with(|core| {
                let head = core.visible(feed);
                let timeline = core.state.options.timeline;
                let at = match start {
                    FeedStart::Head => cursor(timeline, head + 1, 0),
                    FeedStart::At(at) => at,
                };
                (at, core.delivery(feed).orders.len())
            });
            Ok(Box::new(MemoryReader {
                shared: Arc::clone(&self.shared),
                feed,
                timeline: at.timeline,
                position: at.offset >> EVENT_BITS,
                skip: usize::try_from(at.offset & ((1 << EVENT_BITS) - 1)).unwrap_or(0),
                ready: VecDeque::new(),
                resume: at,
                completed: None,
                orders_seen,
            }) as Box<dyn FeedReader>)
        })
    }
}

impl FeedReader for MemoryReader {
    fn next(&mut self, events_max: usize) -> SeamFuture<'_, Result<FeedBatch, FeedError>> {
        Box::pin(async move {
            let heartbeat = if self.ready.is_empty() { self.fill().await? } else { false };
            let mut events = Vec::new();
            while events.len() < events_max.max(1) {
                let Some((event, after)) = self.ready.pop_front() else { break };
                events.push(event);
                self.resume = after;
            }
            let shared = Arc::clone(&self.shared);
            let is_at_head = self.position > shared.core.lock().visible(self.feed);
            Ok(FeedBatch {
                caught_up: heartbeat || (self.ready.is_empty() && is_at_head),
                events,
                resume: self.resume,
            })
        })
    }
}

impl MemoryReader {
    /// Waits for something to deliver; true if the time for a heartbeat came first.
    async fn fill(&mut self) -> Result<bool, FeedError> {
        let shared = Arc::clone(&self.shared);
        let heartbeat_ms = shared.core.lock().state.options.feed_heartbeat_ms;
        let mut heartbeat_at = Instant::now() + Duration::from_millis(heartbeat_ms);
        loop {
            let changed = shared.changed.notified();
            let fault = shared.core.lock().delivery(self.feed).next_fault();
            match fault {
                Some(FeedFault::Refuse) => {
                    let message = "a fault of the double: the feed cannot be read".to_owned();
                    return Err(FeedError { message, retry_helps: true });
                }
                Some(FeedFault::Silent) => {
                    changed.await;
                    heartbeat_at = Instant::now() + Duration::from_millis(heartbeat_ms);
                    continue;
                }
                None => {}
            }
            self.take(&mut shared.core.lock());
            if !self.ready.is_empty() {
                return Ok(false);
            }
            tokio::select! {
                // A commit that comes at the same moment as the heartbeat goes first.
                biased;
                () = changed => {}
                () = tokio::time::sleep_until(heartbeat_at) => return Ok(true),
            }
        }
    }

    /// Takes over what may be delivered now.
    fn take(&mut self, core: &mut Core) {
        let timeline = core.state.options.timeline;
        let visible = core.visible(self.feed);
        let chance = core.chaos.filter(|_| self.position <= visible);
        if let Some(chaos) = chance {
            if core.dice.in_mille(chaos.feed_replay_per_mille) {
                let back = 1 + core.dice.draw() % 8;
                self.position = self.position.saturating_sub(back).max(core.state.floor + 1);
                self.skip = 0;
            } else if core.dice.in_mille(chaos.feed_gap_per_mille) {
                (self.position, self.skip) = (self.position + 1, 0);
                self.gap(GapScope::Partition, "chaos");
            }
        }
        while let Some(order) = core.delivery(self.feed).orders.get(self.orders_seen).copied() {
            self.orders_seen += 1;
            match order {
                Order::Replay(from) => {
                    (self.position, self.skip) = (self.position.min(from.max(1)), 0);
                }
                Order::Gap(scope, reason) => self.gap(scope, reason),
            }
        }
        let gap = if timeline != self.timeline {
            Some("timeline")
        } else if self.position <= core.state.floor {
            Some("trimmed")
        } else if self.position > core.state.head() + 1 {
            Some("ahead")
        } else {
            None
        };
        if let Some(reason) = gap {
            (self.timeline, self.position, self.skip) = (timeline, core.state.floor + 1, 0);
            self.completed = None;
            self.gap(GapScope::Partition, reason);
        }
        while self.position <= visible {
            let position = self.position;
            if !core.delivery(self.feed).lost.contains(&position) {
                let stamp = core.state.stamp(position);
                let events = core.state.events(position, self.feed);
                for (n, event) in events.iter().enumerate().skip(self.skip) {
                    let after = match n + 1 == events.len() {
                        true => cursor(timeline, position + 1, 0),
                        false => cursor(timeline, position, n + 1),
                    };
                    self.ready.push_back((restamped(*event, stamp), after));
                }
            }
            (self.position, self.skip) = (position + 1, 0);
        }
        let through = self.position.saturating_sub(1);
        if self.completed != Some(through) || !self.ready.is_empty() {
            let stamp = core.state.stamp(through);
            let after = cursor(timeline, self.position, 0);
            self.ready.push_back((FeedEvent::Complete { stamp }, after));
            self.completed = Some(through);
        }
    }

    fn gap(&mut self, scope: GapScope, reason: &'static str) {
        let after = cursor(self.timeline, self.position, self.skip);
        self.ready.push_back((FeedEvent::Gap { scope, reason }, after));
    }
}

/// The event under the timeline that it is delivered in: what a restored store's log says of commits
/// from before.
fn restamped(mut event: FeedEvent, now: CommitStamp) -> FeedEvent {
    match &mut event {
        FeedEvent::Add { stamp, .. }
        | FeedEvent::Remove { stamp, .. }
        | FeedEvent::RemoveAll { stamp, .. }
        | FeedEvent::Forgotten { stamp, .. }
        | FeedEvent::Fence { stamp, .. }
        | FeedEvent::Complete { stamp } => *stamp = now,
        FeedEvent::Gap { .. } => {}
    }
    event
}
