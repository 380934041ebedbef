//! Fences on their way: wanted by a replica, written by its process one after the other, told as written
//! or not, lost, and late. Where none can be written, storage's newest commit stands for them.

use seen_filter::{CommitStamp, FenceSeq};
use seen_replica::rules::Input;

use super::action::name;
use super::storage::feed;
use super::{World, nth};

/// A fence that a replica wants written.
#[derive(Clone, Copy, Hash)]
pub struct Fence {
    replica: usize,
    writer: u64,
    partition: usize,
    seq: u64,
    state: State,
}

/// How far a fence is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum State {
    Wanted,
    /// Committed; the replica does not know it yet.
    Written,
    /// Not to be written: this commit, the newest when it was asked for, stands for it.
    Stands(CommitStamp),
    /// Nobody waits for the outcome any more. It may be committed yet, and nobody will be told.
    Straggles,
}

impl Fence {
    pub fn new(replica: usize, writer: u64, partition: usize, seq: FenceSeq) -> Self {
        Self { replica, writer, partition, seq: seq.get(), state: State::Wanted }
    }

    fn is_done(&self) -> bool {
        matches!(self.state, State::Written | State::Stands(_))
    }
}

impl World {
    /// The fences that may be written now: each process writes one after the other.
    fn writable(&self) -> Vec<usize> {
        let waits = |fence: &Fence, at: usize| {
            let before = &self.fences[..at];
            before.iter().any(|b| b.writer == fence.writer && b.state != State::Straggles)
        };
        let may = |(at, fence): &(usize, &Fence)| match fence.state {
            State::Straggles => true,
            State::Wanted => !waits(fence, *at),
            State::Written | State::Stands(_) => false,
        };
        self.fences.iter().enumerate().filter(may).map(|(at, _)| at).collect()
    }

    /// How many fences may be written now, and of how many the replica may be told.
    pub fn fences_open(&self) -> (usize, usize) {
        (self.writable().len(), self.fences.iter().filter(|fence| fence.is_done()).count())
    }

    pub(super) fn fence(&mut self, fence: u8) -> bool {
        let writable = self.writable();
        let Some(at) = nth(&writable, fence, |_| true).map(|at| writable[at]) else { return false };
        let Fence { replica, writer, partition, seq, state } = self.fences[at];
        let owner = name(replica);
        if self.config.stands {
            let head = self.storage.stamp(self.storage.head());
            self.say(|| format!("commit {} stands for fence {seq} of {owner}", head.position));
            self.fences[at].state = State::Stands(head);
        } else {
            let now = self.storage_now();
            let position = self.storage.commit_fence(now, partition, writer, seq);
            self.say(|| format!("commit {position}: fence {seq} of {owner} for p{partition}"));
            self.fences[at].state = State::Written;
        }
        if state == State::Straggles || (self.config.untold && !self.config.stands) {
            self.fences.remove(at);
        }
        true
    }

    /// A fence is not written, or nobody will know that it was.
    pub(super) fn lose_fence(&mut self, fence: u8, late: bool) -> bool {
        let wanted = |fence: &Fence| fence.state == State::Wanted;
        let Some(at) = nth(&self.fences, fence, wanted) else { return false };
        let Fence { replica, partition, seq, .. } = self.fences[at];
        let what = if late { "is not heard of" } else { "is not written" };
        self.say(|| format!("fence {seq} of {} for p{partition} {what}", name(replica)));
        match late {
            true => self.fences[at].state = State::Straggles,
            false => drop(self.fences.remove(at)),
        }
        true
    }

    /// The replica learns that a fence is written, or what stands for it.
    pub(super) fn tell_fence(&mut self, fence: u8) -> bool {
        let Some(at) = nth(&self.fences, fence, Fence::is_done) else { return false };
        let Fence { replica, partition, seq, state, .. } = self.fences.remove(at);
        self.say(|| format!("{} learns of its fence {seq} for p{partition}", name(replica)));
        self.trace(replica, ("fence", partition, seq, state));
        if state == State::Written {
            self.replicas[replica].written.insert((partition, seq));
        }
        let (feed, seq) = (feed(partition), FenceSeq::new(seq));
        let input = match state {
            State::Stands(at) => Input::FenceStands { feed, seq, at },
            _ => Input::FenceWritten { feed, seq },
        };
        self.step(replica, input);
        true
    }

    /// The process that writes a replica's fences is gone: what it has sent may land.
    pub(super) fn orphan_fences(&mut self, replica: usize) {
        self.fences.retain(|fence| fence.replica != replica || !fence.is_done());
        let orphans = self.fences.iter_mut().filter(|fence| fence.replica == replica);
        orphans.for_each(|fence| fence.state = State::Straggles);
    }
}
