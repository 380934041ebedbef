//! The exact form: up to sixteen items as they are.
//!
//! Words: a header, the ids sorted by (kind, id), and, only if there are more than two kinds, two
//! words with one byte of kind an item. Header bits: 0-5 the form, 6-10 the count, 11-15 how many
//! ids have the first kind, 16-23 and 24-31 the first and second kind, 32-63 the oldest bucket. So a
//! user of sixteen items of one or two kinds takes 136 bytes.

use crate::ids::{Item, Kind};
use crate::kernel::{BATCH, BatchMask, Kernel};
use crate::state::{EXACT_ITEMS_MAX, LayerForm, LayerInfo, bucket_of};
use crate::verdicts::Verdicts;

/// Form number: at most two kinds, both in the header.
pub(crate) const FORM_TWO_KINDS: u64 = 1;
/// Form number: kinds follow the ids.
pub(crate) const FORM_MANY_KINDS: u64 = 2;
const KIND_WORDS: usize = EXACT_ITEMS_MAX / 8;
/// Most words of an exact state.
pub(crate) const WORDS_MAX: usize = 1 + EXACT_ITEMS_MAX + KIND_WORDS;

/// A view of an exact state's words.
#[derive(Clone, Copy)]
pub(crate) struct Exact<'a> {
    header: u64,
    ids: &'a [u64],
    kinds: &'a [u64],
}

impl<'a> Exact<'a> {
    /// Reads the words; missing ones count as absent, so that no words are a state without items.
    pub(crate) fn of(words: &'a [u64]) -> Self {
        let (header, rest) = words.split_first().map_or((0, words), |(first, rest)| (*first, rest));
        let count = (header >> 6 & 31) as usize;
        let (ids, kinds) = rest.split_at(count.min(rest.len()));
        Self { header, ids, kinds }
    }

    /// True if the words are what [`with`] could have made.
    pub(crate) fn valid(words: &'a [u64]) -> bool {
        let exact = Self::of(words);
        let sorted = || exact.items().zip(exact.items().skip(1)).all(|(a, b)| a < b);
        let canonical = || {
            let items: Vec<Item> = exact.items().collect();
            encode(&items, bucket_of(exact.header)) == words
        };
        matches!(exact.header & 63, FORM_TWO_KINDS | FORM_MANY_KINDS)
            && (1..=EXACT_ITEMS_MAX).contains(&((exact.header >> 6 & 31) as usize))
            && (exact.header & 63 == FORM_TWO_KINDS || exact.kinds.len() == KIND_WORDS)
            && sorted()
            && canonical()
    }

    pub(crate) fn len(self) -> usize {
        self.ids.len()
    }

    fn kind_at(self, index: usize) -> u8 {
        if self.header & 63 == FORM_MANY_KINDS {
            let word = self.kinds.get(index / 8).copied().unwrap_or(0);
            (word >> (index % 8 * 8)) as u8
        } else if index < (self.header >> 11 & 31) as usize {
            (self.header >> 16) as u8
        } else {
            (self.header >> 24) as u8
        }
    }

    /// The items in ascending order.
    pub(crate) fn items(self) -> impl Iterator<Item = Item> + 'a {
        (0..self.ids.len()).map(move |index| Item::new(self.kind_at(index), self.ids[index]))
    }

    /// The ids of one kind.
    fn run(self, kind: Kind) -> &'a [u64] {
        let matching = |index: &usize| self.kind_at(*index) == kind.get();
        let Some(start) = (0..self.ids.len()).find(matching) else { return &[] };
        let end = (start..self.ids.len()).take_while(matching).count() + start;
        &self.ids[start..end]
    }

    pub(crate) fn contains(self, item: Item) -> bool {
        self.run(item.kind).contains(&item.id.get())
    }

    /// See [`crate::UserState::check`].
    pub(crate) fn check(
        self,
        kernel: Kernel,
        kind: Kind,
        ids: &[[u8; 8]],
        first: usize,
        seen: &mut Verdicts,
    ) {
        let run = self.run(kind);
        let Some(filler) = run.first() else { return };
        // Padded with one of its own ids, the run has one of a few fixed lengths to compare with.
        let mut wanted = [*filler; EXACT_ITEMS_MAX];
        wanted[..run.len()].copy_from_slice(run);
        for (batch, ids) in ids.chunks(BATCH).enumerate() {
            let mut found = BatchMask::default();
            match run.len() {
                1 => kernel.scan::<1>(&[*filler], ids, &mut found),
                2..=4 => kernel.scan::<4>(wanted.first_chunk().unwrap_or(&[0; 4]), ids, &mut found),
                5..=8 => kernel.scan::<8>(wanted.first_chunk().unwrap_or(&[0; 8]), ids, &mut found),
                _ => kernel.scan::<EXACT_ITEMS_MAX>(&wanted, ids, &mut found),
            }
            for (word, mask) in found.into_iter().enumerate() {
                seen.or_bits(first + batch * BATCH + word * 64, mask);
            }
        }
    }

    pub(crate) fn describe(self) -> LayerInfo {
        LayerInfo {
            form: LayerForm::Exact,
            items: self.len() as u64,
            capacity: EXACT_ITEMS_MAX as u64,
            bytes: 8 * (1 + self.ids.len() + self.kinds.len()),
            design_rate: 0.0,
            current_rate: 0.0,
            fill: 0.0,
        }
    }
}

/// The words of an exact state with one item more, which must not be in it. The state must hold
/// fewer than [`EXACT_ITEMS_MAX`] items.
pub(crate) fn with(words: &[u64], item: Item, bucket: u32) -> Vec<u64> {
    let mut items: Vec<Item> = Exact::of(words).items().collect();
    let oldest = words.first().map_or(bucket, |header| bucket_of(*header).min(bucket));
    items.insert(items.partition_point(|one| *one < item), item);
    encode(&items, oldest)
}

/// The words for these sorted, distinct items, at most [`EXACT_ITEMS_MAX`].
pub(crate) fn encode(items: &[Item], bucket: u32) -> Vec<u64> {
    let Some(first) = items.first() else { return Vec::new() };
    let first_kind = first.kind;
    let last_kind = items[items.len() - 1].kind;
    let split = items.partition_point(|item| item.kind == first_kind);
    let two = items[split..].iter().all(|item| item.kind == last_kind);
    let form = if two { FORM_TWO_KINDS } else { FORM_MANY_KINDS };
    let mut header = form | (items.len() as u64) << 6 | u64::from(bucket) << 32;
    if two {
        header |= (split as u64) << 11;
        header |= u64::from(first_kind.get()) << 16 | u64::from(last_kind.get()) << 24;
    }
    let mut words = Vec::with_capacity(1 + items.len() + if two { 0 } else { KIND_WORDS });
    words.push(header);
    words.extend(items.iter().map(|item| item.id.get()));
    if !two {
        let mut kinds = [0_u64; KIND_WORDS];
        for (index, item) in items.iter().enumerate() {
            kinds[index / 8] |= u64::from(item.kind.get()) << (index % 8 * 8);
        }
        words.extend(kinds);
    }
    words
}
