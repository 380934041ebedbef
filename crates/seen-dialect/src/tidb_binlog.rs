//! TiDB Binlog's protobuf (proto2, package `slave.binlog`), as the drainer of old clusters puts it on
//! partition 0. One record is one transaction, or one statement of DDL.

use crate::cell::{Cell, Image, Role};
use crate::cell_text::{cell_of_bits, cell_of_bytes, cell_of_text};
use crate::event::{Event, Position, Scope};
use crate::followed;
use crate::meaning::{Before, RowChange, RowKind};
use crate::protobuf::{Fields, Malformed, Value};
use crate::record::Record;
use crate::table::FollowedTable;

/// True if a record looks like one of this format: `type`, 0 or 1, then `commit_ts`.
pub(crate) fn is_one(value: &[u8]) -> bool {
    matches!(value, [0x08, 0 | 1, 0x10, ..])
}

/// Appends what a record says.
pub(crate) fn decode(tables: &[FollowedTable], record: &Record<'_>, out: &mut Vec<Event>) {
    let Some(value) = record.value else {
        return out.push(Event::ignore("tombstone"));
    };
    let before = out.len();
    if read(tables, value, out).is_err() {
        // What was read of it stands; the rest of the transaction may be missing.
        out.push(Event::dirty(Scope::Partition, "record_damaged"));
    }
    if out.len() == before {
        out.push(Event::ignore("other_table"));
    }
}

#[derive(Default)]
struct Binlog<'a> {
    kind: Option<u64>,
    commit_ts: Option<u64>,
    dml: Option<&'a [u8]>,
    ddl: Option<&'a [u8]>,
}

fn read(tables: &[FollowedTable], value: &[u8], out: &mut Vec<Event>) -> Result<(), Malformed> {
    let mut binlog = Binlog::default();
    for field in Fields(value) {
        match field? {
            (1, value) => binlog.kind = Some(value.varint()?),
            (2, value) => binlog.commit_ts = Some(value.varint()?),
            (3, value) => binlog.dml = Some(value.bytes()?),
            (4, value) => binlog.ddl = Some(value.bytes()?),
            _ => {}
        }
    }
    let position = Position::CommitTs(binlog.commit_ts.ok_or(Malformed)?);
    match (binlog.kind, binlog.dml, binlog.ddl) {
        (Some(0), Some(dml), None) => {
            for field in Fields(dml) {
                if let (1, table) = field? {
                    read_table(tables, table.bytes()?, &position, out)?;
                }
            }
            Ok(())
        }
        (Some(1), None, Some(ddl)) => read_ddl(tables, ddl, &position, out),
        _ => Err(Malformed),
    }
}

fn read_ddl(
    tables: &[FollowedTable],
    ddl: &[u8],
    position: &Position,
    out: &mut Vec<Event>,
) -> Result<(), Malformed> {
    let (mut database, mut query) = ("", None);
    for field in Fields(ddl) {
        match field? {
            (1, value) => database = value.text()?,
            (3, value) => query = Some(value.text()?),
            _ => {}
        }
    }
    followed::ddl(tables, query.ok_or(Malformed)?, database, Some(position), out);
    Ok(())
}

/// What a column of a table is.
#[derive(Clone, Copy)]
struct Column {
    role: Option<Role>,
    is_bit: bool,
}

fn read_table(
    tables: &[FollowedTable],
    table: &[u8],
    position: &Position,
    out: &mut Vec<Event>,
) -> Result<(), Malformed> {
    let (mut database, mut name) = ("", "");
    for field in Fields(table) {
        match field? {
            (1, value) => database = value.text()?,
            (2, value) => name = value.text()?,
            _ => {}
        }
    }
    let Some((at, followed)) = followed::find(tables, database, name) else { return Ok(()) };
    let mut columns = Vec::new();
    for field in Fields(table) {
        if let (3, info) = field? {
            columns.push(read_column(followed, info.bytes()?)?);
        }
    }
    for field in Fields(table) {
        if let (4, mutation) = field? {
            let mut change = read_mutation(&columns, mutation.bytes()?)?;
            change.table = at;
            change.position = Some(position.clone());
            change.tell(followed, out);
        }
    }
    Ok(())
}

fn read_column(table: &FollowedTable, info: &[u8]) -> Result<Column, Malformed> {
    let mut column = Column { role: None, is_bit: false };
    for field in Fields(info) {
        match field? {
            (1, name) => column.role = table.role_of(name.text()?),
            (2, kind) => column.is_bit = kind.text()?.eq_ignore_ascii_case("bit"),
            _ => {}
        }
    }
    Ok(column)
}

fn read_mutation(columns: &[Column], mutation: &[u8]) -> Result<RowChange, Malformed> {
    let (mut kind, mut row, mut old) = (None, None, None);
    for field in Fields(mutation) {
        match field? {
            (1, value) => kind = Some(value.varint()?),
            (2, value) => row = Some(read_row(columns, value.bytes()?)?),
            (3, value) => old = Some(read_row(columns, value.bytes()?)?),
            _ => {}
        }
    }
    let row = row.ok_or(Malformed)?;
    let (kind, before, after) = match kind {
        Some(0) => (RowKind::Insert, Before::Unknown, row),
        Some(1) => (RowKind::Update, old.map_or(Before::Unknown, Before::Whole), row),
        Some(2) => (RowKind::Delete, Before::Whole(row), Image::default()),
        _ => return Err(Malformed),
    };
    Ok(RowChange { table: 0, kind, before, after, position: None })
}

fn read_row(columns: &[Column], row: &[u8]) -> Result<Image, Malformed> {
    let mut image = Image::default();
    let mut infos = columns.iter();
    for field in Fields(row) {
        if let (1, value) = field? {
            let column = infos.next().ok_or(Malformed)?;
            if let Some(role) = column.role {
                image.set(role, read_cell(*column, value.bytes()?)?);
            }
        }
    }
    // Values are told from their place alone: a row that is shorter or longer is of another form.
    if infos.next().is_some() { Err(Malformed) } else { Ok(image) }
}

fn read_cell(column: Column, value: &[u8]) -> Result<Cell, Malformed> {
    let mut cell = Cell::Other;
    for field in Fields(value) {
        cell = match field? {
            (1, Value::Varint(0)) => continue,
            (1, _) => return Ok(Cell::Null),
            (2, value) => Cell::Number(value.varint()?.cast_signed().into()),
            (3, value) => Cell::Number(value.varint()?.into()),
            (4, _) => Cell::Rounded,
            (5, value) if column.is_bit => cell_of_bits(value.bytes()?),
            (5, value) => cell_of_bytes(value.bytes()?),
            (6, value) => cell_of_text(value.text()?),
            _ => continue,
        };
    }
    Ok(cell)
}
