//! Which schemas a server's log holds: `binlog_do_db` and `binlog_ignore_db` leave the rest out
//! without a word, and no variable tells of them.

use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Row};

use super::connect::Trouble;

/// No such statement.
const SYNTAX_ERROR: u16 = 1064;

/// The server's two lists, as it prints them.
#[derive(Debug, Default)]
pub(super) struct Schemas {
    only: String,
    never: String,
}

impl Schemas {
    /// Asks the server. MySQL 8.4 has only the newer statement, MariaDB only the older.
    pub async fn of(conn: &mut Conn) -> Result<Self, Trouble> {
        let row: Option<Row> = match conn.query_first("SHOW MASTER STATUS").await {
            Err(mysql_async::Error::Server(error)) if error.code == SYNTAX_ERROR => {
                conn.query_first("SHOW BINARY LOG STATUS").await?
            }
            other => other?,
        };
        let Some(mut row) = row else { return Ok(Self::default()) };
        let mut text = |at| row.take_opt::<Option<String>, _>(at).and_then(Result::ok).flatten();
        let (only, never) = (text(2).unwrap_or_default(), text(3).unwrap_or_default());
        Ok(Self { only, never })
    }

    /// Refuses a server whose log leaves out one of these schemas.
    pub fn demand<'a>(
        &self,
        wanted: impl IntoIterator<Item = &'a str>,
        ignores_case: bool,
    ) -> Result<(), Trouble> {
        let same = |one: &str, other: &str| match ignores_case {
            true => one.eq_ignore_ascii_case(other),
            false => one == other,
        };
        let names = |list: &str, wanted: &str| {
            list.split(',').map(str::trim).any(|name| same(name, wanted))
        };
        for schema in wanted {
            let (option, list, how) = if !self.only.is_empty() && !names(&self.only, schema) {
                ("binlog_do_db", &self.only, "add it there")
            } else if names(&self.never, schema) {
                ("binlog_ignore_db", &self.never, "take it out")
            } else {
                continue;
            };
            return Err(Trouble::Refused(format!(
                "the binary log leaves schema {schema} out: {option}={list} ({how}, in the server's \
                 configuration, and start it anew)"
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_log_leaves_out_is_named() {
        let schemas = |only: &str, never: &str| Schemas { only: only.into(), never: never.into() };
        let refusal =
            |schemas: &Schemas, ignores_case| match schemas.demand(["seen", "app"], ignores_case) {
                Err(Trouble::Refused(why)) => why,
                other => format!("{other:?}"),
            };
        assert_eq!(schemas("", "").demand(["seen", "app"], false), Ok(()));
        assert_eq!(schemas("app, seen", "other").demand(["seen", "app"], false), Ok(()));
        assert!(refusal(&schemas("seen", ""), false).contains("schema app out: binlog_do_db=seen"));
        assert!(refusal(&schemas("", "x,seen"), false).contains("binlog_ignore_db=x,seen"));
        assert!(refusal(&schemas("Seen,app", ""), false).contains("schema seen"));
        assert_eq!(schemas("Seen,app", "").demand(["seen", "app"], true), Ok(()));
        assert!(refusal(&schemas("", "APP"), true).contains("schema app"));
    }
}
