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
    /// The first record, and how many of what it says was delivered to an earlier reader.
    skip: Option<(u64, u64)>,
    /// The newest record that was read, and in which epoch it was written, if that is known.
    last: Option<(u64, u32)>,
    /// The same of an earlier reader at whose place this one begins, until the record has come by.
    witness: Option<(u64, u32)>,
    /// How much of the record at hand has been looked at.
    said: u64,
    /// Events that the record at hand has made.
    made: u64,
    /// Numbers the events where several partitions are one feed.
    counter: Option<u64>,
    /// The newest event is numbered by its place: there is nothing else to compare what was read by.
    is_placed: bool,
    staged: Vec<Queued>,
    /// By writer and number: the partitions that a fence has come through.
    fences: VecDeque<((u64, u64), Vec<u16>)>,
    /// The newest watermark of each partition.
    watermarks: BTreeMap<u16, CommitStamp>,
    /// What the watermarks of all of them have completed.
    complete: Option<CommitStamp>,
    /// Fences that came back, until it is known that they came the way of all rows.
    held: VecDeque<Held>,
    /// The newest commit that watermarks completed, and when, for the same reason.
    held_complete: Option<(CommitStamp, Instant)>,
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
        skip: Option<(u64, u64)>,
        is_wide: bool,
    ) -> Self {
        let feed = queue.feed;
        Self {
            queue,
            feed,
            timeline,
            next,
            skip,
            last: None,
            witness: None,
            said: 0,
            made: 0,
            counter: is_wide.then_some(0),
            is_placed: false,
            staged: Vec::new(),
            fences: VecDeque::new(),
            watermarks: BTreeMap::new(),
            complete: None,
            held: VecDeque::new(),
            held_complete: None,
        }
    }

    /// An earlier reader had read this record last, which was written in this epoch: what lies before the place
    /// is what that one has read if the record still is.
    pub fn follows(&mut self, witness: Option<(u64, u32)>) {
        (self.last, self.witness) = (witness, witness);
    }

    /// A record comes by, which was written in this epoch. True if what lies before the reader's place is not
    /// what was read when it was made: the log was cut off and written anew (coherence row 20).
    pub fn is_of_another_log(&mut self, partition: u16, offset: u64, epoch: Option<u32>) -> bool {
        let Some((record, then)) = self.witness else { return false };
        if offset < record || !self.next.contains_key(&partition) {
            return false;
        }
        self.witness = None;
        let is_another = offset > record || epoch.is_some_and(|epoch| epoch != then);
        if is_another {
            self.last = None;
        }
        is_another
    }

    fn shard(&self) -> Shard {
        self.feed.shard
    }

    /// True if the record at this place is wanted.
    pub fn wants(&self, partition: u16, offset: u64) -> bool {
        self.next.get(&partition).is_some_and(|next| *next <= offset)
    }

    /// True if its places are no records' places: it is read from several partitions.
    pub fn is_wide(&self) -> bool {
        self.counter.is_some()
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
            None => match self.last {
                Some((record, epoch)) if events == 0 && record.checked_add(1) == Some(offset) => {
                    place::cursor_after(self.timeline, record, Some(epoch))
                }
                _ => place::cursor(self.timeline, offset, events),
            },
        }
    }

    /// The record at hand says one thing more. Places within a record count these, and not the events
    /// that they make: how many these are rests on what came before.
    pub fn says_more(&mut self, offset: u64) {
        let through = self.cursor(offset, self.said);
        if let Some((_, cursor)) = self.staged.last_mut() {
            *cursor = through;
        }
        self.said += 1;
    }

    /// Takes an event of the record at hand.
    pub fn take(&mut self, offset: u64, event: FeedEvent) {
        self.made += 1;
        if let Some(stamp) = event.stamp() {
            self.is_placed = stamp.comparable(self.place());
        }
        if self.skip.is_some_and(|(at, said)| at == offset && self.said <= said) {
            return;
        }
        let cursor = self.cursor(offset, self.said.saturating_sub(1));
        self.staged.push((event, cursor));
    }

    /// The record at hand is done, which was written in this epoch.
    pub fn end_record(&mut self, partition: u16, offset: u64, epoch: Option<u32>) {
        self.next.insert(partition, offset + 1);
        self.last = epoch.map(|epoch| (offset, epoch));
        (self.made, self.said, self.skip) = (0, 0, None);
        let through = self.cursor(offset + 1, 0);
        if let Some((_, cursor)) = self.staged.last_mut() {
            *cursor = through;
        }
        let complete = self.complete_place();
        self.queue.put(&mut self.staged, through, complete);
    }

    /// Says something that belongs to no record of its partitions.
    pub fn say(&mut self, event: FeedEvent) {
        let offset = self.next.values().next().copied().unwrap_or(0);
        let cursor = self.cursor(offset, 0);
        self.queue.say((event, cursor));
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

    /// The same, where it says how far a replica is that has applied what was read: a peer takes nothing from one
    /// of which that is not known (rule R3). Rows that several partitions bring are numbered as this process
    /// has read them, which nobody else can compare with.
    fn complete_place(&self) -> Option<CommitStamp> {
        (self.is_placed && self.counter.is_none()).then(|| self.place())
    }

    /// Names the head, or wherever reading goes on.
    pub fn say_place(&mut self) {
        let stamp = self.place();
        self.say(FeedEvent::Complete { stamp });
    }

    /// Begins where it was opened; whoever begins at the head, or after a gap, is told where that is.
    pub fn open_at(&mut self, names_place: bool) {
        let offset = self.next.values().next().copied().unwrap_or(0);
        let said = self.skip.map_or(0, |(_, said)| said);
        self.queue.put(&mut Vec::new(), self.cursor(offset, said), None);
        if names_place {
            self.say_place();
        }
    }

    /// Goes on at another record of a partition, in another numbering.
    pub fn move_to(&mut self, partition: u16, offset: u64, timeline: Timeline) {
        self.next.insert(partition, offset);
        (self.timeline, self.skip, self.made, self.said) = (timeline, None, 0, 0);
        (self.last, self.witness) = (None, None);
        self.queue.begin_anew();
        self.staged.clear();
        self.held.clear();
        self.fences.clear();
        self.watermarks.clear();
        self.held_complete = None;
    }

    /// Is read from several partitions from now on.
    pub fn widen(&mut self, timeline: Timeline, from: impl Iterator<Item = (u16, u64)>) {
        for (partition, offset) in from {
            self.next.entry(partition).or_insert(offset);
        }
        self.counter.get_or_insert(0);
        self.timeline = timeline;
        (self.skip, self.witness) = (None, None);
        self.queue.begin_anew();
        self.held.clear();
        self.fences.clear();
        self.watermarks.clear();
        self.held_complete = None;
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
        // It will be numbered by where reading has come to by then.
        self.is_placed = true;
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
        if let Some((stamp, _)) = self.held_complete.take_if(|(_, came)| *came <= look_began) {
            self.say(FeedEvent::Complete { stamp });
        }
    }

    /// Holds what watermarks have completed, as fences are held.
    pub fn hold_complete(&mut self, stamp: CommitStamp) {
        self.held_complete = Some((stamp, Instant::now()));
    }

    /// What came back proves nothing any more.
    pub fn drop_held(&mut self) {
        self.held.clear();
        self.fences.clear();
    }

    /// A watermark came through a partition. What is complete in all of them, if that is more.
    pub fn watermark_came(&mut self, partition: u16, stamp: CommitStamp) -> Option<CommitStamp> {
        self.watermarks.insert(partition, stamp);
        if self.watermarks.len() < self.next.len() {
            return None;
        }
        let least =
            self.watermarks.values().copied().reduce(|a, b| if a.covers(b) { b } else { a });
        let is_more = least.is_some() && least != self.complete;
        self.complete = least;
        least.filter(|_| is_more)
    }
}
