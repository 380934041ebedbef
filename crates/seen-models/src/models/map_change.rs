//! The map of slots changes: who follows what, from when on, and who is asked meanwhile.

use super::{A, B, NUMBERLESS, Named, U, X, cached, mark, marked, read, unmark};
use crate::landmark::Landmark;
use crate::small::SmallWorld;
use crate::world::{Action, Config};

const OPEN: Action = Action::Open { replica: A, partition: 0 };

/// The map gives a replica the one partition, or takes it away.
const fn own(replica: u8, owned: bool) -> Action {
    Action::OwnSlots { replica, owned: owned as u8 }
}

/// All of them.
pub const WORLDS: &[Named] = &[
    (
        "late_start",
        6_000,
        &[
            Landmark::AnsweredAlone,
            Landmark::AskedNotFollowed,
            Landmark::Opened,
            Landmark::RefusedStaleSnapshot,
        ],
        late_start,
    ),
    (
        "late_start_after_a_remove",
        20_000,
        &[Landmark::AskedNotFollowed, Landmark::Opened],
        late_start_after_a_remove,
    ),
    (
        "late_start_without_numbers",
        7_000,
        &[Landmark::AskedNotFollowed, Landmark::Opened, Landmark::RefusedStaleSnapshot],
        late_start_without_numbers,
    ),
    (
        "gets_a_user",
        34_000,
        &[
            Landmark::AnsweredAlone,
            Landmark::AskedNotFollowed,
            Landmark::Opened,
            Landmark::Unfollowed,
        ],
        gets_a_user,
    ),
    (
        "loses_a_user_and_gets_it_back",
        1_600,
        &[
            Landmark::AnsweredAlone,
            Landmark::AskedNotFollowed,
            Landmark::Opened,
            Landmark::Unfollowed,
        ],
        loses_a_user_and_gets_it_back,
    ),
    (
        "loses_a_removed_item",
        2_000,
        &[
            Landmark::AnsweredAlone,
            Landmark::AskedNotFollowed,
            Landmark::Opened,
            Landmark::Unfollowed,
            Landmark::RefusedNotFollowed,
        ],
        loses_a_removed_item,
    ),
    (
        "loses_a_user_without_numbers",
        52_000,
        &[
            Landmark::AnsweredAlone,
            Landmark::AskedNotFollowed,
            Landmark::Opened,
            Landmark::Unfollowed,
            Landmark::RefusedStaleSnapshot,
        ],
        loses_a_user_without_numbers,
    ),
    (
        "takes_a_user_over",
        120_000,
        &[
            Landmark::AnsweredAlone,
            Landmark::AskedNotFollowed,
            Landmark::Opened,
            Landmark::Unfollowed,
            Landmark::Transferred,
            Landmark::RefusedNotFollowed,
            Landmark::RefusedStaleSnapshot,
        ],
        takes_a_user_over,
    ),
];

/// Row 57: a replica begins to follow while commits are on their way (rule R7, too).
fn late_start() -> SmallWorld {
    let config = Config { lag_us: 2_000_000, closed: true, ..Config::EMBEDDED };
    let once = [OPEN, mark(B, 1, U, X), read(A, 0, U, X), read(A, 1, U, X), mark(A, 2, U, 2)];
    SmallWorld::new(config, &[], &once).fed(&[A]).prompt(&[A, B])
}

/// Row 57 for a remove: it is committed before the replica follows, which has marked the item.
fn late_start_after_a_remove() -> SmallWorld {
    let config = Config { closed: true, ..Config::EMBEDDED };
    let once = [OPEN, mark(A, 1, U, X), unmark(B, 2, U, X), read(A, 2, U, X)];
    SmallWorld::new(config, &[], &once).fed(&[A]).prompt(&[B])
}

/// Row 57 without positions: S decides.
fn late_start_without_numbers() -> SmallWorld {
    let config = Config { lag_us: 2_000_000, closed: true, ..NUMBERLESS };
    let once =
        [OPEN, mark(B, 1, U, X), read(A, 1, U, X), Action::Wait(2_100_000), read(A, 2, U, X)];
    SmallWorld::new(config, &[], &once).fed(&[A]).prompt(&[B])
}

/// Row 35: the map gives A a partition that is B's. One proxy writes by the old map, another reads by the new.
fn gets_a_user() -> SmallWorld {
    let before = [vec![own(A, false)], cached(B, U)].concat();
    let once = [own(A, true), mark(B, 1, U, X), read(A, 1, U, X), read(A, 1, U, X), own(B, false)];
    SmallWorld::new(Config::EMBEDDED, &before, &once).mapped().prompt(&[A, B])
}

/// Rows 34 and 35: A loses a partition and gets it back, and misses what comes by in between.
fn loses_a_user_and_gets_it_back() -> SmallWorld {
    let once = [own(A, false), own(A, true), mark(B, 1, U, X), read(A, 1, U, X), read(A, 0, U, X)];
    SmallWorld::new(Config::EMBEDDED, &cached(A, U), &once).fed(&[A]).mapped().prompt(&[B])
}

/// Rows 35 and 40: the remove of an own mark comes by while A does not follow.
fn loses_a_removed_item() -> SmallWorld {
    let before = [marked(A, 0, U, X), cached(A, U)].concat();
    let once = [own(A, false), own(A, true), unmark(B, 1, U, X), read(A, 1, U, X)];
    SmallWorld::new(Config::EMBEDDED, &before, &once).fed(&[A]).mapped().prompt(&[B])
}

/// Rows 35 and 57 without positions: time decides what a build shows of what A did not follow.
fn loses_a_user_without_numbers() -> SmallWorld {
    let config = Config { lag_us: 2_000_000, ..NUMBERLESS };
    let before = [vec![Action::Wait(2_100_000)], cached(A, U)].concat();
    let wait = Action::Wait(2_100_000);
    let once =
        [own(A, false), own(A, true), mark(B, 1, U, X), wait, read(A, 1, U, X), read(A, 1, U, X)];
    SmallWorld::new(config, &before, &once).fed(&[A]).mapped().prompt(&[B]).builds(2)
}

/// Rows 31 and 35: the new owner takes the entry over while the old one lets go of it.
fn takes_a_user_over() -> SmallWorld {
    let before = [vec![own(A, false)], cached(B, U)].concat();
    let take = Action::BeginTransfer { replica: A, user: U };
    let once = [own(A, true), take, own(B, false), mark(B, 1, U, X), read(A, 1, U, X)];
    SmallWorld::new(Config::EMBEDDED, &before, &once).mapped().prompt(&[B])
}
