//! Storage goes on elsewhere: another server becomes the primary, or a backup is restored.

use super::{A, B, NUMBERLESS, Named, U, X, cached, mark, marked, read, unmark};
use crate::landmark::Landmark;
use crate::small::SmallWorld;
use crate::world::{Action, Config};

const fn promote(lost: u8, gap: bool) -> Action {
    Action::Promote { lost, gap }
}

/// All of them.
pub const WORLDS: &[Named] = &[
    (
        "restored_backup",
        20_000,
        &[Landmark::LostCommits, Landmark::Doubted, Landmark::Flagged],
        restored_backup,
    ),
    (
        "restored_silently",
        40_000,
        &[
            Landmark::LostCommits,
            Landmark::Doubted,
            Landmark::RefusedEpoch,
            Landmark::RefusedStaleSnapshot,
            Landmark::Flagged,
        ],
        restored_silently,
    ),
    ("promoted", 120_000, &[Landmark::LostCommits, Landmark::Doubted, Landmark::Flagged], promoted),
    (
        "promoted_in_mid_unmark",
        2_400,
        &[
            Landmark::LostCommits,
            Landmark::Doubted,
            Landmark::RefusedEpoch,
            Landmark::RefusedStaleSnapshot,
            Landmark::Flagged,
        ],
        promoted_in_mid_unmark,
    ),
    (
        "promoted_while_building",
        51_000,
        &[Landmark::Doubted, Landmark::RefusedEpoch, Landmark::RefusedStaleSnapshot],
        promoted_while_building,
    ),
    (
        "promoted_without_numbers",
        1_000,
        &[Landmark::LostCommits, Landmark::Doubted, Landmark::Flagged],
        promoted_without_numbers,
    ),
];

/// Row 53: storage goes back, and goes on under the same numbers.
fn restored_backup() -> SmallWorld {
    let restore = Action::Restore { lost: 1, gap: true };
    let once = [mark(A, 1, U, X), restore, mark(B, 2, U, 2), read(A, 2, U, 3)];
    SmallWorld::new(Config::EMBEDDED, &cached(A, U), &once).fed(&[A])
}

/// Row 53: the feed does not say so, and only the numbers' timeline tells.
fn restored_silently() -> SmallWorld {
    let restore = Action::Restore { lost: 1, gap: false };
    let once = [mark(B, 1, U, X), restore, mark(B, 2, U, 2), read(A, 0, U, 3), read(A, 2, U, 3)];
    SmallWorld::new(Config::EMBEDDED, &[], &once).fed(&[A]).prompt(&[B])
}

/// Rows 43 and 51: another server becomes the primary while a mark is on its way; its commit may be gone.
fn promoted() -> SmallWorld {
    let once =
        [mark(A, 1, U, X), promote(1, true), read(A, 1, U, X), mark(B, 2, U, 2), read(A, 2, U, 3)];
    SmallWorld::new(Config::EMBEDDED, &cached(A, U), &once).fed(&[A]).prompt(&[B])
}

/// Rows 43 and 53 for an unmark: its event may have come by from the old primary, and be gone with it.
fn promoted_in_mid_unmark() -> SmallWorld {
    let before = [marked(B, 0, U, X), cached(A, U)].concat();
    let once = [unmark(B, 1, U, X), promote(1, false), read(A, 1, U, X), read(A, 1, U, X)];
    SmallWorld::new(Config::EMBEDDED, &before, &once).fed(&[A])
}

/// Row 53: a build has read the old primary, late, and is installed when events of the new one come by.
fn promoted_while_building() -> SmallWorld {
    let config = Config { lag_us: 2_000_000, ..Config::EMBEDDED };
    let once = [mark(B, 1, U, X), promote(0, false), mark(B, 1, U, 2), read(A, 1, U, 3)];
    SmallWorld::new(config, &[], &once).fed(&[A]).prompt(&[B]).builds(2)
}

/// Rows 43 and 58 without numbers: fences of the old primary may be gone, and prove nothing then.
fn promoted_without_numbers() -> SmallWorld {
    let once = [mark(B, 1, U, X), promote(1, true), read(A, 1, U, X), read(A, 1, U, X)];
    SmallWorld::new(NUMBERLESS, &cached(A, U), &once).fed(&[A])
}
