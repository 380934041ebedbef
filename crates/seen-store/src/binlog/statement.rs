//! Statements of the log: what ends a transaction, and which ones change rows that then come by no
//! rows event, or in a form that is not known any more.

use super::bytes::Bytes;
use crate::mysql::PARTITIONS_MARK;

/// What a statement means to a reader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Statement {
    /// A transaction of several events begins.
    Begin,
    /// The transaction ends.
    End,
    /// The transaction ends, and what it did to tables that can undo it is undone.
    Undone,
    /// It says something within a transaction.
    Within,
    /// What an earlier XA transaction prepared is committed or rolled back.
    EndOfPrepared,
    /// It touches nothing that is followed.
    Foreign,
    /// Rows of the followed table may have changed, or will read differently from now on.
    Doubt(&'static str),
}

/// What a statement must name to matter.
#[derive(Clone, Copy, Debug)]
pub(super) struct Followed<'a> {
    /// Each with its database.
    pub tables: &'a [(&'a str, &'a str)],
}

/// The schema and the text of a query event; `None` if it is damaged.
pub(super) fn read(event: &[u8]) -> Option<(&[u8], &[u8])> {
    let mut bytes = Bytes::new(event);
    bytes.take(8)?;
    let schema_length = bytes.size(1)?;
    bytes.take(2)?;
    let variables_length = bytes.size(2)?;
    bytes.take(variables_length)?;
    let schema = bytes.take(schema_length)?;
    bytes.take(1)?;
    Some((schema, bytes.rest()))
}

impl Statement {
    /// Reads what a statement says, as far as it matters.
    pub fn classify(schema: &[u8], text: &[u8], followed: &Followed<'_>) -> Self {
        let text = String::from_utf8_lossy(text);
        let mut words = Words(&text);
        let first = words.next().unwrap_or_default();
        let second = words.next().unwrap_or_default();
        let is = |word: &str, expected: &str| word.eq_ignore_ascii_case(expected);
        let any = |expected: &[&str]| expected.iter().any(|e| is(first, e));
        if is(first, "ROLLBACK") && (is(second, "TO") || words.any(|word| is(word, "TO"))) {
            return Self::Within;
        }
        if any(&["BEGIN", "START"]) {
            return Self::Begin;
        }
        if any(&["COMMIT", "ROLLBACK"]) {
            return if is(first, "COMMIT") { Self::End } else { Self::Undone };
        }
        if is(first, "XA") {
            return match () {
                () if is(second, "COMMIT") || is(second, "ROLLBACK") => Self::EndOfPrepared,
                () if is(second, "START") || is(second, "BEGIN") => Self::Begin,
                () => Self::Within,
            };
        }
        if any(&["SAVEPOINT", "RELEASE", "SET", "USE"]) {
            return Self::Within;
        }
        let doubt = Self::doubt(first, second, &text);
        match doubt {
            Some(reason) if names_followed(reason, schema, &text, followed) => Self::Doubt(reason),
            _ => Self::Foreign,
        }
    }

    /// What there would be to doubt if the statement were about what is followed.
    fn doubt(first: &str, second: &str, text: &str) -> Option<&'static str> {
        const HARMLESS: [&str; 11] = [
            "GRANT",
            "REVOKE",
            "ANALYZE",
            "OPTIMIZE",
            "FLUSH",
            "CHECK",
            "REPAIR",
            "COMMENT",
            "KILL",
            "INSTALL",
            "UNINSTALL",
        ];
        let is = |word: &str, expected: &str| word.eq_ignore_ascii_case(expected);
        let of_database = is(second, "DATABASE") || is(second, "SCHEMA");
        Some(match () {
            () if first.is_empty() || HARMLESS.iter().any(|word| is(first, word)) => return None,
            // CREATE OR REPLACE drops what was there.
            () if is(first, "CREATE") => return is(second, "OR").then_some("ddl_drop"),
            () if is(first, "DROP") && of_database => "ddl_drop_database",
            () if is(first, "ALTER") && of_database => return None,
            () if is(first, "DROP") => "ddl_drop",
            () if is(first, "TRUNCATE") => "ddl_truncate",
            () if is(first, "RENAME") => "ddl_rename",
            () if is(first, "ALTER") && is_own_upkeep(text) => return None,
            () if is(first, "ALTER") => "ddl_alter",
            () => "statement_format",
        })
    }
}

fn is_own_upkeep(text: &str) -> bool {
    text.contains(PARTITIONS_MARK) && Words(text).any(|word| word.eq_ignore_ascii_case("PARTITION"))
}

fn names_followed(reason: &str, schema: &[u8], text: &str, followed: &Followed<'_>) -> bool {
    followed.tables.iter().any(|(database, table)| {
        let names_database = names(text, database);
        if reason == "ddl_drop_database" {
            return names_database;
        }
        // CREATE OR REPLACE DATABASE.
        let is_database = |word: &str| word.eq_ignore_ascii_case("DATABASE");
        if reason == "ddl_drop" && names_database && Words(text).take(4).any(is_database) {
            return true;
        }
        let in_database = schema.eq_ignore_ascii_case(database.as_bytes()) || names_database;
        in_database && names(text, table)
    })
}

/// True if this name occurs, not as a part of a longer one. A literal that happens to hold it counts
/// too: that costs a doubt, not an event.
pub(super) fn names(text: &str, name: &str) -> bool {
    let (text, name) = (text.as_bytes(), name.as_bytes());
    let in_word = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$');
    text.windows(name.len().max(1)).enumerate().any(|(at, window)| {
        window.eq_ignore_ascii_case(name)
            && !(at > 0 && text.get(at - 1).is_some_and(in_word))
            && !text.get(at + name.len()).is_some_and(in_word)
    })
}

/// The words of a statement, without its comments; what executes inside `/*! */` counts.
struct Words<'a>(&'a str);

impl<'a> Iterator for Words<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let in_word = |c: char| c.is_alphanumeric() || c == '_';
        loop {
            let at =
                self.0.trim_start_matches(|c: char| !in_word(c) && !matches!(c, '/' | '-' | '#'));
            let rest = if let Some(inside) = at.strip_prefix("/*") {
                match inside.strip_prefix('!').or_else(|| inside.strip_prefix("M!")) {
                    Some(executed) => executed.trim_start_matches(|c: char| c.is_ascii_digit()),
                    None => inside.split_once("*/").map_or("", |(_, after)| after),
                }
            } else if at.starts_with("--") || at.starts_with('#') {
                at.split_once('\n').map_or("", |(_, after)| after)
            } else if at.starts_with(in_word) {
                let end = at.find(|c: char| !in_word(c)).unwrap_or(at.len());
                let (word, rest) = at.split_at(end);
                self.0 = rest;
                return Some(word);
            } else {
                // A lone `/` or `-`.
                let mut chars = at.chars();
                chars.next()?;
                chars.as_str()
            };
            self.0 = rest;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn classify(schema: &str, text: &str) -> Statement {
        let followed = Followed { tables: &[("app", "history_feed"), ("app", "seen_control")] };
        Statement::classify(schema.as_bytes(), text.as_bytes(), &followed)
    }

    #[test]
    fn what_frames_a_transaction_is_known() {
        for (text, expected) in [
            ("BEGIN", Statement::Begin),
            ("XA START X'01',X'',1", Statement::Begin),
            ("XA END X'01',X'',1", Statement::Within),
            ("XA COMMIT X'01',X'',1", Statement::EndOfPrepared),
            ("COMMIT", Statement::End),
            ("ROLLBACK", Statement::Undone),
            ("ROLLBACK TO `s`", Statement::Within),
            ("ROLLBACK WORK TO SAVEPOINT s", Statement::Within),
            ("SAVEPOINT `s`", Statement::Within),
            ("", Statement::Foreign),
        ] {
            assert_eq!(classify("app", text), expected, "{text}");
        }
    }

    #[test]
    fn changes_of_the_followed_table_are_doubts() {
        for (schema, text, reason) in [
            ("app", "TRUNCATE history_feed", "ddl_truncate"),
            ("", "truncate table `app`.`history_feed`", "ddl_truncate"),
            ("app", "/* hello */ -- you\n DROP TABLE IF EXISTS `history_feed`", "ddl_drop"),
            ("x", "DROP DATABASE app", "ddl_drop_database"),
            ("app", "RENAME TABLE x TO History_Feed", "ddl_rename"),
            ("app", "ALTER TABLE history_feed ADD COLUMN x INT", "ddl_alter"),
            ("app", "CREATE OR REPLACE TABLE history_feed (x INT)", "ddl_drop"),
            ("x", "CREATE OR REPLACE DATABASE app", "ddl_drop"),
            ("app", "/*!40000 ALTER TABLE seen_control DISABLE KEYS */", "ddl_alter"),
            ("app", "INSERT INTO history_feed VALUES (1)", "statement_format"),
            ("app", "WITH a AS (SELECT 1) DELETE FROM history_feed", "statement_format"),
            ("app", "CALL p('history_feed')", "statement_format"),
            // The mark does not excuse anything but partitions.
            ("app", "DROP TABLE /* seen:partitions */ history_feed", "ddl_drop"),
            ("app", "ALTER TABLE history_feed /* seen:partitions */ DROP COLUMN x", "ddl_alter"),
        ] {
            assert_eq!(classify(schema, text), Statement::Doubt(reason), "{text}");
        }
    }

    #[test]
    fn what_touches_nothing_followed_is_foreign() {
        for (schema, text) in [
            ("app", "TRUNCATE history_feed2"),
            ("app", "DROP TABLE my_history_feed"),
            ("other", "TRUNCATE history_feed"),
            ("app", "DROP DATABASE application"),
            ("app", "CREATE TABLE history_feed (x INT)"),
            ("app", "ANALYZE TABLE history_feed"),
            ("app", "INSERT INTO elsewhere VALUES (1)"),
            ("app", "ALTER TABLE history_feed /* seen:partitions */ DROP PARTITION p1, p2"),
            ("app", "/* seen:partitions */ alter table history_feed add partition (partition p)"),
            ("app", "# only a comment"),
        ] {
            assert_eq!(classify(schema, text), Statement::Foreign, "{text}");
        }
    }

    #[test]
    fn a_query_event_is_cut_safely() {
        let event = b"\0\0\0\0\0\0\0\0\x03\0\0\x02\0vvapp\0BEGIN";
        assert_eq!(read(event), Some((&b"app"[..], &b"BEGIN"[..])));
        for length in 0..19 {
            assert_eq!(read(&event[..length]), None, "{length}");
        }
    }
}
