//! The seven models, each a handful of small worlds: what has happened before, and what may happen once
//! each, at any moment. Everything that follows from it (commits, acknowledgements, deliveries, builds,
//! point checks, fences) is tried in every order. Each world names its rows of the table of interleavings.

mod events;
mod failover;
mod forget;
mod map_change;
mod primary_change;
mod sessions;
mod transfers;

use crate::landmark::Landmark;
use crate::small::SmallWorld;
use crate::world::{Action, Config};

/// Small worlds of one subject.
#[derive(Clone, Debug)]
pub struct Model {
    /// Its name.
    pub name: &'static str,
    /// What it is about.
    pub about: &'static str,
    /// The worlds.
    pub worlds: Vec<SmallWorld>,
}

/// All models.
pub fn models() -> Vec<Model> {
    vec![
        Model {
            name: "sessions",
            about: "two replicas and two sessions: writes, removes, evictions, and builds from stale snapshots",
            worlds: made(sessions::WORLDS),
        },
        Model {
            name: "transfers",
            about: "transfers from replica to replica, and crashes",
            worlds: made(transfers::WORLDS),
        },
        Model {
            name: "failover",
            about: "tokens that are carried from replica to replica, and the fences that cover them",
            worlds: made(failover::WORLDS),
        },
        Model {
            name: "events",
            about: "events that are late, told again, cut within a commit of several users, or lost",
            worlds: made(events::WORLDS),
        },
        Model {
            name: "map_change",
            about: "the map of slots changes: who follows what, from when on, and who is asked meanwhile",
            worlds: made(map_change::WORLDS),
        },
        Model {
            name: "forget",
            about: "forgets: in one commit and by statements, late, told again, and against builds and transfers",
            worlds: made(forget::WORLDS),
        },
        Model {
            name: "primary_change",
            about: "storage goes on elsewhere: another server becomes the primary, or a backup is restored",
            worlds: made(primary_change::WORLDS),
        },
    ]
}

/// The replicas.
const A: u8 = 0;
const B: u8 = 1;
/// Two users of one partition.
const U: u8 = 0;
const V: u8 = 1;
/// A user of the next partition.
const W: u8 = 2;
/// Items, as sets. `FAR` lies on a build's second page.
const X: u8 = 1;
const FAR: u8 = 4;

/// A store that says nothing about positions, whose commits and snapshots are never late.
const NUMBERLESS: Config =
    Config { stamps: false, positions: false, no_op_events: false, ..Config::EMBEDDED };
/// A topic whose replicas beat by fences.
const BEATING: Config = Config { lag_us: 0, ..Config::TOPIC };
/// The same with fences on demand alone, where nobody looks how fresh it is.
const ON_DEMAND: Config = Config { fences: false, stale_us: 3_600_000_000, ..BEATING };

/// All that is under way in partition 0 gets into the topic.
const PRODUCE: Action = Action::Produce { partition: 0, rows: 255 };

/// Name, least number of states, what must be reached, and the world.
type Named = (&'static str, usize, &'static [Landmark], fn() -> SmallWorld);

fn made(worlds: &[Named]) -> Vec<SmallWorld> {
    let make = |(name, states_min, shows, world): &Named| world().named(name, *states_min, shows);
    worlds.iter().map(make).collect()
}

fn mark(replica: u8, session: u8, user: u8, items: u8) -> Action {
    Action::Mark { replica, session, user, items }
}

fn unmark(replica: u8, session: u8, user: u8, items: u8) -> Action {
    Action::Unmark { replica, session, user, items }
}

fn read(replica: u8, session: u8, user: u8, items: u8) -> Action {
    Action::Read { replica, session, user, items }
}

fn deliver(replica: u8) -> Action {
    Action::Feed { replica, partition: 0, rows: 255, complete: true }
}

/// A read brings the user into the replica's memory.
fn cached(replica: u8, user: u8) -> Vec<Action> {
    vec![
        read(replica, 0, user, X),
        Action::Drop { read: 0 },
        Action::Page { build: 0, stale: 0 },
        Action::Install { build: 0 },
    ]
}

/// A mark that is acknowledged.
fn acknowledged(replica: u8, session: u8, user: u8, items: u8) -> Vec<Action> {
    vec![
        mark(replica, session, user, items),
        Action::Commit { op: 0, with: 0 },
        Action::Committed { op: 0 },
    ]
}

/// As many events of another user as the smallest ring holds.
fn others_events() -> Vec<Action> {
    (0..16).flat_map(|_| acknowledged(B, 2, V, X)).collect()
}

/// A mark that is acknowledged and has come by everywhere.
fn marked(replica: u8, session: u8, user: u8, items: u8) -> Vec<Action> {
    let mut actions = acknowledged(replica, session, user, items);
    actions.extend([deliver(A), deliver(B)]);
    actions
}
