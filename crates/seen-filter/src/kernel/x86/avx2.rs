//! The inner loops for AVX2: four hashes side by side, and the eight bits of an id in two vectors.

use std::arch::x86_64::*;

use super::{PREPARED, Prepared, block, lack_blocks};
use crate::bloom::{BIT_SHIFTS, Blocks, SPREAD};
use crate::hash::KindKey;
use crate::kernel::{Ahead, BatchMask, Hashes, STRIDE, plain};

/// Four SipHash states.
#[derive(Clone, Copy)]
struct Sip4 {
    v0: __m256i,
    v1: __m256i,
    v2: __m256i,
    v3: __m256i,
}

impl Sip4 {
    #[inline]
    #[target_feature(enable = "avx2")]
    fn keyed(key: &KindKey) -> Self {
        Self {
            v0: all_lanes(key.state.v0),
            v1: all_lanes(key.state.v1),
            v2: all_lanes(key.state.v2),
            v3: all_lanes(key.state.v3),
        }
    }

    /// As [`crate::sip::SipState::round`].
    #[inline]
    #[target_feature(enable = "avx2")]
    fn round(mut self) -> Self {
        self.v0 = _mm256_add_epi64(self.v0, self.v1);
        self.v2 = _mm256_add_epi64(self.v2, self.v3);
        self.v1 = _mm256_xor_si256(rotate_left::<13, 51>(self.v1), self.v0);
        self.v3 = _mm256_xor_si256(rotate_left_16(self.v3), self.v2);
        self.v0 = rotate_left_32(self.v0);
        self.v2 = _mm256_add_epi64(self.v2, self.v1);
        self.v0 = _mm256_add_epi64(self.v0, self.v3);
        self.v1 = _mm256_xor_si256(rotate_left::<17, 47>(self.v1), self.v2);
        self.v3 = _mm256_xor_si256(rotate_left::<21, 43>(self.v3), self.v0);
        self.v2 = rotate_left_32(self.v2);
        self
    }

    /// As [`KindKey::hash`].
    #[inline]
    #[target_feature(enable = "avx2")]
    fn hash(mut self, ids: __m256i) -> __m256i {
        self.v3 = _mm256_xor_si256(self.v3, ids);
        self = self.round();
        self.v0 = _mm256_xor_si256(self.v0, ids);
        self.v2 = _mm256_xor_si256(self.v2, all_lanes(0xff));
        self = self.round().round().round();
        let low = _mm256_xor_si256(self.v0, self.v1);
        _mm256_xor_si256(low, _mm256_xor_si256(self.v2, self.v3))
    }
}

/// See [`crate::kernel::Kernel::hash`].
#[target_feature(enable = "avx2")]
pub(super) fn hash(key: &KindKey, ids: &[[u8; 8]], hashes: &mut Hashes, mut ahead: Ahead<'_>) {
    let keyed = Sip4::keyed(key);
    let (strides, rest) = ids.as_chunks::<STRIDE>();
    let (outs, _) = hashes.as_chunks_mut::<STRIDE>();
    for (ids, out) in strides.iter().zip(outs) {
        ahead.step();
        for (ids, out) in ids.as_chunks::<4>().0.iter().zip(out.as_chunks_mut::<4>().0) {
            // SAFETY: `ids` is 32 readable bytes; the load needs no alignment.
            let ids = unsafe { _mm256_loadu_si256(ids.as_ptr().cast()) };
            *out = lanes(keyed.hash(ids));
        }
    }
    plain::hash(key, rest, &mut hashes[strides.len() * STRIDE..], ahead);
}

/// See [`crate::kernel::Kernel::probe`].
#[target_feature(enable = "avx2")]
pub(super) fn probe<const LAYERS: usize>(
    layers: [Blocks<'_>; LAYERS],
    hashes: &[u64],
    found: &mut BatchMask,
) {
    if lack_blocks(&layers) {
        return plain::probe(layers, hashes, found);
    }
    let prober = Prober::of(layers);
    let mut prepared = Prepared::EMPTY;
    for (mask, hashes) in found.iter_mut().zip(hashes.chunks(PREPARED)) {
        let (groups, rest) = hashes.as_chunks::<4>();
        for (index, group) in groups.iter().enumerate() {
            prober.prepare(group, 4 * index, &mut prepared);
        }
        let whole = hashes.len() - rest.len();
        for index in 0..whole {
            *mask |= prober.contains(&prepared, index) << index;
        }
        if !rest.is_empty() {
            *mask |= plain::probe_64(&layers, rest) << whole;
        }
    }
}

/// See [`crate::kernel::Kernel::scan`]. The plain loop: compiled for AVX2 it compares four at once.
#[target_feature(enable = "avx2")]
pub(super) fn scan<const N: usize>(wanted: &[u64; N], ids: &[[u8; 8]], found: &mut BatchMask) {
    plain::scan(wanted, ids, found);
}

/// What stays the same for all probes of some layers.
struct Prober<'a, const LAYERS: usize> {
    layers: [Blocks<'a>; LAYERS],
    a_blocks: [__m256i; LAYERS],
    b_blocks: [__m256i; LAYERS],
    a_shifts: __m256i,
    b_shifts: __m256i,
}

impl<'a, const LAYERS: usize> Prober<'a, LAYERS> {
    #[inline]
    #[target_feature(enable = "avx2")]
    fn of(layers: [Blocks<'a>; LAYERS]) -> Self {
        let at = |field: usize| i64::from(BIT_SHIFTS[field]);
        Self {
            layers,
            a_blocks: layers.map(|layer| all_lanes(layer.a.len() as u64)),
            b_blocks: layers.map(|layer| all_lanes(layer.b.len() as u64)),
            a_shifts: _mm256_setr_epi64x(at(0), at(1), at(2), at(3)),
            b_shifts: _mm256_setr_epi64x(at(4), at(5), at(6), at(7)),
        }
    }

    /// Computes where to look for four hashes, the first of which is number `first`.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn prepare(&self, hashes: &[u64; 4], first: usize, prepared: &mut Prepared<LAYERS>) {
        // SAFETY: `hashes` is 32 readable bytes; the load needs no alignment.
        let hash = unsafe { _mm256_loadu_si256(hashes.as_ptr().cast()) };
        let high = _mm256_srli_epi64::<32>(hash);
        for layer in 0..LAYERS {
            store(&mut prepared.in_a[layer], first, offsets(high, self.a_blocks[layer]));
            store(&mut prepared.in_b[layer], first, offsets(hash, self.b_blocks[layer]));
        }
        store(&mut prepared.spreads, first, spread(hash, high));
    }

    /// As [`Blocks::contains`], 1 or 0.
    #[inline]
    #[target_feature(enable = "avx2")]
    fn contains(&self, prepared: &Prepared<LAYERS>, index: usize) -> u64 {
        let spread = all_lanes(prepared.spreads[index]);
        let a_bits = _mm256_and_si256(_mm256_srlv_epi64(spread, self.a_shifts), all_lanes(63));
        let b_bits = _mm256_and_si256(_mm256_srlv_epi64(spread, self.b_shifts), all_lanes(63));
        let mut in_any = 0;
        for (at, layer) in self.layers.iter().enumerate() {
            let a = _mm256_srlv_epi64(block(layer.a, prepared.in_a[at][index]), a_bits);
            let b = _mm256_srlv_epi64(block(layer.b, prepared.in_b[at][index]), b_bits);
            in_any |= _mm256_testc_si256(_mm256_and_si256(a, b), all_lanes(1));
        }
        u64::from(in_any.cast_unsigned())
    }
}

/// The byte offsets of the blocks that the low 32 bits of `numbers` pick.
#[inline]
#[target_feature(enable = "avx2")]
fn offsets(numbers: __m256i, blocks: __m256i) -> __m256i {
    let product = _mm256_mul_epu32(numbers, blocks);
    _mm256_slli_epi64::<5>(_mm256_srli_epi64::<32>(product))
}

/// As [`crate::bloom::spread`]: the low half of a 64-bit product, out of 32-bit ones.
#[inline]
#[target_feature(enable = "avx2")]
fn spread(hash: __m256i, high: __m256i) -> __m256i {
    let folded = _mm256_xor_si256(hash, high);
    let (factor_low, factor_high) = (all_lanes(SPREAD & 0xffff_ffff), all_lanes(SPREAD >> 32));
    let high_low = _mm256_mul_epu32(high, factor_low);
    let crossed = _mm256_add_epi64(high_low, _mm256_mul_epu32(folded, factor_high));
    let low_low = _mm256_mul_epu32(folded, factor_low);
    _mm256_add_epi64(low_low, _mm256_slli_epi64::<32>(crossed))
}

#[inline]
#[target_feature(enable = "avx2")]
fn all_lanes(word: u64) -> __m256i {
    _mm256_set1_epi64x(word.cast_signed())
}

#[inline]
#[target_feature(enable = "avx2")]
fn lanes(vector: __m256i) -> [u64; 4] {
    let mut out = [0; 4];
    // SAFETY: `out` is 32 writable bytes; the store needs no alignment.
    unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), vector) };
    out
}

#[inline]
#[target_feature(enable = "avx2")]
fn rotate_left<const LEFT: i32, const RIGHT: i32>(v: __m256i) -> __m256i {
    const { assert!(LEFT + RIGHT == 64) };
    _mm256_or_si256(_mm256_slli_epi64::<LEFT>(v), _mm256_srli_epi64::<RIGHT>(v))
}

#[inline]
#[target_feature(enable = "avx2")]
fn rotate_left_16(v: __m256i) -> __m256i {
    let bytes = _mm_setr_epi8(6, 7, 0, 1, 2, 3, 4, 5, 14, 15, 8, 9, 10, 11, 12, 13);
    _mm256_shuffle_epi8(v, _mm256_broadcastsi128_si256(bytes))
}

#[inline]
#[target_feature(enable = "avx2")]
fn rotate_left_32(v: __m256i) -> __m256i {
    _mm256_shuffle_epi32::<0b10_11_00_01>(v)
}

#[inline]
#[target_feature(enable = "avx2")]
fn store(words: &mut [u64; PREPARED], first: usize, vector: __m256i) {
    if let Some(out) = words[first..].first_chunk_mut::<4>() {
        *out = lanes(vector);
    }
}
