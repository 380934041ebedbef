//! Candidate ids as they lie in a request: packed little-endian 64-bit words at any alignment,
//! read where they are.

use thiserror::Error;

/// A borrowed run of little-endian 64-bit ids.
#[derive(Clone, Copy, Debug)]
pub struct PackedIds<'a> {
    words: &'a [[u8; 8]],
}

/// The bytes of a packed field are not whole ids.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("packed ids: {bytes} bytes are not a multiple of 8; send each id as a fixed64")]
pub struct PackedIdsError {
    /// The length that was refused.
    pub bytes: usize,
}

impl<'a> PackedIds<'a> {
    /// No ids.
    pub const EMPTY: PackedIds<'static> = PackedIds { words: &[] };

    /// The ids in these bytes.
    ///
    /// # Errors
    /// [`PackedIdsError`] if the length is not a multiple of 8.
    pub const fn new(bytes: &'a [u8]) -> Result<Self, PackedIdsError> {
        match bytes.as_chunks::<8>() {
            (words, []) => Ok(Self { words }),
            _ => Err(PackedIdsError { bytes: bytes.len() }),
        }
    }

    /// How many ids there are.
    pub const fn len(self) -> usize {
        self.words.len()
    }

    /// True if there is none.
    pub const fn is_empty(self) -> bool {
        self.words.is_empty()
    }

    /// The id at a position, or `None` past the end.
    pub fn get(self, position: usize) -> Option<u64> {
        self.words.get(position).map(|word| u64::from_le_bytes(*word))
    }

    /// The ids in order.
    pub fn iter(self) -> impl ExactSizeIterator<Item = u64> + DoubleEndedIterator + 'a {
        self.words.iter().map(|word| u64::from_le_bytes(*word))
    }

    /// The ids as raw little-endian words.
    pub(crate) const fn words(self) -> &'a [[u8; 8]] {
        self.words
    }
}
