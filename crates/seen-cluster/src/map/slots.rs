//! Pools, their slots, and who owns what.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use seen_filter::hash::VIRTUAL_SLOTS;
use seen_filter::{SlotKey, UserId, VirtualSet, VirtualSlot};

use super::{MapDraft, MapError, PoolDraft, check, parse, render};

/// Which version of the map it is, counted up by each change. 0 = no map.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(u32);

/// The number of a slot within its pool.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotNumber(u16);

impl Epoch {
    /// The epoch with this number.
    pub const fn new(number: u32) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn get(self) -> u32 {
        self.0
    }

    /// The next one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl SlotNumber {
    /// The slot with this number.
    pub const fn new(number: u16) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn get(self) -> u16 {
        self.0
    }
}

impl fmt::Display for SlotNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A replica as a map states it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplicaAddress {
    /// `host:port`; also the stable name by which users are spread over a slot's replicas.
    pub address: String,
    /// Its share of the slot's users, relative to the others'. 0 = only where no other is ready.
    pub weight: u16,
}

/// One slot of a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Slot {
    /// Its number in the pool.
    pub number: SlotNumber,
    /// The virtual slots whose users are sent to it.
    pub owned: VirtualSet,
    /// Virtual slots that it follows and warms, and does not own yet.
    pub incoming: VirtualSet,
    /// Virtual slots that it owned until the change that is going on, and still follows: whoever has not read the new map
    /// yet sends their users here.
    pub leaving: VirtualSet,
    /// Its replicas.
    pub replicas: Vec<ReplicaAddress>,
    /// `host:port`: every address of the name is a replica, too.
    pub dns: Option<String>,
    /// A name whose SRV records are replicas, too, with port and weight.
    pub srv: Option<String>,
}

impl Slot {
    /// What its replicas follow, and so may cache: all that it owns, is about to own, or owned just now (rule R7).
    pub fn followed(&self) -> VirtualSet {
        self.owned.union(&self.incoming).union(&self.leaving)
    }
}

/// The slots that answer requests of one tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pool {
    tag: String,
    slots: Vec<Slot>,
    /// By virtual slot: where its owner is in `slots`.
    owners: Box<[u16; VIRTUAL_SLOTS as usize]>,
}

impl Pool {
    /// A pool that was checked: each virtual slot has one owner, the slots are in their order.
    pub(crate) fn from_checked(draft: PoolDraft) -> Self {
        let mut owners = Box::new([0; VIRTUAL_SLOTS as usize]);
        for (index, slot) in draft.slots.iter().enumerate() {
            for owned in slot.owned.iter() {
                owners[usize::from(owned.get())] = index as u16;
            }
        }
        Self { tag: draft.tag, slots: draft.slots, owners }
    }

    /// The tag that requests name it by.
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// Its slots, by their number.
    pub fn slots(&self) -> &[Slot] {
        &self.slots
    }

    /// The slot that owns a virtual slot.
    pub fn owner(&self, slot: VirtualSlot) -> &Slot {
        &self.slots[self.owner_index(slot)]
    }

    /// Where [`Self::owner`] is in [`Self::slots`].
    pub fn owner_index(&self, slot: VirtualSlot) -> usize {
        usize::from(self.owners[usize::from(slot.get() % VIRTUAL_SLOTS)])
    }

    /// The slot with a number.
    pub fn slot(&self, number: SlotNumber) -> Option<&Slot> {
        let index = self.slots.binary_search_by_key(&number, |slot| slot.number).ok()?;
        self.slots.get(index)
    }
}

/// Who answers for whom, in one epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlotMap {
    /// Which version it is.
    pub epoch: Epoch,
    /// The cluster, as in Status.
    pub cluster: u64,
    /// What spreads users over virtual slots.
    pub slot_key: SlotKey,
    /// Digests of the namespaces' settings that a replica may have. None = any.
    pub settings: Vec<u64>,
    pub(super) namespace_pools: BTreeMap<String, String>,
    pub(super) default_pool: String,
    pub(super) pools: Vec<Arc<Pool>>,
}

impl SlotMap {
    /// The map that a file's text describes.
    ///
    /// # Errors
    ///
    /// What is wrong first, with its field, its value, the limit, and its line where there is one.
    pub fn parse(text: &str) -> Result<Self, MapError> {
        parse::parse(text)
    }

    /// The map that a draft describes.
    ///
    /// # Errors
    ///
    /// As [`Self::parse`], without a line.
    pub fn new(draft: MapDraft) -> Result<Self, MapError> {
        check::check(draft).map_err(|wrong| wrong.error)
    }

    /// The map as a file's text; [`Self::parse`] gives the same map again.
    pub fn to_toml(&self) -> String {
        render::render(self)
    }

    /// What the map was made from, to be changed.
    pub fn to_draft(&self) -> MapDraft {
        let pool =
            |pool: &Arc<Pool>| PoolDraft { tag: pool.tag.clone(), slots: pool.slots.clone() };
        MapDraft {
            epoch: self.epoch,
            cluster: self.cluster,
            slot_key: self.slot_key,
            settings: self.settings.clone(),
            namespace_pools: self.namespace_pools.clone(),
            default_pool: self.default_pool.clone(),
            pools: self.pools.iter().map(pool).collect(),
        }
    }

    /// The pools, by their tags.
    pub fn pools(&self) -> &[Arc<Pool>] {
        &self.pools
    }

    /// The pool of a tag.
    pub fn pool(&self, tag: &str) -> Option<&Arc<Pool>> {
        let index = self.pools.binary_search_by(|pool| pool.tag.as_str().cmp(tag)).ok()?;
        self.pools.get(index)
    }

    /// The tag of requests about a namespace that name none.
    pub fn tag_for(&self, namespace: &str) -> &str {
        self.namespace_pools.get(namespace).unwrap_or(&self.default_pool)
    }

    /// The namespaces whose requests have a tag other than the default one.
    pub fn namespace_pools(&self) -> &BTreeMap<String, String> {
        &self.namespace_pools
    }

    /// The tag of requests that name none, and whose namespace has none.
    pub fn default_pool(&self) -> &str {
        &self.default_pool
    }

    /// The virtual slot of a user.
    pub fn virtual_slot(&self, user: UserId) -> VirtualSlot {
        self.slot_key.virtual_slot(user)
    }

    /// What both ends of a link compare: see [`key_check`].
    pub fn key_check(&self) -> u64 {
        key_check(&self.slot_key)
    }

    /// True while a change is going on: a slot follows what it does not own.
    pub fn is_changing(&self) -> bool {
        let mut slots = self.pools.iter().flat_map(|pool| &pool.slots);
        slots.any(|slot| !slot.incoming.is_empty() || !slot.leaving.is_empty())
    }

    /// True if the other map says the same, whatever its epoch.
    pub fn says_the_same(&self, other: &Self) -> bool {
        let (mut one, mut two) = (self.clone(), other.clone());
        (one.epoch, two.epoch) = (Epoch::default(), Epoch::default());
        one == two
    }
}

/// Tells two keys apart and gives neither away: where the key sends one user. Never 0, which on the link means that none is
/// known.
pub fn key_check(key: &SlotKey) -> u64 {
    // A pseudo-random function at one point. Whoever sees it learns nothing but this one user's virtual slot.
    key.user_hash(UserId::new(u64::MAX)).max(1)
}
