//! Whose users a replica may keep.

use seen_filter::hash::VIRTUAL_SLOTS;
use seen_filter::{SlotKey, UserId, VirtualSet};

use super::sync::{AtomicBool, AtomicU64, Ordering};

const WORDS: usize = VIRTUAL_SLOTS as usize / 64;

/// The slots whose users a replica may keep in memory, as the map of slots says at the moment (coherence
/// rows 34 and 35). Each slot changes by itself: nothing follows from two of them together.
#[derive(Debug)]
pub(crate) struct OwnedSlots {
    /// True where there is no map: a replica that serves everybody.
    all: AtomicBool,
    words: [AtomicU64; WORDS],
}

impl OwnedSlots {
    pub fn all() -> Self {
        Self { all: AtomicBool::new(true), words: [const { AtomicU64::new(0) }; WORDS] }
    }

    pub fn set(&self, slots: &VirtualSet) {
        for (word, wanted) in self.words.iter().zip(slots.words()) {
            word.store(*wanted, Ordering::Relaxed);
        }
        self.all.store(*slots == VirtualSet::ALL, Ordering::Release);
    }

    /// The slots as they are now.
    pub fn get(&self) -> VirtualSet {
        if self.all.load(Ordering::Acquire) {
            return VirtualSet::ALL;
        }
        let words = std::array::from_fn(|at| self.words[at].load(Ordering::Relaxed));
        VirtualSet::from_words(words)
    }

    /// True if this user may be kept.
    #[inline]
    pub fn owns(&self, key: impl FnOnce() -> SlotKey, user: UserId) -> bool {
        if self.all.load(Ordering::Acquire) {
            return true;
        }
        let slot = key().virtual_slot(user).get();
        let word = self.words.get(usize::from(slot / 64));
        word.is_some_and(|word| word.load(Ordering::Relaxed) >> (slot % 64) & 1 == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_is_owned_by_the_slot_that_the_key_says() {
        let key = SlotKey::from_words((1, 2));
        let owned = OwnedSlots::all();
        let user = UserId::new(7);
        assert!(owned.owns(|| key, user) && owned.get() == VirtualSet::ALL);
        owned.set(&VirtualSet::NONE);
        assert!(!owned.owns(|| key, user));
        owned.set(&VirtualSet::from_iter([key.virtual_slot(user)]));
        let theirs = |n: &u64| key.virtual_slot(UserId::new(*n)) == key.virtual_slot(user);
        let kept = (0..10_000).filter(|n| owned.owns(|| key, UserId::new(*n)));
        assert!(kept.eq((0..10_000).filter(theirs)));
        assert_eq!(owned.get().len(), 1);
    }
}
