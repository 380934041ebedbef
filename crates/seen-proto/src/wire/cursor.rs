//! Reads protobuf's wire format from a slice. Accepts what prost accepts, bit for bit: padded
//! varints, unknown fields, groups up to prost's depth.
//! The format: <https://protobuf.dev/programming-guides/encoding/>.

use super::WireError;

/// How deep prost lets messages and groups nest; a message of a message counts as one.
pub(super) const DEPTH_MAX: u32 = 100;

/// How a field's value is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WireType {
    Varint,
    Fixed64,
    Bytes,
    StartGroup,
    EndGroup,
    Fixed32,
}

/// What is left to read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a> {
    rest: &'a [u8],
}

type Result<T> = std::result::Result<T, WireError>;

const fn malformed<T>(what: &'static str) -> Result<T> {
    Err(WireError::Malformed(what))
}

impl<'a> Cursor<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// How many bytes are left.
    pub(super) const fn left(&self) -> usize {
        self.rest.len()
    }

    /// The next field's number and layout, or `None` at the end.
    #[inline]
    pub(super) fn key(&mut self) -> Result<Option<(u32, WireType)>> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let Ok(key) = u32::try_from(self.varint()?) else {
            return malformed("a field number is too large");
        };
        let wire_type = match key & 7 {
            0 => WireType::Varint,
            1 => WireType::Fixed64,
            2 => WireType::Bytes,
            3 => WireType::StartGroup,
            4 => WireType::EndGroup,
            5 => WireType::Fixed32,
            _ => return malformed("a field has an undefined wire type"),
        };
        match key >> 3 {
            0 => malformed("a field has number 0"),
            tag => Ok(Some((tag, wire_type))),
        }
    }

    /// A number of up to 64 bits; may be padded to at most 10 bytes.
    #[inline]
    pub(super) fn varint(&mut self) -> Result<u64> {
        match self.rest.split_first() {
            Some((&byte, rest)) if byte < 0x80 => {
                self.rest = rest;
                Ok(u64::from(byte))
            }
            _ => self.long_varint(),
        }
    }

    fn long_varint(&mut self) -> Result<u64> {
        let mut value = 0_u64;
        for (index, &byte) in self.rest.iter().take(10).enumerate() {
            value |= u64::from(byte & 0x7f) << (index * 7);
            if byte < 0x80 {
                if index == 9 && byte > 1 {
                    return malformed("a number has more than 64 bits");
                }
                self.rest = &self.rest[index + 1..];
                return Ok(value);
            }
        }
        malformed("a number does not end")
    }

    /// The next `len` bytes.
    #[inline]
    fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        match self.rest.split_at_checked(len) {
            Some((taken, rest)) => {
                self.rest = rest;
                Ok(taken)
            }
            None => malformed("it ends inside a field"),
        }
    }

    /// A value of the layout `actual`, which must be fixed64, as its 8 bytes.
    #[inline]
    pub(super) fn fixed64_bytes(&mut self, actual: WireType) -> Result<&'a [u8]> {
        expect(WireType::Fixed64, actual)?;
        self.take(8)
    }

    /// A value of the layout `actual`, which must be fixed64.
    #[inline]
    pub(super) fn fixed64(&mut self, actual: WireType) -> Result<u64> {
        let bytes = self.fixed64_bytes(actual)?;
        bytes.try_into().map(u64::from_le_bytes).or(malformed("it ends inside a field"))
    }

    /// A value of the layout `actual`, which must be a varint.
    #[inline]
    pub(super) fn uint(&mut self, actual: WireType) -> Result<u64> {
        expect(WireType::Varint, actual)?;
        self.varint()
    }

    /// A value of the layout `actual`, which must be bytes, a string, a message or packed numbers.
    #[inline]
    pub(super) fn bytes(&mut self, actual: WireType) -> Result<&'a [u8]> {
        expect(WireType::Bytes, actual)?;
        match usize::try_from(self.varint()?) {
            Ok(len) => self.take(len),
            Err(_) => malformed("it ends inside a field"),
        }
    }

    /// A value of the layout `actual`, which must be text in UTF-8.
    #[inline]
    pub(super) fn text(&mut self, actual: WireType) -> Result<&'a str> {
        str::from_utf8(self.bytes(actual)?).or(malformed("a string is not UTF-8"))
    }

    /// Steps over an unknown field at this many levels of nesting left.
    pub(super) fn skip(&mut self, tag: u32, wire_type: WireType, depth: u32) -> Result<()> {
        let Some(inner_depth) = depth.checked_sub(1) else {
            return malformed("it nests too deep");
        };
        match wire_type {
            WireType::Varint => self.varint().map(drop),
            WireType::Fixed64 => self.take(8).map(drop),
            WireType::Fixed32 => self.take(4).map(drop),
            WireType::Bytes => self.bytes(wire_type).map(drop),
            WireType::EndGroup => malformed("a group ends that did not begin"),
            WireType::StartGroup => loop {
                match self.key()? {
                    Some((end, WireType::EndGroup)) if end == tag => return Ok(()),
                    Some((inner, inner_type)) => self.skip(inner, inner_type, inner_depth)?,
                    None => return malformed("a group does not end"),
                }
            },
        }
    }
}

#[inline]
fn expect(expected: WireType, actual: WireType) -> Result<()> {
    if expected == actual { Ok(()) } else { malformed("a field has another type") }
}
