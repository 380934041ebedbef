//! From a map to links: what is new is connected to, what stays is kept as it is, and what is gone is left once it has
//! answered.

use std::collections::HashMap;
use std::sync::Arc;

use seen_cluster::link::{Link, LinkEvents};
use seen_cluster::map::ResolvedMap;
use seen_filter::Tick;
use seen_proto::limits::TIMEOUT_MS_MAX;
use seen_proto::v1::LinkLane;

use crate::latency::Latency;
use crate::net::{Net, PoolTable, SlotTable, Table, check_identity};
use crate::replica::{Lane, Replica, ReplicaId, Target};

/// What a map does not have any more may answer for so long what it was asked: longer than anybody waits. With its link closed
/// before, its last requests would wait for nothing.
const RETIRE_US: u64 = (TIMEOUT_MS_MAX as u64 + 1_000) * 1_000;
/// So many maps are remembered at once.
const EARLIER_MAX: usize = 4;

/// Makes links.
pub trait Connector: Send + Sync + 'static {
    /// A way to a replica, which is opened, and opened again, until it is dropped. Called on the runtime that
    /// [`Proxy::run`](crate::Proxy::run) runs on.
    fn connect(
        &self,
        target: &Target,
        lane: LinkLane,
        events: Arc<dyn LinkEvents>,
    ) -> Arc<dyn Link>;
}

impl Net {
    /// Takes a map over. Returns who is to be connected to.
    pub fn follow(&mut self, now: Tick, resolved: Arc<ResolvedMap>) -> Vec<(ReplicaId, Target)> {
        let mut slots = HashMap::new();
        if let Some(old) = self.table.take() {
            self.remember(now, old.resolved);
            for pool in old.pools {
                for slot in pool.slots {
                    slots.insert((pool.tag.clone(), slot.number), slot.latency);
                }
            }
        }
        let known = self.known();
        let moved = self.claims.draw();
        let mut opened = Vec::new();
        let mut kept = vec![false; self.replicas.len()];
        let mut pools = Vec::with_capacity(resolved.pools.len());
        for (pool_at, pool) in resolved.pools.iter().enumerate() {
            let tag: Arc<str> = pool.pool.tag().into();
            let mut tables = Vec::with_capacity(pool.slots.len());
            for (slot_at, slot) in pool.slots.iter().enumerate() {
                let mut replicas = Vec::with_capacity(slot.replicas.len());
                for replica in &slot.replicas {
                    let (name, address) = (replica.name.clone(), replica.address);
                    let target = Target { pool: tag.clone(), slot: slot.number, name, address };
                    let place = (pool_at, slot_at);
                    let id = match known.get(&target) {
                        Some(id) => self.keep(*id, place, &resolved, &mut kept),
                        None => self.add(target, place, &mut opened),
                    };
                    replicas.push(id);
                }
                let latency: Latency =
                    slots.remove(&(tag.clone(), slot.number)).unwrap_or_default();
                tables.push(SlotTable { number: slot.number, replicas, latency, moved });
            }
            pools.push(PoolTable { tag, slots: tables });
        }
        self.table = Some(Table { resolved, pools });
        let gone = self.replicas.iter_mut().zip(kept).filter(|(_, kept)| !kept);
        for replica in gone.filter_map(|(replica, _)| replica.as_mut()) {
            replica.retires.get_or_insert(now.plus_us(RETIRE_US));
        }
        for at in 0..self.replicas.len() {
            self.refresh(now, ReplicaId(at as u32));
        }
        opened
    }

    /// Takes out whoever is gone from the map and owes nothing any more. What it returns is to be dropped elsewhere.
    pub fn retire(&mut self, now: Tick) -> Vec<Replica> {
        let mut gone = Vec::new();
        for place in &mut self.replicas {
            let over = place.as_ref().is_some_and(|replica| {
                let idle = replica.in_flight == [0, 0];
                replica.retires.is_some_and(|until| idle || now >= until)
            });
            if over && let Some(replica) = place.take() {
                self.metrics.health(Some(replica.shown.0), None);
                self.metrics.breaker(Some(replica.shown.1), None);
                gone.push(replica);
            }
        }
        gone
    }

    /// A link was made.
    pub fn opened(&mut self, id: ReplicaId, lane: Lane, link: Arc<dyn Link>) {
        let Some(replica) = self.replica_mut(id) else { return };
        if link.is_local() {
            replica.is_here();
        }
        if let Some(place) = replica.links.get_mut(lane as usize) {
            *place = Some(link);
        }
    }

    /// A map goes out of use: users whom it sent elsewhere count as moved for a while.
    fn remember(&mut self, now: Tick, old: Arc<ResolvedMap>) {
        let until = now.plus_us(self.moved_for_us());
        self.earlier.push((old, until));
        if self.earlier.len() > EARLIER_MAX {
            self.earlier.remove(0);
            self.all_moved_until = until;
        }
    }

    fn known(&self) -> HashMap<Target, ReplicaId> {
        let known = self.replicas.iter().enumerate();
        known
            .filter_map(|(at, replica)| {
                Some((replica.as_ref()?.target.clone(), ReplicaId(at as u32)))
            })
            .collect()
    }

    fn keep(
        &mut self,
        id: ReplicaId,
        place: (usize, usize),
        resolved: &ResolvedMap,
        kept: &mut [bool],
    ) -> ReplicaId {
        if let Some(kept) = kept.get_mut(id.0 as usize) {
            *kept = true;
        }
        if let Some(replica) = self.replica_mut(id) {
            replica.place = place;
            replica.retires = None;
            // The settings that are accepted may have changed.
            check_identity(replica, resolved);
        }
        id
    }

    fn add(
        &mut self,
        target: Target,
        place: (usize, usize),
        opened: &mut Vec<(ReplicaId, Target)>,
    ) -> ReplicaId {
        let id = ReplicaId(self.replicas.len() as u32);
        let replica = Replica::new(target.clone(), place, self.options.silence());
        self.metrics.health(None, Some(replica.shown.0));
        self.metrics.breaker(None, Some(replica.shown.1));
        self.replicas.push(Some(replica));
        opened.push((id, target));
        id
    }
}
