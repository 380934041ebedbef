//! Maps to test with.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use seen_cluster::map::{Epoch, MapDraft, PoolDraft, ReplicaAddress, Slot, SlotMap, SlotNumber};
use seen_filter::{SlotKey, VirtualSet, VirtualSlot};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::DefaultGuard;
use tracing::{Event, Metadata, Subscriber};

/// The key of all maps here.
pub const KEY: SlotKey = SlotKey::from_words((0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210));

pub fn replica(address: &str, weight: u16) -> ReplicaAddress {
    ReplicaAddress { address: address.to_owned(), weight }
}

pub fn slot(number: u16, owned: &str, replicas: &[&str]) -> Slot {
    Slot {
        number: SlotNumber::new(number),
        owned: VirtualSet::parse(owned).unwrap(),
        replicas: replicas.iter().map(|address| replica(address, 100)).collect(),
        ..Slot::default()
    }
}

/// A map of one pool, `feed`.
pub fn feed(epoch: u32, slots: Vec<Slot>) -> MapDraft {
    MapDraft {
        epoch: Epoch::new(epoch),
        cluster: 0x9f1c,
        slot_key: KEY,
        settings: Vec::new(),
        namespace_pools: BTreeMap::new(),
        default_pool: "feed".to_owned(),
        pools: vec![PoolDraft { tag: "feed".to_owned(), slots }],
    }
}

/// Two slots with two replicas each.
pub fn two_slots() -> SlotMap {
    let slots = vec![
        slot(0, "0-2047", &["10.0.0.1:7430", "10.0.0.2:7430"]),
        slot(1, "2048-4095", &["10.0.1.1:7430", "10.0.1.2:7430"]),
    ];
    SlotMap::new(feed(7, slots)).unwrap()
}

pub fn every_virtual_slot() -> impl Iterator<Item = VirtualSlot> {
    (0..4_096).map(VirtualSlot::new)
}

/// The numbers of the owners of a pool's virtual slots.
pub fn owners(map: &SlotMap, tag: &str) -> Vec<u16> {
    let pool = map.pool(tag).unwrap();
    every_virtual_slot().map(|slot| pool.owner(slot).number.get()).collect()
}

/// Warnings and infos of this thread, while it lives.
#[derive(Clone, Default)]
pub struct Log(Arc<Mutex<Vec<String>>>);

impl Log {
    /// Begins to listen.
    pub fn listen() -> (Self, DefaultGuard) {
        let log = Self::default();
        let guard = tracing::subscriber::set_default(log.clone());
        (log, guard)
    }

    /// What was said since the last time, with its fields.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl Subscriber for Log {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("seen_cluster")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        struct Text(String);
        impl Visit for Text {
            fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
                self.0.push_str(&format!("{}={value:?} ", field.name()));
            }
        }
        let mut text = Text(format!("{} ", event.metadata().level()));
        event.record(&mut text);
        self.0.lock().unwrap().push(text.0);
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}
