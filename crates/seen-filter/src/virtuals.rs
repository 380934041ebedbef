//! A set of virtual slots.

use std::fmt;

use crate::hash::{VIRTUAL_SLOTS, VirtualSlot};

const WORDS: usize = VIRTUAL_SLOTS as usize / 64;

/// A set of virtual slots. As text: `0-2047,2050`, and nothing for none.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct VirtualSet([u64; WORDS]);

impl VirtualSet {
    /// None.
    pub const NONE: Self = Self([0; WORDS]);
    /// All 4,096.
    pub const ALL: Self = Self([u64::MAX; WORDS]);

    /// The set that `text` describes: ranges and single slots with commas between them.
    ///
    /// # Errors
    ///
    /// What is wrong, for people.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut set = Self::NONE;
        if text.trim().is_empty() {
            return Ok(set);
        }
        for part in text.split(',') {
            let part = part.trim();
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let (first, last) = (number(first)?, number(last)?);
            if first > last {
                return Err(format!("{part:?} ends before it begins"));
            }
            for slot in first..=last {
                if !set.insert(VirtualSlot::new(slot)) {
                    return Err(format!("{slot} is in it twice"));
                }
            }
        }
        Ok(set)
    }

    /// Adds a slot. False if it was there.
    pub fn insert(&mut self, slot: VirtualSlot) -> bool {
        let (word, bit) = place(slot);
        let fresh = self.0[word] & bit == 0;
        self.0[word] |= bit;
        fresh
    }

    /// Takes a slot out. False if it was not there.
    pub fn remove(&mut self, slot: VirtualSlot) -> bool {
        let (word, bit) = place(slot);
        let there = self.0[word] & bit != 0;
        self.0[word] &= !bit;
        there
    }

    /// True if the slot is in it.
    pub fn contains(&self, slot: VirtualSlot) -> bool {
        let (word, bit) = place(slot);
        self.0[word] & bit != 0
    }

    /// How many are in it.
    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// True if none is in it.
    pub fn is_empty(&self) -> bool {
        *self == Self::NONE
    }

    /// Each of them, from the lowest on.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = VirtualSlot> + '_ {
        (0..VIRTUAL_SLOTS).map(VirtualSlot::new).filter(|slot| self.contains(*slot))
    }

    /// What is in either.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        self.with(other, |a, b| a | b)
    }

    /// What is in both.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        self.with(other, |a, b| a & b)
    }

    /// What is in this one only.
    #[must_use]
    pub fn difference(&self, other: &Self) -> Self {
        self.with(other, |a, b| a & !b)
    }

    /// True if a slot is in both.
    pub fn meets(&self, other: &Self) -> bool {
        self.0.iter().zip(other.0).any(|(own, other)| own & other != 0)
    }

    /// Its 64 words: slot `n` is bit `n % 64` of word `n / 64`.
    pub const fn words(&self) -> &[u64; WORDS] {
        &self.0
    }

    /// The set of these words.
    pub const fn from_words(words: [u64; WORDS]) -> Self {
        Self(words)
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

    fn with(&self, other: &Self, word: impl Fn(u64, u64) -> u64) -> Self {
        Self(std::array::from_fn(|at| word(self.0[at], other.0[at])))
    }
}

fn place(slot: VirtualSlot) -> (usize, u64) {
    let slot = slot.get() % VIRTUAL_SLOTS;
    (usize::from(slot / 64), 1 << (slot % 64))
}

fn number(text: &str) -> Result<u16, String> {
    let text = text.trim();
    match text.parse::<u16>() {
        Ok(number) if number < VIRTUAL_SLOTS && text.bytes().all(|byte| byte.is_ascii_digit()) => {
            Ok(number)
        }
        _ => Err(format!("{text:?} is no number from 0 to {}", VIRTUAL_SLOTS - 1)),
    }
}

impl Default for VirtualSet {
    fn default() -> Self {
        Self::NONE
    }
}

impl FromIterator<VirtualSlot> for VirtualSet {
    fn from_iter<I: IntoIterator<Item = VirtualSlot>>(slots: I) -> Self {
        let mut set = Self::NONE;
        slots.into_iter().for_each(|slot| {
            set.insert(slot);
        });
        set
    }
}

impl fmt::Display for VirtualSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut slots = self.iter().map(VirtualSlot::get).peekable();
        let mut comma = "";
        while let Some(first) = slots.next() {
            let mut last = first;
            while let Some(next) = slots.next_if_eq(&(last + 1)) {
                last = next;
            }
            match first == last {
                true => write!(f, "{comma}{first}")?,
                false => write!(f, "{comma}{first}-{last}")?,
            }
            comma = ",";
        }
        Ok(())
    }
}

impl fmt::Debug for VirtualSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{{{self}}}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_hold_what_was_put_in_and_survive_bytes() {
        let slots: VirtualSet = [0, 63, 64, 4_095].into_iter().map(VirtualSlot::new).collect();
        assert_eq!((slots.len(), slots.is_empty()), (4, false));
        assert!(!slots.contains(VirtualSlot::new(1)) && slots.contains(VirtualSlot::new(4_095)));
        let bytes = slots.to_bytes();
        assert_eq!((bytes[0], bytes[7], bytes[8], bytes[511]), (1, 128, 1, 128));
        assert_eq!(VirtualSet::from_bytes(&bytes), Some(slots));
        assert_eq!(VirtualSet::from_bytes(&bytes[1..]), None);
        assert_eq!(VirtualSet::from_bytes(&[&bytes[..], &[0]].concat()), None);
        assert_eq!(VirtualSet::ALL.len(), usize::from(VIRTUAL_SLOTS));
    }
}
