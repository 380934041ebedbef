//! A table whose changes are wanted, as the command line names it.

use seen_dialect::{Dialect, FollowedTable, KindOf, TableRole, TimeUnit};
use seen_filter::NamespaceId;
use seen_store::mysql::{KindColumn, TableMapping, TimeUnit as StoredTime};

use super::super::CliError;

/// The store's control table, whose rows are shown only to who asks for it.
const CONTROL_TABLE: &str = "seen_control";

/// A table with its database.
#[derive(Debug, Clone)]
pub(in crate::cli) struct TableName {
    database: String,
    table: String,
}

impl TableName {
    /// Reads `DATABASE.TABLE`.
    pub(in crate::cli) fn parse(text: &str) -> Result<Self, String> {
        match text.split_once('.') {
            Some((database, table)) if !database.is_empty() && !table.is_empty() => {
                Ok(Self { database: database.to_owned(), table: table.to_owned() })
            }
            _ => Err("expected DATABASE.TABLE".to_owned()),
        }
    }

    /// True for the store's control table.
    pub(in crate::cli) fn is_control(&self) -> bool {
        self.table == CONTROL_TABLE
    }

    /// This table, with columns as the configuration of one's own tables names them, and unless it is that
    /// one itself the control table beside it, so that its rows are told from those of other tables.
    ///
    /// # Errors
    /// Columns that cannot be meant.
    pub(in crate::cli) fn followed(
        &self,
        columns: Option<&str>,
    ) -> Result<Vec<FollowedTable>, CliError> {
        let Self { database, table } = self;
        let control = FollowedTable::control(database);
        if self.is_control() {
            return Ok(vec![control]);
        }
        let wanted = match columns {
            None => FollowedTable::own(database, table),
            Some(columns) => {
                let mapping = TableMapping::parse(NamespaceId::new(0), "wanted", columns, true)?;
                let role = role(&mapping);
                FollowedTable { database: database.clone(), table: table.clone(), role }
            }
        };
        Ok(vec![wanted, control])
    }
}

fn role(mapping: &TableMapping) -> TableRole {
    let unit = |unit| match unit {
        StoredTime::Seconds => TimeUnit::Seconds,
        StoredTime::Millis | StoredTime::DateTime | StoredTime::Timestamp => TimeUnit::Millis,
    };
    TableRole::History {
        user: mapping.user.as_str().to_owned(),
        item: mapping.item.as_str().to_owned(),
        kind: match &mapping.kind {
            KindColumn::Column(name) => KindOf::Column(name.as_str().to_owned()),
            KindColumn::Constant(kind) => KindOf::Constant(*kind),
        },
        time: mapping.time.as_ref().map(|(name, of)| (name.as_str().to_owned(), unit(*of))),
        deleted: mapping.deleted.as_ref().map(|name| name.as_str().to_owned()),
    }
}

/// A format, or whatever each record is of.
#[derive(Debug, Clone, Copy)]
pub(in crate::cli) struct Wanted(pub Option<Dialect>);

impl Wanted {
    /// Reads a dialect's name, or `auto`.
    pub(in crate::cli) fn parse(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(Self(None));
        }
        Dialect::from_name(text).map(|one| Self(Some(one))).ok_or_else(|| {
            let names = Dialect::ALL.map(|one| one.name());
            format!("expected auto or one of {}", names.join(", "))
        })
    }
}
