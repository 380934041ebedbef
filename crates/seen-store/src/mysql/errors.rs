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

/// Deadlock, lock wait, a snapshot from before a change of the table, TiDB's write conflict, lock
/// resolution and schema change: rolled back.
const CONFLICTS: [u16; 8] = [1205, 1213, 1020, 1412, 8002, 8028, 9004, 9007];
/// `--read-only`, super read-only, and a demoted primary's other ways to say so.
const READ_ONLY: [u16; 3] = [1290, 1792, 1836];
/// Interrupted by the server's own limit (MySQL and TiDB, MariaDB, killed).
const LIMITS: [u16; 3] = [3024, 1969, 1317];
/// Disk or table full.
const FULL: [u16; 3] = [1021, 1114, 1041];
/// No such table, column or database.
const SCHEMA: [u16; 4] = [1049, 1054, 1146, 1109];
/// Access denied to the server, the database, the table, or for want of a privilege.
const ACCESS: [u16; 6] = [1044, 1045, 1142, 1143, 1227, 1698];
/// Damaged pages or tables.
const CORRUPT: [u16; 5] = [1034, 1035, 1712, 1194, 1877];
/// Out of range, too long, wrong value, refused by a key, check or trigger of somebody else's table:
/// what the table does not hold.
const VALUES: [u16; 14] =
    [1048, 1062, 1216, 1264, 1265, 1292, 1364, 1366, 1406, 1411, 1452, 1644, 3819, 4025];
/// The server is there and has no connection to spare.
const BUSY: [u16; 2] = [1040, 1203];
/// The server is going, or has too many connections.
const GOING: [u16; 4] = [1053, 1040, 1203, 1047];

impl Failure {
    /// True if a server said no more than that it has no connection to spare.
    pub(crate) fn is_busy(&self) -> bool {
        matches!(self, Self::Sql(_, error) if number(error).is_some_and(|n| BUSY.contains(&n)))
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
        match number(error) {
            Some(n) if CONFLICTS.contains(&n) => {
                Consequence { keep: true, suspect: false, again: true }
            }
            Some(n) if READ_ONLY.contains(&n) => {
                Consequence { keep: false, suspect: true, again: !at_commit }
            }
            Some(n) if GOING.contains(&n) => {
                Consequence { keep: false, suspect: true, again: !at_commit }
            }
            Some(_) => Consequence { keep: !at_commit, suspect: false, again: false },
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
                let (kind, advice) = classify(number(&error), stage);
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

/// At COMMIT only a server that says that it rolled back proves that nothing was committed; a lost
/// connection, a limit or a failed sync proves nothing (coherence row 11).
fn classify(number: Option<u16>, stage: Stage) -> (StoreErrorKind, &'static str) {
    use StoreErrorKind as Kind;
    match number {
        Some(n) if CONFLICTS.contains(&n) => {
            (Kind::Unavailable, "rolled back after a conflict with another transaction; try again")
        }
        _ if stage == Stage::Commit => (Kind::OutcomeUnknown, advice(Kind::OutcomeUnknown)),
        Some(n) if READ_ONLY.contains(&n) => (
            Kind::ReadOnly,
            "the server takes no writes; another primary is looked for among the shard's candidates",
        ),
        Some(n) if LIMITS.contains(&n) => {
            (Kind::Unavailable, "the statement met its limit at the server; it may be overloaded")
        }
        Some(n) if FULL.contains(&n) => {
            (Kind::Full, "nothing was written; free space at the server, writes then work again")
        }
        Some(n) if SCHEMA.contains(&n) => (
            Kind::Schema,
            "the schema is not what this program expects; run `seen migrate` to see what is missing",
        ),
        Some(n) if ACCESS.contains(&n) => (
            Kind::Unavailable,
            "check mysql.user, its password and its privileges; `seen doctor` says what is missing",
        ),
        Some(n) if CORRUPT.contains(&n) => {
            (Kind::Corrupt, "the table is damaged; restore it from a backup")
        }
        Some(n) if VALUES.contains(&n) => (
            Kind::InvalidRequest,
            "the table does not hold such a row; widen its columns, or do not send such ids",
        ),
        Some(n) if GOING.contains(&n) => {
            (Kind::Unavailable, "the server takes no more connections")
        }
        Some(_) => (Kind::Unavailable, "see the cause; the same call may succeed later"),
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
                assert_ne!(classify(code, stage).0, StoreErrorKind::OutcomeUnknown, "{code:?}");
            }
        }
    }

    #[test]
    fn at_commit_only_a_conflict_is_certain() {
        for code in [Some(1290), Some(1969), Some(1021), Some(2013), None] {
            assert_eq!(classify(code, Stage::Commit).0, StoreErrorKind::OutcomeUnknown, "{code:?}");
            let lost = Failure::Sql(Stage::Commit, sqlx::Error::PoolClosed);
            assert!(!lost.consequence().again && !lost.consequence().keep);
        }
        for code in CONFLICTS {
            assert_eq!(classify(Some(code), Stage::Commit).0, StoreErrorKind::Unavailable);
        }
        let silent = Failure::Silent(Stage::Commit, 3).into_store_error("shard 0");
        assert_eq!(silent.kind, StoreErrorKind::OutcomeUnknown);
    }
}
