//! Positions packed as varints, eight at a time: what eight bits of a set say is read from a table, and the eight positions that
//! it names (or fewer) are written by one or two words, of which the next overwrites what is too much.

use seen_filter::verdicts::{POSITIONS_MAX, Verdicts};

/// Longest varint of a position, in bytes.
const POSITION_BYTES_MAX: usize = 2;
const _: () = assert!(POSITIONS_MAX <= 1 << (7 * POSITION_BYTES_MAX));
/// The first position whose varint has two bytes.
const LONG_FROM: usize = 0x80;
/// Bytes that are written at once, of which some may be too much.
const STEP_BYTES: usize = 8 * POSITION_BYTES_MAX;
/// A one in each byte, and in each pair of bytes.
const EACH_BYTE: u64 = u64::MAX / 0xff;
const EACH_PAIR: u64 = u64::MAX / 0xffff;

/// The numbers of a byte's bits that are set, ascending from the low end, one in each byte.
static SHORT: [u64; 256] = short();
/// The same, one in each pair of bytes.
static LONG: [[u64; 2]; 256] = long();

const fn short() -> [u64; 256] {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let (mut bit, mut set) = (0, 0);
        while bit < 8 {
            if byte >> bit & 1 == 1 {
                table[byte] |= bit << (8 * set);
                set += 1;
            }
            bit += 1;
        }
        byte += 1;
    }
    table
}

const fn long() -> [[u64; 2]; 256] {
    let mut table = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut at = 0;
        while at < 8 {
            table[byte][at / 4] |= (SHORT[byte] >> (8 * at) & 0xff) << (16 * (at % 4));
            at += 1;
        }
        byte += 1;
    }
    table
}

/// The varints of a set's positions, ascending.
pub(super) struct Packed {
    bytes: [u8; POSITION_BYTES_MAX * POSITIONS_MAX + STEP_BYTES],
    len: usize,
}

impl Packed {
    pub(super) fn of(set: &Verdicts) -> Self {
        let mut packed =
            Self { bytes: [0; POSITION_BYTES_MAX * POSITIONS_MAX + STEP_BYTES], len: 0 };
        // Most requests have fewer candidates than the most that one may have.
        for (index, word) in set.words().iter().enumerate().filter(|(_, word)| **word != 0) {
            for (eighth, byte) in word.to_le_bytes().into_iter().enumerate() {
                packed.put(64 * index + 8 * eighth, byte);
            }
        }
        packed
    }

    pub(super) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Appends the positions from `first` on, a multiple of eight, that `byte` has set.
    #[inline]
    fn put(&mut self, first: usize, byte: u8) {
        let Some(room) = self.bytes.get_mut(self.len..).and_then(<[u8]>::first_chunk_mut) else {
            debug_assert!(false, "the room is that of all positions");
            return;
        };
        let (row, set) = (usize::from(byte), byte.count_ones() as usize);
        if first < LONG_FROM {
            let word = SHORT[row].wrapping_add(first as u64 * EACH_BYTE);
            *room = two_words([word, 0]);
            self.len += set;
        } else {
            // The low seven bits and a sign that more follow, and then the others. The eight positions differ in the three
            // lowest bits only, so that nothing is carried.
            let varint = (first & 0x7f | 0x80 | first >> 7 << 8) as u64;
            *room = two_words(LONG[row].map(|word| word.wrapping_add(varint * EACH_PAIR)));
            self.len += POSITION_BYTES_MAX * set;
        }
    }
}

#[inline]
fn two_words([low, high]: [u64; 2]) -> [u8; STEP_BYTES] {
    (u128::from(low) | u128::from(high) << 64).to_le_bytes()
}
