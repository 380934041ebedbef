//! A table as one table map event describes it: its name, and how its rows are laid out.

use super::bytes::{Bytes, bit};

/// Column types of the protocol that matter here, and MariaDB's own.
mod types {
    pub const TINY: u8 = 1;
    pub const SHORT: u8 = 2;
    pub const LONG: u8 = 3;
    pub const FLOAT: u8 = 4;
    pub const DOUBLE: u8 = 5;
    pub const NULL: u8 = 6;
    pub const TIMESTAMP: u8 = 7;
    pub const LONGLONG: u8 = 8;
    pub const INT24: u8 = 9;
    pub const DATE: u8 = 10;
    pub const TIME: u8 = 11;
    pub const DATETIME: u8 = 12;
    pub const YEAR: u8 = 13;
    pub const NEWDATE: u8 = 14;
    pub const VARCHAR: u8 = 15;
    pub const BIT: u8 = 16;
    pub const TIMESTAMP2: u8 = 17;
    pub const DATETIME2: u8 = 18;
    pub const TIME2: u8 = 19;
    pub const BLOB_COMPRESSED: u8 = 140;
    pub const VARCHAR_COMPRESSED: u8 = 141;
    pub const VECTOR: u8 = 242;
    pub const JSON: u8 = 245;
    pub const NEWDECIMAL: u8 = 246;
    pub const ENUM: u8 = 247;
    pub const SET: u8 = 248;
    pub const TINY_BLOB: u8 = 249;
    pub const BLOB: u8 = 252;
    pub const STRING: u8 = 254;
    pub const GEOMETRY: u8 = 255;
}

/// How much of a row image one column takes, and what its bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// A whole number of this many bytes.
    Number { bytes: usize, unsigned: bool },
    /// A DATETIME with a fraction: zero is not all bits 0.
    DateTime { bytes: usize },
    /// Something else of this many bytes, zero if all its bits are 0.
    Flat { bytes: usize },
    /// Something else of this many bytes, of which zero cannot be told.
    Opaque { bytes: usize },
    /// A length of this many bytes, and as many bytes as it says.
    Sized { length_bytes: usize },
}

/// One column.
#[derive(Clone, Debug)]
pub(super) struct Column {
    pub shape: Shape,
    pub is_json: bool,
    /// As the server spells it; `None` if it does not tell (`binlog_row_metadata` is not FULL).
    pub name: Option<String>,
}

/// One table.
#[derive(Clone, Debug)]
pub(super) struct TableMap {
    /// Its columns in order; `None` if a type among them is not known here.
    pub columns: Option<Vec<Column>>,
}

/// The number, database and table of a table map event; everything that foreign tables cost.
pub(super) fn names(event: &[u8]) -> Option<(u64, &[u8], &[u8])> {
    let mut bytes = Bytes::new(event);
    let (id, database, table) = head(&mut bytes)?;
    Some((id, database, table))
}

fn head<'a>(bytes: &mut Bytes<'a>) -> Option<(u64, &'a [u8], &'a [u8])> {
    let id = bytes.number(6)?;
    bytes.take(2)?;
    let mut name = || {
        let length = bytes.size(1)?;
        let name = bytes.take(length)?;
        bytes.take(1)?;
        Some(name)
    };
    Some((id, name()?, name()?))
}

impl TableMap {
    /// Reads a table map event; `None` if it is damaged.
    pub fn read(event: &[u8]) -> Option<Self> {
        let mut bytes = Bytes::new(event);
        head(&mut bytes)?;
        let count = bytes.packed_size()?;
        let types = bytes.take(count)?;
        let mut metadata = Bytes::new(bytes.packed_bytes()?);
        bytes.take(count.div_ceil(8))?;
        let mut signedness: &[u8] = &[];
        let mut names = None;
        while !bytes.is_empty() {
            let field = bytes.number(1)?;
            let value = bytes.packed_bytes()?;
            match field {
                1 => signedness = value,
                4 => names = Some(read_names(value, count)?),
                _ => {}
            }
        }
        let mut names = names.map(Vec::into_iter);
        let mut numbers = 0;
        let mut columns = Some(Vec::with_capacity(count));
        for kind in types {
            // The bits of signedness count number columns only, from the highest bit of a byte.
            let unsigned = is_number(*kind) && {
                numbers += 1;
                bit(signedness, (numbers - 1) ^ 7)
            };
            let name = names.as_mut().and_then(Iterator::next);
            match (shape(*kind, unsigned, &mut metadata), &mut columns) {
                (Some(shape), Some(columns)) => {
                    columns.push(Column { shape, is_json: *kind == types::JSON, name });
                }
                // What follows an unknown type cannot be found in a row.
                _ => columns = None,
            }
        }
        Some(Self { columns })
    }
}

fn read_names(value: &[u8], count: usize) -> Option<Vec<String>> {
    let mut bytes = Bytes::new(value);
    (0..count)
        .map(|_| bytes.packed_bytes().map(|name| String::from_utf8_lossy(name).into_owned()))
        .collect()
}

fn is_number(kind: u8) -> bool {
    use types::*;
    matches!(kind, TINY | SHORT | INT24 | LONG | LONGLONG | NEWDECIMAL | FLOAT | DOUBLE | YEAR | 0)
}

/// The shape of a column, taking its part of the metadata.
fn shape(kind: u8, unsigned: bool, metadata: &mut Bytes<'_>) -> Option<Shape> {
    use types::*;
    let number = |bytes| Some(Shape::Number { bytes, unsigned });
    let flat = |bytes| Some(Shape::Flat { bytes });
    match kind {
        TINY => number(1),
        SHORT => number(2),
        INT24 => number(3),
        LONG => number(4),
        LONGLONG => number(8),
        NULL => flat(0),
        YEAR => flat(1),
        DATE | TIME | NEWDATE => flat(3),
        TIMESTAMP => flat(4),
        DATETIME => flat(8),
        FLOAT | DOUBLE => flat(metadata.size(1)?),
        TIMESTAMP2 => flat(4 + fraction_bytes(metadata)?),
        TIME2 => Some(Shape::Opaque { bytes: 3 + fraction_bytes(metadata)? }),
        DATETIME2 => Some(Shape::DateTime { bytes: 5 + fraction_bytes(metadata)? }),
        VARCHAR | VARCHAR_COMPRESSED => {
            let longest = metadata.size(2)?;
            Some(Shape::Sized { length_bytes: if longest < 256 { 1 } else { 2 } })
        }
        BIT => {
            let bits = metadata.size(1)?;
            let whole = metadata.size(1)?;
            flat(whole + usize::from(bits > 0))
        }
        NEWDECIMAL => {
            let (digits, after_point) = (metadata.size(1)?, metadata.size(1)?);
            Some(Shape::Opaque { bytes: decimal_bytes(digits, after_point)? })
        }
        TINY_BLOB..=BLOB | BLOB_COMPRESSED | VECTOR | JSON | GEOMETRY => {
            let length_bytes = metadata.size(1)?;
            (1..=4).contains(&length_bytes).then_some(Shape::Sized { length_bytes })
        }
        ENUM | SET => {
            metadata.take(1)?;
            flat(metadata.size(1)?)
        }
        STRING => string_shape(metadata.size(1)?, metadata.size(1)?),
        _ => None,
    }
}

/// CHAR, and ENUM and SET in its guise: two bits of a long CHAR's length are hidden in the type.
fn string_shape(first: usize, second: usize) -> Option<Shape> {
    if first == usize::from(types::ENUM) || first == usize::from(types::SET) {
        return Some(Shape::Flat { bytes: second });
    }
    let longest = second | ((first & 0x30) ^ 0x30) << 4;
    Some(Shape::Sized { length_bytes: if longest < 256 { 1 } else { 2 } })
}

fn fraction_bytes(metadata: &mut Bytes<'_>) -> Option<usize> {
    let digits = metadata.size(1)?;
    (digits <= 6).then_some(digits.div_ceil(2))
}

fn decimal_bytes(digits: usize, after_point: usize) -> Option<usize> {
    const REST: [usize; 9] = [0, 1, 1, 2, 2, 3, 3, 4, 4];
    let part = |n: usize| REST.get(n % 9).map(|rest| n / 9 * 4 + rest);
    Some(part(digits.checked_sub(after_point)?)? + part(after_point)?)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A table map of MariaDB 10.11: `y(yr YEAR, tm TIME(3), a INT, b BIGINT UNSIGNED,
    /// s SMALLINT UNSIGNED, d DECIMAL(10,2) UNSIGNED, f DOUBLE)` in the database `d`.
    pub const TABLE_Y: &[u8] =
        b"\x16\0\0\0\0\0\x01\0\x01d\0\x01y\0\x07\x0d\x13\x03\x08\x02\xf6\x05\
        \x04\x03\x0a\x02\x08\x7f\x01\x01\xb8\x04\x10\x02yr\x02tm\x01a\x01b\x01s\x01d\x01f";

    #[test]
    fn a_servers_table_is_read() {
        assert_eq!(names(TABLE_Y), Some((0x16, &b"d"[..], &b"y"[..])));
        let columns = TableMap::read(TABLE_Y).and_then(|map| map.columns).expect("columns");
        let told: Vec<_> =
            columns.iter().map(|c| (c.name.as_deref().unwrap_or("?"), c.shape)).collect();
        let number = |bytes, unsigned| Shape::Number { bytes, unsigned };
        let expected = [
            ("yr", Shape::Flat { bytes: 1 }),
            ("tm", Shape::Opaque { bytes: 5 }),
            ("a", number(4, false)),
            ("b", number(8, true)),
            ("s", number(2, true)),
            ("d", Shape::Opaque { bytes: 5 }),
            ("f", Shape::Flat { bytes: 8 }),
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn a_cut_event_is_refused_and_never_read_past() {
        for length in 0..TABLE_Y.len() {
            // Cut between two optional fields it is whole, but says less.
            let columns = TableMap::read(&TABLE_Y[..length]).and_then(|map| map.columns);
            assert!(columns.is_none_or(|c| c.iter().all(|c| c.name.is_none())), "{length}");
        }
    }

    #[test]
    fn long_strings_and_decimals_have_their_sizes() {
        assert_eq!(string_shape(0xf7, 2), Some(Shape::Flat { bytes: 2 }));
        assert_eq!(string_shape(0xfe, 40), Some(Shape::Sized { length_bytes: 1 }));
        // CHAR(255) of four bytes each: 1,020 bytes.
        assert_eq!(string_shape(0xce, 0xfc), Some(Shape::Sized { length_bytes: 2 }));
        assert_eq!(decimal_bytes(20, 6), Some(4 + 3 + 3));
        assert_eq!(decimal_bytes(2, 6), None);
    }
}
