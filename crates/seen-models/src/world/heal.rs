//! The end of a story: everything is delivered, built and answered, and then every replica must say
//! exactly what storage holds.

use seen_filter::{Item, UserId};
use seen_replica::rules::EntryState;

use super::action::{Action, name};
use super::config::{ITEMS, PARTITIONS, SESSIONS, USERS};
use super::write::OpState;
use super::{Promise, World};

/// Rounds of delivering, building and asking after which nothing may be open any more.
const ROUNDS_MAX: usize = 24;
/// Builds that one round runs at most: a build may owe another, but not for ever.
const BUILDS_PER_ROUND_MAX: usize = 60;

impl World {
    /// Lets everything come to rest, checks it, has everything rebuilt, and checks it again: what
    /// rings and journals hold must not bring anything back (row 48).
    pub fn heal(&mut self) {
        self.begin_healing();
        self.settle_writes();
        self.come_to_rest();
        for replica in 0..2 {
            for user in self.touched() {
                self.act(Action::Rebuild { replica, user });
            }
        }
        self.come_to_rest();
    }

    /// The users of the story, as selectors.
    fn touched(&self) -> Vec<u8> {
        let written = |user: &u64| self.ops.iter().any(|op| op.user == *user);
        (0..USERS.len() as u8).filter(|at| written(&USERS[usize::from(*at)])).collect()
    }

    /// The sessions whose tokens say anything, and the caller without one.
    fn speaking(&self) -> Vec<usize> {
        (0..=SESSIONS).filter(|at| *at == 0 || self.has_token(*at)).collect()
    }

    fn settle_writes(&mut self) {
        while self.act(Action::Drop { read: 0 }) {}
        while self.act(Action::Donate { transfer: 0 }) {}
        while self.act(Action::Transferred { transfer: 0, torn: false }) {}
        for at in 0..self.ops.len() {
            // What nobody knows lands, or does not.
            if self.ops[at].state == OpState::Lost && at % 2 == 0 {
                self.ops[at].state = OpState::Failed;
                self.ops[at].order = None;
            }
        }
        while self.act(Action::Commit { op: 0, with: 0 }) {}
        while self.act(Action::Committed { op: 0 }) {}
    }

    fn come_to_rest(&mut self) {
        for round in 0..ROUNDS_MAX {
            if self.violation.is_some() {
                return;
            }
            self.round();
            match self.unrest() {
                None => return,
                Some((promise, why)) if round + 1 == ROUNDS_MAX => self.broken(promise, why),
                Some(_) => {}
            }
        }
    }

    fn round(&mut self) {
        self.act(Action::Wait(1_100_000));
        for replica in 0..2 {
            self.act(Action::Heartbeat { replica });
        }
        while self.act(Action::WriteFence { fence: 0 })
            || self.act(Action::FenceWritten { fence: 0 })
        {}
        self.act(Action::Show);
        for partition in 0..PARTITIONS as u8 {
            self.act(Action::Produce { partition, rows: 255 });
        }
        for replica in 0..2 {
            for partition in 0..PARTITIONS as u8 {
                self.act(Action::Unfollowed { replica, partition });
                self.act(Action::Open { replica, partition });
                self.catch_up(replica, partition);
            }
            for user in self.touched() {
                for session in self.speaking() {
                    let session = session as u8;
                    self.act(Action::Read { replica, session, user, items: 31 });
                }
            }
        }
        while self.act(Action::Check { read: 0 }) {}
        while self.act(Action::Checked { read: 0 }) {}
        for _ in 0..BUILDS_PER_ROUND_MAX {
            while self.act(Action::Page { build: 0, stale: 0 }) {}
            if !self.act(Action::Install { build: 0 }) {
                break;
            }
        }
    }

    fn catch_up(&mut self, replica: u8, partition: u8) {
        let all = Action::Feed { replica, partition, rows: 255, complete: true };
        while self.act(all) && self.is_behind(usize::from(replica), usize::from(partition)) {}
    }

    /// Why the world is not at rest, or wrong.
    fn unrest(&mut self) -> Option<(Promise, String)> {
        if !self.builds.is_empty() {
            return Some((Promise::ComesToRest, "builds never end".to_owned()));
        }
        for replica in 0..2 {
            for lane in self.replicas[replica].rules.lanes(self.now(replica)) {
                // Nobody asks for what is not wanted: what it holds waits until it is.
                if lane.journal_rows > 0 && lane.wanted {
                    let (who, rows) = (name(replica), lane.journal_rows);
                    let how = format!("{who} never releases {rows} journal rows of {}", lane.feed);
                    return Some((Promise::ComesToRest, how));
                }
            }
            for user in self.touched().into_iter().map(|at| USERS[usize::from(at)]) {
                if self.follows(replica, user)
                    && let Some(why) = self.unrest_of(replica, user)
                {
                    return Some(why);
                }
            }
        }
        None
    }

    fn unrest_of(&mut self, replica: usize, user: u64) -> Option<(Promise, String)> {
        let who = name(replica);
        let rows = self.storage.rows(user, self.storage.head());
        let bits = |world: &World, item: u64| {
            let rules = &world.replicas[replica].rules;
            rules.entry(UserId::new(user), Some(Item::new(0, item))).says_seen == Some(true)
        };
        for item in rows.iter().copied() {
            if !bits(self, item) {
                let how = format!("{who}'s entry of u{user} never learns of x{item}");
                return Some((Promise::Converges, how));
            }
        }
        for item in ITEMS.into_iter().filter(|item| self.config.exact() && !rows.contains(item)) {
            if bits(self, item) {
                let how = format!("{who}'s entry of u{user} keeps x{item}, which is removed");
                return Some((Promise::Converges, how));
            }
        }
        let view = self.replicas[replica].rules.entry(UserId::new(user), None);
        if view.state != EntryState::Ready || view.contested_items > 0 {
            let (state, contested) = (view.state, view.contested_items);
            let how = format!("{who}'s entry of u{user} stays {state:?}, {contested} contested");
            return Some((Promise::ComesToRest, how));
        }
        for session in self.speaking() {
            let answer = self.ask(replica, session, user, &ITEMS);
            if !answer.ask.is_empty() {
                let doubt = answer.doubt;
                let how = format!("{who} never answers s{session} about u{user} alone: {doubt:?}");
                return Some((Promise::ComesToRest, how));
            }
        }
        None
    }
}
