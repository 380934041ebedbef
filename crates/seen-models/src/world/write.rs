//! Marks, unmarks and forgets: begun, committed, acknowledged, lost.

use std::hash::{Hash, Hasher};

use seen_filter::{CommitStamp, FeedId, Incarnation, Item, UserEpoch, UserId};
use seen_replica::rules::{Claim, Input, Outcome, WriteId};

use super::action::name;
use super::config::{ITEMS, SESSIONS, TOKEN_ELEMENTS_MAX, USERS};
use super::storage::Change;
use super::{World, nth, pick};
use crate::landmark::Landmark;

/// What a write does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OpKind {
    Mark,
    Unmark,
    Forget,
}

/// How far a write is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum OpState {
    /// Sent, or about to be sent.
    Begun,
    /// In storage.
    Committed,
    /// In storage, and the caller knows.
    Acked,
    /// The caller was told that nobody knows; it may still land.
    Lost,
    /// Lost, and landed.
    Landed,
    /// Certainly not in storage.
    Failed,
}

/// One write.
#[derive(Clone, Debug)]
pub struct Op {
    pub kind: OpKind,
    pub user: u64,
    pub items: Vec<u64>,
    pub replica: usize,
    pub incarnation: u64,
    session: usize,
    write: Option<WriteId>,
    pub state: OpState,
    /// A forget by statements has written its control row.
    begun_to_forget: bool,
    /// Timeline, commit, and 1 for a lost write that counts as coming right after that commit.
    pub order: Option<(u64, u64, u8)>,
    pub stamp: Option<CommitStamp>,
    epoch: u32,
    /// When it was acknowledged, in microseconds that have passed.
    pub acked_us: u64,
    /// A restore has undone it.
    pub void: bool,
}

impl Hash for Op {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.kind, self.user, &self.items, self.replica, self.incarnation).hash(state);
        (self.session, self.state, self.begun_to_forget, self.order, self.void).hash(state);
        self.acked_us.hash(state);
    }
}

impl Op {
    /// True if it says something about an item.
    pub fn touches(&self, user: u64, item: u64) -> bool {
        self.user == user && (self.kind == OpKind::Forget || self.items.contains(&item))
    }

    fn can_commit(&self) -> bool {
        matches!(self.state, OpState::Begun | OpState::Lost)
    }

    fn changes(&self) -> Vec<(u64, Change)> {
        let change = |item: &u64| match self.kind {
            OpKind::Mark => (self.user, Change::Add(*item)),
            _ => (self.user, Change::Remove(*item)),
        };
        self.items.iter().map(change).collect()
    }
}

/// The items that a mask names; at least one.
pub fn items_of(mask: u8) -> Vec<u64> {
    let chosen = ITEMS.iter().enumerate().filter(|(bit, _)| mask >> bit & 1 == 1);
    let items: Vec<u64> = chosen.map(|(_, item)| *item).collect();
    if items.is_empty() { vec![ITEMS[0]] } else { items }
}

impl World {
    pub(super) fn begin(
        &mut self,
        kind: OpKind,
        (replica, session, user, items): (u8, u8, u8, u8),
    ) -> bool {
        let replica = usize::from(replica) % 2;
        let session = usize::from(session) % (SESSIONS + 1);
        let user = pick(&USERS, user);
        let items = if kind == OpKind::Forget { Vec::new() } else { items_of(items) };
        let incarnation = self.replicas[replica].incarnation;
        let id = self.ops.len();
        self.say(|| {
            format!("s{session} asks {} to {kind:?} u{user} {items:?} (w{id})", name(replica))
        });
        let marked: Vec<Item> = match kind {
            OpKind::Mark => items.iter().map(|item| Item::new(0, *item)).collect(),
            _ => Vec::new(),
        };
        let mut write = None;
        if kind != OpKind::Forget {
            self.trace(replica, ("begin", user, &marked));
            let input = Input::BeginWrite { user: UserId::new(user), items: &marked };
            if let Outcome::Began(id) = self.step(replica, input) {
                write = Some(id);
            }
        }
        self.ops.push(Op {
            kind,
            user,
            items,
            replica,
            incarnation,
            session,
            write,
            state: OpState::Begun,
            begun_to_forget: false,
            order: None,
            stamp: None,
            epoch: 0,
            acked_us: 0,
            void: false,
        });
        true
    }

    pub(super) fn commit(&mut self, op: u8, with: u8) -> bool {
        let Some(at) = nth(&self.ops, op, Op::can_commit) else { return false };
        if self.ops[at].kind == OpKind::Forget {
            return self.commit_forget(at);
        }
        let mut group = vec![at];
        let mut changes = self.ops[at].changes();
        for other in 0..self.ops.len() {
            let op = &self.ops[other];
            let more = op.changes();
            let free = more.iter().all(|(user, change)| {
                let (Change::Add(item) | Change::Remove(item)) = change else { return false };
                !self.ops[..]
                    .iter()
                    .enumerate()
                    .any(|(at, taken)| group.contains(&at) && taken.touches(*user, *item))
            });
            let fits = op.can_commit() && op.kind != OpKind::Forget && other != at && free;
            if fits && group.len() <= usize::from(with % 4) {
                group.push(other);
                changes.extend(more);
            }
        }
        // The order within a commit is the users', so that one partition's rows lie interleaved.
        changes.sort_by_key(|(user, _)| *user);
        let position = self.storage.commit(self.storage_now(), &changes);
        self.say(|| format!("commit {position}: {}", group_name(&group)));
        group.into_iter().for_each(|at| self.committed(at, position));
        true
    }

    fn committed(&mut self, at: usize, position: u64) {
        let stamp = self.storage.stamp(position);
        let timeline = self.storage.timeline;
        let op = &mut self.ops[at];
        op.order = Some((timeline, position, 0));
        op.stamp = Some(stamp);
        op.void = false;
        let was_lost = op.state == OpState::Lost;
        op.state = if was_lost { OpState::Landed } else { OpState::Committed };
        if was_lost {
            self.reach(Landmark::Landed);
        }
    }

    fn commit_forget(&mut self, at: usize) -> bool {
        let (user, now) = (self.ops[at].user, self.storage_now());
        let head = self.storage.head();
        if !self.config.forget_by_statements {
            let changes = [(user, Change::RemoveAll), (user, Change::Forgotten)];
            let position = self.storage.commit(now, &changes);
            self.ops[at].epoch = self.storage.epoch(user, position);
            self.say(|| format!("commit {position}: w{at} forgets u{user}"));
            self.committed(at, position);
        } else if !self.ops[at].begun_to_forget {
            let position = self.storage.commit(now, &[(user, Change::Forgotten)]);
            self.ops[at].epoch = self.storage.epoch(user, position);
            self.ops[at].begun_to_forget = true;
            self.say(|| format!("commit {position}: w{at} raises the epoch of u{user}"));
        } else {
            let rows = self.storage.rows(user, head);
            let changes: Vec<_> =
                rows.into_iter().map(|item| (user, Change::Remove(item))).collect();
            let position = self.storage.commit(now, &changes);
            self.say(|| format!("commit {position}: w{at} deletes the rows of u{user}"));
            self.committed(at, position);
        }
        true
    }

    pub(super) fn show(&mut self) -> bool {
        let head = self.storage.head();
        if self.storage.visible == head {
            return false;
        }
        self.storage.show(head);
        self.say(|| format!("commits up to {head} become visible"));
        true
    }

    /// Writes that storage may commit now.
    pub fn committable(&self) -> Vec<&Op> {
        self.ops.iter().filter(|op| op.can_commit()).collect()
    }

    /// Writes that a replica may acknowledge now.
    pub fn acknowledgeable(&self) -> Vec<&Op> {
        let ready = |op: &&Op| op.state == OpState::Committed && self.is_alive(op);
        self.ops.iter().filter(ready).collect()
    }

    fn is_alive(&self, op: &Op) -> bool {
        self.replicas[op.replica].incarnation == op.incarnation
    }

    pub(super) fn ack(&mut self, op: u8) -> bool {
        let ready = |op: &Op| op.state == OpState::Committed && self.is_alive(op);
        let Some(at) = nth(&self.ops, op, ready) else { return false };
        let op = self.ops[at].clone();
        if let Some((timeline, position, _)) = op.order
            && timeline == self.storage.timeline
        {
            self.storage.show(position);
        }
        let stamp = op.stamp.filter(|_| self.config.stamps);
        let claim = self.tell(&op, stamp, true);
        self.ops[at].state = OpState::Acked;
        self.ops[at].acked_us = self.waited_us;
        let seq = claim.map_or(0, |claim| claim.seq);
        self.say(|| format!("{} acknowledges w{at} to s{} as {seq}", name(op.replica), op.session));
        if let Some(claim) = claim
            && op.session > 0
        {
            self.sessions[op.session].knows.insert(at);
            self.learn(op.session, op.replica, claim);
        }
        true
    }

    /// Tells the core that a write is committed, or that nobody knows.
    fn tell(&mut self, op: &Op, stamp: Option<CommitStamp>, certain: bool) -> Option<Claim> {
        let user = UserId::new(op.user);
        let items: Vec<Item> = op.items.iter().map(|item| Item::new(0, *item)).collect();
        let write = op.write;
        self.trace(op.replica, ("told", op.kind, op.user, &items, stamp, write.is_some(), certain));
        let input = match (op.kind, write) {
            (OpKind::Mark, Some(write)) if !certain => {
                Input::Uncertain { write, user, items: &items }
            }
            (OpKind::Mark, Some(write)) => Input::Committed { write, user, items: &items, stamp },
            (OpKind::Unmark, Some(write)) => Input::Removed { write, user, items: &items, stamp },
            _ => Input::Forgot { user, epoch: UserEpoch::new(op.epoch), stamp },
        };
        match self.step(op.replica, input) {
            Outcome::Acknowledged(claim) => Some(claim),
            _ => None,
        }
    }

    /// Row 11: the connection breaks while the commit is under way.
    pub(super) fn lose(&mut self, op: u8) -> bool {
        let ready =
            |op: &Op| matches!(op.state, OpState::Begun | OpState::Committed) && self.is_alive(op);
        let Some(at) = nth(&self.ops, op, ready) else { return false };
        self.tell_uncertain(at);
        let after = (self.storage.timeline, self.storage.head(), 1);
        let op = &mut self.ops[at];
        if op.state == OpState::Committed {
            op.state = OpState::Landed;
        } else {
            op.state = OpState::Lost;
            op.order = Some(after);
        }
        true
    }

    /// Row 43: a commit is gone with the server that made it, before anybody was told of it.
    pub(super) fn never_told(&mut self, at: usize) {
        if self.is_alive(&self.ops[at]) {
            self.tell_uncertain(at);
        }
        self.ops[at].state = OpState::Failed;
        self.ops[at].order = None;
    }

    fn tell_uncertain(&mut self, at: usize) {
        self.say(|| format!("nobody knows what became of w{at}"));
        let op = self.ops[at].clone();
        // It may have happened, so that memory must hold it.
        if matches!(op.kind, OpKind::Mark | OpKind::Unmark)
            && op.write.is_some()
            && let Some(claim) = self.tell(&op, None, false)
            && op.session > 0
        {
            self.learn(op.session, op.replica, claim);
        }
    }

    fn abandon(&mut self, op: &Op, write: WriteId) {
        self.trace(op.replica, ("abandoned", op.user));
        self.step(op.replica, Input::Abandoned { write, user: UserId::new(op.user) });
    }

    pub(super) fn fail(&mut self, op: u8) -> bool {
        let ready = |op: &Op| op.state == OpState::Begun && !op.begun_to_forget;
        let Some(at) = nth(&self.ops, op, ready) else { return false };
        self.say(|| format!("w{at} fails"));
        let op = self.ops[at].clone();
        if let Some(write) = op.write
            && self.is_alive(&op)
        {
            self.abandon(&op, write);
        }
        self.ops[at].state = OpState::Failed;
        true
    }

    /// Adds a claim to a session's token, which collapses to a wildcard when it is full.
    fn learn(&mut self, session: usize, replica: usize, claim: Claim) {
        join(&mut self.sessions[session].claims, claim);
        if self.sessions[session].claims.len() > TOKEN_ELEMENTS_MAX {
            let maker = &mut self.replicas[replica];
            maker.wildcards += 1;
            let wildcard = Claim {
                feed: FeedId::default(),
                writer: Incarnation::new(maker.incarnation),
                seq: maker.wildcards,
                stamp: None,
                wildcard: true,
            };
            self.say(|| format!("the token of s{session} collapses to {wildcard:?}"));
            self.sessions[session].claims = vec![wildcard];
        }
    }

    /// True if a session has a token that names anything.
    pub fn has_token(&self, session: usize) -> bool {
        !self.sessions[session].claims.is_empty()
    }

    pub(super) fn merge_sessions(&mut self, from: u8, into: u8) -> bool {
        let from = 1 + usize::from(from) % SESSIONS;
        let into = 1 + usize::from(into) % SESSIONS;
        if from == into {
            return false;
        }
        self.say(|| format!("s{into} takes over the token of s{from}"));
        let knows = self.sessions[from].knows.clone();
        let claims = self.sessions[from].claims.clone();
        self.sessions[into].knows.extend(knows);
        claims.into_iter().for_each(|claim| join(&mut self.sessions[into].claims, claim));
        true
    }
}

fn group_name(group: &[usize]) -> String {
    group.iter().map(|at| format!("w{at}")).collect::<Vec<_>>().join(", ")
}

/// Joins a claim into a set: highest number and highest stamp by feed and writer. Acknowledgements
/// may overtake each other after the commit, so that the two are not of one write.
fn join(claims: &mut Vec<Claim>, claim: Claim) {
    let same = |known: &&mut Claim| {
        known.writer == claim.writer
            && known.wildcard == claim.wildcard
            && (claim.wildcard || known.feed == claim.feed)
    };
    let Some(known) = claims.iter_mut().find(same) else {
        claims.push(claim);
        return;
    };
    known.seq = known.seq.max(claim.seq);
    known.stamp = known.stamp.zip(claim.stamp).and_then(|(a, b)| match a.covers(b) {
        true => Some(a),
        false => b.covers(a).then_some(b),
    });
}
