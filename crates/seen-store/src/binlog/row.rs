//! Rows events: the images of the rows that a statement added, changed or removed.

use super::bytes::{Bytes, bit};
use super::table::{Shape, TableMap};

/// Most columns of one table that mean something here.
pub(super) const WANTED_MAX: usize = 4;

/// What a row image says in one column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cell {
    /// The image leaves the column out (`binlog_row_image` is not FULL), or nobody wants it.
    Missing,
    /// NULL.
    Null,
    /// A whole number.
    Number(i128),
    /// No number, but a kind of zero: false, no flags, a zero date.
    Zero,
    /// The same, but not zero.
    NotZero,
    /// Something that is neither a number nor can be told from zero.
    Other,
}

/// What the wanted columns say, in the order in which they were asked for.
pub(super) type Cells = [Cell; WANTED_MAX];

/// Where the wanted columns of a table are.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    /// Each column's shape, and which wanted one it is.
    columns: Vec<(Shape, Option<usize>)>,
    json_columns: usize,
}

impl Layout {
    /// Looks the wanted columns up by name.
    ///
    /// # Errors
    /// The reason for a gap: rows of this table cannot be read.
    pub fn new(table: &TableMap, wanted: &[&str]) -> Result<Self, &'static str> {
        let columns = table.columns.as_ref().ok_or("column_type")?;
        if columns.iter().any(|column| column.name.is_none()) {
            return Err("binlog_row_metadata");
        }
        let mut layout = Self { columns: Vec::with_capacity(columns.len()), json_columns: 0 };
        for column in columns {
            let name = column.name.as_deref().unwrap_or_default();
            let slot = wanted.iter().position(|wanted| wanted.eq_ignore_ascii_case(name));
            layout.columns.push((column.shape, slot));
            layout.json_columns += usize::from(column.is_json);
        }
        let found = layout.columns.iter().filter(|(_, slot)| slot.is_some()).count();
        if found == wanted.len() { Ok(layout) } else { Err("column_missing") }
    }
}

/// What happened to the rows of an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RowsKind {
    /// They were added: after images.
    Insert,
    /// They were changed: before and after images.
    Update,
    /// They were removed: before images.
    Delete,
}

/// The table that a rows event is about.
pub(super) fn table_id(event: &[u8]) -> Option<u64> {
    Bytes::new(event).number(6)
}

/// The rows of one event, one after the other.
#[derive(Debug)]
pub(super) struct Rows<'a> {
    kind: RowsKind,
    layout: &'a Layout,
    before: &'a [u8],
    after: &'a [u8],
    /// After images begin with what is only told in part (MySQL's partial JSON).
    is_partial: bool,
    bytes: Bytes<'a>,
}

/// The bytes are no row image, or one of another table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Damaged;

impl<'a> Rows<'a> {
    /// Reads the head of a rows event of this type; `None` if it is damaged.
    pub fn new(event_type: u8, event: &'a [u8], layout: &'a Layout) -> Option<Self> {
        let (kind, has_extra) = match event_type {
            23 => (RowsKind::Insert, false),
            24 => (RowsKind::Update, false),
            25 => (RowsKind::Delete, false),
            30 => (RowsKind::Insert, true),
            31 | 39 => (RowsKind::Update, true),
            32 => (RowsKind::Delete, true),
            _ => return None,
        };
        let mut bytes = Bytes::new(event);
        bytes.take(8)?;
        if has_extra {
            let length = bytes.size(2)?;
            bytes.take(length.checked_sub(2)?)?;
        }
        if bytes.packed_size()? != layout.columns.len() {
            return None;
        }
        let bitmap_bytes = layout.columns.len().div_ceil(8);
        let mut bitmap = |wanted| if wanted { bytes.take(bitmap_bytes) } else { Some(&[][..]) };
        let before = bitmap(kind != RowsKind::Insert)?;
        let after = bitmap(kind != RowsKind::Delete)?;
        Some(Self { kind, layout, before, after, is_partial: event_type == 39, bytes })
    }

    pub fn kind(&self) -> RowsKind {
        self.kind
    }

    /// The next row's images, before and after; those that the event has not are all missing.
    pub fn next(&mut self) -> Option<Result<(Cells, Cells), Damaged>> {
        if self.bytes.is_empty() {
            return None;
        }
        let before = self.bytes.rest().len();
        // A row that takes no bytes would come again for ever.
        let read = self.read().filter(|_| self.bytes.rest().len() < before);
        if read.is_none() {
            self.bytes = Bytes::new(&[]);
        }
        Some(read.ok_or(Damaged))
    }

    fn read(&mut self) -> Option<(Cells, Cells)> {
        let mut images = [[Cell::Missing; WANTED_MAX]; 2];
        if self.kind != RowsKind::Insert {
            images[0] = self.image(self.before)?;
        }
        if self.kind != RowsKind::Delete {
            if self.is_partial && self.bytes.packed()? & 1 == 1 {
                self.bytes.take(self.layout.json_columns.div_ceil(8))?;
            }
            images[1] = self.image(self.after)?;
        }
        Some((images[0], images[1]))
    }

    fn image(&mut self, present: &[u8]) -> Option<Cells> {
        let count = (0..self.layout.columns.len()).filter(|at| bit(present, *at)).count();
        let nulls = self.bytes.take(count.div_ceil(8))?;
        let mut cells = [Cell::Missing; WANTED_MAX];
        let mut at_present = 0;
        for (at, (shape, slot)) in self.layout.columns.iter().enumerate() {
            if !bit(present, at) {
                continue;
            }
            let is_null = bit(nulls, at_present);
            at_present += 1;
            let cell = if is_null { Cell::Null } else { cell(*shape, &mut self.bytes)? };
            if let Some(place) = slot.and_then(|slot| cells.get_mut(slot)) {
                *place = cell;
            }
        }
        Some(cells)
    }
}

fn cell(shape: Shape, bytes: &mut Bytes<'_>) -> Option<Cell> {
    let zero = |is_zero| if is_zero { Cell::Zero } else { Cell::NotZero };
    Some(match shape {
        Shape::Number { bytes: size, unsigned } => {
            let raw = bytes.number(size)?;
            let spare = 64 - 8 * size;
            Cell::Number(match unsigned {
                true => i128::from(raw),
                false => i128::from((raw << spare).cast_signed() >> spare),
            })
        }
        Shape::Flat { bytes: size } => zero(bytes.take(size)?.iter().all(|byte| *byte == 0)),
        Shape::DateTime { bytes: size } => {
            let (first, rest) = bytes.take(size)?.split_first()?;
            zero(*first == 0x80 && rest.iter().all(|byte| *byte == 0))
        }
        Shape::Opaque { bytes: size } => {
            bytes.take(size)?;
            Cell::Other
        }
        Shape::Sized { length_bytes } => {
            let length = bytes.size(length_bytes)?;
            bytes.take(length)?;
            Cell::Other
        }
    })
}

#[cfg(test)]
mod tests {
    use super::super::table::tests::TABLE_Y;
    use super::*;

    /// `INSERT INTO y VALUES (2020, '10:00:00', -1, 18446744073709551615, 3, 1.5, 2)`.
    const ROW_Y: &[u8] =
        b"\x16\0\0\0\0\0\x01\0\x07\x7f\x80\x78\x80\xa0\0\0\0\xff\xff\xff\xff\xff\xff\
        \xff\xff\xff\xff\xff\xff\x03\0\x80\0\0\x01\x32\0\0\0\0\0\0\0\x40";

    fn layout(wanted: &[&str]) -> Result<Layout, &'static str> {
        Layout::new(&TableMap::read(TABLE_Y).expect("a table"), wanted)
    }

    #[test]
    fn a_servers_row_is_read_by_name() {
        let layout = layout(&["B", "a", "s", "yr"]).expect("a layout");
        let mut rows = Rows::new(23, ROW_Y, &layout).expect("rows");
        let (before, after) = rows.next().expect("a row").expect("whole");
        assert_eq!(before, [Cell::Missing; 4]);
        let number = |n: i128| Cell::Number(n);
        assert_eq!(after, [number(u64::MAX.into()), number(-1), number(3), Cell::NotZero]);
        assert_eq!(rows.next(), None);
    }

    #[test]
    fn what_cannot_be_found_is_named() {
        assert_eq!(layout(&["b", "user_id"]).err(), Some("column_missing"));
        let nameless = &TABLE_Y[..TABLE_Y.len() - 18];
        let table = TableMap::read(nameless).expect("a table");
        assert_eq!(Layout::new(&table, &["b"]).err(), Some("binlog_row_metadata"));
    }

    #[test]
    fn a_cut_row_is_damaged_and_ends_the_event() {
        let layout = layout(&["b"]).expect("a layout");
        for length in 0..ROW_Y.len() {
            if let Some(mut rows) = Rows::new(23, &ROW_Y[..length], &layout) {
                let first = rows.next();
                assert!(matches!(first, None | Some(Err(Damaged))), "{length}: {first:?}");
                assert_eq!(rows.next(), None);
            }
        }
    }

    #[test]
    fn an_image_without_columns_ends() {
        let layout = layout(&["b"]).expect("a layout");
        let event = b"\x16\0\0\0\0\0\x01\0\x07\0\xfe\x05";
        let mut rows = Rows::new(25, event, &layout).expect("rows");
        assert_eq!((rows.next(), rows.next()), (Some(Err(Damaged)), None));
    }

    #[test]
    fn an_image_may_leave_columns_out() {
        let layout = layout(&["a", "b"]).expect("a layout");
        // A delete whose image has only `b`.
        let event = b"\x16\0\0\0\0\0\x01\0\x07\x08\xfe\x05\0\0\0\0\0\0\0";
        let mut rows = Rows::new(25, event, &layout).expect("rows");
        let (before, _) = rows.next().expect("a row").expect("whole");
        assert_eq!(before[..2], [Cell::Missing, Cell::Number(5)]);
    }
}
