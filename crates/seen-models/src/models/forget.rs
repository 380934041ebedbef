//! Forgets: in one commit and by statements, late, told again, and against builds and transfers.

use super::{A, B, NUMBERLESS, Named, U, X, cached, mark, marked, read};
use crate::landmark::Landmark;
use crate::small::SmallWorld;
use crate::world::{Action, Config};

const FORGET: Action = Action::Forget { replica: B, session: 1, user: U };

/// All of them.
pub const WORLDS: &[Named] = &[
    (
        "forget",
        30_000,
        &[Landmark::Forgotten, Landmark::RefusedGeneration, Landmark::CutCommit],
        forget,
    ),
    (
        "forget_while_building",
        20_000,
        &[
            Landmark::AskedContested,
            Landmark::Forgotten,
            Landmark::RefusedGeneration,
            Landmark::CutCommit,
        ],
        forget_while_building,
    ),
    (
        "forget_and_stale_snapshots",
        30_000,
        &[
            Landmark::Forgotten,
            Landmark::RefusedUserEpoch,
            Landmark::RefusedStaleSnapshot,
            Landmark::RefusedGeneration,
            Landmark::CutCommit,
        ],
        forget_and_stale_snapshots,
    ),
    (
        "forget_by_statements",
        10_000,
        &[
            Landmark::AskedContested,
            Landmark::Forgotten,
            Landmark::RefusedUserEpoch,
            Landmark::RefusedStaleSnapshot,
            Landmark::RefusedGeneration,
        ],
        forget_by_statements,
    ),
    (
        "forget_delivered_again",
        30_000,
        &[Landmark::AskedContested, Landmark::Forgotten, Landmark::Redelivered],
        forget_delivered_again,
    ),
];

/// Rows 41 and 49 in one commit, and a mark that is stalled meanwhile.
fn forget() -> SmallWorld {
    let before = [marked(B, 0, U, X), cached(A, U)].concat();
    let once = [FORGET, mark(A, 2, U, 2), read(A, 1, U, 3)];
    SmallWorld::new(Config::EMBEDDED, &before, &once).fed(&[A])
}

/// Row 7: a build that began before a forget ends after it.
fn forget_while_building() -> SmallWorld {
    let once = [read(A, 0, U, X), FORGET, read(A, 1, U, X), read(A, 1, U, X)];
    SmallWorld::new(NUMBERLESS, &marked(B, 0, U, X), &once).fed(&[A]).prompt(&[B])
}

/// Row 41: a late snapshot still shows what was forgotten.
fn forget_and_stale_snapshots() -> SmallWorld {
    let config = Config { lag_us: 2_000_000, ..Config::EMBEDDED };
    let once = [FORGET, read(A, 1, U, X), read(A, 1, U, X)];
    SmallWorld::new(config, &marked(B, 0, U, X), &once).fed(&[A]).prompt(&[B])
}

/// Rows 41 and 49: a control row, then the deletes; a peer that was not told still holds the rows.
fn forget_by_statements() -> SmallWorld {
    let config = Config { forget_by_statements: true, ..Config::EMBEDDED };
    let before = [marked(B, 0, U, X), cached(B, U)].concat();
    let forget = Action::Forget { replica: A, session: 1, user: U };
    let once = [forget, Action::BeginTransfer { replica: A, user: U }, read(A, 1, U, X)];
    SmallWorld::new(config, &before, &once).fed(&[A])
}

/// Row 49: what was forgotten is delivered again, after a later mark.
fn forget_delivered_again() -> SmallWorld {
    let config = Config { forget_by_statements: true, ..Config::EMBEDDED };
    let before = [marked(B, 0, U, X), cached(A, U)].concat();
    let back = Action::Rewind { replica: A, partition: 0, rows: 4 };
    let once = [FORGET, mark(B, 1, U, X), back, read(A, 1, U, X)];
    SmallWorld::new(config, &before, &once).fed(&[A]).prompt(&[B]).builds(2)
}
