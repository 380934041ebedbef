//! Storage in memory: numbered commits, what a read of each moment shows, and the change log of every
//! partition.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};

use seen_filter::{
    CommitStamp, Domain, FeedEvent, FeedId, FenceSeq, Incarnation, Item, NamespaceId, Partition,
    Shard, Timeline, UserEpoch, UserId,
};

use super::config::{Config, PARTITIONS};
use super::topic::offset_stamp;

/// What a commit does to one user.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Change {
    Add(u64),
    Remove(u64),
    RemoveAll,
    Forgotten,
}

/// One row of a partition's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Row {
    User(u64, Change, u32),
    Fence { writer: u64, seq: u64 },
}

/// A row with the commit that it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct LogRow {
    pub position: u64,
    pub row: Row,
}

/// What a topic does with its source's rows besides passing them on. Only one of the two in a partition:
/// a lost range of which the fence alone is said again cannot be told from a whole one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Mishap {
    Repeats,
    Loses,
}

/// The partition that carries a user's events.
pub fn partition_of(user: u64) -> usize {
    (user % PARTITIONS as u64) as usize
}

/// The feed of a partition.
pub fn feed(partition: usize) -> FeedId {
    FeedId::new(NamespaceId::new(0), Shard::new(0), Partition::new(partition as u16))
}

/// All that storage keeps.
pub struct Storage {
    config: Config,
    pub timeline: u64,
    /// When each commit was made; its number is its index plus one.
    commits: Vec<u64>,
    changes: BTreeMap<u64, Vec<(u64, Change)>>,
    pub log: [Vec<LogRow>; PARTITIONS],
    /// What a producer has made of the log, and how much of the log that is.
    pub topic: [Vec<LogRow>; PARTITIONS],
    pub produced: [usize; PARTITIONS],
    /// What became of the topic at times.
    pub mishap: [Option<Mishap>; PARTITIONS],
    /// The last commit that a fresh read shows.
    pub visible: u64,
}

impl Hash for Storage {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // What each user's history is follows from the log.
        (self.timeline, &self.commits, self.visible, &self.log).hash(state);
        (&self.topic, self.produced, self.mishap).hash(state);
    }
}

impl Storage {
    pub fn new(config: Config) -> Self {
        Self {
            config,
            timeline: 1,
            commits: Vec::new(),
            changes: BTreeMap::new(),
            log: Default::default(),
            topic: Default::default(),
            produced: Default::default(),
            mishap: Default::default(),
            visible: 0,
        }
    }

    pub fn head(&self) -> u64 {
        self.commits.len() as u64
    }

    pub fn stamp(&self, position: u64) -> CommitStamp {
        CommitStamp::new(Domain::new(0), Timeline::new(self.timeline), position)
    }

    /// Commits changes and returns the number. Nothing of a user's items may be named twice.
    pub fn commit(&mut self, now: u64, changes: &[(u64, Change)]) -> u64 {
        let position = self.head() + 1;
        for (user, change) in changes {
            let present = self.rows(*user, position);
            let effect = match change {
                Change::Add(item) => !present.contains(item),
                Change::Remove(item) => present.contains(item),
                Change::RemoveAll | Change::Forgotten => true,
            };
            if !effect && !self.config.no_op_events {
                continue;
            }
            self.changes.entry(*user).or_default().push((position, *change));
            let epoch = self.epoch(*user, position);
            let row = Row::User(*user, *change, epoch);
            self.log[partition_of(*user)].push(LogRow { position, row });
        }
        self.commits.push(now);
        position
    }

    pub fn commit_fence(&mut self, now: u64, partition: usize, writer: u64, seq: u64) -> u64 {
        self.commits.push(now);
        let position = self.head();
        self.log[partition].push(LogRow { position, row: Row::Fence { writer, seq } });
        position
    }

    /// A user's items after the commit `up_to`.
    pub fn rows(&self, user: u64, up_to: u64) -> BTreeSet<u64> {
        let mut rows: BTreeSet<u64> = (1_000..1_000 + self.config.base_items).collect();
        for (position, change) in self.changes.get(&user).into_iter().flatten() {
            if *position > up_to {
                break;
            }
            match change {
                Change::Add(item) => drop(rows.insert(*item)),
                Change::Remove(item) => drop(rows.remove(item)),
                Change::RemoveAll => rows.clear(),
                Change::Forgotten => {}
            }
        }
        rows
    }

    /// How often a user was forgotten up to a commit.
    pub fn epoch(&self, user: u64, up_to: u64) -> u32 {
        let changes = self.changes.get(&user).into_iter().flatten();
        changes.filter(|(at, change)| *at <= up_to && *change == Change::Forgotten).count() as u32
    }

    /// The oldest state that a read at this moment may show.
    pub fn stalest(&self, now: u64) -> u64 {
        let lag_us = self.config.lag_us;
        let late = self.commits.iter().rev().take_while(|at| **at + lag_us > now).count();
        if lag_us == 0 { self.head() } else { self.head() - late as u64 }
    }

    /// No commit stalls for longer than S.
    pub fn settle(&mut self, now: u64) {
        self.visible = self.visible.max(self.stalest(now));
    }

    /// A commit is acknowledged only when reads show it.
    pub fn show(&mut self, position: u64) {
        self.visible = self.visible.max(position);
    }

    /// Goes back to an older state, which is continued under another timeline.
    pub fn restore(&mut self, to: u64) {
        self.timeline += 1;
        self.commits.truncate(to as usize);
        self.changes.values_mut().for_each(|changes| changes.retain(|(at, _)| *at <= to));
        self.log.iter_mut().for_each(|log| log.retain(|row| row.position <= to));
        self.visible = to;
    }

    /// What the readers of a partition read.
    pub fn feed_log(&self, partition: usize) -> &[LogRow] {
        if self.config.topic { &self.topic[partition] } else { &self.log[partition] }
    }

    /// The stamp of a row of what readers read.
    fn stamp_at(&self, partition: usize, at: usize) -> Option<CommitStamp> {
        let row = self.feed_log(partition).get(at)?;
        Some(match self.config.topic {
            true => offset_stamp(partition, at + 1),
            false => self.stamp(row.position),
        })
    }

    /// The event that tells of a row of what readers read.
    pub fn event(&self, partition: usize, at: usize) -> Option<FeedEvent> {
        let stamp = self.stamp_at(partition, at)?;
        let row = self.feed_log(partition)[at];
        Some(self.event_of(partition, row, stamp))
    }

    fn event_of(&self, partition: usize, row: LogRow, stamp: CommitStamp) -> FeedEvent {
        match row.row {
            Row::User(user, change, epoch) => {
                let user = UserId::new(user);
                match change {
                    Change::Add(item) => FeedEvent::Add { stamp, user, item: Item::new(0, item) },
                    Change::Remove(item) => {
                        FeedEvent::Remove { stamp, user, item: Item::new(0, item) }
                    }
                    Change::RemoveAll => FeedEvent::RemoveAll { stamp, user },
                    Change::Forgotten => {
                        FeedEvent::Forgotten { stamp, user, epoch: UserEpoch::new(epoch) }
                    }
                }
            }
            Row::Fence { writer, seq } => FeedEvent::Fence {
                stamp,
                // An id that leads through the partition.
                user: UserId::new(partition as u64),
                writer: Incarnation::new(writer),
                seq: FenceSeq::new(seq),
            },
        }
    }
}
