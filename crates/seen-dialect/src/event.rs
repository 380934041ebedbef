//! What a record says.

use std::fmt;

use seen_filter::{Item, UserId};

/// What a [`What::Dirty`] puts in doubt (rule R8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// One user's events may be missing.
    User(UserId),
    /// Any event of the record's partition may be missing.
    Partition,
    /// Any event of the table may be missing, whatever its partition.
    Table,
}

/// A row of the control table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ControlRow {
    /// Who was forgotten; for a fence, the id that leads it through the wanted partition.
    pub user: UserId,
    /// The namespace's number in its database.
    pub namespace: u16,
    /// One life of one process; 0 for a forget.
    pub writer: u64,
    /// The fence's number, or the user's epoch.
    pub seq: u64,
}

/// Something that a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// The row is there.
    Upsert {
        /// Whose.
        user: UserId,
        /// What was read.
        item: Item,
        /// When, in milliseconds since 1970, where the record says so.
        marked_at_ms: Option<u64>,
    },
    /// The row is gone.
    Delete {
        /// Whose.
        user: UserId,
        /// What is unread again.
        item: Item,
    },
    /// A row of the control table was written.
    Control(ControlRow),
    /// All rows of the table are gone (truncated, dropped), or are rows of another name now.
    Truncate,
    /// The table was changed in another way.
    Ddl,
    /// The producer lives; nothing more.
    Heartbeat,
    /// Everything up to the event's position has been sent to this partition.
    Watermark,
    /// Nothing about the followed tables, for the reason given.
    Ignore,
    /// Something may be missing, for the reason given.
    Dirty(Scope),
}

impl What {
    /// A short stable name, as `seen feed decode` prints it.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Upsert { .. } => "upsert",
            Self::Delete { .. } => "delete",
            Self::Control(_) => "control",
            Self::Truncate => "truncate",
            Self::Ddl => "ddl",
            Self::Heartbeat => "heartbeat",
            Self::Watermark => "watermark",
            Self::Ignore => "ignore",
            Self::Dirty(_) => "dirty",
        }
    }
}

/// Where in its source an event lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Position {
    /// A transaction of MariaDB: domain, server, number.
    MariaDb {
        /// The GTID domain.
        domain: u32,
        /// The server that made it.
        server: u32,
        /// Its number.
        seq: u64,
    },
    /// A transaction of MySQL: the server's UUID, the number.
    MySql {
        /// The server's UUID.
        source: [u8; 16],
        /// Its number.
        number: u64,
    },
    /// A place in a server's binary log.
    File {
        /// The file's name.
        file: Box<str>,
        /// The byte.
        pos: u64,
    },
    /// A commit timestamp of TiDB.
    CommitTs(u64),
    /// A commit as the store numbers it: domain, timeline, number (the project's own format).
    Stamp(seen_filter::CommitStamp),
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MariaDb { domain, server, seq } => write!(f, "{domain}-{server}-{seq}"),
            Self::MySql { source, number } => {
                for (at, byte) in source.iter().enumerate() {
                    let dash = if matches!(at, 4 | 6 | 8 | 10) { "-" } else { "" };
                    write!(f, "{dash}{byte:02x}")?;
                }
                write!(f, ":{number}")
            }
            Self::File { file, pos } => write!(f, "{file}:{pos}"),
            Self::CommitTs(ts) => write!(f, "{ts}"),
            Self::Stamp(stamp) => write!(f, "{stamp}"),
        }
    }
}

/// One event of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// The followed table's place in the decoder's list; `None` where no single one is meant.
    pub table: Option<usize>,
    /// What is said.
    pub what: What,
    /// Where in its source it lies, where the record says so.
    pub position: Option<Position>,
    /// Why: a short stable name, of `ignore`, `dirty`, `ddl` and `truncate`.
    pub reason: Option<&'static str>,
}

impl Event {
    /// An event about nothing that is followed.
    pub fn ignore(reason: &'static str) -> Self {
        Self { table: None, what: What::Ignore, position: None, reason: Some(reason) }
    }

    /// A doubt.
    pub fn dirty(scope: Scope, reason: &'static str) -> Self {
        Self { table: None, what: What::Dirty(scope), position: None, reason: Some(reason) }
    }
}
