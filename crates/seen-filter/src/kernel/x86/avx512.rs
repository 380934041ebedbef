//! The inner loops for AVX-512: eight hashes side by side, and the eight bits of an id in one vector.

use std::arch::x86_64::*;

use super::{PREPARED, Prepared, block, lack_blocks};
use crate::bloom::{BIT_SHIFTS, Blocks, SPREAD};
use crate::hash::KindKey;
use crate::kernel::{Ahead, BatchMask, Hashes, STRIDE, plain};

/// Eight SipHash states.
#[derive(Clone, Copy)]
struct Sip8 {
    v0: __m512i,
    v1: __m512i,
    v2: __m512i,
    v3: __m512i,
}

impl Sip8 {
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl")]
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
    #[target_feature(enable = "avx512f,avx512dq,avx512vl")]
    fn round(mut self) -> Self {
        self.v0 = _mm512_add_epi64(self.v0, self.v1);
        self.v2 = _mm512_add_epi64(self.v2, self.v3);
        self.v1 = _mm512_xor_si512(_mm512_rol_epi64::<13>(self.v1), self.v0);
        self.v3 = _mm512_xor_si512(_mm512_rol_epi64::<16>(self.v3), self.v2);
        self.v0 = _mm512_rol_epi64::<32>(self.v0);
        self.v2 = _mm512_add_epi64(self.v2, self.v1);
        self.v0 = _mm512_add_epi64(self.v0, self.v3);
        self.v1 = _mm512_xor_si512(_mm512_rol_epi64::<17>(self.v1), self.v2);
        self.v3 = _mm512_xor_si512(_mm512_rol_epi64::<21>(self.v3), self.v0);
        self.v2 = _mm512_rol_epi64::<32>(self.v2);
        self
    }

    /// As [`KindKey::hash`].
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl")]
    fn hash(mut self, ids: __m512i) -> __m512i {
        self.v3 = _mm512_xor_si512(self.v3, ids);
        self = self.round();
        self.v0 = _mm512_xor_si512(self.v0, ids);
        self.v2 = _mm512_xor_si512(self.v2, all_lanes(0xff));
        self = self.round().round().round();
        let low = _mm512_xor_si512(self.v0, self.v1);
        _mm512_xor_si512(low, _mm512_xor_si512(self.v2, self.v3))
    }
}

/// See [`crate::kernel::Kernel::hash`].
#[target_feature(enable = "avx512f,avx512dq,avx512vl")]
pub(super) fn hash(key: &KindKey, ids: &[[u8; 8]], hashes: &mut Hashes, mut ahead: Ahead<'_>) {
    let keyed = Sip8::keyed(key);
    let (strides, rest) = ids.as_chunks::<STRIDE>();
    let (outs, _) = hashes.as_chunks_mut::<STRIDE>();
    for (ids, out) in strides.iter().zip(outs) {
        ahead.step();
        // SAFETY: `ids` is 64 readable bytes; the load needs no alignment.
        let ids = unsafe { _mm512_loadu_si512(ids.as_ptr().cast()) };
        *out = lanes(keyed.hash(ids));
    }
    plain::hash(key, rest, &mut hashes[strides.len() * STRIDE..], ahead);
}

/// See [`crate::kernel::Kernel::probe`].
#[target_feature(enable = "avx512f,avx512dq,avx512vl")]
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
        let (groups, rest) = hashes.as_chunks::<8>();
        for (index, group) in groups.iter().enumerate() {
            prober.prepare(group, 8 * index, &mut prepared);
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

/// See [`crate::kernel::Kernel::scan`]. The plain loop: compiled for AVX-512 it compares eight at
/// once.
#[target_feature(enable = "avx512f,avx512dq,avx512vl")]
pub(super) fn scan<const N: usize>(wanted: &[u64; N], ids: &[[u8; 8]], found: &mut BatchMask) {
    plain::scan(wanted, ids, found);
}

/// What stays the same for all probes of some layers.
struct Prober<'a, const LAYERS: usize> {
    layers: [Blocks<'a>; LAYERS],
    a_blocks: [__m512i; LAYERS],
    b_blocks: [__m512i; LAYERS],
    shifts: __m512i,
}

impl<'a, const LAYERS: usize> Prober<'a, LAYERS> {
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl")]
    fn of(layers: [Blocks<'a>; LAYERS]) -> Self {
        let at = |field: usize| i64::from(BIT_SHIFTS[field]);
        Self {
            layers,
            a_blocks: layers.map(|layer| all_lanes(layer.a.len() as u64)),
            b_blocks: layers.map(|layer| all_lanes(layer.b.len() as u64)),
            shifts: _mm512_setr_epi64(at(0), at(1), at(2), at(3), at(4), at(5), at(6), at(7)),
        }
    }

    /// Computes where to look for eight hashes, the first of which is number `first`.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl")]
    fn prepare(&self, hashes: &[u64; 8], first: usize, prepared: &mut Prepared<LAYERS>) {
        // SAFETY: `hashes` is 64 readable bytes; the load needs no alignment.
        let hash = unsafe { _mm512_loadu_si512(hashes.as_ptr().cast()) };
        let high = _mm512_srli_epi64::<32>(hash);
        for layer in 0..LAYERS {
            store(&mut prepared.in_a[layer], first, offsets(high, self.a_blocks[layer]));
            store(&mut prepared.in_b[layer], first, offsets(hash, self.b_blocks[layer]));
        }
        store(
            &mut prepared.spreads,
            first,
            _mm512_mullo_epi64(_mm512_xor_si512(hash, high), all_lanes(SPREAD)),
        );
    }

    /// As [`Blocks::contains`], 1 or 0.
    #[inline]
    #[target_feature(enable = "avx512f,avx512dq,avx512vl")]
    fn contains(&self, prepared: &Prepared<LAYERS>, index: usize) -> u64 {
        let bits = _mm512_srlv_epi64(all_lanes(prepared.spreads[index]), self.shifts);
        let mut in_any = false;
        for (at, layer) in self.layers.iter().enumerate() {
            let a = _mm512_castsi256_si512(block(layer.a, prepared.in_a[at][index]));
            let words = _mm512_inserti64x4::<1>(a, block(layer.b, prepared.in_b[at][index]));
            // A rotation takes its count mod 64, so that the six-bit numbers need no masking.
            let set = _mm512_test_epi64_mask(_mm512_rorv_epi64(words, bits), all_lanes(1));
            in_any |= set == 0xff;
        }
        u64::from(in_any)
    }
}

/// The byte offsets of the blocks that the low 32 bits of `numbers` pick.
#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl")]
fn offsets(numbers: __m512i, blocks: __m512i) -> __m512i {
    let product = _mm512_mul_epu32(numbers, blocks);
    _mm512_slli_epi64::<5>(_mm512_srli_epi64::<32>(product))
}

#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl")]
fn all_lanes(word: u64) -> __m512i {
    _mm512_set1_epi64(word.cast_signed())
}

#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl")]
fn lanes(vector: __m512i) -> [u64; 8] {
    let mut out = [0; 8];
    // SAFETY: `out` is 64 writable bytes; the store needs no alignment.
    unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), vector) };
    out
}

#[inline]
#[target_feature(enable = "avx512f,avx512dq,avx512vl")]
fn store(words: &mut [u64; PREPARED], first: usize, vector: __m512i) {
    if let Some(out) = words[first..].first_chunk_mut::<8>() {
        *out = lanes(vector);
    }
}
