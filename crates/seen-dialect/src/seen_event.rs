//! The project's own format, `ChangeRecord` of `proto/seen/v1/change.proto`, by hand: this crate knows
//! no protobuf library, and a consumer reads half a million of these events a second. A test of
//! `seen-proto` holds that both understand each other.

mod read;
mod write;

use seen_filter::{Domain, FeedCursor, FeedEvent, GapScope, Partition, Shard, Timeline};
use thiserror::Error;

pub use read::{Changes, ReadRecord};
pub use write::ChangeRecord;

use crate::event::{ControlRow, Event, Position, Scope, What};
use crate::record::Record;
use crate::table::{FollowedTable, TableRole};

/// What every record begins with: the tag of its first field, and "SEEN".
pub const CHANGE_RECORD_START: [u8; 5] = *b"\x0dSEEN";
/// Most events of one record.
pub const CHANGE_RECORD_EVENTS_MAX: usize = 1_024;
/// Most bytes of one record.
pub const CHANGE_RECORD_BYTES_MAX: usize = 64 * 1_024;

/// The version that is written, and the only one that is read.
const FORMAT: u64 = 1;
/// Longest name of a history, in bytes.
const NAMESPACE_BYTES_MAX: usize = 48;
/// Longest reason of a gap, in bytes.
const REASON_BYTES_MAX: usize = 64;

/// Why a record cannot be read or begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum ChangeRecordError {
    /// It is of another format.
    #[error("it does not begin as a record of this format")]
    Start,
    /// It is of a newer version.
    #[error("it is of version {0} of the format")]
    Version(u64),
    /// It is cut or damaged.
    #[error("it is cut or damaged: {0}")]
    Damaged(&'static str),
    /// It holds more than a record may.
    #[error(
        "it holds more than {CHANGE_RECORD_EVENTS_MAX} events or {CHANGE_RECORD_BYTES_MAX} bytes"
    )]
    TooLarge,
    /// The history's name is empty or too long.
    #[error("the history's name is empty or longer than {NAMESPACE_BYTES_MAX} bytes")]
    Namespace,
}

/// Whose events a record holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChangeHead<'a> {
    /// The history's name.
    pub namespace: &'a str,
    /// The storage shard that the events come from.
    pub shard: Shard,
    /// The topic's partition.
    pub partition: Partition,
    /// How many partitions users are spread over.
    pub partitions: u32,
}

/// Where in its own source a writer goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChangeSource {
    /// The source's partition.
    pub partition: Partition,
    /// The first event there that was not yet written.
    pub resume: FeedCursor,
}

/// One event of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change<'a> {
    /// The event. The reason of a gap is always [`RELAYED`]: which one it was is said beside it.
    pub event: FeedEvent,
    /// When the item was read, of rows added, where it is known.
    pub marked_at_ms: Option<u64>,
    /// Why events may be missing, of gaps; otherwise empty.
    pub reason: &'a str,
}

/// The reason of every gap that a record tells of.
pub const RELAYED: &str = "relayed_gap";

/// An event's first byte, and so which columns it has values in; `ChangeOp` of the .proto file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Op {
    Add = 1,
    AddTimed,
    Remove,
    RemoveAll,
    Forgotten,
    Fence,
    Complete,
    GapUser,
    GapPartition,
}

impl Op {
    #[inline]
    const fn of(byte: u8) -> Option<Self> {
        Some(match byte {
            1 => Self::Add,
            2 => Self::AddTimed,
            3 => Self::Remove,
            4 => Self::RemoveAll,
            5 => Self::Forgotten,
            6 => Self::Fence,
            7 => Self::Complete,
            8 => Self::GapUser,
            9 => Self::GapPartition,
            _ => return None,
        })
    }
}

/// The numbers that the fields of `ChangeRecord` have.
mod field {
    pub const FORMAT: u64 = 2;
    pub const NAMESPACE: u64 = 3;
    pub const SHARD: u64 = 4;
    pub const PARTITION: u64 = 5;
    pub const PARTITIONS: u64 = 6;
    pub const DOMAIN: u64 = 7;
    pub const TIMELINE: u64 = 8;
    pub const OPS: u64 = 9;
    pub const POSITIONS: u64 = 10;
    pub const USERS: u64 = 11;
    pub const ITEM_KINDS: u64 = 12;
    pub const ITEM_IDS: u64 = 13;
    pub const MARKED_AT_MS: u64 = 14;
    pub const EPOCHS: u64 = 15;
    pub const FENCE_WRITERS: u64 = 16;
    pub const FENCE_SEQS: u64 = 17;
    pub const REASONS: u64 = 18;
    pub const SOURCE: u64 = 19;

    pub const SOURCE_PARTITION: u64 = 1;
    pub const SOURCE_TIMELINE: u64 = 2;
    pub const SOURCE_OFFSET: u64 = 3;
}

/// The numbering that a record's commits belong to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Numbering {
    domain: Domain,
    timeline: Timeline,
}

/// True if a record says of itself that it is of this format.
pub(crate) fn is_one(value: &[u8]) -> bool {
    value.starts_with(&CHANGE_RECORD_START)
}

/// Appends what a record says, for people and for whoever mixes formats. A consumer of this format
/// alone reads it without the detour, with [`ReadRecord`].
pub(crate) fn decode(tables: &[FollowedTable], record: &Record<'_>, out: &mut Vec<Event>) {
    let Some(value) = record.value else {
        return out.push(Event::ignore("tombstone"));
    };
    let read = match ReadRecord::read(value) {
        Ok(read) => read,
        Err(ChangeRecordError::Version(_)) => {
            return out.push(Event::dirty(Scope::Partition, "format_version"));
        }
        Err(_) => return out.push(Event::dirty(Scope::Partition, "record_damaged")),
    };
    let mut histories = tables.iter().enumerate().filter(|(_, table)| is_history(table));
    // The record names a history and no table: only a single one can be meant.
    let table = match (histories.next(), histories.next()) {
        (Some((at, _)), None) => Some(at),
        _ => None,
    };
    if read.is_empty() {
        return out.push(Event { table, ..Event::ignore("no_events") });
    }
    out.extend(read.changes().map(|change| told(&change, table)));
}

fn is_history(table: &FollowedTable) -> bool {
    matches!(table.role, TableRole::History { .. })
}

fn told(change: &Change<'_>, table: Option<usize>) -> Event {
    let control = |user, writer, seq| What::Control(ControlRow { user, namespace: 0, writer, seq });
    let (stamp, what, reason) = match change.event {
        FeedEvent::Add { stamp, user, item } => {
            let marked_at_ms = change.marked_at_ms;
            (Some(stamp), What::Upsert { user, item, marked_at_ms }, None)
        }
        FeedEvent::Remove { stamp, user, item } => (Some(stamp), What::Delete { user, item }, None),
        // What is gone is not named, so that only a rebuild can tell.
        FeedEvent::RemoveAll { stamp, user } => {
            (Some(stamp), What::Dirty(Scope::User(user)), Some("remove_all"))
        }
        FeedEvent::Forgotten { stamp, user, epoch } => {
            (Some(stamp), control(user, 0, u64::from(epoch.get())), None)
        }
        FeedEvent::Fence { stamp, user, writer, seq } => {
            (Some(stamp), control(user, writer.get(), seq.get()), None)
        }
        FeedEvent::Complete { stamp } => (Some(stamp), What::Watermark, None),
        FeedEvent::Gap { scope: GapScope::User(user), reason } => {
            (None, What::Dirty(Scope::User(user)), Some(reason))
        }
        FeedEvent::Gap { scope: GapScope::Partition, reason } => {
            (None, What::Dirty(Scope::Partition), Some(reason))
        }
    };
    Event { table, what, position: stamp.map(Position::Stamp), reason }
}
