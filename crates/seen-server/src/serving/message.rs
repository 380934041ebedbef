//! The one message of a unary request, as gRPC frames it (a flag, a length, the bytes), read just as
//! tonic reads it, its words included: a caller must not see which of the two fronts answered.

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;
use seen_proto::limits::MESSAGE_BYTES_MAX;
use tonic::Status;
use tonic::metadata::MetadataValue;

/// Bytes before each message: a flag, and the length.
pub(super) const PREFIX_BYTES: usize = 5;

/// Refuses what is compressed: no encoding is offered.
///
/// # Errors
/// UNIMPLEMENTED, naming the encoding.
pub(super) fn check_encoding(headers: &HeaderMap) -> Result<(), Status> {
    let Some(encoding) = headers.get("grpc-encoding").map(|value| value.as_bytes()) else {
        return Ok(());
    };
    if encoding == b"identity" {
        return Ok(());
    }
    let named = match str::from_utf8(encoding) {
        Ok(text) => text.to_owned(),
        Err(_) => format!("{encoding:?}"),
    };
    let mut status = Status::unimplemented(format!(
        "Content is compressed with `{named}` which isn't supported"
    ));
    let offered = MetadataValue::from_static("identity");
    status.metadata_mut().insert("grpc-accept-encoding", offered);
    Err(status)
}

/// Takes the first message out of a body that comes in pieces; further ones are read and dropped.
#[derive(Debug, Default)]
pub(super) struct MessageReader {
    /// What is there of a message, or of the bytes before it, that is not whole yet.
    partial: BytesMut,
    /// Length of the message whose bytes are awaited.
    awaited: Option<usize>,
    message: Option<Bytes>,
}

impl MessageReader {
    /// Reads the next piece. One that holds a whole message is not copied.
    ///
    /// # Errors
    /// A bad flag, or a message that is too large: said as soon as it is announced.
    pub(super) fn push(&mut self, mut piece: Bytes) -> Result<(), Status> {
        loop {
            if !self.partial.is_empty() {
                // Put together only once there is enough, so that tiny pieces cost no repeated copies.
                self.partial.extend_from_slice(&piece);
                if self.partial.len() < self.awaited.unwrap_or(PREFIX_BYTES) {
                    return Ok(());
                }
                piece = std::mem::take(&mut self.partial).freeze();
            }
            let length = match self.awaited {
                Some(length) => length,
                None if piece.len() < PREFIX_BYTES => break,
                None => read_prefix(&mut piece)?,
            };
            self.awaited = Some(length);
            if piece.len() < length {
                self.partial.reserve(length);
                break;
            }
            self.message.get_or_insert(piece.split_to(length));
            self.awaited = None;
        }
        self.partial.extend_from_slice(&piece);
        Ok(())
    }

    /// The message, once the body has ended, with trailers or without.
    ///
    /// # Errors
    /// If there was none, or something after it is cut off.
    pub(super) fn finish(self, with_trailers: bool) -> Result<Bytes, Status> {
        if !with_trailers && !self.partial.is_empty() {
            return Err(Status::internal("Unexpected EOF decoding stream."));
        }
        self.message.ok_or_else(|| Status::internal("Missing request message."))
    }
}

/// The length of the message that follows.
fn read_prefix(piece: &mut Bytes) -> Result<usize, Status> {
    match piece.get_u8() {
        0 => {}
        1 => {
            return Err(Status::internal(
                "protocol error: received message with compressed-flag but no grpc-encoding was specified",
            ));
        }
        flag => {
            return Err(Status::internal(format!(
                "protocol error: received message with invalid compression flag: {flag} (valid flags are 0 and 1), while sending request"
            )));
        }
    }
    let length = usize::try_from(piece.get_u32()).unwrap_or(usize::MAX);
    if length > MESSAGE_BYTES_MAX {
        return Err(Status::out_of_range(format!(
            "Error, decoded message length too large: found {length} bytes, the limit is: {MESSAGE_BYTES_MAX} bytes"
        )));
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    fn framed(message: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0];
        bytes.extend((message.len() as u32).to_be_bytes());
        bytes.extend(message);
        bytes
    }

    fn read(pieces: &[&[u8]], with_trailers: bool) -> Result<Bytes, Status> {
        let mut reader = MessageReader::default();
        for piece in pieces {
            reader.push(Bytes::copy_from_slice(piece))?;
        }
        reader.finish(with_trailers)
    }

    #[test]
    fn a_message_is_the_same_however_it_is_cut() {
        let mut body = framed(b"one message");
        body.extend(framed(b""));
        body.extend(framed(b"another"));
        for size in 1..=body.len() {
            let pieces: Vec<&[u8]> = body.chunks(size).collect();
            let message = read(&pieces, false).expect("whole");
            assert_eq!(&message[..], b"one message", "pieces of {size}");
        }
        assert_eq!(read(&[&framed(b"")], false).expect("whole").len(), 0);
    }

    #[test]
    fn a_message_in_one_piece_is_not_copied() {
        let body = Bytes::from(framed(b"lies here"));
        let mut reader = MessageReader::default();
        reader.push(body.clone()).expect("read");
        let message = reader.finish(false).expect("whole");
        assert_eq!(message.as_ptr(), body[PREFIX_BYTES..].as_ptr());
    }

    #[test]
    fn what_is_no_message_is_refused_in_tonics_words() {
        let says = |pieces: &[&[u8]], trailers| {
            let status = read(pieces, trailers).expect_err("none");
            assert_eq!(status.code(), Code::Internal);
            status.message().to_owned()
        };
        assert_eq!(says(&[], false), "Missing request message.");
        assert_eq!(says(&[&[0, 0, 0, 0, 9]], false), "Missing request message.");
        assert_eq!(says(&[&[0, 0]], false), "Unexpected EOF decoding stream.");
        assert_eq!(says(&[&[0, 0, 0, 0, 9], b"cut"], false), "Unexpected EOF decoding stream.");
        assert_eq!(says(&[&[0, 0]], true), "Missing request message.");
        let mut more = framed(b"whole");
        more.push(0);
        assert_eq!(says(&[&more], false), "Unexpected EOF decoding stream.");
        assert!(says(&[&[1, 0, 0, 0, 0]], false).contains("no grpc-encoding"));
        assert!(says(&[&[7, 0, 0, 0, 0]], false).contains("flag: 7"));
    }

    #[test]
    fn a_message_that_is_too_large_is_refused_before_it_comes() {
        let mut reader = MessageReader::default();
        let largest = (MESSAGE_BYTES_MAX as u32).to_be_bytes();
        let mut prefix = vec![0];
        prefix.extend(largest);
        reader.push(Bytes::from(prefix.clone())).expect("just allowed");
        prefix.splice(1.., (MESSAGE_BYTES_MAX as u32 + 1).to_be_bytes());
        let refused = MessageReader::default().push(Bytes::from(prefix)).expect_err("too large");
        assert_eq!(refused.code(), Code::OutOfRange);
    }

    #[test]
    fn only_what_is_not_compressed_is_read() {
        let of = |value: &[u8]| {
            let mut headers = HeaderMap::new();
            headers.insert("grpc-encoding", http::HeaderValue::from_bytes(value).expect("a value"));
            check_encoding(&headers)
        };
        assert!(check_encoding(&HeaderMap::new()).is_ok());
        assert!(of(b"identity").is_ok());
        let refused = of(b"gzip").expect_err("compressed");
        assert_eq!(refused.code(), Code::Unimplemented);
        assert!(refused.message().contains("`gzip`"), "{refused:?}");
    }
}
