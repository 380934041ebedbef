//! Two replicas and two sessions: writes, removes, evictions, and builds from stale snapshots.

use super::{
    A, B, FAR, NUMBERLESS, Named, U, X, acknowledged, cached, deliver, mark, marked, others_events,
    read, unmark,
};
use crate::landmark::Landmark;
use crate::small::SmallWorld;
use crate::world::{Action, Config};

const LOSE: Action = Action::Uncertain { op: 0 };

/// All of them.
pub const WORLDS: &[Named] = &[
    ("tokens_of_two_writers", 40_000, &[Landmark::AnsweredAlone], tokens_of_two_writers),
    (
        "point_checks_overtaken",
        40_000,
        &[Landmark::AnsweredAlone, Landmark::Flagged],
        point_checks_overtaken,
    ),
    ("early_snapshots", 10_000, &[Landmark::CutCommit], early_snapshots),
    (
        "evicted_while_building",
        20_000,
        &[Landmark::AnsweredAlone, Landmark::Evicted, Landmark::RefusedPendingOverflow],
        evicted_while_building,
    ),
    ("held_back_while_building", 800, &[Landmark::AnsweredAlone], held_back_while_building),
    (
        "overrun_while_building",
        2_000,
        &[Landmark::AnsweredAlone, Landmark::RefusedPendingOverflow],
        overrun_while_building,
    ),
    ("stale_snapshots", 40_000, &[Landmark::AnsweredAlone, Landmark::Flagged], stale_snapshots),
    (
        "ring_too_short",
        5_000,
        &[Landmark::AnsweredAlone, Landmark::RefusedStaleSnapshot],
        ring_too_short,
    ),
    ("unmark_and_mark_again", 10_000, &[Landmark::AnsweredAlone], unmark_and_mark_again),
    ("stalled_writer", 20_000, &[Landmark::AnsweredAlone, Landmark::Flagged], stalled_writer),
    (
        "removed_before_it_comes",
        20_000,
        &[Landmark::AnsweredAlone, Landmark::Flagged],
        removed_before_it_comes,
    ),
    (
        "own_mark_and_unmark",
        6_000,
        &[Landmark::AnsweredAlone, Landmark::Flagged],
        own_mark_and_unmark,
    ),
    ("build_ahead_of_the_feed", 10_000, &[Landmark::AnsweredAlone], build_ahead_of_the_feed),
    (
        "unknown_outcome",
        3_000,
        &[Landmark::AnsweredAlone, Landmark::Flagged, Landmark::Landed],
        unknown_outcome,
    ),
    (
        "unknown_outcome_of_an_unmark",
        10_000,
        &[Landmark::AnsweredAlone, Landmark::Landed],
        unknown_outcome_of_an_unmark,
    ),
    (
        "evicted_between_removes",
        9_000,
        &[Landmark::AnsweredAlone, Landmark::Evicted],
        evicted_between_removes,
    ),
];

/// Rows 12, 27, 28 and 37: a token of writes at both replicas, read at both while the feed is late.
fn tokens_of_two_writers() -> SmallWorld {
    let before = [cached(A, U), cached(B, U)].concat();
    let once = [mark(A, 1, U, X), mark(B, 1, U, 2), read(A, 1, U, 3), read(B, 1, U, 3)];
    SmallWorld::new(Config::EMBEDDED, &before, &once).prompt(&[B])
}

/// Row 50: a point check is older than what came by before its answer.
fn point_checks_overtaken() -> SmallWorld {
    let once = [mark(A, 1, U, X), mark(B, 2, U, 2), read(A, 1, U, 3), read(A, 2, U, 3)];
    SmallWorld::new(Config::EMBEDDED, &[], &once).slow_reads().fed(&[A]).prompt(&[A, B])
}

/// Rows 1, 2 and 5: writes and events come while the pages are read.
fn early_snapshots() -> SmallWorld {
    let once = [mark(A, 1, U, X | FAR), mark(B, 1, U, 2), read(A, 1, U, X | FAR | 2)];
    SmallWorld::new(Config::EMBEDDED, &[], &once).pages(2).fed(&[A]).prompt(&[B])
}

/// Rows 7 and 8: the entry goes while a build is under way, which holds back more than it may.
fn evicted_while_building() -> SmallWorld {
    let config = Config { pending_events: 1, ..Config::EMBEDDED };
    let evict = Action::Evict { replica: A, user: U };
    let rebuild = Action::Rebuild { replica: A, user: U };
    let once = [mark(A, 1, U, X), mark(B, 1, U, 2), evict, rebuild, read(A, 1, U, 3)];
    SmallWorld::new(config, &cached(A, U), &once).fed(&[A]).prompt(&[A, B]).builds(2)
}

/// Row 2 with a ring that has forgotten what came by during the build.
fn held_back_while_building() -> SmallWorld {
    events_while_building(Config { ring_events: 16, ..Config::EMBEDDED })
}

/// Row 8: more came by than is held back.
fn overrun_while_building() -> SmallWorld {
    events_while_building(Config { ring_events: 16, pending_events: 1, ..Config::EMBEDDED })
}

/// A build has read everything when three marks and many events of others come by.
fn events_while_building(config: Config) -> SmallWorld {
    let begun = [read(A, 0, U, X), Action::Drop { read: 0 }, Action::Page { build: 0, stale: 0 }];
    let written = [X, 2, FAR].map(|item| acknowledged(B, 1, U, item)).concat();
    let before = [begun.to_vec(), written, others_events()].concat();
    let one = Action::Feed { replica: A, partition: 0, rows: 1, complete: true };
    let once = [one, one, deliver(A), read(A, 1, U, X | 2 | FAR), read(A, 1, U, X | 2 | FAR)];
    SmallWorld::new(config, &before, &once).fed(&[])
}

/// Row 3: an event comes by while nobody is cached, and the build that follows reads late storage.
fn stale_snapshots() -> SmallWorld {
    let config = Config { lag_us: 2_000_000, ..Config::EMBEDDED };
    let once = [mark(A, 1, U, X), mark(B, 1, U, 2), read(A, 1, U, 3), read(A, 2, U, 3)];
    SmallWorld::new(config, &[], &once).fed(&[A]).prompt(&[B])
}

/// Row 3 again, with a ring that holds too little to make up for the snapshot's age.
fn ring_too_short() -> SmallWorld {
    let config = Config { lag_us: 2_000_000, ring_events: 16, ..Config::EMBEDDED };
    let before = [acknowledged(B, 1, U, X), others_events(), vec![deliver(A)]].concat();
    let once = [mark(B, 1, U, 2), read(A, 1, U, 3), read(A, 2, U, 3)];
    SmallWorld::new(config, &before, &once).fed(&[A]).prompt(&[B])
}

/// Rows 40 and 48: marks and unmarks of one item at both replicas.
fn unmark_and_mark_again() -> SmallWorld {
    let before = [marked(A, 0, U, X), cached(A, U)].concat();
    let once = [unmark(B, 1, U, X), mark(A, 2, U, X), read(A, 1, U, X), read(A, 2, U, X)];
    SmallWorld::new(Config::EMBEDDED, &before, &once).fed(&[A])
}

/// Row 59: add and remove have come by when the stalled writer inserts its own id.
fn stalled_writer() -> SmallWorld {
    let once =
        [mark(A, 1, U, X), unmark(B, 1, U, X), read(A, 1, U, X), Action::Heartbeat { replica: A }];
    SmallWorld::new(NUMBERLESS, &cached(A, U), &once).fed(&[A])
}

/// Row 47 at the writer of the remove: the mark that it removed comes by after the rebuild.
fn removed_before_it_comes() -> SmallWorld {
    let config = Config { positions: false, ..Config::EMBEDDED };
    let once = [mark(B, 1, U, X), unmark(A, 2, U, X), read(A, 2, U, X), read(A, 1, U, X)];
    SmallWorld::new(config, &cached(A, U), &once).fed(&[A]).prompt(&[B])
}

/// Row 48 without positions: the own journal holds the mark and the unmark while a rebuild runs.
fn own_mark_and_unmark() -> SmallWorld {
    let rebuild = Action::Rebuild { replica: A, user: U };
    let once = [mark(A, 1, U, X), unmark(A, 1, U, X), rebuild, read(A, 1, U, X)];
    SmallWorld::new(NUMBERLESS, &cached(A, U), &once).fed(&[A]).prompt(&[A])
}

/// Row 47: a build has seen the remove, and the mark before it comes by later.
fn build_ahead_of_the_feed() -> SmallWorld {
    let once = [mark(B, 1, U, X), unmark(B, 1, U, X), read(A, 1, U, X), read(A, 1, U, X)];
    SmallWorld::new(Config::EMBEDDED, &[], &once).fed(&[A]).prompt(&[B])
}

/// Row 11: nobody knows whether a mark was committed.
fn unknown_outcome() -> SmallWorld {
    let once = [mark(A, 1, U, X), LOSE, read(A, 1, U, X), read(B, 1, U, X)];
    SmallWorld::new(Config::EMBEDDED, &cached(A, U), &once)
}

/// Row 11 for an unmark; the item is marked again elsewhere.
fn unknown_outcome_of_an_unmark() -> SmallWorld {
    let before = [marked(A, 0, U, X), cached(A, U)].concat();
    let once = [unmark(A, 1, U, X), LOSE, mark(B, 2, U, X), read(A, 2, U, X)];
    SmallWorld::new(Config::EMBEDDED, &before, &once).fed(&[A]).prompt(&[B])
}

/// Rows 3, 8, 40 and 47: two sessions at two replicas mark and unmark an item while its entry is evicted and
/// built from late snapshots.
fn evicted_between_removes() -> SmallWorld {
    let config = Config { lag_us: 2_000_000, ..Config::EMBEDDED };
    let before = [marked(B, 0, U, X), cached(A, U)].concat();
    let evict = Action::Evict { replica: A, user: U };
    let once = [unmark(B, 1, U, X), evict, mark(A, 2, U, 2), read(A, 1, U, 3)];
    SmallWorld::new(config, &before, &once).fed(&[A]).prompt(&[A, B]).builds(2)
}
