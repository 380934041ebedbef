//! Keys, pseudo-random ids and checks that all tests share.

use seen_filter::{
    Builder, HashKey, Inserted, Item, Kernel, Kind, PackedIds, Sizing, UnixMillis, UserState,
    Verdicts,
};

/// Most candidates of one request.
pub const CANDIDATES_MAX: usize = 1_000;

/// A key that computes with the widest kernel of this CPU.
pub fn key(id: u32) -> HashKey {
    let widest = Kernel::available().last().unwrap_or(Kernel::PLAIN);
    HashKey::new(id, u128::from(mix(u64::from(id))).to_le_bytes()).with_kernel(widest)
}

/// A bijection that scrambles its input: distinct inputs give distinct ids without pattern.
pub fn mix(mut x: u64) -> u64 {
    x = (x ^ x >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
    x = (x ^ x >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
    x ^ x >> 32
}

/// The ids `mix(from)`, `mix(from + 1)`, ...
pub fn ids(from: u64, count: usize) -> impl Iterator<Item = u64> {
    (from..from + count as u64).map(mix)
}

pub fn build(key: &HashKey, sizing: &Sizing, ids: impl Iterator<Item = u64>) -> UserState {
    let mut builder = Builder::new(key, sizing);
    ids.for_each(|id| builder.push(Item::new(0, id), UnixMillis::default(), 0));
    builder.finish()
}

/// Inserts the ids; returns how many did not read as seen before.
pub fn insert(
    state: &mut UserState,
    key: &HashKey,
    sizing: &Sizing,
    ids: impl Iterator<Item = u64>,
) -> usize {
    let added = |id| state.insert(key, sizing, Item::new(0, id), 0) != Inserted::AlreadySeen;
    ids.map(added).filter(|added| *added).count()
}

/// How many of the ids read as seen, asked in requests of the largest size.
pub fn seen(state: &UserState, key: &HashKey, ids: impl Iterator<Item = u64>) -> usize {
    let bytes: Vec<u8> = ids.flat_map(u64::to_le_bytes).collect();
    let requests = bytes.chunks(8 * CANDIDATES_MAX);
    requests.map(|request| verdicts(state, key, 0, request).count()).sum()
}

/// The verdicts on one request of one kind.
pub fn verdicts(state: &UserState, key: &HashKey, kind: u8, request: &[u8]) -> Verdicts {
    let mut verdicts = Verdicts::new();
    let ids = PackedIds::new(request).expect("whole ids");
    state.check(key, Kind::new(kind), ids, 0, &mut verdicts);
    verdicts
}
