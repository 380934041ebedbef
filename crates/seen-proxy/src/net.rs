//! What a proxy knows: who answers for whom, and how each replica fares.

use std::sync::Arc;

use seen_cluster::link::LinkChange;
use seen_cluster::map::{ResolvedMap, SlotNumber};
use seen_filter::{Tick, VirtualSlot};
use seen_proto::v1;

use crate::budget::Budget;
use crate::health::Health;
use crate::latency::Latency;
use crate::limit::Limit;
use crate::metrics::{self, Metrics};
use crate::moved::{Claims, Lately};
use crate::options::ProxyOptions;
use crate::outlier::{self, Record};
use crate::replica::{Lane, Replica, ReplicaId, mismatch};

/// Replicas that are found within this time of the start, and did not serve before, were not away: it is this proxy that is new.
const START_US: u64 = 2_000_000;
/// How often replicas are compared with each other.
const JUDGE_US: u64 = 1_000_000;

/// A slot, and what is known of it.
pub(crate) struct SlotTable {
    pub number: SlotNumber,
    /// In the order of the map's slot.
    pub replicas: Vec<ReplicaId>,
    pub latency: Latency,
    /// The claim of all who were moved by the last change of readiness.
    pub moved: u64,
}

/// A pool.
pub(crate) struct PoolTable {
    pub tag: Arc<str>,
    /// In the order of the map's pool.
    pub slots: Vec<SlotTable>,
}

/// A map, and what is known of its slots.
pub(crate) struct Table {
    pub resolved: Arc<ResolvedMap>,
    /// In the map's order.
    pub pools: Vec<PoolTable>,
}

/// Whom a request is about, and who is to answer it by the map of this revision.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub user_hash: u64,
    pub pool: usize,
    pub slot: usize,
    pub revision: u64,
}

/// What a proxy knows.
pub(crate) struct Net {
    pub options: ProxyOptions,
    pub table: Option<Table>,
    /// Maps that were in use until lately, and how long they count.
    pub earlier: Vec<(Arc<ResolvedMap>, Tick)>,
    /// Too many maps came at once: until then everybody counts as moved.
    pub all_moved_until: Tick,
    pub replicas: Vec<Option<Replica>>,
    pub budget: Budget,
    pub limit: Limit,
    pub claims: Claims,
    /// Who wrote through this proxy.
    pub wrote: Lately,
    /// Whose writes were acknowledged elsewhere than at home.
    pub strayed: Lately,
    pub metrics: Metrics,
    born: Tick,
    judged: Tick,
}

impl Net {
    pub fn new(options: ProxyOptions, now: Tick) -> Self {
        let moved_for_us = options.moved_for.as_micros() as u64;
        Self {
            table: None,
            earlier: Vec::new(),
            all_moved_until: Tick::new(0),
            replicas: Vec::new(),
            budget: Budget::new(options.extra_share, now),
            limit: match options.limit_adapts {
                true => Limit::new(options.in_flight_max, now),
                false => Limit::fixed(options.in_flight_max, now),
            },
            claims: Claims::default(),
            wrote: Lately::new(moved_for_us, now),
            strayed: Lately::new(moved_for_us, now),
            metrics: Metrics::new(),
            born: now,
            judged: now,
            options,
        }
    }

    pub const fn moved_for_us(&self) -> u64 {
        self.options.moved_for.as_micros() as u64
    }

    pub fn replica(&self, id: ReplicaId) -> Option<&Replica> {
        self.replicas.get(id.0 as usize)?.as_ref()
    }

    pub fn replica_mut(&mut self, id: ReplicaId) -> Option<&mut Replica> {
        self.replicas.get_mut(id.0 as usize)?.as_mut()
    }

    /// Where the user with this hash belongs in the pool at this index of the present map.
    pub fn place(&self, pool: usize, user_hash: u64) -> Option<Place> {
        let table = self.table.as_ref()?;
        let map_pool = &table.resolved.pools.get(pool)?.pool;
        let slot = map_pool.owner_index(virtual_slot(user_hash));
        Some(Place { user_hash, pool, slot, revision: table.resolved.revision })
    }

    /// Where everybody belongs, if there is one replica in all and it is this process: then nothing is to be found out.
    pub fn only_place(&self) -> Option<Place> {
        let [pool] = self.table.as_ref()?.pools.as_slice() else { return None };
        let [slot] = pool.slots.as_slice() else { return None };
        let [replica] = slot.replicas.as_slice() else { return None };
        self.replica(*replica).filter(|replica| replica.here)?;
        self.place(0, 0)
    }

    /// The same place by the present map, if it is another one by now.
    pub fn current(&self, place: Place, tag: &str) -> Option<Place> {
        let table = self.table.as_ref()?;
        if table.resolved.revision == place.revision {
            return Some(place);
        }
        self.place(table.resolved.pool_index(tag)?, place.user_hash)
    }

    pub fn slot(&self, place: Place) -> Option<&SlotTable> {
        self.table.as_ref()?.pools.get(place.pool)?.slots.get(place.slot)
    }

    pub fn slot_mut(&mut self, place: Place) -> Option<&mut SlotTable> {
        self.table.as_mut()?.pools.get_mut(place.pool)?.slots.get_mut(place.slot)
    }

    /// The way to a replica changed. True if what was sent that way is lost.
    pub fn changed(&mut self, now: Tick, id: ReplicaId, lane: Lane, change: LinkChange) -> bool {
        let map = self.table.as_ref().map(|table| table.resolved.clone());
        let Some(replica) = self.replicas.get_mut(id.0 as usize).and_then(Option::as_mut) else {
            return false;
        };
        let lost = matches!(change, LinkChange::Down(_));
        if let Some(tried) = replica.tried.get_mut(lane as usize) {
            *tried = true;
        }
        match (lane, change) {
            (Lane::Filters, LinkChange::Up { identity, state, .. }) => {
                if let Some(map) = map {
                    welcome(replica, now, identity, state, &map);
                }
            }
            (Lane::Filters, LinkChange::State(state)) => {
                replica.heard.said(now, state.ready, state.draining);
                replica.state = state;
            }
            (Lane::Filters, LinkChange::Down(why)) => {
                if replica.heard.health(now) > Health::Refused {
                    tracing::warn!(replica = %replica.target.name, %why, "a replica's link is down");
                }
                replica.heard.down();
                // One that is lost with its work again and again is better left alone.
                if replica.in_flight[Lane::Filters as usize] > 0 {
                    replica.breaker.failed(now);
                }
            }
            (Lane::Push, LinkChange::Up { .. }) => replica.push_is_up = true,
            (Lane::Push, LinkChange::Down(_)) => replica.push_is_up = false,
            (_, LinkChange::Draining) => replica.heard.drains(),
            (lane, LinkChange::Refused(refusal)) => refused(replica, lane, &refusal),
            (Lane::Filters, LinkChange::Life) => replica.heard.life(now),
            // A lane of its own: what is heard there says nothing about whether Filters get through.
            (Lane::Push, LinkChange::Life | LinkChange::State(_)) => {}
        }
        self.refresh(now, id);
        lost
    }

    /// Looks at one replica again: whether requests of its users go to it.
    pub fn refresh(&mut self, now: Tick, id: ReplicaId) {
        let is_new = now.since_us(self.born) < START_US;
        let Some(replica) = self.replicas.get_mut(id.0 as usize).and_then(Option::as_mut) else {
            return;
        };
        let health = replica.heard.health(now);
        let shown = (health, replica.breaker.state());
        if replica.shown.0 != shown.0 {
            self.metrics.health(Some(replica.shown.0), Some(shown.0));
        }
        if replica.shown.1 != shown.1 {
            self.metrics.breaker(Some(replica.shown.1), Some(shown.1));
            let breaker = shown.1.label();
            tracing::info!(replica = %replica.target.name, breaker, "a replica's breaker changed");
        }
        replica.shown = shown;
        let serves = health >= Health::Suspect
            && replica.breaker.is_closed()
            && !replica.ejection.is_on(now);
        if serves == replica.serves {
            return;
        }
        replica.serves = serves;
        if serves && (replica.has_served || !is_new) {
            replica.back_since = Some(now);
        }
        replica.has_served |= serves;
        if replica.retires.is_some() {
            return;
        }
        let place = replica.place;
        tracing::info!(replica = %replica.target.name, state = health.label(), serves, "a replica's users move");
        // From here on users are asked about elsewhere: what was acknowledged until now may not have come by there.
        let moved = self.claims.draw();
        let pool = self.table.as_mut().and_then(|table| table.pools.get_mut(place.0));
        if let Some(slot) = pool.and_then(|pool| pool.slots.get_mut(place.1)) {
            slot.moved = moved;
        }
    }

    /// Time passes; `late_us` as for [`Heard::tick`](crate::health::Heard::tick).
    pub fn tick(&mut self, now: Tick, late_us: u64) {
        for at in 0..self.replicas.len() {
            if let Some(replica) = self.replicas.get_mut(at).and_then(Option::as_mut) {
                replica.heard.tick(now, late_us);
                self.refresh(now, ReplicaId(at as u32));
            }
        }
        self.earlier.retain(|(_, until)| *until > now);
        self.limit.tick(now);
        if now.since_us(self.judged) >= JUDGE_US {
            self.judged = now;
            self.judge(now);
        }
    }

    /// Compares the replicas of each slot with each other.
    fn judge(&mut self, now: Tick) {
        let slots = self.table.iter().flat_map(|table| &table.pools).flat_map(|pool| &pool.slots);
        let slots: Vec<Vec<ReplicaId>> = slots.map(|slot| slot.replicas.clone()).collect();
        for mut serving in slots {
            serving.retain(|id| self.replica(*id).is_some_and(|replica| replica.serves));
            let records = |of: fn(&Replica) -> Record| -> Vec<Record> {
                let record = |id| self.replica(id).map_or(Record::default(), of);
                serving.iter().copied().map(record).collect()
            };
            let worst = outlier::worst(&records(|replica| replica.record))
                .or_else(|| outlier::worst(&records(|replica| replica.writes)));
            let Some((id, reason)) = worst.and_then(|(at, why)| Some((*serving.get(at)?, why)))
            else {
                continue;
            };
            self.metrics.ejected(reason);
            if let Some(replica) = self.replica_mut(id) {
                replica.ejection.begin(now);
                tracing::warn!(
                    replica = %replica.target.name,
                    reason = reason.label(),
                    "a replica is far worse than the others of its slot, and left out for a while"
                );
            }
            self.refresh(now, id);
        }
        for replica in self.replicas.iter_mut().flatten() {
            (replica.record, replica.writes) = Default::default();
        }
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for replica in self.replicas.iter().flatten() {
            self.metrics.health(Some(replica.shown.0), None);
            self.metrics.breaker(Some(replica.shown.1), None);
        }
    }
}

/// The virtual slot of a user, by its hash.
pub(crate) fn virtual_slot(user_hash: u64) -> VirtualSlot {
    VirtualSlot::new((user_hash % u64::from(seen_filter::hash::VIRTUAL_SLOTS)) as u16)
}

/// A connection is open: is it the right one?
fn welcome(
    replica: &mut Replica,
    now: Tick,
    identity: v1::ReplicaIdentity,
    state: v1::ReplicaState,
    map: &ResolvedMap,
) {
    // Another life of the process: what was known of the one before says nothing.
    if replica.identity.as_ref().is_some_and(|known| known.incarnation != identity.incarnation) {
        if !replica.here {
            replica.breaker = Default::default();
        }
        replica.ejection = Default::default();
    }
    replica.heard.connected(now, state.ready, state.draining);
    replica.state = state;
    replica.identity = Some(identity);
    check_identity(replica, map);
}

/// Refuses a replica that is not who the map says. Loudly: somebody has to correct the map or the replica.
pub(crate) fn check_identity(replica: &mut Replica, map: &ResolvedMap) {
    let Some(identity) = &replica.identity else { return };
    let Some((what, why)) = mismatch(identity, &replica.target, map) else {
        return replica.heard.accepted();
    };
    replica.heard.refused();
    metrics::mismatch(what);
    tracing::error!(
        replica = %replica.target.name,
        address = %replica.target.address,
        what,
        "not the replica that the map names, and not used: {why}"
    );
}

fn refused(replica: &mut Replica, lane: Lane, refusal: &v1::LinkRefusal) {
    // BUSY is a matter of load, and passes.
    if refusal.reason != "BUSY" && lane == Lane::Filters {
        replica.heard.refused();
    }
    metrics::mismatch("refused");
    tracing::error!(
        replica = %replica.target.name,
        address = %replica.target.address,
        lane = ?lane,
        reason = refusal.reason,
        "a replica refuses this proxy: {}",
        refusal.message
    );
}
