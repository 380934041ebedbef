//! A cursor over bytes that came from outside: every step says `None` instead of going too far.

/// What is left to read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// Everything that is left.
    pub fn rest(self) -> &'a [u8] {
        self.0
    }

    pub fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    /// A little-endian number of at most eight bytes.
    pub fn number(&mut self, bytes: usize) -> Option<u64> {
        let taken = self.take(bytes)?;
        let mut wide = [0_u8; 8];
        wide.get_mut(..bytes)?.copy_from_slice(taken);
        Some(u64::from_le_bytes(wide))
    }

    /// The same as a size.
    pub fn size(&mut self, bytes: usize) -> Option<usize> {
        self.number(bytes).and_then(|n| usize::try_from(n).ok())
    }

    /// MySQL's length-encoded number.
    pub fn packed(&mut self) -> Option<u64> {
        match self.number(1)? {
            0xfc => self.number(2),
            0xfd => self.number(3),
            0xfe => self.number(8),
            // NULL, or the mark of an error: no length.
            0xfb | 0xff => None,
            small => Some(small),
        }
    }

    /// The same as a size.
    pub fn packed_size(&mut self) -> Option<usize> {
        self.packed().and_then(|n| usize::try_from(n).ok())
    }

    /// Bytes after their length-encoded length.
    pub fn packed_bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.packed_size()?;
        self.take(length)
    }
}

/// The bit `at` of a bitmap that begins with the lowest bit of its first byte.
pub(super) fn bit(bitmap: &[u8], at: usize) -> bool {
    bitmap.get(at / 8).is_some_and(|byte| byte >> (at % 8) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_read_past_the_end() {
        let mut bytes = Bytes::new(&[0xfc, 1, 2, 3]);
        assert_eq!((bytes.packed(), bytes.number(1)), (Some(0x0201), Some(3)));
        assert_eq!((bytes.number(1), bytes.packed(), bytes.is_empty()), (None, None, true));
        assert_eq!(Bytes::new(&[0xfe, 1]).packed(), None);
        assert_eq!(Bytes::new(&[0xfb]).packed(), None);
        assert_eq!(Bytes::new(&[0; 16]).number(9), None);
        assert_eq!(Bytes::new(&[5, 1]).packed_bytes(), None);
    }

    #[test]
    fn bits_count_from_the_lowest() {
        assert!(bit(&[0b10, 1], 1) && bit(&[0b10, 1], 8) && !bit(&[0b10, 1], 0));
        assert!(!bit(&[], 3));
    }
}
