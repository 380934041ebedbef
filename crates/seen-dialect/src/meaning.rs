//! What a change of a row means: the one place for all dialects.

use seen_filter::{Item, Kind, UserId};

use crate::cell::{Cell, Image, Role};
use crate::event::{ControlRow, Event, Position, Scope, What};
use crate::table::{FollowedTable, KindOf, TableRole, TimeUnit};

/// What happened to a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowKind {
    /// It was inserted, or read by a snapshot.
    Insert,
    /// It was changed.
    Update,
    /// It was removed; `after` is empty, `before` is the row.
    Delete,
}

/// What is known of a row before its change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Before {
    /// All of it.
    Whole(Image),
    /// Only what changed; the rest is as it is now.
    Changed(Image),
    /// Nothing, but its primary key was the same: the producer tells changes of it otherwise.
    SameKey,
    /// Nothing.
    Unknown,
}

/// One change of one row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RowChange {
    /// The followed table's place in the decoder's list.
    pub table: usize,
    /// What happened.
    pub kind: RowKind,
    /// The row before.
    pub before: Before,
    /// The row now.
    pub after: Image,
    /// Where in its source it lies.
    pub position: Option<Position>,
}

impl RowChange {
    /// Says what the change means for the table that it is of.
    pub fn tell(&self, table: &FollowedTable, out: &mut Vec<Event>) {
        let mut teller = Teller { change: self, table, out };
        match table.role {
            TableRole::Control => teller.control(),
            TableRole::History { .. } => teller.history(),
        }
    }
}

/// Whose row of what, or whom the failure to read it puts in doubt, and why.
type Key = Result<(UserId, Item), (Scope, &'static str)>;

struct Teller<'a> {
    change: &'a RowChange,
    table: &'a FollowedTable,
    out: &'a mut Vec<Event>,
}

impl Teller<'_> {
    fn push(&mut self, what: What, reason: Option<&'static str>) {
        let position = self.change.position.clone();
        self.out.push(Event { table: Some(self.change.table), what, position, reason });
    }

    fn dirty(&mut self, scope: Scope, reason: &'static str) {
        self.push(What::Dirty(scope), Some(reason));
    }

    fn history(&mut self) {
        match self.change.kind {
            RowKind::Insert => self.is_there(&self.change.after),
            RowKind::Delete => match self.change.before {
                Before::Whole(image) | Before::Changed(image) => self.is_gone(self.key(&image)),
                Before::SameKey | Before::Unknown => self.dirty(Scope::Partition, "before_missing"),
            },
            RowKind::Update => self.update(),
        }
    }

    fn update(&mut self) {
        let after = self.change.after;
        let was = match self.change.before {
            Before::Whole(image) => Some(self.key(&image)),
            Before::Changed(image) => Some(self.key(&image.or(&after))),
            Before::SameKey => Some(self.key(&after)),
            Before::Unknown => None,
        };
        match (was, self.key(&after)) {
            // Row 22: the row was perhaps about something else, of which nothing is known.
            (None, Ok((user, _))) => {
                self.is_there(&after);
                self.dirty(Scope::User(user), "before_unknown");
            }
            (Some(was), Ok(is)) if was == Ok(is) => self.is_there(&after),
            (None, Err(_)) => self.is_there(&after),
            // One doubt says it.
            (Some(Err(was)), Err(is)) if was == is => self.is_there(&after),
            (Some(was), _) => {
                self.is_gone(was);
                self.is_there(&after);
            }
        }
    }

    fn is_there(&mut self, image: &Image) {
        match (self.key(image), self.is_deleted(image)) {
            (Err((scope, reason)), _) => self.dirty(scope, reason),
            (Ok((user, _)), Err(reason)) => self.dirty(Scope::User(user), reason),
            (Ok((user, item)), Ok(true)) => self.push(What::Delete { user, item }, None),
            (Ok((user, item)), Ok(false)) => {
                let marked_at_ms = self.time(image);
                self.push(What::Upsert { user, item, marked_at_ms }, None);
            }
        }
    }

    fn is_gone(&mut self, key: Key) {
        match key {
            Ok((user, item)) => self.push(What::Delete { user, item }, None),
            Err((scope, reason)) => self.dirty(scope, reason),
        }
    }

    fn key(&self, image: &Image) -> Key {
        let user = whole(image.cell(Role::User)).map_err(|reason| (Scope::Partition, reason))?;
        let user = UserId::new(user);
        // Row 21: what cannot be read puts in doubt whom it is about, if that much is known.
        let doubt = |reason| (Scope::User(user), reason);
        let id = whole(image.cell(Role::Item)).map_err(doubt)?;
        let kind = match &self.table.role {
            TableRole::History { kind: KindOf::Constant(kind), .. } => *kind,
            _ => {
                let kind = whole(image.cell(Role::Kind)).map_err(doubt)?;
                Kind::new(u8::try_from(kind).map_err(|_| doubt("kind_range"))?)
            }
        };
        Ok((user, Item::new(kind.get(), id)))
    }

    fn time(&self, image: &Image) -> Option<u64> {
        let TableRole::History { time: Some((_, unit)), .. } = &self.table.role else {
            return None;
        };
        match image.cell(Role::Time) {
            Cell::Millis(ms) => u64::try_from(ms).ok(),
            cell => whole(cell).ok().map(|time| match unit {
                TimeUnit::Millis => time,
                TimeUnit::Seconds => time.saturating_mul(1_000),
            }),
        }
    }

    fn is_deleted(&self, image: &Image) -> Result<bool, &'static str> {
        if !matches!(&self.table.role, TableRole::History { deleted: Some(_), .. }) {
            return Ok(false);
        }
        match image.cell(Role::Deleted) {
            Cell::Null | Cell::Empty | Cell::Number(0) => Ok(false),
            Cell::Number(_) | Cell::Millis(_) | Cell::Text | Cell::Rounded => Ok(true),
            Cell::Missing => Err("value_missing"),
            Cell::Other => Err("value_type"),
        }
    }

    fn control(&mut self) {
        if self.change.kind == RowKind::Delete {
            // Old fences are removed by the store itself.
            return self.push(What::Ignore, Some("control_removed"));
        }
        let image = &self.change.after;
        let read = || {
            let namespace = whole(image.cell(Role::Namespace))?;
            Ok(ControlRow {
                user: UserId::new(whole(image.cell(Role::User))?),
                namespace: u16::try_from(namespace).map_err(|_| "value_range")?,
                writer: whole(image.cell(Role::Writer))?,
                seq: whole(image.cell(Role::Seq))?,
            })
        };
        match read() {
            Ok(row) => self.push(What::Control(row), None),
            Err(reason) => self.dirty(Scope::Partition, reason),
        }
    }
}

/// An id. A negative number stands for the unsigned one with the same bits, as where the history is
/// read.
pub(crate) fn whole(cell: Cell) -> Result<u64, &'static str> {
    match cell {
        Cell::Number(number) => u64::try_from(number)
            .or_else(|_| i64::try_from(number).map(i64::cast_unsigned))
            .map_err(|_| "value_range"),
        Cell::Missing => Err("value_missing"),
        Cell::Null => Err("value_null"),
        Cell::Rounded => Err("value_rounded"),
        Cell::Millis(_) | Cell::Text | Cell::Empty | Cell::Other => Err("value_type"),
    }
}

#[cfg(test)]
mod tests;
