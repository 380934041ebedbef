//! The answers to the hot requests, written byte for byte as prost would write the message.

use bytes::BufMut;
use prost::Message;
use prost::encoding::{encode_varint, encoded_len_varint};

use seen_filter::verdicts::Verdicts;

use super::positions::Packed;
use crate::model::Quality;
use crate::v1;

/// Keys of fields 1 to 3 with wire type 2 (bytes), and of the stream's request id.
const KEY_1_BYTES: u8 = 0x0a;
const KEY_2_BYTES: u8 = 0x12;
const KEY_3_BYTES: u8 = 0x1a;
const KEY_1_FIXED64: u8 = 0x09;

/// Writes a `FilterResponse`: the positions of the unread candidates; how far to trust them; and a token, empty to let the
/// caller keep its own.
pub fn encode_filter_response(
    out: &mut impl BufMut,
    unseen: &Verdicts,
    quality: &Quality,
    token: &[u8],
) {
    put_bytes(out, KEY_1_BYTES, Packed::of(unseen).as_slice());
    let quality = v1::Quality::from(*quality);
    out.put_u8(KEY_2_BYTES);
    encode_varint(quality.encoded_len() as u64, out);
    quality.encode_raw(out);
    put_bytes(out, KEY_3_BYTES, token);
}

/// Writes a `MarkResponse`: the token to send from now on, empty to let the caller keep its own.
pub fn encode_mark_response(out: &mut impl BufMut, token: &[u8]) {
    put_bytes(out, KEY_1_BYTES, token);
}

/// Writes a `FilterStreamResponse` or `MarkStreamResponse` around an encoded answer.
pub fn encode_stream_answer(out: &mut impl BufMut, request_id: u64, answer: &[u8]) {
    put_request_id(out, request_id);
    // A oneof is written even when it is empty: it says which of the two it is.
    out.put_u8(KEY_2_BYTES);
    encode_varint(answer.len() as u64, out);
    out.put_slice(answer);
}

/// Writes a `FilterStreamResponse` or `MarkStreamResponse` that says why there is no answer.
pub fn encode_stream_error(out: &mut impl BufMut, request_id: u64, error: &v1::CallError) {
    put_request_id(out, request_id);
    out.put_u8(KEY_3_BYTES);
    encode_varint(error.encoded_len() as u64, out);
    error.encode_raw(out);
}

/// How long [`encode_stream_answer`]'s output is, in bytes, for an answer of this length.
pub fn stream_answer_len(request_id: u64, answer_len: usize) -> usize {
    let id_len = if request_id == 0 { 0 } else { 9 };
    id_len + 1 + encoded_len_varint(answer_len as u64) + answer_len
}

fn put_request_id(out: &mut impl BufMut, request_id: u64) {
    // Proto3 leaves out a scalar that is 0.
    if request_id != 0 {
        out.put_u8(KEY_1_FIXED64);
        out.put_u64_le(request_id);
    }
}

/// Writes a field of bytes; proto3 leaves out an empty one.
fn put_bytes(out: &mut impl BufMut, key: u8, bytes: &[u8]) {
    if !bytes.is_empty() {
        out.put_u8(key);
        encode_varint(bytes.len() as u64, out);
        out.put_slice(bytes);
    }
}
