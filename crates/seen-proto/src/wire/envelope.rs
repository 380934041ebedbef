//! What `FilterStreamRequest` and `MarkStreamRequest` have in common: the caller's request id, the
//! time allowed, and the unary request inside.

use super::cursor::{Cursor, DEPTH_MAX};
use super::fields::Once;
use super::{FilterCall, MarkCall, WireError};
use crate::limits::{TIMEOUT_MS_DEFAULT, TIMEOUT_MS_MAX};

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
