//! Events that are late, told again, cut within a commit of several users, or lost.

use super::{
    A, B, Named, ON_DEMAND, PRODUCE, U, V, W, X, acknowledged, cached, deliver, mark, marked,
    others_events, read, unmark,
};
use crate::landmark::Landmark;
use crate::small::SmallWorld;
use crate::world::{Action, Config};

const POISON: Action = Action::Poison { replica: A, partition: 0 };
const GAP: Action = Action::Gap { replica: A, partition: 0, rows: 1 };

/// All of them.
pub const WORLDS: &[Named] = &[
    (
        "two_users_in_one_commit",
        40_000,
        &[Landmark::AskedForToken, Landmark::CutCommit],
        two_users_in_one_commit,
    ),
    (
        "one_commit_and_a_build",
        5_000,
        &[Landmark::AskedForToken, Landmark::CutCommit],
        one_commit_and_a_build,
    ),
    ("two_partitions", 70_000, &[Landmark::AskedForToken], two_partitions),
    (
        "torn_down_in_mid_commit",
        6_000,
        &[Landmark::AskedForToken, Landmark::CutCommit, Landmark::Redelivered],
        torn_down_in_mid_commit,
    ),
    (
        "removes_delivered_again",
        20_000,
        &[Landmark::AskedForToken, Landmark::Redelivered, Landmark::AskedContested],
        removes_delivered_again,
    ),
    (
        "old_adds_delivered_again",
        1_000,
        &[Landmark::Redelivered, Landmark::AskedContested],
        old_adds_delivered_again,
    ),
    (
        "said_again",
        20_000,
        &[
            Landmark::AskedForToken,
            Landmark::AskedDirty,
            Landmark::Redelivered,
            Landmark::Doubted,
            Landmark::AskedContested,
        ],
        said_again,
    ),
    (
        "topic_of_a_numbered_store",
        12_000,
        &[Landmark::AskedForToken, Landmark::AskedContested],
        topic_of_a_numbered_store,
    ),
    ("gap", 20_000, &[Landmark::AskedForToken, Landmark::AskedDirty, Landmark::Doubted], gap),
    (
        "gap_while_building",
        50_000,
        &[Landmark::AskedForToken, Landmark::AskedDirty, Landmark::Doubted, Landmark::RefusedEpoch],
        gap_while_building,
    ),
    (
        "user_gap",
        10_000,
        &[Landmark::AskedForToken, Landmark::AskedDirty, Landmark::Doubted],
        user_gap,
    ),
    (
        "user_gap_and_stale_snapshots",
        2_000,
        &[Landmark::AskedForToken, Landmark::AskedDirty, Landmark::Doubted],
        user_gap_and_stale_snapshots,
    ),
    (
        "lost_remove",
        30_000,
        &[
            Landmark::AskedForToken,
            Landmark::AskedDirty,
            Landmark::Doubted,
            Landmark::AskedContested,
            Landmark::RefusedEpoch,
        ],
        || lost_remove(GAP),
    ),
    (
        "unreadable_remove",
        20_000,
        &[
            Landmark::AskedForToken,
            Landmark::AskedDirty,
            Landmark::Doubted,
            Landmark::AskedContested,
        ],
        || lost_remove(POISON),
    ),
];

/// Row 46: one commit of two users of a partition, which comes by in pieces.
fn two_users_in_one_commit() -> SmallWorld {
    let before = [cached(A, U), cached(A, V)].concat();
    let once = [mark(B, 1, U, X), mark(B, 2, V, X), read(A, 2, V, X), read(A, 1, U, X)];
    SmallWorld::new(Config::EMBEDDED, &before, &once).cut().grouped().fed(&[A])
}

/// Row 46 again: between the pieces a build of the second user begins, and reads late storage.
fn one_commit_and_a_build() -> SmallWorld {
    let config = Config { lag_us: 2_000_000, ..Config::EMBEDDED };
    let before = [
        mark(B, 1, U, X),
        mark(B, 2, V, X),
        Action::Commit { op: 0, with: 3 },
        Action::Committed { op: 0 },
        Action::Committed { op: 0 },
    ];
    let once = [read(A, 2, V, X), read(A, 2, V, X)];
    SmallWorld::new(config, &before, &once).cut().fed(&[A]).builds(2)
}

/// Row 28 with users of two partitions in one commit: each partition comes at its own pace.
fn two_partitions() -> SmallWorld {
    let begun = vec![mark(B, 1, U, X), mark(B, 1, W, X)];
    let before = [cached(A, U), cached(A, W), begun].concat();
    let once = [read(A, 1, W, X), read(A, 1, U, X)];
    SmallWorld::new(Config::EMBEDDED, &before, &once).partitions(2).grouped().fed(&[A])
}

/// Row 46: half of a commit of both replicas has come by when the readers of one are torn down.
fn torn_down_in_mid_commit() -> SmallWorld {
    let written = [mark(B, 1, U, X), mark(A, 2, V, X), Action::Commit { op: 0, with: 3 }];
    let acknowledged = [Action::Committed { op: 0 }; 2];
    let cached = [cached(A, U), cached(A, V)].concat();
    let before = [cached, written.to_vec(), acknowledged.to_vec()].concat();
    let again = Action::TearDown { replica: A, rows: 2 };
    let once = [again, read(A, 1, U, X), read(A, 2, V, X)];
    SmallWorld::new(Config::EMBEDDED, &before, &once).cut().fed(&[A])
}

/// Row 47: the feed goes back over a remove.
fn removes_delivered_again() -> SmallWorld {
    let before = [marked(B, 0, U, X), cached(A, U)].concat();
    let back = Action::Rewind { replica: A, partition: 0, rows: 2 };
    let once = [unmark(B, 1, U, X), mark(B, 1, U, X), back, read(A, 1, U, X)];
    SmallWorld::new(Config::EMBEDDED, &before, &once).fed(&[A]).prompt(&[B])
}

/// Row 47 with a ring that has forgotten the remove: an old add comes by while a build is under way.
fn old_adds_delivered_again() -> SmallWorld {
    let config = Config { ring_events: 16, positions: false, ..Config::EMBEDDED };
    let unmarked =
        [unmark(B, 1, U, X), Action::Commit { op: 0, with: 0 }, Action::Committed { op: 0 }];
    let history = [acknowledged(B, 0, U, X), unmarked.to_vec(), others_events()].concat();
    let before = [history, vec![deliver(A)]].concat();
    let back = Action::Rewind { replica: A, partition: 0, rows: 18 };
    let one = Action::Feed { replica: A, partition: 0, rows: 1, complete: true };
    let once = [back, one, deliver(A), read(A, 1, U, X), read(A, 1, U, X), read(A, 1, U, X)];
    SmallWorld::new(config, &before, &once).fed(&[])
}

/// Rows 16 and 47: the producer says again what it has said, at offsets of its own.
fn said_again() -> SmallWorld {
    let marked = acknowledged(B, 0, U, X);
    let before = [marked, vec![PRODUCE, deliver(A)], cached(A, U)].concat();
    let again = Action::ProduceAgain { partition: 0, rows: 3 };
    let once = [unmark(B, 1, U, X), again, read(A, 1, U, X), read(A, 1, U, X)];
    SmallWorld::new(ON_DEMAND, &before, &once).fed(&[A]).prompt(&[B])
}

/// A store numbers commits and snapshots, and the topic numbers its events otherwise: what cannot be
/// compared must not be put in order (row 53).
fn topic_of_a_numbered_store() -> SmallWorld {
    let config = Config { positions: true, lag_us: 2_000_000, ..ON_DEMAND };
    let before = [vec![Action::Wait(2_100_000)], acknowledged(B, 1, U, X), vec![PRODUCE]].concat();
    let once = [read(A, 0, U, X), unmark(A, 1, U, X), read(A, 1, U, X)];
    SmallWorld::new(config, &before, &once).fed(&[A]).prompt(&[A]).builds(1)
}

/// Rule R8: rows are lost under an entry.
fn gap() -> SmallWorld {
    let once = [GAP, mark(B, 1, U, X), mark(A, 1, U, 2), read(A, 1, U, 3)];
    SmallWorld::new(Config::EMBEDDED, &cached(A, U), &once).fed(&[A]).prompt(&[B])
}

/// Row 52: rows are lost while a build reads late storage.
fn gap_while_building() -> SmallWorld {
    let config = Config { lag_us: 2_000_000, ..Config::EMBEDDED };
    let once = [GAP, mark(B, 1, U, X), read(A, 1, U, X), Action::Wait(2_100_000), read(A, 2, U, X)];
    SmallWorld::new(config, &[], &once).fed(&[A]).prompt(&[B]).builds(2)
}

/// Row 21: one row cannot be read; only its user is in doubt.
fn user_gap() -> SmallWorld {
    let before = [cached(A, U), cached(A, V)].concat();
    let once = [POISON, mark(B, 1, U, X), mark(B, 2, V, X), read(A, 1, U, X), read(A, 2, V, X)];
    SmallWorld::new(Config::EMBEDDED, &before, &once).fed(&[A]).prompt(&[B])
}

/// Row 21 with late snapshots: what is read after the loss may be of before it.
fn user_gap_and_stale_snapshots() -> SmallWorld {
    let config = Config { lag_us: 2_000_000, ..Config::EMBEDDED };
    let once = [POISON, mark(B, 1, U, X), read(A, 1, U, X), read(A, 1, U, X)];
    SmallWorld::new(config, &cached(A, U), &once).fed(&[A]).prompt(&[B])
}

/// Rows 21 and 59: the remove of an own mark is lost.
fn lost_remove(lost: Action) -> SmallWorld {
    let once = [lost, mark(A, 1, U, X), unmark(B, 2, U, X), read(A, 2, U, X)];
    SmallWorld::new(Config::EMBEDDED, &cached(A, U), &once).fed(&[A]).prompt(&[B]).builds(2)
}
