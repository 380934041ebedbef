//! What goes into the rules and what comes out. Everything that a step may depend on is here: there
//! is no clock, no randomness and no I/O behind it.

use std::sync::Arc;

use seen_filter::packed::PackedIds;
use seen_filter::state::UserState;
use seen_filter::verdicts::Verdicts;
use seen_filter::{
    CommitStamp, FeedBatch, FeedId, FenceSeq, Generation, Incarnation, Item, Kind,
    NamespaceSettings, SnapshotId, Tick, UnixMillis, UserEpoch, UserId,
};
use smallvec::SmallVec;

use super::journal::WriteId;
use super::sync::{AtomicI64, Ordering};

/// The memory that cached entries may take, and what they take now.
#[derive(Debug)]
pub struct CacheBudget {
    bytes_max: u64,
    used: AtomicI64,
}

impl CacheBudget {
    /// A budget of this many bytes, slots of the table included.
    pub const fn new(bytes_max: u64) -> Self {
        Self { bytes_max, used: AtomicI64::new(0) }
    }

    /// Bytes taken now.
    pub fn used(&self) -> u64 {
        u64::try_from(self.used.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// True if entries must go.
    pub fn exceeded(&self) -> bool {
        self.used() > self.bytes_max
    }

    pub(super) fn count(&self, change: i64) {
        self.used.fetch_add(change, Ordering::Relaxed);
    }
}

/// How one namespace is held in memory.
#[derive(Clone, Debug)]
pub struct Settings {
    /// What the namespace promises.
    pub namespace: NamespaceSettings,
    /// This process's life.
    pub incarnation: Incarnation,
    /// Memory of cached entries, shared by the namespaces of one replica.
    pub cache: Arc<CacheBudget>,
    /// Most events that one build holds back; one more aborts it (coherence row 8).
    pub pending_events_max: usize,
    /// Shortest time between two fences of one partition, in microseconds (rule R9).
    pub fence_interval_us_min: u64,
    /// Bytes of each partition's ring.
    pub ring_bytes_max: usize,
    /// Bytes of each partition's journal.
    pub journal_bytes_max: usize,
    /// Rule R2's S in microseconds: the longest commit stall or snapshot lag assumed of this store.
    /// 0 on the embedded store, whose snapshots are fresh and whose positions are known.
    pub snapshot_lag_us_max: u64,
    /// A feed that has not proven itself fresh for this long is stale, in microseconds (row 25).
    pub feed_stale_us_max: u64,
    /// True to write fences as heartbeats; not needed where the feed itself proves freshness.
    pub heartbeat_fences: bool,
    /// True if a feed that has nothing more to deliver is fresh: it is the source itself, and not a
    /// topic that somebody fills (row 25).
    pub quiet_is_fresh: bool,
}

impl Settings {
    /// The settings of an embedded store: snapshots are fresh, positions known.
    pub fn embedded(
        namespace: NamespaceSettings,
        incarnation: Incarnation,
        cache: Arc<CacheBudget>,
    ) -> Self {
        Self {
            namespace,
            incarnation,
            cache,
            pending_events_max: 4_096,
            fence_interval_us_min: 1_000_000,
            ring_bytes_max: 8 << 20,
            journal_bytes_max: 16 << 20,
            snapshot_lag_us_max: 0,
            feed_stale_us_max: 5_000_000,
            heartbeat_fences: false,
            quiet_is_fresh: true,
        }
    }
}

/// One element of a session token, as far as the rules care.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The feed partition that the write comes back through.
    pub feed: FeedId,
    /// Who acknowledged it.
    pub writer: Incarnation,
    /// The acknowledgement's number at that writer.
    pub seq: u64,
    /// The commit, where the store numbers commits.
    pub stamp: Option<CommitStamp>,
    /// Stands for elements that no longer fitted; never counts as own, nor by its stamp.
    pub wildcard: bool,
}

/// The candidates of a request, visited in order without being collected.
pub trait Candidates {
    /// Calls `each` with every group of ids of one kind, in request order.
    fn visit(&self, each: &mut dyn FnMut(Kind, PackedIds<'_>));
}

/// Asks which candidates a user has seen.
pub struct Read<'a> {
    /// Who asks.
    pub user: UserId,
    /// What the caller's token claims.
    pub claims: &'a [Claim],
    /// At most 1,000 candidates.
    pub candidates: &'a dyn Candidates,
    /// True to have every "seen" asked in storage as well.
    pub confirm: bool,
    /// False to begin no build and count no hit: a push over many users neither fills the cache nor
    /// keeps anybody in it.
    pub build: bool,
}

/// Storage's answer about exactly the items that a read left open.
pub struct Checked<'a> {
    /// Whose.
    pub user: UserId,
    /// The items asked, in the order of their positions.
    pub items: &'a [Item],
    /// For each: is there a row?
    pub found: &'a [bool],
    /// What the check saw.
    pub snapshot: SnapshotId,
    /// The check began at this tick or later.
    pub asked: Tick,
}

impl<'a> Checked<'a> {
    /// The input that it is, by what the read had allowed: [`ReadAnswer::late_from`].
    pub fn answering(self, late_from: Option<Tick>) -> Input<'a> {
        match late_from {
            Some(from) => Input::CheckedLate { checked: self, from },
            None => Input::Checked(self),
        }
    }
}

/// Where the contents of an install come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Pages read from storage.
    Storage,
    /// Another replica's entry (rule R3).
    Peer,
}

/// A finished build.
pub struct Install {
    /// Whose.
    pub user: UserId,
    /// The life that [`Effect::StartBuild`] named.
    pub generation: Generation,
    /// What was read.
    pub state: UserState,
    /// What the first page's read certainly saw.
    pub snapshot: SnapshotId,
    /// How often the user was forgotten, as of that read.
    pub user_epoch: UserEpoch,
    /// Who was read.
    pub origin: Origin,
}

/// Something that happened, to be decided on.
pub enum Input<'a> {
    /// A caller asks.
    Read(Read<'a>),
    /// A point check came back.
    Checked(Checked<'a>),
    /// A point check that was allowed to be late came back.
    CheckedLate {
        /// The check.
        checked: Checked<'a>,
        /// From [`ReadAnswer::late_from`].
        from: Tick,
    },
    /// A write is about to be sent to storage.
    BeginWrite {
        /// Whose.
        user: UserId,
        /// The items to be added; empty for a removal.
        items: &'a [Item],
    },
    /// A mark is committed.
    Committed {
        /// From [`Outcome::Began`].
        write: WriteId,
        /// Whose.
        user: UserId,
        /// The added items.
        items: &'a [Item],
        /// Its commit, where known.
        stamp: Option<CommitStamp>,
    },
    /// Nobody knows whether a mark was committed, or will be (row 11): memory holds it, and asks
    /// storage about it, until a rebuild after a fence has shown what became of it.
    Uncertain {
        /// From [`Outcome::Began`].
        write: WriteId,
        /// Whose.
        user: UserId,
        /// The items that were to be added.
        items: &'a [Item],
    },
    /// An unmark is committed, or perhaps is.
    Removed {
        /// From [`Outcome::Began`].
        write: WriteId,
        /// Whose.
        user: UserId,
        /// The removed items.
        items: &'a [Item],
        /// Its commit, where known.
        stamp: Option<CommitStamp>,
    },
    /// A forget is committed.
    Forgot {
        /// Who.
        user: UserId,
        /// The user's new epoch.
        epoch: UserEpoch,
        /// Its commit, where known.
        stamp: Option<CommitStamp>,
    },
    /// A write certainly did not happen.
    Abandoned {
        /// From [`Outcome::Began`].
        write: WriteId,
        /// Whose.
        user: UserId,
    },
    /// Change events arrived.
    Feed {
        /// The partition.
        feed: FeedId,
        /// The events.
        batch: &'a FeedBatch,
    },
    /// The partition's reader has been dropped: what comes by from now on is missed (rules R7, R8).
    Unfollowed {
        /// The partition.
        feed: FeedId,
    },
    /// A build has read everything.
    Install(Install),
    /// A build could not be run or finished.
    BuildFailed {
        /// Whose.
        user: UserId,
        /// Which.
        generation: Generation,
    },
    /// A peer asks for a user's entry (rule R3).
    Donate {
        /// Whose.
        user: UserId,
    },
    /// A transfer from a peer is about to be asked for.
    BeginTransfer {
        /// Whose.
        user: UserId,
    },
    /// A peer's entry arrived.
    Transferred {
        /// From [`Outcome::Building`].
        generation: Generation,
        /// The bytes that [`Outcome::Donated`] gave.
        bytes: &'a [u8],
        /// Whose entry was asked for.
        user: UserId,
    },
    /// An operator drops an entry.
    Evict {
        /// Whose.
        user: UserId,
    },
    /// An operator asks for a rebuild.
    Rebuild {
        /// Whose.
        user: UserId,
    },
    /// Frees at most `entries_max` cold entries while the cache is over its bound.
    Shed {
        /// The bound of this step's work.
        entries_max: usize,
    },
    /// A fence is committed.
    FenceWritten {
        /// Through which partition it comes back.
        feed: FeedId,
        /// Its number.
        seq: FenceSeq,
    },
    /// A fence of this partition was not written, as far as is known: another may follow. If it was, it proves what it would have.
    FenceFailed(FeedId, FenceSeq),
    /// No fence can be written, and this is storage's newest commit: it stands for the fence, which has
    /// come back once everything up to it is complete.
    FenceStands {
        /// Through which partition.
        feed: FeedId,
        /// Its number.
        seq: FenceSeq,
        /// The newest commit, asked for after the fence was begun.
        at: CommitStamp,
    },
    /// Time passed: fences fall due.
    Heartbeat,
    /// The storage's clock, from any answer that carried it.
    StorageClock(UnixMillis),
    /// A background check of an "unread" answer came back (row 55).
    VerifiedUnread {
        /// Whose.
        user: UserId,
        /// Which item was answered "unread".
        item: Item,
        /// Does storage have it?
        found: bool,
        /// When storage said so.
        at: Tick,
    },
}

/// Why an answer rests on weaker ground than a clean entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Doubt {
    /// The user is not cached.
    Cold,
    /// Events may have been lost (rule R8).
    Dirty,
    /// The caller's token names a write that has not come by here (rule R5).
    TokenUncovered,
    /// The feed has not proven itself fresh lately (row 25).
    FeedStale,
    /// The user's feed partition is not followed here (rule R7).
    NotFollowed,
    /// A removed id, or a "seen" that the caller wants confirmed.
    Asked,
}

impl Doubt {
    /// A short stable name.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Cold => "cold",
            Self::Dirty => "dirty",
            Self::TokenUncovered => "token_uncovered",
            Self::FeedStale => "feed_stale",
            Self::NotFollowed => "not_followed",
            Self::Asked => "asked",
        }
    }
}

/// The answer to a [`Read`], as far as memory can give it.
#[derive(Clone, Copy, Debug)]
pub struct ReadAnswer {
    /// Positions known to be seen.
    pub seen: Verdicts,
    /// Positions that only storage can decide. Where it cannot be had in time, an answer about them
    /// must be flagged.
    pub ask: Verdicts,
    /// Those of the asked positions that the bits call seen: the best that a flagged answer can say.
    pub likely: Verdicts,
    /// How many candidates there were.
    pub candidates: usize,
    /// What the answer from memory rests on.
    pub doubt: Option<Doubt>,
    /// True if "seen" answers have no false positives.
    pub exact: bool,
    /// The share of unread items that this entry may call "seen".
    pub rate: f64,
    /// Where set, the point check may be late, as long as it shows everything of before this tick:
    /// what came since is here.
    pub late_from: Option<Tick>,
}

/// Why an install or transfer was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// Another life of the entry has begun (row 7).
    Generation,
    /// The partition was in doubt meanwhile (row 52).
    Epoch,
    /// The snapshot is older than what was applied here, and the ring does not reach (rule R2).
    StaleSnapshot,
    /// The user was forgotten since (row 41).
    UserEpoch,
    /// The partition is not followed here (rule R7).
    NotFollowed,
    /// More events arrived than are held back (row 8).
    PendingOverflow,
    /// The transfer is torn, or made with another key or version (row 32).
    Torn,
    /// The entry to give away is not clean, or is absent (rule R3).
    NotClean,
}

impl Refusal {
    /// A short stable name, used as a metric label.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Generation => "generation",
            Self::Epoch => "epoch",
            Self::StaleSnapshot => "stale_snapshot",
            Self::UserEpoch => "user_epoch",
            Self::NotFollowed => "not_followed",
            Self::PendingOverflow => "pending_overflow",
            Self::Torn => "torn",
            Self::NotClean => "not_clean",
        }
    }
}

/// What a step decided.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "boxing the answer would allocate on the hot path")]
pub enum Outcome {
    /// Nothing to tell.
    Done,
    /// To [`Input::Read`]. Boxed nowhere: the hot path allocates nothing.
    Answer(ReadAnswer),
    /// To [`Input::Checked`] and [`Input::CheckedLate`]: which of the items, by index, are seen; and whether one of them is
    /// "seen" only because a removal of it could not be ordered.
    Decided {
        /// By index into the items asked.
        seen: Verdicts,
        /// True if the answer must be flagged.
        contested: bool,
    },
    /// To [`Input::BeginWrite`].
    Began(WriteId),
    /// To a committed write: what the caller's token must carry.
    Acknowledged(Claim),
    /// To an install.
    Installed,
    /// To an install, a transfer or a donation.
    Refused(Refusal),
    /// To [`Input::BeginTransfer`]: the life to name when it arrives.
    Building(Generation),
    /// To [`Input::Donate`].
    Donated(Vec<u8>),
    /// To [`Input::VerifiedUnread`]: storage has an item that was answered "unread", and nothing that happened meanwhile explains it.
    FalseNegative,
    /// To [`Input::VerifiedUnread`]: the row may still be on its way. Once the feed is fresher, the same input has another answer.
    OnItsWay,
    /// To [`Input::Shed`]: how many entries were freed.
    Shed(usize),
}

/// What must be done next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Read the user's history and hand it in as [`Input::Install`], or report
    /// [`Input::BuildFailed`].
    StartBuild {
        /// Whose.
        user: UserId,
        /// To be named at the end.
        generation: Generation,
        /// True if a caller waits for better answers, false if it may wait.
        urgent: bool,
    },
    /// Commit a fence row. If that fails, hand in [`Input::FenceFailed`]: another falls due.
    WriteFence {
        /// Through which partition it must come back.
        feed: FeedId,
        /// Its number.
        seq: FenceSeq,
    },
    /// A partition or user came into doubt: tell people.
    Doubted {
        /// The partition.
        feed: FeedId,
        /// The cause.
        reason: &'static str,
    },
}

/// The effects of one step: none for nearly every read.
pub type Effects = SmallVec<[Effect; 2]>;
