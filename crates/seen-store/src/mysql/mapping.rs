//! Which table and columns hold a namespace's rows. The only place that turns configured names into
//! SQL: [`Name`] lets through what needs no quoting tricks, and nothing else may be pasted.

use std::fmt;

use seen_filter::{Kind, NamespaceId, NamespaceSettings, StoreError};

use crate::request::invalid;

/// Longest name of a database, table or column, in bytes: MySQL's own limit.
pub const NAME_CHARACTERS_MAX: usize = 64;

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
        if !name.is_empty() && name.len() <= NAME_CHARACTERS_MAX && name.chars().all(plain) {
            return Ok(Self(name.to_owned()));
        }
        Err(invalid(format!(
            "{what} = {name:?} is no allowed name (letters, digits, _, $ and -, at most \
             {NAME_CHARACTERS_MAX} bytes)"
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
    /// The schema that the table is in; `None` for the store's own.
    pub database: Option<Name>,
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
            database: None,
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

impl TableMapping {
    /// The table as SQL, with its schema if that is another one than the store's.
    pub fn qualified(&self) -> String {
        match &self.database {
            Some(database) => format!("{database}.{}", self.table),
            None => self.table.to_string(),
        }
    }

    /// Reads `table` (`table` or `schema.table`) and `columns`
    /// (`user=COLUMN,item=COLUMN[,kind=COLUMN or number][,time=COLUMN[:ms or :s]][,deleted=COLUMN]`).
    /// A time column of a date type needs no unit.
    ///
    /// # Errors
    /// `InvalidRequest`, naming what cannot be read.
    pub fn parse(
        namespace: NamespaceId,
        table: &str,
        columns: &str,
        read_only: bool,
    ) -> Result<Self, StoreError> {
        let (database, table) = match table.split_once('.') {
            Some((database, table)) => (Some(Name::new("namespace.table", database)?), table),
            None => (None, table),
        };
        let mut parts = Parts::default();
        for part in columns.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            parts.take(part)?;
        }
        let needed = |role: &str, name: Option<Name>| {
            name.ok_or_else(|| bad_columns(columns, &format!("{role}=COLUMN is missing")))
        };
        Ok(Self {
            namespace,
            database,
            table: Name::new("namespace.table", table)?,
            user: needed("user", parts.user)?,
            item: needed("item", parts.item)?,
            kind: parts.kind.unwrap_or(KindColumn::Constant(Kind::new(0))),
            time: parts.time,
            deleted: parts.deleted,
            bucket: None,
            foreign: true,
            read_only,
        })
    }
}

/// The columns named so far.
#[derive(Default)]
struct Parts {
    user: Option<Name>,
    item: Option<Name>,
    kind: Option<KindColumn>,
    time: Option<(Name, TimeUnit)>,
    deleted: Option<Name>,
}

impl Parts {
    fn take(&mut self, part: &str) -> Result<(), StoreError> {
        let name = |column: &str| Name::new("namespace.columns", column);
        let Some((role, column)) = part.split_once('=') else {
            return Err(bad_columns(part, "expected role=COLUMN"));
        };
        let again = match role.trim() {
            "user" => self.user.replace(name(column)?).is_some(),
            "item" => self.item.replace(name(column)?).is_some(),
            "deleted" => self.deleted.replace(name(column)?).is_some(),
            "kind" if column.starts_with(|c: char| c.is_ascii_digit()) => {
                let kind = column.parse().map_err(|_| bad_columns(part, "kinds are 0 to 255"))?;
                self.kind.replace(KindColumn::Constant(Kind::new(kind))).is_some()
            }
            "kind" => self.kind.replace(KindColumn::Column(name(column)?)).is_some(),
            "time" => {
                let (column, unit) = match column.rsplit_once(':') {
                    None => (column, TimeUnit::Millis),
                    Some((column, "ms")) => (column, TimeUnit::Millis),
                    Some((column, "s")) => (column, TimeUnit::Seconds),
                    Some(_) => return Err(bad_columns(part, "units are :ms and :s")),
                };
                self.time.replace((name(column)?, unit)).is_some()
            }
            _ => return Err(bad_columns(part, "roles are user, item, kind, time and deleted")),
        };
        if again { Err(bad_columns(part, "it is named twice")) } else { Ok(()) }
    }
}

fn bad_columns(text: &str, why: &str) -> StoreError {
    invalid(format!(
        "namespace.columns: {text:?} cannot be read ({why}); as in \
         user=member_id,item=article_id,kind=1,time=read_at,deleted=is_removed"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_read() {
        let id = NamespaceId::new(3);
        let text = "user=u, item=i,kind=2,time=t:s,deleted=gone";
        let read = TableMapping::parse(id, "app.reads", text, true).expect("a mapping");
        assert_eq!(read.qualified(), "`app`.`reads`");
        assert_eq!(read.kind, KindColumn::Constant(Kind::new(2)));
        assert_eq!(
            read.time.map(|(name, unit)| (name.to_string(), unit)),
            Some(("`t`".to_owned(), TimeUnit::Seconds))
        );
        assert!(read.foreign && read.read_only && read.deleted.is_some());
        for (bad, why) in [
            ("user=u", "item=COLUMN is missing"),
            ("item=i", "user=COLUMN is missing"),
            ("user=u,item=i,color=c", "roles are"),
            ("user=u,user=v,item=i", "named twice"),
            ("user=u,item=i,kind=256", "0 to 255"),
            ("user=u,item=i,time=t:h", "units are"),
            ("user", "role=COLUMN"),
            ("user=a`b,item=i", "no allowed name"),
        ] {
            let refused = TableMapping::parse(id, "reads", bad, false).expect_err(bad);
            assert!(refused.message.contains(why), "{bad}: {refused}");
        }
    }

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
