//! Every statement, as text. The only names pasted into SQL are those of a [`TableMapping`], each of
//! which is a [`Name`](super::mapping::Name) and so needs no more than backquotes. Nothing else may
//! make them.

use std::fmt::Write as _;
use std::sync::Arc;

use seen_filter::{NamespaceSettings, TimeRule};
use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};

use super::dialect::{Dialect, Priority, read_only};
use super::foreign::ColumnTypes;
use super::mapping::{KindColumn, TableMapping, TimeUnit};
use super::verify::users_text;

/// Rows of the largest insert statement.
pub(crate) const INSERT_ROWS_MAX: usize = 1_024;
/// TiDB keeps no plan of an insert of more values, so that one of its sizes is just below.
const PLAN_VALUES_MAX_TIDB: usize = 200;
/// Keys of the largest delete statement. For more than 200 TiDB keeps no plan.
pub(crate) const REMOVE_KEYS_MAX: usize = 200;
/// Rows that one transaction of a forget removes: some 10 ms, so that other calls get a turn.
pub(crate) const FORGET_ROWS_MAX: u64 = 5_000;
/// Rows that are counted one by one; of larger tables the server's estimate is taken.
pub(crate) const COUNT_ROWS_MAX: u64 = 100_000;

/// The statements about one namespace's table.
#[derive(Debug)]
pub(crate) struct TableSql {
    checks: Vec<(usize, SqlStr)>,
    named_checks: Vec<(usize, SqlStr)>,
    /// Asks for a row of a bucket beyond the one that it binds.
    pub ahead: SqlStr,
    inserts: Vec<(usize, SqlStr)>,
    replaces: Vec<(usize, SqlStr)>,
    removes: Vec<(usize, SqlStr)>,
    pub page_first: SqlStr,
    pub page_after: SqlStr,
    pub recent: SqlStr,
    pub forget: SqlStr,
    pub count: SqlStr,
    pub probe: SqlStr,
    pub scan_first: SqlStr,
    pub scan_after: SqlStr,
    pub users_first: SqlStr,
    pub users_after: SqlStr,
}

impl TableSql {
    /// The statements of a namespace on a kind of server.
    pub(crate) fn new(
        settings: &NamespaceSettings,
        mapping: &TableMapping,
        types: ColumnTypes,
        dialect: Dialect,
    ) -> Self {
        let text = Text { settings, mapping, types, dialect };
        let inserts = text.insert_sizes();
        let removes = sizes(REMOVE_KEYS_MAX);
        let checks = || dialect.check_sizes().iter();
        let all = |sizes: &[usize], one: &dyn Fn(usize) -> String| {
            sizes.iter().map(|n| (*n, safe(one(*n)))).collect()
        };
        Self {
            checks: checks().map(|n| (*n, safe(text.check(*n, false)))).collect(),
            named_checks: checks().map(|n| (*n, safe(text.check(*n, true)))).collect(),
            ahead: safe(text.ahead()),
            inserts: all(&inserts, &|n| text.insert(n, false)),
            replaces: all(&inserts, &|n| text.insert(n, true)),
            removes: all(&removes, &|n| text.remove(n)),
            page_first: safe(text.page(false)),
            page_after: safe(text.page(true)),
            recent: safe(text.recent()),
            forget: safe(text.forget()),
            count: safe(text.count()),
            probe: safe(text.probe()),
            scan_first: safe(text.scan(false)),
            scan_after: safe(text.scan(true)),
            users_first: safe(text.users(false)),
            users_after: safe(text.users(true)),
        }
    }

    /// The smallest point check statement that takes `keys` keys, or the largest there is. `named`: the
    /// bucket is a part of each key.
    pub(crate) fn check(&self, keys: usize, named: bool) -> (usize, SqlStr) {
        fitting(if named { &self.named_checks } else { &self.checks }, keys)
    }

    /// The smallest insert statement that takes `rows` rows. `replace`: the new time counts, whatever
    /// the namespace's rule says.
    pub(crate) fn insert(&self, rows: usize, replace: bool) -> (usize, SqlStr) {
        fitting(if replace { &self.replaces } else { &self.inserts }, rows)
    }

    /// The smallest delete statement that takes `keys` keys.
    pub(crate) fn remove(&self, keys: usize) -> (usize, SqlStr) {
        fitting(&self.removes, keys)
    }
}

/// 1, 4, 16, ... up to `max`: few sizes are few statements to prepare and keep.
fn sizes(max: usize) -> Vec<usize> {
    std::iter::successors(Some(1), |n| (*n < max).then_some((*n * 4).min(max))).collect()
}

fn fitting(all: &[(usize, SqlStr)], wanted: usize) -> (usize, SqlStr) {
    let found = all.iter().find(|(size, _)| *size >= wanted).or(all.last());
    found.map_or((0, SqlStr::from_static("")), Clone::clone)
}

/// Marks text as free of injection; see the module's documentation for why it is.
pub(crate) fn safe(text: String) -> SqlStr {
    AssertSqlSafe(Arc::<str>::from(text)).into_sql_str()
}

struct Text<'a> {
    settings: &'a NamespaceSettings,
    mapping: &'a TableMapping,
    types: ColumnTypes,
    dialect: Dialect,
}

impl Text<'_> {
    /// The columns of the key, without the bucket.
    fn key(&self) -> String {
        let TableMapping { user, item, .. } = self.mapping;
        match &self.mapping.kind {
            KindColumn::Column(kind) => format!("{user}, {kind}, {item}"),
            KindColumn::Constant(_) => format!("{user}, {item}"),
        }
    }

    fn kind(&self) -> String {
        match &self.mapping.kind {
            KindColumn::Column(kind) => kind.to_string(),
            KindColumn::Constant(kind) => kind.to_string(),
        }
    }

    fn has_kind(&self) -> bool {
        matches!(self.mapping.kind, KindColumn::Column(_))
    }

    /// `(?,?,?),(?,?,?),...`
    fn keys(&self, count: usize) -> String {
        let one = if self.has_kind() { "(?,?,?)" } else { "(?,?)" };
        vec![one; count].join(",")
    }

    /// A row's time in milliseconds.
    fn millis(&self) -> String {
        match &self.mapping.time {
            None => "0".to_owned(),
            Some((time, TimeUnit::Millis)) => time.to_string(),
            Some((time, TimeUnit::Seconds)) => format!("{time} * 1000"),
            Some((time, TimeUnit::DateTime | TimeUnit::Timestamp)) => {
                format!("TIMESTAMPDIFF(MICROSECOND, '1970-01-01', {time}) DIV 1000")
            }
        }
    }

    /// A bound parameter in milliseconds as the column takes it.
    fn stored_time(&self) -> &'static str {
        match self.mapping.time {
            Some((_, TimeUnit::Seconds)) => "? DIV 1000",
            Some((_, TimeUnit::DateTime | TimeUnit::Timestamp)) => {
                "DATE_ADD('1970-01-01 00:00:00.000', INTERVAL ? * 1000 MICROSECOND)"
            }
            _ => "?",
        }
    }

    /// ` AND ...`: leaves out what counts as removed.
    fn live(&self) -> String {
        match &self.mapping.deleted {
            None => String::new(),
            Some(deleted) if self.types.deleted_is_time => format!(" AND {deleted} IS NULL"),
            Some(deleted) => format!(" AND ({deleted} IS NULL OR {deleted} = 0)"),
        }
    }

    /// The same and, given the horizon, what has expired.
    fn visible(&self) -> String {
        let mut text = self.live();
        if let Some(bucket) = &self.mapping.bucket {
            let _ = write!(text, " AND {bucket} >= ?");
        }
        text
    }

    /// Binds the keys (and the horizon, unless buckets are named). Rows are keys; on servers that have a primary, one row more
    /// says which server this is and whether it takes writes, in the same statement as the answer
    /// (coherence row 51): its fourth column is 1.
    fn check(&self, keys: usize, named: bool) -> String {
        let table = self.mapping.qualified();
        let TableMapping { user, item, bucket, .. } = self.mapping;
        let (kind, mut key) = (self.kind(), self.key());
        let urgent = self.dialect.priority(Priority::High);
        let mut keys = self.keys(keys);
        let visible = match bucket {
            Some(bucket) if named => {
                let _ = write!(key, ", {bucket}");
                keys = keys.replace("?)", "?,?)");
                self.live()
            }
            // In a range that is no equality MySQL and MariaDB would look into the index of each
            // partition before they read the first row (`benches/buckets.rs`).
            Some(bucket) if !self.dialect.any_server() => {
                format!("{} AND {bucket} + 0 >= ?", self.live())
            }
            _ => self.visible(),
        };
        // No more than the columns: that is what TiDB takes for a batch point get at first sight.
        let rest = format!("FROM {table} WHERE ({key}) IN ({keys}){visible}");
        if self.dialect.any_server() {
            return format!("SELECT {urgent}{user}, {kind}, {item} {rest}");
        }
        // Of the columns' own signs, or the union's columns would be decimals.
        let sign = |signed: bool| if signed { "SIGNED" } else { "UNSIGNED" };
        let ColumnTypes { user_signed, kind_signed, item_signed, .. } = self.types;
        let (of_user, of_item) = (sign(user_signed), sign(item_signed));
        // A number in the text is signed.
        let of_kind = sign(kind_signed || !self.has_kind());
        format!(
            "SELECT {user}, {kind}, {item}, 0 {rest} UNION ALL SELECT \
             CAST(@@server_id AS {of_user}), CAST({} AS {of_kind}), \
             CAST(0 AS {of_item}), 1",
            read_only!()
        )
    }

    fn ahead(&self) -> String {
        let urgent = self.dialect.priority(Priority::High);
        match &self.mapping.bucket {
            None => String::new(),
            Some(bucket) => {
                let table = self.mapping.qualified();
                format!("SELECT {urgent}1 FROM {table} WHERE {bucket} > ? LIMIT 1")
            }
        }
    }

    /// The columns that an insert names.
    fn columns(&self) -> usize {
        let TableMapping { time, bucket, .. } = self.mapping;
        2 + [self.has_kind(), time.is_some(), bucket.is_some()].into_iter().filter(|is| *is).count()
    }

    /// How many rows an insert statement may hold, ascending.
    fn insert_sizes(&self) -> Vec<usize> {
        let mut sizes = sizes(INSERT_ROWS_MAX);
        if self.dialect == Dialect::TiDb {
            let kept = PLAN_VALUES_MAX_TIDB / self.columns();
            if let Some(last) = sizes.iter_mut().find(|size| **size * 2 > kept) {
                *last = kept;
            }
        }
        sizes
    }

    fn insert(&self, rows: usize, replace: bool) -> String {
        let table = self.mapping.qualified();
        let TableMapping { user, bucket, .. } = self.mapping;
        let mut columns = self.key();
        let mut row = if self.has_kind() { "(?,?,?" } else { "(?,?" }.to_owned();
        let mut update = String::new();
        if let Some((time, _)) = &self.mapping.time {
            let _ = write!(columns, ", {time}");
            let _ = write!(row, ",{}", self.stored_time());
            if replace || self.settings.time_rule == TimeRule::Last {
                let _ = write!(update, "{time} = VALUES({time})");
            }
        }
        if let Some(bucket) = bucket {
            let _ = write!(columns, ", {bucket}");
            row += ",?";
        }
        if let Some(deleted) = &self.mapping.deleted {
            let comma = if update.is_empty() { "" } else { ", " };
            let live = if self.types.deleted_is_time { "NULL" } else { "0" };
            let _ = write!(update, "{comma}{deleted} = {live}");
        }
        if update.is_empty() {
            // Changes nothing; unlike IGNORE it hides no other error.
            let _ = write!(update, "{user} = {table}.{user}");
        }
        row += ")";
        let rows = vec![row; rows].join(",");
        let urgent = self.dialect.priority(Priority::High);
        format!(
            "INSERT {urgent}INTO {table} ({columns}) VALUES {rows} ON DUPLICATE KEY UPDATE {update}"
        )
    }

    fn remove(&self, keys: usize) -> String {
        let table = self.mapping.qualified();
        let (key, keys) = (self.key(), self.keys(keys));
        let urgent = self.dialect.priority(Priority::High);
        match &self.mapping.deleted {
            None => format!("DELETE {urgent}FROM {table} WHERE ({key}) IN ({keys})"),
            Some(deleted) => {
                let gone = if self.types.deleted_is_time { "UTC_TIMESTAMP()" } else { "1" };
                format!("UPDATE {urgent}{table} SET {deleted} = {gone} WHERE ({key}) IN ({keys})")
            }
        }
    }

    /// What a page's rows are: kind, item, time, bucket.
    fn row(&self) -> String {
        let (kind, item, millis) = (self.kind(), &self.mapping.item, self.millis());
        let bucket = self.mapping.bucket.as_ref().map_or("0".to_owned(), ToString::to_string);
        format!(
            "CAST({kind} AS UNSIGNED), CAST({item} AS UNSIGNED), CAST({millis} AS SIGNED), \
             CAST({bucket} AS UNSIGNED)"
        )
    }

    /// Binds the user (and the horizon), then after: the key that the page before ended with (kind,
    /// kind, item and, with buckets, item and bucket once more), then the number of rows.
    fn page(&self, after: bool) -> String {
        let table = self.mapping.qualified();
        let TableMapping { user, item, bucket, .. } = self.mapping;
        let mut order = self.key().replacen(&format!("{user}, "), "", 1);
        let mut text =
            format!("SELECT {} FROM {table} WHERE {user} = ?{}", self.row(), self.visible());
        if after {
            // Not by row comparison, which servers do not turn into a range of the key.
            let after_item = match bucket {
                None => format!("{item} > ?"),
                Some(bucket) => format!("({item} > ? OR ({item} = ? AND {bucket} > ?))"),
            };
            let _ = match &self.mapping.kind {
                KindColumn::Column(kind) => {
                    write!(text, " AND ({kind} > ? OR ({kind} = ? AND {after_item}))")
                }
                KindColumn::Constant(_) => write!(text, " AND {after_item}"),
            };
        }
        if let Some(bucket) = bucket {
            let _ = write!(order, ", {bucket}");
        }
        let _ = write!(text, " ORDER BY {order} LIMIT ?");
        text
    }

    /// All rows in key order: user, kind, item, time, bucket, and whether the row counts as removed. Binds
    /// (the horizon), then after: user, user, (kind, kind,) item and, with buckets, item and bucket
    /// once more; then the number of rows.
    fn scan(&self, after: bool) -> String {
        let table = self.mapping.qualified();
        let TableMapping { user, item, bucket, deleted, .. } = self.mapping;
        let (kind, key, millis) = (self.kind(), self.key(), self.millis());
        let of_bucket = bucket.as_ref().map_or("0".to_owned(), ToString::to_string);
        let gone = match deleted {
            None => "0".to_owned(),
            Some(time) if self.types.deleted_is_time => format!("{time} IS NOT NULL"),
            Some(flag) => format!("COALESCE({flag}, 0) <> 0"),
        };
        // Rows without an id are nobody's; they are possible in tables of others only.
        let low = self.dialect.priority(Priority::Low);
        let mut text = format!(
            "SELECT {low}{user}, {kind}, {item}, CAST({millis} AS SIGNED), CAST({of_bucket} AS UNSIGNED), \
             CAST({gone} AS SIGNED) FROM {table} WHERE {user} IS NOT NULL AND {kind} IS NOT NULL AND \
             {item} IS NOT NULL"
        );
        let mut order = key;
        if let Some(bucket) = bucket {
            let _ = write!(text, " AND {bucket} >= ?");
            let _ = write!(order, ", {bucket}");
        }
        if after {
            let after_item = match bucket {
                None => format!("{item} > ?"),
                Some(bucket) => format!("({item} > ? OR ({item} = ? AND {bucket} > ?))"),
            };
            let after_kind = match self.has_kind() {
                true => format!("({kind} > ? OR ({kind} = ? AND {after_item}))"),
                false => after_item,
            };
            let _ = write!(text, " AND ({user} > ? OR ({user} = ? AND {after_kind}))");
        }
        let _ = write!(text, " ORDER BY {order} LIMIT ?");
        text
    }

    /// Binds the user (and the horizon, with buckets twice), from, until, then the key of the row
    /// before (time, time, kind, kind, item), then the number of rows.
    fn recent(&self) -> String {
        let table = self.mapping.qualified();
        let TableMapping { user, item, bucket, .. } = self.mapping;
        let (kind, millis) = (self.kind(), self.millis());
        let mut text =
            format!("SELECT {} FROM {table} WHERE {user} = ?{}", self.row(), self.visible());
        if let Some(bucket) = bucket {
            // Of the rows of one item, the first mark's counts, or the last one's.
            let other = if self.settings.time_rule == TimeRule::First { "<" } else { ">" };
            let _ = write!(
                text,
                " AND NOT EXISTS (SELECT 1 FROM {table} AS o WHERE o.{user} = {table}.{user} AND \
                 o.{item} = {table}.{item} AND o.{bucket} {other} {table}.{bucket} AND \
                 o.{bucket} >= ?"
            );
            if let KindColumn::Column(kind) = &self.mapping.kind {
                let _ = write!(text, " AND o.{kind} = {table}.{kind}");
            }
            text += ")";
        }
        let _ = write!(
            text,
            " AND {millis} >= ? AND {millis} < ? AND ({millis} < ? OR ({millis} = ? AND \
             ({kind} < ? OR ({kind} = ? AND {item} < ?)))) \
             ORDER BY {millis} DESC, {kind} DESC, {item} DESC LIMIT ?"
        );
        text
    }

    /// Binds the user. Rows go in any order: the whole user goes.
    fn forget(&self) -> String {
        let table = self.mapping.qualified();
        let user = &self.mapping.user;
        format!("DELETE FROM {table} WHERE {user} = ? LIMIT {FORGET_ROWS_MAX}")
    }

    /// Rows, at most one more than [`COUNT_ROWS_MAX`].
    fn count(&self) -> String {
        let table = self.mapping.qualified();
        let (most, low) = (COUNT_ROWS_MAX + 1, self.dialect.priority(Priority::Low));
        format!("SELECT {low}COUNT(*) FROM (SELECT 1 FROM {table} LIMIT {most}) AS some")
    }

    /// Users with rows, in the column's order.
    fn users(&self, after: bool) -> String {
        let user = self.mapping.user.to_string();
        let low = self.dialect.priority(Priority::Low);
        users_text(low, &self.mapping.qualified(), &user, after)
    }

    /// Fails if a table or column that the statements name is missing.
    fn probe(&self) -> String {
        let table = self.mapping.qualified();
        let row = self.row();
        let deleted = self.mapping.deleted.as_ref().map_or(String::new(), |d| format!(", {d}"));
        format!("SELECT {}, {row}{deleted} FROM {table} LIMIT 0", self.mapping.user)
    }
}

#[cfg(test)]
mod tests {
    use seen_filter::{NamespaceId, Retention};

    use super::*;

    #[test]
    fn sizes_are_few_and_reach_the_largest() {
        assert_eq!(sizes(1_024), [1, 4, 16, 64, 256, 1_024]);
        assert_eq!(sizes(1), [1]);
    }

    #[test]
    fn tidb_has_a_size_of_inserts_that_its_plan_cache_just_takes() {
        let mut settings = NamespaceSettings::new(NamespaceId::new(0), "a");
        for (retention, dialect, expected) in [
            (None, Dialect::MariaDb, [1, 4, 16, 64, 256, 1_024]),
            (None, Dialect::TiDb, [1, 4, 16, 50, 256, 1_024]),
            (
                Some(Retention { span_ms: 30_000, bucket_ms: 10_000 }),
                Dialect::TiDb,
                [1, 4, 16, 40, 256, 1_024],
            ),
        ] {
            settings.retention = retention;
            let mapping = TableMapping::own(&settings).expect("a mapping");
            let types = ColumnTypes::default();
            let text = Text { settings: &settings, mapping: &mapping, types, dialect };
            assert_eq!(text.insert_sizes(), expected);
            let columns = text.insert(1, false).matches('?').count();
            assert_eq!(text.columns(), columns);
        }
    }
}
