//! Which candidates of a request were seen: one bit a position, on the stack.

/// How many positions [`Verdicts`] holds; a request may have up to 1,000 candidates.
pub const POSITIONS_MAX: usize = 1024;

const WORDS: usize = POSITIONS_MAX / 64;

/// A set of positions below [`POSITIONS_MAX`]. Positions past that do not exist: setting one does
/// nothing, which only a caller that does not bound its requests would notice.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdicts {
    words: [u64; WORDS],
}

impl Verdicts {
    /// No position set.
    pub const fn new() -> Self {
        Self { words: [0; WORDS] }
    }

    /// Sets one position.
    pub fn set(&mut self, position: usize) {
        self.set_if(position, true);
    }

    /// Sets one position if `seen`, without a branch on it.
    #[inline]
    pub fn set_if(&mut self, position: usize, seen: bool) {
        if let Some(word) = self.words.get_mut(position / 64) {
            *word |= u64::from(seen) << (position % 64);
        }
    }

    /// True if the position is set.
    pub fn get(&self, position: usize) -> bool {
        self.words.get(position / 64).is_some_and(|word| word >> (position % 64) & 1 == 1)
    }

    /// How many positions are set.
    pub fn count(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize).sum()
    }

    /// Every position below `n`.
    pub fn first(n: usize) -> Self {
        let mut words = [0; WORDS];
        for (index, word) in words.iter_mut().enumerate() {
            let kept = n.saturating_sub(index * 64);
            *word = if kept < 64 { (1 << kept) - 1 } else { u64::MAX };
        }
        Self { words }
    }

    /// True if no position is set.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }

    /// These positions, as far as `other` does not have them.
    #[must_use]
    pub fn without(mut self, other: &Verdicts) -> Self {
        for (word, less) in self.words.iter_mut().zip(other.words) {
            *word &= !less;
        }
        self
    }

    /// Sets every position that `other` has set.
    pub fn or_with(&mut self, other: &Verdicts) {
        for (word, more) in self.words.iter_mut().zip(other.words) {
            *word |= more;
        }
    }

    /// The positions as bits: 64 a word, the lowest first.
    pub const fn words(&self) -> &[u64] {
        &self.words
    }

    /// The set positions in ascending order.
    pub fn ones(&self) -> impl Iterator<Item = usize> {
        positions(self.words)
    }

    /// The positions below `n` that are not set, in ascending order.
    pub fn zeros(&self, n: usize) -> impl Iterator<Item = usize> {
        let mut words = self.words.map(|word| !word);
        for (index, word) in words.iter_mut().enumerate() {
            let kept = n.saturating_sub(index * 64);
            if kept < 64 {
                *word &= (1 << kept) - 1;
            }
        }
        positions(words)
    }

    /// Sets 64 positions from `first` on, as far as the bits of `mask` are set.
    #[inline]
    pub(crate) fn or_bits(&mut self, first: usize, mask: u64) {
        let (index, shift) = (first / 64, first % 64);
        if let Some(word) = self.words.get_mut(index) {
            *word |= mask << shift;
        }
        if shift != 0
            && let Some(word) = self.words.get_mut(index + 1)
        {
            *word |= mask >> (64 - shift);
        }
    }
}

impl FromIterator<usize> for Verdicts {
    fn from_iter<I: IntoIterator<Item = usize>>(positions: I) -> Self {
        let mut verdicts = Self::new();
        positions.into_iter().for_each(|position| verdicts.set(position));
        verdicts
    }
}

fn positions(words: [u64; WORDS]) -> impl Iterator<Item = usize> {
    words.into_iter().enumerate().flat_map(|(index, mut word)| {
        std::iter::from_fn(move || {
            let bit = word.trailing_zeros() as usize;
            word &= word.wrapping_sub(1);
            (bit < 64).then_some(index * 64 + bit)
        })
    })
}
