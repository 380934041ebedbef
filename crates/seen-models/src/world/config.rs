//! What a test world is like: how storage numbers its commits, how late its snapshots may be, and
//! how narrow the bounds of a replica are.

use seen_replica::rules::{JOURNAL_ROW_BYTES, RING_EVENT_BYTES, Rule};

/// Users that a story is about. 0 and 4 share a partition.
pub const USERS: [u64; 4] = [0, 4, 1, 2];
/// Items that may be marked and unmarked, few enough for the exact form.
pub const ITEMS: [u64; 5] = [1, 2, 3, 4, 5];
/// Partitions of the feed.
pub const PARTITIONS: usize = 4;
/// Callers with tokens; caller 0 stands for one without.
pub const SESSIONS: usize = 3;
/// Elements that a token holds before it collapses to a wildcard.
pub const TOKEN_ELEMENTS_MAX: usize = 3;

/// How the ticks that replicas see go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clock {
    /// Every action takes a microsecond.
    Global,
    /// Every step of a replica takes it a microsecond, so that steps of different replicas commute
    /// and an exhaustive search need not try both orders.
    PerReplica,
}

/// The fixed properties of one world.
#[derive(Clone, Copy, Debug)]
pub struct Config {
    /// Rule R2's S: how late a snapshot may be, in microseconds; 0 if it is always fresh.
    pub lag_us: u64,
    /// Acknowledgements carry commit stamps.
    pub stamps: bool,
    /// Snapshots carry lower bounds.
    pub positions: bool,
    /// Lower bounds may lie below what the snapshot saw.
    pub loose: bool,
    /// Replicas write fences as heartbeats.
    pub fences: bool,
    /// A feed that has not proven itself fresh for so long is stale, in microseconds (row 25).
    pub stale_us: u64,
    /// A topic lies between storage and the readers, and is filled by somebody else.
    pub topic: bool,
    /// No fences are written: storage's newest commit stands for them.
    pub stands: bool,
    /// Replicas are not told which fences were written.
    pub untold: bool,
    /// Marking what is marked, and unmarking what is not, is an event all the same.
    pub no_op_events: bool,
    /// A forget is a control row and deletes, instead of one commit.
    pub forget_by_statements: bool,
    /// Items that every user has from the start, in numbers that need a filter.
    pub base_items: u64,
    /// Events that a ring holds.
    pub ring_events: usize,
    /// Rows that a journal holds.
    pub journal_rows: usize,
    /// Events that a build holds back.
    pub pending_events: usize,
    /// Partitions that replicas follow, the first ones.
    pub partitions: usize,
    /// Replica B follows the first two partitions only.
    pub partial: bool,
    /// The first tick.
    pub start_us: u64,
    /// How time goes on.
    pub clock: Clock,
    /// Pages that a build reads.
    pub pages: u64,
    /// Nothing is opened before the story says so.
    pub closed: bool,
    /// The rule whose defence is taken away.
    #[cfg_attr(not(feature = "sabotage"), expect(dead_code, reason = "nothing can be taken away"))]
    pub sabotage: Option<Rule>,
}

impl Config {
    /// The embedded store: fresh snapshots, exact positions, no fences needed.
    pub const EMBEDDED: Config = Config {
        lag_us: 0,
        stamps: true,
        positions: true,
        loose: false,
        fences: false,
        stale_us: 20_000_000,
        topic: false,
        stands: false,
        untold: false,
        no_op_events: true,
        forget_by_statements: false,
        base_items: 0,
        ring_events: 400,
        journal_rows: 400,
        pending_events: 100,
        partitions: PARTITIONS,
        partial: false,
        start_us: 50_000_000,
        clock: Clock::Global,
        pages: 2,
        closed: false,
        sabotage: None,
    };

    /// A server whose snapshots may be late but say what they saw.
    pub const LATE: Config = Config {
        lag_us: 2_000_000,
        loose: true,
        fences: true,
        no_op_events: false,
        forget_by_statements: true,
        ..Config::EMBEDDED
    };

    /// A server that tells no positions at all.
    pub const UNKNOWN: Config =
        Config { stamps: false, positions: false, loose: false, ..Config::LATE };

    /// The same behind a topic: its offsets number the events, and fences prove all there is to prove.
    pub const TOPIC: Config =
        Config { stamps: true, topic: true, stale_us: 5_000_000, ..Config::UNKNOWN };

    /// Commits are numbered, and no fence can be written: the newest commit's number stands for it.
    pub const STANDS: Config = Config { stands: true, stale_us: 5_000_000, ..Config::LATE };

    /// Bytes that give the ring its bound.
    pub fn ring_bytes(&self) -> usize {
        self.ring_events * RING_EVENT_BYTES
    }

    /// Bytes that give the journal its bound.
    pub fn journal_bytes(&self) -> usize {
        self.journal_rows * JOURNAL_ROW_BYTES
    }

    /// True if a feed that has nothing more to deliver is fresh: where it is the source itself.
    pub fn quiet_is_fresh(&self) -> bool {
        !self.topic && !self.stands
    }

    /// True if no answer can be a false positive.
    pub fn exact(&self) -> bool {
        self.base_items == 0
    }
}
