//! One table from the servers' error numbers to what a caller may do about them.

use seen_filter::{StoreError, StoreErrorKind};
use sqlx::mysql::MySqlDatabaseError;

/// Where in a call an error came up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Opening a connection or the store.
    Open,
    /// Reading.
    Read,
    /// Writing, before COMMIT was sent: the transaction is rolled back, nothing of it is kept.
    Write,
    /// The COMMIT itself.
    Commit,
}

/// Why a piece of work on a connection failed.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The server or sqlx said so, at this stage.
    Sql(Stage, sqlx::Error),
    /// The client's own limit of this many milliseconds passed, at this stage.
    Silent(Stage, u64),
    /// The store itself refused.
    Store(StoreError),
}

/// What an error says about the connection and the call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Consequence {
    /// The connection may be used again.
    pub keep: bool,
    /// The server may not be the primary any more.
    pub suspect: bool,
    /// The same work may be done again at once, since nothing of it was done.
    pub again: bool,
}

/// The server's number of an error.
pub(crate) fn number(error: &sqlx::Error) -> Option<u16> {
    let database = error.as_database_error()?;
    Some(database.try_downcast_ref::<MySqlDatabaseError>()?.number())
}

/// What an error of the server means; `None` for others.
fn meaning(error: &sqlx::Error) -> Option<Meaning> {
    let said = error.as_database_error()?.message();
    Some(Meaning::of_words(number(error)?, said))
}

/// TiDB's number of errors that have none.
const NAMELESS: u16 = 1105;
/// What those say among them that are conflicts.
const NAMELESS_CONFLICTS: [&str; 4] = [
    "lock wait timeout",
    "pessimistic lock retry limit reached",
    "Information schema is out of date",
    "Information schema is changed",
];

/// What a server says by an error's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Meaning {
    /// Rolled back, because of others: deadlock, lock wait, a snapshot from before a change of the
    /// table; TiDB's write conflicts, locks that do not resolve, and transactions that it aborted.
    Conflict,
    /// The same, by its words alone: at COMMIT these prove nothing.
    NamelessConflict,
    /// The server is behind its cluster, and refused before it committed.
    OutOfDate,
    /// The statement or snapshot is of another time: to begin anew helps.
    Stale,
    /// `--read-only`, super read-only, and a demoted primary's other ways to say so.
    ReadOnly,
    /// TiDB's way: it rolled back, and reads go on.
    ClusterReadOnly,
    /// Interrupted by the server's own limit of time or memory, or killed.
    Limit,
    /// Disk or table full.
    Full,
    /// More than the server takes in one transaction.
    TooLarge,
    /// No such table, column or database.
    Schema,
    /// Access denied to the server, the database, the table, or for want of a privilege.
    Access,
    /// Damaged pages or tables, or an index that disagrees with its rows.
    Corrupt,
    /// Out of range, too long, wrong value, refused by a key, check or trigger of somebody else's
    /// table: what the table does not hold.
    Value,
    /// The server is there and has no connection to spare.
    NoConnection,
    /// The server is going.
    Going,
    /// What is behind a TiDB server has too much to do.
    StorageBusy,
    /// What is behind a TiDB server did not answer it in time.
    StorageOutOfReach,
    /// Anything else.
    Other,
}

impl Meaning {
    fn of_words(number: u16, said: &str) -> Self {
        match number {
            NAMELESS if NAMELESS_CONFLICTS.iter().any(|words| said.contains(words)) => {
                Self::NamelessConflict
            }
            number => Self::of(number),
        }
    }

    /// The numbers from 8000 on are TiDB's.
    const fn of(number: u16) -> Self {
        match number {
            1020 | 1205 | 1213 | 1412 => Self::Conflict,
            // Whatever its documentation says to have been rolled back, and what its source raises
            // before the primary key's commit is sent. A commit whose outcome TiDB itself does not
            // know has no number: it closes the connection instead.
            8002 | 8005 | 8022 | 8028 | 8147 | 8229 | 9004 | 9007 => Self::Conflict,
            8027 => Self::OutOfDate,
            8055 | 8111 | 9006 => Self::Stale,
            1290 | 1792 => Self::ReadOnly,
            1836 => Self::ClusterReadOnly,
            1317 | 1969 | 3024 | 8001 | 8175 | 8176 | 8253 | 8254 => Self::Limit,
            1021 | 1041 | 1114 => Self::Full,
            8004 | 8025 | 8178 | 9500 => Self::TooLarge,
            // 8113: 1146 or the like, of a statement that was prepared before.
            1049 | 1054 | 1109 | 1146 | 8113 => Self::Schema,
            1044 | 1045 | 1142 | 1143 | 1227 | 1698 | 8121 => Self::Access,
            1034 | 1035 | 1194 | 1712 | 1877 => Self::Corrupt,
            8003 | 8133 | 8134 | 8138..=8141 | 8223 => Self::Corrupt,
            1048 | 1062 | 1216 | 1264 | 1265 | 1292 | 1364 | 1366 | 1406 | 1411 | 1452 | 1644
            | 3819 | 4025 => Self::Value,
            1040 | 1203 => Self::NoConnection,
            1047 | 1053 => Self::Going,
            8252 | 9003 | 9008 | 9013 => Self::StorageBusy,
            8120 | 8251 | 9001 | 9002 | 9005 | 9010..=9012 => Self::StorageOutOfReach,
            _ => Self::Other,
        }
    }

    /// True if nothing was committed even when it comes in answer to COMMIT. There only a server that
    /// says that it rolled back proves that; a lost connection, a limit or a failed sync proves
    /// nothing (coherence row 11).
    const fn is_rolled_back(self) -> bool {
        matches!(self, Self::Conflict | Self::OutOfDate | Self::ClusterReadOnly)
    }

    const fn consequence(self, at_commit: bool) -> Consequence {
        match self {
            Self::Conflict => Consequence { keep: true, suspect: false, again: true },
            Self::OutOfDate => Consequence { keep: false, suspect: true, again: true },
            Self::NamelessConflict => {
                Consequence { keep: !at_commit, suspect: false, again: !at_commit }
            }
            Self::Stale => Consequence { keep: false, suspect: false, again: !at_commit },
            // Every server of the cluster says the same.
            Self::ClusterReadOnly => Consequence { keep: true, suspect: false, again: false },
            Self::ReadOnly | Self::NoConnection | Self::Going => {
                Consequence { keep: false, suspect: true, again: !at_commit }
            }
            // TiDB has itself tried again for as long as it may.
            _ => Consequence { keep: !at_commit, suspect: false, again: false },
        }
    }

    /// What the caller is told of an error before COMMIT, or of one that proves a rollback.
    const fn told(self) -> (StoreErrorKind, &'static str) {
        use StoreErrorKind as Kind;
        match self {
            Self::Conflict | Self::NamelessConflict => (
                Kind::Unavailable,
                "rolled back after a conflict with another transaction; try again",
            ),
            Self::OutOfDate => (
                Kind::Unavailable,
                "rolled back: the server lost touch with its cluster; try again",
            ),
            Self::Stale => (Kind::Unavailable, "it was prepared or begun too long ago; try again"),
            Self::ReadOnly => (
                Kind::ReadOnly,
                "the server takes no writes; another primary is looked for among the shard's \
                 candidates",
            ),
            Self::ClusterReadOnly => (
                Kind::ReadOnly,
                "rolled back: the server runs in read-only mode (on TiDB tidb_super_read_only or \
                 tidb_restricted_read_only)",
            ),
            Self::Limit => (
                Kind::Unavailable,
                "the statement met its limit at the server; it may be overloaded",
            ),
            Self::Full => (
                Kind::Full,
                "nothing was written; free space at the server, writes then work again",
            ),
            Self::TooLarge => (
                Kind::Unavailable,
                "the server takes no such transaction; lower mysql.commit_rows_max, or raise TiDB's \
                 txn-total-size-limit",
            ),
            Self::Schema => (
                Kind::Schema,
                "the schema is not what this program expects; run `seen migrate` to see what is \
                 missing",
            ),
            Self::Access => (
                Kind::Unavailable,
                "check mysql.user, its password and its privileges; `seen doctor` says what is missing",
            ),
            Self::Corrupt => (Kind::Corrupt, "the table is damaged; restore it from a backup"),
            Self::Value => (
                Kind::InvalidRequest,
                "the table does not hold such a row; widen its columns, or do not send such ids",
            ),
            Self::NoConnection | Self::Going => {
                (Kind::Unavailable, "the server takes no more connections")
            }
            Self::StorageBusy => (
                Kind::Overloaded,
                "TiDB's storage has too much to do, or the resource group's quota is used up; try \
                 again later",
            ),
            Self::StorageOutOfReach => (
                Kind::Unavailable,
                "TiDB did not reach its storage (PD or TiKV) in time; the same call may succeed later",
            ),
            Self::Other => (Kind::Unavailable, "see the cause; the same call may succeed later"),
        }
    }
}

impl Failure {
    /// True if a server said no more than that it has no connection to spare.
    pub(crate) fn is_busy(&self) -> bool {
        matches!(self, Self::Sql(_, error) if meaning(error) == Some(Meaning::NoConnection))
    }

    /// True if there was no answer, or the server says that its storage gives none.
    pub(crate) fn is_out_of_reach(&self) -> bool {
        match self {
            Self::Store(_) => false,
            Self::Silent(..) => true,
            Self::Sql(_, error) => {
                matches!(meaning(error), None | Some(Meaning::StorageOutOfReach))
            }
        }
    }

    /// What to do about the connection, and whether to do it again.
    pub(crate) fn consequence(&self) -> Consequence {
        let (stage, error) = match self {
            Self::Store(_) => return Consequence { keep: false, suspect: false, again: false },
            Self::Silent(..) => return Consequence { keep: false, suspect: true, again: false },
            Self::Sql(stage, error) => (*stage, error),
        };
        let at_commit = stage == Stage::Commit;
        if matches!(error, sqlx::Error::ColumnDecode { .. } | sqlx::Error::Encode(_)) {
            // The row is strange, not the connection.
            return Consequence { keep: true, suspect: false, again: false };
        }
        match meaning(error) {
            Some(meaning) => meaning.consequence(at_commit),
            // The connection broke, or speaks no sense.
            None => Consequence { keep: false, suspect: true, again: !at_commit },
        }
    }

    /// The error that the caller is told; `place` names the shard and server.
    pub(crate) fn into_store_error(self, place: &str) -> StoreError {
        match self {
            Self::Store(error) => error,
            Self::Silent(stage, limit_ms) => {
                let kind = match stage {
                    Stage::Commit => StoreErrorKind::OutcomeUnknown,
                    _ => StoreErrorKind::Unavailable,
                };
                let doing = stage.doing();
                StoreError::new(
                    kind,
                    format!("{doing} {place}: no answer within {limit_ms} ms; {}", advice(kind)),
                )
            }
            Self::Sql(stage, error) => {
                let (kind, advice) = classify(meaning(&error), stage);
                StoreError::new(kind, format!("{} {place}: {error}; {advice}", stage.doing()))
            }
        }
    }
}

impl Stage {
    const fn doing(self) -> &'static str {
        match self {
            Self::Open => "opening",
            Self::Read => "reading from",
            Self::Write => "writing to",
            Self::Commit => "committing to",
        }
    }
}

fn advice(kind: StoreErrorKind) -> &'static str {
    match kind {
        StoreErrorKind::OutcomeUnknown => {
            "the commit may or may not be durable; repeat the call, marks are safe to repeat"
        }
        _ => "nothing was changed; the same call may succeed later",
    }
}

fn classify(meaning: Option<Meaning>, stage: Stage) -> (StoreErrorKind, &'static str) {
    use StoreErrorKind as Kind;
    match meaning {
        Some(meaning) if meaning.is_rolled_back() => meaning.told(),
        _ if stage == Stage::Commit => (Kind::OutcomeUnknown, advice(Kind::OutcomeUnknown)),
        Some(meaning) => meaning.told(),
        None => (Kind::Unavailable, "the connection failed; the same call may succeed later"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn before_commit_every_failure_is_certain() {
        let all = (1000..=1999).chain(3000..=3999).chain(8000..=9999).map(Some).chain([None]);
        for code in all {
            for stage in [Stage::Open, Stage::Read, Stage::Write] {
                let (kind, _) = classify(code.map(Meaning::of), stage);
                assert_ne!(kind, StoreErrorKind::OutcomeUnknown, "{code:?}");
            }
        }
    }

    /// Of all numbers, these alone prove at COMMIT that nothing was committed.
    #[test]
    fn at_commit_only_a_rollback_is_certain() {
        let rolled_back =
            [1020, 1205, 1213, 1412, 1836, 8002, 8005, 8022, 8027, 8028, 8147, 8229, 9004, 9007];
        for code in 1..=u16::MAX {
            let (kind, _) = classify(Some(Meaning::of(code)), Stage::Commit);
            let is_certain = kind != StoreErrorKind::OutcomeUnknown;
            assert_eq!(is_certain, rolled_back.contains(&code), "{code}");
            let again = Meaning::of(code).consequence(true).again;
            assert!(is_certain || !again, "{code} is done again, and may have been done");
        }
        assert_eq!(classify(None, Stage::Commit).0, StoreErrorKind::OutcomeUnknown);
        let lost = Failure::Sql(Stage::Commit, sqlx::Error::PoolClosed);
        assert!(!lost.consequence().again && !lost.consequence().keep);
        let silent = Failure::Silent(Stage::Commit, 3).into_store_error("shard 0");
        assert_eq!(silent.kind, StoreErrorKind::OutcomeUnknown);
    }

    #[test]
    fn numbers_of_tidb_mean_what_it_says() {
        use StoreErrorKind as Kind;
        // The number, what a statement's caller is told, and what happens to the connection: kept,
        // its server suspected, the work done again.
        for (code, kind, [keep, suspect, again]) in [
            // Conflicts, in TiDB's own words: write conflict, retryable, schema changed, lazy
            // uniqueness check, locks expired, resolve lock timeout.
            (8002, Kind::Unavailable, [true, false, true]),
            (8005, Kind::Unavailable, [true, false, true]),
            (8022, Kind::Unavailable, [true, false, true]),
            (8028, Kind::Unavailable, [true, false, true]),
            (8147, Kind::Unavailable, [true, false, true]),
            (8229, Kind::Unavailable, [true, false, true]),
            (9004, Kind::Unavailable, [true, false, true]),
            (9007, Kind::Unavailable, [true, false, true]),
            // Schema information out of date.
            (8027, Kind::Unavailable, [false, true, true]),
            // Snapshot too old, prepared statement gone, garbage collected.
            (8055, Kind::Unavailable, [false, false, true]),
            (8111, Kind::Unavailable, [false, false, true]),
            (9006, Kind::Unavailable, [false, false, true]),
            // The schema changed so that a prepared statement does not fit it.
            (8113, Kind::Schema, [true, false, false]),
            // Read-only mode: no connection is worth less for it.
            (1836, Kind::ReadOnly, [true, false, false]),
            // Memory quotas, runaway queries.
            (8175, Kind::Unavailable, [true, false, false]),
            (8176, Kind::Unavailable, [true, false, false]),
            (8253, Kind::Unavailable, [true, false, false]),
            // Transaction or entry too large.
            (8004, Kind::Unavailable, [true, false, false]),
            (8025, Kind::Unavailable, [true, false, false]),
            (8121, Kind::Unavailable, [true, false, false]),
            // An index that disagrees with its rows, an assertion that failed.
            (8134, Kind::Corrupt, [true, false, false]),
            (8141, Kind::Corrupt, [true, false, false]),
            (8223, Kind::Corrupt, [true, false, false]),
            // Quota of the resource group, TiKV busy, too many requests for it, TiFlash busy.
            (8252, Kind::Overloaded, [true, false, false]),
            (9003, Kind::Overloaded, [true, false, false]),
            (9008, Kind::Overloaded, [true, false, false]),
            (9013, Kind::Overloaded, [true, false, false]),
            // No timestamp, timeouts of PD, TiKV and TiFlash, region out of reach, stale command,
            // no highest timestamp.
            (8120, Kind::Unavailable, [true, false, false]),
            (9001, Kind::Unavailable, [true, false, false]),
            (9002, Kind::Unavailable, [true, false, false]),
            (9005, Kind::Unavailable, [true, false, false]),
            (9010, Kind::Unavailable, [true, false, false]),
            (9011, Kind::Unavailable, [true, false, false]),
            (9012, Kind::Unavailable, [true, false, false]),
            // Its number for everything that has none.
            (1105, Kind::Unavailable, [true, false, false]),
        ] {
            assert_eq!(classify(Some(Meaning::of(code)), Stage::Write).0, kind, "{code}");
            let expected = Consequence { keep, suspect, again };
            assert_eq!(Meaning::of(code).consequence(false), expected, "{code}");
        }
    }

    #[test]
    fn what_has_no_number_is_told_by_its_words() {
        let limit = Meaning::of_words(1105, "pessimistic lock retry limit reached");
        assert_eq!(limit, Meaning::NamelessConflict);
        let conflict = Meaning::of_words(1105, "lock wait timeout");
        assert!(conflict.consequence(false).again);
        assert_eq!(classify(Some(conflict), Stage::Write), Meaning::Conflict.told());
        assert!(!conflict.consequence(true).again);
        assert_eq!(classify(Some(conflict), Stage::Commit).0, StoreErrorKind::OutcomeUnknown);
        assert_eq!(Meaning::of_words(1105, "Out Of Memory Quota!"), Meaning::Other);
        assert_eq!(Meaning::of_words(1062, "lock wait timeout"), Meaning::Value);
    }
}
