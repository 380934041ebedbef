//! Lines of a bounded length, with the position and the checksum of what was read.

use std::io::{self, BufRead};

use super::Position;
use super::source::Reader;

/// Longest line, in bytes. The longest useful one takes about a hundred.
pub const LINE_BYTES_MAX: usize = 4_096;

/// One line, without its end.
pub(super) enum Line<'a> {
    /// All of it.
    Whole(&'a [u8]),
    /// Longer than [`LINE_BYTES_MAX`]: how it begins. The rest was passed over.
    TooLong(&'a [u8]),
}

/// Splits bytes into lines.
pub(super) struct Lines {
    reader: Reader,
    line: Vec<u8>,
    lines: u64,
    bytes: u64,
    checksum: crc32fast::Hasher,
}

impl Lines {
    pub(super) fn new(reader: Reader) -> Self {
        let line = Vec::with_capacity(LINE_BYTES_MAX);
        Self { reader, line, lines: 0, bytes: 0, checksum: crc32fast::Hasher::new() }
    }

    pub(super) fn position(&self) -> Position {
        let crc32 = self.checksum.clone().finalize();
        Position { lines: self.lines, bytes: self.bytes, crc32 }
    }

    /// Lines that were read.
    pub(super) fn lines(&self) -> u64 {
        self.lines
    }

    /// Bytes that were read.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Bytes of the line that is held.
    #[cfg(test)]
    pub(super) fn buffered(&self) -> usize {
        self.line.capacity()
    }

    /// The next line; `None` at the end. A last line without an end is a line.
    pub(super) fn next_line(&mut self) -> io::Result<Option<Line<'_>>> {
        self.line.clear();
        let mut too_long = false;
        let mut ended = false;
        while !ended {
            let buffer = match self.reader.fill_buf() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                filled => filled?,
            };
            if buffer.is_empty() {
                break;
            }
            let end = buffer.iter().position(|byte| *byte == b'\n');
            let taken = &buffer[..end.map_or(buffer.len(), |end| end + 1)];
            ended = end.is_some();
            let text = &taken[..taken.len() - usize::from(ended)];
            let room = LINE_BYTES_MAX - self.line.len();
            too_long |= text.len() > room;
            self.line.extend_from_slice(&text[..text.len().min(room)]);
            self.checksum.update(taken);
            let taken = taken.len();
            self.bytes += taken as u64;
            self.reader.consume(taken);
        }
        if !ended && self.line.is_empty() {
            return Ok(None);
        }
        self.lines += 1;
        if too_long {
            return Ok(Some(Line::TooLong(&self.line)));
        }
        Ok(Some(Line::Whole(self.line.strip_suffix(b"\r").unwrap_or(&self.line))))
    }
}
