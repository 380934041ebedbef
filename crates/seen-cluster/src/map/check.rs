//! What a map must hold to.

use seen_filter::VirtualSet;
use std::collections::HashMap;
use std::sync::Arc;

use seen_filter::hash::VIRTUAL_SLOTS;

use super::{
    MapDraft, MapError, NAMESPACE_POOLS_MAX, POOLS_MAX, Pool, PoolDraft, REPLICAS_MAX,
    SETTINGS_MAX, SLOTS_MAX, Slot, SlotMap, TAG_BYTES_MAX, WEIGHT_MAX,
};

/// Where in a draft something is wrong: whoever has the file's text finds the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Top,
    Pool(usize),
    Slot(usize, usize),
    Replica(usize, usize, usize),
}

/// What is wrong, and where in the draft.
#[derive(Debug)]
pub(super) struct Wrong {
    pub place: Place,
    pub error: MapError,
}

impl Wrong {
    pub fn new(place: Place, error: MapError) -> Self {
        Self { place, error }
    }
}

/// The map of a draft that holds to everything.
pub(super) fn check(mut draft: MapDraft) -> Result<SlotMap, Wrong> {
    top(&draft).map_err(|error| Wrong::new(Place::Top, error))?;
    let mut tags = HashMap::new();
    let mut replicas = HashMap::new();
    for (at, pool) in draft.pools.iter().enumerate() {
        let wrong = |error| Wrong::new(Place::Pool(at), error);
        check_tag("pool.tag", &pool.tag).map_err(wrong)?;
        if tags.insert(pool.tag.as_str(), at).is_some() {
            return Err(wrong(MapError::at("pool.tag", &pool.tag, "two pools have this tag")));
        }
        check_pool(at, pool)?;
        for (slot_at, slot) in pool.slots.iter().enumerate() {
            check_slot(&pool.tag, slot).map_err(|(replica, error)| {
                let whole = Place::Slot(at, slot_at);
                let place = replica.map_or(whole, |replica| Place::Replica(at, slot_at, replica));
                Wrong::new(place, error)
            })?;
            only_here(&mut replicas, pool, slot)
                .map_err(|error| Wrong::new(Place::Slot(at, slot_at), error))?;
        }
    }
    pools_exist(&draft).map_err(|error| Wrong::new(Place::Top, error))?;
    draft.pools.sort_by(|a, b| a.tag.cmp(&b.tag));
    draft.pools.iter_mut().for_each(|pool| pool.slots.sort_by_key(|slot| slot.number));
    let pool = |pool: PoolDraft| Arc::new(Pool::from_checked(pool));
    Ok(SlotMap {
        epoch: draft.epoch,
        cluster: draft.cluster,
        slot_key: draft.slot_key,
        settings: draft.settings,
        namespace_pools: draft.namespace_pools,
        default_pool: draft.default_pool,
        pools: draft.pools.into_iter().map(pool).collect(),
    })
}

fn top(draft: &MapDraft) -> Result<(), MapError> {
    if draft.epoch.get() == 0 {
        return Err(MapError::at("epoch", 0, format!("from 1 to {}", u32::MAX)));
    }
    if draft.cluster == 0 {
        return Err(MapError::at("cluster", 0, "0 is no cluster; Status names it"));
    }
    at_most("settings", draft.settings.len(), SETTINGS_MAX)?;
    at_most("namespace_pools", draft.namespace_pools.len(), NAMESPACE_POOLS_MAX)?;
    if draft.pools.is_empty() {
        return Err(MapError::at("pool", "", "at least 1 pool"));
    }
    at_most("pool", draft.pools.len(), POOLS_MAX)
}

fn at_most(field: &str, count: usize, limit: usize) -> Result<(), MapError> {
    match count > limit {
        true => Err(MapError::at(field, count, format!("at most {limit}"))),
        false => Ok(()),
    }
}

fn pools_exist(draft: &MapDraft) -> Result<(), MapError> {
    let exists = |tag: &str| draft.pools.iter().any(|pool| pool.tag == tag);
    if !exists(&draft.default_pool) {
        return Err(MapError::at("default_pool", &draft.default_pool, "no pool has this tag"));
    }
    match draft.namespace_pools.iter().find(|(_, tag)| !exists(tag)) {
        Some((namespace, tag)) => {
            Err(MapError::at(format!("namespace_pools.{namespace}"), tag, "no pool has this tag"))
        }
        None => Ok(()),
    }
}

/// A tag is a label of metrics, a word on the link and a header's value.
fn check_tag(field: &str, tag: &str) -> Result<(), MapError> {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    match (1..=TAG_BYTES_MAX).contains(&tag.len()) && tag.bytes().all(fine) {
        true => Ok(()),
        false => {
            let problem = format!("1 to {TAG_BYTES_MAX} letters, digits, '-', '_' and '.'");
            Err(MapError::at(field, tag, problem))
        }
    }
}

/// Every virtual slot has one owner, and is on its way to one slot at most.
fn check_pool(at: usize, pool: &PoolDraft) -> Result<(), Wrong> {
    let name = |what: &str| format!("pool.{}.{what}", pool.tag);
    at_most(&name("slot"), pool.slots.len(), SLOTS_MAX)
        .map_err(|error| Wrong::new(Place::Pool(at), error))?;
    let mut numbers = HashMap::new();
    let (mut owned, mut incoming) = (VirtualSet::NONE, VirtualSet::NONE);
    for (slot_at, slot) in pool.slots.iter().enumerate() {
        let wrong = |error| Wrong::new(Place::Slot(at, slot_at), error);
        let number = slot.number;
        if numbers.insert(number, ()).is_some() {
            let problem = format!("two slots of pool {} have this number", pool.tag);
            return Err(wrong(MapError::at(name("slot.number"), number, problem)));
        }
        for (what, sum, part) in
            [("virtual", &mut owned, &slot.owned), ("incoming", &mut incoming, &slot.incoming)]
        {
            let twice = sum.intersection(part);
            if !twice.is_empty() {
                let field = name(&format!("slot.{number}.{what}"));
                return Err(wrong(MapError::at(field, twice, "another slot has these, too")));
            }
            *sum = sum.union(part);
        }
    }
    let missing = VirtualSet::ALL.difference(&owned);
    if !missing.is_empty() {
        let problem = format!("no slot owns {missing}; all of 0-{} must be", VIRTUAL_SLOTS - 1);
        let error = MapError::at(name("slot.virtual"), "", problem);
        return Err(Wrong::new(Place::Pool(at), error));
    }
    Ok(())
}

/// What is wrong with a slot, and with which of its replicas.
fn check_slot(tag: &str, slot: &Slot) -> Result<(), (Option<usize>, MapError)> {
    let name = |what: &str| format!("pool.{tag}.slot.{}.{what}", slot.number);
    let overlaps = [
        ("incoming", &slot.incoming, &slot.owned, "the slot owns these already"),
        ("leaving", &slot.leaving, &slot.owned, "the slot owns these"),
        ("leaving", &slot.leaving, &slot.incoming, "these are incoming, too"),
    ];
    for (what, one, two, problem) in overlaps {
        let both: VirtualSet = one.intersection(two);
        if !both.is_empty() {
            return Err((None, MapError::at(name(what), both, problem)));
        }
    }
    at_most(&name("replicas"), slot.replicas.len(), REPLICAS_MAX).map_err(|error| (None, error))?;
    if slot.replicas.is_empty() && slot.dns.is_none() && slot.srv.is_none() {
        let problem = "at least one of replicas, dns and srv";
        return Err((None, MapError::at(name("replicas"), "", problem)));
    }
    for (at, replica) in slot.replicas.iter().enumerate() {
        split_address(&replica.address)
            .map_err(|problem| MapError::at(name("replicas.address"), &replica.address, problem))
            .map_err(|error| (Some(at), error))?;
        if replica.weight > WEIGHT_MAX {
            let problem = format!("from 0 to {WEIGHT_MAX}");
            let error = MapError::at(name("replicas.weight"), replica.weight, problem);
            return Err((Some(at), error));
        }
    }
    if let Some(dns) = &slot.dns {
        split_address(dns).map_err(|e| (None, MapError::at(name("dns"), dns, e)))?;
    }
    if let Some(srv) = &slot.srv {
        check_host(srv).map_err(|e| (None, MapError::at(name("srv"), srv, e)))?;
    }
    Ok(())
}

/// Pools and slots share no replica: each address and name stands in a map once.
fn only_here<'a>(
    known: &mut HashMap<(&'static str, &'a str), String>,
    pool: &PoolDraft,
    slot: &'a Slot,
) -> Result<(), MapError> {
    let place = format!("pool.{}.slot.{}", pool.tag, slot.number);
    let replicas = slot.replicas.iter().map(|replica| ("replicas", replica.address.as_str()));
    let dns = slot.dns.iter().map(|name| ("dns", name.as_str()));
    let srv = slot.srv.iter().map(|name| ("srv", name.as_str()));
    for (what, name) in replicas.chain(dns).chain(srv) {
        if let Some(other) = known.insert((what, name), place.clone()) {
            let problem = format!("{other} names it, too");
            return Err(MapError::at(format!("{place}.{what}"), name, problem));
        }
    }
    Ok(())
}

/// Host and port of an address.
pub(super) fn split_address(address: &str) -> Result<(&str, u16), String> {
    let form = || "host:port, with a port from 1 to 65535".to_owned();
    let (host, port) = address.rsplit_once(':').ok_or_else(form)?;
    let port = match port.parse::<u16>() {
        Ok(port) if port != 0 && port.to_string().len() == address.len() - host.len() - 1 => port,
        _ => return Err(form()),
    };
    match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
        Some(inner) => match inner.parse::<std::net::Ipv6Addr>() {
            Ok(_) => Ok((inner, port)),
            Err(_) => Err(format!("{inner:?} is no IPv6 address")),
        },
        None => check_host(host).map(|()| (host, port)),
    }
}

fn check_host(host: &str) -> Result<(), String> {
    /// As long as a name of DNS can be.
    const HOST_BYTES_MAX: usize = 253;
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    match (1..=HOST_BYTES_MAX).contains(&host.len()) && host.bytes().all(fine) {
        true => Ok(()),
        false => Err(format!(
            "a host has 1 to {HOST_BYTES_MAX} letters, digits, '-', '_' and '.'; an IPv6 address stands in []"
        )),
    }
}
