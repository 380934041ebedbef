//! Unmarks, marks again, and forgets.

use super::{A, B, NUMBERLESS, Named, U, X, acknowledged, cached, deliver};
use super::{mark, marked, others_events, read, unmark};
use crate::model::{Action, Config, Scenario};

const FORGET: Action = Action::Forget { replica: B, session: 1, user: U };

pub fn all() -> Vec<Named> {
    vec![
        ("unmark_and_mark_again", 10_000, unmark_and_mark_again()),
        ("removes_delivered_again", 20_000, removes_delivered_again()),
        ("old_adds_delivered_again", 1_000, old_adds_delivered_again()),
        ("stalled_writer", 20_000, stalled_writer()),
        ("removed_before_it_comes", 20_000, removed_before_it_comes()),
        ("own_mark_and_unmark", 6_000, own_mark_and_unmark()),
        ("build_ahead_of_the_feed", 10_000, build_ahead_of_the_feed()),
        ("forget", 30_000, forget()),
        ("forget_while_building", 20_000, forget_while_building()),
        ("forget_and_stale_snapshots", 30_000, forget_and_stale_snapshots()),
        ("forget_by_statements", 10_000, forget_by_statements()),
        ("forget_delivered_again", 30_000, forget_delivered_again()),
    ]
}

/// Rows 40 and 48: marks and unmarks of one item at both replicas.
fn unmark_and_mark_again() -> Scenario {
    let before = [marked(A, 0, U, X), cached(A, U)].concat();
    let once = [unmark(B, 1, U, X), mark(A, 2, U, X), read(A, 1, U, X), read(A, 2, U, X)];
    Scenario::new(Config::EMBEDDED, &before, &once).fed(&[A])
}

/// Row 47: the feed goes back over a remove.
fn removes_delivered_again() -> Scenario {
    let before = [marked(B, 0, U, X), cached(A, U)].concat();
    let back = Action::Rewind { replica: A, partition: 0, rows: 2 };
    let once = [unmark(B, 1, U, X), mark(B, 1, U, X), back, read(A, 1, U, X)];
    Scenario::new(Config::EMBEDDED, &before, &once).fed(&[A]).prompt(&[B])
}

/// Row 47 with a ring that has forgotten the remove: an old add comes by while a build is under way.
fn old_adds_delivered_again() -> Scenario {
    let config = Config { ring_events: 16, positions: false, ..Config::EMBEDDED };
    let unmarked = [unmark(B, 1, U, X), Action::Commit { op: 0, with: 0 }, Action::Ack { op: 0 }];
    let history = [acknowledged(B, 0, U, X), unmarked.to_vec(), others_events()].concat();
    let before = [history, vec![deliver(A)]].concat();
    let back = Action::Rewind { replica: A, partition: 0, rows: 18 };
    let one = Action::Deliver { replica: A, partition: 0, rows: 1, complete: true };
    let once = [back, one, deliver(A), read(A, 1, U, X), read(A, 1, U, X), read(A, 1, U, X)];
    Scenario::new(config, &before, &once).fed(&[])
}

/// Row 59: add and remove have come by when the stalled writer inserts its own id.
fn stalled_writer() -> Scenario {
    let once =
        [mark(A, 1, U, X), unmark(B, 1, U, X), read(A, 1, U, X), Action::Heartbeat { replica: A }];
    Scenario::new(NUMBERLESS, &cached(A, U), &once).fed(&[A])
}

/// Row 47 at the writer of the remove: the mark that it removed comes by after the rebuild.
fn removed_before_it_comes() -> Scenario {
    let config = Config { positions: false, ..Config::EMBEDDED };
    let once = [mark(B, 1, U, X), unmark(A, 2, U, X), read(A, 2, U, X), read(A, 1, U, X)];
    Scenario::new(config, &cached(A, U), &once).fed(&[A]).prompt(&[B])
}

/// Row 48 without positions: the own journal holds the mark and the unmark while a rebuild runs.
fn own_mark_and_unmark() -> Scenario {
    let rebuild = Action::Rebuild { replica: A, user: U };
    let once = [mark(A, 1, U, X), unmark(A, 1, U, X), rebuild, read(A, 1, U, X)];
    Scenario::new(NUMBERLESS, &cached(A, U), &once).fed(&[A]).prompt(&[A])
}

/// Row 47: a build has seen the remove, and the mark before it comes by later.
fn build_ahead_of_the_feed() -> Scenario {
    let once = [mark(B, 1, U, X), unmark(B, 1, U, X), read(A, 1, U, X), read(A, 1, U, X)];
    Scenario::new(Config::EMBEDDED, &[], &once).fed(&[A]).prompt(&[B])
}

/// Rows 41 and 49 in one commit, and a mark that is stalled meanwhile.
fn forget() -> Scenario {
    let before = [marked(B, 0, U, X), cached(A, U)].concat();
    let once = [FORGET, mark(A, 2, U, 2), read(A, 1, U, 3)];
    Scenario::new(Config::EMBEDDED, &before, &once).fed(&[A])
}

/// Row 7: a build that began before a forget ends after it.
fn forget_while_building() -> Scenario {
    let once = [read(A, 0, U, X), FORGET, read(A, 1, U, X), read(A, 1, U, X)];
    Scenario::new(NUMBERLESS, &marked(B, 0, U, X), &once).fed(&[A]).prompt(&[B])
}

/// Row 41: a late snapshot still shows what was forgotten.
fn forget_and_stale_snapshots() -> Scenario {
    let config = Config { lag_us: 2_000_000, ..Config::EMBEDDED };
    let once = [FORGET, read(A, 1, U, X), read(A, 1, U, X)];
    Scenario::new(config, &marked(B, 0, U, X), &once).fed(&[A]).prompt(&[B])
}

/// Rows 41 and 49: a control row, then the deletes; a peer that was not told still holds the rows.
fn forget_by_statements() -> Scenario {
    let config = Config { forget_by_statements: true, ..Config::EMBEDDED };
    let before = [marked(B, 0, U, X), cached(B, U)].concat();
    let forget = Action::Forget { replica: A, session: 1, user: U };
    let once = [forget, Action::Request { replica: A, user: U }, read(A, 1, U, X)];
    Scenario::new(config, &before, &once).fed(&[A])
}

/// Row 49: what was forgotten is delivered again, after a later mark.
fn forget_delivered_again() -> Scenario {
    let config = Config { forget_by_statements: true, ..Config::EMBEDDED };
    let before = [marked(B, 0, U, X), cached(A, U)].concat();
    let back = Action::Rewind { replica: A, partition: 0, rows: 4 };
    let once = [FORGET, mark(B, 1, U, X), back, read(A, 1, U, X)];
    Scenario::new(config, &before, &once).fed(&[A]).prompt(&[B]).builds(2)
}
