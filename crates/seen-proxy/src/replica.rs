//! One replica, as a proxy sees it.

use std::net::SocketAddr;
use std::sync::Arc;

use ::metrics::Histogram;
use seen_api::Call;
use seen_cluster::link::Link;
use seen_cluster::map::{ResolvedMap, SlotNumber};
use seen_cluster::sabotage::defends;
use seen_filter::{HASH_VERSION, Tick};
use seen_proto::v1::{self, LinkLane};

use crate::breaker::{Breaker, BreakerState};
use crate::health::{Health, Heard, Silence};
use crate::latency::Latency;
use crate::metrics;
use crate::outlier::{Ejection, Record};

/// A replica, by the order in which this proxy came to know it. Never used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReplicaId(pub(crate) u32);

/// Who is to be connected to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Target {
    /// Its pool.
    pub pool: Arc<str>,
    /// Its slot within the pool.
    pub slot: SlotNumber,
    /// Its stable name.
    pub name: Arc<str>,
    /// Where it is.
    pub address: SocketAddr,
}

/// The lanes that a proxy uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    Filters,
    Push,
}

impl Lane {
    pub const ALL: [Lane; 2] = [Self::Filters, Self::Push];

    /// The lane of a call.
    pub const fn of(call: Call) -> Self {
        match call {
            Call::FilterUsers => Self::Push,
            _ => Self::Filters,
        }
    }

    pub const fn wire(self) -> LinkLane {
        match self {
            Self::Filters => LinkLane::Filters,
            Self::Push => LinkLane::Push,
        }
    }
}

/// One replica.
pub(crate) struct Replica {
    pub target: Target,
    /// True if it is this process: see [`Self::is_here`].
    pub here: bool,
    /// Where its slot is in the table: pool and slot.
    pub place: (usize, usize),
    /// By lane; `None` until they are there.
    pub links: [Option<Arc<dyn Link>>; 2],
    pub push_is_up: bool,
    /// By lane: it was connected to, or could not be.
    pub tried: [bool; 2],
    pub heard: Heard,
    pub breaker: Breaker,
    pub ejection: Ejection,
    /// What became of its reads, and of its writes, since it was compared with the others.
    pub record: Record,
    pub writes: Record,
    /// When it answered last.
    pub answered: Tick,
    pub latency: Latency,
    /// By lane.
    pub in_flight: [u32; 2],
    pub state: v1::ReplicaState,
    pub identity: Option<v1::ReplicaIdentity>,
    /// True while requests of its users go to it.
    pub serves: bool,
    /// True once they did.
    pub has_served: bool,
    /// Since when, where it was away before.
    pub back_since: Option<Tick>,
    /// Set once the map does not have it any more: when it is left alone at the latest.
    pub retires: Option<Tick>,
    pub seconds: Histogram,
    /// One of so many answers is measured for the metrics.
    pub sampled: u8,
    /// As the metrics count it.
    pub shown: (Health, BreakerState),
}

impl Replica {
    pub fn new(target: Target, place: (usize, usize), silence: Silence) -> Self {
        let seconds = metrics::replica_seconds(&target.name);
        Self {
            target,
            here: false,
            place,
            links: [None, None],
            push_is_up: false,
            tried: [false, false],
            heard: Heard::new(silence),
            breaker: Breaker::default(),
            ejection: Ejection::default(),
            record: Record::default(),
            writes: Record::default(),
            answered: Tick::new(0),
            latency: Latency::default(),
            in_flight: [0, 0],
            state: v1::ReplicaState::default(),
            identity: None,
            serves: false,
            has_served: false,
            back_since: None,
            retires: None,
            seconds,
            sampled: 0,
            shown: (Health::Down, BreakerState::Closed),
        }
    }

    /// It is this process: it is as alive as whoever asks, and is asked whatever it does, since nobody else can be.
    pub fn is_here(&mut self) {
        self.here = true;
        self.tried = [true, true];
        self.back_since = None;
        self.heard.is_here();
        self.breaker = Breaker::that_stays_closed();
    }

    /// A Filter was answered, unflagged, after so long.
    pub fn filter_took(&mut self, us: u64) {
        self.latency.record(us);
        self.sampled = self.sampled.wrapping_add(1);
        if self.sampled.is_multiple_of(16) {
            self.seconds.record(us as f64 / 1e6);
        }
    }

    /// As the admin service shows it.
    pub fn view(&self, now: Tick) -> v1::ReplicaView {
        v1::ReplicaView {
            pool: self.target.pool.to_string(),
            slot: self.target.slot.get().into(),
            name: self.target.name.to_string(),
            state: self.heard.health(now).label().to_owned(),
            breaker: self.breaker.state().label().to_owned(),
            in_flight: self.in_flight.iter().map(|count| u64::from(*count)).sum(),
            p95_us: self.latency.p95_us().unwrap_or(0),
            feed_lag_us: self.state.feed_lag_us,
        }
    }
}

/// In what a replica differs from whom the map names: a stable name, what was expected, and what came.
pub(crate) fn mismatch(
    identity: &v1::ReplicaIdentity,
    target: &Target,
    map: &ResolvedMap,
) -> Option<(&'static str, String)> {
    let map = &map.map;
    let differs = |what, expected: &dyn std::fmt::Display, found: &dyn std::fmt::Display| {
        Some((what, format!("expected {expected}, found {found}")))
    };
    if identity.cluster != map.cluster {
        let hex = |cluster: u64| format!("{cluster:016x}");
        return differs("cluster", &hex(map.cluster), &hex(identity.cluster));
    }
    if identity.pool != *target.pool {
        return differs("pool", &target.pool, &identity.pool);
    }
    if identity.slot != u32::from(target.slot.get()) {
        return differs("slot", &target.slot, &identity.slot);
    }
    if identity.hash_version != u32::from(HASH_VERSION) {
        return differs("hash", &HASH_VERSION, &identity.hash_version);
    }
    if identity.slot_key_check != map.key_check() && defends("hash.checked") {
        return differs("hash", &"the map's slot_key", &"another one");
    }
    if !map.settings.is_empty() && !map.settings.contains(&identity.settings) {
        let known: Vec<String> =
            map.settings.iter().map(|digest| format!("{digest:016x}")).collect();
        return differs("settings", &known.join(" or "), &format!("{:016x}", identity.settings));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake;

    #[test]
    fn whoever_is_somebody_else_is_told_apart() {
        let map = fake::map(1, &[("feed", 2, 2)]);
        let target = fake::target(&map, "feed", 1, 0);
        let right = fake::identity(&map, &target);
        assert_eq!(mismatch(&right, &target, &map), None);
        type Change = fn(&mut v1::ReplicaIdentity);
        let wrong: [(&str, Change); 6] = [
            ("cluster", |identity| identity.cluster += 1),
            ("pool", |identity| identity.pool = "push".to_owned()),
            ("slot", |identity| identity.slot = 0),
            ("hash", |identity| identity.hash_version += 1),
            ("hash", |identity| identity.slot_key_check += 1),
            ("settings", |identity| identity.settings += 1),
        ];
        for (what, change) in wrong {
            let mut identity = right.clone();
            change(&mut identity);
            let found = mismatch(&identity, &target, &map);
            assert_eq!(found.map(|(what, _)| what), Some(what));
        }
    }
}
