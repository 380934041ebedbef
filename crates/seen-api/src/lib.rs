//! The calls of `seen`, whoever answers them, and how they come in by gRPC.
//!
//! - [`calls`]: the one seam between what carries a request's bytes and what answers it. A replica answers from memory and
//!   storage, a proxy by asking a replica; the gRPC service, the lean front beneath it and the link between proxy and
//!   replica only carry.

//! - [`grpc`]: the gRPC service over any [`Calls`], by tonic.
//! - [`meta`]: what a call's headers say: deadline, tag and trace.
//! - [`reply`]: a reply that a task awaits.
//! - [`trace`]: spans of the calls that are sampled.

pub mod calls;
mod codec;
mod deadline;
pub mod grpc;
pub mod meta;
pub mod reply;
mod streams;
pub mod trace;

pub use calls::{Call, CallMeta, Calls, Reply, Tag, TraceContext};
pub use codec::RawCodec;
pub use deadline::timeout_us;
pub use grpc::SeenGrpc;
pub use trace::{Span, Tracer};
