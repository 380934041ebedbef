//! Transfers: a replica takes an entry over while both are fed at different speeds.

use super::{A, B, Named, U, X, acknowledged, cached, mark, marked, read, unmark};
use crate::model::{Action, Config, Scenario};

const REQUEST: Action = Action::Request { replica: A, user: U };
const GAP: Action = Action::Gap { replica: B, partition: 0, rows: 1 };
const POISON: Action = Action::Poison { replica: B, partition: 0 };

pub fn all() -> Vec<Named> {
    vec![
        ("donor_behind", 50_000, donor_behind()),
        ("donor_in_mid_commit", 9_000, donor_in_mid_commit()),
        ("donor_after_a_gap", 800, donor_in_doubt(GAP)),
        ("donor_after_an_unreadable_row", 1_000, donor_in_doubt(POISON)),
        ("donor_of_removed", 5_000, donor_of_removed()),
        ("donor_fed_again", 2_000, donor_fed_again()),
    ]
}

/// Rows 29, 30 and 31: what came by here is not yet there.
fn donor_behind() -> Scenario {
    let once = [REQUEST, mark(A, 1, U, X), mark(B, 1, U, 2), read(A, 1, U, 3)];
    Scenario::new(Config::EMBEDDED, &cached(B, U), &once).prompt(&[A, B])
}

/// Row 30: the donor has applied half of a commit.
fn donor_in_mid_commit() -> Scenario {
    let before = [cached(B, U), acknowledged(A, 1, U, X | 2)].concat();
    let once = [REQUEST, read(A, 1, U, X | 2), read(A, 1, U, X | 2)];
    Scenario::new(Config::EMBEDDED, &before, &once).cut()
}

/// Rules R3 and R8: the donor has lost something.
fn donor_in_doubt(lost: Action) -> Scenario {
    let before = [cached(B, U), acknowledged(A, 1, U, X)].concat();
    let once = [lost, REQUEST, read(A, 1, U, X), read(A, 1, U, X)];
    Scenario::new(Config::EMBEDDED, &before, &once)
}

/// Row 60: the donor holds an id that was unmarked.
fn donor_of_removed() -> Scenario {
    let before = [marked(B, 0, U, X), cached(B, U)].concat();
    let once = [REQUEST, unmark(A, 1, U, X), read(A, 1, U, X)];
    Scenario::new(Config::EMBEDDED, &before, &once)
}

/// Rows 47 and 60: the donor is being fed a range again.
fn donor_fed_again() -> Scenario {
    let before = [marked(B, 0, U, X), cached(B, U)].concat();
    let back = Action::Rewind { replica: B, partition: 0, rows: 2 };
    let once = [REQUEST, unmark(B, 1, U, X), back];
    Scenario::new(Config::EMBEDDED, &before, &once).prompt(&[A, B])
}
