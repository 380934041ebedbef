//! The seam to change events: an ordered **change feed** per partition. The replica sees this trait
//! and no Kafka, binlog or table.

use thiserror::Error;

use crate::hash::VirtualSlot;
use crate::history::SeamFuture;
use crate::ids::{Item, UserId};
use crate::position::{CommitStamp, FeedCursor, FeedId, FenceSeq, Incarnation, UserEpoch};

/// Most ids under which one fence is written.
pub const FENCE_USERS_MAX: usize = 1_024;

/// Where to begin reading a feed partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedStart {
    /// At the newest event; nothing older is wanted.
    Head,
    /// Where an earlier reader stopped. If the feed no longer reaches back, or numbers another
    /// timeline, the first event is a [`FeedEvent::Gap`] and reading goes on from something newer: the
    /// oldest kept, or the head.
    At(FeedCursor),
}

/// What a [`FeedEvent::Gap`] puts in doubt (rule R8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GapScope {
    /// One user's events may be missing.
    User(UserId),
    /// Any event of this partition may be missing.
    Partition,
}

/// One change event, in partition order. Every event may be delivered again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedEvent {
    /// A row was added.
    Add {
        /// The commit it belongs to.
        stamp: CommitStamp,
        /// Whose row.
        user: UserId,
        /// What was read.
        item: Item,
    },
    /// A row was removed.
    Remove {
        /// The commit it belongs to.
        stamp: CommitStamp,
        /// Whose row.
        user: UserId,
        /// What is unread again.
        item: Item,
    },
    /// All rows that the user had at this commit were removed: what one `Remove` a row would say.
    RemoveAll {
        /// The commit it belongs to.
        stamp: CommitStamp,
        /// Whose rows.
        user: UserId,
    },
    /// The control table's row of a forget (coherence row 49). Starts one coalesced rebuild, and is
    /// ignored unless its epoch is higher than the one known.
    Forgotten {
        /// The commit it belongs to.
        stamp: CommitStamp,
        /// Who was forgotten.
        user: UserId,
        /// The user's new epoch.
        epoch: UserEpoch,
    },
    /// A fence came back (rule R9).
    Fence {
        /// The commit it belongs to.
        stamp: CommitStamp,
        /// Under whose id it was written, which led it through this partition; 0 where the feed does
        /// not say.
        user: UserId,
        /// Who wrote it.
        writer: Incarnation,
        /// Its number among that writer's fences of this feed partition.
        seq: FenceSeq,
    },
    /// Everything of this partition up to and including this commit has been delivered. Also sent
    /// for commits that touched only other partitions.
    Complete {
        /// The last complete commit.
        stamp: CommitStamp,
    },
    /// Events may be missing, for the reason given.
    Gap {
        /// What is in doubt.
        scope: GapScope,
        /// A short stable name of the cause, for logs and metrics.
        reason: &'static str,
    },
}

impl FeedEvent {
    /// The commit that it belongs to, or that it says is complete. None for a doubt.
    pub const fn stamp(&self) -> Option<CommitStamp> {
        match *self {
            Self::Add { stamp, .. }
            | Self::Remove { stamp, .. }
            | Self::RemoveAll { stamp, .. }
            | Self::Forgotten { stamp, .. }
            | Self::Fence { stamp, .. }
            | Self::Complete { stamp } => Some(stamp),
            Self::Gap { .. } => None,
        }
    }
}

/// Some events of one partition.
#[derive(Clone, Debug)]
pub struct FeedBatch {
    /// The events, in partition order.
    pub events: Vec<FeedEvent>,
    /// Where to resume after them.
    pub resume: FeedCursor,
    /// True if nothing followed these events when they were read: proof that the feed is fresh.
    pub caught_up: bool,
}

/// How far the reading of a feed partition is behind what its source holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FeedLag {
    /// The place of the next record that will be read, as the source numbers records; `None` where the
    /// feed is read from several places.
    pub position: Option<u64>,
    /// Records that follow; of a source that numbers commits, commits. `None` where it is only known that
    /// some may.
    pub records: Option<u64>,
    /// For how long something has been following, in milliseconds: the age of the newest record read, or the
    /// time since nothing followed it. 0 where nothing does, `None` where it is not known.
    pub behind_ms: Option<u64>,
}

/// Why a feed cannot be read now.
#[derive(Clone, Debug, Error)]
#[error("{message}")]
pub struct FeedError {
    /// What happened and what to do next, for people.
    pub message: String,
    /// True if the same call may succeed later.
    pub retry_helps: bool,
}

/// One reader's position in one partition.
pub trait FeedReader: Send {
    /// The next events, at most `events_max` (one transaction may be split over several batches).
    /// Waits until there is something to deliver or the reader's own heartbeat interval has passed;
    /// an empty batch with `caught_up` is such a heartbeat.
    ///
    /// # Errors
    /// [`FeedError`]; the position is unchanged and the call may be repeated.
    fn next(&mut self, events_max: usize) -> SeamFuture<'_, Result<FeedBatch, FeedError>>;
}

/// What proves that everything up to some moment has been delivered (rule R9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedProof {
    /// A fence of one's own that comes back.
    Fences,
    /// A complete commit as new as the newest one that storage had at that moment
    /// ([`History::head`](crate::History::head)): where a fence cannot be written, or says nothing
    /// about rows of other tables.
    Positions,
}

/// A source of change events.
pub trait ChangeFeed: Send + Sync + 'static {
    /// The feed partitions of all namespaces.
    fn feeds(&self) -> Vec<FeedId>;

    /// The feed partition that carries a user's events.
    fn feed_of(&self, namespace: crate::ids::NamespaceId, user: UserId) -> FeedId;

    /// False if no event of a user of `slot` comes by `feed`, so that whoever keeps other users only need not follow
    /// it. True where users are spread in another way than by their virtual slots.
    fn carries(&self, feed: FeedId, slot: VirtualSlot) -> bool {
        let _ = (feed, slot);
        true
    }

    /// How many shards users are spread over, at least 1: the shard of [`Self::feed_of`] is below it.
    /// Work at storage is kept apart by shard, so that one that fails degrades its own users only.
    fn shards(&self) -> u16 {
        1
    }

    /// False if the feed is a copy of its source that somebody else fills, such as a topic: that nothing
    /// follows in it says nothing about the source then, and only fences that come back prove that the
    /// feed is fresh (coherence row 25).
    fn is_source(&self) -> bool {
        true
    }

    /// What proves how far this feed partition is.
    fn proof(&self, feed: FeedId) -> FeedProof {
        let _ = feed;
        FeedProof::Fences
    }

    /// The ids under which a fence of this feed partition is to be written, at most
    /// [`FENCE_USERS_MAX`], so that its rows take the same ways as the rows of the partition's users; the
    /// fence has come back when all of them have, which the feed waits for. None if no fence can prove
    /// anything here.
    fn fence_users(&self, feed: FeedId) -> Vec<UserId> {
        let _ = feed;
        vec![UserId::new(0)]
    }

    /// How far the reading of this feed partition is behind, where the source tells.
    fn lag(&self, feed: FeedId) -> Option<FeedLag> {
        let _ = feed;
        None
    }

    /// Opens a reader. With [`FeedStart::Head`] the reader's first event is a `Complete` that names the
    /// head, in the numbers of the feed's own stamps: commits, or where those are not told in order, places.
    ///
    /// # Errors
    /// [`FeedError`].
    fn open(
        &self,
        feed: FeedId,
        start: FeedStart,
    ) -> SeamFuture<'_, Result<Box<dyn FeedReader>, FeedError>>;
}
