//! Builds from snapshots that are too early or stale, and of replicas that start late.

use super::{A, B, FAR, NUMBERLESS, Named, U, X};
use super::{acknowledged, cached, deliver, mark, others_events, read, unmark};
use crate::model::{Action, Config, Scenario};

pub fn all() -> Vec<Named> {
    vec![
        ("early_snapshots", 10_000, early_snapshots()),
        ("evicted_while_building", 20_000, evicted_while_building()),
        ("held_back_while_building", 800, held_back_while_building()),
        ("overrun_while_building", 2_000, overrun_while_building()),
        ("stale_snapshots", 40_000, stale_snapshots()),
        ("ring_too_short", 5_000, ring_too_short()),
        ("late_start", 6_000, late_start()),
        ("late_start_after_a_remove", 20_000, late_start_after_a_remove()),
        ("late_start_without_numbers", 7_000, late_start_without_numbers()),
    ]
}

/// Rows 1, 2 and 5: writes and events come while the pages are read.
fn early_snapshots() -> Scenario {
    let once = [mark(A, 1, U, X | FAR), mark(B, 1, U, 2), read(A, 1, U, X | FAR | 2)];
    Scenario::new(Config::EMBEDDED, &[], &once).pages(2).fed(&[A]).prompt(&[B])
}

/// Rows 7 and 8: the entry goes while a build is under way, which holds back more than it may.
fn evicted_while_building() -> Scenario {
    let config = Config { pending_events: 1, ..Config::EMBEDDED };
    let evict = Action::Evict { replica: A, user: U };
    let rebuild = Action::Rebuild { replica: A, user: U };
    let once = [mark(A, 1, U, X), mark(B, 1, U, 2), evict, rebuild, read(A, 1, U, 3)];
    Scenario::new(config, &cached(A, U), &once).fed(&[A]).prompt(&[A, B]).builds(2)
}

/// Row 2 with a ring that has forgotten what came by during the build.
fn held_back_while_building() -> Scenario {
    events_while_building(Config { ring_events: 16, ..Config::EMBEDDED })
}

/// Row 8: more came by than is held back.
fn overrun_while_building() -> Scenario {
    events_while_building(Config { ring_events: 16, pending_events: 1, ..Config::EMBEDDED })
}

/// A build has read everything when three marks and many events of others come by.
fn events_while_building(config: Config) -> Scenario {
    let begun = [read(A, 0, U, X), Action::Drop { read: 0 }, Action::Page { build: 0, stale: 0 }];
    let written = [X, 2, FAR].map(|item| acknowledged(B, 1, U, item)).concat();
    let before = [begun.to_vec(), written, others_events()].concat();
    let one = Action::Deliver { replica: A, partition: 0, rows: 1, complete: true };
    let once = [one, one, deliver(A), read(A, 1, U, X | 2 | FAR), read(A, 1, U, X | 2 | FAR)];
    Scenario::new(config, &before, &once).fed(&[])
}

/// Row 3: an event comes by while nobody is cached, and the build that follows reads late storage.
fn stale_snapshots() -> Scenario {
    let config = Config { lag_us: 2_000_000, ..Config::EMBEDDED };
    let once = [mark(A, 1, U, X), mark(B, 1, U, 2), read(A, 1, U, 3), read(A, 2, U, 3)];
    Scenario::new(config, &[], &once).fed(&[A]).prompt(&[B])
}

/// Row 3 again, with a ring that holds too little to make up for the snapshot's age.
fn ring_too_short() -> Scenario {
    let config = Config { lag_us: 2_000_000, ring_events: 16, ..Config::EMBEDDED };
    let before = [acknowledged(B, 1, U, X), others_events(), vec![deliver(A)]].concat();
    let once = [mark(B, 1, U, 2), read(A, 1, U, 3), read(A, 2, U, 3)];
    Scenario::new(config, &before, &once).fed(&[A]).prompt(&[B])
}

/// Row 57: a replica begins to follow while commits are on their way (rule R7, too).
fn late_start() -> Scenario {
    let config = Config { lag_us: 2_000_000, closed: true, ..Config::EMBEDDED };
    let open = Action::Open { replica: A, partition: 0 };
    let once = [open, mark(B, 1, U, X), read(A, 0, U, X), read(A, 1, U, X), mark(A, 2, U, 2)];
    Scenario::new(config, &[], &once).fed(&[A]).prompt(&[A, B])
}

/// Row 57 for a remove: it is committed before the replica follows, which has marked the item.
fn late_start_after_a_remove() -> Scenario {
    let config = Config { closed: true, ..Config::EMBEDDED };
    let open = Action::Open { replica: A, partition: 0 };
    let once = [open, mark(A, 1, U, X), unmark(B, 2, U, X), read(A, 2, U, X)];
    Scenario::new(config, &[], &once).fed(&[A]).prompt(&[B])
}

/// Row 57 without positions: S decides.
fn late_start_without_numbers() -> Scenario {
    let config = Config { lag_us: 2_000_000, closed: true, ..NUMBERLESS };
    let open = Action::Open { replica: A, partition: 0 };
    let once =
        [open, mark(B, 1, U, X), read(A, 1, U, X), Action::Wait(2_100_000), read(A, 2, U, X)];
    Scenario::new(config, &[], &once).fed(&[A]).prompt(&[B])
}
