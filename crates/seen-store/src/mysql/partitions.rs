//! Which partitions a table with buckets is to have, and getting there by one statement at a time.
//!
//! What counts is where partitions end, not what they are called: any layout that an absent worker, a
//! clock that was put back or an operator left behind is brought in order. A partition goes when all
//! of its buckets have expired, so that a row in one of several buckets is never lost too early.

use std::time::Duration;

use seen_filter::{Retention, StoreError, StoreErrorKind, UnixMillis};
use sqlx::{Connection as _, Executor as _, MySqlConnection, Row as _};

use super::connection::{Role, connect};
use super::ddl::{self, LAST, Partition, partition_name};
use super::dialect::{Dialect, ServerFacts, read_only};
use super::errors::{Failure, Stage};
use super::mapping::{Name, TableMapping};
use super::pool::{Session, not_primary};
use super::shard::ShardStore;
use super::sql::safe;
use crate::request::invalid;

/// Most partitions that one statement drops: nobody reaches the table meanwhile.
const DROPS_MAX: usize = 16;
/// How long a statement may wait for others to let go of the table, in seconds: whoever comes later
/// waits behind it.
const TABLE_WAIT_S: u32 = 1;

/// One step towards the right partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// These have expired.
    Drop(Vec<Partition>),
    /// Buckets that need a partition of their own are in this one. Its rows are kept.
    Split(Partition, Vec<Partition>),
    /// Nothing reaches to the end, so that later rows would be refused.
    Append(Vec<Partition>),
}

impl Change {
    /// The statement.
    fn sql(&self, mapping: &TableMapping) -> String {
        match self {
            Self::Drop(old) => ddl::drop_partitions(mapping, old),
            Self::Split(of, into) => ddl::split_partition(mapping, of, into),
            Self::Append(new) => ddl::append_partitions(mapping, new),
        }
    }

    /// The partitions that are there afterwards and were not before.
    pub(crate) fn added(&self) -> usize {
        match self {
            Self::Drop(_) => 0,
            Self::Split(_, into) => into.len().saturating_sub(1),
            Self::Append(new) => new.len(),
        }
    }

    /// The partitions that are gone afterwards.
    pub(crate) fn dropped(&self) -> usize {
        if let Self::Drop(old) = self { old.len() } else { 0 }
    }

    /// The change in a few words.
    pub(crate) fn what(&self) -> String {
        let listed = |all: &[Partition]| match all {
            [] => "nothing".to_owned(),
            [one] => one.name.as_str().to_owned(),
            [first, .., last] => {
                format!("{} to {} ({})", first.name.as_str(), last.name.as_str(), all.len())
            }
        };
        match self {
            Self::Drop(old) => format!("dropped {}", listed(old)),
            Self::Split(of, into) => format!("split {} into {}", of.name.as_str(), listed(into)),
            Self::Append(new) => format!("appended {}", listed(new)),
        }
    }
}

/// The next step from these partitions, ascending, to those that are right at a storage time; `None`
/// if they are.
pub(crate) fn next_change(
    present: &[Partition],
    retention: Retention,
    now: UnixMillis,
) -> Result<Option<Change>, StoreError> {
    let buckets = ddl::buckets(retention, now);
    let (horizon, end) = (u64::from(*buckets.start()), u64::from(*buckets.end()) + 1);
    let unused = |name: &str| present.iter().all(|known| known.name.as_str() != name);
    let named = |wish: String, end: Option<u64>| {
        let others = (2..).map(|n| format!("{wish}_{n}"));
        let name = std::iter::once(wish.clone()).chain(others).find(|name| unused(name));
        let name = Name::new("partition", &name.unwrap_or(wish))?;
        Ok::<_, StoreError>(Partition { name, end })
    };
    let ending_at = |end: u64| named(partition_name(end.saturating_sub(1)), Some(end));
    let reached = present.last().map_or(Some(0), |last| last.end);
    if let Some(reached) = reached {
        let mut new: Vec<_> =
            (reached.max(horizon) + 1..=end).map(ending_at).collect::<Result<_, _>>()?;
        new.push(named(LAST.to_owned(), None)?);
        return Ok(Some(Change::Append(new)));
    }
    let is_old = |partition: &&Partition| partition.end.is_some_and(|end| end <= horizon);
    let old: Vec<_> = present.iter().filter(is_old).take(DROPS_MAX).cloned().collect();
    if !old.is_empty() {
        return Ok(Some(Change::Drop(old)));
    }
    let mut begin = 0;
    for partition in present {
        let last = partition.end.map_or(end, |own| end.min(own.saturating_sub(1)));
        let mut ends: Vec<u64> = (begin.max(horizon) + 1..=last).collect();
        if ends.is_empty() {
            begin = partition.end.unwrap_or(u64::MAX);
            continue;
        }
        // What has expired already goes by itself. Only where rows are moved anyway: it costs no more
        // than a bucket's time to wait for.
        if begin < horizon {
            ends.insert(0, horizon);
        }
        let mut into: Vec<_> = ends.into_iter().map(ending_at).collect::<Result<_, _>>()?;
        into.push(partition.clone());
        return Ok(Some(Change::Split(partition.clone(), into)));
    }
    Ok(None)
}

impl Session {
    /// The partitions of a table, ascending.
    pub(crate) async fn partitions(
        &mut self,
        mapping: &TableMapping,
    ) -> Result<Vec<Partition>, Failure> {
        let failed = |error| Failure::Sql(Stage::Read, error);
        let rows = sqlx::query(
            "SELECT CAST(partition_method AS CHAR), CAST(partition_expression AS CHAR), \
             CAST(partition_name AS CHAR), CAST(partition_description AS CHAR) \
             FROM information_schema.partitions \
             WHERE table_schema = DATABASE() AND table_name = ? ORDER BY partition_ordinal_position",
        )
        .bind(mapping.table.as_str())
        .fetch_all(&mut self.connection)
        .await
        .map_err(failed)?;
        let mut partitions = Vec::with_capacity(rows.len());
        for row in &rows {
            let text = |column: usize| row.try_get::<Option<String>, _>(column).map_err(failed);
            let (method, expression) = (text(0)?, text(1)?);
            let (name, end) = (text(2)?, text(3)?);
            let one = partition(mapping, [method, expression, name, end]);
            partitions.push(one.map_err(Failure::Store)?);
        }
        Ok(partitions)
    }
}

/// Reads a partition's description. Whatever is not divided by the bucket is left alone: its ends
/// would say nothing about expiry.
fn partition(
    mapping: &TableMapping,
    [method, expression, name, end]: [Option<String>; 4],
) -> Result<Partition, StoreError> {
    let by_bucket = mapping.bucket.as_ref().is_some_and(|bucket| {
        expression.is_some_and(|by| by.trim_matches('`').eq_ignore_ascii_case(bucket.as_str()))
    });
    let (Some("RANGE"), true, Some(name), Some(end)) = (method.as_deref(), by_bucket, name, end)
    else {
        return Err(invalid(format!(
            "table {} is not partitioned by ranges of its bucket, so that expired rows cannot be \
             dropped; export it and import it into a namespace of another name",
            mapping.table
        )));
    };
    let end = match end.as_str() {
        "MAXVALUE" => None,
        number => Some(number.parse().map_err(|_| {
            invalid(format!("table {}: partition {name} ends at {number:?}", mapping.table))
        })?),
    };
    Ok(Partition { name: Name::new("partition", &name)?, end })
}

/// Makes a change, on a connection of its own: it may take longer than any other statement may.
pub(crate) async fn make(
    shard: &ShardStore,
    mapping: &TableMapping,
    change: &Change,
) -> Result<(), StoreError> {
    let address = shard.primary.primary()?.address;
    let place = format!("shard {} at {address}", shard.shard);
    let database = &shard.primary.database;
    let limit_ms = shard.options.partitions_timeout_ms;
    let changing = async {
        let opened = connect(&shard.options, &address, Some(database), Role::Page).await;
        let (mut connection, facts) = opened?;
        if facts.read_only {
            shard.primary.suspect();
            return Err(Failure::Store(not_primary(&address)));
        }
        let mut statements = vec![limits(facts.dialect, limit_ms)];
        if facts.dialect == Dialect::MariaDb && has_rocksdb(&mut connection).await? {
            statements.push(IN_STEPS.to_owned());
        }
        let failed = |error| Failure::Sql(Stage::Write, error);
        for sql in statements {
            sqlx::raw_sql(safe(sql)).execute(&mut connection).await.map_err(failed)?;
        }
        // Such a statement is no part of a transaction that could prove it: so right before it. Who may
        // do everything is not stopped by `read_only`, and nobody by a newer map.
        if !still_writes(&mut connection, &facts).await? {
            shard.primary.doubt();
            return Err(Failure::Store(not_primary(&address)));
        }
        let sql = safe(change.sql(mapping));
        sqlx::raw_sql(sql).execute(&mut connection).await.map_err(failed)?;
        // Politely, so that the server counts no aborted connection.
        let _ = connection.close().await;
        Ok(())
    };
    let done = tokio::time::timeout(Duration::from_millis(limit_ms), changing).await;
    let done = done.unwrap_or(Err(Failure::Silent(Stage::Write, limit_ms)));
    done.map_err(|failure: Failure| {
        if failure.consequence().suspect {
            shard.primary.suspect();
        }
        let error = failure.into_store_error(&place);
        match error.kind {
            // The statement may go on at the server: nothing was changed yet, or all of it will be.
            StoreErrorKind::Unavailable => error,
            kind => StoreError::new(kind, format!("{}: {}", mapping.table, error.message)),
        }
    })
}

/// True if a connection still leads to the server that it was made to, which takes writes of this map
/// (coherence row 51).
async fn still_writes(
    connection: &mut MySqlConnection,
    facts: &ServerFacts,
) -> Result<bool, Failure> {
    let failed = |error| Failure::Sql(Stage::Read, error);
    let sql = concat!("SELECT CAST(@@server_id AS UNSIGNED), ", read_only!());
    let row = connection.fetch_one(sqlx::raw_sql(sql)).await.map_err(failed)?;
    let server_id: u64 = row.try_get(0).map_err(failed)?;
    let read_only: i64 = row.try_get(1).map_err(failed)?;
    let is_same = facts.dialect.any_server() || server_id == facts.server_id;
    Ok(is_same && read_only == 0)
}

/// MyRocks locks every row that it moves, a million of them at most, unless it may commit in between.
/// Those are rows of partitions that nobody knows before the statement has come to its end.
const IN_STEPS: &str = "SET SESSION rocksdb_commit_in_the_middle = ON";

/// True if the server knows MyRocks: else it does not know its settings either.
async fn has_rocksdb(connection: &mut MySqlConnection) -> Result<bool, Failure> {
    let found: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM information_schema.engines \
         WHERE engine = 'ROCKSDB' AND support IN ('YES', 'DEFAULT')",
    )
    .fetch_one(connection)
    .await
    .map_err(|error| Failure::Sql(Stage::Read, error))?;
    Ok(found > 0)
}

/// The settings of a connection that changes partitions.
fn limits(dialect: Dialect, limit_ms: u64) -> String {
    let mut text = format!("SET SESSION lock_wait_timeout = {TABLE_WAIT_S}");
    // Elsewhere there is none for such statements.
    if dialect == Dialect::MariaDb {
        text += &format!(", max_statement_time = {}.{:03}", limit_ms / 1_000, limit_ms % 1_000);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MySqlOptions;
    use crate::mysql::{Login, MySqlStore, PasswordSource, ServerAddress, ShardServers, Tls};

    const RETENTION: Retention = Retention { span_ms: 30_000, bucket_ms: 10_000 };

    fn layout(text: &str) -> Vec<Partition> {
        let one = |part: &str| {
            let (name, end) = part.split_once('<').expect("a name and an end");
            Partition { name: Name::new("partition", name).expect("plain"), end: end.parse().ok() }
        };
        text.split_whitespace().map(one).collect()
    }

    fn told(layout: &[Partition]) -> String {
        let end = |p: &Partition| p.end.map_or("max".to_owned(), |end| end.to_string());
        let each: Vec<_> =
            layout.iter().map(|p| format!("{}<{}", p.name.as_str(), end(p))).collect();
        each.join(" ")
    }

    /// What a server makes of a change; fails if it would refuse it.
    fn changed(mut present: Vec<Partition>, change: &Change) -> Vec<Partition> {
        match change {
            Change::Drop(old) => present.retain(|partition| !old.contains(partition)),
            Change::Append(new) => present.extend(new.iter().cloned()),
            Change::Split(of, into) => {
                let at = present.iter().position(|partition| partition == of).expect("there");
                assert_eq!(into.last().map(|last| last.end), Some(of.end));
                present.splice(at..=at, into.iter().cloned());
            }
        }
        let ends: Vec<_> = present.iter().map(|p| p.end.unwrap_or(u64::MAX)).collect();
        assert!(ends.is_sorted_by(|a, b| a < b), "{}", told(&present));
        let mut names: Vec<_> = present.iter().map(|p| p.name.as_str()).collect();
        names.sort_unstable();
        assert!(names.windows(2).all(|two| two[0] != two[1]), "{}", told(&present));
        present
    }

    /// Brings a layout in order at a bucket; returns what it comes to, and how many steps that took.
    fn settled(text: &str, bucket: u64) -> (String, usize) {
        let mut present = layout(text);
        let now = UnixMillis::new(bucket * RETENTION.bucket_ms + 4_000);
        let horizon = u64::from(RETENTION.horizon_at(now));
        for steps in 0..100 {
            let Some(change) = next_change(&present, RETENTION, now).expect("a plan") else {
                return (told(&present), steps);
            };
            if let Change::Drop(old) = &change {
                assert!(old.iter().all(|p| p.end.is_some_and(|end| end <= horizon)), "{change:?}");
            }
            present = changed(present, &change);
        }
        panic!("no end: {}", told(&present));
    }

    #[test]
    fn every_layout_is_brought_in_order() {
        let right = "p7<8 p8<9 p9<10 p10<11 p11<12 p12<13 p13<14 p_later<max";
        for (before, bucket, after, steps) in [
            // As a table is made.
            (right, 10, right, 0),
            // A bucket later.
            (right, 11, "p8<9 p9<10 p10<11 p11<12 p12<13 p13<14 p14<15 p_later<max", 2),
            // Away for long: what expired meanwhile goes apart from what is kept.
            (right, 30, "p27<28 p28<29 p29<30 p30<31 p31<32 p32<33 p33<34 p_later<max", 3),
            // A hole in the middle, of which a part has expired.
            (
                "p5<6 p9<10 p_later<max",
                10,
                "p7<8 p8<9 p9<10 p10<11 p11<12 p12<13 p13<14 p_later<max",
                4,
            ),
            // One partition for everything.
            ("p_later<max", 10, right, 2),
            // The clock was far ahead once.
            (
                "p7<8 p900<901 p901<902 p_later<max",
                10,
                "p7<8 p8<9 p9<10 p10<11 p11<12 p12<13 p13<14 p900<901 p901<902 p_later<max",
                1,
            ),
            // None for later rows: that comes first.
            ("p7<8", 10, right, 1),
            ("p3<4", 10, right, 2),
            // Names that are taken.
            ("p8<8 p_later<max", 8, "p5<6 p6<7 p8<8 p8_2<9 p9<10 p10<11 p11<12 p_later<max", 3),
        ] {
            assert_eq!(settled(before, bucket), (after.to_owned(), steps), "{before} at {bucket}");
        }
    }

    #[test]
    fn many_partitions_go_by_and_by() {
        let ends: Vec<String> = (1..=100).map(|end| format!("p{}<{end}", end - 1)).collect();
        let (after, steps) = settled(&format!("{} p_later<max", ends.join(" ")), 90);
        assert!(after.starts_with("p87<88 ") && steps == 87_usize.div_ceil(DROPS_MAX), "{after}");
    }

    /// The connection is made to a server that takes writes: that they are not this store's any more is
    /// found out right before the statement.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn nothing_is_changed_by_whoever_may_not_write() {
        let server = seen_testbed::MariaDb::start().expect("a MariaDB");
        server.sql("CREATE DATABASE seen").expect("a database");
        let address = ServerAddress { host: "127.0.0.1".to_owned(), port: server.port() };
        let password = PasswordSource::None;
        let options = MySqlOptions {
            login: Login { user: "root".to_owned(), password, tls: Tls::Off },
            shards: vec![ShardServers {
                database: Name::new("database", "seen").expect("a name"),
                candidates: vec![address],
                witnesses: Vec::new(),
            }],
            map_epoch: 1,
            upkeep: false,
            ..MySqlOptions::default()
        };
        let mut namespace =
            seen_filter::NamespaceSettings::new(seen_filter::NamespaceId::new(0), "a");
        namespace.retention = Some(RETENTION);
        let namespaces = vec![namespace];
        MySqlStore::apply_schema(options.clone(), namespaces.clone()).await.expect("a schema");
        let store = MySqlStore::open(options, namespaces.clone()).await.expect("a store");
        let mapping = TableMapping::own(&namespaces[0]).expect("a mapping");
        let count = || {
            server.sql(
                "SELECT COUNT(*) FROM information_schema.partitions WHERE table_schema = 'seen' \
                 AND partition_name IS NOT NULL",
            )
        };
        let before: u64 = count().expect("partitions").trim().parse().expect("a number");
        let change = || {
            let first = server.sql(
                "SELECT partition_name FROM information_schema.partitions WHERE \
                 table_schema = 'seen' AND partition_ordinal_position = 1",
            );
            let name = Name::new("partition", first.expect("a name").trim()).expect("plain");
            Change::Drop(vec![Partition { name, end: Some(0) }])
        };
        make(&store.shards[0], &mapping, &change()).await.expect("changed");
        assert_eq!(count().expect("partitions").trim(), (before - 1).to_string());
        server.sql("UPDATE seen.seen_map SET epoch = 2").expect("a newer map");
        let refused = make(&store.shards[0], &mapping, &change()).await.expect_err("changed");
        assert!(refused.message.contains("takes no writes any more"), "{refused}");
        assert_eq!(count().expect("partitions").trim(), (before - 1).to_string(), "changed");
        store.close().await;
    }

    #[test]
    fn tables_divided_by_something_else_are_left_alone() {
        let mut settings =
            seen_filter::NamespaceSettings::new(seen_filter::NamespaceId::new(0), "a");
        settings.retention = Some(RETENTION);
        let mapping = TableMapping::own(&settings).expect("a mapping");
        let read = |texts: [&str; 4]| {
            partition(&mapping, texts.map(|text| Some(text.to_owned()).filter(|t| !t.is_empty())))
        };
        let one = read(["RANGE", "`bucket`", "p7", "8"]).expect("a partition");
        assert_eq!(told(&[one]), "p7<8");
        assert_eq!(read(["RANGE", "bucket", "p_later", "MAXVALUE"]).expect("one").end, None);
        for bad in [
            ["", "", "", ""],
            ["HASH", "`bucket`", "p0", ""],
            ["RANGE", "`user_id`", "p7", "8"],
            ["RANGE", "`bucket`", "p7", "ten"],
            ["RANGE", "`bucket`", "p`7", "8"],
        ] {
            read(bad).expect_err(bad[2]);
        }
    }
}
