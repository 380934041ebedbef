//! Reads: from memory, then by a point check which other things may overtake.

use std::collections::BTreeSet;

use seen_filter::{Item, Kind, PackedIds, PrimaryId, SnapshotId, Tick, UserId, Verdicts};
use seen_replica::rules::{Candidates, Checked, Doubt, Input, Outcome, Read, ReadAnswer};

use super::action::name;
use super::config::{SESSIONS, USERS};
use super::storage::partition_of;
use super::write::{Op, OpKind, OpState, items_of};
use super::{World, nth, pick};
use crate::landmark::Landmark;

/// How far the ticks of steps may lead those of waiting.
const SKEW_US: u64 = 10_000;

/// The candidates of a read.
pub struct Items(Vec<u8>);

impl Items {
    pub fn new(items: &[u64]) -> Self {
        Self(items.iter().flat_map(|item| item.to_le_bytes()).collect())
    }
}

impl Candidates for Items {
    fn visit(&self, each: &mut dyn FnMut(Kind, PackedIds<'_>)) {
        if let Ok(ids) = PackedIds::new(&self.0) {
            each(Kind::new(0), ids);
        }
    }
}

/// A read whose answer waits for storage.
pub struct ReadInFlight {
    pub id: u64,
    pub replica: usize,
    user: u64,
    /// The items that only storage can decide.
    asked: Vec<u64>,
    /// The writes that its answer must respect.
    knows: BTreeSet<usize>,
    /// What the point check found.
    found: Option<(Vec<bool>, SnapshotId, Tick)>,
}

impl std::hash::Hash for ReadInFlight {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (self.replica, self.user, &self.asked, &self.knows).hash(state);
        if let Some((found, snapshot, asked)) = &self.found {
            (found, snapshot.lower_bound, asked).hash(state);
        }
    }
}

impl ReadInFlight {
    /// True if storage has served its point check.
    pub fn is_checked(&self) -> bool {
        self.found.is_some()
    }
}

impl World {
    /// Asks a replica from memory, with the token of a session.
    pub fn ask(&mut self, replica: usize, session: usize, user: u64, items: &[u64]) -> ReadAnswer {
        let claims = self.sessions[session].claims.clone();
        let candidates = Items::new(items);
        let read = Read {
            user: UserId::new(user),
            claims: &claims,
            candidates: &candidates,
            confirm: false,
            build: self.replicas[replica].owned[partition_of(user)],
        };
        let known: Vec<_> = claims.iter().map(|c| (c.writer, c.seq, c.stamp)).collect();
        let before = (self.builds.len(), self.fences.len());
        match self.step(replica, Input::Read(read)) {
            Outcome::Answer(answer) => {
                // A read that presents nothing and begins nothing leaves the core as it was.
                if !claims.is_empty() || before != (self.builds.len(), self.fences.len()) {
                    self.trace(replica, ("read", session, user, known));
                } else {
                    self.replicas[replica].steps -= 1;
                }
                answer
            }
            outcome => panic!("a read was answered by {outcome:?}"),
        }
    }

    /// The writes that an answer at this replica must respect: those of the token, and those that
    /// this life of the replica acknowledged.
    pub fn known_at(&self, replica: usize, session: usize) -> BTreeSet<usize> {
        let mut knows = self.sessions[session].knows.clone();
        let incarnation = self.replicas[replica].incarnation;
        let own = self.ops.iter().enumerate().filter(|(_, op)| {
            op.state == OpState::Acked && op.replica == replica && op.incarnation == incarnation
        });
        knows.extend(own.map(|(at, _)| at));
        knows
    }

    /// Marks that were acknowledged so long ago that a feed which lacks them is stale.
    fn known_long(&self) -> BTreeSet<usize> {
        let until = self.waited_us.saturating_sub(self.config.stale_us + SKEW_US);
        let known =
            |op: &Op| op.kind == OpKind::Mark && op.state == OpState::Acked && op.acked_us < until;
        self.ops.iter().enumerate().filter(|(_, op)| known(op)).map(|(at, _)| at).collect()
    }

    pub(super) fn read(&mut self, replica: u8, session: u8, user: u8, items: u8) -> bool {
        let replica = usize::from(replica) % 2;
        let session = usize::from(session) % (SESSIONS + 1);
        let user = pick(&USERS, user);
        let items = items_of(items);
        let id = self.id();
        self.say(|| format!("s{session} asks {} about u{user} {items:?} (r{id})", name(replica)));
        let knows = self.known_at(replica, session);
        let answer = self.ask(replica, session, user, &items);
        // Row 25: whatever the token, "unread" is not said of what all have long been able to know.
        let known_long: BTreeSet<usize> = knows.union(&self.known_long()).copied().collect();
        let mut asked = Vec::new();
        for (at, item) in items.iter().enumerate() {
            if answer.ask.get(at) {
                asked.push(*item);
            } else {
                let seen = answer.seen.get(at);
                let knows = if seen { &knows } else { &known_long };
                self.judge((replica, user, *item), knows, seen);
            }
        }
        let (seen, doubt) = (named(&items, &answer.seen), answer.doubt);
        let bears = knows.iter().any(|at| items.iter().any(|i| self.ops[*at].touches(user, *i)));
        match doubt {
            Some(doubt) if !asked.is_empty() => self.reach(landmark_of(doubt)),
            _ if bears && self.has_token(session) => self.reach(Landmark::AnsweredAlone),
            _ => {}
        }
        self.say(|| format!("seen {seen:?}, asks storage about {asked:?} ({doubt:?})"));
        if !asked.is_empty() {
            self.reads.push(ReadInFlight { id, replica, user, asked, knows, found: None });
        }
        true
    }

    pub(super) fn check(&mut self, read: u8) -> bool {
        let Some(at) = nth(&self.reads, read, |read| !read.is_checked()) else { return false };
        let visible = self.storage.visible;
        let rows = self.storage.rows(self.reads[at].user, visible);
        let found: Vec<bool> =
            self.reads[at].asked.iter().map(|item| rows.contains(item)).collect();
        let snapshot = self.snapshot(visible, u64::from(read / 16));
        let id = self.reads[at].id;
        let lower = snapshot.lower_bound.map(|stamp| stamp.position);
        self.say(|| {
            format!("storage checks r{id} at commit {visible} (says {lower:?}): {found:?}")
        });
        let asked = self.now(self.reads[at].replica);
        self.reads[at].found = Some((found, snapshot, asked));
        true
    }

    /// What a read of this moment says that it saw.
    pub(super) fn snapshot(&self, position: u64, loose: u64) -> SnapshotId {
        let below = if self.config.loose { loose % 3 } else { 0 };
        let lower = self.storage.stamp(position.saturating_sub(below));
        let lower_bound = self.config.positions.then_some(lower);
        SnapshotId { primary: PrimaryId::new(1), lower_bound }
    }

    pub(super) fn answer(&mut self, read: u8) -> bool {
        let Some(at) = nth(&self.reads, read, ReadInFlight::is_checked) else { return false };
        let read = self.reads.remove(at);
        let Some((found, snapshot, asked)) = read.found else { return false };
        let items: Vec<Item> = read.asked.iter().map(|item| Item::new(0, *item)).collect();
        let user = UserId::new(read.user);
        let checked = Checked { user, items: &items, found: &found, snapshot, asked };
        let outcome = self.step(read.replica, Input::Checked(checked));
        self.replicas[read.replica].steps -= 1;
        let Outcome::Decided { seen, contested } = outcome else {
            panic!("a check was answered by {outcome:?}");
        };
        let said = named(&read.asked, &seen);
        if contested {
            self.reach(Landmark::Flagged);
        }
        let flag = if contested { ", flagged" } else { "" };
        self.say(|| format!("{} answers r{}: seen {said:?}{flag}", name(read.replica), read.id));
        for (at, item) in read.asked.iter().enumerate().filter(|_| !contested) {
            self.judge((read.replica, read.user, *item), &read.knows, seen.get(at));
        }
        true
    }

    pub(super) fn drop_read(&mut self, read: u8) -> bool {
        let Some(at) = nth(&self.reads, read, |_| true) else { return false };
        let read = self.reads.remove(at);
        self.say(|| format!("the caller of r{} goes away", read.id));
        true
    }

    /// True if the replica follows the user's partition, so that it may cache the user.
    pub fn follows(&self, replica: usize, user: u64) -> bool {
        let partition = super::storage::feed(partition_of(user));
        let lanes = self.replicas[replica].rules.lanes(self.now(replica));
        lanes.iter().any(|lane| lane.feed == partition && lane.wanted)
    }
}

fn landmark_of(doubt: Doubt) -> Landmark {
    match doubt {
        Doubt::Cold => Landmark::AskedCold,
        Doubt::Dirty => Landmark::AskedDirty,
        Doubt::TokenUncovered => Landmark::AskedForToken,
        Doubt::FeedStale => Landmark::AskedStale,
        Doubt::NotFollowed => Landmark::AskedNotFollowed,
        Doubt::Asked => Landmark::AskedContested,
    }
}

fn named(items: &[u64], seen: &Verdicts) -> Vec<u64> {
    items.iter().enumerate().filter(|(at, _)| seen.get(*at)).map(|(_, item)| *item).collect()
}
