//! The calls of `seen`, whoever answers them, and how they come in by gRPC.
//!
//! - [`calls`]: the one seam between what carries a request's bytes and what answers it. A replica answers from memory and
//!   storage, a proxy by asking a replica; the gRPC service, the lean front beneath it and the link between proxy and
//!   replica only carry.

pub mod calls;

pub use calls::{Call, CallMeta, Calls, Reply, Tag, TraceContext};
