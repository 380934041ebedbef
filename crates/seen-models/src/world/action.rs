//! What may happen in the world, by the names of the code: those of callers' requests, of what
//! storage and its feed do, and of the core's inputs (`seen_replica::rules::Input`) and effects.
//! Selectors are taken modulo what there is to choose from, so that any sequence of actions can be
//! played, also one that was shortened.

/// One thing that happens. `replica` 0 is A, 1 is B. A selector past the end of its list counts
/// from the start again; an action without anything to act on does nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Time passes, in microseconds.
    Wait(u32),
    /// A caller begins to mark items; session 0 is a caller that has gone away already.
    Mark { replica: u8, session: u8, user: u8, items: u8 },
    /// A caller begins to unmark items.
    Unmark { replica: u8, session: u8, user: u8, items: u8 },
    /// A caller begins to forget a user.
    Forget { replica: u8, session: u8, user: u8 },
    /// Storage commits a write, together with up to `with` others.
    Commit { op: u8, with: u8 },
    /// A stalled commit becomes visible to reads.
    Show,
    /// The replica learns of the commit and acknowledges it.
    Committed { op: u8 },
    /// The connection breaks: the write may land later, or never.
    Uncertain { op: u8 },
    /// The write certainly failed.
    Abandoned { op: u8 },
    /// A caller asks about some items; session 0 carries no token.
    Read { replica: u8, session: u8, user: u8, items: u8 },
    /// Storage serves a read's point check.
    Check { read: u8 },
    /// The point check's answer reaches the replica, and the caller.
    Checked { read: u8 },
    /// The caller goes away.
    Drop { read: u8 },
    /// A replica begins to follow a partition, at its head.
    Open { replica: u8, partition: u8 },
    /// The feed delivers rows, and says what is complete if that ends a commit.
    Feed { replica: u8, partition: u8, rows: u8, complete: bool },
    /// The feed goes back and delivers again.
    Rewind { replica: u8, partition: u8, rows: u8 },
    /// All readers of a replica begin again, further back; perhaps in the middle of a commit.
    TearDown { replica: u8, rows: u8 },
    /// The producer of a topic passes rows on.
    Produce { partition: u8, rows: u8 },
    /// The producer of a topic begins anew, and says again what it has said.
    ProduceAgain { partition: u8, rows: u8 },
    /// Rows are lost on the way, an own fence among them, and nobody says so.
    Swallow { replica: u8, partition: u8 },
    /// The feed puts a user or everything in doubt, though nothing need be lost.
    Doubt { replica: u8, scope: u8 },
    /// Rows are lost, and the feed says so.
    Gap { replica: u8, partition: u8, rows: u8 },
    /// One row cannot be read; the feed names its user.
    Poison { replica: u8, partition: u8 },
    /// A build reads its next page, `stale` commits behind what could be seen.
    Page { build: u8, stale: u8 },
    /// A build that has read everything is installed.
    Install { build: u8 },
    /// A build fails.
    BuildFailed { build: u8 },
    /// A replica is about to ask its peer for an entry.
    BeginTransfer { replica: u8, user: u8 },
    /// The peer answers.
    Donate { transfer: u8 },
    /// The answer arrives, perhaps damaged.
    Transferred { transfer: u8, torn: bool },
    /// Storage commits a fence.
    WriteFence { fence: u8 },
    /// A fence is not written; or nobody will know that it was, and it may be written late.
    LoseFence { fence: u8, late: bool },
    /// The replica learns that a fence is written, or what stands for it.
    FenceWritten { fence: u8 },
    /// An operator drops an entry.
    Evict { replica: u8, user: u8 },
    /// The cache frees entries until it is empty.
    Shed { replica: u8 },
    /// An operator asks for a rebuild.
    Rebuild { replica: u8, user: u8 },
    /// Fences fall due.
    Heartbeat { replica: u8 },
    /// A session learns the token of another.
    Merge { from: u8, into: u8 },
    /// A proxy moves a caller without a token to another replica, and says so.
    Moved { session: u8 },
    /// The map of slots says of which partitions' users a replica may keep; a bit for each.
    OwnSlots { replica: u8, owned: u8 },
    /// A replica drops the reader of a partition of which it may keep nobody.
    Unfollowed { replica: u8, partition: u8 },
    /// A replica dies and starts again, empty.
    Crash { replica: u8 },
    /// Storage is restored from a backup that lacks its newest commits.
    Restore { lost: u8, gap: bool },
    /// Another server becomes storage's primary. It lacks the old one's newest commits, as long as none
    /// of them was acknowledged: a semi-synchronous primary waits for the other.
    Promote { lost: u8, gap: bool },
}

/// The replica's name in a story.
pub fn name(replica: usize) -> &'static str {
    ["A", "B"][replica % 2]
}
