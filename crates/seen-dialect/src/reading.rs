//! What the JSON dialects share: a record being read, and where what it says goes.

use seen_filter::UserId;

use crate::cell::{Image, Role};
use crate::event::{Event, Position, Scope, What};
use crate::followed;
use crate::json::Object;
use crate::meaning::{Before, RowChange, RowKind, whole};
use crate::message_key;
use crate::record::Record;
use crate::table::FollowedTable;
use crate::value::{self, Texts};

/// A record being read.
pub(crate) struct Reading<'a, 'o> {
    pub tables: &'a [FollowedTable],
    pub record: &'a Record<'a>,
    pub out: &'o mut Vec<Event>,
}

impl Reading<'_, '_> {
    pub fn push(&mut self, what: What, reason: &'static str, position: Option<Position>) {
        self.out.push(Event { table: None, what, position, reason: Some(reason) });
    }

    pub fn ignore(&mut self, reason: &'static str, position: Option<Position>) {
        self.push(What::Ignore, reason, position);
    }

    /// A doubt about the user that the record's key names, else about the partition.
    pub fn doubt(&mut self, reason: &'static str) {
        self.out.push(message_key::doubt(self.tables, self.record, reason));
    }

    /// A doubt about the partition, whatever the key says.
    pub fn doubt_partition(&mut self, reason: &'static str) {
        self.out.push(Event::dirty(Scope::Partition, reason));
    }

    /// The followed table that a record names by these members; else says why there is none.
    pub fn table(&mut self, database: Option<&str>, table: Option<&str>) -> Option<usize> {
        let (Some(database), Some(table)) = (database, table) else {
            self.doubt("table_missing");
            return None;
        };
        let found = followed::find(self.tables, database, table).map(|(at, _)| at);
        if found.is_none() {
            self.ignore("other_table", None);
        }
        found
    }

    pub fn image(&self, table: usize, row: &Object<'_>, texts: Texts) -> Image {
        self.tables.get(table).map_or_else(Image::default, |table| value::image(table, row, texts))
    }

    pub fn tell(&mut self, change: &RowChange) {
        if let Some(table) = self.tables.get(change.table) {
            change.tell(table, self.out);
        }
    }

    /// Says what became of a row, for producers that send a row as it is now with the former values of
    /// what changed. Of an update without those nothing is known of the row before, not even that it
    /// was the same user's: such producers do not make two records of a change of the user.
    pub fn row_with_changes(
        &mut self,
        at: (usize, Option<Position>),
        kind: RowKind,
        row: &Object<'_>,
        old: Option<&Object<'_>>,
    ) {
        let (table, position) = at;
        let image = self.image(table, row, Texts::Decimal);
        let old = old.filter(|old| old.names_are_among(row));
        let (kind, before, after, is_lost) = match (kind, old) {
            (RowKind::Delete, _) => (kind, Before::Whole(image), Image::default(), false),
            (RowKind::Insert, _) => (kind, Before::Unknown, image, false),
            (RowKind::Update, Some(old)) => {
                (kind, Before::Changed(self.image(table, old, Texts::Decimal)), image, false)
            }
            (RowKind::Update, None) => (RowKind::Insert, Before::Unknown, image, true),
        };
        let lost = position.clone();
        self.tell(&RowChange { table, kind, before, after, position });
        if is_lost {
            let doubt = Event::dirty(Scope::Partition, "before_missing");
            self.out.push(Event { table: Some(table), position: lost, ..doubt });
        }
    }

    /// Doubts the users that a row names which itself lies elsewhere; true if it names one.
    pub fn oversize(&mut self, table: usize, row: &Object<'_>) -> bool {
        let image = self.image(table, row, Texts::Decimal);
        let Ok(user) = whole(image.cell(Role::User)) else { return false };
        let doubt = Event::dirty(Scope::User(UserId::new(user)), "oversize_row");
        self.out.push(Event { table: Some(table), ..doubt });
        true
    }

    /// What a statement says that the record itself says to be about a table: if the text does not seem
    /// to be about that one, it was not understood.
    pub fn statement(
        &mut self,
        text: &str,
        database: &str,
        table: Option<&str>,
        position: Option<&Position>,
    ) {
        let first = self.out.len();
        followed::ddl(self.tables, text, database, position, self.out);
        let named = table.and_then(|table| followed::find(self.tables, database, table));
        let told = self.out.get(first..).unwrap_or_default();
        let Some((at, _)) = named.filter(|(at, _)| told.iter().all(|one| one.table != Some(*at)))
        else {
            return;
        };
        let doubt = Event::dirty(Scope::Table, "ddl_unreadable");
        self.out.push(Event { table: Some(at), position: position.cloned(), ..doubt });
    }
}
