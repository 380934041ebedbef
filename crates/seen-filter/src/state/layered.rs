//! The layered form: a Bloom filter sized for the history, and smaller ones beside it for what was
//! added since (coherence row 14: they keep answers right for as long as storage is away).
//!
//! Words: a header (bits 0-5 the form, 8-15 the number of layers, 32-63 the oldest bucket), a second
//! one (low half all items, high half the promised rate as an `f32`), then each layer as two words
//! (blocks and capacity; items and design rate) and its blocks.

use crate::bloom::{self, BLOCK_WORDS, Blocks, PARTS};
use crate::hash::HashKey;
use crate::ids::Kind;
use crate::kernel::{BATCH, BatchMask, LINE_WORDS, prefetch_blocks};
use crate::sizing::{BLOCKS_MAX, BLOCKS_MIN, LayerSize, Sizing};
use crate::state::{Inserted, LayerForm, LayerInfo, UserState, exact};
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

/// True if fetching all lines of a state costs less than fetching just those that `ids` candidates
/// need: lines in a row come faster than scattered ones, of which each id needs four.
pub(crate) fn streams(words: &[u64], ids: usize) -> bool {
    words.len() <= PARTS * LINE_WORDS * ids
}

/// A view of a layered state's words.
#[derive(Clone, Copy)]
pub(crate) struct Layered<'a> {
    words: &'a [u64],
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

impl<'a> Layered<'a> {
    pub(crate) fn of(words: &'a [u64]) -> Self {
        Self { words }
    }

    /// True if the words are consistent: every layer within its limits and all of them together
    /// exactly as long as the words.
    pub(crate) fn valid(words: &'a [u64]) -> bool {
        let layered = Self { words };
        let sane_rate = |rate: f32| (0.0..=1.0).contains(&rate);
        let sane = |layer: &Layer<'_>| {
            (BLOCKS_MIN..=BLOCKS_MAX).contains(&layer.blocks)
                && layer.capacity > 0
                && sane_rate(layer.rate)
        };
        let length: usize = layered.layers().map(|l| LAYER_HEADER_WORDS + l.words.len()).sum();
        let items: u64 = layered.layers().map(|layer| u64::from(layer.items)).sum();
        words.len() > HEADER_WORDS
            && (1..=LAYERS_MAX).contains(&layered.count())
            && words[0] & 0xffff_00ff == FORM_LAYERED
            && layered.layers().count() == layered.count()
            && layered.layers().all(|layer| sane(&layer))
            && HEADER_WORDS + length == words.len()
            && items == layered.items()
            && sane_rate(f32::from_bits((words[1] >> 32) as u32))
    }

    fn count(self) -> usize {
        (self.words[0] >> 8 & 255) as usize
    }

    /// The layers, oldest first; ends early where the words do.
    fn layers(self) -> impl Iterator<Item = Layer<'a>> {
        let mut rest = self.words.get(HEADER_WORDS..).unwrap_or_default();
        (0..self.count()).map_while(move |_| {
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

    pub(crate) fn items(self) -> u64 {
        self.words[1] & 0xffff_ffff
    }

    pub(crate) fn promised_rate(self) -> f64 {
        f64::from(f32::from_bits((self.words[1] >> 32) as u32))
    }

    pub(crate) fn rebuild_due(self, sizing: &Sizing) -> bool {
        let base_capacity = self.words[HEADER_WORDS] >> 32;
        let outgrown = 2 * self.items() >= 3 * base_capacity;
        // An f32 holds the sum of the shares to seven digits.
        outgrown || self.promised_rate() > sizing.rate() * 1.000_001
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
        let streams = streams(self.words, ids.len());
        let ahead = if streams { self.words } else { &[] };
        let mut hashes = [0; BATCH];
        for (batch, ids) in ids.chunks(BATCH).enumerate() {
            let hashes = {
                kernel.hash(&key, ids, &mut hashes, if batch == 0 { ahead } else { &[] });
                &hashes[..ids.len()]
            };
            if !streams {
                self.layers().for_each(|layer| prefetch_blocks(Blocks::of(layer.words), hashes));
            }
            let mut found = BatchMask::default();
            for layer in self.layers() {
                kernel.probe(Blocks::of(layer.words), hashes, &mut found);
            }
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
        const BASE_WORDS: usize = HEADER_WORDS + LAYER_HEADER_WORDS;
        let size = sizing.base(items);
        // Zeroed memory from the system: not touched before its bits are set.
        let mut words = vec![0; BASE_WORDS + size.blocks as usize * BLOCK_WORDS];
        words[0] = FORM_LAYERED | 1 << 8 | u64::from(bucket) << 32;
        begin_layer(&mut words, HEADER_WORDS, size);
        Self { words }
    }

    /// Adds the item with this hash.
    pub(crate) fn set(&mut self, hash: u64) {
        bloom::set(&mut self.words[HEADER_WORDS + LAYER_HEADER_WORDS..], hash);
        count_items(&mut self.words, HEADER_WORDS, 1);
    }

    pub(crate) fn into_state(self) -> UserState {
        UserState::from_words(self.words)
    }
}

/// Adds an item that reads as unseen, in a new layer if the newest one has reached its capacity.
pub(crate) fn insert(words: &mut Vec<u64>, sizing: &Sizing, hash: u64) -> Inserted {
    let layered = Layered { words };
    let (mut start, mut full, mut end) = (HEADER_WORDS, false, HEADER_WORDS);
    for layer in layered.layers() {
        start = end;
        full = layer.items >= layer.capacity;
        end = start + LAYER_HEADER_WORDS + layer.words.len();
    }
    let count = layered.count();
    let grows = full && count < LAYERS_MAX;
    if grows {
        let base_capacity = (words[HEADER_WORDS] >> 32) as u32;
        let size = sizing.growth(count, base_capacity, layered.items());
        start = end;
        end = start + LAYER_HEADER_WORDS + size.blocks as usize * BLOCK_WORDS;
        words.reserve_exact(end - start);
        words.resize(end, 0);
        begin_layer(words, start, size);
        words[0] += 1 << 8;
    }
    bloom::set(&mut words[start + LAYER_HEADER_WORDS..end], hash);
    count_items(words, start, 1);
    if grows { Inserted::Layered } else { Inserted::Added }
}

/// Writes the header of a layer that begins at `start`, and adds its rate to the promise.
fn begin_layer(words: &mut [u64], start: usize, size: LayerSize) {
    words[start] = u64::from(size.blocks) | u64::from(size.capacity) << 32;
    words[start + 1] = u64::from((size.rate as f32).to_bits()) << 32;
    let promised = f32::from_bits((words[1] >> 32) as u32) + size.rate as f32;
    words[1] = words[1] & 0xffff_ffff | u64::from(promised.to_bits()) << 32;
}

/// Adds to the items of the layer that begins at `start` and of the whole state. Counts stop at
/// 2^32 - 1, far past what a layer may hold.
fn count_items(words: &mut [u64], start: usize, more: u32) {
    for at in [1, start + 1] {
        let count = (words[at] as u32).saturating_add(more);
        words[at] = words[at] & !0xffff_ffff | u64::from(count);
    }
}
