//! Stands in for the vector kernels on CPUs that are not x86-64: there are none, and the CPU's own
//! prefetching has to do.

use crate::bloom::Blocks;
use crate::hash::KindKey;
use crate::kernel::{Ahead, BatchMask, Hashes};

/// Cannot be had here.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Avx2 {}

/// Cannot be had here.
pub(super) type Avx512 = Avx2;

pub(super) fn prefetch<T>(_items: &[T], _index: usize) {}

impl Avx2 {
    pub(super) fn detect() -> Option<Self> {
        None
    }

    pub(super) fn hash(self, _: &KindKey, _: &[[u8; 8]], _: &mut Hashes, _: Ahead<'_>) {
        match self {}
    }

    pub(super) fn probe<const LAYERS: usize>(
        self,
        _: [Blocks<'_>; LAYERS],
        _: &[u64],
        _: &mut BatchMask,
    ) {
        match self {}
    }

    pub(super) fn scan<const N: usize>(self, _: &[u64; N], _: &[[u8; 8]], _: &mut BatchMask) {
        match self {}
    }
}
