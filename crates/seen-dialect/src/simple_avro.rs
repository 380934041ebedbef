//! TiCDC's simple protocol in Avro. The schema is TiCDC's own and the same for all tables: values are
//! maps from a column's name to a union of types, and say by themselves what they are.
//!
//! A message is the branch [`MESSAGE`] of a union, a `{type, payload}` in which the payload is a union
//! of the four kinds once more. Bootstraps hold the table's columns, which nothing here needs.

use crate::avro::Reader;
use crate::cell::{Cell, Image};
use crate::cell_text::{cell_of_bytes, cell_of_text};
use crate::event::{Event, Position, Scope, What};
use crate::followed;
use crate::meaning::{Before, RowChange, RowKind};
use crate::protobuf::Malformed;
use crate::record::Record;
use crate::table::FollowedTable;

/// The place of `Message` among the types of the schema.
const MESSAGE: usize = 11;
/// The only version there is.
const VERSION: i64 = 1;

/// True if a record looks like one of this format.
pub(crate) fn is_one(value: &[u8]) -> bool {
    // Zigzag: twice the places. The kind stands there twice, and then the version, but in a bootstrap,
    // whose first field it is as well.
    matches!(value, [first, kind @ (0 | 2 | 4 | 6), again, 0x02, ..]
        if usize::from(*first) == MESSAGE * 2 && kind == again)
}

/// Appends what a record says.
pub(crate) fn decode(tables: &[FollowedTable], record: &Record<'_>, out: &mut Vec<Event>) {
    let Some(value) = record.value else {
        return out.push(Event::ignore("tombstone"));
    };
    let before = out.len();
    if message(tables, &mut Reader(value), out).is_err() {
        out.truncate(before);
        out.push(Event::dirty(Scope::Partition, "record_damaged"));
    }
    if out.len() == before {
        out.push(Event::ignore("other_table"));
    }
}

fn message(
    tables: &[FollowedTable],
    from: &mut Reader<'_>,
    out: &mut Vec<Event>,
) -> Result<(), Malformed> {
    let (union, kind, payload) = (from.place()?, from.place()?, from.place()?);
    if union != MESSAGE || kind != payload || from.long()? != VERSION {
        return Err(Malformed);
    }
    match kind {
        0 => {
            let position = commit_ts(from)?;
            let _built_ms = from.long()?;
            ended(from)?;
            let what = What::Watermark;
            out.push(Event { table: None, what, position: Some(position), reason: None });
        }
        1 => out.push(Event::ignore("bootstrap")),
        2 => ddl(tables, from, out)?,
        3 => row(tables, from, out)?,
        _ => return Err(Malformed),
    }
    Ok(())
}

fn ended(from: &Reader<'_>) -> Result<(), Malformed> {
    if from.is_empty() { Ok(()) } else { Err(Malformed) }
}

fn commit_ts(from: &mut Reader<'_>) -> Result<Position, Malformed> {
    Ok(Position::CommitTs(from.long()?.cast_unsigned()))
}

fn ddl(
    tables: &[FollowedTable],
    from: &mut Reader<'_>,
    out: &mut Vec<Event>,
) -> Result<(), Malformed> {
    let _kind = from.place()?;
    let sql = from.text()?;
    let position = commit_ts(from)?;
    let _built_ms = from.long()?;
    // Of the table's schema only its first field matters, the database.
    let database = if from.is_there()? { from.text()? } else { "" };
    followed::ddl(tables, sql, database, Some(&position), out);
    Ok(())
}

fn row(
    tables: &[FollowedTable],
    from: &mut Reader<'_>,
    out: &mut Vec<Event>,
) -> Result<(), Malformed> {
    let (database, name) = (from.text()?, from.text()?);
    let _table_id = from.long()?;
    let kind = from.place()?;
    let position = commit_ts(from)?;
    let (_built_ms, _schema_version) = (from.long()?, from.long()?);
    // Rows too large for a message hold the columns of the key alone: what misses is told from the row.
    if from.is_there()? {
        let _claim_check = from.text()?;
    }
    if from.is_there()? {
        let _is_key_only = from.boolean()?;
    }
    if from.is_there()? {
        let _checksum = (from.long()?, from.boolean()?, from.long()?, from.long()?);
    }
    let Some((at, table)) = followed::find(tables, database, name) else { return Ok(()) };
    let (data, old) = (image(table, from)?, image(table, from)?);
    ended(from)?;
    let (kind, before, after) = match (kind, data, old) {
        (0, Some(data), None) => (RowKind::Insert, Before::Unknown, data),
        (1, Some(data), Some(old)) => (RowKind::Update, Before::Changed(old), data),
        (1, Some(data), None) => (RowKind::Update, Before::Unknown, data),
        (2, None, Some(old)) => (RowKind::Delete, Before::Whole(old), Image::default()),
        _ => return Err(Malformed),
    };
    RowChange { table: at, kind, before, after, position: Some(position) }.tell(table, out);
    Ok(())
}

fn image(table: &FollowedTable, from: &mut Reader<'_>) -> Result<Option<Image>, Malformed> {
    if !from.is_there()? {
        return Ok(None);
    }
    let mut image = Image::default();
    from.elements(|from| {
        let role = table.role_of(from.text()?);
        let cell = value(from)?;
        if let Some(role) = role {
            // A column that comes twice is none that can be read.
            let first = image.cell(role) == Cell::Missing;
            image.set(role, if first { cell } else { Cell::Other });
        }
        Ok(())
    })?;
    Ok(Some(image))
}

fn value(from: &mut Reader<'_>) -> Result<Cell, Malformed> {
    Ok(match from.place()? {
        0 => Cell::Null,
        1 => Cell::Number(from.long()?.into()),
        2 => from.skip(4).map(|()| Cell::Rounded)?,
        3 => from.skip(8).map(|()| Cell::Rounded)?,
        4 => cell_of_text(from.text()?),
        5 => cell_of_bytes(from.bytes()?),
        // A TIMESTAMP: the zone that it is written in, and the time there.
        6 => match (from.text()?, from.text()?) {
            ("UTC", time) => cell_of_text(time),
            _ => Cell::Other,
        },
        // An unsigned BIGINT, with the same bits.
        7 => Cell::Number(from.long()?.cast_unsigned().into()),
        _ => return Err(Malformed),
    })
}
