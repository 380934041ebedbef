//! The replica: holds per-user filters, fills them read-through from a history, writes through to
//! both, and stays coherent by a change feed. It knows no SQL and no Kafka.
//!
//! [`rules`] is the synchronous core that decides everything; the rest of the crate moves bytes,
//! awaits storage and calls [`rules::Rules::step`].

pub mod calls;
mod changes;
pub mod clock;
mod figures;
pub mod grpc;
pub mod link;
pub mod metrics;
pub mod preload;
mod replica;
pub mod rules;
pub mod service;
pub mod settings;
mod storage;
pub mod warm;

pub use calls::ReplicaCalls;
pub use figures::SampleLimits;
pub use replica::{Replica, ReplicaLimits, ReplicaOptions};
pub use storage::{StorageLimits, StorageWork};
