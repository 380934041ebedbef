//! The inner loops in plain code. No branch depends on an answer: one that cannot be predicted costs
//! more than the probes that it saves.

use crate::bloom::Blocks;
use crate::hash::KindKey;
use crate::kernel::{Ahead, BatchMask, STRIDE};

pub(super) fn hash(key: &KindKey, ids: &[[u8; 8]], hashes: &mut [u64], mut ahead: Ahead<'_>) {
    for (hashes, ids) in hashes.chunks_mut(STRIDE).zip(ids.chunks(STRIDE)) {
        ahead.step();
        for (hash, id) in hashes.iter_mut().zip(ids) {
            *hash = key.hash(u64::from_le_bytes(*id));
        }
    }
}

pub(super) fn probe<const LAYERS: usize>(
    layers: [Blocks<'_>; LAYERS],
    hashes: &[u64],
    found: &mut BatchMask,
) {
    for (mask, hashes) in found.iter_mut().zip(hashes.chunks(64)) {
        *mask |= probe_64(&layers, hashes);
    }
}

/// One bit for each of at most 64 hashes.
#[inline(always)]
pub(super) fn probe_64<const LAYERS: usize>(layers: &[Blocks<'_>; LAYERS], hashes: &[u64]) -> u64 {
    let in_any = |hash| layers.iter().fold(false, |any, layer| any | layer.contains(hash));
    let bits = hashes.iter().enumerate();
    bits.fold(0, |mask, (bit, hash)| mask | u64::from(in_any(*hash)) << bit)
}

#[inline(always)]
pub(super) fn scan<const N: usize>(wanted: &[u64; N], ids: &[[u8; 8]], found: &mut BatchMask) {
    for (mask, ids) in found.iter_mut().zip(ids.chunks(64)) {
        for (bit, id) in ids.iter().enumerate() {
            let id = u64::from_le_bytes(*id);
            let hit = wanted.iter().fold(false, |hit, one| hit | (*one == id));
            *mask |= u64::from(hit) << bit;
        }
    }
}
