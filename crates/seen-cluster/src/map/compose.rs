//! From a map and what its names stand for to replicas with addresses.

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::check::split_address;
use super::{
    Pool, REPLICAS_MAX, ResolvedMap, ResolvedPool, ResolvedReplica, ResolvedSlot, Slot, SlotMap,
    WEIGHT_DEFAULT, WEIGHT_MAX, name_hash,
};
use super::{Service, names::Names};

/// The map with what its names stand for now. A replica stays at the address that it had in `before` while its name still has it.
pub(super) fn compose(
    map: &Arc<SlotMap>,
    names: &Names,
    before: Option<&ResolvedMap>,
) -> ResolvedMap {
    let pool = |pool: &Arc<Pool>| {
        let before = before.and_then(|before| before.pool(pool.tag()));
        let slot = |slot: &Slot| {
            let before = before
                .and_then(|pool| pool.slots.iter().find(|before| before.number == slot.number));
            compose_slot(slot, names, before)
        };
        ResolvedPool { pool: pool.clone(), slots: pool.slots().iter().map(slot).collect() }
    };
    ResolvedMap {
        map: map.clone(),
        revision: before.map_or(1, |before| before.revision + 1),
        pools: map.pools().iter().map(pool).collect(),
    }
}

fn compose_slot(slot: &Slot, names: &Names, before: Option<&ResolvedSlot>) -> ResolvedSlot {
    let mut replicas = Gathered::default();
    for stated in &slot.replicas {
        let Ok((host, port)) = split_address(&stated.address) else { continue };
        let addresses = names.addresses(host);
        if let Some(address) = choose(&addresses, port, &stated.address, before) {
            replicas.add(&stated.address, address, stated.weight);
        }
    }
    let services = slot.srv.as_deref().map_or(&[][..], |name| names.services(name));
    let best = services.iter().map(|service| service.priority).min();
    for service in services {
        let name = format!("{}:{}", service.target, service.port);
        let addresses = names.addresses(&service.target);
        if let Some(address) = choose(&addresses, service.port, &name, before) {
            replicas.add(&name, address, weight(service, best));
        }
    }
    if let Some((host, port)) = slot.dns.as_deref().and_then(|dns| split_address(dns).ok()) {
        for address in names.addresses(host) {
            let address = SocketAddr::new(address, port);
            replicas.add(&address.to_string(), address, WEIGHT_DEFAULT);
        }
    }
    replicas.into_slot(slot)
}

/// By RFC 2782 a record of the best priority has at least a small chance, and the others none while one of those lives.
fn weight(service: &Service, best: Option<u16>) -> u16 {
    match best == Some(service.priority) {
        true => service.weight.clamp(1, WEIGHT_MAX),
        false => 0,
    }
}

/// One address of a name that stands for one replica: the one that it had, else the lowest.
fn choose(
    addresses: &[IpAddr],
    port: u16,
    name: &str,
    before: Option<&ResolvedSlot>,
) -> Option<SocketAddr> {
    let before = before.and_then(|slot| slot.replicas.iter().find(|one| *one.name == *name));
    let kept = before
        .map(|replica| replica.address)
        .filter(|kept| kept.port() == port && addresses.contains(&kept.ip()));
    kept.or_else(|| addresses.first().map(|ip| SocketAddr::new(*ip, port)))
}

/// A slot's replicas, each name and each address once.
#[derive(Default)]
struct Gathered {
    replicas: Vec<ResolvedReplica>,
    names: HashSet<Arc<str>>,
    addresses: HashSet<SocketAddr>,
}

impl Gathered {
    fn add(&mut self, name: &str, address: SocketAddr, weight: u16) {
        let name: Arc<str> = name.into();
        let room = self.replicas.len() < REPLICAS_MAX && !self.names.contains(&name);
        if room && self.addresses.insert(address) {
            self.names.insert(name.clone());
            let name_hash = name_hash(&name);
            self.replicas.push(ResolvedReplica { name, name_hash, address, weight });
        }
    }

    fn into_slot(mut self, slot: &Slot) -> ResolvedSlot {
        self.replicas.sort_by(|a, b| a.name.cmp(&b.name));
        let weights = self.replicas.iter().map(|replica| (replica.name_hash, replica.weight));
        ResolvedSlot { number: slot.number, weights: weights.collect(), replicas: self.replicas }
    }
}
