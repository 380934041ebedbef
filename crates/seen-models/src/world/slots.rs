//! The map of slots at each replica: whose users it may keep, and so which partitions it follows; and users
//! who were moved from one replica to another.

use std::collections::BTreeSet;

use seen_filter::{FeedId, Incarnation, Tick};
use seen_replica::rules::{Claim, Input};

use super::World;
use super::action::name;
use super::config::{PARTITIONS, SESSIONS};
use super::feed::Reader;
use super::storage::feed;
use super::write::{Op, OpState};
use crate::landmark::Landmark;

/// The life of the proxy that moves users.
const PROXY: u64 = 900;

impl World {
    /// The map says of which partitions' users a replica may keep. Their readers come and go later.
    pub(super) fn own_slots(&mut self, replica: u8, owned: u8) -> bool {
        let replica = usize::from(replica) % 2;
        let owned: [bool; PARTITIONS] = std::array::from_fn(|at| owned >> at & 1 == 1);
        self.say(|| format!("the map gives {} the partitions {:?}", name(replica), listed(owned)));
        self.trace(replica, ("own_slots", owned));
        self.replicas[replica].owned = owned;
        self.want_owned(replica);
        true
    }

    pub(super) fn want_owned(&mut self, replica: usize) {
        let Self { config, replicas, .. } = self;
        let rules = &replicas[replica].rules;
        for partition in 0..config.partitions {
            rules.want(feed(partition), replicas[replica].owned[partition], Tick::new(0));
        }
    }

    /// The reader of a partition that is not wanted any more is dropped.
    pub(super) fn unfollowed(&mut self, replica: u8, partition: u8) -> bool {
        let (replica, partition) = (usize::from(replica) % 2, usize::from(partition) % PARTITIONS);
        if !self.must_unfollow(replica, partition) {
            return false;
        }
        self.reach(Landmark::Unfollowed);
        self.say(|| format!("{} follows p{partition} no longer", name(replica)));
        self.replicas[replica].readers[partition] = Reader::default();
        self.trace(replica, ("unfollowed", partition));
        self.step(replica, Input::Unfollowed { feed: feed(partition) });
        true
    }

    /// True if a partition is followed of which nobody may be kept.
    pub fn must_unfollow(&self, replica: usize, partition: usize) -> bool {
        let replicas = &self.replicas;
        replicas[replica].readers[partition].opened && !replicas[replica].owned[partition]
    }

    /// True if a partition is not followed of which users may be kept.
    pub fn must_open(&self, replica: usize, partition: usize) -> bool {
        let Self { replicas, .. } = self;
        !replicas[replica].readers[partition].opened && replicas[replica].owned[partition]
    }

    /// A caller without a token is moved: a claim stands for all that was acknowledged before (rule R9).
    pub(super) fn moved(&mut self, session: u8) -> bool {
        let session = 1 + usize::from(session).saturating_sub(1) % SESSIONS;
        if self.has_token(session) {
            return false;
        }
        let seq = self.id();
        let acked = |(_, op): &(usize, &Op)| op.state == OpState::Acked;
        let knows: BTreeSet<usize> =
            self.ops.iter().enumerate().filter(acked).map(|(at, _)| at).collect();
        let writer = Incarnation::new(PROXY);
        let claim = Claim { feed: FeedId::default(), writer, seq, stamp: None, wildcard: true };
        self.say(|| format!("a proxy moves s{session}, as its move {seq}: it knows {knows:?}"));
        self.sessions[session].claims = vec![claim];
        self.sessions[session].knows = knows;
        true
    }
}

fn listed(owned: [bool; PARTITIONS]) -> Vec<usize> {
    (0..PARTITIONS).filter(|at| owned[*at]).collect()
}
