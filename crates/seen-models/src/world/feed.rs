//! The readers of the partitions: batches cut anywhere, replays, gaps, and rows that cannot be read.

use std::hash::{Hash, Hasher};

use seen_filter::{CommitStamp, FeedBatch, FeedCursor, FeedEvent, GapScope, Timeline, UserId};
use seen_replica::rules::Input;

use super::World;
use super::action::name;
use super::config::PARTITIONS;
use super::storage::{Change, Row, feed};
use super::topic::offset_stamp;
use crate::landmark::Landmark;

/// Where a replica stands in one partition's log.
#[derive(Debug, Default)]
pub struct Reader {
    pub opened: bool,
    /// The next row.
    pub at: usize,
    /// The oldest row that may be delivered again.
    pub from: usize,
    /// The furthest that it ever was.
    pub furthest: usize,
    /// The newest commit that a topic's row told of: what lies before it is told again.
    newest: u64,
    /// Fences that a topic's reader holds until it has looked at the topic.
    held: Vec<FeedEvent>,
    /// What it has said to be complete.
    told: Option<u64>,
    /// The reader has found that the log is another one.
    lost_track: bool,
}

impl Hash for Reader {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.opened, self.at, self.from, self.furthest, self.newest).hash(state);
        (self.told, self.lost_track).hash(state);
        self.held.iter().for_each(|fence| brief(fence).hash(state));
    }
}

impl Reader {
    /// The log was cut to `len` rows and goes on under another timeline.
    pub fn restored(&mut self, len: usize, gap: bool) {
        self.at = self.at.min(len);
        self.from = self.from.min(len);
        self.furthest = self.furthest.min(len);
        self.lost_track |= gap && self.opened;
    }
}

impl World {
    pub(super) fn open(&mut self, replica: usize, partition: usize) {
        let follows = self.replicas[replica].rules.lanes(self.now(replica));
        if !follows.iter().any(|lane| lane.feed == feed(partition) && lane.wanted) {
            return;
        }
        let at = self.storage.feed_log(partition).len();
        let told = Some(self.storage.head());
        let reader = Reader { opened: true, at, from: at, furthest: at, told, ..Reader::default() };
        self.replicas[replica].readers[partition] = reader;
        self.replicas[replica].written.retain(|(of, _)| *of != partition);
        let stamp = self.place(replica, partition, self.storage.head());
        self.say(|| format!("{} follows p{partition} from {}", name(replica), stamp.position));
        self.batch(replica, partition, vec![FeedEvent::Complete { stamp }]);
    }

    pub(super) fn open_if_closed(&mut self, replica: usize, partition: usize) -> bool {
        let closed = !self.replicas[replica].readers[partition].opened;
        if closed {
            self.reach(Landmark::Opened);
            self.open(replica, partition);
        }
        closed && self.replicas[replica].readers[partition].opened
    }

    /// The stamp of where a reader stands, who has told of everything up to a commit.
    fn place(&self, replica: usize, partition: usize, complete: u64) -> CommitStamp {
        match self.config.topic {
            true => offset_stamp(partition, self.replicas[replica].readers[partition].at),
            false => self.storage.stamp(complete),
        }
    }

    /// Hands a batch over.
    pub(super) fn batch(&mut self, replica: usize, partition: usize, events: Vec<FeedEvent>) {
        let reader = &mut self.replicas[replica].readers[partition];
        reader.furthest = reader.furthest.max(reader.at);
        let caught_up = reader.at == self.storage.feed_log(partition).len();
        let timeline = Timeline::new(self.storage.timeline);
        let resume = FeedCursor { timeline, offset: reader.at as u64 };
        let told: Vec<String> = events.iter().map(brief).collect();
        self.trace(replica, (partition, caught_up, resume.offset, timeline, &told));
        if !told.is_empty() {
            self.say(|| format!("p{partition} to {}: {}", name(replica), told.join(", ")));
        }
        self.note(replica, &events);
        let batch = FeedBatch { events, resume, caught_up };
        self.step(replica, Input::Feed { feed: feed(partition), batch: &batch });
    }

    fn note(&mut self, replica: usize, events: &[FeedEvent]) {
        let incarnation = self.replicas[replica].incarnation;
        for event in events {
            match event {
                FeedEvent::Fence { writer, .. } if writer.get() == incarnation => {
                    self.reach(Landmark::FenceCame);
                }
                FeedEvent::Fence { .. } => self.reach(Landmark::ForeignFenceCame),
                FeedEvent::Forgotten { .. } => self.reach(Landmark::Forgotten),
                _ => {}
            }
        }
    }

    /// What is complete where the reader stands; `None` in the middle of a commit, and in a topic.
    fn complete(&self, replica: usize, partition: usize) -> Option<u64> {
        if self.config.topic {
            return None;
        }
        let log = &self.storage.log[partition];
        let at = self.replicas[replica].readers[partition].at;
        let last = at.checked_sub(1).and_then(|at| log.get(at)).map(|row| row.position);
        match log.get(at) {
            Some(next) if Some(next.position) == last => None,
            Some(next) => Some(next.position - 1),
            None => Some(self.storage.head()),
        }
    }

    /// True if the feed has something to say that it has not said.
    pub fn is_behind(&self, replica: usize, partition: usize) -> bool {
        let reader = &self.replicas[replica].readers[partition];
        reader.opened && (reader.at < self.storage.feed_log(partition).len() || reader.lost_track)
    }

    /// True if the reader stands at the end of a commit and has not said so, or holds fences.
    pub fn is_silent(&self, replica: usize, partition: usize) -> bool {
        let reader = &self.replicas[replica].readers[partition];
        let complete = self.complete(replica, partition);
        let ends = complete.is_some() && complete != reader.told;
        reader.opened && (ends || !reader.held.is_empty())
    }

    pub(super) fn deliver(&mut self, replica: u8, partition: u8, rows: u8, complete: bool) -> bool {
        let (replica, partition) = (usize::from(replica) % 2, usize::from(partition) % PARTITIONS);
        let reader = &mut self.replicas[replica].readers[partition];
        if !reader.opened {
            return false;
        }
        let mut events = Vec::new();
        let lost_track = std::mem::take(&mut reader.lost_track);
        if lost_track {
            events.push(FeedEvent::Gap { scope: GapScope::Partition, reason: "timeline" });
        }
        let from = reader.at;
        let until = (from + usize::from(rows)).min(self.storage.feed_log(partition).len());
        for at in from..until {
            self.take(replica, partition, at, &mut events);
        }
        let reader = &mut self.replicas[replica].readers[partition];
        reader.at = until;
        if complete && self.config.topic {
            let place = offset_stamp(partition, until);
            events.extend(reader.held.drain(..).map(|fence| placed(fence, place)));
        }
        if let Some(position) = self.complete(replica, partition).filter(|_| complete) {
            self.replicas[replica].readers[partition].told = Some(position);
            events.push(FeedEvent::Complete { stamp: self.storage.stamp(position) });
        }
        if until > from && !self.config.topic && self.complete(replica, partition).is_none() {
            self.reach(Landmark::CutCommit);
        }
        let any = !events.is_empty() || until > from;
        self.say(|| format!("p{partition} delivers {} rows to {}", until - from, name(replica)));
        self.batch(replica, partition, events);
        any
    }

    /// What a row becomes. A topic's fences are held until a look at the topic; and a remove that may
    /// be told again puts its user in doubt besides, lest it cancels what came after it at first.
    fn take(&mut self, replica: usize, partition: usize, at: usize, events: &mut Vec<FeedEvent>) {
        let Some(event) = self.storage.event(partition, at) else { return };
        let row = self.storage.feed_log(partition)[at];
        let reader = &mut self.replicas[replica].readers[partition];
        let is_new = row.position >= reader.newest && reader.newest > 0;
        reader.newest = reader.newest.max(row.position);
        match row.row {
            Row::Fence { .. } if self.config.topic => reader.held.push(event),
            Row::User(user, Change::Remove(_), _) if self.config.topic && !is_new => {
                let scope = GapScope::User(UserId::new(user));
                events.extend([event, FeedEvent::Gap { scope, reason: "remove_unordered" }]);
            }
            _ => events.push(event),
        }
    }

    pub(super) fn rewind(&mut self, replica: u8, partition: u8, rows: u8) -> bool {
        let (replica, partition) = (usize::from(replica) % 2, usize::from(partition) % PARTITIONS);
        let reader = &mut self.replicas[replica].readers[partition];
        let to = reader.at.saturating_sub(usize::from(rows)).max(reader.from);
        let back = reader.at - to;
        reader.at = to;
        if back > 0 {
            self.reach(Landmark::Redelivered);
        }
        self.say(|| format!("p{partition} goes back {back} rows for {}", name(replica)));
        back > 0
    }

    pub(super) fn gap(&mut self, replica: u8, partition: u8, rows: u8) -> bool {
        let (replica, partition) = (usize::from(replica) % 2, usize::from(partition) % PARTITIONS);
        let len = self.storage.feed_log(partition).len();
        let reader = &mut self.replicas[replica].readers[partition];
        if !reader.opened {
            return false;
        }
        let to = (reader.at + usize::from(rows)).min(len);
        let lost = to - reader.at;
        reader.at = to;
        reader.from = to;
        self.say(|| format!("p{partition} loses {lost} rows for {}", name(replica)));
        let event = FeedEvent::Gap { scope: GapScope::Partition, reason: "lost" };
        self.batch(replica, partition, vec![event]);
        true
    }

    pub(super) fn poison(&mut self, replica: u8, partition: u8) -> bool {
        let (replica, partition) = (usize::from(replica) % 2, usize::from(partition) % PARTITIONS);
        let reader = &mut self.replicas[replica].readers[partition];
        let Some(row) = self.storage.feed_log(partition).get(reader.at) else { return false };
        let Row::User(user, ..) = row.row else { return false };
        if !reader.opened {
            return false;
        }
        reader.at += 1;
        self.say(|| format!("p{partition} cannot read a row of u{user} for {}", name(replica)));
        let scope = GapScope::User(UserId::new(user));
        let event = FeedEvent::Gap { scope, reason: "poison" };
        self.batch(replica, partition, vec![event]);
        true
    }
}

/// A fence that was held, where the reader stands now.
fn placed(fence: FeedEvent, stamp: CommitStamp) -> FeedEvent {
    match fence {
        FeedEvent::Fence { user, writer, seq, .. } => FeedEvent::Fence { stamp, user, writer, seq },
        event => event,
    }
}

/// An event in a few characters.
fn brief(event: &FeedEvent) -> String {
    match event {
        FeedEvent::Add { stamp, user, item } => {
            format!("+u{user} x{} @{}", item.id, stamp.position)
        }
        FeedEvent::Remove { stamp, user, item } => {
            format!("-u{user} x{} @{}", item.id, stamp.position)
        }
        FeedEvent::RemoveAll { stamp, user } => format!("-u{user} all @{}", stamp.position),
        FeedEvent::Forgotten { stamp, user, epoch } => {
            format!("u{user} forgotten {epoch} @{}", stamp.position)
        }
        FeedEvent::Fence { stamp, writer, seq, .. } => {
            format!("fence {seq} of {writer} @{}", stamp.position)
        }
        FeedEvent::Complete { stamp } => format!("complete @{}", stamp.position),
        FeedEvent::Gap { scope: GapScope::User(user), reason } => {
            format!("gap of u{user} ({reason})")
        }
        FeedEvent::Gap { reason, .. } => format!("gap ({reason})"),
    }
}
