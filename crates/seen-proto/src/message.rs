//! Messages that are built, from bytes and to bytes, for those who carry them as bytes.

use bytes::Bytes;
use prost::Message;

use crate::status::{ApiError, ErrorKind};

/// Reads a message.
///
/// # Errors
/// If the bytes are none of this type.
pub fn decode<M: Message + Default>(bytes: Bytes) -> Result<M, ApiError> {
    M::decode(bytes).map_err(|error| {
        let what = format!("the message cannot be read: {error}; encode it with seen/v1/*.proto");
        ApiError::new(ErrorKind::InvalidArgument, what)
    })
}

/// Writes a message.
pub fn encode<M: Message>(message: &M) -> Bytes {
    Bytes::from(message.encode_to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1;

    #[test]
    fn what_is_written_is_read_again() {
        let request = v1::HistoryRequest { user: 7, ..Default::default() };
        assert_eq!(decode(encode(&request)), Ok(request));
    }

    #[test]
    fn other_bytes_are_refused() {
        let refused = decode::<v1::HistoryRequest>(Bytes::from_static(&[0xff; 3]));
        let error = refused.expect_err("no message");
        assert_eq!(error.kind, ErrorKind::InvalidArgument);
        assert!(error.message.contains("cannot be read"), "{error}");
    }
}
