//! What the walks of all requests share: fields that come once, ranges of values.

use seen_filter::Kind;
use seen_filter::settings::NAME_BYTES_MAX;

use super::WireError;
use crate::limits::{KIND_MAX, TOKEN_BYTES_MAX};

/// Remembers which singular fields were sent.
#[derive(Debug, Default)]
pub(super) struct Once(u32);

impl Once {
    /// Refuses the second coming of a singular field; its number must be below 32.
    #[inline]
    pub(super) fn claim(&mut self, tag: u32, field: &'static str) -> Result<(), WireError> {
        let bit = 1 << tag;
        if self.0 & bit != 0 {
            return Err(WireError::Repeated(field));
        }
        self.0 |= bit;
        Ok(())
    }
}

/// The part of a message that holds all occurrences of one repeated field.
#[derive(Debug, Default)]
pub(super) struct Region {
    from: usize,
    to: usize,
    /// How many occurrences there are.
    pub(super) fields: usize,
}

impl Region {
    /// Adds an occurrence that lies from `from` to `to`, after those added before.
    #[inline]
    pub(super) fn add(&mut self, from: usize, to: usize) {
        if self.fields == 0 {
            self.from = from;
        }
        self.to = to;
        self.fields += 1;
    }

    /// The part of `raw`.
    pub(super) fn of<'a>(&self, raw: &'a [u8]) -> &'a [u8] {
        raw.get(self.from..self.to).unwrap_or_default()
    }
}

/// A `uint32` as protobuf truncates it, in the range of kinds.
#[inline]
pub(super) fn kind(raw: u64, field: &'static str) -> Result<Kind, WireError> {
    match u8::try_from(raw as u32) {
        Ok(kind) => Ok(Kind::new(kind)),
        Err(_) => {
            let what = format!("{}; kinds are 0 to {KIND_MAX}", raw as u32);
            Err(WireError::invalid(field, what))
        }
    }
}

/// A namespace's name, bounded so that it may be repeated in an error.
#[inline]
pub(super) fn namespace<'a>(name: &'a str, field: &'static str) -> Result<&'a str, WireError> {
    match name.len() {
        0 => Err(WireError::invalid(field, "empty; name a history")),
        bytes if bytes > NAME_BYTES_MAX => {
            let what = format!("a name of {bytes} bytes; names have at most {NAME_BYTES_MAX}");
            Err(WireError::invalid(field, what))
        }
        _ => Ok(name),
    }
}

/// A session token's bytes, bounded.
#[inline]
pub(super) fn token(bytes: &[u8]) -> Result<&[u8], WireError> {
    if bytes.len() > TOKEN_BYTES_MAX {
        let what =
            format!("{} bytes; at most {TOKEN_BYTES_MAX}; send the newest token only", bytes.len());
        return Err(WireError::invalid("token", what));
    }
    Ok(bytes)
}
