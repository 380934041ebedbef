//! The map with addresses in place of names: what proxies route by.

use std::net::SocketAddr;
use std::sync::Arc;

use seen_filter::VirtualSlot;

use super::compose::compose;
use super::names::Names;
use super::{Pool, Ranked, SlotMap, SlotNumber, preferred, rank};

/// A map whose replicas were looked up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedMap {
    /// The map.
    pub map: Arc<SlotMap>,
    /// Which state of the same source it is: counted up by each change, of the map or of an address.
    pub revision: u64,
    /// As [`SlotMap::pools`], in the same order.
    pub pools: Vec<ResolvedPool>,
}

/// A pool of a [`ResolvedMap`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedPool {
    /// The pool.
    pub pool: Arc<Pool>,
    /// As [`Pool::slots`], in the same order.
    pub slots: Vec<ResolvedSlot>,
}

/// A slot of a [`ResolvedPool`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedSlot {
    /// Its number in the pool.
    pub number: SlotNumber,
    /// Its replicas, by their names. May be none: then no name could be looked up yet.
    pub replicas: Vec<ResolvedReplica>,
    /// Name hash and weight of each replica, in the same order.
    pub weights: Vec<(u64, u16)>,
}

/// A replica of a [`ResolvedSlot`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResolvedReplica {
    /// Its stable name: what the map or an SRV record calls it, or its address if it is one of a name's. Users are bound to replicas by
    /// it, so that a replica which comes back with another address gets the same users.
    pub name: Arc<str>,
    /// [`super::name_hash`] of it.
    pub name_hash: u64,
    /// Where it is now.
    pub address: SocketAddr,
    /// Its share of the slot's users, relative to the others'.
    pub weight: u16,
}

impl ResolvedMap {
    /// A map of addresses only. What it has by name is missing; [`super::MapSource`] looks names up.
    pub fn of_addresses(map: Arc<SlotMap>) -> Self {
        compose(&map, &Names::none(), None)
    }

    /// The pool of a tag.
    pub fn pool(&self, tag: &str) -> Option<&ResolvedPool> {
        self.pools.get(self.pool_index(tag)?)
    }

    /// Where [`Self::pool`] is in [`Self::pools`].
    pub fn pool_index(&self, tag: &str) -> Option<usize> {
        self.pools.binary_search_by(|pool| pool.pool.tag().cmp(tag)).ok()
    }

    /// Each replica, with its pool and slot.
    pub fn replicas(
        &self,
    ) -> impl Iterator<Item = (&ResolvedPool, &ResolvedSlot, &ResolvedReplica)> {
        self.pools.iter().flat_map(|pool| {
            pool.slots.iter().flat_map(move |slot| {
                slot.replicas.iter().map(move |replica| (pool, slot, replica))
            })
        })
    }
}

impl ResolvedPool {
    /// The slot that owns a virtual slot.
    pub fn owner(&self, slot: VirtualSlot) -> &ResolvedSlot {
        &self.slots[self.pool.owner_index(slot)]
    }
}

impl ResolvedSlot {
    /// The replica among those that are usable which a user is bound to.
    pub fn preferred(&self, user_hash: u64, usable: impl Fn(usize) -> bool) -> Option<usize> {
        preferred(user_hash, &self.weights, usable)
    }

    /// The slot's replicas in the order of a user's preference, whether they are ready or not.
    pub fn rank(&self, user_hash: u64) -> Ranked {
        rank(user_hash, &self.weights)
    }
}
