//! The inner loops in AVX2 and AVX-512, and the prefetch instruction. The only module of this crate with
//! unsafe code: vector loads and stores through pointers, and calls of functions that need a CPU feature,
//! which the tokens [`Avx2`] and [`Avx512`] prove to be there.
#![allow(unsafe_code)]

use std::arch::x86_64::{__m256i, _MM_HINT_T0, _mm_prefetch, _mm256_loadu_si256};

use crate::bloom::{Block, Blocks};
use crate::hash::KindKey;
use crate::kernel::{Ahead, BatchMask, Hashes};

mod avx2;
mod avx512;

/// Proof that this CPU has AVX2.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Avx2(());

/// Proof that this CPU has AVX2 and the parts F, DQ and VL of AVX-512.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Avx512(());

/// Asks the CPU for the cache line of `items[index]`; does nothing if there is no such item.
#[inline(always)]
pub(super) fn prefetch<T>(items: &[T], index: usize) {
    if let Some(item) = items.get(index) {
        // SAFETY: a prefetch changes nothing in memory and never faults, and the address is valid.
        // SSE, which brings the instruction, is part of every x86-64.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(std::ptr::from_ref(item).cast()) };
    }
}

/// True if a part of a layer has no block, so that there is none to pick. No build makes such a one.
fn lack_blocks(layers: &[Blocks<'_>]) -> bool {
    layers.iter().any(|layer| layer.a.is_empty() || layer.b.is_empty())
}

/// The block of a part that begins at a byte offset.
#[inline]
#[target_feature(enable = "avx")]
fn block(part: &[Block], offset: u64) -> __m256i {
    debug_assert!((offset as usize) < size_of_val(part) && offset.is_multiple_of(32));
    // SAFETY: every offset is 32 times the high half of the 64-bit product of two 32-bit numbers,
    // the second of which is at most the number of the part's blocks, and so lies within the part,
    // provided that it has a block: both `probe` functions turn away layers of which a part has
    // none. A block is 32 bytes; the load needs no alignment.
    unsafe { _mm256_loadu_si256(part.as_ptr().byte_add(offset as usize).cast()) }
}

/// Hashes that a probe prepares before it looks at any block; one word of the mask.
const PREPARED: usize = 64;

/// Where to look for some hashes, computed in one loop and used in the next. In one loop the
/// compiler would move the lanes from vectors to addresses one by one, which is slower than through
/// memory.
struct Prepared<const LAYERS: usize> {
    /// Byte offsets of the blocks in the first part of each layer.
    in_a: [[u64; PREPARED]; LAYERS],
    /// Byte offsets of the blocks in the second part of each layer.
    in_b: [[u64; PREPARED]; LAYERS],
    /// What the bits' numbers are taken from.
    spreads: [u64; PREPARED],
}

impl<const LAYERS: usize> Prepared<LAYERS> {
    const EMPTY: Self = Self {
        in_a: [[0; PREPARED]; LAYERS],
        in_b: [[0; PREPARED]; LAYERS],
        spreads: [0; PREPARED],
    };
}

impl Avx2 {
    pub(super) fn detect() -> Option<Self> {
        is_x86_feature_detected!("avx2").then_some(Self(()))
    }

    pub(super) fn hash(
        self,
        key: &KindKey,
        ids: &[[u8; 8]],
        hashes: &mut Hashes,
        ahead: Ahead<'_>,
    ) {
        // SAFETY: `self` proves AVX2.
        unsafe { avx2::hash(key, ids, hashes, ahead) }
    }

    pub(super) fn probe<const LAYERS: usize>(
        self,
        layers: [Blocks<'_>; LAYERS],
        hashes: &[u64],
        found: &mut BatchMask,
    ) {
        // SAFETY: `self` proves AVX2.
        unsafe { avx2::probe(layers, hashes, found) }
    }

    pub(super) fn scan<const N: usize>(
        self,
        wanted: &[u64; N],
        ids: &[[u8; 8]],
        found: &mut BatchMask,
    ) {
        // SAFETY: `self` proves AVX2.
        unsafe { avx2::scan(wanted, ids, found) }
    }
}

impl Avx512 {
    /// VPOPCNTDQ is not used: it marks the generations (Ice Lake, Zen 4 and later) that do not lower
    /// their clock noticeably for wide vectors, which a short calibration could not see.
    pub(super) fn detect() -> Option<Self> {
        let all = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("avx512f")
            && is_x86_feature_detected!("avx512dq")
            && is_x86_feature_detected!("avx512vl")
            && is_x86_feature_detected!("avx512vpopcntdq");
        all.then_some(Self(()))
    }

    pub(super) fn hash(
        self,
        key: &KindKey,
        ids: &[[u8; 8]],
        hashes: &mut Hashes,
        ahead: Ahead<'_>,
    ) {
        // SAFETY: `self` proves the three parts of AVX-512.
        unsafe { avx512::hash(key, ids, hashes, ahead) }
    }

    pub(super) fn probe<const LAYERS: usize>(
        self,
        layers: [Blocks<'_>; LAYERS],
        hashes: &[u64],
        found: &mut BatchMask,
    ) {
        // SAFETY: `self` proves the three parts of AVX-512.
        unsafe { avx512::probe(layers, hashes, found) }
    }

    pub(super) fn scan<const N: usize>(
        self,
        wanted: &[u64; N],
        ids: &[[u8; 8]],
        found: &mut BatchMask,
    ) {
        // SAFETY: `self` proves the three parts of AVX-512.
        unsafe { avx512::scan(wanted, ids, found) }
    }
}
