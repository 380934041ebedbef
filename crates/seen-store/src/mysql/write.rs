//! One transaction: rows, removes and fences of the calls that share it.

use seen_filter::{UnixMillis, UserId};
use sqlx::mysql::MySqlArguments;
use sqlx::{Arguments as _, Executor as _, Row as _};

use super::arguments::{add_id, add_key};
use super::dialect::{Dialect, read_only, read_only_held};
use super::errors::{Failure, Stage};
use super::numbering::CommitNumber;
use super::plan::{AT_COMMIT, FenceRow, Key, Plan};
use super::pool::Session;
use super::shard::ShardStore;
use super::sql::{FORGET_ROWS_MAX, INSERT_ROWS_MAX, REMOVE_KEYS_MAX};
use super::tables::Table;

/// The GTID of a connection's own last transaction at a MySQL server; `AUTOMATIC` where it has none.
const OWN_GTID: &str = "SELECT gtid FROM performance_schema.events_transactions_current \
                        WHERE thread_id = PS_CURRENT_THREAD_ID()";

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

    pub(super) async fn begin_write(&mut self, shard: &ShardStore) -> Result<UnixMillis, Failure> {
        self.stage = Stage::Write;
        let begin = match self.facts.dialect {
            // Has no shared locks.
            Dialect::TiDb => concat!(
                "START TRANSACTION; SELECT CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS UNSIGNED), ",
                "CAST(@@server_id AS UNSIGNED), ",
                read_only!()
            ),
            _ => concat!(
                "START TRANSACTION; SELECT CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS UNSIGNED), ",
                "CAST(@@server_id AS UNSIGNED), ",
                read_only_held!()
            ),
        };
        let row = self.connection.fetch_one(sqlx::raw_sql(begin)).await.map_err(write_error)?;
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
    pub(super) async fn commit(&mut self) -> Result<Option<CommitNumber>, Failure> {
        self.stage = Stage::Commit;
        let failed = |error| Failure::Sql(Stage::Commit, error);
        let sql = match self.facts.dialect {
            // Its nodes number commits each by itself, unless they are told otherwise.
            Dialect::MariaDb if self.facts.is_galera => {
                self.connection.execute(sqlx::raw_sql("COMMIT")).await.map_err(failed)?;
                self.stage = Stage::Read;
                return Ok(None);
            }
            Dialect::MariaDb => "COMMIT; SELECT @@last_gtid",
            Dialect::TiDb => "COMMIT; SELECT @@tidb_last_txn_info",
            Dialect::MySql => {
                self.connection.execute(sqlx::raw_sql("COMMIT")).await.map_err(failed)?;
                let number = self.own_gtid().await;
                self.stage = Stage::Read;
                return Ok(number);
            }
        };
        let row = self.connection.fetch_one(sqlx::raw_sql(sql)).await.map_err(failed)?;
        self.stage = Stage::Read;
        let said: String = row.try_get(0).map_err(failed)?;
        Ok(self.changed(CommitNumber::read(self.facts.dialect, &said)))
    }

    /// The number of the last commit of this connection to a MySQL server. It is told by the
    /// performance schema, where that is on and may be read; once it is not, it is not asked again.
    ///
    /// A statement of its own: its error must not be taken for the commit's. Where the server falls
    /// silent over it, the call's limit ends it as one of unknown outcome.
    async fn own_gtid(&mut self) -> Option<CommitNumber> {
        if !self.tells_gtid {
            return None;
        }
        let asked = sqlx::query_scalar::<_, Option<String>>(OWN_GTID);
        match asked.fetch_optional(&mut self.connection).await {
            Ok(said) => {
                let number =
                    said.flatten().and_then(|said| CommitNumber::read(Dialect::MySql, &said));
                self.changed(number)
            }
            Err(error) => {
                self.tells_gtid = false;
                self.is_spent = !matches!(error, sqlx::Error::Database(_));
                None
            }
        }
    }

    /// The number of a commit, unless it is that of the connection's last one: also a server that has
    /// stopped to keep account shows that.
    fn changed(&mut self, number: Option<CommitNumber>) -> Option<CommitNumber> {
        let changed = number.is_some() && number != self.last_number;
        self.last_number = number.or(self.last_number);
        number.filter(|_| changed)
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
        for user in &fence.users {
            sqlx::query(
                "INSERT INTO seen_control (user_id, namespace, writer, seq, at_ms) \
                 VALUES (?, ?, ?, ?, ?) \
                 ON DUPLICATE KEY UPDATE seq = VALUES(seq), at_ms = VALUES(at_ms)",
            )
            .bind(user.get())
            .bind(shard.database_id(fence.feed.namespace))
            .bind(fence.writer.get())
            .bind(fence.seq.get())
            .bind(now.get())
            .execute(&mut self.connection)
            .await
            .map_err(write_error)?;
        }
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
