//! Lives that end: crashes, commits of unknown outcome, restored backups.

use super::{A, B, NUMBERLESS, Named, U, X, acknowledged, cached, mark, marked, read, unmark};
use crate::model::{Action, Config, Scenario};

pub fn all() -> Vec<Named> {
    vec![
        ("crash", 10_000, crash()),
        ("old_fences", 10_000, old_fences()),
        ("unknown_outcome", 3_000, unknown_outcome()),
        ("unknown_outcome_of_an_unmark", 10_000, unknown_outcome_of_an_unmark()),
        ("restored_backup", 20_000, restored_backup()),
        ("restored_silently", 40_000, restored_silently()),
    ]
}

const OPEN: Action = Action::Open { replica: A, partition: 0 };
const LOSE: Action = Action::Lose { op: 0 };

/// Rows 10, 17 and 44: a replica dies at any moment, and begins anew.
fn crash() -> Scenario {
    let once =
        [mark(A, 1, U, X), Action::Crash { replica: A }, OPEN, read(A, 1, U, X), read(B, 1, U, X)];
    Scenario::new(Config::EMBEDDED, &cached(A, U), &once)
}

/// Row 58: a fence of the former life comes back.
fn old_fences() -> Scenario {
    let asked = [read(A, 1, U, X), Action::Drop { read: 0 }];
    let again = [Action::Crash { replica: A }, OPEN];
    let marked = acknowledged(B, 1, U, X);
    let before = [cached(A, U), marked, asked.to_vec(), again.to_vec()].concat();
    let once = [mark(B, 2, U, 2), read(A, 0, U, X), read(A, 2, U, 3), read(A, 2, U, 3)];
    Scenario::new(NUMBERLESS, &before, &once).fed(&[A])
}

/// Row 11: nobody knows whether a mark was committed.
fn unknown_outcome() -> Scenario {
    let once = [mark(A, 1, U, X), LOSE, read(A, 1, U, X), read(B, 1, U, X)];
    Scenario::new(Config::EMBEDDED, &cached(A, U), &once)
}

/// Row 11 for an unmark; the item is marked again elsewhere.
fn unknown_outcome_of_an_unmark() -> Scenario {
    let before = [marked(A, 0, U, X), cached(A, U)].concat();
    let once = [unmark(A, 1, U, X), LOSE, mark(B, 2, U, X), read(A, 2, U, X)];
    Scenario::new(Config::EMBEDDED, &before, &once).fed(&[A]).prompt(&[B])
}

/// Row 53: storage goes back, and goes on under the same numbers.
fn restored_backup() -> Scenario {
    let restore = Action::Restore { lost: 1, gap: true };
    let once = [mark(A, 1, U, X), restore, mark(B, 2, U, 2), read(A, 2, U, 3)];
    Scenario::new(Config::EMBEDDED, &cached(A, U), &once).fed(&[A])
}

/// Row 53: the feed does not say so, and only the numbers' timeline tells.
fn restored_silently() -> Scenario {
    let restore = Action::Restore { lost: 1, gap: false };
    let once = [mark(B, 1, U, X), restore, mark(B, 2, U, 2), read(A, 0, U, 3), read(A, 2, U, 3)];
    Scenario::new(Config::EMBEDDED, &[], &once).fed(&[A]).prompt(&[B])
}
