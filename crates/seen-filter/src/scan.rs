//! The seam for going through **all** rows of a namespace, for exports and analysis: apart from
//! [`History`](crate::History), because no replica needs it and no caller waits for it.

use std::fmt;

use crate::history::{Row, SeamFuture, StoreError};
use crate::ids::{Item, NamespaceId, Shard, UserId};
use crate::position::SnapshotId;

/// A row's key within its namespace.
pub type RowKey = (UserId, Item);

/// Asks for one page of the rows of one part of a namespace, in the store's own key order, which is
/// total and stable.
#[derive(Clone, Copy, Debug)]
pub struct ScanRequest {
    /// Which history.
    pub namespace: NamespaceId,
    /// Which part of it: one of [`Scan::parts`], from 0.
    pub part: Shard,
    /// [`ScanPage::next`] of the page before, or `None` for the first page.
    pub after: Option<RowKey>,
    /// Most rows to return, 1 to [`PAGE_ROWS_MAX`](crate::history::PAGE_ROWS_MAX).
    pub rows_max: usize,
}

/// One user's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScannedRow {
    /// Whose.
    pub user: UserId,
    /// What, and when.
    pub row: Row,
}

impl ScannedRow {
    /// Its key.
    pub const fn key(&self) -> RowKey {
        (self.user, self.row.item)
    }
}

/// One page of a namespace's rows. Rows that no read returns (expired, removed, or on a shard where
/// their user does not live) are left out, so that a page may have few rows or none and still not be
/// the last.
#[derive(Clone, Debug)]
pub struct ScanPage {
    /// The rows, in key order; each item of a user once.
    pub rows: Vec<ScannedRow>,
    /// Where the next page begins; `None` if no row follows.
    pub next: Option<RowKey>,
    /// What this page's read saw.
    pub snapshot: SnapshotId,
}

/// Which numbering a [`SourcePosition`] belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PositionSource {
    /// The embedded store's commit log.
    Sqlite,
    /// A MariaDB server's binary log: global transaction ids.
    MariaDb,
    /// A MySQL server's binary log: a set of global transaction ids.
    MySql,
    /// A TiDB cluster's timestamps.
    TiDb,
    /// The double in memory.
    Memory,
}

impl PositionSource {
    /// All of them.
    const ALL: [Self; 5] = [Self::Sqlite, Self::MariaDb, Self::MySql, Self::TiDb, Self::Memory];

    /// The source of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|source| source.name() == name)
    }

    /// A short stable name, as it stands in files.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::MariaDb => "mariadb",
            Self::MySql => "mysql",
            Self::TiDb => "tidb",
            Self::Memory => "memory",
        }
    }
}

/// How far a part's change feed is: everything up to here is seen by every read that begins later.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourcePosition {
    /// Whose numbering it is.
    pub source: PositionSource,
    /// The position as its source writes it: what a follower is told to begin after.
    pub text: String,
    /// Which unbroken run of numbers it belongs to; positions of two runs cannot be compared.
    pub timeline: String,
    /// The number of the last commit within that run; `None` where the position is no single number.
    pub number: Option<u64>,
}

impl SourcePosition {
    /// True if `self` is known to come before `earlier`, or of another run of numbers: then what was
    /// read up to `earlier` may not be what storage holds now (coherence row 53).
    pub fn is_behind(&self, earlier: &Self) -> bool {
        if (self.source, &self.timeline) != (earlier.source, &earlier.timeline) {
            return true;
        }
        matches!((self.number, earlier.number), (Some(now), Some(then)) if now < then)
    }
}

impl fmt::Display for SourcePosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.source.name(), self.text)
    }
}

/// A store all of whose rows can be gone through.
pub trait Scan: Send + Sync + 'static {
    /// Into how many parts each namespace is divided: its shards. Users never move between them.
    fn parts(&self) -> u16;

    /// How far the change feed of a part is. Whoever reads it **before** the first row of the part, and
    /// follows the feed from there, misses nothing (rule R2). `None` where commits are not numbered.
    ///
    /// # Errors
    /// [`StoreError`]; `InvalidRequest` for an unknown part.
    fn position(&self, part: Shard) -> SeamFuture<'_, Result<Option<SourcePosition>, StoreError>>;

    /// One page of a part's rows, read from the primary. A row that is there all the while is returned
    /// once by the pages that follow one another, whatever is written meanwhile.
    ///
    /// # Errors
    /// [`StoreError`]; `InvalidRequest` for an unknown namespace or part, or a limit out of range.
    fn scan(&self, request: ScanRequest) -> SeamFuture<'_, Result<ScanPage, StoreError>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_found_by_their_names() {
        for source in PositionSource::ALL {
            assert_eq!(PositionSource::named(source.name()), Some(source));
        }
        assert_eq!(PositionSource::named("kafka"), None);
    }

    #[test]
    fn a_position_that_cannot_follow_is_told() {
        let at = |timeline: &str, number| SourcePosition {
            source: PositionSource::Sqlite,
            text: String::new(),
            timeline: timeline.to_owned(),
            number,
        };
        assert!(!at("a", Some(7)).is_behind(&at("a", Some(7))));
        assert!(!at("a", None).is_behind(&at("a", Some(7))));
        assert!(at("a", Some(6)).is_behind(&at("a", Some(7))));
        assert!(at("b", Some(9)).is_behind(&at("a", Some(7))));
        let elsewhere = SourcePosition { source: PositionSource::TiDb, ..at("a", Some(9)) };
        assert!(elsewhere.is_behind(&at("a", Some(7))));
    }
}
