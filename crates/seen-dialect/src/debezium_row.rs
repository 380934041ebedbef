//! Debezium's rows without their envelope, as `ExtractNewRecordState` leaves them.
//!
//! A record is the row's columns, and members that the transform was told to add: `__deleted` (`"true"`
//! or `"false"`, where deletes are rewritten), `__op`, `__source_ts_ms`, `__table`, `__db`. The row before
//! a change is lost: an update may have moved the row from another item, unless the message key is the
//! whole primary key, and from another user, unless the user is in it. Whose row it is follows from `__table`, else from the topic's name
//! (`prefix.db.table`), else from its columns, if those of exactly one followed table are all there.
//!
//! Where rows have no `__deleted`, the transform leaves nothing of a delete but its tombstone, or not
//! even that. Then a tombstone is a doubt about its user.

use crate::event::{Event, Position, What};
use crate::followed;
use crate::json::{Object, Value};
use crate::meaning::{Before, RowChange, RowKind};
use crate::message_key;
use crate::position;
use crate::reading::Reading;
use crate::table::{FollowedTable, KindOf, TableRole};
use crate::value::Texts;

/// What a row says about whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Followed(usize),
    Other,
    Unknown,
}

/// Says what a row says, and whether it is of a pipeline that tells deletes. `None` if it is no
/// followed table's row, nor says that it is another's.
pub(crate) fn decode(row: &Object<'_>, reading: &mut Reading<'_, '_>) -> Option<bool> {
    match owner(row, reading) {
        Owner::Followed(at) => {
            let table = reading.tables.get(at)?;
            row.members().find(|(name, _)| table.role_of(name).is_some())?;
            change(at, row, reading);
        }
        Owner::Other => reading.ignore("other_table", None),
        Owner::Unknown => return None,
    }
    Some(row.has("__deleted"))
}

fn owner(row: &Object<'_>, reading: &Reading<'_, '_>) -> Owner {
    let tables = reading.tables;
    let own = |name: &str| row.present(name).and_then(Value::text);
    if let Some(name) = own("__table") {
        let database = own("__db");
        let is_it = |table: &FollowedTable| {
            table.table.eq_ignore_ascii_case(name)
                && database.is_none_or(|database| table.database.eq_ignore_ascii_case(database))
        };
        if let Some(database) = database {
            let found = followed::find(tables, database, name);
            return found.map_or(Owner::Other, |(at, _)| Owner::Followed(at));
        }
        let is_of_topic = |table: &&FollowedTable| is_topic_of(reading.record.topic, table);
        let named = || tables.iter().filter(|table| is_it(table));
        return match (named().count(), named().filter(is_of_topic).count()) {
            (0, _) => Owner::Other,
            (1, _) => only(tables, is_it),
            (_, 1) => only(tables, |table| is_it(table) && is_of_topic(&table)),
            _ => Owner::Unknown,
        };
    }
    let by_topic = only(tables, |table| is_topic_of(reading.record.topic, table));
    match by_topic {
        Owner::Followed(_) => by_topic,
        _ => only(tables, |table| has_columns(row, table)),
    }
}

/// The one table that this holds for.
fn only(tables: &[FollowedTable], is_it: impl Fn(&FollowedTable) -> bool) -> Owner {
    let mut found = tables.iter().enumerate().filter(|(_, table)| is_it(table));
    match (found.next(), found.next()) {
        (Some((at, _)), None) => Owner::Followed(at),
        _ => Owner::Unknown,
    }
}

/// True if a topic's name ends with a table's, as Debezium names topics: what Kafka does not allow in
/// a name is an underscore there.
fn is_topic_of(topic: &str, table: &FollowedTable) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let name = || table.database.chars().chain(['.']).chain(table.table.chars());
    let Some(start) = topic.len().checked_sub(name().count()) else { return false };
    let (Some(prefix), Some(own)) = (topic.get(..start), topic.get(start..)) else { return false };
    let is_it = own.chars().eq(name().map(|c| if plain(c) { c } else { '_' }));
    is_it && (prefix.is_empty() || prefix.ends_with('.'))
}

fn has_columns(row: &Object<'_>, table: &FollowedTable) -> bool {
    let has = |wanted: &str| row.members().any(|(name, _)| name.eq_ignore_ascii_case(wanted));
    match &table.role {
        TableRole::Control => ["user_id", "namespace", "writer", "seq"].into_iter().all(has),
        TableRole::History { user, item, kind, time, deleted } => {
            let kind = match kind {
                KindOf::Column(name) => Some(name),
                KindOf::Constant(_) => None,
            };
            let others = [kind, time.as_ref().map(|(name, _)| name), deleted.as_ref()];
            has(user) && has(item) && others.into_iter().flatten().all(|name| has(name))
        }
    }
}

fn change(table: usize, row: &Object<'_>, reading: &mut Reading<'_, '_>) {
    let image = reading.image(table, row, Texts::DecimalOrBase64);
    let position = position(row);
    let op = match (row.get("__deleted").map(Value::text), row.get("__op").map(Value::text)) {
        (Some(Some("true")), None | Some(Some("d"))) | (None, Some(Some("d"))) => RowKind::Delete,
        (Some(Some("false")) | None, Some(Some("c" | "r"))) => RowKind::Insert,
        (Some(Some("false")) | None, Some(Some("u")) | None) => RowKind::Update,
        (None | Some(Some("false")), Some(Some("t"))) => {
            let (what, reason) = (What::Truncate, Some("truncate"));
            return reading.out.push(Event { table: Some(table), what, position, reason });
        }
        _ => return reading.doubt("row_shape"),
    };
    let is_whole = |table| message_key::is_whole(table, reading.record);
    let before = match op {
        RowKind::Delete => Before::Whole(image),
        _ if reading.tables.get(table).is_some_and(is_whole) => Before::SameKey,
        _ => Before::Unknown,
    };
    let after = if op == RowKind::Delete { Default::default() } else { image };
    let first = reading.out.len();
    reading.tell(&RowChange { table, kind: op, before, after, position });
    let told = reading.out.get_mut(first..).unwrap_or_default();
    message_key::settle(reading.tables, reading.record, told);
}

/// Where a row says that it lies, if the transform was told to add that (`add.fields=source.gtid`, or
/// `source.file,source.pos`).
fn position(row: &Object<'_>) -> Option<Position> {
    row.text("__source_gtid").and_then(position::transaction).or_else(|| {
        let pos = row.get("__source_pos").and_then(Value::unsigned)?;
        position::place(row.text("__source_file")?, pos)
    })
}
