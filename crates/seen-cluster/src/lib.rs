//! What proxies and replicas agree on.
//!
//! - [`map`]: users belong to virtual slots, these to slots of pools, and slots to replicas. The map has an epoch, comes from a
//!   watched file, and changes while everything runs.
//! - [`link`]: how requests travel from a proxy to a replica, many in one system call, and how both tell who they are.
//! - [`sabotage`]: what tests take away, to see that it is missed.
//! - [`tls`]: certificates for both ends, read again when they change.

pub mod link;
pub mod map;
pub mod sabotage;
pub mod tls;
