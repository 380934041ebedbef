//! What is known to be true: what each user has read, and what there is to read.

use std::sync::Arc;

use ahash::{AHashSet, RandomState};
use parking_lot::{RwLock, RwLockReadGuard};
use seen_filter::Item;

/// Most items that unread candidates are drawn from; later ones of a longer history are not offered.
const UNIVERSE_ITEMS_MAX: usize = 16 << 20;
/// How often an item is drawn again that the user has read, before one is made up.
const DRAWS_MAX: usize = 16;

/// A stream of numbers that is the same in every run.
#[derive(Clone, Debug)]
pub(super) struct Draws(u64);

impl Draws {
    pub(super) fn new(seed: u64, user: u64) -> Self {
        Self(seed ^ user.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// Splitmix64 (Steele, Lea, Flood: Fast Splittable Pseudorandom Number Generators, 2014).
    pub(super) fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, or 0.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        ((u128::from(self.number()) * bound as u128) >> 64) as usize
    }
}

/// Every item that was in the file so far, in the order of its first event.
#[derive(Clone, Debug, Default)]
pub(super) struct Universe {
    items: Arc<RwLock<Vec<Item>>>,
}

impl Universe {
    /// The items; hold it for one page at most.
    pub(super) fn items(&self) -> RwLockReadGuard<'_, Vec<Item>> {
        self.items.read()
    }
}

/// Fills a [`Universe`]; belongs to the reader of the file.
#[derive(Debug)]
pub(super) struct UniverseWriter {
    universe: Universe,
    known: AHashSet<Item>,
}

impl UniverseWriter {
    pub(super) fn new(universe: &Universe) -> Self {
        Self { universe: universe.clone(), known: AHashSet::new() }
    }

    /// Takes an item in; how many items there are now.
    pub(super) fn add(&mut self, item: Item) -> u32 {
        if self.known.len() < UNIVERSE_ITEMS_MAX && self.known.insert(item) {
            self.universe.items.write().push(item);
        }
        self.known.len() as u32
    }
}

/// What one user has read, as far as it was acknowledged.
#[derive(Debug)]
pub(super) struct Truth {
    draws: Draws,
    read: Vec<Item>,
    known: AHashSet<Item>,
}

/// One page of candidates, each with whether the user has read it. Sorted by kind.
#[derive(Debug, Default)]
pub(super) struct Page {
    pub(super) candidates: Vec<(Item, bool)>,
}

impl Truth {
    pub(super) fn new(seed: u64, user: u64) -> Self {
        // Keyed the same in every run; whoever writes the file can only slow down their own replay.
        let state = RandomState::with_seeds(seed, user, 1, 2);
        Self {
            draws: Draws::new(seed, user),
            read: Vec::new(),
            known: AHashSet::with_hasher(state),
        }
    }

    /// The user has read this: it was acknowledged.
    pub(super) fn read(&mut self, item: Item) {
        if self.known.insert(item) {
            self.read.push(item);
        }
    }

    /// Whether this was written is not known: it is offered neither as read nor as unread any more.
    pub(super) fn uncertain(&mut self, item: Item) {
        self.known.insert(item);
    }

    /// How many items the user has read.
    pub(super) fn count(&self) -> usize {
        self.read.len()
    }

    /// One of them, the latest first.
    pub(super) fn latest(&self, back: usize) -> Option<Item> {
        self.read.iter().rev().nth(back).copied()
    }

    /// Draws a page: every other candidate uniformly from what the user has read, the others from
    /// what the user has not, among the universe's first `universe_len` items. Where there is none, a
    /// number that was never in the file is made up. The same in every run.
    pub(super) fn page(
        &mut self,
        candidates: usize,
        universe: &Universe,
        universe_len: u32,
        kind: u8,
    ) -> Page {
        let mut page = Page { candidates: Vec::with_capacity(candidates) };
        let items = universe.items();
        let items = items.get(..universe_len as usize).unwrap_or(&items);
        for place in 0..candidates {
            let wants_read = place % 2 == 1;
            let read = self.read.len();
            if wants_read && read > 0 {
                let place = self.draws.below(read);
                page.candidates.push((self.read[place], true));
            } else {
                page.candidates.push((self.unread(items, kind), false));
            }
        }
        // Groups are runs of one kind; a page of one kind is sorted already.
        page.candidates.sort_by_key(|(item, _)| item.kind);
        page
    }

    /// An item that the user has not read.
    pub(super) fn unread(&mut self, items: &[Item], kind: u8) -> Item {
        for _ in 0..DRAWS_MAX {
            let place = self.draws.below(items.len());
            match items.get(place) {
                Some(item) if !self.known.contains(item) => return *item,
                Some(_) => {}
                None => break,
            }
        }
        loop {
            let made_up = Item::new(kind, self.draws.number());
            if !self.known.contains(&made_up) {
                return made_up;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn universe(ids: std::ops::Range<u64>) -> (Universe, u32) {
        let universe = Universe::default();
        let mut writer = UniverseWriter::new(&universe);
        let len = ids.map(|id| writer.add(Item::new(0, id))).last().unwrap_or(0);
        (universe, len)
    }

    #[test]
    fn half_of_a_page_was_read_and_half_was_not() {
        let (universe, len) = universe(0..1_000);
        let mut truth = Truth::new(1, 7);
        (0..100).for_each(|id| truth.read(Item::new(0, id)));
        truth.uncertain(Item::new(0, 100));
        let page = truth.page(400, &universe, len, 0);
        let (read, unread): (Vec<_>, Vec<_>) =
            page.candidates.into_iter().partition(|(_, read)| *read);
        assert_eq!((read.len(), unread.len()), (200, 200));
        assert!(read.iter().all(|(item, _)| item.id.get() < 100));
        assert!(unread.iter().all(|(item, _)| (101..1_000).contains(&item.id.get())));
        let distinct: AHashSet<Item> = read.iter().map(|(item, _)| *item).collect();
        assert!(distinct.len() > 70, "uniformly drawn: {}", distinct.len());
    }

    #[test]
    fn who_has_read_nothing_or_everything_is_offered_what_there_is() {
        let (universe, len) = universe(0..10);
        let mut fresh = Truth::new(1, 7);
        assert!(fresh.page(20, &universe, len, 3).candidates.iter().all(|(_, read)| !read));
        let mut all = Truth::new(1, 7);
        (0..10).for_each(|id| all.read(Item::new(0, id)));
        let page = all.page(20, &universe, len, 3);
        let made_up = page.candidates.iter().filter(|(_, read)| !read);
        assert!(made_up.clone().all(|(item, _)| item.kind.get() == 3 && item.id.get() >= 10));
        assert_eq!(made_up.count(), 10);
        let empty = Truth::new(1, 7).page(4, &Universe::default(), 0, 0);
        assert_eq!(empty.candidates.len(), 4);
    }

    #[test]
    fn pages_are_the_same_in_every_run_however_far_the_file_was_read() {
        let (short, len) = universe(0..500);
        let (long, _) = universe(0..5_000);
        let page = |universe: &Universe| {
            let mut truth = Truth::new(9, 7);
            (0..50).for_each(|id| truth.read(Item::new(0, id * 3)));
            truth.page(100, universe, len, 0).candidates
        };
        assert_eq!(page(&short), page(&long));
    }
}
