//! The tables that a log describes, and the rows of those that are followed.

use seen_filter::GapScope;

use super::super::meaning::{CONTROL_TABLE, Subject, Told};
use super::super::row::{Cells, Layout, Rows, RowsKind, table_id};
use super::super::table::{self, TableMap};
use super::Translator;

/// Most table descriptions kept from one transaction to the next.
const TABLES_MAX: usize = 256;
/// The table number of a rows event without rows, which only ends a statement.
const NO_TABLE: u64 = 0x00ff_ffff;

/// A table of the log, by what it is to us.
pub(super) enum Table {
    Foreign,
    /// Rows of it cannot be read, for this reason.
    Unreadable(&'static str),
    History(Layout),
    Control(Layout),
}

impl Translator {
    pub(super) fn table(&mut self, data: &[u8]) {
        let Some((id, database, table)) = table::names(data) else {
            return self.doubt("table_damaged");
        };
        if self.tables.get(&id).is_some_and(|(known, _)| known == data) {
            return;
        }
        let same = |name: &[u8], own: &str| match self.ignores_case {
            true => name.eq_ignore_ascii_case(own.as_bytes()),
            false => name == own.as_bytes(),
        };
        let layout = |wanted: &[&str], made: fn(Layout) -> Table| match TableMap::read(data) {
            None => Table::Unreadable("table_damaged"),
            Some(map) => Layout::new(&map, wanted).map_or_else(Table::Unreadable, made),
        };
        let is = |home: &str, name: &str| same(database, home) && same(table, name);
        let meaning = if is(self.subject.home(), self.subject.mapping.table.as_str()) {
            layout(&self.subject.history_columns(), Table::History)
        } else if is(&self.subject.database, CONTROL_TABLE) {
            layout(&Subject::CONTROL_COLUMNS, Table::Control)
        } else {
            Table::Foreign
        };
        if self.tables.len() >= TABLES_MAX {
            self.tables.clear();
        }
        self.tables.insert(id, (data.to_vec(), meaning));
    }

    pub(super) fn rows(&mut self, event_type: u8, data: &[u8]) {
        let id = table_id(data);
        let Some((_, table)) = id.and_then(|id| self.tables.get(&id)) else {
            if id != Some(NO_TABLE) {
                self.doubt("table_unknown");
            }
            return;
        };
        let mut told = Vec::new();
        let mut landmark = self.landmark;
        match table {
            Table::Foreign => return,
            Table::Unreadable(reason) => {
                told.push(Told::Gap(GapScope::Partition, reason));
            }
            Table::History(layout) => {
                each_row(event_type, data, layout, &mut told, |kind, before, after, told| {
                    self.subject.history(kind, before, after, told);
                });
            }
            Table::Control(layout) => {
                each_row(event_type, data, layout, &mut told, |kind, before, after, told| {
                    self.subject.tell_control(kind, (before, after), &mut landmark, told);
                });
            }
        }
        self.landmark = landmark;
        for told in told {
            self.make(told);
        }
    }
}

/// Reads the rows of an event, and puts a damaged rest in doubt.
fn each_row(
    event_type: u8,
    data: &[u8],
    layout: &Layout,
    told: &mut Vec<Told>,
    mut take: impl FnMut(RowsKind, &Cells, &Cells, &mut Vec<Told>),
) {
    let damaged = Told::Gap(GapScope::Partition, "row_damaged");
    let Some(mut rows) = Rows::new(event_type, data, layout) else {
        return told.push(damaged);
    };
    let kind = rows.kind();
    // Rows of which the images have no column at all take no bytes.
    let mut is_empty = true;
    while let Some(row) = rows.next() {
        is_empty = false;
        match row {
            Ok((before, after)) => take(kind, &before, &after, told),
            Err(_) => told.push(damaged),
        }
    }
    if is_empty {
        told.push(damaged);
    }
}
