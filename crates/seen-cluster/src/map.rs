//! The map of slots: users belong to virtual slots, these to slots of a pool, and slots to replicas.
//!
//! A map is a file in TOML ([`SlotMap::parse`]). It has an [`Epoch`], which each change counts up, and changes while
//! everything runs: whoever reads it looks at the file each second ([`MapSource`]) and takes over what is newer. Two
//! processes may hold different epochs for a while. That is made harmless by the order of a change (coherence rows 34 and
//! 35): a slot follows virtual slots before it owns them (`incoming`), and for a while after it owned them (`leaving`), and a
//! replica that is asked for a user whom it does not follow answers from storage and caches nothing.

pub mod apply;
mod balance;
mod check;
mod compose;
mod dns;
mod draft;
mod error;
mod file;
mod handle;
mod metrics;
mod names;
mod parse;
pub mod plan;
mod render;
mod rendezvous;
mod resolve;
mod resolved;
mod slots;
mod source;

pub use dns::SystemDns;
pub use draft::{MapDraft, PoolDraft};
pub use error::MapError;
pub use file::MapFile;
pub use handle::{MapHandle, MapPublisher};
pub use metrics::MAP_METRICS;
pub use rendezvous::{Ranked, name_hash, preferred, rank};
pub use resolve::{Looked, Resolve, ResolveError, Service};
pub use resolved::{ResolvedMap, ResolvedPool, ResolvedReplica, ResolvedSlot};
pub use slots::{Epoch, Pool, ReplicaAddress, Slot, SlotMap, SlotNumber, key_check};
pub use source::{MapSource, SourceOptions};

/// A tag has at most so many bytes.
pub const TAG_BYTES_MAX: usize = 48;
/// A map has at most so many pools.
pub const POOLS_MAX: usize = 64;
/// A pool has at most so many slots.
pub const SLOTS_MAX: usize = 1_024;
/// A slot has at most so many replicas, and at most so many of those that its names stand for count.
pub const REPLICAS_MAX: usize = 64;
/// A replica's weight is at most this.
pub const WEIGHT_MAX: u16 = 10_000;
/// A replica's weight where none is given.
pub const WEIGHT_DEFAULT: u16 = 100;
/// A map accepts at most so many settings of namespaces.
pub const SETTINGS_MAX: usize = 64;
/// At most so many namespaces have a pool of their own.
pub const NAMESPACE_POOLS_MAX: usize = 1_024;
/// A map's file has at most so many bytes.
pub const MAP_BYTES_MAX: usize = 16 << 20;
