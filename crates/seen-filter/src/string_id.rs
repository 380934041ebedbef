//! String ids as 64-bit ids.

use crate::sip::sip24;

/// The key of a string mapping. All clients of a history must use the same one for ever, since the
/// mapped ids are what is stored; it is not the server's [`crate::HashKey`].
#[derive(Clone, Copy)]
pub struct StringKey {
    k0: u64,
    k1: u64,
}

impl StringKey {
    /// A key from 16 bytes, drawn at random once for an application.
    pub const fn new(secret: [u8; 16]) -> Self {
        let key = u128::from_le_bytes(secret);
        Self { k0: key as u64, k1: (key >> 64) as u64 }
    }
}

impl std::fmt::Debug for StringKey {
    /// Leaves the secret out.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StringKey").finish_non_exhaustive()
    }
}

/// The id of a string: SipHash-2-4 of its UTF-8 bytes under a 128-bit key, read little-endian.
///
/// Two given strings share an id with probability 2^-64. Among `n` strings of one kind the odds that
/// any two do are about `n^2 / 2^65`: 1 in 37 million for a million strings, 1 in 37 for a billion.
/// For one user the odds count the strings that the user is asked about: with 100,000 items read
/// and 1,000,000 others asked, 1 in 180 million. Whoever does not know the key cannot make
/// colliding strings. Strings are taken as they are: normalise and fold case before, if it matters.
pub fn string_id(key: &StringKey, text: &str) -> u64 {
    sip24(key.k0, key.k1, text.as_bytes())
}
