//! One table from SQLite's result codes to what a caller may do about them.

use std::path::Path;

use seen_filter::{StoreError, StoreErrorKind};
use sqlx::migrate::MigrateError;

/// Where in a call an error came up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Opening the file.
    Open,
    /// Reading.
    Read,
    /// Writing, before COMMIT was sent: the transaction is rolled back, nothing of it is kept.
    Write,
    /// The COMMIT itself.
    Commit,
}

/// SQLite's extended result code of an error, if it has one.
fn result_code(error: &sqlx::Error) -> Option<i32> {
    error.as_database_error()?.code()?.parse().ok()
}

const BUSY: i32 = 5;
const LOCKED: i32 = 6;
const READONLY: i32 = 8;
const CORRUPT: i32 = 11;
const FULL: i32 = 13;
const CANTOPEN: i32 = 14;
const NOTADB: i32 = 26;
/// Extended: the file was moved, deleted or replaced while it was open.
const READONLY_DBMOVED: i32 = READONLY | (4 << 8);
/// Extended: the file needs recovery, which a reader without the right to write cannot do.
const READONLY_CANTINIT: i32 = READONLY | (5 << 8);

/// The store error for an error of SQLite or sqlx.
pub(crate) fn map(error: &sqlx::Error, stage: Stage, path: &Path) -> StoreError {
    let code = result_code(error);
    let (kind, advice) = classify(code, stage);
    let doing = match stage {
        Stage::Open => "opening",
        Stage::Read => "reading",
        Stage::Write => "writing to",
        Stage::Commit => "committing to",
    };
    StoreError::new(kind, format!("{doing} {}: {error}; {advice}", path.display()))
}

/// At COMMIT only two codes prove that nothing was committed: the log could not take the last frame
/// (FULL), or the commit was not begun (BUSY). After any other, a failed sync among them, the frames
/// may be whole on disk and come back at the next recovery (coherence row 11).
fn classify(code: Option<i32>, stage: Stage) -> (StoreErrorKind, &'static str) {
    use StoreErrorKind as Kind;
    let primary = code.map(|c| c & 0xff);
    match (primary, stage) {
        (Some(FULL), _) => (
            Kind::Full,
            "nothing was written; free space on the disk or raise file_bytes_max, writes then work \
             again",
        ),
        (Some(BUSY | LOCKED), _) => (
            Kind::Unavailable,
            "another process held the file's lock for longer than busy_timeout_ms; try again",
        ),
        (_, Stage::Commit) => (
            Kind::OutcomeUnknown,
            "the commit may or may not be durable; repeat the call, marks are safe to repeat",
        ),
        (Some(READONLY), _) => (Kind::ReadOnly, readonly_advice(code)),
        (Some(CORRUPT | NOTADB), _) => (
            Kind::Corrupt,
            "the file is damaged or is no store; stop, keep a copy, and restore a backup or run \
             `sqlite3 FILE .recover`",
        ),
        (Some(CANTOPEN), _) => {
            (Kind::Unavailable, "check that the folder exists and that this user may write in it")
        }
        _ => (Kind::Unavailable, "see the cause; the same call may succeed later"),
    }
}

fn readonly_advice(code: Option<i32>) -> &'static str {
    match code {
        Some(READONLY_DBMOVED) => {
            "the file was moved or replaced while it was open; restart to open the new one"
        }
        Some(READONLY_CANTINIT) => {
            "the file needs recovery, which needs the right to write in its folder; open it once for \
             writing"
        }
        _ => "give this user the right to write to the file and its folder; reads go on",
    }
}

/// The store error for a failed migration.
pub(crate) fn map_migrate(error: MigrateError, path: &Path, newest: i64) -> StoreError {
    let at = path.display();
    let schema = |message| StoreError::new(StoreErrorKind::Schema, message);
    match error {
        MigrateError::Execute(e) | MigrateError::ExecuteMigration(e, _) => {
            map(&e, Stage::Open, path)
        }
        MigrateError::VersionMissing(version) if version > newest => schema(format!(
            "{at}: schema version {version} is newer than this program, which knows up to {newest}; \
             start the newer program, or restore the backup from before the upgrade"
        )),
        MigrateError::VersionMissing(version) | MigrateError::VersionMismatch(version) => {
            schema(format!(
                "{at}: schema version {version} is not the one that this program knows; start the \
                 program that made the file"
            ))
        }
        other => schema(format!("{at}: {other}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_full_and_busy_are_certain_at_commit() {
        for (code, kind) in [
            (Some(FULL), StoreErrorKind::Full),
            (Some(BUSY), StoreErrorKind::Unavailable),
            (Some(10), StoreErrorKind::OutcomeUnknown),
            (Some(10 | (4 << 8)), StoreErrorKind::OutcomeUnknown),
            (Some(READONLY), StoreErrorKind::OutcomeUnknown),
            (None, StoreErrorKind::OutcomeUnknown),
        ] {
            assert_eq!(classify(code, Stage::Commit).0, kind, "{code:?}");
        }
    }

    #[test]
    fn before_commit_every_failure_is_certain() {
        for code in 1..=28 {
            for stage in [Stage::Open, Stage::Read, Stage::Write] {
                let (kind, _) = classify(Some(code), stage);
                assert_ne!(kind, StoreErrorKind::OutcomeUnknown, "{code} {stage:?}");
            }
        }
        assert_eq!(classify(Some(READONLY_DBMOVED), Stage::Write).0, StoreErrorKind::ReadOnly);
        assert_eq!(classify(Some(NOTADB), Stage::Open).0, StoreErrorKind::Corrupt);
    }
}
