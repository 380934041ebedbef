//! As much of HPACK (RFC 7541) as tells how a call ended, and none of its other headers.

use std::io;

/// Entries of the static table; what a connection adds is numbered from here on, the newest first.
const STATIC_ENTRIES: usize = 61;
/// `grpc-status` in HPACK's Huffman code.
const STATUS_HUFFMAN: [u8; 8] = [0x9a, 0xca, 0xc8, 0xb2, 0x12, 0x34, 0xda, 0x8f];
const STATUS_PLAIN: &[u8] = b"grpc-status";

/// What a header is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Header {
    Other,
    /// `grpc-status`; its number, if it can be read.
    Status(Option<u32>),
}

/// Reads blocks of headers. Entries that the other end has evicted are kept: it does not refer to them any more, and
/// there are few.
#[derive(Debug, Default)]
pub(super) struct Headers {
    /// In the order in which they were added.
    added: Vec<Header>,
}

impl Headers {
    /// The number of `grpc-status` in a block, if that is there; `u32::MAX` where it is none.
    ///
    /// # Errors
    /// The block is not HPACK.
    pub fn status(&mut self, mut block: &[u8]) -> io::Result<Option<u32>> {
        let mut found = None;
        while let Some(first) = block.first().copied() {
            let header = match first {
                0x80.. => {
                    let index = integer(&mut block, 7)?;
                    self.at(index)?
                }
                0x40.. => {
                    let header = self.literal(&mut block, 6)?;
                    self.added.push(header);
                    header
                }
                // A new size of the table.
                0x20.. => {
                    integer(&mut block, 5)?;
                    continue;
                }
                _ => self.literal(&mut block, 4)?,
            };
            if let Header::Status(number) = header {
                found = Some(number.unwrap_or(u32::MAX));
            }
        }
        Ok(found)
    }

    fn at(&self, index: usize) -> io::Result<Header> {
        if index <= STATIC_ENTRIES {
            return Ok(Header::Other);
        }
        let place = self.added.len().checked_sub(index - STATIC_ENTRIES);
        place.and_then(|place| self.added.get(place).copied()).ok_or_else(broken)
    }

    fn literal(&self, block: &mut &[u8], bits: u8) -> io::Result<Header> {
        let is_status = match integer(block, bits)? {
            0 => match text(block)? {
                (true, name) => name == STATUS_HUFFMAN,
                (false, name) => name == STATUS_PLAIN,
            },
            index => matches!(self.at(index)?, Header::Status(_)),
        };
        let (coded, value) = text(block)?;
        Ok(if is_status { Header::Status(number(coded, value)) } else { Header::Other })
    }
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "headers are not HPACK")
}

/// An integer whose first byte has so many bits for it (RFC 7541, section 5.1).
fn integer(block: &mut &[u8], bits: u8) -> io::Result<usize> {
    let mut next = || {
        let (first, rest) = block.split_first().ok_or_else(broken)?;
        *block = rest;
        Ok::<usize, io::Error>(usize::from(*first))
    };
    let most = (1_usize << bits) - 1;
    let mut value = next()? & most;
    if value < most {
        return Ok(value);
    }
    for shift in (0..28).step_by(7) {
        let byte = next()?;
        value += (byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err(broken())
}

/// A text, and whether it is in Huffman's code.
fn text<'a>(block: &mut &'a [u8]) -> io::Result<(bool, &'a [u8])> {
    let coded = block.first().is_some_and(|first| first & 0x80 != 0);
    let bytes = integer(block, 7)?;
    let (text, rest) = block.split_at_checked(bytes).ok_or_else(broken)?;
    *block = rest;
    Ok((coded, text))
}

/// A decimal number. In Huffman's code 0, 1 and 2 have five bits and the other digits six.
fn number(coded: bool, value: &[u8]) -> Option<u32> {
    if !coded {
        return str::from_utf8(value).ok()?.parse().ok();
    }
    let bit = |at: usize| value.get(at / 8).map(|byte| u32::from(byte >> (7 - at % 8) & 1));
    let (mut at, mut number) = (0, 0_u32);
    let take = |from: usize, bits: usize| {
        (from..from + bits).try_fold(0, |all, at| Some(all << 1 | bit(at)?))
    };
    // What is left of the last byte are ones.
    while at + 5 <= value.len() * 8 {
        let digit = match take(at, 5)? {
            low @ 0..=2 => {
                at += 5;
                low
            }
            _ => {
                let high = take(at, 6).and_then(|six| six.checked_sub(0b01_1001));
                let Some(high) = high.filter(|high| *high <= 6) else { break };
                at += 6;
                high + 3
            }
        };
        number = number.checked_mul(10)?.checked_add(digit)?;
    }
    (at > 0).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(name: &[u8], value: &[u8]) -> Vec<u8> {
        let mut block = vec![0x40, 0x80 | name.len() as u8];
        block.extend(name);
        block.push(0x80 | value.len() as u8);
        block.extend(value);
        block
    }

    #[test]
    fn a_status_is_found_as_a_text_and_by_its_number() {
        let mut headers = Headers::default();
        // :status 200, and content-type, whose name is in the static table.
        let head = [&[0x88, 0x5f, 3][..], b"x/y"].concat();
        assert_eq!(headers.status(&head).expect("headers"), None);
        let ok = status(&STATUS_HUFFMAN, &[0x07]);
        assert_eq!(headers.status(&ok).expect("headers"), Some(0));
        assert_eq!(headers.status(&[0xbe]).expect("the newest"), Some(0));
        assert_eq!(headers.status(&[0xbf]).expect("the one before"), None);
        assert_eq!(headers.status(&[0x7e, 0x01, b'4']).expect("its name"), Some(4));
        assert!(headers.status(&[0xc2]).is_err(), "nothing was added so early");
        assert!(headers.status(&[0x40, 0x85]).is_err(), "cut off");
    }

    #[test]
    fn numbers_are_read_in_both_codes() {
        assert_eq!(number(false, b"14"), Some(14));
        assert_eq!(number(true, &[0x07]), Some(0));
        assert_eq!(number(true, &[0x7b]), Some(8));
        assert_eq!(number(true, &[0x0b, 0x5f]), Some(14));
        assert_eq!(number(true, &[]), None);
        assert_eq!(number(false, b"x"), None);
    }
}
