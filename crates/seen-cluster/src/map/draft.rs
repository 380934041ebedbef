//! A map that was not checked yet.

use std::collections::BTreeMap;

use seen_filter::{SlotKey, VirtualSet};

use super::plan::Members;
use super::{Epoch, Slot, SlotNumber, balance};

/// What a map is made of, to be written down or changed and then checked: [`super::SlotMap::new`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapDraft {
    /// Which version it is, from 1.
    pub epoch: Epoch,
    /// The cluster, as in Status. Not 0.
    pub cluster: u64,
    /// What spreads users over virtual slots.
    pub slot_key: SlotKey,
    /// Digests of the namespaces' settings that a replica may have. None = any.
    pub settings: Vec<u64>,
    /// The tags of namespaces other than the default one.
    pub namespace_pools: BTreeMap<String, String>,
    /// The tag of all others.
    pub default_pool: String,
    /// The pools.
    pub pools: Vec<PoolDraft>,
}

/// A pool of a [`MapDraft`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PoolDraft {
    /// The tag that requests name it by.
    pub tag: String,
    /// Its slots.
    pub slots: Vec<Slot>,
}

impl PoolDraft {
    /// A pool of slots from 0 on, with these replicas, that own about as many virtual slots each.
    pub fn even(tag: &str, members: &[Members]) -> Self {
        let slot = |(number, members): (usize, &Members)| Slot {
            number: SlotNumber::new(u16::try_from(number).unwrap_or(u16::MAX)),
            replicas: members.replicas.clone(),
            dns: members.dns.clone(),
            srv: members.srv.clone(),
            ..Slot::default()
        };
        let mut slots: Vec<Slot> = members.iter().enumerate().map(slot).collect();
        balance::share_out(&mut slots, &VirtualSet::ALL, &[]);
        Self { tag: tag.to_owned(), slots }
    }
}
