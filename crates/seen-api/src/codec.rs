//! Messages as raw bytes, both ways: what is read by the walker need not become a message first.

use bytes::{Buf, BufMut, Bytes};
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

/// Bytes set aside for a reply before its length is known.
const REPLY_BYTES: usize = 2_048;
/// A stream's replies are written together up to this many bytes.
const YIELD_BYTES: usize = 32_768;

/// Hands messages on as they lie.
#[derive(Clone, Copy, Debug, Default)]
pub struct RawCodec;

/// Writes bytes as they are.
#[derive(Clone, Copy, Debug)]
pub struct RawEncoder;

/// Takes bytes as they are.
#[derive(Clone, Copy, Debug)]
pub struct RawDecoder;

impl Codec for RawCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = RawEncoder;
    type Decoder = RawDecoder;

    fn encoder(&mut self) -> RawEncoder {
        RawEncoder
    }

    fn decoder(&mut self) -> RawDecoder {
        RawDecoder
    }
}

impl Encoder for RawEncoder {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, dst: &mut EncodeBuf<'_>) -> Result<(), Status> {
        dst.put(item);
        Ok(())
    }

    fn buffer_settings(&self) -> BufferSettings {
        BufferSettings::new(REPLY_BYTES, YIELD_BYTES)
    }
}

impl Decoder for RawDecoder {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, src: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(src.copy_to_bytes(src.remaining())))
    }
}
