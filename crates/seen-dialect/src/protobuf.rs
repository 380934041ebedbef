//! As much of protobuf's encoding as the two dialects need that are protobuf: fields one after another,
//! borrowed from the bytes they lie in.

/// Bytes that are no protobuf, or end too early.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// The highest number that a field may have.
const FIELD_MAX: u64 = (1 << 29) - 1;

/// A field's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    Varint(u64),
    Fixed32(u32),
    Fixed64(u64),
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    pub fn varint(self) -> Result<u64, Malformed> {
        match self {
            Self::Varint(number) => Ok(number),
            _ => Err(Malformed),
        }
    }

    pub fn fixed64(self) -> Result<u64, Malformed> {
        match self {
            Self::Fixed64(number) => Ok(number),
            _ => Err(Malformed),
        }
    }

    pub fn bytes(self) -> Result<&'a [u8], Malformed> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            _ => Err(Malformed),
        }
    }

    pub fn text(self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed)
    }
}

/// Takes a number off the front.
#[inline]
pub(crate) fn take_varint(bytes: &mut &[u8]) -> Result<u64, Malformed> {
    let mut number = 0;
    for at in 0..10 {
        let (&byte, rest) = bytes.split_first().ok_or(Malformed)?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << (7 * at);
        if byte < 0x80 {
            // The tenth byte has room for one bit.
            return if at == 9 && byte > 1 { Err(Malformed) } else { Ok(number) };
        }
    }
    Err(Malformed)
}

/// Takes so many bytes off the front.
pub(crate) fn take<'a>(bytes: &mut &'a [u8], length: u64) -> Result<&'a [u8], Malformed> {
    let length = usize::try_from(length).map_err(|_| Malformed)?;
    let (taken, rest) = bytes.split_at_checked(length).ok_or(Malformed)?;
    *bytes = rest;
    Ok(taken)
}

/// Takes a number of fixed size off the front.
pub(crate) fn take_array<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], Malformed> {
    let (taken, rest) = bytes.split_first_chunk::<N>().ok_or(Malformed)?;
    *bytes = rest;
    Ok(*taken)
}

/// A number whose sign is its lowest bit, as it was.
pub(crate) const fn unzigzag(number: u64) -> i64 {
    (number >> 1).cast_signed() ^ -(number & 1).cast_signed()
}

/// A number with its sign as its lowest bit.
pub(crate) const fn zigzag(number: i64) -> u64 {
    ((number << 1) ^ (number >> 63)).cast_unsigned()
}

/// Appends a number.
pub(crate) fn put_varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// The fields of one message, in the order they lie in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    fn field(&mut self) -> Result<(u64, Value<'a>), Malformed> {
        let tag = take_varint(&mut self.0)?;
        let value = match tag & 7 {
            0 => Value::Varint(take_varint(&mut self.0)?),
            1 => Value::Fixed64(u64::from_le_bytes(take_array(&mut self.0)?)),
            2 => {
                let length = take_varint(&mut self.0)?;
                Value::Bytes(take(&mut self.0, length)?)
            }
            5 => Value::Fixed32(u32::from_le_bytes(take_array(&mut self.0)?)),
            _ => return Err(Malformed),
        };
        match tag >> 3 {
            number @ 1..=FIELD_MAX => Ok((number, value)),
            _ => Err(Malformed),
        }
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u64, Value<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.0 = &[];
        }
        Some(field)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_they_were_written() {
        for number in [0, 1, 127, 128, 300, u64::MAX >> 1, u64::MAX] {
            let mut bytes = Vec::new();
            put_varint(number, &mut bytes);
            let mut rest = bytes.as_slice();
            assert_eq!((take_varint(&mut rest), rest.len()), (Ok(number), 0));
            assert_eq!(take_varint(&mut &bytes[..bytes.len() - 1]), Err(Malformed), "{number}");
            assert_eq!(unzigzag(zigzag(number.cast_signed())), number.cast_signed());
        }
        assert_eq!(take_varint(&mut [0xff; 10].as_slice()), Err(Malformed));
        assert_eq!((zigzag(-1), zigzag(1)), (1, 2));
    }

    #[test]
    fn a_field_that_cannot_be_read_is_the_last() {
        let read = |bytes| Fields(bytes).collect::<Vec<_>>();
        assert_eq!(read(&[0x08, 0x05]), [Ok((1, Value::Varint(5)))]);
        assert_eq!(read(&[0x12, 0x01, b'a']), [Ok((2, Value::Bytes(b"a")))]);
        for bad in [&[0x08][..], &[0x12, 0x02, b'a'], &[0x0b, 0x0c], &[0x00, 0x00], &[0x0d, 1, 2]] {
            assert_eq!(read(bad), [Err(Malformed)], "{bad:02x?}");
        }
    }
}
