//! The layout of a Bloom layer: where the bits of an item are.
//!
//! A layer is a run of 256-bit blocks (four 64-bit words) in two parts. An item's hash picks one
//! block of each part and one bit of each word of both: eight bits in two cache lines, found by two
//! vector loads. Two small independent blocks come close to a Bloom filter without blocks (9.9
//! instead of 9.6 bits an item at 1 %), because an id that meets one crowded block rarely meets two.

use crate::sizing::parts;

/// 64-bit words of one block.
pub(crate) const BLOCK_WORDS: usize = 4;

/// One block.
pub(crate) type Block = [u64; BLOCK_WORDS];

/// An odd constant (2^64 divided by the golden ratio) that spreads a hash once more for its bits.
pub(crate) const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// Where the six-bit numbers of the eight bits begin in the spread hash: its 48 best mixed bits.
pub(crate) const BIT_SHIFTS: [u32; 8] = [16, 22, 28, 34, 40, 46, 52, 58];

/// The blocks of one layer, both parts.
#[derive(Clone, Copy)]
pub(crate) struct Blocks<'a> {
    pub(crate) a: &'a [Block],
    pub(crate) b: &'a [Block],
}

impl<'a> Blocks<'a> {
    /// The two parts of a layer's words; a tail that fills no block is ignored.
    pub(crate) fn of(words: &'a [u64]) -> Self {
        let blocks = words.as_chunks::<BLOCK_WORDS>().0;
        let (a, b) = blocks.split_at(parts(blocks.len() as u32).0 as usize);
        Self { a, b }
    }

    /// The block of each part that the item with this hash has its bits in.
    #[inline(always)]
    pub(crate) const fn picks(self, hash: u64) -> (usize, usize) {
        (pick(hash >> 32, self.a.len()), pick(hash, self.b.len()))
    }

    /// True if all bits of the item with this hash are set.
    #[inline(always)]
    pub(crate) fn contains(self, hash: u64) -> bool {
        let (in_a, in_b) = self.picks(hash);
        let (Some(a), Some(b)) = (self.a.get(in_a), self.b.get(in_b)) else { return false };
        let spread = spread(hash);
        let bit = |word: u64, field: usize| word >> (spread >> BIT_SHIFTS[field] & 63);
        let in_a = bit(a[0], 0) & bit(a[1], 1) & bit(a[2], 2) & bit(a[3], 3);
        let in_b = bit(b[0], 4) & bit(b[1], 5) & bit(b[2], 6) & bit(b[3], 7);
        in_a & in_b & 1 == 1
    }

    /// The false-positive rate that the bits set in this very layer give to a random unread id.
    pub(crate) fn rate(self) -> f64 {
        part_rate(self.a) * part_rate(self.b)
    }

    /// The share of bits that are set.
    pub(crate) fn fill(self) -> f64 {
        let words = self.a.iter().chain(self.b).flatten();
        let ones: u64 = words.map(|word| u64::from(word.count_ones())).sum();
        ones as f64 / (256 * (self.a.len() + self.b.len()).max(1)) as f64
    }
}

/// Sets the bits of the item with this hash in a layer's words.
pub(crate) fn set(words: &mut [u64], hash: u64) {
    let blocks = words.as_chunks_mut::<BLOCK_WORDS>().0;
    let (a, b) = blocks.split_at_mut(parts(blocks.len() as u32).0 as usize);
    let spread = spread(hash);
    let bit = |field: usize| 1 << (spread >> BIT_SHIFTS[field] & 63);
    if let Some(block) = a.get_mut(pick(hash >> 32, a.len())) {
        (0..BLOCK_WORDS).for_each(|word| block[word] |= bit(word));
    }
    if let Some(block) = b.get_mut(pick(hash, b.len())) {
        (0..BLOCK_WORDS).for_each(|word| block[word] |= bit(BLOCK_WORDS + word));
    }
}

/// Maps the low 32 bits of `half` to `0..blocks`.
#[inline(always)]
const fn pick(half: u64, blocks: usize) -> usize {
    (((half & 0xffff_ffff) * blocks as u64) >> 32) as usize
}

/// The hash for the bits. Block numbers are made of the top bits of either half, so the halves are
/// folded first: what is left free in one half then reaches all bits, however many blocks there are.
#[inline(always)]
pub(crate) const fn spread(hash: u64) -> u64 {
    (hash ^ (hash >> 32)).wrapping_mul(SPREAD)
}

fn part_rate(blocks: &[Block]) -> f64 {
    let share = |word: &u64| f64::from(word.count_ones()) / 64.0;
    let sum: f64 = blocks.iter().map(|block| block.iter().map(share).product::<f64>()).sum();
    sum / blocks.len().max(1) as f64
}
