//! The words of `mysql.engine`: tables of MyRocks and of compressed InnoDB pass what plain InnoDB
//! passes, on MariaDB. MyRocks where its plugin is installed: `apt-get install mariadb-plugin-rocksdb`.

#[path = "servers/followed.rs"]
mod followed;
#[allow(dead_code, reason = "shared by test programs, which use different parts")]
mod servers;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};

use seen_filter::NamespaceSettings;
use seen_store::conformance::Fixture;
use seen_store::mysql::Engine;
use seen_store::{MySqlOptions, MySqlStore, StorageClock};
use seen_testbed::{MariaDb, Server, or_skip};

/// A server, and how tables are laid down there.
#[derive(Clone, Copy)]
struct Laid {
    server: &'static Server,
    engine: Engine,
}

/// With MyRocks, or `None`, loudly, where its plugin is missing.
fn rocksdb() -> Option<Laid> {
    static SERVER: OnceLock<Option<MariaDb>> = OnceLock::new();
    let server = SERVER.get_or_init(|| or_skip(MariaDb::builder().with_rocksdb().start()));
    server.as_deref().map(|server| Laid { server, engine: Engine::RocksDb })
}

fn compressed() -> Option<Laid> {
    static SERVER: OnceLock<MariaDb> = OnceLock::new();
    let server = SERVER.get_or_init(|| MariaDb::start().expect("a MariaDB"));
    Some(Laid { server, engine: Engine::Compressed })
}

impl Laid {
    /// Options for a store in a new database.
    fn options(self) -> MySqlOptions {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let database = format!("laid_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        self.server.sql(&format!("CREATE DATABASE {database}")).expect("a database");
        let options = servers::options(self.server.port(), &database);
        MySqlOptions { engine: self.engine, ..options }
    }
}

impl Fixture for Laid {
    type Store = MySqlStore;

    async fn open(
        &self,
        namespaces: Vec<NamespaceSettings>,
        clock: StorageClock,
    ) -> Arc<MySqlStore> {
        // A forget waits for the limit of a write.
        let options =
            MySqlOptions { clock: Some(clock), write_timeout_ms: 1_000, ..self.options() };
        servers::store(options, namespaces).await
    }
}

/// What a kind of table needs, or the test ends here.
macro_rules! on {
    ($kind:ident) => {
        match crate::$kind() {
            Some(laid) => laid,
            None => return,
        }
    };
}

mod in_rocksdb {
    use seen_store::conformance_tests;

    use crate::followed::Followed;

    conformance_tests!(
        Followed(on!(rocksdb)),
        tokio::test(flavor = "multi_thread", worker_threads = 2)
    );
}

mod in_compressed_pages {
    use seen_store::conformance_tests;

    use crate::followed::Followed;

    conformance_tests!(
        Followed(on!(compressed)),
        tokio::test(flavor = "multi_thread", worker_threads = 2)
    );
}

/// What a test asks of a server with MyRocks.
mod doings {
    use std::collections::BTreeSet;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use seen_filter::history::{PageRequest, Question, Write, WriteOp};
    use seen_filter::{
        History as _, Item, NamespaceId, NamespaceSettings, Retention, Scan as _, Shard,
        StoreErrorKind, UserId,
    };
    use seen_store::conformance::ManualClock;
    use seen_store::mysql::{
        Engine, Examination, ExamineOptions, Finding, ROCKSDB_CF_OPTIONS, Severity,
    };
    use seen_store::{MySqlOptions, MySqlStore};
    use seen_testbed::{MariaDb, or_skip};
    use sqlx::{Connection as _, Executor as _, MySqlConnection};

    use crate::servers;
    use crate::servers::store;

    const NS: NamespaceId = NamespaceId::new(0);

    fn first() -> NamespaceSettings {
        NamespaceSettings::new(NS, "first")
    }

    /// A server of the test's own with MyRocks, or `None`, loudly, where its plugin is missing.
    fn own_server(arguments: &[&str]) -> Option<MariaDb> {
        let server = or_skip(MariaDb::builder().with_rocksdb().arguments(arguments).start())?;
        server.sql("CREATE DATABASE d").expect("a database");
        Some(server)
    }

    fn options(server: &MariaDb, engine: Engine) -> MySqlOptions {
        MySqlOptions { engine, ..servers::options(server.port(), "d") }
    }

    async fn mark(store: &MySqlStore, user: u64, ids: impl IntoIterator<Item = u64>) {
        let items = ids.into_iter().map(|id| (Item::new(1, id), None)).collect();
        let write = Write { namespace: NS, user: UserId::new(user), op: WriteOp::Append, items };
        store.write(vec![write]).await.expect("a write");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn tables_are_as_the_word_says() {
        let Some(server) = own_server(&[]) else { return };
        for (engine, expected) in [
            (Engine::InnoDb, "InnoDB"),
            (Engine::Compressed, "InnoDB\t`PAGE_COMPRESSED`='1'"),
            (Engine::RocksDb, "ROCKSDB"),
        ] {
            server.sql("DROP DATABASE d; CREATE DATABASE d").expect("a database");
            let mut settings = first();
            settings.time_index = true;
            let made = MySqlStore::apply_schema(options(&server, engine), vec![settings]).await;
            made.expect("a schema");
            let form = "SELECT engine, create_options FROM information_schema.tables \
                        WHERE table_schema = 'd' AND table_name = 'history_first'";
            assert_eq!(server.sql(form).expect("a table").trim(), expected);
        }
    }

    /// MySQL has no such option of a table; MyRocks it has not either.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn on_mysql_compressed_pages_have_a_size() {
        let Some(server) = servers::mysql() else { return };
        let options = MySqlOptions { engine: Engine::Compressed, ..server.options() };
        let database = options.shards[0].database.as_str().to_owned();
        let store = store(options.clone(), vec![first()]).await;
        mark(&store, 1, 0..10).await;
        store.close().await;
        let form = server.sql(&format!(
            "SELECT row_format, create_options FROM information_schema.tables \
             WHERE table_schema = '{database}' AND table_name = 'history_first'"
        ));
        let form = form.expect("a table");
        assert!(form.starts_with("Compressed\t") && form.contains("KEY_BLOCK_SIZE=8"), "{form}");
        let rocksdb = MySqlOptions { engine: Engine::RocksDb, ..server.options() };
        let refused = MySqlStore::apply_schema(rocksdb, vec![first()]).await;
        let refused = refused.expect_err("there is no such engine");
        assert!(refused.message.contains("a plugin of MariaDB"), "{refused}");
    }

    /// Rows move between partitions, more of them than one transaction of MyRocks may lock.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn partitions_of_many_rows_are_split() {
        let Some(server) = own_server(&["--rocksdb-max-row-locks=1000"]) else { return };
        let clock = ManualClock::at(100 * 10_000);
        let mut settings = first();
        settings.retention = Some(Retention { span_ms: 30_000, bucket_ms: 10_000 });
        settings.time_index = true;
        let options = MySqlOptions {
            clock: Some(clock.clock()),
            upkeep: false,
            ..options(&server, Engine::RocksDb)
        };
        let store = store(options, vec![settings]).await;
        // Nobody makes partitions meanwhile: all goes to the last one.
        clock.set(120 * 10_000);
        for part in 0..25 {
            mark(&store, part, part * 100..part * 100 + 100).await;
        }
        let plainly = server.sql(
            "ALTER TABLE d.history_first REORGANIZE PARTITION p_later INTO (PARTITION p120 VALUES \
             LESS THAN (121), PARTITION p_later VALUES LESS THAN MAXVALUE)",
        );
        let refused = plainly.expect_err("too many rows for one transaction").to_string();
        assert!(refused.contains("rocksdb_max_row_locks"), "{refused}");
        let report = store.upkeep_now().await.expect("upkeep");
        assert!(report.partitions_added > 0 && report.partitions_dropped > 0, "{report:?}");
        let rows = |from: &str| {
            let count = server.sql(&format!("SELECT COUNT(*) FROM d.history_first{from}"));
            count.expect("a number").trim().parse::<u64>().expect("a number")
        };
        assert_eq!(
            [rows(""), rows(" PARTITION (p120)"), rows(" FORCE INDEX (by_time)")],
            [2_500; 3]
        );
        for part in 0..25 {
            let items = (part * 100..part * 100 + 100).map(|id| Item::new(1, id)).collect();
            let question = Question { user: UserId::new(part), items };
            let answers = store.check(NS, vec![question]).await.expect("answers");
            assert!(answers.found[0].iter().all(|found| *found), "of {part}");
        }
        store.close().await;
    }

    /// Marks in MyRocks and fences in InnoDB share transactions: after a crash both are there or none,
    /// and what the binary log says is what there is.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_crash_leaves_marks_fences_and_the_log_as_one() {
        let Some(server) = own_server(&[]) else { return };
        let options = options(&server, Engine::RocksDb);
        MySqlStore::apply_schema(options, vec![first()]).await.expect("a schema");
        let followed = MariaDb::builder().with_rocksdb().replica_of(&server).start();
        let follower = followed.expect("a replica");
        let url = format!("mysql://root@127.0.0.1:{}/d", server.port());
        let mut acknowledged = BTreeSet::new();
        for round in 1..=4_u64 {
            let writers: Vec<_> =
                (0..8).map(|writer| write_both(url.clone(), round, writer)).collect();
            let writers: Vec<_> = writers.into_iter().map(tokio::spawn).collect();
            // In the middle of it all.
            tokio::task::block_in_place(|| {
                let limit = std::time::Duration::from_secs(60);
                let enough = || {
                    let count = server.sql(&format!(
                        "SELECT COUNT(*) > 200 FROM d.seen_control WHERE namespace = {round}"
                    ));
                    (count.is_ok_and(|count| count.trim() == "1")).then_some(())
                };
                seen_testbed::until(limit, enough).expect("writes");
                server.kill_9().expect("killed");
            });
            for writer in writers {
                acknowledged.extend(writer.await.expect("it ends"));
            }
            server.restart().expect("restarted");
        }
        follower.catch_up_with(&server).expect("all of it");
        let ids = |server: &MariaDb, column: &str, table: &str| -> BTreeSet<u64> {
            let rows = server.sql(&format!("SELECT {column} FROM d.{table}")).expect("rows");
            rows.lines().map(|line| line.parse().expect("a number")).collect()
        };
        let marks = ids(&server, "item_id", "history_first");
        assert!(acknowledged.len() > 800 && marks.is_superset(&acknowledged));
        assert_eq!(marks, ids(&server, "seq", "seen_control"));
        assert_eq!(marks, ids(&follower, "item_id", "history_first"));
        assert_eq!(marks, ids(&follower, "seq", "seen_control"));
    }

    /// Writes a mark and a fence in each transaction until the server is gone. The ids acknowledged.
    async fn write_both(url: String, round: u64, writer: u64) -> Vec<u64> {
        let mut connection = MySqlConnection::connect(&url).await.expect("a connection");
        let mut acknowledged = Vec::new();
        for n in 0.. {
            let id = (round << 40) | (writer << 32) | n;
            let mark = format!("INSERT INTO history_first VALUES ({writer}, 1, {id}, {id})");
            let fence =
                format!("INSERT INTO seen_control VALUES ({writer}, {round}, {id}, {id}, 1)");
            // Either first.
            let (one, other) = if n % 2 == 0 { (mark, fence) } else { (fence, mark) };
            let all = format!("START TRANSACTION; {one}; {other}; COMMIT");
            let done = connection.execute(sqlx::raw_sql(sqlx::AssertSqlSafe(all))).await;
            if done.is_err() {
                break;
            }
            acknowledged.push(id);
        }
        acknowledged
    }

    /// Rule R2: what was committed up to a position of the binary log is seen by a read that begins
    /// after it, in MyRocks as well.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_a_position_names_is_seen_by_later_pages() {
        let Some(server) = own_server(&[]) else { return };
        let store = store(options(&server, Engine::RocksDb), vec![first()]).await;
        let ended = Arc::new(AtomicBool::new(false));
        let writer = |user: u64| {
            let (store, ended) = (Arc::clone(&store), Arc::clone(&ended));
            tokio::spawn(async move {
                let mut numbers = Vec::new();
                while !ended.load(Ordering::Relaxed) {
                    let items = vec![(Item::new(1, numbers.len() as u64), None)];
                    let user = UserId::new(user);
                    let write = Write { namespace: NS, user, op: WriteOp::Append, items };
                    let stamp = store.write(vec![write]).await.expect("a write");
                    numbers.push(stamp.expect("MariaDB numbers commits").position);
                }
                numbers
            })
        };
        let writers: Vec<_> = (0..4).map(writer).collect();
        let mut looks: Vec<(u64, Vec<usize>)> = Vec::new();
        while looks.last().is_none_or(|(number, _)| *number < 600) {
            let position = store.position(Shard::new(0)).await.expect("a position");
            let number = position.and_then(|position| position.number).expect("one domain");
            let mut rows = Vec::new();
            for user in (0..4).map(UserId::new) {
                let request = PageRequest { namespace: NS, user, after: None, rows_max: 10_000 };
                rows.push(store.page(request).await.expect("a page").rows.len());
            }
            looks.push((number, rows));
        }
        ended.store(true, Ordering::Relaxed);
        let mut compared = 0;
        for (user, writer) in writers.into_iter().enumerate() {
            let numbers = writer.await.expect("no panic");
            for (position, rows) in &looks {
                // Ids are marked one after another.
                let promised = numbers.iter().filter(|number| *number <= position).count();
                assert!(rows[user] >= promised, "{} of {promised} at {position}", rows[user]);
                compared += promised;
            }
        }
        assert!(compared > 1_000, "{compared} rows compared");
        store.close().await;
    }

    fn bad(examination: &Examination) -> Vec<&Finding> {
        let all = examination.findings.iter();
        all.filter(|finding| finding.severity > Severity::Note).collect()
    }

    async fn examine(options: &MySqlOptions) -> Examination {
        let how = ExamineOptions::default();
        MySqlStore::examine(options.clone(), vec![first()], how).await.expect("an examination")
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_doctor_knows_what_myrocks_needs() {
        let cf_options = format!("--rocksdb-default-cf-options={ROCKSDB_CF_OPTIONS}");
        let careless = ["--rocksdb-flush-log-at-trx-commit=2", "--rocksdb-enable-2pc=OFF"];
        let Some(server) = own_server(&careless) else { return };
        let options = options(&server, Engine::RocksDb);
        MySqlStore::apply_schema(options.clone(), vec![first()]).await.expect("a schema");
        let found = examine(&options).await;
        let named: Vec<&str> =
            bad(&found).iter().filter_map(|f| f.subject.split(' ').next()).collect();
        assert_eq!(named, ["rocksdb_flush_log_at_trx_commit", "rocksdb_enable_2pc"], "{found:#?}");
        assert!(told(&found, "Zstandard") && !told(&found, "counts for new tables"), "{found:#?}");
        let begins = ["rocksdb=FORCE", "rocksdb_wal_recovery_mode=0"];
        assert!(begins.iter().all(|option| !told(&found, option)), "{found:#?}");
        for finding in bad(&found) {
            let mend = finding.mend.as_ref().expect("a statement");
            server.sql(mend).unwrap_or_else(|error| panic!("{finding}: {error}"));
        }
        assert!(bad(&examine(&options).await).is_empty());
        // Whoever uses none of it is not told about it.
        let other = MySqlOptions { engine: Engine::InnoDb, ..options };
        assert!(!told(&examine(&other).await, "Zstandard"));
        drop(server);
        let server = own_server(&[&cf_options, "--rocksdb=ON", "--rocksdb-wal-recovery-mode=1"]);
        let server = server.expect("it is installed");
        let options = self::options(&server, Engine::RocksDb);
        let store = store(options.clone(), vec![first()]).await;
        mark(&store, 1, 0..1_000).await;
        store.close().await;
        let found = examine(&options).await;
        assert!(begins.iter().all(|option| told(&found, option)), "{found:#?}");
        assert!(!told(&found, "Zstandard"), "{found:#?}");
        let flush = "SET GLOBAL rocksdb_compact_cf = 'default'; \
                     SELECT compression_algo, filter_policy FROM information_schema.rocksdb_sst_props \
                     WHERE entries >= 1000";
        let files = server.sql(flush).expect("files");
        assert!(files.starts_with("ZSTD\t") && files.to_lowercase().contains("bloom"), "{files}");
    }

    fn told(examination: &Examination, what: &str) -> bool {
        examination.findings.iter().any(|finding| finding.what.contains(what))
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn without_the_plugin_it_is_said_what_to_do() {
        let server = MariaDb::start().expect("a server");
        server.sql("CREATE DATABASE d").expect("a database");
        let options = options(&server, Engine::RocksDb);
        let refused = MySqlStore::apply_schema(options.clone(), vec![first()]).await;
        let refused = refused.expect_err("there is no such engine");
        assert_eq!(refused.kind, StoreErrorKind::Schema);
        assert!(refused.message.contains("mariadb-plugin-rocksdb"), "{refused}");
        let found = examine(&options).await;
        let finding = bad(&found).into_iter().find(|f| f.subject.starts_with("mysql.engine at "));
        let mend = finding.and_then(|finding| finding.mend.clone());
        assert_eq!(mend.as_deref(), Some("INSTALL SONAME 'ha_rocksdb'"), "{found:#?}");
    }
}
