//! The layered form: a Bloom filter sized for the history, and smaller ones beside it for what was
//! added since (coherence row 14: they keep answers right for as long as storage is away).
//!
//! Words: a header (bits 0-5 the form, 32-63 the oldest bucket), a second one (low half all items,
//! high half the promised rate as an `f32`), then each layer as two words (blocks and capacity; items
//! and design rate) and its blocks. A layer that growth adds is an allocation of its own.

use smallvec::SmallVec;

use crate::bloom::{self, BLOCK_WORDS, Blocks};
use crate::hash::HashKey;
use crate::ids::Kind;
use crate::kernel::{BATCH, BatchMask, LINE_WORDS, prefetch, prefetch_blocks};
use crate::sizing::{BLOCKS_MAX, BLOCKS_MIN, LayerSize, Sizing};
use crate::state::{Growth, Inserted, LayerForm, LayerInfo, exact};
use crate::verdicts::Verdicts;

/// Form number.
pub(crate) const FORM_LAYERED: u64 = 3;
/// Most layers. The last one takes what comes after; each of the late ones holds half of all items
/// before it, so that a history has grown ten-thousandfold without a rebuild by then.
const LAYERS_MAX: usize = 28;
const HEADER_WORDS: usize = 2;
const LAYER_HEADER_WORDS: usize = 2;

/// True if these are a layered state's words.
pub(crate) fn is_layered(words: &[u64]) -> bool {
    // The length tells it of most without waiting for the header's cache line.
    words.len() > exact::WORDS_MAX || words.first().is_some_and(|word| word & 63 == FORM_LAYERED)
}

/// A view of a layered state's words.
#[derive(Clone, Copy)]
pub(crate) struct Layered<'a> {
    main: &'a [u64],
    growth: &'a [Box<[u64]>],
}

/// A view of one layer.
#[derive(Clone, Copy)]
struct Layer<'a> {
    blocks: u32,
    capacity: u32,
    items: u32,
    rate: f32,
    words: &'a [u64],
}

/// The layers in a run of words; ends early where the words do.
fn layers(mut rest: &[u64]) -> impl Iterator<Item = Layer<'_>> {
    std::iter::from_fn(move || {
        let (header, body) = rest.split_first_chunk::<LAYER_HEADER_WORDS>()?;
        let blocks = header[0] as u32;
        let (words, after) = body.split_at_checked(blocks as usize * BLOCK_WORDS)?;
        rest = after;
        Some(Layer {
            blocks,
            capacity: (header[0] >> 32) as u32,
            items: header[1] as u32,
            rate: f32::from_bits((header[1] >> 32) as u32),
            words,
        })
    })
}

impl<'a> Layered<'a> {
    /// A view of the words that a build made and of those that growth added.
    pub(crate) const fn of(main: &'a [u64], growth: &'a [Box<[u64]>]) -> Self {
        Self { main, growth }
    }

    /// True if the words are consistent: every layer within its limits and all of them together
    /// exactly as long as the words.
    pub(crate) fn valid(words: &[u64]) -> bool {
        let sane_rate = |rate: f32| (0.0..=1.0).contains(&rate);
        let sane = |layer: &Layer<'_>| {
            (BLOCKS_MIN..=BLOCKS_MAX).contains(&layer.blocks)
                && layer.capacity > 0
                && sane_rate(layer.rate)
        };
        let Some((header, body)) = words.split_first_chunk::<HEADER_WORDS>() else { return false };
        let length: usize = layers(body).map(|l| LAYER_HEADER_WORDS + l.words.len()).sum();
        let items: u64 = layers(body).map(|layer| u64::from(layer.items)).sum();
        header[0] & 0xffff_ffff == FORM_LAYERED
            && items == header[1] & 0xffff_ffff
            && sane_rate(f32::from_bits((header[1] >> 32) as u32))
            && (1..=LAYERS_MAX).contains(&layers(body).count())
            && layers(body).all(|layer| sane(&layer))
            && length == body.len()
    }

    /// The layers, oldest first.
    fn layers(self) -> impl Iterator<Item = Layer<'a>> {
        let main = self.main.get(HEADER_WORDS..).unwrap_or_default();
        layers(main).chain(self.growth.iter().flat_map(|layer| layers(layer)))
    }

    pub(crate) fn items(self) -> u64 {
        self.main[1] & 0xffff_ffff
    }

    pub(crate) fn promised_rate(self) -> f64 {
        f64::from(f32::from_bits((self.main[1] >> 32) as u32))
    }

    fn base_capacity(self) -> u32 {
        (self.main[HEADER_WORDS] >> 32) as u32
    }

    pub(crate) fn rebuild_due(self, sizing: &Sizing) -> bool {
        let outgrown = 2 * self.items() >= 3 * u64::from(self.base_capacity());
        // An f32 holds the sum of the shares to seven digits.
        outgrown || self.promised_rate() > sizing.rate() * 1.000_001
    }

    /// True if fetching all lines costs less than fetching just those that `ids` candidates need:
    /// lines in a row come faster than scattered ones, of which each id needs two a layer.
    fn streams(self, ids: usize) -> bool {
        self.main.len() <= 2 * LINE_WORDS * ids
    }

    pub(crate) fn contains(self, hash: u64) -> bool {
        self.layers().any(|layer| Blocks::of(layer.words).contains(hash))
    }

    /// See [`crate::UserState::check`].
    pub(crate) fn check(
        self,
        key: &HashKey,
        kind: Kind,
        ids: &[[u8; 8]],
        first: usize,
        seen: &mut Verdicts,
    ) {
        let kernel = key.kernel();
        let key = key.for_kind(kind);
        let streams = self.streams(ids.len());
        let mut ahead: &[u64] = if streams { self.main } else { &[] };
        if streams {
            self.growth.iter().for_each(|layer| prefetch(layer));
        }
        let mut hashes = [0; BATCH];
        for (batch, ids) in ids.chunks(BATCH).enumerate() {
            kernel.hash(&key, ids, &mut hashes, std::mem::take(&mut ahead));
            let hashes = &hashes[..ids.len()];
            // Not before the first hashes, as this waits for the header.
            let blocks = || self.layers().map(|layer| Blocks::of(layer.words));
            let layers: SmallVec<[Blocks<'_>; 5]> = blocks().collect();
            if !streams {
                layers.iter().for_each(|layer| prefetch_blocks(*layer, hashes));
            }
            let mut found = BatchMask::default();
            kernel.probe(&layers, hashes, &mut found);
            for (word, mask) in found.into_iter().enumerate() {
                seen.or_bits(first + batch * BATCH + word * 64, mask);
            }
        }
    }

    pub(crate) fn describe(self) -> Vec<LayerInfo> {
        let info = |layer: Layer<'_>| {
            let blocks = Blocks::of(layer.words);
            LayerInfo {
                form: LayerForm::Bloom,
                items: layer.items.into(),
                capacity: layer.capacity.into(),
                bytes: 8 * (LAYER_HEADER_WORDS + layer.words.len()),
                design_rate: layer.rate.into(),
                current_rate: blocks.rate(),
                fill: blocks.fill(),
            }
        };
        self.layers().map(info).collect()
    }
}

/// A state with one layer that is being filled.
#[derive(Clone, Debug)]
pub(crate) struct Assembling {
    words: Vec<u64>,
}

impl Assembling {
    /// Room for `items` items.
    pub(crate) fn new(sizing: &Sizing, items: usize, bucket: u32) -> Self {
        let size = sizing.base(items);
        // Zeroed memory from the system: not touched before its bits are set.
        let mut words = vec![0; HEADER_WORDS + layer_words(size)];
        words[0] = FORM_LAYERED | u64::from(bucket) << 32;
        begin_layer(&mut words[HEADER_WORDS..], size);
        promise_more(&mut words, size);
        Self { words }
    }

    /// Adds the item with this hash.
    pub(crate) fn set(&mut self, hash: u64) {
        let (header, layer) = self.words.split_at_mut(HEADER_WORDS);
        count_one(&mut header[1]);
        add(layer, hash);
    }

    pub(crate) fn into_words(self) -> Vec<u64> {
        self.words
    }
}

/// Adds an item that reads as unseen, in a new layer if the newest one has reached its capacity.
pub(crate) fn insert(
    main: &mut [u64],
    growth: &mut Growth,
    sizing: &Sizing,
    hash: u64,
) -> Inserted {
    let layered = Layered { main, growth };
    let count = layered.layers().count();
    let Some(newest) = layered.layers().last() else { return Inserted::AlreadySeen };
    let newest_words = LAYER_HEADER_WORDS + newest.words.len();
    let grows = newest.items >= newest.capacity && count < LAYERS_MAX;
    count_one(&mut main[1]);
    if grows {
        let layered = Layered { main, growth };
        let size = sizing.growth(count, layered.base_capacity(), layered.items());
        let mut layer = vec![0; layer_words(size)].into_boxed_slice();
        begin_layer(&mut layer, size);
        add(&mut layer, hash);
        growth.push(layer);
        promise_more(main, size);
        return Inserted::Layered;
    }
    let run = match growth.last_mut() {
        Some(layer) => layer,
        None => main,
    };
    let start = run.len() - newest_words;
    add(&mut run[start..], hash);
    Inserted::Added
}

/// Words of a layer with its header.
const fn layer_words(size: LayerSize) -> usize {
    LAYER_HEADER_WORDS + size.blocks as usize * BLOCK_WORDS
}

/// Writes the header of the layer that these words are to be.
fn begin_layer(layer: &mut [u64], size: LayerSize) {
    layer[0] = u64::from(size.blocks) | u64::from(size.capacity) << 32;
    layer[1] = u64::from((size.rate as f32).to_bits()) << 32;
}

/// Adds the item with this hash to a layer.
fn add(layer: &mut [u64], hash: u64) {
    let (header, blocks) = layer.split_at_mut(LAYER_HEADER_WORDS);
    count_one(&mut header[1]);
    bloom::set(blocks, hash);
}

/// Adds a layer's rate to the promise of the whole state.
fn promise_more(main: &mut [u64], size: LayerSize) {
    let promised = f32::from_bits((main[1] >> 32) as u32) + size.rate as f32;
    main[1] = main[1] & 0xffff_ffff | u64::from(promised.to_bits()) << 32;
}

/// Adds one to the count in a word's low half, which stops at 2^32 - 1: far past what a layer holds.
fn count_one(word: &mut u64) {
    *word += u64::from(*word as u32 != u32::MAX);
}
