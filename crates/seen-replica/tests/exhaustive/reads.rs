//! Reads: tokens against a delayed feed, point checks that are overtaken, commits of several users.

use super::{A, B, Named, U, V, X, cached, mark, read};
use crate::model::{Action, Config, Scenario};

pub fn all() -> Vec<Named> {
    vec![
        ("tokens_of_two_writers", 40_000, tokens_of_two_writers()),
        ("point_checks_overtaken", 40_000, point_checks_overtaken()),
        ("two_users_in_one_commit", 40_000, two_users_in_one_commit()),
        ("one_commit_and_a_build", 5_000, one_commit_and_a_build()),
    ]
}

/// Rows 12, 27, 28 and 37: a token of writes at both replicas, read at both while the feed is late.
fn tokens_of_two_writers() -> Scenario {
    let before = [cached(A, U), cached(B, U)].concat();
    let once = [mark(A, 1, U, X), mark(B, 1, U, 2), read(A, 1, U, 3), read(B, 1, U, 3)];
    Scenario::new(Config::EMBEDDED, &before, &once).prompt(&[B])
}

/// Row 50: a point check is older than what came by before its answer.
fn point_checks_overtaken() -> Scenario {
    let once = [mark(A, 1, U, X), mark(B, 2, U, 2), read(A, 1, U, 3), read(A, 2, U, 3)];
    Scenario::new(Config::EMBEDDED, &[], &once).slow_reads().fed(&[A]).prompt(&[A, B])
}

/// Row 46: one commit of two users of a partition, which comes by in pieces.
fn two_users_in_one_commit() -> Scenario {
    let before = [cached(A, U), cached(A, V)].concat();
    let once = [mark(B, 1, U, X), mark(B, 2, V, X), read(A, 2, V, X), read(A, 1, U, X)];
    Scenario::new(Config::EMBEDDED, &before, &once).cut().grouped().fed(&[A])
}

/// Row 46 again: between the pieces a build of the second user begins, and reads late storage.
fn one_commit_and_a_build() -> Scenario {
    let config = Config { lag_us: 2_000_000, ..Config::EMBEDDED };
    let before = [
        mark(B, 1, U, X),
        mark(B, 2, V, X),
        Action::Commit { op: 0, with: 3 },
        Action::Ack { op: 0 },
        Action::Ack { op: 0 },
    ];
    let once = [read(A, 2, V, X), read(A, 2, V, X)];
    Scenario::new(config, &before, &once).cut().fed(&[A]).builds(2)
}
