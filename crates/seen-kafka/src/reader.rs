//! What the topic's thread knows of one reader.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Instant;

use seen_filter::{
    CommitStamp, FeedCursor, FeedEvent, FeedId, FenceSeq, Incarnation, Shard, Timeline, UserId,
};

use crate::place;
use crate::queue::{Queued, ReaderQueue};

/// Fences of a feed whose rows come through several partitions, of which not all have come.
const FENCES_MAX: usize = 256;

/// One reader.
#[derive(Debug)]
pub(crate) struct Reader {
    pub queue: Arc<ReaderQueue>,
    pub feed: FeedId,
    /// The numbering of its places.
    timeline: Timeline,
    /// The next record wanted of each partition.
    next: BTreeMap<u16, u64>,
    /// Events of the first record that were delivered to an earlier reader.
    skip: u64,
    /// Events that the record at hand has made.
    made: u64,
    /// Numbers the events where several partitions are one feed.
    counter: Option<u64>,
    staged: Vec<Queued>,
    /// By writer and number: the partitions that a fence has come through.
    fences: VecDeque<((u64, u64), Vec<u16>)>,
    /// The newest watermark of each partition.
    watermarks: BTreeMap<u16, CommitStamp>,
    /// Fences that came back, until it is known that they came the way of all rows.
    held: VecDeque<Held>,
}

/// A fence that came back.
#[derive(Clone, Copy, Debug)]
struct Held {
    user: UserId,
    writer: Incarnation,
    seq: FenceSeq,
    came: Instant,
}

impl Reader {
    /// A reader of these partitions, each from its next record on.
    pub fn new(
        queue: Arc<ReaderQueue>,
        timeline: Timeline,
        next: BTreeMap<u16, u64>,
        skip: u64,
        is_wide: bool,
    ) -> Self {
        let feed = queue.feed;
        Self {
            queue,
            feed,
            timeline,
            next,
            skip,
            made: 0,
            counter: is_wide.then_some(0),
            staged: Vec::new(),
            fences: VecDeque::new(),
            watermarks: BTreeMap::new(),
            held: VecDeque::new(),
        }
    }

    fn shard(&self) -> Shard {
        self.feed.shard
    }

    /// True if the record at this place is wanted.
    pub fn wants(&self, partition: u16, offset: u64) -> bool {
        self.next.get(&partition).is_some_and(|next| *next <= offset)
    }

    /// The partitions that it is read from, with the next record of each.
    pub fn sources(&self) -> &BTreeMap<u16, u64> {
        &self.next
    }

    /// The stamp of the next event of the record at hand, where the source's own does not count.
    pub fn stamp(&mut self, offset: u64) -> CommitStamp {
        match &mut self.counter {
            Some(counter) => {
                *counter += 1;
                place::stamp_before(self.feed.shard, self.timeline, *counter)
            }
            None => place::stamp(self.shard(), self.timeline, offset, self.made),
        }
    }

    fn cursor(&self, offset: u64, events: u64) -> FeedCursor {
        match self.counter {
            Some(counter) => place::cursor(self.timeline, counter, 0),
            None => place::cursor(self.timeline, offset, events),
        }
    }

    /// Takes an event of the record at hand.
    pub fn take(&mut self, offset: u64, event: FeedEvent) {
        self.made += 1;
        if self.made <= self.skip {
            return;
        }
        let cursor = self.cursor(offset, self.made);
        self.staged.push((event, cursor));
    }

    /// The record at hand is done.
    pub fn end_record(&mut self, partition: u16, offset: u64) {
        self.next.insert(partition, offset + 1);
        (self.made, self.skip) = (0, 0);
        self.queue.push(&mut self.staged);
        self.queue.passed(self.cursor(offset + 1, 0));
    }

    /// Says something that belongs to no record of its partitions.
    pub fn say(&mut self, event: FeedEvent) {
        let offset = self.next.values().next().copied().unwrap_or(0);
        let cursor = self.cursor(offset, 0);
        self.queue.push(&mut vec![(event, cursor)]);
    }

    /// The stamp of everything read so far.
    fn place(&self) -> CommitStamp {
        match self.counter {
            Some(counter) => place::stamp_before(self.shard(), self.timeline, counter),
            None => {
                let offset = self.next.values().next().copied().unwrap_or(0);
                place::stamp_before(self.shard(), self.timeline, offset)
            }
        }
    }

    /// Names the head, or wherever reading goes on.
    pub fn say_place(&mut self) {
        let stamp = self.place();
        self.say(FeedEvent::Complete { stamp });
    }

    /// Begins where it was opened; whoever begins at the head, or after a gap, is told where that is.
    pub fn open_at(&mut self, names_place: bool) {
        let offset = self.next.values().next().copied().unwrap_or(0);
        self.queue.passed(self.cursor(offset, self.skip));
        if names_place {
            self.say_place();
        }
    }

    /// Goes on at another record of a partition, in another numbering.
    pub fn move_to(&mut self, partition: u16, offset: u64, timeline: Timeline) {
        self.next.insert(partition, offset);
        (self.timeline, self.skip, self.made) = (timeline, 0, 0);
        self.staged.clear();
        self.held.clear();
        self.fences.clear();
        self.watermarks.clear();
    }

    /// Is read from several partitions from now on.
    pub fn widen(&mut self, timeline: Timeline, from: impl Iterator<Item = (u16, u64)>) {
        for (partition, offset) in from {
            self.next.entry(partition).or_insert(offset);
        }
        self.counter.get_or_insert(0);
        self.timeline = timeline;
        self.skip = 0;
        self.held.clear();
        self.fences.clear();
        self.watermarks.clear();
    }

    /// True if a fence has now come through all partitions.
    pub fn fence_came(&mut self, partition: u16, writer: u64, seq: u64) -> bool {
        if self.next.len() <= 1 {
            return self.next.contains_key(&partition);
        }
        let at = match self.fences.iter().position(|(fence, _)| *fence == (writer, seq)) {
            Some(at) => at,
            None => {
                if self.fences.len() == FENCES_MAX {
                    self.fences.pop_front();
                }
                self.fences.push_back(((writer, seq), Vec::new()));
                self.fences.len() - 1
            }
        };
        let Some((_, through)) = self.fences.get_mut(at) else { return false };
        if !through.contains(&partition) {
            through.push(partition);
        }
        if through.len() < self.next.len() {
            return false;
        }
        self.fences.remove(at);
        true
    }

    /// Holds a fence that came back until a look at the topic that begins later has shown no new
    /// partition: were there one, rows written before the fence might be in it, unread.
    pub fn hold(&mut self, user: UserId, writer: Incarnation, seq: FenceSeq) {
        if self.held.len() == FENCES_MAX {
            self.held.pop_front();
        }
        self.held.push_back(Held { user, writer, seq, came: Instant::now() });
    }

    /// A look that began then has shown no new partition.
    pub fn release(&mut self, look_began: Instant) {
        while let Some(Held { user, writer, seq, .. }) =
            self.held.pop_front_if(|held| held.came <= look_began)
        {
            let stamp = self.place();
            self.say(FeedEvent::Fence { stamp, user, writer, seq });
        }
    }

    /// A watermark came through a partition. What is complete in all of them, if that is more.
    pub fn watermark_came(&mut self, partition: u16, stamp: CommitStamp) -> Option<CommitStamp> {
        self.watermarks.insert(partition, stamp);
        if self.watermarks.len() < self.next.len() {
            return None;
        }
        self.watermarks.values().copied().reduce(|a, b| if a.covers(b) { b } else { a })
    }
}
