//! SipHash (J.-P. Aumasson, D. J. Bernstein: "SipHash: a fast short-input PRF", 2012), written from
//! the paper: the full 2-4 for strings and key derivation, and the round for the item hash.

/// The four words of a SipHash computation.
#[derive(Clone, Copy)]
pub(crate) struct SipState {
    pub(crate) v0: u64,
    pub(crate) v1: u64,
    pub(crate) v2: u64,
    pub(crate) v3: u64,
}

impl SipState {
    /// The state before the first message word.
    pub(crate) const fn keyed(k0: u64, k1: u64) -> Self {
        Self {
            v0: k0 ^ 0x736f_6d65_7073_6575,
            v1: k1 ^ 0x646f_7261_6e64_6f6d,
            v2: k0 ^ 0x6c79_6765_6e65_7261,
            v3: k1 ^ 0x7465_6462_7974_6573,
        }
    }

    /// One SipRound.
    #[inline(always)]
    pub(crate) const fn round(mut self) -> Self {
        self.v0 = self.v0.wrapping_add(self.v1);
        self.v2 = self.v2.wrapping_add(self.v3);
        self.v1 = self.v1.rotate_left(13) ^ self.v0;
        self.v3 = self.v3.rotate_left(16) ^ self.v2;
        self.v0 = self.v0.rotate_left(32);
        self.v2 = self.v2.wrapping_add(self.v1);
        self.v0 = self.v0.wrapping_add(self.v3);
        self.v1 = self.v1.rotate_left(17) ^ self.v2;
        self.v3 = self.v3.rotate_left(21) ^ self.v0;
        self.v2 = self.v2.rotate_left(32);
        self
    }

    /// Takes in one message word with one round.
    #[inline(always)]
    pub(crate) const fn absorb1(mut self, word: u64) -> Self {
        self.v3 ^= word;
        self = self.round();
        self.v0 ^= word;
        self
    }

    /// The hash after three final rounds.
    #[inline(always)]
    pub(crate) const fn finish3(mut self) -> u64 {
        self.v2 ^= 0xff;
        self = self.round().round().round();
        self.v0 ^ self.v1 ^ self.v2 ^ self.v3
    }
}

/// SipHash-2-4 of a byte string.
pub(crate) fn sip24(k0: u64, k1: u64, bytes: &[u8]) -> u64 {
    let absorb2 = |mut state: SipState, word: u64| {
        state.v3 ^= word;
        state = state.round().round();
        state.v0 ^= word;
        state
    };
    let (words, tail) = bytes.as_chunks::<8>();
    let mut state = SipState::keyed(k0, k1);
    for word in words {
        state = absorb2(state, u64::from_le_bytes(*word));
    }
    let mut last = [0_u8; 8];
    last[..tail.len()].copy_from_slice(tail);
    let length_byte = (bytes.len() as u64) << 56;
    state = absorb2(state, u64::from_le_bytes(last) | length_byte);
    state.v2 ^= 0xff;
    state = state.round().round().round().round();
    state.v0 ^ state.v1 ^ state.v2 ^ state.v3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_example_of_the_paper() {
        let message: Vec<u8> = (0..15).collect();
        let (k0, k1) = (0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908);
        assert_eq!(sip24(k0, k1, &message), 0xa129_ca61_49be_45e5);
    }
}
