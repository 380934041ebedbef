//! Small worlds, each about a few rows of the table of interleavings: what has happened before, and
//! what may happen once each, at any moment. Everything that follows from it (commits,
//! acknowledgements, deliveries, builds, point checks) is tried in every order.

mod builds;
mod feeds;
mod lives;
mod reads;
mod removes;
mod topics;
mod transfers;

use crate::model::{Action, Config, Scenario};

/// The replicas.
pub const A: u8 = 0;
pub const B: u8 = 1;
/// Two users of one partition.
pub const U: u8 = 0;
pub const V: u8 = 1;
/// A user of the next partition.
pub const W: u8 = 2;
/// Items, as sets. `FAR` lies on a build's second page.
pub const X: u8 = 1;
pub const FAR: u8 = 4;

/// A store that says nothing about positions, whose commits and snapshots are never late.
pub const NUMBERLESS: Config =
    Config { stamps: false, positions: false, no_op_events: false, ..Config::EMBEDDED };

/// A small world that is tried to its end.
pub struct Small {
    pub name: &'static str,
    pub scenario: Scenario,
    /// It has at least so many states: what did not happen proves nothing.
    pub states_min: usize,
}

/// All of them.
pub fn all() -> Vec<Small> {
    let small = |(name, states_min, scenario)| Small { name, scenario, states_min };
    let of_feeds = [feeds::all(), topics::all()].concat();
    [reads::all(), builds::all(), transfers::all(), of_feeds, removes::all(), lives::all()]
        .into_iter()
        .flatten()
        .map(small)
        .collect()
}

/// The one of this name.
pub fn named(name: &str) -> Small {
    all().into_iter().find(|small| small.name == name).expect("one of the small worlds")
}

/// Name, least number of states, and world.
type Named = (&'static str, usize, Scenario);

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
    Action::Deliver { replica, partition: 0, rows: 255, complete: true }
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
        Action::Ack { op: 0 },
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
