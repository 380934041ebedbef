//! Which tables are followed, and which of their columns mean what.

use seen_filter::Kind;

use crate::cell::Role;

/// The unit of a column of times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeUnit {
    /// Milliseconds since 1970.
    Millis,
    /// Seconds since 1970.
    Seconds,
}

/// Where an item's kind comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KindOf {
    /// From this column.
    Column(String),
    /// The table holds one kind only.
    Constant(Kind),
}

/// What a followed table is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TableRole {
    /// A history: one row for each item that a user has read.
    History {
        /// The column of user ids.
        user: String,
        /// The column of item ids.
        item: String,
        /// Where the kind comes from.
        kind: KindOf,
        /// The column of times, where there is one.
        time: Option<(String, TimeUnit)>,
        /// A column that is neither null nor 0 in rows that count as removed.
        deleted: Option<String>,
    },
    /// The store's control table: fences and forgets (rule R9), with the columns `user_id`, `namespace`,
    /// `writer` and `seq`.
    Control,
}

/// A table whose changes are wanted. Its place in the decoder's list is its number in events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FollowedTable {
    /// Its database (schema).
    pub database: String,
    /// Its name.
    pub table: String,
    /// What it is.
    pub role: TableRole,
}

impl FollowedTable {
    /// A history with the columns that the store's own tables have: `user_id`, `kind`, `item_id`,
    /// `marked_at_ms`.
    pub fn own(database: &str, table: &str) -> Self {
        let role = TableRole::History {
            user: "user_id".to_owned(),
            item: "item_id".to_owned(),
            kind: KindOf::Column("kind".to_owned()),
            time: Some(("marked_at_ms".to_owned(), TimeUnit::Millis)),
            deleted: None,
        };
        Self { database: database.to_owned(), table: table.to_owned(), role }
    }

    /// The control table of a database.
    pub fn control(database: &str) -> Self {
        let table = "seen_control".to_owned();
        Self { database: database.to_owned(), table, role: TableRole::Control }
    }

    /// What a column of this table means, if it means anything here. Names are compared without regard
    /// to case, as MySQL compares columns' names.
    pub fn role_of(&self, column: &str) -> Option<Role> {
        let is = |name: &str| name.eq_ignore_ascii_case(column);
        match &self.role {
            TableRole::Control => match column {
                c if c.eq_ignore_ascii_case("user_id") => Some(Role::User),
                c if c.eq_ignore_ascii_case("namespace") => Some(Role::Namespace),
                c if c.eq_ignore_ascii_case("writer") => Some(Role::Writer),
                c if c.eq_ignore_ascii_case("seq") => Some(Role::Seq),
                _ => None,
            },
            TableRole::History { user, item, kind, time, deleted } => {
                if is(user) {
                    return Some(Role::User);
                }
                if is(item) {
                    return Some(Role::Item);
                }
                if matches!(kind, KindOf::Column(name) if is(name)) {
                    return Some(Role::Kind);
                }
                if time.as_ref().is_some_and(|(name, _)| is(name)) {
                    return Some(Role::Time);
                }
                deleted.as_ref().is_some_and(|name| is(name)).then_some(Role::Deleted)
            }
        }
    }
}
