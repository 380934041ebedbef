//! One transaction: rows, removes and fences of the calls that share it.

use seen_filter::{UnixMillis, UserId};
use sqlx::mysql::MySqlArguments;
use sqlx::{Arguments as _, Executor as _, Row as _};

use super::dialect::{Dialect, read_only};
use super::errors::{Failure, Stage};
use super::plan::{AT_COMMIT, FenceRow, Key, Plan};
use super::pool::{CommitNumber, Session};
use super::read::{add_id, add_key};
use super::shard::ShardStore;
use super::sql::{FORGET_ROWS_MAX, INSERT_ROWS_MAX, REMOVE_KEYS_MAX};
use super::tables::Table;

fn write_error(error: sqlx::Error) -> Failure {
    Failure::Sql(Stage::Write, error)
}

fn encode_error(error: sqlx::error::BoxDynError) -> Failure {
    write_error(sqlx::Error::Encode(error))
}

impl Session {
    /// Writes everything, or nothing. Returns the commit's number where the server tells it and
    /// something was changed.
    pub(crate) async fn write(
        &mut self,
        shard: &ShardStore,
        plan: &Plan,
    ) -> Result<Option<CommitNumber>, Failure> {
        let now = self.begin_write(shard).await?;
        for (table, todo) in shard.tables.iter().zip(&plan.tables) {
            for keys in todo.removes.chunks(REMOVE_KEYS_MAX) {
                self.remove(table, keys).await?;
            }
            for rows in todo.appends.chunks(INSERT_ROWS_MAX) {
                self.insert(table, rows, now, false).await?;
            }
            for rows in todo.replaces.chunks(INSERT_ROWS_MAX) {
                self.insert(table, rows, now, true).await?;
            }
        }
        for fence in &plan.fences {
            self.fence(shard, fence, now).await?;
        }
        self.commit().await
    }

    async fn begin_write(&mut self, shard: &ShardStore) -> Result<UnixMillis, Failure> {
        self.stage = Stage::Write;
        let row = self
            .connection
            .fetch_one(sqlx::raw_sql(concat!(
                "START TRANSACTION; SELECT CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS UNSIGNED), ",
                "CAST(@@server_id AS UNSIGNED), ",
                read_only!()
            )))
            .await
            .map_err(write_error)?;
        let server_now: u64 = row.try_get(0).map_err(write_error)?;
        let server_id: u64 = row.try_get(1).map_err(write_error)?;
        let read_only: i64 = row.try_get(2).map_err(write_error)?;
        // `read_only` does not stop a user who may do everything: what such a one wrote to a demoted
        // server would be acknowledged and lost.
        self.prove(server_id, read_only != 0)?;
        Ok(shard.commit_time(UnixMillis::new(server_now)))
    }

    /// Makes the transaction durable. The number is `None` where the server tells none, or tells the
    /// same as after this connection's last commit: then this one changed nothing.
    async fn commit(&mut self) -> Result<Option<CommitNumber>, Failure> {
        self.stage = Stage::Commit;
        let failed = |error| Failure::Sql(Stage::Commit, error);
        let sql = match self.facts.dialect {
            Dialect::MariaDb => "COMMIT; SELECT @@last_gtid",
            Dialect::TiDb => "COMMIT; SELECT @@tidb_last_txn_info",
            Dialect::MySql => {
                self.connection.execute(sqlx::raw_sql("COMMIT")).await.map_err(failed)?;
                self.stage = Stage::Read;
                return Ok(None);
            }
        };
        let row = self.connection.fetch_one(sqlx::raw_sql(sql)).await.map_err(failed)?;
        self.stage = Stage::Read;
        let said: String = row.try_get(0).map_err(failed)?;
        let number = match self.facts.dialect {
            Dialect::MariaDb => gtid_number(&said),
            _ => commit_ts(&said),
        };
        let changed = number.is_some() && number != self.last_number;
        self.last_number = number;
        Ok(number.filter(|_| changed))
    }

    /// Inserts at most [`INSERT_ROWS_MAX`] rows. The statement's spare places repeat the last row,
    /// which changes nothing.
    async fn insert(
        &mut self,
        table: &Table,
        rows: &[(Key, i64)],
        now: UnixMillis,
        replace: bool,
    ) -> Result<(), Failure> {
        let Some(last) = rows.last() else { return Ok(()) };
        let (size, sql) = table.sql.insert(rows.len(), replace);
        let spare = std::iter::repeat_n(last, size.saturating_sub(rows.len()));
        let bucket = table.bucket(now);
        let mut arguments = MySqlArguments::default();
        arguments.reserve(size * 5, size * 30);
        for (key, time) in rows.iter().chain(spare) {
            add_key(&mut arguments, table, *key).map_err(encode_error)?;
            if table.mapping.time.is_some() {
                let time = if *time == AT_COMMIT { now.get() } else { time.cast_unsigned() };
                arguments.add(time).map_err(encode_error)?;
            }
            if table.has_buckets() {
                arguments.add(bucket).map_err(encode_error)?;
            }
        }
        let query = sqlx::query_with(sql, arguments);
        query.execute(&mut self.connection).await.map_err(write_error)?;
        Ok(())
    }

    /// Removes at most [`REMOVE_KEYS_MAX`] rows. Spare places repeat the last key.
    async fn remove(&mut self, table: &Table, keys: &[Key]) -> Result<(), Failure> {
        let Some(last) = keys.last() else { return Ok(()) };
        let (size, sql) = table.sql.remove(keys.len());
        let spare = std::iter::repeat_n(last, size.saturating_sub(keys.len()));
        let mut arguments = MySqlArguments::default();
        for key in keys.iter().chain(spare) {
            add_key(&mut arguments, table, *key).map_err(encode_error)?;
        }
        let query = sqlx::query_with(sql, arguments);
        query.execute(&mut self.connection).await.map_err(write_error)?;
        Ok(())
    }

    async fn fence(
        &mut self,
        shard: &ShardStore,
        fence: &FenceRow,
        now: UnixMillis,
    ) -> Result<(), Failure> {
        sqlx::query(
            "INSERT INTO seen_control (user_id, namespace, writer, seq, at_ms) \
             VALUES (?, ?, ?, ?, ?) ON DUPLICATE KEY UPDATE seq = VALUES(seq), at_ms = VALUES(at_ms)",
        )
        .bind(0_u64)
        .bind(shard.database_id(fence.feed.namespace))
        .bind(fence.writer.get())
        .bind(fence.seq.get())
        .bind(now.get())
        .execute(&mut self.connection)
        .await
        .map_err(write_error)?;
        Ok(())
    }

    /// Raises a user's epoch in the control table (coherence row 49).
    pub(crate) async fn raise_epoch(
        &mut self,
        shard: &ShardStore,
        namespace_id: u16,
        user: UserId,
    ) -> Result<(u64, Option<CommitNumber>), Failure> {
        let now = self.begin_write(shard).await?;
        sqlx::query(
            "INSERT INTO seen_control (user_id, namespace, writer, seq, at_ms) \
             VALUES (?, ?, 0, 1, ?) ON DUPLICATE KEY UPDATE seq = seq + 1, at_ms = VALUES(at_ms)",
        )
        .bind(user.get())
        .bind(namespace_id)
        .bind(now.get())
        .execute(&mut self.connection)
        .await
        .map_err(write_error)?;
        let epoch: u64 = sqlx::query_scalar(
            "SELECT seq FROM seen_control WHERE user_id = ? AND namespace = ? AND writer = 0",
        )
        .bind(user.get())
        .bind(namespace_id)
        .fetch_one(&mut self.connection)
        .await
        .map_err(write_error)?;
        Ok((epoch, self.commit().await?))
    }

    /// Removes some of a user's rows in a transaction of their own. Returns how many, and the
    /// commit's number.
    pub(crate) async fn remove_some(
        &mut self,
        shard: &ShardStore,
        table: &Table,
        user: UserId,
    ) -> Result<(u64, Option<CommitNumber>), Failure> {
        self.begin_write(shard).await?;
        let mut arguments = MySqlArguments::default();
        add_id(&mut arguments, user.get(), table.types.user_signed).map_err(encode_error)?;
        let removed = sqlx::query_with(table.sql.forget.clone(), arguments)
            .execute(&mut self.connection)
            .await
            .map_err(write_error)?
            .rows_affected();
        debug_assert!(removed <= FORGET_ROWS_MAX);
        Ok((removed, self.commit().await?))
    }
}

/// The sequence number of a MariaDB GTID, `domain-server-sequence`. A list of several domains has no
/// single number.
fn gtid_number(gtid: &str) -> Option<CommitNumber> {
    let mut parts = gtid.split('-');
    let mut part = || parts.next()?.parse::<u64>().ok();
    let (domain, server, number) = (part()?, part()?, part()?);
    if parts.next().is_some() {
        return None;
    }
    let small = |part: u64| u32::try_from(part).ok();
    Some(CommitNumber { domain: small(domain)?, server: small(server)?, number })
}

/// The commit timestamp in TiDB's description of the last transaction.
fn commit_ts(info: &str) -> Option<CommitNumber> {
    let after = info.split("\"commit_ts\":").nth(1)?;
    let digits: String = after.trim_start().chars().take_while(char::is_ascii_digit).collect();
    let number = digits.parse().ok().filter(|ts| *ts > 0)?;
    Some(CommitNumber { domain: 0, server: 0, number })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commit_numbers_are_read() {
        assert_eq!(gtid_number("3-1-42"), Some(CommitNumber { domain: 3, server: 1, number: 42 }));
        assert_eq!(gtid_number(""), None);
        assert_eq!(gtid_number("0-1-42,1-1-7"), None);
        let info = r#"{"txn_scope":"global","start_ts":45,"commit_ts":462912,"mode":"2pc"}"#;
        assert_eq!(commit_ts(info), Some(CommitNumber { domain: 0, server: 0, number: 462_912 }));
        assert_eq!(commit_ts("{}"), None);
    }
}
