//! All rows of a namespace, page by page, on every shard. A page is a stretch of the key of a bounded
//! length, so that its cost does not depend on how many of its rows count as removed.

use std::sync::Arc;

use seen_filter::history::Row;
use seen_filter::{
    FeedStart, Item, PositionSource, RowKey, Scan, ScanPage, ScanRequest, ScannedRow, Shard,
    SourcePosition, StoreError, UnixMillis, UserId,
};
use sqlx::mysql::{MySqlArguments, MySqlRow};
use sqlx::{Arguments as _, Executor as _, Row as _};

use super::MySqlStore;
use super::arguments::{add_after, add_id};
use super::dialect::{Dialect, read_only};
use super::errors::Failure;
use super::pool::{Session, closed};
use super::read::{bad_kind, encode_error, join, number, read_error};
use super::shard::ShardStore;
use super::sql::safe;
use super::tables::Table;
use crate::binlog::cursor_after;
use crate::request::{self, SeamAnswer};

/// What a page collects.
struct Found {
    rows: Vec<ScannedRow>,
    next: Option<RowKey>,
}

impl Session {
    /// The rows after a key. Rows of several buckets that are one item become one row, as in the page of
    /// a user. The key that a page breaks off in is left to the next one.
    async fn scanned(
        &mut self,
        table: &Table,
        request: &ScanRequest,
        horizon: u32,
    ) -> Result<Found, Failure> {
        let limit = request.rows_max as u64 + 1;
        let mut after = request.after.map(|key| (key, u32::MAX));
        let mut rows: Vec<ScannedRow> = Vec::new();
        // The last key that all rows were read of, and the one after it.
        let (mut whole, mut current) = (None, None);
        loop {
            let sql = if after.is_some() { &table.sql.scan_after } else { &table.sql.scan_first };
            let arguments = arguments(table, horizon, after, limit).map_err(encode_error)?;
            let query = sqlx::query_with(sql.clone(), arguments);
            let fetched = query.fetch_all(&mut self.connection).await.map_err(read_error)?;
            for row in &fetched {
                let scanned = row_of(table, row)?;
                let key = Some(scanned.key());
                if current != key {
                    (whole, current) = (current, key);
                }
                after = Some((scanned.key(), scanned.row.bucket));
                if row.try_get::<i64, _>(5).map_err(read_error)? == 0 {
                    take(&mut rows, scanned, table.settings.time_rule);
                }
            }
            let is_end = (fetched.len() as u64) < limit;
            if is_end || whole.is_some() {
                let mut next = whole.filter(|_| !is_end);
                rows.retain(|row| is_end || Some(row.key()) != current);
                if rows.len() > request.rows_max {
                    rows.truncate(request.rows_max);
                    next = rows.last().map(ScannedRow::key);
                }
                return Ok(Found { rows, next });
            }
        }
    }

    /// Where the server's log is: what every later read is certain to see, and no more than that.
    async fn source_position(&mut self, shard: Shard) -> Result<Option<SourcePosition>, Failure> {
        match self.facts.dialect {
            Dialect::MariaDb => self.mariadb_position().await,
            Dialect::MySql => self.mysql_position().await,
            Dialect::TiDb => self.tidb_position(shard).await,
        }
    }

    /// MariaDB writes a transaction to its log before reads see it, and pairs the two in a consistent
    /// snapshot: the log's place is told as of that.
    async fn mariadb_position(&mut self) -> Result<Option<SourcePosition>, Failure> {
        let begin = "START TRANSACTION WITH CONSISTENT SNAPSHOT";
        self.connection.execute(sqlx::raw_sql(begin)).await.map_err(read_error)?;
        let status = |name: &str| {
            format!(
                "(SELECT VARIABLE_VALUE FROM information_schema.SESSION_STATUS \
                 WHERE VARIABLE_NAME = 'BINLOG_SNAPSHOT_{name}')"
            )
        };
        let sql = format!(
            "SELECT CAST(@@server_id AS UNSIGNED), {}, CAST(BINLOG_GTID_POS({}, \
             CAST({} AS UNSIGNED)) AS CHAR)",
            read_only!(),
            status("FILE"),
            status("POSITION")
        );
        let row = self.connection.fetch_one(sqlx::raw_sql(safe(sql))).await.map_err(read_error)?;
        self.proven(&row)?;
        self.end_snapshot().await?;
        let text: Option<String> = row.try_get(2).map_err(read_error)?;
        let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(None) };
        // Numbers of one domain are one sequence, whichever server gave them.
        let gtids: Vec<&str> = text.split(',').map(str::trim).collect();
        let domains: Vec<&str> = gtids.iter().filter_map(|gtid| gtid.split('-').next()).collect();
        let number = match gtids.as_slice() {
            [one] => one.rsplit('-').next().and_then(|number| number.parse().ok()),
            _ => None,
        };
        let timeline = domains.join(",");
        Ok(Some(SourcePosition { source: PositionSource::MariaDb, timeline, number, text }))
    }

    /// MySQL names a transaction as executed once reads see it. Which server made it may change, so that
    /// all of the set count.
    async fn mysql_position(&mut self) -> Result<Option<SourcePosition>, Failure> {
        let sql = concat!(
            "SELECT CAST(@@server_id AS UNSIGNED), ",
            read_only!(),
            ", CAST(@@global.gtid_executed AS CHAR)"
        );
        let row = self.connection.fetch_one(sqlx::raw_sql(sql)).await.map_err(read_error)?;
        self.proven(&row)?;
        let text: String = row.try_get(2).map_err(read_error)?;
        let text: String = text.split_whitespace().collect();
        let (timeline, number) = ("executed".to_owned(), transactions(&text));
        let position = SourcePosition { source: PositionSource::MySql, timeline, number, text };
        Ok(Some(position).filter(|position| !position.text.is_empty()))
    }

    /// A transaction's start is a timestamp that every later read is above.
    async fn tidb_position(&mut self, shard: Shard) -> Result<Option<SourcePosition>, Failure> {
        let sql = "START TRANSACTION; SELECT CAST(@@tidb_current_ts AS CHAR)";
        let row = self.connection.fetch_one(sqlx::raw_sql(sql)).await.map_err(read_error)?;
        self.end_snapshot().await?;
        let text: String = row.try_get(0).map_err(read_error)?;
        let number: Option<u64> = text.parse().ok().filter(|number| *number > 0);
        let timeline = format!("shard {shard}");
        Ok(number.map(|_| SourcePosition { source: PositionSource::TiDb, timeline, number, text }))
    }

    /// Refuses an answer of a server that takes no writes (coherence row 51).
    fn proven(&self, row: &MySqlRow) -> Result<(), Failure> {
        let server_id: u64 = row.try_get(0).map_err(read_error)?;
        let read_only: i64 = row.try_get(1).map_err(read_error)?;
        self.prove(server_id, read_only != 0)
    }
}

/// How many transactions there are in a set of MySQL's; `None` if it cannot be read.
fn transactions(set: &str) -> Option<u64> {
    let ranges = set.split(',').flat_map(|of_source| of_source.split(':').skip(1));
    // A tag in the place of a range names those that follow.
    let ranges = ranges.filter(|range| range.starts_with(|c: char| c.is_ascii_digit()));
    let mut count: u64 = 0;
    for range in ranges {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u64, u64) = (first.parse().ok()?, last.parse().ok()?);
        count = count.checked_add(last.checked_sub(first)?)?.checked_add(1)?;
    }
    Some(count)
}

/// Takes a row in, into the one before if that is of the same item. Buckets ascend.
fn take(rows: &mut Vec<ScannedRow>, scanned: ScannedRow, rule: seen_filter::TimeRule) {
    match rows.last_mut() {
        Some(last) if last.key() == scanned.key() => join(&mut last.row, scanned.row, rule),
        _ => rows.push(scanned),
    }
}

fn row_of(table: &Table, row: &MySqlRow) -> Result<ScannedRow, Failure> {
    let [user, kind, item] = [number(row, 0)?, number(row, 1)?, number(row, 2)?];
    let time: Option<i64> = row.try_get(3).map_err(read_error)?;
    let bucket = number(row, 4)?;
    let kind = u8::try_from(kind).map_err(|_| bad_kind(table, kind))?;
    let row = Row {
        item: Item::new(kind, item),
        marked_at: UnixMillis::new(u64::try_from(time.unwrap_or(0)).unwrap_or(0)),
        bucket: u32::try_from(bucket).unwrap_or(u32::MAX),
    };
    Ok(ScannedRow { user: UserId::new(user), row })
}

/// Binds the horizon, the key after which the page begins, and the number of rows, as
/// [`TableSql`](super::sql::TableSql)'s `scan` takes them.
fn arguments(
    table: &Table,
    horizon: u32,
    after: Option<(RowKey, u32)>,
    limit: u64,
) -> Result<MySqlArguments, sqlx::error::BoxDynError> {
    let mut arguments = MySqlArguments::default();
    if table.has_buckets() {
        arguments.add(horizon)?;
    }
    if let Some(((user, item), bucket)) = after {
        add_id(&mut arguments, user.get(), table.types.user_signed)?;
        add_id(&mut arguments, user.get(), table.types.user_signed)?;
        add_after(&mut arguments, table, item, bucket)?;
    }
    arguments.add(limit)?;
    Ok(arguments)
}

impl ShardStore {
    async fn scan(self: &Arc<Self>, request: ScanRequest) -> Result<ScanPage, StoreError> {
        let shard = Arc::clone(self);
        let work = self.pages.run(move |session| {
            let shard = Arc::clone(&shard);
            Box::pin(async move {
                let table = shard.tables.get(request.namespace).map_err(Failure::Store)?;
                let begun = session.begin_snapshot(&shard, table, None).await?;
                let horizon = table.horizon(shard.now_or(begun.server_now));
                let Found { rows, next } = session.scanned(table, &request, horizon).await?;
                session.end_snapshot().await?;
                Ok(ScanPage { rows, next, snapshot: begun.id })
            })
        });
        work.await
    }
}

impl MySqlStore {
    /// Where the binary log's feed of a part begins for whoever has all rows that were there at a
    /// position of [`Scan::position`], and wants what comes after. `None` for a position that no single
    /// number says (several GTID domains or sources), and on TiDB.
    pub fn start_after(&self, part: Shard, position: &SourcePosition) -> Option<FeedStart> {
        let store = self.part(part).ok()?.primary.known()?.timeline;
        cursor_after(store.get(), position).map(FeedStart::At)
    }

    fn part(&self, part: Shard) -> Result<&Arc<ShardStore>, StoreError> {
        request::part(part, self.shards.len())?;
        self.shards.get(usize::from(part.get())).ok_or_else(closed)
    }
}

impl Scan for MySqlStore {
    fn parts(&self) -> u16 {
        self.shards()
    }

    fn position(&self, part: Shard) -> SeamAnswer<'_, Option<SourcePosition>> {
        Box::pin(async move {
            let shard = self.part(part)?;
            let work = shard
                .pages
                .run(move |session| Box::pin(async move { session.source_position(part).await }));
            work.await
        })
    }

    fn scan(&self, request: ScanRequest) -> SeamAnswer<'_, ScanPage> {
        Box::pin(async move {
            request::page_rows(request.rows_max)?;
            self.tables.get(request.namespace)?;
            let mut page = self.part(request.part)?.scan(request).await?;
            // Nobody reads a row on a shard where its user does not live.
            page.rows.retain(|row| self.shard_of(row.user) == request.part);
            Ok(page)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_transactions_of_a_set_are_counted() {
        let (a, b) =
            ("3e11fa47-71ca-11e1-9e33-c80aa9429562", "4e11fa47-71ca-11e1-9e33-c80aa9429562");
        assert_eq!(transactions(&format!("{a}:1-5:11-18,{b}:7")), Some(14));
        assert_eq!(transactions(&format!("{a}:1:tag:1-3")), Some(4));
        assert_eq!(transactions(""), Some(0));
        assert_eq!(transactions(&format!("{a}:5-1")), None);
    }
}
