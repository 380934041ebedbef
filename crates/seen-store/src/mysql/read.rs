//! Pages, listings and point checks.

use std::collections::HashMap;
use std::sync::Arc;

use seen_filter::history::{Answers, HistorySize, Page, PageRequest, Question, RecentRequest, Row};
use seen_filter::{
    Item, NamespaceId, SnapshotId, StoreError, StoreErrorKind, UnixMillis, UserEpoch, UserId,
};
use sqlx::mysql::MySqlRow;
use sqlx::{Executor as _, Row as _};
use tokio::time::Instant;

use super::arguments::{Buckets, check_arguments, page_arguments, recent_arguments};
use super::dialect::{Dialect, read_only};
use super::errors::{Failure, Stage};
use super::late::Found;
use super::mapping::KindColumn;
use super::pool::Session;
use super::shard::ShardStore;
use super::sql::{COUNT_ROWS_MAX, safe};
use super::tables::Table;
use crate::request;

pub(super) fn read_error(error: sqlx::Error) -> Failure {
    Failure::Sql(Stage::Read, error)
}

pub(super) fn encode_error(error: sqlx::error::BoxDynError) -> Failure {
    read_error(sqlx::Error::Encode(error))
}

/// Keys and which places of the answer they stand for.
type Asked = HashMap<(UserId, Item), Vec<usize>>;

/// Least rows of a page's later statements: what is missing of them may be many rows of one item.
const LATER_ROWS_MIN: u64 = 100;

/// What is known when a snapshot has begun.
pub(super) struct Begun {
    /// The server's clock.
    pub server_now: UnixMillis,
    /// The epoch of the user that was asked for.
    pub user_epoch: UserEpoch,
    pub id: SnapshotId,
}

/// What is known when a page's snapshot has begun.
struct BegunPage<'s> {
    table: &'s Table,
    horizon: u32,
    storage_now: UnixMillis,
    user_epoch: UserEpoch,
    snapshot: SnapshotId,
}

impl Session {
    /// Begins a transaction whose reads are one snapshot, and asks who the server is within it.
    /// The table is named with the first statement: a transaction that begins before a partition is split
    /// and comes to the table afterwards would miss the rows that were moved (TiDB), or fail (MariaDB).
    pub(super) async fn begin_snapshot(
        &mut self,
        shard: &ShardStore,
        table: &Table,
        epoch_of: Option<(u16, UserId)>,
    ) -> Result<Begun, Failure> {
        let before = shard.numbered();
        let epoch = epoch_of.map_or("0".to_owned(), |(namespace, user)| {
            format!(
                "(SELECT seq FROM seen_control WHERE user_id = {user} AND namespace = {namespace} \
                 AND writer = 0)"
            )
        });
        // Its reads are as of this timestamp, which every commit in it is at or below and every other
        // commit above. Elsewhere a snapshot has no number that can be compared with commits'.
        // A late one would seem to have gone back.
        let number = match self.facts.dialect {
            Dialect::TiDb if self.lateness.is_none() => "CAST(@@tidb_current_ts AS UNSIGNED)",
            _ => "CAST(0 AS UNSIGNED)",
        };
        let begin = safe(format!(
            "START TRANSACTION; SELECT CAST(@@server_id AS UNSIGNED), {}, \
             CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS UNSIGNED), CAST({epoch} AS UNSIGNED), {number}, \
             (SELECT 1 FROM {} LIMIT 0)",
            read_only!(),
            table.mapping.qualified()
        ));
        let row = self.connection.fetch_one(sqlx::raw_sql(begin)).await.map_err(read_error)?;
        let server_id: u64 = row.try_get(0).map_err(read_error)?;
        let read_only: i64 = row.try_get(1).map_err(read_error)?;
        self.prove(server_id, read_only != 0)?;
        let now: u64 = row.try_get(2).map_err(read_error)?;
        let epoch: Option<u64> = row.try_get(3).map_err(read_error)?;
        let epoch = u32::try_from(epoch.unwrap_or(0)).unwrap_or(u32::MAX);
        let number: u64 = row.try_get(4).map_err(read_error)?;
        let lower_bound = (number > 0).then(|| shard.snapshot_stamp(number, before)).flatten();
        Ok(Begun {
            server_now: UnixMillis::new(now),
            user_epoch: UserEpoch::new(epoch),
            id: SnapshotId { primary: self.facts.primary_id(), lower_bound },
        })
    }

    /// Begins the snapshot of a page of one user's rows.
    async fn begin_page<'s>(
        &mut self,
        shard: &'s ShardStore,
        namespace: NamespaceId,
        user: UserId,
    ) -> Result<BegunPage<'s>, Failure> {
        let table = shard.tables.get(namespace).map_err(Failure::Store)?;
        let of_user = Some((shard.database_id(namespace), user));
        let Begun { server_now, user_epoch, id } =
            self.begin_snapshot(shard, table, of_user).await?;
        let storage_now = shard.now_or(server_now);
        let horizon = table.horizon(storage_now);
        Ok(BegunPage { table, horizon, storage_now, user_epoch, snapshot: id })
    }

    pub(super) async fn end_snapshot(&mut self) -> Result<(), Failure> {
        self.connection.execute(sqlx::raw_sql("COMMIT")).await.map_err(read_error)?;
        Ok(())
    }

    /// Refuses a server that takes no writes, or is another than was connected to
    /// (coherence row 51).
    pub(crate) fn prove(&self, server_id: u64, read_only: bool) -> Result<(), Failure> {
        let is_same = self.facts.dialect.any_server() || server_id == self.facts.server_id;
        if is_same && !read_only {
            return Ok(());
        }
        Err(Failure::Store(self.demoted()))
    }

    /// What a statement without a transaction saw, which has no number that is known.
    fn one_statement(&self) -> SnapshotId {
        SnapshotId { primary: self.facts.primary_id(), lower_bound: None }
    }

    /// Which of the keys have rows, in one snapshot.
    pub(super) async fn find_all(
        &mut self,
        shard: &ShardStore,
        namespace: NamespaceId,
        keys: &[(UserId, Item)],
    ) -> Result<Found, Failure> {
        let table = shard.tables.get(namespace).map_err(Failure::Store)?;
        let is_one = keys.len() <= table.sql.check(keys.len(), false).0;
        // Whatever there is to know of its buckets must be of one moment.
        let in_transaction = !is_one || table.has_buckets();
        let mut server_now = UnixMillis::new(0);
        let mut snapshot = self.one_statement();
        if in_transaction {
            let begun = self.begin_snapshot(shard, table, None).await?;
            (server_now, snapshot) = (begun.server_now, begun.id);
        }
        let now = shard.now_or(server_now);
        let buckets = table.horizon(now)..=table.bucket(now);
        let mut found = Vec::new();
        self.find(table, keys, buckets, |user, item| found.push((user, item))).await?;
        if in_transaction {
            self.end_snapshot().await?;
        }
        Ok((found, snapshot))
    }

    /// Marks which of the asked keys have rows, by statements of few sizes.
    async fn find(
        &mut self,
        table: &Table,
        keys: &[(UserId, Item)],
        buckets: std::ops::RangeInclusive<u32>,
        mut found: impl FnMut(UserId, Item),
    ) -> Result<(), Failure> {
        let named = self.names_buckets(table, &buckets).await?;
        let from = [Buckets::From(*buckets.start())];
        let each: Vec<Buckets> = match named {
            true => buckets.map(Buckets::One).collect(),
            false => from.to_vec(),
        };
        let of_key = |(user, item): &(UserId, Item)| {
            let (user, item) = (*user, *item);
            each.iter().map(move |buckets| (user, item, *buckets))
        };
        let keys: Vec<_> = keys.iter().flat_map(of_key).collect();
        let mut rest = keys.as_slice();
        while !rest.is_empty() {
            let (size, sql) = table.sql.check(rest.len(), named);
            let (now, later) = rest.split_at(rest.len().min(size));
            rest = later;
            let arguments = check_arguments(table, now, size).map_err(encode_error)?;
            let query = sqlx::query_with(sql, arguments);
            let rows = query.fetch_all(&mut self.connection).await.map_err(read_error)?;
            for row in &rows {
                let [first, second, third] = [number(row, 0)?, number(row, 1)?, number(row, 2)?];
                if row.len() > 3 && number(row, 3)? == 1 {
                    self.prove(first, second != 0)?;
                    continue;
                }
                let kind = u8::try_from(second).map_err(|_| bad_kind(table, second))?;
                found(UserId::new(first), Item::new(kind, third));
            }
        }
        Ok(())
    }

    /// True if a check is to name the buckets that rows may be in: where these are few, and no row is
    /// beyond them, which is one that was written while a server's clock was ahead.
    async fn names_buckets(
        &mut self,
        table: &Table,
        buckets: &std::ops::RangeInclusive<u32>,
    ) -> Result<bool, Failure> {
        let count = buckets.end().saturating_sub(*buckets.start()).saturating_add(1);
        if !table.has_buckets() || count > self.facts.dialect.named_buckets_max() {
            return Ok(false);
        }
        let ahead = sqlx::query(table.sql.ahead.clone()).bind(*buckets.end());
        let ahead = ahead.fetch_optional(&mut self.connection).await.map_err(read_error)?;
        Ok(ahead.is_none())
    }

    /// The rows of one user after a key, at most `rows_max` items, and whether more follow. Rows of
    /// several buckets that are one item become one row: whose time counts is the namespace's rule,
    /// and its bucket is the newest.
    async fn rows(
        &mut self,
        table: &Table,
        request: &PageRequest,
        horizon: u32,
    ) -> Result<(Vec<Row>, bool), Failure> {
        let limit_max = self.facts.dialect.page_limit_max();
        let mut merged: Vec<Row> = Vec::new();
        let mut after = request.after.map(|item| (item, u32::MAX));
        loop {
            let missing = (request.rows_max + 1).saturating_sub(merged.len()) as u64;
            let least = if merged.is_empty() { 0 } else { LATER_ROWS_MIN };
            let limit = missing.max(least).min(limit_max);
            let arguments = page_arguments(table, request.user, horizon, after, limit);
            let sql = if after.is_some() { &table.sql.page_after } else { &table.sql.page_first };
            let query = sqlx::query_with(sql.clone(), arguments.map_err(encode_error)?);
            let rows = query.fetch_all(&mut self.connection).await.map_err(read_error)?;
            let fetched = rows.len() as u64;
            for row in &rows {
                let row = row_of(table, row)?;
                after = Some((row.item, row.bucket));
                merge(&mut merged, row, table.settings.time_rule);
            }
            let is_end = fetched < limit;
            if is_end || merged.len() > request.rows_max {
                let more = merged.len() > request.rows_max;
                merged.truncate(request.rows_max);
                return Ok((merged, more));
            }
        }
    }
}

/// Takes a row in, into the one before if that is of the same item. Buckets ascend.
fn merge(merged: &mut Vec<Row>, row: Row, rule: seen_filter::TimeRule) {
    match merged.last_mut() {
        Some(last) if last.item == row.item => join(last, row, rule),
        _ => merged.push(row),
    }
}

/// Makes one row of two of the same item, of which the second is of the later bucket.
pub(super) fn join(last: &mut Row, row: Row, rule: seen_filter::TimeRule) {
    last.bucket = row.bucket;
    if rule == seen_filter::TimeRule::Last {
        last.marked_at = row.marked_at;
    }
}

pub(super) fn bad_kind(table: &Table, kind: u64) -> Failure {
    Failure::Store(StoreError::new(
        StoreErrorKind::Schema,
        format!(
            "{}: a row has kind {kind} (allowed: 0 to 255); map such rows to a namespace of their own",
            table.mapping.table
        ),
    ))
}

/// An id, of whatever integer type its column is: a negative one stands for the unsigned number with
/// the same bits.
pub(crate) fn number(row: &MySqlRow, column: usize) -> Result<u64, Failure> {
    match row.try_get::<u64, _>(column) {
        Ok(number) => Ok(number),
        Err(sqlx::Error::ColumnDecode { .. }) => {
            row.try_get::<i64, _>(column).map(i64::cast_unsigned).map_err(read_error)
        }
        Err(error) => Err(read_error(error)),
    }
}

fn row_of(table: &Table, row: &MySqlRow) -> Result<Row, Failure> {
    let (kind, item, bucket) = (number(row, 0)?, number(row, 1)?, number(row, 3)?);
    let time: Option<i64> = row.try_get(2).map_err(read_error)?;
    let kind = u8::try_from(kind).map_err(|_| bad_kind(table, kind))?;
    Ok(Row {
        item: Item::new(kind, item),
        marked_at: UnixMillis::new(u64::try_from(time.unwrap_or(0)).unwrap_or(0)),
        bucket: u32::try_from(bucket).unwrap_or(u32::MAX),
    })
}

impl ShardStore {
    /// One page in key order.
    pub(crate) async fn page(self: &Arc<Self>, request: PageRequest) -> Result<Page, StoreError> {
        let shard = Arc::clone(self);
        self.pages
            .run(move |session| {
                let shard = Arc::clone(&shard);
                Box::pin(async move {
                    let BegunPage { table, horizon, storage_now, user_epoch, snapshot } =
                        session.begin_page(&shard, request.namespace, request.user).await?;
                    let (rows, more) = session.rows(table, &request, horizon).await?;
                    session.end_snapshot().await?;
                    Ok(Page { rows, last: !more, user_epoch, snapshot, storage_now })
                })
            })
            .await
    }

    /// One page, newest first.
    pub(crate) async fn recent(
        self: &Arc<Self>,
        request: RecentRequest,
    ) -> Result<Page, StoreError> {
        let shard = Arc::clone(self);
        self.pages
            .run(move |session| {
                let shard = Arc::clone(&shard);
                Box::pin(async move {
                    let BegunPage { table, horizon, storage_now, user_epoch, snapshot } =
                        session.begin_page(&shard, request.namespace, request.user).await?;
                    let arguments =
                        recent_arguments(table, &request, horizon).map_err(encode_error)?;
                    let query = sqlx::query_with(table.sql.recent.clone(), arguments);
                    let fetched =
                        query.fetch_all(&mut session.connection).await.map_err(read_error)?;
                    session.end_snapshot().await?;
                    let rows: Result<Vec<Row>, Failure> =
                        fetched.iter().map(|row| row_of(table, row)).collect();
                    let mut rows = rows?;
                    let last = rows.len() <= request.rows_max;
                    rows.truncate(request.rows_max);
                    Ok(Page { rows, last, user_epoch, snapshot, storage_now })
                })
            })
            .await
    }

    /// Which of the asked items are there. All from one snapshot: by one statement if they fit into
    /// one, else in a transaction. Where it may be late: as of that moment, or any since.
    pub(crate) async fn check(
        self: &Arc<Self>,
        namespace: NamespaceId,
        questions: Vec<Question>,
        late_until: Option<Instant>,
    ) -> Result<Answers, StoreError> {
        request::questions(&questions)?;
        let table = self.tables.get(namespace)?;
        let mut asked = Asked::new();
        let mut place = 0;
        for question in &questions {
            for item in &question.items {
                let wanted = match table.mapping.kind {
                    KindColumn::Constant(kind) => item.kind == kind,
                    KindColumn::Column(_) => true,
                };
                if wanted {
                    asked.entry((question.user, *item)).or_default().push(place);
                }
                place += 1;
            }
        }
        let mut keys: Vec<(UserId, Item)> = asked.keys().copied().collect();
        // In key order the server walks its pages once.
        keys.sort_unstable();
        let (found, snapshot) = self.find(namespace, keys, late_until).await?;
        let mut flat = vec![false; place];
        for place in found.iter().filter_map(|key| asked.get(key)).flatten() {
            flat[*place] = true;
        }
        let mut rest = flat.as_slice();
        let mut answers = Vec::with_capacity(questions.len());
        for question in &questions {
            let (of_question, others) = rest.split_at(question.items.len());
            answers.push(of_question.to_vec());
            rest = others;
        }
        Ok(Answers { found: answers, snapshot })
    }

    async fn find(
        self: &Arc<Self>,
        namespace: NamespaceId,
        keys: Vec<(UserId, Item)>,
        late_until: Option<Instant>,
    ) -> Result<Found, StoreError> {
        let keys: Arc<[(UserId, Item)]> = keys.into();
        if let Some(until) = late_until
            && let Some(found) = self.find_late(namespace, &keys, until).await?
        {
            return Ok(found);
        }
        let shard = Arc::clone(self);
        self.checks
            .run(move |session| {
                let (shard, keys) = (Arc::clone(&shard), Arc::clone(&keys));
                Box::pin(async move { session.find_all(&shard, namespace, &keys).await })
            })
            .await
    }

    /// What a namespace takes: counted one by one up to a bound, beyond it as the server estimates.
    pub(crate) async fn size(
        self: &Arc<Self>,
        namespace: NamespaceId,
    ) -> Result<HistorySize, StoreError> {
        let shard = Arc::clone(self);
        self.pages
            .run(move |session| {
                let shard = Arc::clone(&shard);
                Box::pin(async move {
                    let table = shard.tables.get(namespace).map_err(Failure::Store)?;
                    session.size(table).await
                })
            })
            .await
    }
}

/// What InnoDB takes for a row beside its columns: header, transaction and roll pointer.
const ROW_OVERHEAD_BYTES: u64 = 18;
/// The columns of a row, and of an entry of the time index.
const ROW_COLUMNS_BYTES: u64 = 25;

impl Session {
    async fn size(&mut self, table: &Table) -> Result<HistorySize, Failure> {
        let counted: i64 = sqlx::query_scalar(table.sql.count.clone())
            .fetch_one(&mut self.connection)
            .await
            .map_err(read_error)?;
        let counted = counted.unsigned_abs();
        let has_index = table.settings.time_index;
        if counted <= COUNT_ROWS_MAX {
            let rows_bytes = counted * (ROW_COLUMNS_BYTES + ROW_OVERHEAD_BYTES);
            let index_bytes = counted * (ROW_COLUMNS_BYTES + 5);
            let time_index_bytes = has_index.then_some(index_bytes);
            return Ok(HistorySize { rows: counted, rows_bytes, time_index_bytes, exact: true });
        }
        let (rows, rows_bytes, index_bytes): (u64, u64, u64) = sqlx::query_as(
            "SELECT CAST(table_rows AS UNSIGNED), CAST(data_length AS UNSIGNED), \
             CAST(index_length AS UNSIGNED) FROM information_schema.tables \
             WHERE table_schema = DATABASE() AND table_name = ?",
        )
        .bind(table.mapping.table.as_str())
        .fetch_one(&mut self.connection)
        .await
        .map_err(read_error)?;
        let time_index_bytes = has_index.then_some(index_bytes);
        Ok(HistorySize { rows: rows.max(counted), rows_bytes, time_index_bytes, exact: false })
    }
}
