//! A set of virtual slots.

use std::fmt;

use seen_filter::VirtualSlot;
use seen_filter::hash::VIRTUAL_SLOTS;

const WORDS: usize = VIRTUAL_SLOTS as usize / 64;

/// A set of virtual slots. As text: `0-2047,2050`, and nothing for none.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct VirtualSet {
    bits: Box<[u64; WORDS]>,
}

impl VirtualSet {
    /// None.
    pub fn empty() -> Self {
        Self { bits: Box::new([0; WORDS]) }
    }

    /// All 4,096.
    pub fn full() -> Self {
        Self { bits: Box::new([u64::MAX; WORDS]) }
    }

    /// The set that `text` describes: ranges and single slots with commas between them.
    ///
    /// # Errors
    ///
    /// What is wrong, for people.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut set = Self::empty();
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
        let fresh = self.bits[word] & bit == 0;
        self.bits[word] |= bit;
        fresh
    }

    /// Takes a slot out. False if it was not there.
    pub fn remove(&mut self, slot: VirtualSlot) -> bool {
        let (word, bit) = place(slot);
        let there = self.bits[word] & bit != 0;
        self.bits[word] &= !bit;
        there
    }

    /// True if the slot is in it.
    pub fn contains(&self, slot: VirtualSlot) -> bool {
        let (word, bit) = place(slot);
        self.bits[word] & bit != 0
    }

    /// How many are in it.
    pub fn len(&self) -> usize {
        self.bits.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// True if none is in it.
    pub fn is_empty(&self) -> bool {
        self.bits.iter().all(|word| *word == 0)
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

    fn with(&self, other: &Self, word: impl Fn(u64, u64) -> u64) -> Self {
        Self { bits: Box::new(std::array::from_fn(|at| word(self.bits[at], other.bits[at]))) }
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
        Self::empty()
    }
}

impl FromIterator<VirtualSlot> for VirtualSet {
    fn from_iter<I: IntoIterator<Item = VirtualSlot>>(slots: I) -> Self {
        let mut set = Self::empty();
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
