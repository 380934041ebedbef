//! The messages of protobuf that travel in frames.

use bytes::Bytes;
use seen_proto::message::{decode, encode};
use seen_proto::status::{ApiError, call_error, from_call_error};
use seen_proto::v1;

use super::LinkError;
use super::frame::{FrameKind, put_frame};

fn put(out: &mut Vec<u8>, kind: FrameKind, payload: &[u8]) {
    put_frame(out, kind, |out| out.extend_from_slice(payload));
}

fn read<M>(message: &'static str, decoded: Result<M, ApiError>) -> Result<M, LinkError> {
    decoded.map_err(|error| LinkError::Protobuf { message, why: error.message })
}

pub(super) fn put_hello(out: &mut Vec<u8>, hello: &v1::LinkHello) {
    put(out, FrameKind::Hello, &encode(hello));
}

pub(super) fn hello(payload: Bytes) -> Result<v1::LinkHello, LinkError> {
    read("LinkHello", decode(payload))
}

pub(super) fn put_welcome(out: &mut Vec<u8>, welcome: &v1::LinkWelcome) {
    put(out, FrameKind::Welcome, &encode(welcome));
}

pub(super) fn welcome(payload: Bytes) -> Result<v1::LinkWelcome, LinkError> {
    read("LinkWelcome", decode(payload))
}

pub(super) fn put_refusal(out: &mut Vec<u8>, refusal: &v1::LinkRefusal) {
    put(out, FrameKind::Refusal, &encode(refusal));
}

pub(super) fn refusal(payload: Bytes) -> Result<v1::LinkRefusal, LinkError> {
    read("LinkRefusal", decode(payload))
}

pub(super) fn put_state(out: &mut Vec<u8>, state: &v1::ReplicaState) {
    put(out, FrameKind::State, &encode(state));
}

pub(super) fn state(payload: Bytes) -> Result<v1::ReplicaState, LinkError> {
    read("ReplicaState", decode(payload))
}

/// The body of a reply that is an error.
pub(super) fn error_body(error: ApiError) -> Bytes {
    encode(&call_error(error))
}

/// Reads it back.
pub(super) fn error_of(body: Bytes) -> Result<ApiError, LinkError> {
    read::<v1::CallError>("CallError", decode(body)).map(|error| from_call_error(&error))
}
