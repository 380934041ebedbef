//! A topic between storage and the readers, filled by a producer that is late, begins anew further back,
//! and may lose what nobody tells of. Its offsets number the events; only fences prove anything.

use seen_filter::{CommitStamp, Domain, FeedEvent, GapScope, Timeline, UserId};

use super::action::name;
use super::config::{PARTITIONS, USERS};
use super::storage::{LogRow, Mishap, Row, partition_of};
use super::{Replica, World, pick};
use crate::landmark::Landmark;

/// What numbers a topic's events: never what numbers commits.
const OFFSETS: Domain = Domain::new(1);

/// The stamp of the event at an offset.
pub fn offset_stamp(partition: usize, offset: usize) -> CommitStamp {
    CommitStamp::new(OFFSETS, Timeline::new(partition as u64), offset as u64)
}

impl World {
    /// Rows that the producer has not passed on yet.
    pub fn unproduced(&self, partition: usize) -> usize {
        if !self.config.topic {
            return 0;
        }
        self.storage.log[partition].len() - self.storage.produced[partition]
    }

    /// The producer passes rows on.
    pub(super) fn produce(&mut self, partition: u8, rows: u8) -> bool {
        let partition = usize::from(partition) % PARTITIONS;
        let rows = usize::from(rows).min(self.unproduced(partition));
        let from = self.storage.produced[partition];
        let more = self.storage.log[partition][from..from + rows].to_vec();
        self.storage.produced[partition] = from + rows;
        self.storage.topic[partition].extend(more);
        self.say(|| format!("{rows} rows get into the topic of p{partition}"));
        rows > 0
    }

    /// The producer begins anew, further back: it says again what it has said.
    pub(super) fn produce_again(&mut self, partition: u8, rows: u8) -> bool {
        let partition = usize::from(partition) % PARTITIONS;
        if !self.suffers(partition, Mishap::Repeats) {
            return false;
        }
        let produced = &mut self.storage.produced[partition];
        let back = usize::from(rows).min(*produced);
        *produced -= back;
        if back > 0 {
            self.reach(Landmark::Redelivered);
        }
        self.say(|| format!("the producer of p{partition} goes back {back} rows"));
        back > 0
    }

    /// True if this may happen to a partition's topic.
    fn suffers(&mut self, partition: usize, mishap: Mishap) -> bool {
        self.config.topic && *self.storage.mishap[partition].get_or_insert(mishap) == mishap
    }

    /// Rows up to and with an own fence get lost, and nobody says so. The replica knows that it was
    /// written, and waits for it: nothing defends against a loss between two fences.
    pub(super) fn swallow(&mut self, replica: u8, partition: u8) -> bool {
        let (replica, partition) = (usize::from(replica) % 2, usize::from(partition) % PARTITIONS);
        let Replica { incarnation, readers, written, .. } = &self.replicas[replica];
        let reader = &readers[partition];
        let log = self.storage.feed_log(partition);
        let awaited = |row: &LogRow| match row.row {
            Row::Fence { writer, seq } => {
                writer == *incarnation && written.contains(&(partition, seq))
            }
            Row::User(..) => false,
        };
        let is_first_time = reader.opened && reader.at == reader.furthest;
        let ahead = log.get(reader.at..).unwrap_or_default();
        let Some(lost) = ahead.iter().position(awaited).filter(|_| is_first_time) else {
            return false;
        };
        if !self.suffers(partition, Mishap::Loses) {
            return false;
        }
        self.say(|| format!("{} rows of p{partition} never reach {}", lost + 1, name(replica)));
        let reader = &mut self.replicas[replica].readers[partition];
        reader.at += lost + 1;
        (reader.from, reader.furthest) = (reader.at, reader.at);
        true
    }

    /// The feed doubts a user, or everything, for a reason of its own: nothing need be lost.
    pub(super) fn doubt(&mut self, replica: u8, scope: u8) -> bool {
        let replica = usize::from(replica) % 2;
        let mut said = false;
        for partition in 0..PARTITIONS {
            let user = pick(&USERS, scope);
            let (scope, reason) = match scope % 6 {
                0..=3 if partition_of(user) != partition => continue,
                0..=3 => (GapScope::User(UserId::new(user)), "doubted"),
                _ => (GapScope::Partition, "truncated"),
            };
            if self.replicas[replica].readers[partition].opened {
                self.say(|| format!("p{partition} doubts {scope:?} for {}", name(replica)));
                self.batch(replica, partition, vec![FeedEvent::Gap { scope, reason }]);
                said = true;
            }
        }
        said
    }

    /// All readers of a replica are torn down, and begin again further back.
    pub(super) fn tear_down(&mut self, replica: u8, rows: u8) -> bool {
        let mut moved = false;
        for partition in 0..PARTITIONS as u8 {
            moved |= self.rewind(replica, partition, rows);
        }
        moved
    }
}
