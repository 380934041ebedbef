//! Layouts that were weighed against the one in use, over the same keyed hash.

use std::hint::black_box;

use seen_filter::hash::KindKey;
use seen_filter::{PackedIds, Verdicts};

/// The bits of the same memory as the state in use has.
fn words_for(bytes: usize) -> Vec<u64> {
    vec![0; bytes / 8]
}

/// A Bloom filter whose seven bits lie anywhere, at `a + i * b` of the hash's halves.
#[derive(Clone)]
pub struct Classic {
    words: Vec<u64>,
}

const CLASSIC_BITS: u64 = 7;

impl Classic {
    pub fn build(key: &KindKey, ids: &[u64], bytes: usize) -> Self {
        let mut filter = Self { words: words_for(bytes) };
        for id in ids {
            for at in filter.bits(key.hash(*id)) {
                filter.words[at / 64] |= 1 << (at % 64);
            }
        }
        filter
    }

    #[inline(always)]
    fn bits(&self, hash: u64) -> impl Iterator<Item = usize> + use<> {
        let bits = 64 * self.words.len() as u64;
        let (a, b) = (hash >> 32, hash & 0xffff_ffff | 1);
        (0..CLASSIC_BITS).map(move |i| ((((a + i * b) & 0xffff_ffff) * bits) >> 32) as usize)
    }

    #[inline(always)]
    fn bit(&self, at: usize) -> bool {
        self.words[at / 64] >> (at % 64) & 1 == 1
    }

    pub fn check(&self, key: &KindKey, request: &[u8], seen: &mut Verdicts) {
        touch(&self.words);
        each(request, |position, id| {
            let set = self.bits(key.hash(id)).fold(true, |all, at| all & self.bit(at));
            seen.set_if(position, set);
        });
    }

    pub fn check_with_early_exit(&self, key: &KindKey, request: &[u8], seen: &mut Verdicts) {
        each(request, |position, id| {
            let set = self.bits(key.hash(id)).all(|at| self.bit(at));
            seen.set_if(position, set);
        });
    }
}

/// A Bloom filter of 512-bit blocks, one cache line each, with seven bits in one of them.
#[derive(Clone)]
pub struct Lines {
    lines: Vec<[u64; 8]>,
}

impl Lines {
    pub fn build(key: &KindKey, ids: &[u64], bytes: usize) -> Self {
        let mut filter = Self { lines: vec![[0; 8]; bytes.div_ceil(64)] };
        for id in ids {
            let (line, bits) = filter.bits(key.hash(*id));
            for at in bits {
                filter.lines[line][at / 64] |= 1 << (at % 64);
            }
        }
        filter
    }

    #[inline(always)]
    fn bits(&self, hash: u64) -> (usize, impl Iterator<Item = usize> + use<>) {
        let line = (((hash >> 32) * self.lines.len() as u64) >> 32) as usize;
        let spread = (hash ^ hash >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (line, (0..7).map(move |i| (spread >> (1 + 9 * i) & 511) as usize))
    }

    pub fn check(&self, key: &KindKey, request: &[u8], seen: &mut Verdicts) {
        touch(self.lines.as_flattened());
        each(request, |position, id| {
            let (line, bits) = self.bits(key.hash(id));
            let line = &self.lines[line];
            let bit = |at: usize| line[at / 64] >> (at % 64) & 1 == 1;
            seen.set_if(position, bits.fold(true, |all, at| all & bit(at)));
        });
    }
}

/// Calls `f` with the position and id of each candidate.
#[inline(always)]
pub fn each(request: &[u8], mut f: impl FnMut(usize, u64)) {
    let ids = PackedIds::new(request).unwrap_or(PackedIds::EMPTY);
    ids.iter().enumerate().for_each(|(position, id)| f(position, id));
}

/// Reads a word of every cache line, which the CPU does for many lines at once: stands in for the
/// prefetches of the layout in use.
#[inline(always)]
fn touch(words: &[u64]) {
    black_box(words.iter().step_by(8).fold(0, |sum, word| sum ^ word));
}
