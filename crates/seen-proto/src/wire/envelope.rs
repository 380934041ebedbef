//! What `FilterStreamRequest` and `MarkStreamRequest` have in common: the caller's request id, the
//! time allowed, and the unary request inside. And the same of a `FilterUsersRequest`, which has no inside.

use super::cursor::{Cursor, DEPTH_MAX};
use super::fields::Once;
use super::{FilterCall, MarkCall, WireError};
use crate::limits::{PUSH_TIMEOUT_MS_DEFAULT, TIMEOUT_MS_DEFAULT, TIMEOUT_MS_MAX};

/// A message of FilterStream or MarkStream that borrows the raw bytes. Its parts are validated one
/// by one, so that an error in them can be answered under the caller's request id.
#[derive(Clone, Copy, Debug)]
pub struct StreamCall<'a> {
    /// Chosen by the caller; sent back with the answer.
    pub request_id: u64,
    /// The raw unary request, or `None` if there is none.
    payload: Option<&'a [u8]>,
    timeout_ms: u32,
}

impl<'a> StreamCall<'a> {
    /// Reads the envelope only. An error here has no request id to be answered under: it ends the
    /// stream.
    ///
    /// # Errors
    /// [`WireError`], never of the kind `Invalid`.
    pub fn parse(raw: &'a [u8]) -> Result<Self, WireError> {
        let mut call = Self { request_id: 0, payload: None, timeout_ms: 0 };
        let mut once = Once::default();
        let mut cursor = Cursor::new(raw);
        while let Some((tag, wire_type)) = cursor.key()? {
            match tag {
                1 => {
                    once.claim(tag, "request_id")?;
                    call.request_id = cursor.fixed64(wire_type)?;
                }
                2 => {
                    once.claim(tag, "the request inside")?;
                    call.payload = Some(cursor.bytes(wire_type)?);
                }
                3 => {
                    once.claim(tag, "timeout_ms")?;
                    // Truncated as protobuf does with a uint32.
                    call.timeout_ms = cursor.uint(wire_type)? as u32;
                }
                _ => cursor.skip(tag, wire_type, DEPTH_MAX)?,
            }
        }
        Ok(call)
    }

    /// The time until the answer must be sent, in milliseconds, 1 to [`TIMEOUT_MS_MAX`].
    ///
    /// # Errors
    /// [`WireError::Invalid`] if it is longer.
    pub fn timeout_ms(&self) -> Result<u32, WireError> {
        match self.timeout_ms {
            0 => Ok(TIMEOUT_MS_DEFAULT),
            ms if ms <= TIMEOUT_MS_MAX => Ok(ms),
            ms => {
                let what = format!("{ms}; at most {TIMEOUT_MS_MAX}");
                Err(WireError::invalid("timeout_ms", what))
            }
        }
    }

    /// The raw Filter inside a `FilterStreamRequest`.
    ///
    /// # Errors
    /// [`WireError::Invalid`] if there is none.
    pub fn filter_bytes(&self) -> Result<&'a [u8], WireError> {
        self.payload("filter")
    }

    /// The raw Mark inside a `MarkStreamRequest`.
    ///
    /// # Errors
    /// [`WireError::Invalid`] if there is none.
    pub fn mark_bytes(&self) -> Result<&'a [u8], WireError> {
        self.payload("mark")
    }

    /// The Filter inside a `FilterStreamRequest`.
    ///
    /// # Errors
    /// [`WireError`].
    pub fn filter(&self) -> Result<FilterCall<'a>, WireError> {
        FilterCall::parse_at(self.payload("filter")?, DEPTH_MAX - 1)
    }

    /// The Mark inside a `MarkStreamRequest`.
    ///
    /// # Errors
    /// [`WireError`].
    pub fn mark(&self) -> Result<MarkCall<'a>, WireError> {
        MarkCall::parse_at(self.payload("mark")?, DEPTH_MAX - 1)
    }

    fn payload(&self, field: &'static str) -> Result<&'a [u8], WireError> {
        self.payload.ok_or_else(|| WireError::invalid(field, "absent; send the request in it"))
    }
}

/// What must be known of a `FilterUsersRequest` to send it on and to answer it with an error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PushHead {
    /// Chosen by the caller; sent back with the answer.
    pub request_id: u64,
    timeout_ms: u32,
}

impl PushHead {
    /// Reads these two fields and steps over all others. Of repeats the last one counts, as for prost,
    /// which reads the whole message elsewhere.
    ///
    /// # Errors
    /// [`WireError::Malformed`].
    pub fn parse(raw: &[u8]) -> Result<Self, WireError> {
        let mut head = Self::default();
        let mut cursor = Cursor::new(raw);
        while let Some((tag, wire_type)) = cursor.key()? {
            match tag {
                1 => head.request_id = cursor.fixed64(wire_type)?,
                7 => head.timeout_ms = cursor.uint(wire_type)? as u32,
                _ => cursor.skip(tag, wire_type, DEPTH_MAX)?,
            }
        }
        Ok(head)
    }

    /// The time until the answer must be sent, in milliseconds, 1 to [`TIMEOUT_MS_MAX`]; what is longer
    /// is cut to it.
    pub fn timeout_ms(&self) -> u32 {
        match self.timeout_ms {
            0 => PUSH_TIMEOUT_MS_DEFAULT,
            ms => ms.min(TIMEOUT_MS_MAX),
        }
    }
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::v1;

    #[test]
    fn the_head_of_a_push_is_what_prost_reads() {
        let request = |timeout_ms| v1::FilterUsersRequest {
            request_id: 99,
            namespaces: vec!["read".to_owned()],
            users: vec![1, 2, 3],
            timeout_ms,
            ..Default::default()
        };
        let of = |timeout_ms| PushHead::parse(&request(timeout_ms).encode_to_vec());
        assert_eq!(of(40).map(|head| (head.request_id, head.timeout_ms())), Ok((99, 40)));
        assert_eq!(of(0).map(|head| head.timeout_ms()), Ok(PUSH_TIMEOUT_MS_DEFAULT));
        assert_eq!(of(u32::MAX).map(|head| head.timeout_ms()), Ok(TIMEOUT_MS_MAX));
        let mut cut = request(40).encode_to_vec();
        cut.pop();
        assert!(PushHead::parse(&cut).is_err());
    }
}
