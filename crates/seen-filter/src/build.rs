//! Building a user's state from the rows of storage, in steps that a caller may bound.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::hash::HashKey;
use crate::history::Row;
use crate::ids::{Item, UnixMillis};
use crate::sizing::Sizing;
use crate::state::layered::Assembling;
use crate::state::{EXACT_ITEMS_MAX, UserState, exact};

/// Hashes of one chunk: 64 KiB, so that collecting never moves much memory at once.
const CHUNK_HASHES: usize = 8192;

/// Collects the rows of one history and makes a [`UserState`] of exactly the right size.
///
/// The size is known only at the end, so that the items are kept as 8-byte hashes until then (the
/// first few as they are, should they be all). Each step takes microseconds: [`Builder::push_rows`]
/// for a page, [`Builder::seal`], then [`Assembly::advance`] by as many rows as the caller likes.
#[derive(Clone, Debug)]
pub struct Builder {
    key: HashKey,
    sizing: Sizing,
    rows: Rows,
}

/// A row as it is kept: ordered by time, then by item, so that the newest N are well defined.
type Kept = (UnixMillis, Item, u32);

#[derive(Clone, Debug)]
enum Rows {
    All { chunks: Vec<Vec<u64>>, first: Vec<Item>, oldest: u32 },
    Newest { heap: BinaryHeap<Reverse<Kept>>, rows_max: usize },
}

impl Builder {
    /// A builder of an empty history. With [`Sizing::newest_max`] it keeps only the newest rows.
    pub fn new(key: &HashKey, sizing: &Sizing) -> Self {
        let rows = match sizing.newest_max() {
            None => Rows::All { chunks: Vec::new(), first: Vec::new(), oldest: u32::MAX },
            Some(max) => Rows::Newest { heap: BinaryHeap::new(), rows_max: max as usize },
        };
        Self { key: *key, sizing: *sizing, rows }
    }

    /// Adds an item, with the time of its mark and the bucket that it was committed in. Each item
    /// must be given once: repeats would make the filter larger than needed.
    pub fn push(&mut self, item: Item, marked_at: UnixMillis, bucket: u32) {
        match &mut self.rows {
            Rows::All { chunks, first, oldest } => {
                *oldest = bucket.min(*oldest);
                if first.len() < EXACT_ITEMS_MAX {
                    first.push(item);
                }
                let hash = self.key.item_hash(item);
                match chunks.last_mut() {
                    Some(chunk) if chunk.len() < CHUNK_HASHES => chunk.push(hash),
                    _ => {
                        let mut chunk = Vec::with_capacity(CHUNK_HASHES);
                        chunk.push(hash);
                        chunks.push(chunk);
                    }
                }
            }
            Rows::Newest { heap, rows_max } => {
                heap.push(Reverse((marked_at, item, bucket)));
                if heap.len() > *rows_max {
                    heap.pop();
                }
            }
        }
    }

    /// Adds the rows of a page.
    pub fn push_rows(&mut self, rows: &[Row]) {
        rows.iter().for_each(|row| self.push(row.item, row.marked_at, row.bucket));
    }

    /// How many items the state would hold.
    pub fn len(&self) -> usize {
        match &self.rows {
            Rows::All { chunks, .. } => chunks.iter().map(Vec::len).sum(),
            Rows::Newest { heap, .. } => heap.len(),
        }
    }

    /// True if the state would hold nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Bytes that the builder keeps on the heap, to bound what concurrent builds take together.
    pub fn heap_bytes(&self) -> usize {
        match &self.rows {
            Rows::All { chunks, .. } => chunks.iter().map(|chunk| chunk.capacity() * 8).sum(),
            Rows::Newest { heap, .. } => heap.capacity() * size_of::<Reverse<Kept>>(),
        }
    }

    /// Ends the collecting and allocates the state.
    pub fn seal(self) -> Assembly {
        let items = self.len();
        let Self { key, sizing, rows } = self;
        let (pending, mut exact, oldest) = match rows {
            Rows::All { chunks, first, oldest } => (Pending::Hashes(chunks), first, oldest),
            Rows::Newest { heap, .. } => {
                let rows = heap.into_vec();
                let oldest = rows.iter().map(|row| row.0.2).min().unwrap_or(u32::MAX);
                let first = rows.iter().take(EXACT_ITEMS_MAX).map(|row| row.0.1).collect();
                (Pending::Rows(rows), first, oldest)
            }
        };
        if items <= EXACT_ITEMS_MAX {
            exact.sort_unstable();
            exact.dedup();
            let words = exact::encode(&exact, oldest);
            return Assembly { key, stage: Stage::Done(UserState::from_words(words)) };
        }
        let layer = Assembling::new(&sizing, items, oldest);
        Assembly { key, stage: Stage::Filling { layer, pending } }
    }

    /// The state, in one step.
    pub fn finish(self) -> UserState {
        self.seal().into_state()
    }
}

/// A state whose size is settled and whose bits are being set.
#[derive(Clone, Debug)]
pub struct Assembly {
    key: HashKey,
    stage: Stage,
}

#[derive(Clone, Debug)]
enum Stage {
    Done(UserState),
    Filling { layer: Assembling, pending: Pending },
}

/// What remains to be set; taken from the end, since the order of bits does not matter.
#[derive(Clone, Debug)]
enum Pending {
    Hashes(Vec<Vec<u64>>),
    Rows(Vec<Reverse<Kept>>),
}

impl Assembly {
    /// Sets the bits of at least `rows` rows (up to the end of a chunk of 8,192), or of those that
    /// are left. True when nothing is left. A thousand rows take about ten microseconds.
    pub fn advance(&mut self, rows: usize) -> bool {
        let Stage::Filling { layer, pending } = &mut self.stage else { return true };
        match pending {
            Pending::Hashes(chunks) => {
                let mut set = 0;
                while set < rows
                    && let Some(chunk) = chunks.pop()
                {
                    set += chunk.len();
                    chunk.into_iter().for_each(|hash| layer.set(hash));
                }
                chunks.is_empty()
            }
            Pending::Rows(left) => {
                let tail = left.drain(left.len().saturating_sub(rows)..);
                tail.for_each(|row| layer.set(self.key.item_hash(row.0.1)));
                left.is_empty()
            }
        }
    }

    /// The state, after what is left has been done in one step.
    pub fn into_state(mut self) -> UserState {
        while !self.advance(usize::MAX) {}
        match self.stage {
            Stage::Done(state) => state,
            Stage::Filling { layer, .. } => UserState::from_words(layer.into_words()),
        }
    }
}
