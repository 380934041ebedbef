//! Lives that end: a replica dies, storage is restored from a backup, another server becomes the primary.

use std::collections::BTreeSet;

use super::action::name;
use super::build::Build;
use super::write::{Op, OpState};
use super::{Replica, World, rules};
use crate::landmark::Landmark;

impl World {
    pub(super) fn crash(&mut self, replica: u8) -> bool {
        let replica = usize::from(replica) % 2;
        let incarnation = self.replicas[replica].incarnation + 10;
        self.say(|| {
            format!("{} dies and starts again as incarnation {incarnation}", name(replica))
        });
        self.reach(Landmark::Crashed);
        let owned = self.replicas[replica].owned;
        let now = self.now(replica);
        self.replicas[replica] = Replica {
            rules: rules(&self.config, replica, incarnation, now),
            incarnation,
            wildcards: 0,
            readers: Default::default(),
            owned,
            written: BTreeSet::new(),
            steps: self.replicas[replica].steps,
            trace: 0,
        };
        self.reads.retain(|read| read.replica != replica);
        self.builds.retain(|build| build.replica != replica);
        self.transfers.retain(|transfer| transfer.to != replica);
        self.orphan_fences(replica);
        // The map is the same; its word comes with the first heartbeat, before anything is asked.
        self.want_owned(replica);
        true
    }

    pub(super) fn restore(&mut self, lost: u8, gap: bool) -> bool {
        if self.config.topic {
            // A topic keeps what its source lost; its reader finds that out, and not the rules.
            return false;
        }
        let head = self.storage.head();
        let to = head - u64::from(lost) % (head + 1);
        self.say(|| format!("storage is restored to commit {to}"));
        self.go_on_from(to, gap);
        true
    }

    /// Storage goes on from an older commit, under a timeline of its own (row 53).
    fn go_on_from(&mut self, to: u64, gap: bool) {
        if to < self.storage.head() {
            self.reach(Landmark::LostCommits);
        }
        self.storage.restore(to);
        let timeline = self.storage.timeline;
        for op in &mut self.ops {
            op.void |= op.order.is_some_and(|order| order.0 < timeline && order.1 > to);
        }
        self.builds.iter_mut().for_each(Build::break_off);
        for replica in &mut self.replicas {
            for (partition, reader) in replica.readers.iter_mut().enumerate() {
                reader.restored(self.storage.log[partition].len(), gap);
            }
        }
    }

    /// Another server becomes the primary (rows 43 and 51). It lacks what no acknowledgement has waited
    /// for, and numbers its commits by itself. Whoever waits for a commit that is gone is never told.
    pub(super) fn promote(&mut self, lost: u8, gap: bool) -> bool {
        let head = self.storage.head();
        let to = head - u64::from(lost) % (head + 1);
        let is_lost = |op: &Op| {
            op.order.is_some_and(|order| order.0 == self.storage.timeline && order.1 > to)
        };
        let kept = |op: &Op| matches!(op.state, OpState::Acked | OpState::Landed) && is_lost(op);
        if self.config.topic || self.ops.iter().any(kept) {
            return false;
        }
        let gone: Vec<bool> = self.ops.iter().map(is_lost).collect();
        self.say(|| format!("another server becomes the primary, as of commit {to}"));
        self.go_on_from(to, gap);
        for at in (0..self.ops.len()).filter(|at| gone[*at]) {
            self.never_told(at);
        }
        true
    }
}
