//! Where in which history something happened. Positions are only *partially* ordered: numbers from
//! another domain or timeline (another primary's history, a restored backup, a recreated topic) are
//! incomparable, and incomparable always means "not covered" (coherence row 53).

use std::cmp::Ordering;
use std::fmt;

use crate::ids::{NamespaceId, Partition, Shard, newtype};

newtype! {
    /// What numbers a store's commits: one per independent commit log (a shard, a topic).
    Domain(u32)
}
newtype! {
    /// One unbroken run of a domain's numbering. A restore or recreation begins another.
    Timeline(u64)
}
newtype! {
    /// One life of one replica process, drawn at random at its start and never reused. A name that
    /// survives a restart must not be used for this (coherence row 58).
    Incarnation(u64)
}
newtype! {
    /// Numbers the fences that one incarnation wrote for one feed partition, from 1.
    FenceSeq(u64)
}
newtype! {
    /// Identifies one life of a cached entry; a late build of an older life cannot install (row 7).
    Generation(u32)
}
newtype! {
    /// Raised by every doubt about a feed partition (rule R8); an entry of a lower one is dirty.
    ScopeEpoch(u16)
}
newtype! {
    /// How often a user was forgotten, kept in storage. A copy of a lower epoch is refused (row 41).
    UserEpoch(u32)
}
newtype! {
    /// Identifies the storage primary that served a read, so that a reader can prove that it is the
    /// one that takes writes (row 51).
    PrimaryId(u64)
}

/// One ordered sequence of change events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FeedId {
    /// The history whose changes it carries.
    pub namespace: NamespaceId,
    /// The storage shard that they come from.
    pub shard: Shard,
    /// The partition within the shard's feed.
    pub partition: Partition,
}

impl FeedId {
    /// A feed partition from its parts.
    pub const fn new(namespace: NamespaceId, shard: Shard, partition: Partition) -> Self {
        Self { namespace, shard, partition }
    }
}

impl fmt::Display for FeedId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ns{}/shard{}/p{}", self.namespace, self.shard, self.partition)
    }
}

/// Where to resume reading a feed partition. Opaque to everything but the feed that made it: it says
/// nothing about what is complete, which is [`CommitStamp`]'s business.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct FeedCursor {
    /// The numbering that `offset` belongs to.
    pub timeline: Timeline,
    /// The first event not yet delivered.
    pub offset: u64,
}

/// The position of a commit. Comparable only within one domain and timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CommitStamp {
    /// What numbers the commits.
    pub domain: Domain,
    /// The unbroken run of that numbering.
    pub timeline: Timeline,
    /// The commit's number; all rows of one transaction share it.
    pub position: u64,
}

impl CommitStamp {
    /// A stamp from its parts.
    pub const fn new(domain: Domain, timeline: Timeline, position: u64) -> Self {
        Self { domain, timeline, position }
    }

    /// True if what is complete up to `self` is known to contain the commit `other`.
    /// Incomparable stamps never cover each other.
    pub fn covers(self, other: CommitStamp) -> bool {
        matches!(self.partial_cmp(&other), Some(Ordering::Greater | Ordering::Equal))
    }

    /// True if both number the same run of commits, so that they can be compared at all.
    pub fn comparable(self, other: CommitStamp) -> bool {
        self.domain == other.domain && self.timeline == other.timeline
    }
}

impl PartialOrd for CommitStamp {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        self.comparable(*other).then(|| self.position.cmp(&other.position))
    }
}

impl fmt::Display for CommitStamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:x}@{}", self.domain, self.timeline.get(), self.position)
    }
}

/// What a read saw: the primary that answered, and a commit that it certainly contains together with
/// everything before it. `None` where the store cannot tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotId {
    /// The primary that served the read.
    pub primary: PrimaryId,
    /// Everything up to and including this commit was visible; later commits may have been.
    pub lower_bound: Option<CommitStamp>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_of_another_timeline_or_domain_are_incomparable() {
        let old = CommitStamp::new(Domain::new(1), Timeline::new(7), 10_000);
        let restored = CommitStamp::new(Domain::new(1), Timeline::new(8), 600);
        let elsewhere = CommitStamp::new(Domain::new(2), Timeline::new(7), 600);
        assert_eq!(old.partial_cmp(&restored), None);
        assert!(!old.covers(restored) && !restored.covers(old) && !old.covers(elsewhere));
        assert!(old.covers(old));
    }
}
