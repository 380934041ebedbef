//! Sets of virtual slots: whose users are meant.

use seen_filter::hash::VIRTUAL_SLOTS;
use seen_filter::{SlotKey, UserId, VirtualSlot};

use super::sync::{AtomicBool, AtomicU64, Ordering};

const WORDS: usize = VIRTUAL_SLOTS as usize / 64;

/// Some of the virtual slots.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SlotSet([u64; WORDS]);

impl SlotSet {
    /// None of them.
    pub const NONE: Self = Self([0; WORDS]);
    /// All of them.
    pub const ALL: Self = Self([u64::MAX; WORDS]);

    /// Adds a slot; numbers beyond the last one are left out.
    pub fn insert(&mut self, slot: VirtualSlot) {
        if let Some(word) = self.0.get_mut(usize::from(slot.get() / 64)) {
            *word |= 1 << (slot.get() % 64);
        }
    }

    /// True if the slot is one of these.
    pub fn contains(&self, slot: VirtualSlot) -> bool {
        let word = self.0.get(usize::from(slot.get() / 64));
        word.is_some_and(|word| word >> (slot.get() % 64) & 1 == 1)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// True if there is none.
    pub fn is_empty(&self) -> bool {
        *self == Self::NONE
    }

    /// True if a slot is in both.
    pub fn meets(&self, other: &Self) -> bool {
        self.0.iter().zip(other.0).any(|(own, other)| own & other != 0)
    }

    /// The slots, as 512 bytes: slot `n` is bit `n % 8` of byte `n / 8`.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.0.iter().flat_map(|word| word.to_le_bytes()).collect()
    }

    /// Reads what [`Self::to_bytes`] wrote; `None` if it is of another length.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (words, rest) = bytes.as_chunks::<8>();
        let words: &[[u8; 8]; WORDS] = words.try_into().ok()?;
        rest.is_empty().then(|| Self(words.map(u64::from_le_bytes)))
    }
}

impl FromIterator<VirtualSlot> for SlotSet {
    fn from_iter<I: IntoIterator<Item = VirtualSlot>>(slots: I) -> Self {
        let mut set = Self::NONE;
        slots.into_iter().for_each(|slot| set.insert(slot));
        set
    }
}

impl std::fmt::Debug for SlotSet {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SlotSet({} of {VIRTUAL_SLOTS})", self.len())
    }
}

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

    pub fn set(&self, slots: &SlotSet) {
        for (word, wanted) in self.words.iter().zip(slots.0) {
            word.store(wanted, Ordering::Relaxed);
        }
        self.all.store(*slots == SlotSet::ALL, Ordering::Release);
    }

    /// The slots as they are now.
    pub fn get(&self) -> SlotSet {
        if self.all.load(Ordering::Acquire) {
            return SlotSet::ALL;
        }
        SlotSet(std::array::from_fn(|at| self.words[at].load(Ordering::Relaxed)))
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
    fn sets_hold_what_was_put_in_and_survive_bytes() {
        let slots: SlotSet = [0, 63, 64, 4_095].into_iter().map(VirtualSlot::new).collect();
        assert_eq!((slots.len(), slots.is_empty()), (4, false));
        assert!(!slots.contains(VirtualSlot::new(1)) && slots.contains(VirtualSlot::new(4_095)));
        let bytes = slots.to_bytes();
        assert_eq!((bytes[0], bytes[7], bytes[8], bytes[511]), (1, 128, 1, 128));
        assert_eq!(SlotSet::from_bytes(&bytes), Some(slots));
        assert_eq!(SlotSet::from_bytes(&bytes[1..]), None);
        assert_eq!(SlotSet::from_bytes(&[&bytes[..], &[0]].concat()), None);
        assert_eq!(SlotSet::ALL.len(), usize::from(VIRTUAL_SLOTS));
    }

    #[test]
    fn a_user_is_owned_by_the_slot_that_the_key_says() {
        let key = SlotKey::from_words((1, 2));
        let owned = OwnedSlots::all();
        let user = UserId::new(7);
        assert!(owned.owns(|| key, user) && owned.get() == SlotSet::ALL);
        owned.set(&SlotSet::NONE);
        assert!(!owned.owns(|| key, user));
        owned.set(&SlotSet::from_iter([key.virtual_slot(user)]));
        let theirs = |n: &u64| key.virtual_slot(UserId::new(*n)) == key.virtual_slot(user);
        let kept = (0..10_000).filter(|n| owned.owns(|| key, UserId::new(*n)));
        assert!(kept.eq((0..10_000).filter(theirs)));
        assert_eq!(owned.get().len(), 1);
    }
}
