//! What an ALTER TABLE does to rows and to the columns that mean something.

use super::tokens::Token;
use super::{Effect, Name, Reader};

/// The rows of some partitions are gone, have come from elsewhere, or lie elsewhere now.
const ROWS_MOVED: Effect = Effect::Doubted("partition_rows_changed");

impl<'a> Reader<'a, '_> {
    pub(super) fn alter(&mut self) -> Option<()> {
        self.skip(&["ONLINE"]);
        self.skip(&["IGNORE"]);
        if !self.skip(&["TABLE"]) {
            let is_database = self.skip(&["DATABASE", "SCHEMA"]);
            return (is_database || self.is_of_other_object()).then_some(());
        }
        self.if_exists();
        let name = self.name()?;
        self.affect(&name, Effect::Changed);
        for part in parts(self.rest) {
            let mut reader = Reader {
                rest: part,
                database: self.database,
                tables: self.tables,
                found: &mut *self.found,
            };
            reader.part(&name);
        }
        Some(())
    }

    /// One of the changes that an ALTER TABLE lists.
    fn part(&mut self, table: &Name<'a>) -> Option<()> {
        let first = self.next()?;
        if first.is("RENAME") {
            return self.rename_part(table);
        }
        if first.is("DROP") {
            const OTHERS: [&str; 9] = [
                "PARTITION",
                "INDEX",
                "KEY",
                "FOREIGN",
                "PRIMARY",
                "CONSTRAINT",
                "CHECK",
                "PERIOD",
                "SYSTEM",
            ];
            return self.column_unless(table, &OTHERS);
        }
        if first.is("ADD") {
            const OTHERS: [&str; 12] = [
                "PARTITION",
                "INDEX",
                "KEY",
                "FOREIGN",
                "PRIMARY",
                "CONSTRAINT",
                "CHECK",
                "PERIOD",
                "SYSTEM",
                "UNIQUE",
                "FULLTEXT",
                "SPATIAL",
            ];
            return self.column_unless(table, &OTHERS);
        }
        if first.is("MODIFY") {
            return self.column_unless(table, &[]);
        }
        if first.is("CHANGE") {
            self.column_unless(table, &[])?;
            return self.column(table);
        }
        let is_convert_of_texts = first.is("CONVERT") && self.rest.first()?.is("TO");
        if first.is("EXCHANGE") || (first.is("CONVERT") && !is_convert_of_texts) {
            self.affect(table, ROWS_MOVED);
            while !self.skip(&["TABLE"]) {
                self.next()?;
            }
            let other = self.name()?;
            self.affect(&other, ROWS_MOVED);
        } else if first.is("TRUNCATE") || first.is("DISCARD") || first.is("IMPORT") {
            self.affect(table, ROWS_MOVED);
        }
        Some(())
    }

    fn rename_part(&mut self, table: &Name<'a>) -> Option<()> {
        if self.skip(&["COLUMN"]) {
            self.if_exists();
            self.column(table)?;
            self.skip(&["TO"]);
            return self.column(table);
        }
        if self.skip(&["INDEX", "KEY"]) {
            return Some(());
        }
        let _ = self.skip(&["TO", "AS"]) || self.skip_mark('=');
        let to = self.name()?;
        self.affect(table, Effect::Gone("rename"));
        self.affect(&to, Effect::Gone("rename"));
        Some(())
    }

    /// The column that a change begins with, or a list of columns in brackets.
    fn column_unless(&mut self, table: &Name<'a>, others: &[&str]) -> Option<()> {
        if !self.skip(&["COLUMN"]) && self.skip(others) {
            return Some(());
        }
        self.if_exists();
        if !self.skip_mark('(') {
            return self.column(table);
        }
        for part in parts(self.rest) {
            self.rest = part;
            self.column(table);
        }
        Some(())
    }

    /// Doubts the table if the next name is a column that means something.
    fn column(&mut self, table: &Name<'a>) -> Option<()> {
        let column = self.next()?.name()?;
        for (at, followed) in self.tables.iter().enumerate() {
            if self.is_named(followed, table) && followed.role_of(column).is_some() {
                self.found.push((at, Effect::Doubted("followed_column_changed")));
            }
        }
        Some(())
    }
}

/// The parts between commas that lie in no brackets.
fn parts<'a>(tokens: &'a [Token<'a>]) -> impl Iterator<Item = &'a [Token<'a>]> {
    let mut depth = 0_i64;
    tokens.split(move |token| {
        match token {
            Token::Mark('(') => depth += 1,
            Token::Mark(')') => depth -= 1,
            _ => {}
        }
        depth <= 0 && *token == Token::Mark(',')
    })
}
