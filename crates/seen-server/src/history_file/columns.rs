//! Which columns of a Parquet file hold a history.

use std::str::FromStr;

/// Where an item's kind stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum KindColumn {
    /// In this column if there is one, else every row is of kind 0.
    IfThere(String),
    /// In this column.
    Column(String),
    /// Every row is of this kind.
    Constant(u8),
}

/// The names of the columns: `user=COLUMN,item=COLUMN,kind=COLUMN or number,time=COLUMN`, each of which
/// may be left out where it has its usual name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ColumnNames {
    pub(super) user: String,
    pub(super) item: String,
    pub(super) kind: KindColumn,
    /// Names that are tried in turn.
    pub(super) time: Vec<String>,
}

impl Default for ColumnNames {
    fn default() -> Self {
        Self {
            user: "user".to_owned(),
            item: "item".to_owned(),
            kind: KindColumn::IfThere("kind".to_owned()),
            time: vec!["marked_at".to_owned(), "time".to_owned()],
        }
    }
}

impl FromStr for ColumnNames {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut names = Self::default();
        let mut named: Vec<&str> = Vec::new();
        for part in text.split(',').map(str::trim) {
            let wrong =
                |why: &str| format!("{part:?}: {why}; as in user=member_id,kind=1,time=read_at");
            let (role, column) =
                part.split_once('=').ok_or_else(|| wrong("expected role=COLUMN"))?;
            if column.is_empty() {
                return Err(wrong("the column has no name"));
            }
            if named.contains(&role) {
                return Err(wrong("it is named twice"));
            }
            named.push(role);
            let column = column.to_owned();
            match role {
                "user" => names.user = column,
                "item" => names.item = column,
                "time" => names.time = vec![column],
                "kind" if column.bytes().all(|byte| byte.is_ascii_digit()) => {
                    let kind = column.parse().map_err(|_| wrong("kinds are 0 to 255"))?;
                    names.kind = KindColumn::Constant(kind);
                }
                "kind" => names.kind = KindColumn::Column(column),
                _ => return Err(wrong("roles are user, item, kind and time")),
            }
        }
        Ok(names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read() {
        let names: ColumnNames = "user=member,kind=7, time=t".parse().expect("names");
        assert_eq!((names.user.as_str(), names.item.as_str()), ("member", "item"));
        assert_eq!((names.kind, names.time), (KindColumn::Constant(7), vec!["t".to_owned()]));
        for (bad, why) in [
            ("", "role=COLUMN"),
            ("user", "role=COLUMN"),
            ("user=", "no name"),
            ("user=a,user=b", "twice"),
            ("kind=256", "0 to 255"),
            ("color=c", "roles are"),
        ] {
            let refused = bad.parse::<ColumnNames>().expect_err(bad);
            assert!(refused.contains(why), "{refused}");
        }
    }
}
