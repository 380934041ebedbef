//! Transfers from replica to replica, and crashes.

use super::{A, B, Named, U, X, acknowledged, cached, mark, marked, read, unmark};
use crate::landmark::Landmark;
use crate::small::SmallWorld;
use crate::world::{Action, Config};

const REQUEST: Action = Action::BeginTransfer { replica: A, user: U };
const GAP: Action = Action::Gap { replica: B, partition: 0, rows: 1 };
const POISON: Action = Action::Poison { replica: B, partition: 0 };
const OPEN: Action = Action::Open { replica: A, partition: 0 };

/// All of them.
pub const WORLDS: &[Named] = &[
    ("donor_behind", 50_000, &[Landmark::Transferred], donor_behind),
    (
        "donor_in_mid_commit",
        9_000,
        &[Landmark::Transferred, Landmark::CutCommit],
        donor_in_mid_commit,
    ),
    ("donor_after_a_gap", 800, &[Landmark::Transferred, Landmark::RefusedNotClean], || {
        donor_in_doubt(GAP)
    }),
    (
        "donor_after_an_unreadable_row",
        1_000,
        &[Landmark::Transferred, Landmark::RefusedNotClean],
        || donor_in_doubt(POISON),
    ),
    (
        "donor_of_removed",
        5_000,
        &[Landmark::Transferred, Landmark::RefusedNotClean],
        donor_of_removed,
    ),
    (
        "donor_fed_again",
        2_000,
        &[Landmark::Transferred, Landmark::RefusedNotClean, Landmark::Redelivered],
        donor_fed_again,
    ),
    ("crash", 10_000, &[Landmark::Crashed], crash),
    (
        "donor_dies",
        11_000,
        &[
            Landmark::Transferred,
            Landmark::RefusedNotClean,
            Landmark::RefusedNotFollowed,
            Landmark::Crashed,
        ],
        donor_dies,
    ),
    (
        "receiver_dies",
        5_300,
        &[Landmark::Transferred, Landmark::RefusedStaleSnapshot, Landmark::Crashed],
        receiver_dies,
    ),
];

/// Rows 29, 30 and 31: what came by here is not yet there.
fn donor_behind() -> SmallWorld {
    let once = [REQUEST, mark(A, 1, U, X), mark(B, 1, U, 2), read(A, 1, U, 3)];
    SmallWorld::new(Config::EMBEDDED, &cached(B, U), &once).prompt(&[A, B])
}

/// Row 30: the donor has applied half of a commit.
fn donor_in_mid_commit() -> SmallWorld {
    let before = [cached(B, U), acknowledged(A, 1, U, X | 2)].concat();
    let once = [REQUEST, read(A, 1, U, X | 2), read(A, 1, U, X | 2)];
    SmallWorld::new(Config::EMBEDDED, &before, &once).cut()
}

/// Rules R3 and R8: the donor has lost something.
fn donor_in_doubt(lost: Action) -> SmallWorld {
    let before = [cached(B, U), acknowledged(A, 1, U, X)].concat();
    let once = [lost, REQUEST, read(A, 1, U, X), read(A, 1, U, X)];
    SmallWorld::new(Config::EMBEDDED, &before, &once)
}

/// Row 60: the donor holds an id that was unmarked.
fn donor_of_removed() -> SmallWorld {
    let before = [marked(B, 0, U, X), cached(B, U)].concat();
    let once = [REQUEST, unmark(A, 1, U, X), read(A, 1, U, X)];
    SmallWorld::new(Config::EMBEDDED, &before, &once)
}

/// Rows 47 and 60: the donor is being fed a range again.
fn donor_fed_again() -> SmallWorld {
    let before = [marked(B, 0, U, X), cached(B, U)].concat();
    let back = Action::Rewind { replica: B, partition: 0, rows: 2 };
    let once = [REQUEST, unmark(B, 1, U, X), back];
    SmallWorld::new(Config::EMBEDDED, &before, &once).prompt(&[A, B])
}

/// Rows 10, 17 and 44: a replica dies at any moment, and begins anew.
fn crash() -> SmallWorld {
    let once =
        [mark(A, 1, U, X), Action::Crash { replica: A }, OPEN, read(A, 1, U, X), read(B, 1, U, X)];
    SmallWorld::new(Config::EMBEDDED, &cached(A, U), &once)
}

/// Rows 29 and 44: the donor dies, before or after it gave its entry, and begins anew.
fn donor_dies() -> SmallWorld {
    let dies = [Action::Crash { replica: B }, Action::Open { replica: B, partition: 0 }];
    let once = [REQUEST, dies[0], dies[1], mark(B, 1, U, X), read(A, 1, U, X)];
    SmallWorld::new(Config::EMBEDDED, &cached(B, U), &once)
}

/// Rows 17, 29 and 44: the receiver has acknowledged a mark when it dies, begins anew, and takes the entry over again.
fn receiver_dies() -> SmallWorld {
    let dies = [Action::Crash { replica: A }, OPEN];
    let once = [REQUEST, dies[0], dies[1], REQUEST, mark(A, 1, U, X), read(A, 1, U, X)];
    SmallWorld::new(Config::EMBEDDED, &cached(B, U), &once).prompt(&[A])
}
