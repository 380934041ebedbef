//! Tokens that are carried from replica to replica, and the fences that cover them.

use super::{
    A, B, BEATING, NUMBERLESS, Named, ON_DEMAND, PRODUCE, U, W, X, acknowledged, cached, mark, read,
};
use crate::landmark::Landmark;
use crate::small::SmallWorld;
use crate::world::{Action, Config};

/// Of the fences with which both begin, B's is not written.
const NONE_OF_B: Action = Action::LoseFence { fence: 1, late: false };
/// The fence of A is written, and A knows.
const FENCE: [Action; 2] = [Action::WriteFence { fence: 0 }, Action::FenceWritten { fence: 0 }];
const OPEN: Action = Action::Open { replica: A, partition: 0 };

/// All of them.
pub const WORLDS: &[Named] = &[
    (
        "fences",
        10_000,
        &[Landmark::AnsweredAlone, Landmark::AskedForToken, Landmark::FenceCame],
        fences,
    ),
    (
        "late_fence",
        700,
        &[Landmark::AnsweredAlone, Landmark::AskedForToken, Landmark::FenceCame],
        late_fence,
    ),
    ("fences_release", 90_000, &[Landmark::AnsweredAlone, Landmark::FenceCame], fences_release),
    (
        "old_fences",
        10_000,
        &[
            Landmark::AnsweredAlone,
            Landmark::AskedForToken,
            Landmark::FenceCame,
            Landmark::ForeignFenceCame,
            Landmark::Crashed,
        ],
        old_fences,
    ),
    (
        "tokens_through_a_topic",
        50_000,
        &[
            Landmark::AnsweredAlone,
            Landmark::AskedForToken,
            Landmark::FenceCame,
            Landmark::ForeignFenceCame,
        ],
        tokens_through_a_topic,
    ),
    (
        "lost_on_the_way",
        5_000,
        &[Landmark::AnsweredAlone, Landmark::AskedForToken, Landmark::FenceCame, Landmark::Doubted],
        lost_on_the_way,
    ),
    ("quiet_topic", 400, &[Landmark::AskedStale, Landmark::FenceCame], quiet_topic),
    (
        "commit_for_a_fence",
        2_000,
        &[Landmark::AnsweredAlone, Landmark::AskedForToken],
        commit_for_a_fence,
    ),
    (
        "fences_of_two_replicas",
        6_000,
        &[
            Landmark::AnsweredAlone,
            Landmark::AskedForToken,
            Landmark::FenceCame,
            Landmark::ForeignFenceCame,
        ],
        fences_of_two_replicas,
    ),
    (
        "failed_over",
        6_300,
        &[Landmark::AnsweredAlone, Landmark::AskedForToken, Landmark::FenceCame, Landmark::Crashed],
        failed_over,
    ),
    (
        "moved",
        2_200,
        &[Landmark::AnsweredAlone, Landmark::AskedForToken, Landmark::FenceCame],
        moved,
    ),
    (
        "wildcards",
        31_000,
        &[Landmark::AnsweredAlone, Landmark::AskedForToken, Landmark::FenceCame],
        wildcards,
    ),
];

/// Rule R9: what is presented between a fence's write and its return is not covered by it.
fn fences() -> SmallWorld {
    let once =
        [mark(B, 1, U, X), mark(B, 2, U, 2), read(A, 1, U, 3), read(A, 2, U, 3), read(A, 2, U, 3)];
    SmallWorld::new(NUMBERLESS, &cached(A, U), &once).fed(&[A])
}

/// Rule R9: a fence that was thought lost comes back when a later one is under way.
fn late_fence() -> SmallWorld {
    let written = [read(A, 1, U, X), Action::Drop { read: 0 }, Action::WriteFence { fence: 0 }];
    let before = [cached(A, U), acknowledged(B, 1, U, X), written.to_vec()].concat();
    let wait = Action::Wait(5_200_000);
    let once = [wait, mark(B, 2, U, 2), read(A, 2, U, 2), read(A, 2, U, 2)];
    SmallWorld::new(NUMBERLESS, &before, &once).fed(&[A]).prompt(&[B])
}

/// Row 26: a fence releases own commits, but not what was acknowledged since its write began; then a
/// rebuild reads late storage.
fn fences_release() -> SmallWorld {
    let config = Config { lag_us: 2_000_000, ..NUMBERLESS };
    let before = [vec![Action::Wait(2_100_000)], cached(A, U)].concat();
    let heartbeat = Action::Heartbeat { replica: A };
    let rebuild = Action::Rebuild { replica: A, user: U };
    let once = [mark(A, 1, U, X), heartbeat, mark(A, 1, U, 2), rebuild, read(A, 1, U, 3)];
    SmallWorld::new(config, &before, &once).fed(&[A]).prompt(&[A])
}

/// Row 58: a fence of the former life comes back.
fn old_fences() -> SmallWorld {
    let asked = [read(A, 1, U, X), Action::Drop { read: 0 }];
    let again = [Action::Crash { replica: A }, OPEN];
    let marked = acknowledged(B, 1, U, X);
    let before = [cached(A, U), marked, asked.to_vec(), again.to_vec()].concat();
    let once = [mark(B, 2, U, 2), read(A, 0, U, X), read(A, 2, U, 3), read(A, 2, U, 3)];
    SmallWorld::new(NUMBERLESS, &before, &once).fed(&[A])
}

/// Rows 27 and 37 where only fences prove anything: writes at both replicas, reads at both.
fn tokens_through_a_topic() -> SmallWorld {
    let before = [cached(A, U), cached(B, U)].concat();
    let once = [mark(A, 1, U, X), mark(B, 1, U, 2), read(A, 1, U, 3), read(B, 1, U, 3)];
    SmallWorld::new(ON_DEMAND, &before, &once).prompt(&[A, B])
}

/// Rule R9: a fence that was written is lost on the way, and what was before it.
fn lost_on_the_way() -> SmallWorld {
    let late = vec![PRODUCE, Action::Wait(5_200_000)];
    let marked = acknowledged(B, 1, U, X);
    let before = [vec![NONE_OF_B], cached(A, U), marked, FENCE.to_vec(), late].concat();
    let swallow = Action::Swallow { replica: A, partition: 0 };
    let once = [swallow, read(A, 1, U, X), read(A, 1, U, X), mark(B, 2, U, 2)];
    SmallWorld::new(BEATING, &before, &once).fed(&[A]).prompt(&[B]).told_of_fences()
}

/// Row 25: nothing follows in the topic, and the source has long gone on.
fn quiet_topic() -> SmallWorld {
    let before = [vec![NONE_OF_B], cached(A, U)].concat();
    let wait = Action::Wait(5_200_000);
    let once = [mark(B, 1, U, X), wait, read(A, 0, U, X)];
    SmallWorld::new(BEATING, &before, &once).fed(&[A]).prompt(&[B])
}

/// Rule R9 without fences: the newest commit stands for one, when it is complete.
fn commit_for_a_fence() -> SmallWorld {
    let config = Config { topic: false, stands: true, ..ON_DEMAND };
    let once = [mark(B, 1, U, X), mark(B, 2, U, 2), read(A, 1, U, 3), read(A, 2, U, 3)];
    SmallWorld::new(config, &cached(A, U), &once).fed(&[A]).told_of_fences()
}

/// Rows 26 and 58: fences of two replicas in one topic, each learns late of its own.
fn fences_of_two_replicas() -> SmallWorld {
    let written = [acknowledged(A, 1, U, X), acknowledged(B, 2, U, 2)].concat();
    let asked = vec![read(B, 1, U, X), Action::Drop { read: 0 }];
    let before = [cached(A, U), cached(B, U), written, asked].concat();
    let once = [read(A, 2, U, 3), read(A, 2, U, 3)];
    SmallWorld::new(ON_DEMAND, &before, &once).fed(&[A]).told_of_fences()
}

/// Rows 27, 37 and 44 without numbers: the replica that acknowledged is gone, and its caller asks the other.
fn failed_over() -> SmallWorld {
    let before = [cached(A, U), cached(B, U)].concat();
    let crash = Action::Crash { replica: A };
    let once = [mark(A, 1, U, X), crash, read(B, 1, U, X), mark(B, 1, U, 2), read(B, 1, U, 3)];
    SmallWorld::new(NUMBERLESS, &before, &once).fed(&[B]).prompt(&[B])
}

/// Rule R9 for a caller without a token: a proxy moved it, and its claim stands for all of before.
fn moved() -> SmallWorld {
    let moved = Action::Moved { session: 3 };
    let once = [mark(A, 1, U, X), moved, read(B, 3, U, X), mark(A, 2, U, 2), read(B, 3, U, X)];
    SmallWorld::new(NUMBERLESS, &cached(B, U), &once).fed(&[B]).prompt(&[A])
}

/// A token that is full has become one wildcard: neither numbers nor its maker's journal satisfy it.
fn wildcards() -> SmallWorld {
    let full = [(A, W), (B, W), (A, U)].map(|(at, user)| acknowledged(at, 1, user, X)).concat();
    let before = [cached(A, U), full].concat();
    let once = [mark(B, 1, U, 2), read(A, 1, U, 3), read(A, 1, U, 3)];
    SmallWorld::new(Config::EMBEDDED, &before, &once).partitions(2).fed(&[A]).prompt(&[A, B])
}
