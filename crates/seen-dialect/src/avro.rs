//! Avro's binary encoding, as much of it as TiCDC's two Avro formats use.

pub(crate) mod schema;

use crate::protobuf::{Malformed, take, take_varint, unzigzag};

/// Reads values off the front of bytes. What is not read is told by [`Reader::is_empty`].
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reader<'a>(pub &'a [u8]);

impl<'a> Reader<'a> {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// An `int`, a `long`, the place of a union's branch or of an enum's symbol.
    pub fn long(&mut self) -> Result<i64, Malformed> {
        take_varint(&mut self.0).map(unzigzag)
    }

    /// The place of a union's branch or of an enum's symbol.
    pub fn place(&mut self) -> Result<usize, Malformed> {
        usize::try_from(self.long()?).map_err(|_| Malformed)
    }

    pub fn boolean(&mut self) -> Result<bool, Malformed> {
        match take(&mut self.0, 1)? {
            [0] => Ok(false),
            [1] => Ok(true),
            _ => Err(Malformed),
        }
    }

    pub fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let length = u64::try_from(self.long()?).map_err(|_| Malformed)?;
        take(&mut self.0, length)
    }

    pub fn text(&mut self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed)
    }

    pub fn skip(&mut self, length: usize) -> Result<(), Malformed> {
        take(&mut self.0, length as u64).map(drop)
    }

    /// True if the branch of a union of null and something else is the other one, which must stand
    /// second.
    pub fn is_there(&mut self) -> Result<bool, Malformed> {
        match self.long()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(Malformed),
        }
    }

    /// The elements of an array or a map, which come in blocks; `each` reads one.
    pub fn elements(
        &mut self,
        mut each: impl FnMut(&mut Self) -> Result<(), Malformed>,
    ) -> Result<(), Malformed> {
        loop {
            let count = match self.long()? {
                0 => return Ok(()),
                // The block's size in bytes follows, for those who pass over it.
                negative if negative < 0 => {
                    self.long()?;
                    negative.unsigned_abs()
                }
                count => count.unsigned_abs(),
            };
            // Elements that take no bytes at all could be said to be any number of.
            if count > self.0.len() as u64 {
                return Err(Malformed);
            }
            for _ in 0..count {
                each(self)?;
            }
        }
    }
}
