//! Which replica of a slot a user is bound to, and which come next.
//!
//! Rendezvous hashing (Thaler and Ravishankar, "Using name-based mappings to increase hit rates", IEEE/ACM Transactions on
//! Networking 6(1), 1998): each replica's name is hashed together with the user, and the highest score wins. Everybody who knows the
//! names agrees without talking, a replica that goes moves its own users only, and one that comes takes its share evenly from all.
//! Weights by the logarithmic method (Schindelhauer and Schomaker, "Weighted distributed hash tables", SPAA 2005): with `h` uniform
//! in (0, 1) the score is `-w / ln(h)`, and each wins in proportion to its weight.

use std::cmp::Ordering;

use seen_filter::hash::mix;

use super::REPLICAS_MAX;

/// The hash of a replica's stable name. The same in every process and version.
pub fn name_hash(name: &str) -> u64 {
    // FNV-1a (public domain, G. Fowler, L. C. Noll, K.-P. Vo), and a finalizer as its high bits are weak. Names are no secret: users
    // are what is keyed.
    let fnv = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    mix(fnv)
}

/// Replicas in the order of a user's preference: indexes into what was ranked.
#[derive(Clone, Copy, Debug)]
pub struct Ranked {
    order: [u8; REPLICAS_MAX],
    len: u8,
}

impl Ranked {
    /// The indexes, the preferred one first.
    pub fn as_slice(&self) -> &[u8] {
        &self.order[..usize::from(self.len)]
    }

    /// The preferred one.
    pub fn first(&self) -> Option<usize> {
        self.iter().next()
    }

    /// The indexes, the preferred one first.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = usize> + '_ {
        self.as_slice().iter().map(|index| usize::from(*index))
    }
}

/// Orders replicas, each a [`name_hash`] and a weight, by a user's preference. Those of weight 0 come last.
///
/// More than [`REPLICAS_MAX`] are not looked at; maps have no more. Two machines whose logarithms differ in the last bit may disagree about
/// one user in 2^50 or so: who reads there brings a token or is bound to another replica for this request, no more.
pub fn rank(user_hash: u64, replicas: &[(u64, u16)]) -> Ranked {
    let mut scored = [(Score { weighted: 0.0, hash: 0 }, 0_u8); REPLICAS_MAX];
    let len = replicas.len().min(REPLICAS_MAX);
    if len < 2 {
        return Ranked { order: [0; REPLICAS_MAX], len: len as u8 };
    }
    for (at, (name, weight)) in replicas.iter().take(len).enumerate() {
        scored[at] = (Score::new(user_hash, *name, *weight), at as u8);
    }
    scored[..len].sort_unstable_by(|(a, at_a), (b, at_b)| b.cmp(a).then(at_a.cmp(at_b)));
    let mut order = [0; REPLICAS_MAX];
    order.iter_mut().zip(&scored[..len]).for_each(|(to, (_, at))| *to = *at);
    Ranked { order, len: len as u8 }
}

/// The first of [`rank`] among those that are usable, for less than ranking all.
pub fn preferred(
    user_hash: u64,
    replicas: &[(u64, u16)],
    usable: impl Fn(usize) -> bool,
) -> Option<usize> {
    let mut best: Option<(usize, Score)> = None;
    for (at, (name, weight)) in replicas.iter().enumerate().take(REPLICAS_MAX) {
        if !usable(at) {
            continue;
        }
        let score = Score::new(user_hash, *name, *weight);
        if best.is_none_or(|(_, best)| score.cmp(&best).is_gt()) {
            best = Some((at, score));
        }
    }
    best.map(|(at, _)| at)
}

#[derive(Clone, Copy)]
struct Score {
    weighted: f64,
    /// Orders those of weight 0 among each other.
    hash: u64,
}

impl Score {
    fn new(user_hash: u64, name_hash: u64, weight: u16) -> Self {
        let hash = mix(user_hash ^ name_hash);
        // 52 bits and a half: never 0 and never 1, so that the logarithm is finite and below 0.
        let uniform = ((hash >> 12) as f64 + 0.5) / (1_u64 << 52) as f64;
        Self { weighted: -f64::from(weight) / uniform.ln(), hash }
    }

    fn cmp(&self, other: &Self) -> Ordering {
        self.weighted.total_cmp(&other.weighted).then(self.hash.cmp(&other.hash))
    }
}
