//! TiCDC's Avro: a byte 0, the number of a schema in a registry, and a row of that schema. The key is
//! the row's primary key; no value is a delete, in this format alone.

use std::collections::{BTreeMap, BTreeSet};

use crate::avro::Reader;
use crate::avro::schema::{Form, RecordSchema, SchemaError};
use crate::cell::{Cell, Image, Role};
use crate::event::{Event, Position, Scope};
use crate::meaning::{Before, RowChange, RowKind};
use crate::protobuf::{Malformed, take_array};
use crate::record::Record;
use crate::table::{FollowedTable, KindOf, TableRole};

/// Most unknown numbers that are kept; damaged records could name as many as there are.
const WANTED_MAX: usize = 64;

/// The schemas that rows are read by. Whoever holds the decoder fetches those that are wanted.
#[derive(Debug)]
pub struct Schemas {
    /// With their names as Avro allows them.
    tables: Vec<FollowedTable>,
    known: BTreeMap<u32, Known>,
    wanted: BTreeSet<u32>,
}

/// A schema, and what it is of.
#[derive(Debug)]
struct Known {
    /// `None` for a table that is not followed.
    table: Option<usize>,
    fields: Vec<(Field, Form)>,
}

#[derive(Clone, Copy, Debug)]
enum Field {
    Column(Role),
    CommitTs,
    Other,
}

impl Schemas {
    pub(crate) fn new(tables: &[FollowedTable]) -> Self {
        let tables = tables.iter().map(plain).collect();
        Self { tables, known: BTreeMap::new(), wanted: BTreeSet::new() }
    }

    /// Adds a schema under its number in the registry.
    ///
    /// # Errors
    /// Text that is no schema of a record, or one with types that TiCDC does not use.
    pub fn add(&mut self, id: u32, json: &str) -> Result<(), SchemaError> {
        let RecordSchema { name, namespace, fields } = RecordSchema::parse(json)?;
        // The namespace is that of the changefeed, and then the database.
        let database = namespace.rsplit('.').next().unwrap_or_default();
        let is = |one: &FollowedTable| {
            one.table.eq_ignore_ascii_case(&name) && one.database.eq_ignore_ascii_case(database)
        };
        let table = self.tables.iter().position(is);
        let role_of = |field: &str| match (field, table.and_then(|at| self.tables.get(at))) {
            ("_tidb_commit_ts", _) => Field::CommitTs,
            (column, Some(table)) => table.role_of(column).map_or(Field::Other, Field::Column),
            (_, None) => Field::Other,
        };
        let fields = fields.into_iter().map(|(name, form)| (role_of(&name), form)).collect();
        self.known.insert(id, Known { table, fields });
        self.wanted.remove(&id);
        Ok(())
    }

    /// The numbers of schemas that records named and nobody has added, at most 64. Records that named
    /// them have put their partition in doubt.
    pub fn wanted(&self) -> impl Iterator<Item = u32> {
        self.wanted.iter().copied()
    }

    /// Wants a schema no more, until a record names it again.
    pub fn give_up(&mut self, id: u32) {
        self.wanted.remove(&id);
    }

    /// Appends what a record says; `tables` are those that the schemas were told apart by.
    pub(crate) fn decode(
        &mut self,
        tables: &[FollowedTable],
        record: &Record<'_>,
        out: &mut Vec<Event>,
    ) {
        let (kind, bytes) = match (record.key, record.value) {
            (_, Some(value)) => (RowKind::Insert, value),
            (Some(key), None) => (RowKind::Delete, key),
            (None, None) => return out.push(Event::ignore("tombstone")),
        };
        let Some((id, bytes)) = enveloped(bytes) else {
            return out.push(Event::dirty(Scope::Partition, "record_damaged"));
        };
        let Some(known) = self.known.get(&id) else {
            if self.wanted.len() < WANTED_MAX {
                self.wanted.insert(id);
            }
            return out.push(Event::dirty(Scope::Partition, "schema_unknown"));
        };
        let Some((at, table)) = known.table.and_then(|at| Some((at, tables.get(at)?))) else {
            return out.push(Event::ignore("other_table"));
        };
        match row(known, bytes) {
            Err(Malformed) => out.push(Event::dirty(Scope::Partition, "record_damaged")),
            Ok(row) => {
                let position = row.commit_ts.map(Position::CommitTs);
                let (before, after) = match kind {
                    RowKind::Delete => (Before::Whole(row.image), Image::default()),
                    // TiCDC tells a change of the key as a delete and an insert.
                    _ => (Before::SameKey, row.image),
                };
                RowChange { table: at, kind, before, after, position }.tell(table, out);
            }
        }
    }
}

/// True if a record looks like one of this format. The open protocol's keys begin with a 0 too, and
/// must have been looked for before.
pub(crate) fn is_one(record: &Record<'_>) -> bool {
    let says_so = |bytes: Option<&[u8]>| bytes.is_some_and(|bytes| enveloped(bytes).is_some());
    match record.value {
        Some(_) => says_so(record.value),
        None => says_so(record.key),
    }
}

/// The schema's number, and the row.
fn enveloped(mut bytes: &[u8]) -> Option<(u32, &[u8])> {
    let [0] = take_array(&mut bytes).ok()? else { return None };
    let id = take_array(&mut bytes).map(u32::from_be_bytes).ok()?;
    Some((id, bytes))
}

#[derive(Default)]
struct Row {
    image: Image,
    commit_ts: Option<u64>,
}

fn row(known: &Known, bytes: &[u8]) -> Result<Row, Malformed> {
    let mut from = Reader(bytes);
    let mut row = Row::default();
    for (field, form) in &known.fields {
        let cell = form.read(&mut from)?;
        match (field, cell) {
            (Field::Column(role), cell) => row.image.set(*role, cell),
            (Field::CommitTs, Cell::Number(ts)) => {
                let ts = i64::try_from(ts).map_err(|_| Malformed)?;
                // 0 is the field's default, and no time at which anything was committed.
                row.commit_ts = (ts != 0).then_some(ts.cast_unsigned());
            }
            _ => {}
        }
    }
    if from.is_empty() { Ok(row) } else { Err(Malformed) }
}

/// A table with its names as Avro allows them: what is no letter, digit or `_` is a `_`, and a digit at
/// the beginning stands behind one.
fn plain(table: &FollowedTable) -> FollowedTable {
    let role = match &table.role {
        TableRole::Control => TableRole::Control,
        TableRole::History { user, item, kind, time, deleted } => TableRole::History {
            user: plain_name(user),
            item: plain_name(item),
            kind: match kind {
                KindOf::Column(name) => KindOf::Column(plain_name(name)),
                KindOf::Constant(kind) => KindOf::Constant(*kind),
            },
            time: time.as_ref().map(|(name, unit)| (plain_name(name), *unit)),
            deleted: deleted.as_deref().map(plain_name),
        },
    };
    FollowedTable { database: plain_name(&table.database), table: plain_name(&table.table), role }
}

fn plain_name(name: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '_' { c } else { '_' };
    let begin = if name.starts_with(|c: char| c.is_ascii_digit()) { "_" } else { "" };
    begin.chars().chain(name.chars().map(plain)).collect()
}
