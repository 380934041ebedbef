//! Pages, listings and point checks. Each is a single statement, and so a single snapshot, which
//! returns the commit log's head together with the rows.

use std::fmt::Write as _;
use std::sync::Arc;

use seen_filter::history::{Answers, Page, PageRequest, Question, RecentRequest, Row};
use seen_filter::{Item, NamespaceId, StoreError, StoreErrorKind, UnixMillis, UserEpoch};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection};

use super::connection::{Lease, ReadPool};
use super::errors::{Stage, map};
use super::inner::Inner;
use super::namespaces::{Horizon, Table};
use super::stats::NamespaceSize;
use super::tail::Head;
use crate::request::{self, TIME_MS_MAX};

/// Runs one query on a connection of the pool and returns its only row.
pub(crate) async fn one_row<'q>(
    inner: &Inner,
    pool: &Arc<ReadPool>,
    query: sqlx::query::Query<'q, sqlx::Sqlite, sqlx::sqlite::SqliteArguments>,
) -> Result<SqliteRow, StoreError> {
    let mut lease = pool.acquire().await?;
    let fetched = query.fetch_one(lease.get()?).await;
    settle(inner, &mut lease, fetched)
}

/// Maps an error of a read, and drops a connection whose thread is gone.
pub(crate) fn settle<T>(
    inner: &Inner,
    lease: &mut Lease,
    fetched: Result<T, sqlx::Error>,
) -> Result<T, StoreError> {
    fetched.map_err(|error| {
        if matches!(error, sqlx::Error::WorkerCrashed) {
            lease.discard();
        }
        map(&error, Stage::Read, &inner.options.path)
    })
}

impl Inner {
    /// One page in key order.
    pub(crate) async fn page(&self, request: PageRequest) -> Result<Page, StoreError> {
        request::page_rows(request.rows_max)?;
        let table = self.tables.get(request.namespace)?;
        let storage_now = self.options.clock.now();
        let horizon = table.horizon(storage_now);
        // No kind is below 0, so that this key comes before every row.
        let after = request.after.map_or((-1, 0), raw);
        let query = sqlx::query(table.sql.page.clone())
            .bind(horizon.bucket)
            .bind(horizon.zero)
            .bind(i64::from(table.file_id))
            .bind(request.user.get().cast_signed())
            .bind(after.0)
            .bind(after.1)
            .bind(request.rows_max as i64 + 1);
        let row = one_row(self, &self.pages, query).await?;
        let mut page = self.page_of(&row, storage_now, request.rows_max)?;
        // The order of what an aggregate collects is not promised in words.
        page.rows.sort_unstable_by_key(|row| raw(row.item));
        Ok(cut(page, request.rows_max))
    }

    /// One page, newest first.
    pub(crate) async fn recent(&self, request: RecentRequest) -> Result<Page, StoreError> {
        request::page_rows(request.rows_max)?;
        let table = self.tables.get(request.namespace)?;
        if !table.settings.time_index {
            return Err(request::not_kept(&table.settings.name));
        }
        let storage_now = self.options.clock.now();
        let horizon = table.horizon(storage_now);
        let bound = |time: UnixMillis| time.get().min(TIME_MS_MAX).cast_signed();
        // No time lies after the last one, and no kind after 255: this key comes after every row.
        let (time, (kind, item)) =
            request.before.map_or((i64::MAX, (256, 0)), |(time, item)| (bound(time), raw(item)));
        let query = sqlx::query(table.sql.recent.clone())
            .bind(horizon.bucket)
            .bind(horizon.zero)
            .bind(i64::from(table.file_id))
            .bind(request.user.get().cast_signed())
            .bind(time)
            .bind(kind)
            .bind(item)
            .bind(bound(request.from))
            .bind(bound(request.until))
            .bind(request.rows_max as i64 + 1);
        let row = one_row(self, &self.pages, query).await?;
        let mut page = self.page_of(&row, storage_now, request.rows_max)?;
        page.rows.sort_unstable_by_key(|row| std::cmp::Reverse((row.marked_at, raw(row.item))));
        Ok(cut(page, request.rows_max))
    }

    fn page_of(
        &self,
        row: &SqliteRow,
        storage_now: UnixMillis,
        rows_max: usize,
    ) -> Result<Page, StoreError> {
        let epoch: Option<i64> = self.column(row, 2)?;
        Ok(Page {
            rows: self.rows_of(row, rows_max)?,
            last: false,
            user_epoch: UserEpoch::new(u32::try_from(epoch.unwrap_or(0)).unwrap_or(u32::MAX)),
            snapshot: self.snapshot(self.head_of(row)?),
            storage_now,
        })
    }

    /// The rows in columns 3 to 6, each a list.
    fn rows_of(&self, row: &SqliteRow, rows_max: usize) -> Result<Vec<Row>, StoreError> {
        let column = |n: usize| self.column::<Option<&str>>(row, n);
        let Some(kinds) = column(3)? else { return Ok(Vec::new()) };
        let (items, times, buckets) = (column(4)?, column(5)?, column(6)?);
        let mut items = numbers(items.unwrap_or(""));
        let mut times = numbers(times.unwrap_or(""));
        let mut buckets = numbers(buckets.unwrap_or(""));
        let mut rows = Vec::with_capacity(rows_max.min(kinds.len()) + 1);
        for kind in numbers(kinds) {
            let read = (|| {
                let kind = u8::try_from(kind?).ok()?;
                let item = items.next()??;
                let time = times.next()??;
                let bucket = u32::try_from(buckets.next()??).ok()?;
                Some(Row {
                    item: Item::new(kind, item.cast_unsigned()),
                    marked_at: UnixMillis::new(time.cast_unsigned()),
                    bucket,
                })
            })();
            rows.push(read.ok_or_else(|| self.damaged("a row"))?);
        }
        Ok(rows)
    }

    /// Which of the asked items are there.
    pub(crate) async fn check(
        &self,
        namespace: NamespaceId,
        questions: Vec<Question>,
    ) -> Result<Answers, StoreError> {
        request::questions(&questions)?;
        let table = self.tables.get(namespace)?;
        let horizon = table.horizon(self.options.clock.now());
        let row = match one_user_and_kind(&questions) {
            Some((user, kind)) => {
                let query = sqlx::query(table.sql.check_user.clone())
                    .bind(horizon.bucket)
                    .bind(horizon.zero)
                    .bind(json_items(&questions))
                    .bind(user)
                    .bind(kind);
                one_row(self, &self.checks, query).await?
            }
            None => self.check_many(table, horizon, &questions).await?,
        };
        let snapshot = self.snapshot(self.head_of(&row)?);
        let found = self.column::<Option<&str>>(&row, 2)?.unwrap_or("");
        let total = questions.iter().map(|q| q.items.len()).sum();
        let mut flat = vec![false; total];
        for index in numbers(found) {
            let place = index.and_then(|i| flat.get_mut(usize::try_from(i).ok()?));
            *place.ok_or_else(|| self.damaged("an answer"))? = true;
        }
        let mut rest = flat.as_slice();
        let mut found = Vec::with_capacity(questions.len());
        for question in &questions {
            let (of_question, others) = rest.split_at(question.items.len());
            found.push(of_question.to_vec());
            rest = others;
        }
        Ok(Answers { found, snapshot })
    }

    async fn check_many(
        &self,
        table: &Table,
        horizon: Horizon,
        questions: &[Question],
    ) -> Result<SqliteRow, StoreError> {
        let query = sqlx::query(table.sql.check_many.clone())
            .bind(horizon.bucket)
            .bind(horizon.zero)
            .bind(json_keys(questions));
        one_row(self, &self.checks, query).await
    }

    /// The size of every namespace, by reading all of it.
    pub(crate) async fn measure(&self) -> Result<Vec<NamespaceSize>, StoreError> {
        let mut sizes = Vec::with_capacity(self.tables.len());
        for table in self.tables.iter() {
            let query = sqlx::query(table.sql.measure.clone());
            let row = one_row(self, &self.pages, query).await?;
            sizes.push(NamespaceSize {
                name: table.settings.name.clone(),
                rows: self.column::<i64>(&row, 0)?.unsigned_abs(),
                bytes: self.column::<i64>(&row, 1)?.unsigned_abs(),
            });
        }
        Ok(sizes)
    }

    /// The head in columns 0 and 1.
    pub(crate) fn head_of(&self, row: &SqliteRow) -> Result<Head, StoreError> {
        let timeline: i64 = self.column(row, 0)?;
        let position: i64 = self.column(row, 1)?;
        Ok(Head { timeline: timeline.cast_unsigned(), position: position.cast_unsigned() })
    }

    pub(crate) fn column<'r, T>(&self, row: &'r SqliteRow, column: usize) -> Result<T, StoreError>
    where
        T: sqlx::Decode<'r, sqlx::Sqlite> + sqlx::Type<sqlx::Sqlite>,
    {
        row.try_get(column).map_err(|e| map(&e, Stage::Read, &self.options.path))
    }

    pub(crate) fn damaged(&self, what: &str) -> StoreError {
        StoreError::new(
            StoreErrorKind::Corrupt,
            format!("reading {}: {what} is damaged; restore a backup", self.options.path.display()),
        )
    }
}

/// The store's head, read by itself.
pub(crate) async fn read_head(connection: &mut SqliteConnection) -> Result<Head, sqlx::Error> {
    let (timeline, position): (i64, i64) =
        sqlx::query_as("SELECT timeline, head FROM store").fetch_one(connection).await?;
    Ok(Head { timeline: timeline.cast_unsigned(), position: position.cast_unsigned() })
}

/// An item's key as the store orders it.
fn raw(item: Item) -> (i64, i64) {
    (item.kind.get().into(), item.id.get().cast_signed())
}

/// Drops the row that was asked for only to see whether there is one.
fn cut(mut page: Page, rows_max: usize) -> Page {
    page.last = page.rows.len() <= rows_max;
    page.rows.truncate(rows_max);
    page
}

/// The numbers of a comma-separated list; `None` in place of what is none.
pub(crate) fn numbers(list: &str) -> impl Iterator<Item = Option<i64>> {
    let words = if list.is_empty() { None } else { Some(list.split(',')) };
    words.into_iter().flatten().map(|word| word.parse().ok())
}

/// The user and kind that all questions are about, if there is only one of each: then the keys are
/// looked up in one stretch of the table, at half the price.
fn one_user_and_kind(questions: &[Question]) -> Option<(i64, i64)> {
    let user = questions.first()?.user;
    let kind = questions.iter().find_map(|q| q.items.first())?.kind;
    let is_one =
        questions.iter().all(|q| q.user == user && q.items.iter().all(|item| item.kind == kind));
    is_one.then_some((user.get().cast_signed(), kind.get().into()))
}

fn json_items(questions: &[Question]) -> String {
    json(questions, |text, _, item| {
        let _ = write!(text, "{}", item.id.get().cast_signed());
    })
}

fn json_keys(questions: &[Question]) -> String {
    json(questions, |text, user, item| {
        let (kind, id) = raw(item);
        let _ = write!(text, "[{user},{kind},{id}]");
    })
}

fn json(questions: &[Question], mut one: impl FnMut(&mut String, i64, Item)) -> String {
    let mut text = String::from("[");
    for question in questions {
        let user = question.user.get().cast_signed();
        for item in &question.items {
            if text.len() > 1 {
                text.push(',');
            }
            one(&mut text, user, *item);
        }
    }
    text.push(']');
    text
}
