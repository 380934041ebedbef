//! What a statement means for the followed tables: rows that are gone without an event of their own,
//! columns that are no longer what they were, or nothing.
//!
//! Only as much of the grammar is known as that takes. What names a followed table and is not
//! understood is a doubt about the table.

mod alter;
mod tokens;

use crate::table::FollowedTable;
use tokens::{Token, Tokens};

/// What became of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Its rows are gone, or are rows of another name now.
    Gone(&'static str),
    /// It was changed in a way that leaves the rows' events readable.
    Changed,
    /// It was changed, and rows may be gone, have come, or read differently from now on.
    Doubted(&'static str),
}

/// What a text says about the tables of a list, by their places. An unqualified name lies in
/// `database`; where that is not known, in any.
pub(crate) fn effects(
    text: &str,
    database: Option<&str>,
    tables: &[FollowedTable],
) -> Vec<(usize, Effect)> {
    let mut found = Vec::new();
    // The texts of row changes may be long: they are left at their first word.
    if Tokens(text).next().is_none_or(|first| is_any(&first, &ROW_CHANGES)) {
        return found;
    }
    let tokens: Vec<_> = Tokens(text).collect();
    for statement in tokens.split(|token| *token == Token::Mark(';')) {
        let mut reader = Reader { rest: statement, database, tables, found: &mut found };
        if reader.statement().is_none() {
            reader.not_understood(statement);
        }
    }
    found
}

/// Statements that change or read rows, which come by events of their own.
const ROW_CHANGES: [&str; 7] = ["INSERT", "UPDATE", "DELETE", "REPLACE", "SELECT", "WITH", "LOAD"];

/// Statements that frame others, or touch no rows.
const OTHERS: [&str; 28] = [
    "CALL",
    "BEGIN",
    "START",
    "COMMIT",
    "ROLLBACK",
    "SAVEPOINT",
    "RELEASE",
    "XA",
    "SET",
    "USE",
    "SHOW",
    "EXPLAIN",
    "GRANT",
    "REVOKE",
    "ANALYZE",
    "OPTIMIZE",
    "FLUSH",
    "CHECK",
    "REPAIR",
    "KILL",
    "LOCK",
    "UNLOCK",
    "DO",
    "HANDLER",
    "PREPARE",
    "EXECUTE",
    "DEALLOCATE",
    "COMMENT",
];

fn is_any(token: &Token<'_>, words: &[&str]) -> bool {
    words.iter().any(|word| token.is(word))
}

/// A table's name as a statement writes it.
struct Name<'a> {
    database: Option<&'a str>,
    table: &'a str,
}

struct Reader<'a, 'o> {
    rest: &'a [Token<'a>],
    database: Option<&'a str>,
    tables: &'a [FollowedTable],
    found: &'o mut Vec<(usize, Effect)>,
}

impl<'a> Reader<'a, '_> {
    /// Reads one statement; `None` if its form is not known.
    fn statement(&mut self) -> Option<()> {
        let Some(first) = self.next() else { return Some(()) };
        match first {
            first if is_any(first, &ROW_CHANGES) || is_any(first, &OTHERS) => Some(()),
            first if first.is("TRUNCATE") => {
                self.skip(&["TABLE"]);
                self.names("truncate")
            }
            first if first.is("DROP") => self.drop(),
            first if first.is("RENAME") => self.rename(),
            first if first.is("CREATE") => self.create(),
            first if first.is("ALTER") => self.alter(),
            first if first.is("FLASHBACK") || first.is("RECOVER") => self.recover(),
            _ => None,
        }
    }

    fn drop(&mut self) -> Option<()> {
        if self.skip(&["TEMPORARY"]) {
            return Some(());
        }
        if self.skip(&["DATABASE", "SCHEMA"]) {
            self.if_exists();
            let database = self.next()?.name()?;
            self.all_of(database, Effect::Gone("drop_database"));
            return Some(());
        }
        if self.skip(&["TABLE", "TABLES"]) {
            self.if_exists();
            return self.names("drop");
        }
        if self.skip(&["INDEX"]) {
            return self.on_table();
        }
        self.is_of_other_object().then_some(())
    }

    fn rename(&mut self) -> Option<()> {
        if !self.skip(&["TABLE", "TABLES"]) {
            return self.skip(&["USER"]).then_some(());
        }
        self.if_exists();
        loop {
            let from = self.name()?;
            while !self.skip(&["TO"]) {
                // MariaDB: WAIT n, NOWAIT.
                self.next()?;
            }
            let to = self.name()?;
            self.affect(&from, Effect::Gone("rename"));
            self.affect(&to, Effect::Gone("rename"));
            if !self.skip_mark(',') {
                return Some(());
            }
        }
    }

    fn create(&mut self) -> Option<()> {
        let replaces = self.skip(&["OR"]) && self.skip(&["REPLACE"]);
        if self.skip(&["TEMPORARY"]) {
            return Some(());
        }
        if self.skip(&["DATABASE", "SCHEMA"]) {
            if replaces {
                let database = self.next()?.name()?;
                self.all_of(database, Effect::Gone("drop_database"));
            }
            return Some(());
        }
        if self.skip(&["TABLE"]) {
            self.if_exists();
            let name = self.name()?;
            self.affect(&name, if replaces { Effect::Gone("drop") } else { Effect::Changed });
            return Some(());
        }
        self.skip(&["UNIQUE", "FULLTEXT", "SPATIAL", "VECTOR"]);
        if self.skip(&["INDEX"]) {
            return self.on_table();
        }
        self.is_of_other_object().then_some(())
    }

    /// TiDB: rows come back, and no event says so.
    fn recover(&mut self) -> Option<()> {
        const EFFECT: Effect = Effect::Doubted("rows_recovered");
        if self.skip(&["CLUSTER"]) {
            self.found.extend((0..self.tables.len()).map(|at| (at, EFFECT)));
            return Some(());
        }
        if self.skip(&["DATABASE", "SCHEMA"]) {
            let database = self.next()?.name()?;
            self.all_of(database, EFFECT);
            if self.skip(&["TO"]) {
                let database = self.next()?.name()?;
                self.all_of(database, EFFECT);
            }
            return Some(());
        }
        self.skip(&["TABLE"]).then_some(())?;
        loop {
            let name = self.name()?;
            self.affect(&name, EFFECT);
            if !self.skip_mark(',') && !self.skip(&["TO"]) {
                return Some(());
            }
        }
    }

    /// A list of tables, whose rows are gone.
    fn names(&mut self, reason: &'static str) -> Option<()> {
        loop {
            let name = self.name()?;
            self.affect(&name, Effect::Gone(reason));
            if !self.skip_mark(',') {
                return Some(());
            }
        }
    }

    /// The table of an index.
    fn on_table(&mut self) -> Option<()> {
        while !self.skip(&["ON"]) {
            self.next()?;
        }
        let name = self.name()?;
        self.affect(&name, Effect::Changed);
        Some(())
    }

    /// True before what is neither a table nor holds any.
    fn is_of_other_object(&self) -> bool {
        const OBJECTS: [&str; 19] = [
            "VIEW",
            "TRIGGER",
            "PROCEDURE",
            "FUNCTION",
            "EVENT",
            "USER",
            "ROLE",
            "SERVER",
            "SEQUENCE",
            "TABLESPACE",
            "LOGFILE",
            "UNDO",
            "DEFINER",
            "ALGORITHM",
            "SQL",
            "AGGREGATE",
            "PACKAGE",
            "PLACEMENT",
            "RESOURCE",
        ];
        self.rest.first().is_some_and(|next| is_any(next, &OBJECTS))
    }

    fn next(&mut self) -> Option<&'a Token<'a>> {
        let (first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(first)
    }

    /// Passes over the next token if it is one of these words.
    fn skip(&mut self, words: &[&str]) -> bool {
        let is_next = self.rest.first().is_some_and(|next| is_any(next, words));
        if is_next {
            self.next();
        }
        is_next
    }

    fn skip_mark(&mut self, mark: char) -> bool {
        let is_next = self.rest.first() == Some(&Token::Mark(mark));
        if is_next {
            self.next();
        }
        is_next
    }

    fn if_exists(&mut self) {
        if self.skip(&["IF"]) {
            self.skip(&["NOT"]);
            self.skip(&["EXISTS"]);
        }
    }

    fn name(&mut self) -> Option<Name<'a>> {
        let first = self.next()?.name()?;
        if !self.skip_mark('.') {
            return Some(Name { database: None, table: first });
        }
        Some(Name { database: Some(first), table: self.next()?.name()? })
    }

    fn affect(&mut self, name: &Name<'_>, effect: Effect) {
        for (at, table) in self.tables.iter().enumerate() {
            if self.is_named(table, name) {
                self.found.push((at, effect));
            }
        }
    }

    fn is_named(&self, table: &FollowedTable, name: &Name<'_>) -> bool {
        let is_database = |name: &str| name.eq_ignore_ascii_case(&table.database);
        name.table.eq_ignore_ascii_case(&table.table)
            && name.database.or(self.database).is_none_or(is_database)
    }

    fn all_of(&mut self, database: &str, effect: Effect) {
        for (at, table) in self.tables.iter().enumerate() {
            if table.database.eq_ignore_ascii_case(database) {
                self.found.push((at, effect));
            }
        }
    }

    /// Doubts each table that a statement of unknown form may be about.
    fn not_understood(&mut self, statement: &[Token<'_>]) {
        for (at, table) in self.tables.iter().enumerate() {
            let is_name = |token: &Token<'_>| {
                token.name().is_some_and(|name| name.eq_ignore_ascii_case(&table.table))
            };
            if statement.iter().any(is_name) {
                self.found.push((at, Effect::Doubted("ddl_unreadable")));
            }
        }
    }
}

#[cfg(test)]
mod tests;
