//! The wire of `seen`: the only crate that knows protobuf.
//!
//! - [`v1`]: messages, clients and servers generated from `proto/seen/v1`, checked in.
//! - [`wire`]: reads the two hot requests and writes the hot answer without building messages.
//! - [`token`]: session tokens, which carry "what I have written" from an answer to the next call.
//! - [`model`]: the other requests, validated once at the door.
//! - [`message`]: messages from bytes and to bytes.
//! - [`status`]: one table from error kind to gRPC code, metric label and blame.
//! - [`limits`]: every limit of the API.

pub mod limits;
pub mod message;
pub mod model;
pub mod status;
pub mod token;
pub mod wire;

/// Generated from `proto/seen/v1`; see `examples/generate.rs`.
#[allow(missing_docs, clippy::all, rustdoc::all, reason = "generated")]
pub mod v1 {
    include!("gen/seen.v1.rs");
}

/// The serialized `google.protobuf.FileDescriptorSet` of `proto/seen/v1`, comments included: what
/// server reflection answers from.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!("gen/seen.v1.bin");
