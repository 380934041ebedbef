//! Which table and columns hold a namespace's rows. The only place that turns configured names into
//! SQL: [`Name`] lets through what needs no quoting tricks, and nothing else may be pasted.

use std::fmt;

use seen_filter::{Kind, NamespaceId, NamespaceSettings, StoreError};

use crate::request::invalid;

/// Longest name of a database, table or column, in bytes: MySQL's own limit.
const NAME_BYTES_MAX: usize = 64;

/// A name of a database, table or column that is safe between backquotes: letters, digits, `_`, `$`
/// and `-`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(String);

impl Name {
    /// Checks a name.
    ///
    /// # Errors
    /// `InvalidRequest`, naming what the name is of.
    pub fn new(what: &str, name: &str) -> Result<Self, StoreError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '$' | '-');
        if !name.is_empty() && name.len() <= NAME_BYTES_MAX && name.chars().all(plain) {
            return Ok(Self(name.to_owned()));
        }
        Err(invalid(format!(
            "{what} = {name:?} is no allowed name (letters, digits, _, $ and -, at most \
             {NAME_BYTES_MAX} bytes)"
        )))
    }

    /// The name as it is, without quotes.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// As SQL, quoted.
impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.0)
    }
}

/// Where an item's kind stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KindColumn {
    /// In a column.
    Column(Name),
    /// Nowhere: every row is of this kind.
    Constant(Kind),
}

/// How a time is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeUnit {
    /// A number of milliseconds since 1970.
    Millis,
    /// A number of seconds since 1970.
    Seconds,
    /// A DATETIME, in UTC, with or without a fraction.
    DateTime,
    /// A TIMESTAMP, with or without a fraction.
    Timestamp,
}

/// The table of one namespace and the columns that matter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableMapping {
    /// Whose rows these are.
    pub namespace: NamespaceId,
    /// The table.
    pub table: Name,
    /// Whose history a row belongs to.
    pub user: Name,
    /// The class of the item.
    pub kind: KindColumn,
    /// The item.
    pub item: Name,
    /// When it was read; `None` where the table does not say.
    pub time: Option<(Name, TimeUnit)>,
    /// A row whose column of this name is neither NULL nor 0 counts as removed.
    pub deleted: Option<Name>,
    /// The expiry bucket, part of the key where the namespace has a retention.
    pub bucket: Option<Name>,
    /// True if the table was there before `seen` and keeps its own form.
    pub foreign: bool,
    /// True if only its owner writes to it: marks are refused, and the change feed alone brings news.
    pub read_only: bool,
}

impl TableMapping {
    /// The project's own table of a namespace.
    ///
    /// # Errors
    /// `InvalidRequest` if the namespace's name cannot name a table.
    pub fn own(settings: &NamespaceSettings) -> Result<Self, StoreError> {
        let column = |name: &str| Name::new("column", name);
        let bucket = settings.retention.map(|_| column("bucket")).transpose()?;
        Ok(Self {
            namespace: settings.id,
            table: Name::new("namespace", &format!("history_{}", settings.name))?,
            user: column("user_id")?,
            kind: KindColumn::Column(column("kind")?),
            item: column("item_id")?,
            time: Some((column("marked_at_ms")?, TimeUnit::Millis)),
            deleted: None,
            bucket,
            foreign: false,
            read_only: false,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_could_leave_their_quotes_are_refused() {
        for bad in ["", "a`b", "a b", "a;b", "a.b", "é", "a\0", &"a".repeat(65)] {
            let refused = Name::new("storage.table", bad).expect_err(bad);
            assert!(refused.message.starts_with("storage.table = "), "{refused}");
        }
        assert_eq!(
            Name::new("table", "user-History_2$").expect("fine").to_string(),
            "`user-History_2$`"
        );
    }
}
