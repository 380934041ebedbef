//! How big a filter must be for the false-positive rate that a namespace promises.
//!
//! A Bloom layer here has four parts of 128-bit blocks; an item sets one bit in either word of one
//! block of each part (see [`crate::bloom`]). With `n` items and `b` blocks a part answers "seen" to
//! an unread id when, in the block that the id picks, both words have the id's bit set. A block with
//! `j` items has that bit of one word set with probability `1 - q^j`, `q = 63/64`, the words
//! independently; `j` is binomial `(n, 1/b)`. Expanding the square gives the exact rate in closed
//! form, down to one block and one item, where the usual `(1 - e^(-kn/m))^k` is far off:
//!
//! `part(n, b) = 1 - 2 (1 - (1 - q) / b)^n + (1 - (1 - q^2) / b)^n`
//!
//! and the layer's rate is the product of its parts'. The idea of blocks is from F. Putze,
//! P. Sanders, J. Singler: "Cache-, Hash- and Space-Efficient Bloom Filters" (2007).

use crate::bloom::{PARTS, part_len};
use crate::settings::{NamespaceSettings, RATE_MAX, RATE_MIN};

/// The share of the promised rate that the base may use; the rest is for growth.
const BASE_SHARE: f64 = 0.84;
/// The share of each growth layer up to the rebuild.
const GROWTH_SHARE: f64 = 0.05;
/// How many growth layers share [`GROWTH_SHARE`]; together they hold half of the base's items.
const GROWTH_LAYERS: usize = 3;
/// The share of the first layer past the rebuild's due date, halved with each further one. The
/// endless sum is 0.01, so that the promise holds as long as storage is away.
const LATE_SHARE: f64 = 0.005;
/// Halvings of [`LATE_SHARE`] after which layers would only cost memory.
const LATE_HALVINGS_MAX: usize = 6;
/// Most blocks of one layer: 1 GiB.
pub(crate) const BLOCKS_MAX: u32 = 1 << 26;
/// Fewest blocks of a layer, one a part.
pub(crate) const BLOCKS_MIN: u32 = PARTS as u32;

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
        let (share, wanted) = if layers <= GROWTH_LAYERS {
            let sixth = (base_capacity as usize).div_ceil(2 * GROWTH_LAYERS);
            (GROWTH_SHARE, sixth)
        } else {
            let halvings = (layers - GROWTH_LAYERS - 1).min(LATE_HALVINGS_MAX);
            (LATE_SHARE / f64::from(1_u32 << halvings), (items / 2) as usize)
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
    /// 128-bit blocks of all parts.
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

/// The expected false-positive rate of a layer with this many items.
pub(crate) fn rate_of(items: u32, blocks: u32) -> f64 {
    let part = |part| part_rate(items, part_len(blocks as usize, part));
    (0..PARTS).map(part).product()
}

fn part_rate(items: u32, blocks: usize) -> f64 {
    const CLEAR: f64 = 63.0 / 64.0;
    // The chance that no item of a part has a bit that one item of the id's block has with `chance`.
    let none = |chance: f64| (f64::from(items) * (-chance / blocks as f64).ln_1p()).exp();
    let rate = 1.0 - 2.0 * none(1.0 - CLEAR) + none(1.0 - CLEAR * CLEAR);
    rate.clamp(0.0, 1.0)
}
