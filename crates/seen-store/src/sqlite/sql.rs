//! Every statement, as text. The only names pasted into SQL are table names made from a namespace's
//! name, which [`valid_name`] has let through: `[a-z][a-z0-9_]*`. Nothing else may make them.
//!
//! Unsigned numbers are bound as the signed number with the same bits. Results of many rows are
//! handed over as one row of comma-separated columns, and lists of items as one JSON array: a row
//! costs the connection's thread about 0.3 us this way and 0.8 us as a row of its own.

use std::fmt::Write as _;
use std::sync::Arc;

use seen_filter::settings::valid_name;
use seen_filter::{NamespaceSettings, StoreError, TimeRule};
use sqlx::{AssertSqlSafe, SqlSafeStr, SqlStr};

use super::scan::scan_text;
use crate::request::invalid;

/// Rows of the largest insert statement. Larger ones are no cheaper per row.
pub(crate) const INSERT_ROWS_MAX: usize = 64;
/// How many sizes of insert statement there are: 1, 2, 4, ... rows.
const INSERT_SIZES: usize = INSERT_ROWS_MAX.ilog2() as usize + 1;
/// Rows of the largest insert into the commit log.
pub(crate) const LOG_ROWS_MAX: usize = 8;

/// What one read of the store's only row returns: `timeline, head`.
const POSITION: &str = "(SELECT timeline FROM store), (SELECT head FROM store)";
/// Leaves out expired rows: `horizon` and the value of bucket 0 if that is not expired (else -1).
const VISIBLE: &str = "(bucket >= ?1 OR bucket = ?2)";

/// The statements about one namespace's table.
#[derive(Debug)]
pub(crate) struct TableSql {
    pub create_table: SqlStr,
    pub create_time_index: SqlStr,
    pub drop_time_index: SqlStr,
    pub page: SqlStr,
    pub scan: SqlStr,
    pub recent: SqlStr,
    pub check_user: SqlStr,
    pub check_many: SqlStr,
    inserts: [SqlStr; INSERT_SIZES],
    pub remove: SqlStr,
    pub forget: SqlStr,
    pub sweep_end: SqlStr,
    pub sweep_find: SqlStr,
    pub sweep: SqlStr,
    pub users: SqlStr,
    pub surplus: SqlStr,
    pub trim: SqlStr,
    pub measure: SqlStr,
    pub rows_pages: SqlStr,
    pub time_index_pages: SqlStr,
}

impl TableSql {
    /// The statements of a namespace.
    pub(crate) fn new(settings: &NamespaceSettings) -> Result<Self, StoreError> {
        if !valid_name(&settings.name) {
            return Err(invalid(format!("namespace {:?} cannot name a table", settings.name)));
        }
        let t = format!("history_{}", settings.name);
        let sizes = std::array::from_fn(|n| safe(insert_text(&t, 1 << n, settings)));
        Ok(Self {
            create_table: safe(format!(
                "CREATE TABLE IF NOT EXISTS {t} (user INTEGER NOT NULL, kind INTEGER NOT NULL, \
                 item INTEGER NOT NULL, marked_at INTEGER NOT NULL, bucket INTEGER NOT NULL, \
                 PRIMARY KEY (user, kind, item)) STRICT, WITHOUT ROWID"
            )),
            create_time_index: safe(format!(
                "CREATE INDEX IF NOT EXISTS {t}_by_time ON {t} (user, marked_at, kind, item)"
            )),
            drop_time_index: safe(format!("DROP INDEX IF EXISTS {t}_by_time")),
            page: safe(page_text(&t)),
            scan: safe(scan_text(&t, POSITION)),
            recent: safe(recent_text(&t)),
            check_user: safe(format!(
                "SELECT {POSITION}, (SELECT group_concat(j.key) FROM json_each(?3) AS j \
                 CROSS JOIN {t} AS t ON t.user = ?4 AND t.kind = ?5 AND t.item = j.value \
                 WHERE {VISIBLE})"
            )),
            check_many: safe(format!(
                "SELECT {POSITION}, (SELECT group_concat(j.key) FROM json_each(?3) AS j \
                 CROSS JOIN {t} AS t ON t.user = j.value ->> 0 AND t.kind = j.value ->> 1 \
                 AND t.item = j.value ->> 2 WHERE {VISIBLE})"
            )),
            inserts: sizes,
            remove: safe(format!(
                "DELETE FROM {t} WHERE (user, kind, item) IN \
                 (SELECT value ->> 0, value ->> 1, value ->> 2 FROM json_each(?1))"
            )),
            forget: safe(format!(
                "DELETE FROM {t} WHERE user = ?1 AND (kind, item) IN \
                 (SELECT kind, item FROM {t} WHERE user = ?1 LIMIT ?2)"
            )),
            sweep_end: safe(format!(
                "SELECT user, kind, item FROM {t} WHERE (user, kind, item) >= (?1, ?2, ?3) \
                 ORDER BY user, kind, item LIMIT 1 OFFSET ?4"
            )),
            sweep_find: safe(format!(
                "SELECT count(*) FROM {t} WHERE (user, kind, item) >= (?3, ?4, ?5) \
                 AND (user, kind, item) < (?6, ?7, ?8) AND NOT {VISIBLE}"
            )),
            sweep: safe(format!(
                "DELETE FROM {t} WHERE (user, kind, item) >= (?3, ?4, ?5) \
                 AND (user, kind, item) < (?6, ?7, ?8) AND NOT {VISIBLE}"
            )),
            users: safe(format!(
                "SELECT group_concat(user || ',' || n) FROM (SELECT user, count(*) AS n FROM {t} \
                 WHERE (user, kind, item) >= (?1, ?2, ?3) AND (user, kind, item) < (?4, ?5, ?6) \
                 GROUP BY user)"
            )),
            surplus: safe(surplus_text(&t)),
            trim: safe(format!(
                "DELETE FROM {t} WHERE (user, kind, item) IN \
                 (SELECT ?3, value ->> 0, value ->> 1 FROM json_each(?4)) \
                 AND (marked_at, kind, item) < (?5, ?6, ?7) \
                 AND (SELECT count(*) FROM {t} WHERE user = ?3 AND {VISIBLE} \
                 AND (marked_at, kind, item) >= (?5, ?6, ?7)) >= ?8"
            )),
            measure: safe(measure_text(&t)),
            rows_pages: safe(pages_text(&t)),
            time_index_pages: safe(pages_text(&format!("{t}_by_time"))),
        })
    }

    /// The smallest insert statement that takes at least `rows` rows (at most [`INSERT_ROWS_MAX`]),
    /// and how many it takes. Few sizes are few statements to prepare and keep.
    pub(crate) fn insert(&self, rows: usize) -> (usize, SqlStr) {
        let size = rows.clamp(1, INSERT_ROWS_MAX).next_power_of_two();
        (size, self.inserts[size.ilog2() as usize].clone())
    }
}

/// Marks text as free of injection; see the module's documentation for why it is.
fn safe(text: String) -> SqlStr {
    AssertSqlSafe(Arc::<str>::from(text)).into_sql_str()
}

/// Binds five columns a row, then the horizon and the value of bucket 0. A row that exists keeps its
/// time or takes the new one by the namespace's rule, and always the newer bucket: a repeated mark
/// renews the promise. A row that has expired but is still there is as good as absent.
fn insert_text(t: &str, rows: usize, settings: &NamespaceSettings) -> String {
    let mut text = format!("INSERT INTO {t} (user, kind, item, marked_at, bucket) VALUES ");
    for row in 0..rows {
        text.push_str(if row == 0 { "(?,?,?,?,?)" } else { ",(?,?,?,?,?)" });
    }
    let (horizon, zero) = (rows * 5 + 1, rows * 5 + 2);
    text.push_str(" ON CONFLICT (user, kind, item) DO ");
    let _ = match (settings.time_rule, settings.retention.is_some()) {
        (TimeRule::First, false) => write!(text, "NOTHING"),
        (TimeRule::First, true) => write!(
            text,
            "UPDATE SET marked_at = CASE WHEN bucket >= ?{horizon} OR bucket = ?{zero} \
             THEN marked_at ELSE excluded.marked_at END, bucket = excluded.bucket \
             WHERE excluded.bucket > bucket"
        ),
        (TimeRule::Last, _) => write!(
            text,
            "UPDATE SET marked_at = excluded.marked_at, bucket = max(bucket, excluded.bucket) \
             WHERE excluded.marked_at <> marked_at OR excluded.bucket > bucket"
        ),
    };
    text
}

/// Rows, and bytes with the index, by reading all of both.
fn measure_text(t: &str) -> String {
    format!(
        "SELECT (SELECT count(*) FROM {t}), (SELECT coalesce(sum(pgsize), 0) FROM dbstat \
         WHERE aggregate = 1 AND name IN ('{t}', '{t}_by_time'))"
    )
}

/// The first `?1` pages of a tree, from its root down and from left to right: for each depth how many
/// of them, their cells, and their bytes. A page's path is "/" with four characters more a level.
fn pages_text(tree: &str) -> String {
    format!(
        "SELECT group_concat(level) FROM (SELECT ((length(path) - 1) / 4) || ',' || count(*) || ',' \
         || sum(ncell) || ',' || sum(pgsize) AS level FROM (SELECT path, ncell, pgsize FROM dbstat \
         WHERE name = '{tree}' AND aggregate = 0 LIMIT ?1) GROUP BY length(path))"
    )
}

/// `?3` namespace, `?4` user, `?5` kind and `?6` item of the last row before, `?7` rows.
fn page_text(t: &str) -> String {
    format!(
        "SELECT {POSITION}, \
         (SELECT epoch FROM user_epochs WHERE namespace = ?3 AND user = ?4), \
         group_concat(kind), group_concat(item), group_concat(marked_at), group_concat(bucket) \
         FROM (SELECT kind, item, marked_at, bucket FROM {t} WHERE user = ?4 \
         AND (kind, item) > (?5, ?6) AND {VISIBLE} ORDER BY kind, item LIMIT ?7)"
    )
}

/// `?3` namespace, `?4` user, `?5`-`?7` time, kind and item of the last row before, `?8` from,
/// `?9` until, `?10` rows.
fn recent_text(t: &str) -> String {
    format!(
        "SELECT {POSITION}, \
         (SELECT epoch FROM user_epochs WHERE namespace = ?3 AND user = ?4), \
         group_concat(kind), group_concat(item), group_concat(marked_at), group_concat(bucket) \
         FROM (SELECT kind, item, marked_at, bucket FROM {t} WHERE user = ?4 \
         AND (marked_at, kind, item) < (?5, ?6, ?7) AND marked_at >= ?8 AND marked_at < ?9 \
         AND {VISIBLE} ORDER BY marked_at DESC, kind DESC, item DESC LIMIT ?10)"
    )
}

/// `?3` user, `?4` rows kept at least, `?5` rows returned at most: the time, kind and item of the
/// oldest row kept, then the keys of older ones.
fn surplus_text(t: &str) -> String {
    format!(
        "WITH kept AS (SELECT marked_at, kind, item FROM {t} WHERE user = ?3 AND {VISIBLE} \
         ORDER BY marked_at DESC, kind DESC, item DESC LIMIT 1 OFFSET ?4 - 1) \
         SELECT kept.marked_at, kept.kind, kept.item, \
         (SELECT group_concat('[' || kind || ',' || item || ']') FROM \
         (SELECT t.kind, t.item FROM {t} AS t WHERE t.user = ?3 \
         AND (t.marked_at, t.kind, t.item) < (kept.marked_at, kept.kind, kept.item) LIMIT ?5)), \
         (SELECT count(*) FROM {t} WHERE user = ?3) FROM kept"
    )
}

/// An insert of `rows` rows (1 to [`LOG_ROWS_MAX`]) into the commit log.
pub(crate) fn log_insert(rows: usize) -> &'static str {
    const TEXTS: [&str; LOG_ROWS_MAX] = [
        "INSERT INTO commit_log VALUES (?,?,?)",
        "INSERT INTO commit_log VALUES (?,?,?),(?,?,?)",
        "INSERT INTO commit_log VALUES (?,?,?),(?,?,?),(?,?,?)",
        "INSERT INTO commit_log VALUES (?,?,?),(?,?,?),(?,?,?),(?,?,?)",
        "INSERT INTO commit_log VALUES (?,?,?),(?,?,?),(?,?,?),(?,?,?),(?,?,?)",
        "INSERT INTO commit_log VALUES (?,?,?),(?,?,?),(?,?,?),(?,?,?),(?,?,?),(?,?,?)",
        "INSERT INTO commit_log VALUES (?,?,?),(?,?,?),(?,?,?),(?,?,?),(?,?,?),(?,?,?),(?,?,?)",
        "INSERT INTO commit_log VALUES (?,?,?),(?,?,?),(?,?,?),(?,?,?),(?,?,?),(?,?,?),(?,?,?),\
         (?,?,?)",
    ];
    TEXTS[rows.clamp(1, LOG_ROWS_MAX) - 1]
}
