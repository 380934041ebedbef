//! What the feed loses, and what its fences prove.

use super::{A, B, NUMBERLESS, Named, U, V, X, acknowledged, cached, mark, read, unmark};
use crate::model::{Action, Config, Scenario};

pub fn all() -> Vec<Named> {
    vec![
        ("gap", 20_000, gap()),
        ("gap_while_building", 50_000, gap_while_building()),
        ("user_gap", 10_000, user_gap()),
        ("user_gap_and_stale_snapshots", 2_000, user_gap_and_stale_snapshots()),
        ("lost_remove", 30_000, lost_remove(GAP)),
        ("unreadable_remove", 20_000, lost_remove(POISON)),
        ("fences", 10_000, fences()),
        ("late_fence", 700, late_fence()),
        ("fences_release", 90_000, fences_release()),
    ]
}

const POISON: Action = Action::Poison { replica: A, partition: 0 };
const GAP: Action = Action::Gap { replica: A, partition: 0, rows: 1 };

/// Rule R8: rows are lost under an entry.
fn gap() -> Scenario {
    let once = [GAP, mark(B, 1, U, X), mark(A, 1, U, 2), read(A, 1, U, 3)];
    Scenario::new(Config::EMBEDDED, &cached(A, U), &once).fed(&[A]).prompt(&[B])
}

/// Row 52: rows are lost while a build reads late storage.
fn gap_while_building() -> Scenario {
    let config = Config { lag_us: 2_000_000, ..Config::EMBEDDED };
    let once = [GAP, mark(B, 1, U, X), read(A, 1, U, X), Action::Wait(2_100_000), read(A, 2, U, X)];
    Scenario::new(config, &[], &once).fed(&[A]).prompt(&[B]).builds(2)
}

/// Row 21: one row cannot be read; only its user is in doubt.
fn user_gap() -> Scenario {
    let before = [cached(A, U), cached(A, V)].concat();
    let once = [POISON, mark(B, 1, U, X), mark(B, 2, V, X), read(A, 1, U, X), read(A, 2, V, X)];
    Scenario::new(Config::EMBEDDED, &before, &once).fed(&[A]).prompt(&[B])
}

/// Row 21 with late snapshots: what is read after the loss may be of before it.
fn user_gap_and_stale_snapshots() -> Scenario {
    let config = Config { lag_us: 2_000_000, ..Config::EMBEDDED };
    let once = [POISON, mark(B, 1, U, X), read(A, 1, U, X), read(A, 1, U, X)];
    Scenario::new(config, &cached(A, U), &once).fed(&[A]).prompt(&[B])
}

/// Rows 21 and 59: the remove of an own mark is lost.
fn lost_remove(lost: Action) -> Scenario {
    let once = [lost, mark(A, 1, U, X), unmark(B, 2, U, X), read(A, 2, U, X)];
    Scenario::new(Config::EMBEDDED, &cached(A, U), &once).fed(&[A]).prompt(&[B]).builds(2)
}

/// Rule R9: what is presented between a fence's write and its return is not covered by it.
fn fences() -> Scenario {
    let once =
        [mark(B, 1, U, X), mark(B, 2, U, 2), read(A, 1, U, 3), read(A, 2, U, 3), read(A, 2, U, 3)];
    Scenario::new(NUMBERLESS, &cached(A, U), &once).fed(&[A])
}

/// Rule R9: a fence that was thought lost comes back when a later one is under way.
fn late_fence() -> Scenario {
    let written = [read(A, 1, U, X), Action::Drop { read: 0 }, Action::Fence { fence: 0 }];
    let before = [cached(A, U), acknowledged(B, 1, U, X), written.to_vec()].concat();
    let wait = Action::Wait(5_200_000);
    let once = [wait, mark(B, 2, U, 2), read(A, 2, U, 2), read(A, 2, U, 2)];
    Scenario::new(NUMBERLESS, &before, &once).fed(&[A]).prompt(&[B])
}

/// Row 26: a fence releases own commits, but not what was acknowledged since its write began; then a
/// rebuild reads late storage.
fn fences_release() -> Scenario {
    let config = Config { lag_us: 2_000_000, ..NUMBERLESS };
    let before = [vec![Action::Wait(2_100_000)], cached(A, U)].concat();
    let heartbeat = Action::Heartbeat { replica: A };
    let rebuild = Action::Rebuild { replica: A, user: U };
    let once = [mark(A, 1, U, X), heartbeat, mark(A, 1, U, 2), rebuild, read(A, 1, U, 3)];
    Scenario::new(config, &before, &once).fed(&[A]).prompt(&[A])
}
