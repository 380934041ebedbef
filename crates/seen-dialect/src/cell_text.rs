//! Values that a binary format holds as text or bytes, whatever their column's type is.

use std::borrow::Cow;

use crate::cell::Cell;
use crate::json::Value;
use crate::value::{self, Texts};

/// What a text stands for, as in JSON: digits, a point in time, or a text.
pub(crate) fn cell_of_text(text: &str) -> Cell {
    value::cell(&Value::Text(Cow::Borrowed(text)), Texts::Decimal)
}

/// The same for bytes, which may be no text.
pub(crate) fn cell_of_bytes(bytes: &[u8]) -> Cell {
    std::str::from_utf8(bytes).map_or(Cell::Text, cell_of_text)
}

/// The number that a BIT column's bytes are, most significant first.
pub(crate) fn cell_of_bits(bytes: &[u8]) -> Cell {
    if bytes.len() > 8 {
        return Cell::Other;
    }
    Cell::Number(bytes.iter().fold(0, |sum, byte| sum << 8 | i128::from(*byte)))
}
