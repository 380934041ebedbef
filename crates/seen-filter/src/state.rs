//! What is held of one user's history: nothing, up to sixteen items exactly, or Bloom layers.
//!
//! A state that a build made is one run of 64-bit words behind one 16-byte pointer, so that a look-up
//! misses the cache once before all its lines are known, and a transfer copies it as it is. Nothing
//! is ever removed in place (rule R10): bits and items are only added, and a build makes a new state.

use smallvec::SmallVec;

use crate::hash::HashKey;
use crate::ids::{Item, Kind};
use crate::packed::PackedIds;
use crate::sizing::Sizing;
use crate::verdicts::Verdicts;

pub(crate) mod exact;
pub(crate) mod layered;

use exact::Exact;
use layered::{Assembling, Layered};

/// Most items that are held exactly, without false positives.
pub const EXACT_ITEMS_MAX: usize = 16;
/// Bits of a Bloom layer that one item sets.
pub const BLOOM_PROBES: u32 = crate::bloom::BIT_SHIFTS.len() as u32;

/// One user's history in memory. 16 bytes, and at most one allocation until it grows out of its base.
#[derive(Clone, Debug, Default)]
pub struct UserState(Held);

const _: () = assert!(size_of::<UserState>() == 16);

#[derive(Clone, Debug)]
enum Held {
    /// The words of an exact state, or of the layers that a build made.
    One(Box<[u64]>),
    /// Nothing, or a state that grew.
    Grown(Option<Box<Grown>>),
}

/// A layered state that grew out of what was built.
#[derive(Clone, Debug)]
struct Grown {
    main: Box<[u64]>,
    growth: Growth,
}

/// The layers that growth added, each in an allocation of its own: none is ever moved, since that
/// would leave holes behind and take long where it is large. The usual number lies in line.
pub(crate) type Growth = SmallVec<[Box<[u64]>; 4]>;

impl Default for Held {
    fn default() -> Self {
        Self::Grown(None)
    }
}

/// What an insertion did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// The item read as seen already; nothing changed but perhaps the oldest bucket.
    AlreadySeen,
    /// The item was added within the memory that was there, or to the exact form.
    Added,
    /// The item was added to a newly allocated layer.
    Layered,
}

/// How a layer holds its items.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LayerForm {
    /// As they are.
    Exact,
    /// As bits of a Bloom filter.
    Bloom,
}

/// One layer, as reported to people.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LayerInfo {
    /// How it holds its items.
    pub form: LayerForm,
    /// How many items were added to it.
    pub items: u64,
    /// How many it can hold within its design rate.
    pub capacity: u64,
    /// Its size in bytes.
    pub bytes: usize,
    /// The false-positive rate that it was sized for.
    pub design_rate: f64,
    /// The false-positive rate that the bits set now give.
    pub current_rate: f64,
    /// The share of its bits that are set; 0 for the exact form.
    pub fill: f64,
}

/// The forms of a state, to read from.
enum Form<'a> {
    Empty,
    Exact(Exact<'a>),
    Layered(Layered<'a>),
}

impl UserState {
    /// A user who has read nothing. Needs no heap.
    pub const EMPTY: UserState = UserState(Held::Grown(None));

    /// A state from words that are known to be well formed; from none, the empty one.
    pub(crate) fn from_words(words: Vec<u64>) -> Self {
        if words.is_empty() {
            return Self::EMPTY;
        }
        Self(Held::One(words.into_boxed_slice()))
    }

    /// The words of the state: those that a build made, and the layers that growth added.
    pub(crate) fn words(&self) -> (&[u64], &[Box<[u64]>]) {
        match &self.0 {
            Held::One(words) => (words, &[]),
            Held::Grown(Some(grown)) => (&grown.main, &grown.growth),
            Held::Grown(None) => (&[], &[]),
        }
    }

    /// All words in order; together they are a well-formed state again.
    pub(crate) fn all_words(&self) -> impl Iterator<Item = u64> {
        let (main, growth) = self.words();
        main.iter().chain(growth.iter().flatten()).copied()
    }

    /// How many words there are.
    pub(crate) fn words_len(&self) -> usize {
        let (main, growth) = self.words();
        main.len() + growth.iter().map(|layer| layer.len()).sum::<usize>()
    }

    fn form(&self) -> Form<'_> {
        match self.words() {
            ([], _) => Form::Empty,
            (main, growth) if layered::is_layered(main) => Form::Layered(Layered::of(main, growth)),
            (words, _) => Form::Exact(Exact::of(words)),
        }
    }

    /// Sets bit `first + i` of `seen` for each candidate `i` that was read. Other bits stay.
    /// Positions from [`crate::verdicts::POSITIONS_MAX`] on do not exist.
    pub fn check(
        &self,
        key: &HashKey,
        kind: Kind,
        ids: PackedIds<'_>,
        first: usize,
        seen: &mut Verdicts,
    ) {
        match self.form() {
            Form::Empty => {}
            Form::Exact(exact) => exact.check(key.kernel(), kind, ids.words(), first, seen),
            Form::Layered(layered) => layered.check(key, kind, ids.words(), first, seen),
        }
    }

    /// True if the item was read, or is a false positive.
    pub fn contains(&self, key: &HashKey, item: Item) -> bool {
        match self.form() {
            Form::Empty => false,
            Form::Exact(exact) => exact.contains(item),
            Form::Layered(layered) => layered.contains(key.item_hash(item)),
        }
    }

    /// Adds an item that was committed in an expiry bucket. One that reads as seen already changes
    /// nothing, so that adding twice or out of order is harmless.
    pub fn insert(&mut self, key: &HashKey, sizing: &Sizing, item: Item, bucket: u32) -> Inserted {
        let seen = self.contains(key, item);
        self.lower_bucket(bucket);
        if seen {
            return Inserted::AlreadySeen;
        }
        match self.form() {
            Form::Layered(_) => self.insert_hash(sizing, key.item_hash(item)),
            Form::Exact(exact) if exact.len() == EXACT_ITEMS_MAX => {
                let oldest = self.oldest_bucket().unwrap_or(bucket);
                let mut layer = Assembling::new(sizing, EXACT_ITEMS_MAX + 1, oldest);
                exact.items().chain([item]).for_each(|item| layer.set(key.item_hash(item)));
                *self = Self::from_words(layer.into_words());
                Inserted::Layered
            }
            Form::Empty | Form::Exact(_) => {
                *self = Self::from_words(exact::with(self.words().0, item, bucket));
                Inserted::Added
            }
        }
    }

    /// Adds a hash to a layered state.
    fn insert_hash(&mut self, sizing: &Sizing, hash: u64) -> Inserted {
        match &mut self.0 {
            Held::One(main) => {
                let mut growth = Growth::new();
                let inserted = layered::insert(main, &mut growth, sizing, hash);
                if !growth.is_empty() {
                    let main = std::mem::take(main);
                    self.0 = Held::Grown(Some(Box::new(Grown { main, growth })));
                }
                inserted
            }
            Held::Grown(Some(grown)) => {
                layered::insert(&mut grown.main, &mut grown.growth, sizing, hash)
            }
            Held::Grown(None) => Inserted::AlreadySeen,
        }
    }

    /// How many items were added since the state was empty, as far as they did not read as seen.
    pub fn items(&self) -> u64 {
        match self.form() {
            Form::Empty => 0,
            Form::Exact(exact) => exact.len() as u64,
            Form::Layered(layered) => layered.items(),
        }
    }

    /// True if the state is exact: it gives no false positives.
    pub fn is_exact(&self) -> bool {
        !matches!(self.form(), Form::Layered(_))
    }

    /// Bytes asked of the allocator.
    pub fn heap_bytes(&self) -> usize {
        let grown = match &self.0 {
            Held::Grown(Some(grown)) => {
                let spilled = if grown.growth.spilled() { grown.growth.capacity() } else { 0 };
                size_of::<Grown>() + spilled * size_of::<Box<[u64]>>()
            }
            _ => 0,
        };
        8 * self.words_len() + grown
    }

    /// True if a rebuild from storage is worth it: the history outgrew its base by half, so that it
    /// costs at most three rows read a mark; or the entry promises less than the namespace does.
    pub fn rebuild_due(&self, sizing: &Sizing) -> bool {
        match self.form() {
            Form::Empty | Form::Exact(_) => false,
            Form::Layered(layered) => layered.rebuild_due(sizing),
        }
    }

    /// The false-positive rate that the layers were sized for, all together; 0 if exact. Cheap.
    pub fn promised_rate(&self) -> f64 {
        match self.form() {
            Form::Empty | Form::Exact(_) => 0.0,
            Form::Layered(layered) => layered.promised_rate(),
        }
    }

    /// The false-positive rate that the bits set now give to a random unread id, layers included;
    /// 0 if exact. Reads the whole state.
    pub fn estimated_rate(&self) -> f64 {
        let unread = |unread: f64, layer: LayerInfo| unread * (1.0 - layer.current_rate);
        1.0 - self.describe().into_iter().fold(1.0, unread)
    }

    /// The lowest expiry bucket of the items; `None` if there are none.
    pub fn oldest_bucket(&self) -> Option<u32> {
        self.words().0.first().map(|header| bucket_of(*header))
    }

    fn lower_bucket(&mut self, bucket: u32) {
        let main = match &mut self.0 {
            Held::One(words) => words,
            Held::Grown(Some(grown)) => &mut grown.main,
            Held::Grown(None) => return,
        };
        if let Some(header) = main.first_mut() {
            let oldest = bucket_of(*header).min(bucket);
            *header = *header & 0xffff_ffff | u64::from(oldest) << 32;
        }
    }

    /// The layers, oldest first. Reads the whole state.
    pub fn describe(&self) -> Vec<LayerInfo> {
        match self.form() {
            Form::Empty => Vec::new(),
            Form::Exact(exact) => vec![exact.describe()],
            Form::Layered(layered) => layered.describe(),
        }
    }
}

/// Equal if they hold the same layers, wherever these lie.
impl PartialEq for UserState {
    fn eq(&self, other: &Self) -> bool {
        self.all_words().eq(other.all_words())
    }
}

impl Eq for UserState {}

/// The oldest bucket, kept in the high half of the first word of every form.
fn bucket_of(header: u64) -> u32 {
    (header >> 32) as u32
}
