//! Topics: a producer that is late and says things again, fences that are late, lost, and stood for, and
//! two replicas that read the same at their own pace.

use super::{A, B, Named, U, V, W, X, acknowledged, cached, mark, read, unmark};
use crate::model::{Action, Config, Scenario};

pub fn all() -> Vec<Named> {
    vec![
        ("two_partitions", 70_000, two_partitions()),
        ("tokens_through_a_topic", 50_000, tokens_through_a_topic()),
        ("torn_down_in_mid_commit", 6_000, torn_down_in_mid_commit()),
        ("topic_of_a_numbered_store", 12_000, topic_of_a_numbered_store()),
        ("said_again", 20_000, said_again()),
        ("lost_on_the_way", 5_000, lost_on_the_way()),
        ("quiet_topic", 400, quiet_topic()),
        ("commit_for_a_fence", 2_000, commit_for_a_fence()),
        ("fences_of_two_replicas", 6_000, fences_of_two_replicas()),
    ]
}

/// A topic whose replicas beat by fences.
const BEATING: Config = Config { lag_us: 0, ..Config::TOPIC };
/// The same with fences on demand alone, where nobody looks how fresh it is.
const ON_DEMAND: Config = Config { fences: false, stale_us: 3_600_000_000, ..BEATING };

/// All that is under way in partition 0 gets into the topic.
const PRODUCE: Action = Action::Produce { partition: 0, rows: 255 };
/// Of the fences with which both begin, B's is not written.
const NONE_OF_B: Action = Action::LoseFence { fence: 1, late: false };
/// The fence of A is written, and A knows.
const FENCE: [Action; 2] = [Action::Fence { fence: 0 }, Action::TellFence { fence: 0 }];

/// Row 28 with users of two partitions in one commit: each partition comes at its own pace.
fn two_partitions() -> Scenario {
    let begun = vec![mark(B, 1, U, X), mark(B, 1, W, X)];
    let before = [cached(A, U), cached(A, W), begun].concat();
    let once = [read(A, 1, W, X), read(A, 1, U, X)];
    Scenario::new(Config::EMBEDDED, &before, &once).partitions(2).grouped().fed(&[A])
}

/// Rows 27 and 37 where only fences prove anything: writes at both replicas, reads at both.
fn tokens_through_a_topic() -> Scenario {
    let before = [cached(A, U), cached(B, U)].concat();
    let once = [mark(A, 1, U, X), mark(B, 1, U, 2), read(A, 1, U, 3), read(B, 1, U, 3)];
    Scenario::new(ON_DEMAND, &before, &once).prompt(&[A, B])
}

/// Row 46: half of a commit of both replicas has come by when the readers of one are torn down.
fn torn_down_in_mid_commit() -> Scenario {
    let written = [mark(B, 1, U, X), mark(A, 2, V, X), Action::Commit { op: 0, with: 3 }];
    let acknowledged = [Action::Ack { op: 0 }; 2];
    let cached = [cached(A, U), cached(A, V)].concat();
    let before = [cached, written.to_vec(), acknowledged.to_vec()].concat();
    let again = Action::TearDown { replica: A, rows: 2 };
    let once = [again, read(A, 1, U, X), read(A, 2, V, X)];
    Scenario::new(Config::EMBEDDED, &before, &once).cut().fed(&[A])
}

/// A store numbers commits and snapshots, and the topic numbers its events otherwise: what cannot be
/// compared must not be put in order (row 53).
fn topic_of_a_numbered_store() -> Scenario {
    let config = Config { positions: true, lag_us: 2_000_000, ..ON_DEMAND };
    let before = [vec![Action::Wait(2_100_000)], acknowledged(B, 1, U, X), vec![PRODUCE]].concat();
    let once = [read(A, 0, U, X), unmark(A, 1, U, X), read(A, 1, U, X)];
    Scenario::new(config, &before, &once).fed(&[A]).prompt(&[A]).builds(1)
}

/// Rows 16 and 47: the producer says again what it has said, at offsets of its own.
fn said_again() -> Scenario {
    let marked = acknowledged(B, 0, U, X);
    let before = [marked, vec![PRODUCE, super::deliver(A)], cached(A, U)].concat();
    let again = Action::ProduceAgain { partition: 0, rows: 3 };
    let once = [unmark(B, 1, U, X), again, read(A, 1, U, X), read(A, 1, U, X)];
    Scenario::new(ON_DEMAND, &before, &once).fed(&[A]).prompt(&[B])
}

/// Rule R9: a fence that was written is lost on the way, and what was before it.
fn lost_on_the_way() -> Scenario {
    let late = vec![PRODUCE, Action::Wait(5_200_000)];
    let marked = acknowledged(B, 1, U, X);
    let before = [vec![NONE_OF_B], cached(A, U), marked, FENCE.to_vec(), late].concat();
    let swallow = Action::Swallow { replica: A, partition: 0 };
    let once = [swallow, read(A, 1, U, X), read(A, 1, U, X), mark(B, 2, U, 2)];
    Scenario::new(BEATING, &before, &once).fed(&[A]).prompt(&[B]).told_of_fences()
}

/// Row 25: nothing follows in the topic, and the source has long gone on.
fn quiet_topic() -> Scenario {
    let before = [vec![NONE_OF_B], cached(A, U)].concat();
    let wait = Action::Wait(5_200_000);
    let once = [mark(B, 1, U, X), wait, read(A, 0, U, X)];
    Scenario::new(BEATING, &before, &once).fed(&[A]).prompt(&[B])
}

/// Rule R9 without fences: the newest commit stands for one, when it is complete.
fn commit_for_a_fence() -> Scenario {
    let config = Config { topic: false, stands: true, ..ON_DEMAND };
    let once = [mark(B, 1, U, X), mark(B, 2, U, 2), read(A, 1, U, 3), read(A, 2, U, 3)];
    Scenario::new(config, &cached(A, U), &once).fed(&[A]).told_of_fences()
}

/// Rows 26 and 58: fences of two replicas in one topic, each learns late of its own.
fn fences_of_two_replicas() -> Scenario {
    let written = [acknowledged(A, 1, U, X), acknowledged(B, 2, U, 2)].concat();
    let asked = vec![read(B, 1, U, X), Action::Drop { read: 0 }];
    let before = [cached(A, U), cached(B, U), written, asked].concat();
    let once = [read(A, 2, U, 3), read(A, 2, U, 3)];
    Scenario::new(ON_DEMAND, &before, &once).fed(&[A]).told_of_fences()
}
