//! TiCDC's open protocol: the key is a version and then, for each event of the message, a length and a
//! JSON object; the value is as many lengths and objects, one for each.

use std::borrow::Cow;

use serde::Deserialize;

mod row;

use crate::event::{Event, Position, Scope, What};
use crate::followed;
use crate::meaning::{Before, RowChange, RowKind};
use crate::protobuf::{Malformed, take, take_array};
use crate::record::Record;
use crate::table::FollowedTable;

/// The only version there has ever been.
const VERSION: u64 = 1;

/// What the events of one message are about, one by one.
#[derive(Deserialize)]
struct Key<'a> {
    ts: u64,
    t: u64,
    #[serde(borrow, default)]
    scm: Cow<'a, str>,
    #[serde(borrow, default)]
    tbl: Cow<'a, str>,
}

/// The value of a `t: 2`.
#[derive(Deserialize)]
struct Ddl<'a> {
    #[serde(borrow)]
    q: Cow<'a, str>,
}

/// True if a record looks like one of this format.
pub(crate) fn is_one(key: Option<&[u8]>) -> bool {
    let Some(mut key) = key else { return false };
    take_array(&mut key).map(u64::from_be_bytes) == Ok(VERSION)
        && framed(&mut key).is_ok_and(|first| first.starts_with(b"{"))
}

/// A length, and what it is the length of.
fn framed<'a>(bytes: &mut &'a [u8]) -> Result<&'a [u8], Malformed> {
    let length = u64::from_be_bytes(take_array(bytes)?);
    take(bytes, length)
}

/// Appends what a record says.
pub(crate) fn decode(tables: &[FollowedTable], record: &Record<'_>, out: &mut Vec<Event>) {
    let (Some(mut keys), Some(mut values)) = (record.key, record.value) else {
        return out.push(match record.value {
            None if record.key.is_none() => Event::ignore("tombstone"),
            _ => Event::dirty(Scope::Partition, "record_damaged"),
        });
    };
    if take_array(&mut keys).map(u64::from_be_bytes) != Ok(VERSION) {
        return out.push(Event::dirty(Scope::Partition, "format_version"));
    }
    let before = out.len();
    let mut others = 0_usize;
    while !keys.is_empty() {
        let (Ok(key), Ok(value)) = (framed(&mut keys), framed(&mut values)) else {
            out.push(Event::dirty(Scope::Partition, "record_damaged"));
            return;
        };
        let so_far = out.len();
        if event(tables, key, value, out).is_err() {
            // Only this event: the lengths still tell where the next one begins.
            out.push(Event::dirty(Scope::Partition, "record_damaged"));
        }
        others += usize::from(out.len() == so_far);
    }
    if !values.is_empty() {
        out.push(Event::dirty(Scope::Partition, "record_damaged"));
    }
    if out.len() == before {
        out.push(Event::ignore(if others > 0 { "other_table" } else { "no_events" }));
    }
}

fn event(
    tables: &[FollowedTable],
    key: &[u8],
    value: &[u8],
    out: &mut Vec<Event>,
) -> Result<(), Malformed> {
    let key: Key<'_> = serde_json::from_slice(key).map_err(|_| Malformed)?;
    let position = Position::CommitTs(key.ts);
    match key.t {
        1 => {
            let Some((at, table)) = followed::find(tables, &key.scm, &key.tbl) else {
                return Ok(());
            };
            let images = row::read(table, value)?;
            let (kind, before, after) = match (images.after, images.before, images.removed) {
                (None, None, Some(row)) => {
                    (RowKind::Delete, Before::Whole(row), crate::cell::Image::default())
                }
                // May hold changed columns only.
                (Some(after), Some(before), None) => {
                    (RowKind::Update, Before::Changed(before), after)
                }
                // An update too, where old values are off; TiCDC tells changes of the key as a delete
                // and an insert then.
                (Some(after), None, None) => (RowKind::Insert, Before::Unknown, after),
                _ => return Err(Malformed),
            };
            let change = RowChange { table: at, kind, before, after, position: Some(position) };
            change.tell(table, out);
        }
        2 => {
            let ddl: Ddl<'_> = serde_json::from_slice(value).map_err(|_| Malformed)?;
            followed::ddl(tables, &ddl.q, &key.scm, Some(&position), out);
        }
        3 => out.push(Event {
            table: None,
            what: What::Watermark,
            position: Some(position),
            reason: None,
        }),
        _ => return Err(Malformed),
    }
    Ok(())
}
