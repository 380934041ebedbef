//! All rows of a namespace, page by page. A page is a stretch of the table of a bounded length, expired
//! rows included, which are left out here: so its cost does not depend on how many have expired.

use seen_filter::history::Row;
use seen_filter::{
    FeedStart, Item, PositionSource, RowKey, Scan, ScanPage, ScanRequest, ScannedRow, Shard,
    SourcePosition, StoreError, UnixMillis, UserId,
};
use sqlx::sqlite::SqliteRow;

use super::SqliteStore;
use super::feed::cursor;
use super::inner::Inner;
use super::namespaces::Horizon;
use super::read::{numbers, one_row};
use crate::request::{self, SeamAnswer};

/// Comes before every key of the table: no kind is below 0.
const BEFORE_ALL: (i64, i64, i64) = (i64::MIN, -1, 0);

/// `?1`-`?3` user, kind and item of the last row before, `?4` rows. The head is of the same snapshot.
pub(crate) fn scan_text(table: &str, position: &str) -> String {
    format!(
        "SELECT {position}, group_concat(user), group_concat(kind), group_concat(item), \
         group_concat(marked_at), group_concat(bucket) FROM (SELECT user, kind, item, marked_at, \
         bucket FROM {table} WHERE (user, kind, item) > (?1, ?2, ?3) ORDER BY user, kind, item LIMIT ?4)"
    )
}

impl Inner {
    async fn scan(&self, request: ScanRequest) -> Result<ScanPage, StoreError> {
        request::page_rows(request.rows_max)?;
        request::part(request.part, 1)?;
        let table = self.tables.get(request.namespace)?;
        let horizon = table.horizon(self.options.clock.now());
        let after = request.after.map_or(BEFORE_ALL, raw);
        let query = sqlx::query(table.sql.scan.clone())
            .bind(after.0)
            .bind(after.1)
            .bind(after.2)
            .bind(request.rows_max as i64 + 1);
        let row = one_row(self, &self.pages, query).await?;
        let mut rows = self.scanned(&row, request.rows_max)?;
        // The order of what an aggregate collects is not promised in words.
        rows.sort_unstable_by_key(|row| raw(row.key()));
        let is_last = rows.len() <= request.rows_max;
        rows.truncate(request.rows_max);
        let next = rows.last().filter(|_| !is_last).map(ScannedRow::key);
        rows.retain(|row| is_visible(horizon, row.row.bucket));
        Ok(ScanPage { rows, next, snapshot: self.snapshot(self.head_of(&row)?) })
    }

    fn scanned(&self, row: &SqliteRow, rows_max: usize) -> Result<Vec<ScannedRow>, StoreError> {
        let column = |n: usize| self.column::<Option<&str>>(row, n);
        let Some(users) = column(2)? else { return Ok(Vec::new()) };
        let list = |n: usize| column(n).map(|list| numbers(list.unwrap_or("")));
        let (mut kinds, mut items, mut times, mut buckets) =
            (list(3)?, list(4)?, list(5)?, list(6)?);
        let mut rows = Vec::with_capacity(rows_max.min(users.len()) + 1);
        for user in numbers(users) {
            let read = (|| {
                let kind = u8::try_from(kinds.next()??).ok()?;
                let item = Item::new(kind, items.next()??.cast_unsigned());
                let marked_at = UnixMillis::new(times.next()??.cast_unsigned());
                let bucket = u32::try_from(buckets.next()??).ok()?;
                let row = Row { item, marked_at, bucket };
                Some(ScannedRow { user: UserId::new(user?.cast_unsigned()), row })
            })();
            rows.push(read.ok_or_else(|| self.damaged("a row"))?);
        }
        Ok(rows)
    }

    async fn source_position(&self, part: Shard) -> Result<SourcePosition, StoreError> {
        request::part(part, 1)?;
        let query = sqlx::query("SELECT timeline, head FROM store");
        let head = self.head_of(&one_row(self, &self.pages, query).await?)?;
        Ok(SourcePosition {
            source: PositionSource::Sqlite,
            text: self.stamp(head).to_string(),
            timeline: format!("{:016x}", head.timeline),
            number: Some(head.position),
        })
    }
}

impl SqliteStore {
    /// Where the feed begins for whoever has all rows that were there at a position of
    /// [`Scan::position`], and wants what comes after. `None` for a position of another kind of store.
    pub fn start_after(position: &SourcePosition) -> Option<FeedStart> {
        if position.source != PositionSource::Sqlite {
            return None;
        }
        let timeline = u64::from_str_radix(&position.timeline, 16).ok()?;
        Some(FeedStart::At(cursor(timeline, position.number?.checked_add(1)?, 0)))
    }
}

fn is_visible(horizon: Horizon, bucket: u32) -> bool {
    let bucket = i64::from(bucket);
    bucket >= horizon.bucket || bucket == horizon.zero
}

/// A key as the store orders it.
fn raw((user, item): RowKey) -> (i64, i64, i64) {
    (user.get().cast_signed(), item.kind.get().into(), item.id.get().cast_signed())
}

impl Scan for SqliteStore {
    fn parts(&self) -> u16 {
        1
    }

    fn position(&self, part: Shard) -> SeamAnswer<'_, Option<SourcePosition>> {
        Box::pin(async move { self.inner.source_position(part).await.map(Some) })
    }

    fn scan(&self, request: ScanRequest) -> SeamAnswer<'_, ScanPage> {
        Box::pin(self.inner.scan(request))
    }
}
