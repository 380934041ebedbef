//! How big a filter must be for the false-positive rate that a namespace promises.
//!
//! A Bloom layer here has two parts of 256-bit blocks; an item sets one bit in each of the four words
//! of one block of either part (see `bloom.rs`). With `n` items and `b` blocks a part answers
//! "seen" to an unread id when, in the block that the id picks, all four words have the id's bit set.
//! A block with `j` items has that bit of one word set with probability `1 - q^j`, `q = 63/64`, the
//! words independently; `j` is binomial `(n, 1/b)`. Expanding the fourth power gives the exact rate
//! in closed form, down to one block and one item, where the usual `(1 - e^(-kn/m))^k` is far off:
//!
//! `part(n, b) = sum over i = 0..4 of (-1)^i C(4, i) (1 - (1 - q^i) / b)^n`
//!
//! and the layer's rate is `part(n, b_a) * part(n, b_b)`. The idea of blocks is from F. Putze,
//! P. Sanders, J. Singler: "Cache-, Hash- and Space-Efficient Bloom Filters" (2007).

use crate::settings::{NamespaceSettings, RATE_MAX, RATE_MIN};

/// The share of the promised rate that the base may use; the rest is for growth.
const BASE_SHARE: f64 = 0.87;
/// The growth layers up to the rebuild: each one's size as a share of the base's items (half of them
/// in all), and its share of the promised rate. Early layers live longest, so that giving them more
/// of both costs the least memory over the whole growth; these numbers were found by trying.
const GROWTH: [(f64, f64); 4] = [(0.17, 0.06), (0.135, 0.032), (0.105, 0.018), (0.09, 0.01)];
/// The share of the first layer past the rebuild's due date, halved with each further one. The
/// endless sum is 0.01, so that the promise holds as long as storage is away.
const LATE_SHARE: f64 = 0.005;
/// Halvings of [`LATE_SHARE`] after which layers would only cost memory.
const LATE_HALVINGS_MAX: usize = 6;
/// Most blocks of one layer: 1 GiB.
pub(crate) const BLOCKS_MAX: u32 = 1 << 25;
/// Fewest blocks of a layer, one a part.
pub(crate) const BLOCKS_MIN: u32 = 2;

/// What a namespace asks of its users' states.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sizing {
    rate: f64,
    newest_max: Option<u32>,
}

impl Sizing {
    /// For a promised rate (held to [`RATE_MIN`]..=[`RATE_MAX`]) and an optional expiry by count.
    pub const fn new(rate: f64, newest_max: Option<u32>) -> Self {
        Self { rate: rate.clamp(RATE_MIN, RATE_MAX), newest_max }
    }

    /// The promised false-positive rate of a whole entry.
    pub const fn rate(&self) -> f64 {
        self.rate
    }

    /// How many of the newest items a build keeps, or `None` for all.
    pub const fn newest_max(&self) -> Option<u32> {
        self.newest_max
    }

    /// The base layer of a build of `items`.
    pub(crate) fn base(&self, items: usize) -> LayerSize {
        LayerSize::for_items(items, self.rate * BASE_SHARE)
    }

    /// The layer to add to `layers` existing ones (base included) that hold `items`, of which the
    /// base's capacity is `base_capacity`.
    pub(crate) fn growth(&self, layers: usize, base_capacity: u32, items: u64) -> LayerSize {
        let (wanted, share) = match GROWTH.get(layers.saturating_sub(1)) {
            Some((size, share)) => ((f64::from(base_capacity) * size).ceil() as usize, *share),
            None => {
                let halvings = (layers - GROWTH.len() - 1).min(LATE_HALVINGS_MAX);
                ((items / 2) as usize, LATE_SHARE / f64::from(1_u32 << halvings))
            }
        };
        LayerSize::for_items(wanted, self.rate * share)
    }
}

impl From<&NamespaceSettings> for Sizing {
    fn from(settings: &NamespaceSettings) -> Self {
        Self::new(settings.false_positive_rate, settings.newest_max)
    }
}

/// The size of one Bloom layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct LayerSize {
    /// 256-bit blocks of both parts.
    pub(crate) blocks: u32,
    /// How many items it holds within `rate`.
    pub(crate) capacity: u32,
    /// The false-positive rate that it is allowed.
    pub(crate) rate: f64,
}

impl LayerSize {
    /// The smallest layer that holds `items` at `rate`, with the capacity that rounding leaves.
    fn for_items(items: usize, rate: f64) -> Self {
        let items = items.clamp(1, u32::MAX as usize / 2) as u32;
        let fits = |blocks: u32| rate_of(items, blocks) <= rate;
        let blocks = smallest(BLOCKS_MIN, BLOCKS_MAX, fits);
        let over = |capacity: u32| rate_of(capacity, blocks) > rate;
        let capacity = smallest(items, u32::MAX, over) - 1;
        Self { blocks, capacity: capacity.max(items), rate }
    }
}

/// The lowest value in `low..=high` that `holds`, which is false below it and true from it on;
/// `high` where it holds nowhere. Doubles its step first, so that near answers are found early.
fn smallest(low: u32, high: u32, holds: impl Fn(u32) -> bool) -> u32 {
    let (mut below, mut at, mut step) = (low, low, 1_u32);
    while at < high && !holds(at) {
        below = at + 1;
        at = at.saturating_add(step).min(high);
        step = step.saturating_mul(2);
    }
    while below < at {
        let middle = below + (at - below) / 2;
        if holds(middle) {
            at = middle;
        } else {
            below = middle + 1;
        }
    }
    at
}

/// How the blocks of a layer are divided into its two parts.
pub(crate) const fn parts(blocks: u32) -> (u32, u32) {
    (blocks.div_ceil(2), blocks / 2)
}

/// The expected false-positive rate of a layer with this many items.
pub(crate) fn rate_of(items: u32, blocks: u32) -> f64 {
    let (a, b) = parts(blocks);
    let of_a = part_rate(items, a);
    // Half of all layers have two equal parts.
    of_a * if a == b { of_a } else { part_rate(items, b) }
}

fn part_rate(items: u32, blocks: u32) -> f64 {
    const Q: f64 = 63.0 / 64.0;
    // Those of i = 1 to 4; that of 0 is 1 whatever the layer.
    const SIGNED_BINOMIALS: [f64; 4] = [-4.0, 6.0, -4.0, 1.0];
    let mut sum = 1.0;
    let mut all_clear = Q; // q^i
    for coefficient in SIGNED_BINOMIALS {
        let picked = (1.0 - all_clear) / f64::from(blocks);
        sum += coefficient * (f64::from(items) * (-picked).ln_1p()).exp();
        all_clear *= Q;
    }
    sum.clamp(0.0, 1.0)
}
