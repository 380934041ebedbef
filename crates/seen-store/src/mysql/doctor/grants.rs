//! Reading what `SHOW GRANTS` says.

use std::collections::BTreeSet;

/// What a user may do.
#[derive(Debug, Default)]
pub(super) struct Grants(Vec<Grant>);

#[derive(Debug)]
struct Grant {
    /// False: a part that is taken away from what was granted for all schemas.
    gives: bool,
    /// In capitals, without columns.
    privileges: BTreeSet<String>,
    /// `None` for all schemas; else a pattern.
    database: Option<String>,
    /// `None` for all tables.
    table: Option<String>,
}

impl Grants {
    /// Reads the lines; those that grant roles and proxies say nothing here.
    pub(super) fn parse<'a>(lines: impl Iterator<Item = &'a str>) -> Self {
        Self(lines.filter_map(parse).collect())
    }

    /// True if it is granted for everything there is.
    pub(super) fn everywhere(&self, privilege: &str) -> bool {
        let global = |grant: &&Grant| grant.database.is_none() && grant.gives;
        self.0.iter().filter(global).any(|grant| grant.holds(privilege))
    }

    /// True if it is granted for all tables of a schema.
    pub(super) fn on_database(&self, privilege: &str, database: &str) -> bool {
        let here = |grant: &&Grant| {
            let pattern = grant.database.as_deref();
            grant.table.is_none() && pattern.is_some_and(|pattern| is_like(database, pattern))
        };
        let mut here = self.0.iter().filter(here).filter(|grant| grant.holds(privilege));
        let taken = here.clone().any(|grant| !grant.gives);
        here.any(|grant| grant.gives) || (!taken && self.everywhere(privilege))
    }

    /// True if it is granted for a table, or some of its columns.
    pub(super) fn on_table(&self, privilege: &str, database: &str, table: &str) -> bool {
        let here = |grant: &Grant| {
            let same = |one: &Option<String>, other: &str| {
                one.as_deref().is_some_and(|one| one.eq_ignore_ascii_case(other))
            };
            same(&grant.database, database) && same(&grant.table, table) && grant.holds(privilege)
        };
        self.0.iter().any(here) || self.on_database(privilege, database)
    }
}

impl Grant {
    fn holds(&self, privilege: &str) -> bool {
        self.privileges.contains(privilege)
            || self.privileges.contains("ALL PRIVILEGES")
            || self.privileges.contains("ALL")
    }
}

/// Reads `GRANT a, b (c) ON x.y TO ...`, or `REVOKE ... FROM ...`.
fn parse(line: &str) -> Option<Grant> {
    let (gives, rest) = match line.strip_prefix("GRANT ") {
        Some(rest) => (true, rest),
        None => (false, line.strip_prefix("REVOKE ")?),
    };
    let (privileges, rest) = cut(rest, " ON ")?;
    let (object, _) = cut(rest, if gives { " TO " } else { " FROM " })?;
    let object = object.strip_prefix("TABLE ").unwrap_or(object);
    let (database, table) = cut(object, ".")?;
    let mut left = Some(privileges);
    let mut all = BTreeSet::new();
    while let Some(rest) = left {
        let (one, more) = cut(rest, ",").map_or((rest, None), |(one, more)| (one, Some(more)));
        let name = one.split('(').next().unwrap_or_default().trim();
        all.insert(name.to_ascii_uppercase());
        left = more;
    }
    Some(Grant { gives, privileges: all, database: name(database)?, table: name(table)? })
}

/// A quoted name, or `None` for `*`. What is neither belongs to something else: a routine, a proxy.
fn name(text: &str) -> Option<Option<String>> {
    let text = text.trim();
    if text == "*" {
        return Some(None);
    }
    for quote in ['`', '"'] {
        let quoted = text.strip_prefix(quote).and_then(|text| text.strip_suffix(quote));
        if let Some(quoted) = quoted {
            let doubled = format!("{quote}{quote}");
            return Some(Some(quoted.replace(&doubled, &quote.to_string())));
        }
    }
    let is_plain = text.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '$' | '%'));
    is_plain.then(|| Some(text.to_owned()))
}

/// Splits at the first separator that stands neither in quotes nor in brackets.
fn cut<'a>(text: &'a str, separator: &str) -> Option<(&'a str, &'a str)> {
    let (mut quote, mut depth) = (None, 0_u32);
    for (at, c) in text.char_indices() {
        if quote.is_none() && depth == 0 && text[at..].starts_with(separator) {
            return Some((&text[..at], &text[at + separator.len()..]));
        }
        match (quote, c) {
            (None, '`' | '"' | '\'') => quote = Some(c),
            (Some(open), _) if open == c => quote = None,
            (None, '(') => depth += 1,
            (None, ')') => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    None
}

/// As SQL's LIKE, without regard to case: `%` is any text, `_` any letter, a backslash takes the next
/// one as it is.
fn is_like(text: &str, pattern: &str) -> bool {
    let mut pattern = pattern.chars();
    let rest = pattern.clone();
    match (pattern.next(), text.chars().next()) {
        (None, first) => first.is_none(),
        (Some('%'), first) => {
            let shorter = first.map(|c| &text[c.len_utf8()..]);
            is_like(text, pattern.as_str())
                || shorter.is_some_and(|text| is_like(text, rest.as_str()))
        }
        (Some(_), None) => false,
        (Some(one), Some(c)) => {
            let wanted = if one == '\\' { pattern.next().unwrap_or('\\') } else { one };
            let same = one == '_' || wanted.eq_ignore_ascii_case(&c);
            same && is_like(&text[c.len_utf8()..], pattern.as_str())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grants(lines: &[&str]) -> Grants {
        Grants::parse(lines.iter().copied())
    }

    #[test]
    fn grants_of_all_servers_are_read() {
        let mariadb = grants(&[
            "GRANT REPLICATION SLAVE, BINLOG MONITOR ON *.* TO `u`@`%` IDENTIFIED BY PASSWORD '*1'",
            "GRANT SELECT, INSERT ON `seen\\_1`.* TO `u`@`%`",
            "GRANT SELECT (`a`, `on`), DELETE ON `app`.`reads` TO `u`@`%`",
            "GRANT `role` TO `u`@`%`",
            "GRANT PROXY ON ''@'%' TO 'root'@'localhost' WITH GRANT OPTION",
            "GRANT EXECUTE ON PROCEDURE `app`.`p` TO `u`@`%`",
        ]);
        assert!(mariadb.everywhere("BINLOG MONITOR") && !mariadb.everywhere("SELECT"));
        assert!(mariadb.on_database("INSERT", "seen_1"));
        assert!(!mariadb.on_database("INSERT", "seenx1") && !mariadb.on_database("DROP", "seen_1"));
        assert!(
            mariadb.on_table("SELECT", "app", "reads") && !mariadb.on_database("SELECT", "app")
        );
        assert!(mariadb.on_table("DELETE", "APP", "reads"));
        assert!(!mariadb.on_table("DELETE", "app", "other"));
        let all = grants(&["GRANT ALL PRIVILEGES ON *.* TO 'root'@'%' WITH GRANT OPTION"]);
        assert!(all.everywhere("REPLICATION SLAVE") && all.on_table("DROP", "a", "b"));
        assert!(!grants(&["GRANT USAGE ON *.* TO `u`@`%`"]).on_database("SELECT", "a"));
    }

    #[test]
    fn what_is_taken_away_from_one_schema_is_missing_there() {
        let mysql = grants(&[
            "GRANT SELECT, DROP ON *.* TO `u`@`%`",
            "REVOKE SELECT ON `seen`.* FROM `u`@`%`",
        ]);
        assert!(!mysql.on_database("SELECT", "seen") && mysql.on_database("SELECT", "other"));
        assert!(mysql.on_database("DROP", "seen"));
    }

    #[test]
    fn patterns_are_those_of_like() {
        for (text, pattern, like) in [
            ("seen", "seen", true),
            ("Seen", "seen", true),
            ("seen_1", "seen%", true),
            ("seen_1", "seen\\_1", true),
            ("seenx1", "seen_1", true),
            ("seenx1", "seen\\_1", false),
            ("a", "%a%", true),
            ("", "%", true),
            ("", "_", false),
            ("seen", "see", false),
        ] {
            assert_eq!(is_like(text, pattern), like, "{text} {pattern}");
        }
    }
}
