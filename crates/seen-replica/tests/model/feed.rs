//! The readers of the partitions: batches cut anywhere, replays, gaps, and rows that cannot be read.

use std::hash::Hash;

use seen_filter::{FeedBatch, FeedCursor, FeedEvent, GapScope, Timeline, UserId};
use seen_replica::rules::Input;

use super::action::name;
use super::config::PARTITIONS;
use super::storage::{Row, feed};
use super::{World, hash_of};

/// Where a replica stands in one partition's log.
#[derive(Debug, Default, Hash)]
pub struct Reader {
    pub opened: bool,
    /// The next row.
    at: usize,
    /// The oldest row that may be delivered again.
    from: usize,
    /// What it has said to be complete.
    told: Option<u64>,
    /// The reader has found that the log is another one.
    lost_track: bool,
}

impl Reader {
    /// The log was cut to `len` rows and goes on under another timeline.
    pub fn restored(&mut self, len: usize, gap: bool) {
        self.at = self.at.min(len);
        self.from = self.from.min(len);
        self.lost_track |= gap && self.opened;
    }
}

impl World {
    pub(super) fn open(&mut self, replica: usize, partition: usize) {
        let follows = self.replicas[replica].rules.lanes(self.now(replica));
        if !follows.iter().any(|lane| lane.feed == feed(partition)) {
            return;
        }
        let at = self.storage.log[partition].len();
        let told = Some(self.storage.head());
        let reader = Reader { opened: true, at, from: at, told, lost_track: false };
        self.replicas[replica].readers[partition] = reader;
        let stamp = self.storage.stamp(self.storage.head());
        self.say(|| {
            format!("{} follows p{partition} from commit {}", name(replica), stamp.position)
        });
        self.batch(replica, partition, vec![FeedEvent::Complete { stamp }], ("open", stamp));
    }

    pub(super) fn open_if_closed(&mut self, replica: usize, partition: usize) -> bool {
        let closed = !self.replicas[replica].readers[partition].opened;
        if closed {
            self.open(replica, partition);
        }
        closed && self.replicas[replica].readers[partition].opened
    }

    /// Hands a batch over. `noted` says in few words what it holds, for an exhaustive search.
    fn batch(
        &mut self,
        replica: usize,
        partition: usize,
        events: Vec<FeedEvent>,
        noted: impl Hash,
    ) {
        let reader = &self.replicas[replica].readers[partition];
        let caught_up = reader.at == self.storage.log[partition].len();
        let timeline = Timeline::new(self.storage.timeline);
        let resume = FeedCursor { timeline, offset: reader.at as u64 };
        self.trace(replica, (partition, caught_up, resume.offset, timeline, noted));
        let batch = FeedBatch { events, resume, caught_up };
        self.step(replica, Input::Feed { feed: feed(partition), batch: &batch });
    }

    /// What is complete where the reader stands; `None` in the middle of a commit.
    fn complete(&self, replica: usize, partition: usize) -> Option<u64> {
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
        reader.opened && (reader.at < self.storage.log[partition].len() || reader.lost_track)
    }

    /// True if the reader stands at the end of a commit and has not said so.
    pub fn is_silent(&self, replica: usize, partition: usize) -> bool {
        let reader = &self.replicas[replica].readers[partition];
        let complete = self.complete(replica, partition);
        reader.opened && complete.is_some() && complete != reader.told
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
        let log = &self.storage.log[partition];
        let until = (reader.at + usize::from(rows)).min(log.len());
        let delivered = &log[reader.at..until];
        events.extend(delivered.iter().map(|row| self.storage.event(row)));
        let rows = hash_of(&(lost_track, delivered));
        reader.at = until;
        let complete = self.complete(replica, partition).filter(|_| complete);
        if let Some(position) = complete {
            self.replicas[replica].readers[partition].told = Some(position);
            events.push(FeedEvent::Complete { stamp: self.storage.stamp(position) });
        }
        let told: Vec<String> = events.iter().map(brief).collect();
        self.say(|| format!("p{partition} to {}: {}", name(replica), told.join(", ")));
        let any = !events.is_empty();
        self.batch(replica, partition, events, (rows, complete));
        any
    }

    pub(super) fn rewind(&mut self, replica: u8, partition: u8, rows: u8) -> bool {
        let (replica, partition) = (usize::from(replica) % 2, usize::from(partition) % PARTITIONS);
        let reader = &mut self.replicas[replica].readers[partition];
        let to = reader.at.saturating_sub(usize::from(rows)).max(reader.from);
        let back = reader.at - to;
        reader.at = to;
        self.say(|| format!("p{partition} goes back {back} rows for {}", name(replica)));
        back > 0
    }

    pub(super) fn gap(&mut self, replica: u8, partition: u8, rows: u8) -> bool {
        let (replica, partition) = (usize::from(replica) % 2, usize::from(partition) % PARTITIONS);
        let len = self.storage.log[partition].len();
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
        self.batch(replica, partition, vec![event], "gap");
        true
    }

    pub(super) fn poison(&mut self, replica: u8, partition: u8) -> bool {
        let (replica, partition) = (usize::from(replica) % 2, usize::from(partition) % PARTITIONS);
        let reader = &mut self.replicas[replica].readers[partition];
        let Some(row) = self.storage.log[partition].get(reader.at) else { return false };
        let Row::User(user, ..) = row.row else { return false };
        if !reader.opened {
            return false;
        }
        reader.at += 1;
        self.say(|| format!("p{partition} cannot read a row of u{user} for {}", name(replica)));
        let scope = GapScope::User(UserId::new(user));
        let event = FeedEvent::Gap { scope, reason: "poison" };
        self.batch(replica, partition, vec![event], ("poison", user));
        true
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
        FeedEvent::Gap { reason, .. } => format!("gap ({reason})"),
    }
}
