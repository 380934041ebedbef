//! What administrators do to servers under a running store: rotated passwords, tables that change,
//! restored backups, other transactions on the same rows, other collations.

mod faults;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use faults::{
    DATABASE, PASSWORD, TABLE, USER, all_free, answered, eventually, found, ids_at, mark, migrate,
    on_each_server, open, options, page, plain, server, store, works_again,
};
use seen_filter::history::WriteOp;
use seen_filter::{History, StoreError, StoreErrorKind};
use seen_store::mysql::{KindColumn, Name, PasswordSource, TableMapping, TimeUnit};
use seen_store::{MySqlOptions, MySqlStore};
use seen_testbed::Server;

/// Ends every connection of the store's user.
fn kill_connections(server: &Server) {
    let sql = format!("SELECT id FROM information_schema.processlist WHERE user = '{USER}'");
    for id in server.sql(&sql).expect("processes").lines() {
        // One that has ended by itself since is gone as well.
        let _ = server.sql(&format!("KILL CONNECTION {id}"));
    }
}

on_each_server!(
    a_rotated_password_is_picked_up,
    a_table_that_loses_a_column_is_an_error_and_no_answer,
    conflicts_end_in_success_or_a_clear_error,
);

async fn a_rotated_password_is_picked_up(server: &Server) {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), format!("{PASSWORD}\n")).expect("written");
    let mut options = options(&[server.port()]);
    options.login.password = PasswordSource::File(file.path().to_owned());
    let store = store(&options).await;
    works_again(&store, 1).await;
    server.sql(&format!("ALTER USER '{USER}'@'%' IDENTIFIED BY 'another'")).expect("rotated");
    kill_connections(server);
    eventually("the old password is refused, and that is said", async || {
        match answered("a write", store.write(mark(2, [1]))).await {
            Ok(_) => Err("acknowledged".to_owned()),
            Err(error) => {
                assert_eq!(error.kind, StoreErrorKind::Unavailable, "{error}");
                let is_clear = error.message.contains("Access denied")
                    && error.message.contains("its password");
                is_clear.then_some(()).ok_or(error.message)
            }
        }
    })
    .await;
    assert_eq!(ids_at(server, 2), [0; 0]);
    std::fs::write(file.path(), "another\n").expect("written");
    works_again(&store, 3).await;
    all_free(&store, [2; 3]).await;
}

fn schema_error<T: std::fmt::Debug>(outcome: Result<T, StoreError>, says: &str) {
    let error = outcome.expect_err("it does not fit the schema");
    assert_eq!(error.kind, StoreErrorKind::Schema, "{error}");
    assert!(error.message.contains(says), "{error}");
}

async fn a_table_that_loses_a_column_is_an_error_and_no_answer(server: &Server) {
    let options = options(&[server.port()]);
    let store = store(&options).await;
    works_again(&store, 1).await;
    let alter = |what: &str| server.sql(&format!("ALTER TABLE {TABLE} {what}")).expect("altered");
    alter("RENAME COLUMN marked_at_ms TO lost");
    schema_error(store.write(mark(1, [2])).await, "seen migrate");
    schema_error(store.page(page(1)).await, "marked_at_ms");
    assert_eq!(found(&store, 1, [1, 2]).await.expect("needs no time"), [true, false]);
    alter("RENAME COLUMN item_id TO other");
    schema_error(found(&store, 1, [1, 2]).await, "item_id");
    schema_error(found(&store, 1, 1..=30).await, "item_id");
    let opened = MySqlStore::open(options.clone(), plain()).await.map(|_| ());
    schema_error(opened, "seen migrate");
    alter("RENAME COLUMN other TO item_id, RENAME COLUMN lost TO marked_at_ms");
    works_again(&store, 1).await;
    server.sql(&format!("RENAME TABLE {TABLE} TO seen.elsewhere")).expect("renamed");
    schema_error(store.write(mark(1, [2])).await, "history_reads");
    schema_error(found(&store, 1, [1, 2]).await, "history_reads");
    server.sql(&format!("RENAME TABLE seen.elsewhere TO {TABLE}")).expect("renamed");
    works_again(&store, 1).await;
    all_free(&store, [2; 3]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_schema_that_is_too_old_is_refused_and_kept() {
    let server = server(&[]);
    let options = options(&[server.port()]);
    schema_error(MySqlStore::open(options.clone(), plain()).await.map(|_| ()), "seen migrate");
    migrate(&options).await;
    let mut indexed = plain();
    indexed[0].time_index = true;
    let opened = MySqlStore::open(options.clone(), indexed.clone()).await.map(|_| ());
    schema_error(opened, "seen migrate --apply");
    let older = open(&options).await;
    works_again(&older, 1).await;
    MySqlStore::apply_schema(options.clone(), indexed.clone()).await.expect("migrated");
    MySqlStore::open(options, indexed).await.expect("opened");
    assert_eq!(ids_at(&server, 1), [1], "what was there is kept");
}

/// A server that says it is of an old version, in front of one that is not.
async fn is_too_old(server: &Server, version: &str) {
    let said = server.sql("SELECT VERSION()").expect("a version");
    assert_eq!(said.trim(), version);
    let options = options(&[server.port()]);
    let refused = MySqlStore::apply_schema(options.clone(), plain()).await.map(|_| ());
    let opened = MySqlStore::open(options, plain()).await.map(|_| ());
    for error in [refused, opened].map(|outcome| outcome.expect_err("it is too old")) {
        let says = format!("{version}, which is older than");
        assert!(error.message.contains(&says) && error.message.contains("upgrade"), "{error}");
    }
    let databases = format!("SHOW TABLES FROM {DATABASE}");
    assert_eq!(server.sql(&databases).expect("tables"), "", "nothing was made there");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mariadb_that_is_too_old_is_refused() {
    is_too_old(&server(&["--version=10.3.39-MariaDB"]), "10.3.39-MariaDB").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tidb_that_is_too_old_is_refused() {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let version = "5.7.25-TiDB-v6.5.0";
    std::fs::write(file.path(), format!("server-version = \"{version}\"\n")).expect("written");
    let path = file.path().to_str().expect("plain");
    let Some(server) = faults::tidb_with(&["-config", path]) else { return };
    is_too_old(&server, version).await;
}

/// MariaDB 11's default, with a number that older clients cannot tell.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_unusual_collation_does_no_harm() {
    let arguments = ["--character-set-server=utf8mb4", "--collation-server=utf8mb4_uca1400_ai_ci"];
    let server = server(&arguments);
    let store = store(&options(&[server.port()])).await;
    works_again(&store, 1).await;
    let size = store.size(faults::NS).await.expect("a size");
    assert_eq!(size.rows, 1);
    all_free(&store, [2; 3]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_id_that_its_column_does_not_hold_is_refused() {
    let server = server(&[]);
    let table = "CREATE TABLE seen.old (reader INT UNSIGNED NOT NULL, what SMALLINT NOT NULL, \
                 at BIGINT UNSIGNED NOT NULL, PRIMARY KEY (reader, what))";
    server.sql(table).expect("a table");
    let name = |name: &str| Name::new("column", name).expect("a name");
    let mapping = TableMapping {
        table: name("old"),
        user: name("reader"),
        kind: KindColumn::Constant(seen_filter::Kind::new(1)),
        item: name("what"),
        time: Some((name("at"), TimeUnit::Millis)),
        foreign: true,
        ..TableMapping::own(&plain()[0]).expect("a mapping")
    };
    let options = MySqlOptions { mappings: vec![mapping], ..options(&[server.port()]) };
    let store = store(&options).await;
    works_again(&store, 1).await;
    for (user, id) in [(1, 40_000), (1, 1 << 63), (1 << 40, 1)] {
        let error = store.write(mark(user, [id])).await.expect_err(&format!("{user} {id} fits"));
        assert_eq!(error.kind, StoreErrorKind::InvalidRequest, "{error}");
        let check = found(&store, user, [id, 2]).await.expect("a check");
        assert_eq!(check, [false, false], "of item {id} of user {user}");
    }
    assert_eq!(server.sql("SELECT COUNT(*) FROM seen.old").expect("rows"), "1\n");
    all_free(&store, [2; 3]).await;
}

/// What became of calls that others' transactions met.
#[derive(Default)]
struct Met {
    refused: AtomicU64,
    written: AtomicU64,
}

/// Writes rows that all contend for, and one of its own with each call, until told to stop. Gives the
/// own ones that were acknowledged.
async fn write_amid_conflicts(
    store: &MySqlStore,
    number: u64,
    rows: u64,
    met: &Met,
    stop: &AtomicBool,
) -> BTreeSet<u64> {
    let mut acknowledged = BTreeSet::new();
    for call in 0.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let own = 10_000 + call * 10 + number;
        let mut calls = mark(1, (0..rows).chain([own]));
        if call % 2 == 1 {
            calls[0].items.truncate(rows as usize / 2);
            calls[0].op = WriteOp::Remove;
            calls.extend(mark(1, [own]));
        }
        match answered("a write", store.write(calls)).await {
            Ok(_) => {
                acknowledged.insert(own);
                met.written.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                assert_eq!(error.kind, StoreErrorKind::Unavailable, "{error}");
                // TiDB lets some wait for a lock until their time is over.
                let ends = ["conflict", "nothing was changed", "the connection failed"];
                let is_clear = ends.iter().any(|end| error.message.contains(end));
                assert!(is_clear, "{error}");
                met.refused.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
    acknowledged
}

/// Two stores and somebody else's transactions write the same rows, the latter in the opposite order
/// and many at once, so that the server ends the stores' transactions rather than those.
async fn conflicts_end_in_success_or_a_clear_error(server: &Server) {
    const ROWS: u64 = 200;
    let one = store(&options(&[server.port()])).await;
    let other = open(&options(&[server.port()])).await;
    let stop = Arc::new(AtomicBool::new(false));
    let port = server.port();
    let somebody = std::thread::spawn({
        let stop = Arc::clone(&stop);
        move || contend(port, &stop, ROWS)
    });
    let met = Arc::new(Met::default());
    let mut tasks = Vec::new();
    for (number, store) in (0..).zip([&one, &one, &other, &other]) {
        let (store, met, stop) = (Arc::clone(store), Arc::clone(&met), Arc::clone(&stop));
        let writing = async move { write_amid_conflicts(&store, number, ROWS, &met, &stop).await };
        tasks.push(tokio::spawn(writing));
    }
    // Of those that the store met; the others' are no business of ours.
    eventually("some conflicts, and some success", async || {
        let again = one.attempts().1 + other.attempts().1;
        let conflicts = met.refused.load(Ordering::Relaxed) + again;
        let written = met.written.load(Ordering::Relaxed);
        let enough = conflicts >= 5 && written > 0;
        enough.then_some(()).ok_or_else(|| format!("{conflicts}, {written} written"))
    })
    .await;
    stop.store(true, Ordering::Relaxed);
    let stored_after: BTreeSet<u64> = {
        let mut told = BTreeSet::new();
        for task in tasks {
            told.extend(answered("marks", task).await.expect("no other error"));
        }
        somebody.join().expect("the other transactions");
        let stored: BTreeSet<u64> = ids_at(server, 1).into_iter().collect();
        let lost: Vec<&u64> = told.difference(&stored).collect();
        assert!(lost.is_empty(), "acknowledged and lost: {lost:?} of {told:?}");
        stored.difference(&told).copied().filter(|id| *id >= 10_000).collect()
    };
    assert!(stored_after.is_empty(), "refused for certain and there: {stored_after:?}");
    for store in [&one, &other] {
        let (calls, retries) = store.attempts();
        assert!(retries <= calls / 25, "{retries} of {calls}");
        works_again(store, 2).await;
        all_free(store, [2; 3]).await;
    }
}

/// Transactions that change the contended rows from the last to the first.
fn contend(port: u16, stop: &AtomicBool, rows: u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        use sqlx::{ConnectOptions as _, Executor as _};
        let options = sqlx::mysql::MySqlConnectOptions::new()
            .host("127.0.0.1")
            .port(port)
            .username(USER)
            .password(PASSWORD)
            .ssl_mode(sqlx::mysql::MySqlSslMode::Disabled);
        let mut connection = options.connect().await.expect("a connection");
        while !stop.load(Ordering::Relaxed) {
            connection.execute("START TRANSACTION").await.expect("begun");
            for id in (0..rows).rev() {
                let row = format!(
                    "INSERT INTO {TABLE} VALUES (1, 1, {id}, 1), (3, 1, {id}, 1) \
                     ON DUPLICATE KEY UPDATE marked_at_ms = marked_at_ms + 1"
                );
                if connection.execute(sqlx::AssertSqlSafe(row)).await.is_err() {
                    break;
                }
            }
            // A transaction that was the victim is over already.
            let _ = connection.execute("COMMIT").await;
        }
    });
}

fn copy(from: &Path, to: &Path) {
    let copied = std::process::Command::new("cp").arg("-a").args([from, to]).status();
    assert!(copied.is_ok_and(|status| status.success()), "{}", from.display());
}

mod a_restored_backup_is_what_the_store_says {
    use super::{faults, restored_backup};
    use seen_testbed::Mysql;

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn mariadb() {
        restored_backup(&faults::server(&[]), true).await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn mysql() {
        let builder = Mysql::builder().arguments(&["--performance-schema=ON"]);
        let Some(server) = faults::mysql_by(builder) else { return };
        restored_backup(&server, true).await;
    }

    /// Its numbers are times, and go on where the backup's end: that one was restored shows in nothing
    /// but the rows. Of one process the folder can be put back; a cluster's own restore is not tested.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn tidb() {
        let Some(server) = faults::tidb() else { return };
        restored_backup(&server, false).await;
    }
}

/// `is_numbered_anew`: the server gives numbers again that it had given before.
async fn restored_backup(server: &Server, is_numbered_anew: bool) {
    let data = server.folder().join("data");
    let folder = tempfile::tempdir().expect("a folder");
    let backup = folder.path().join("backup");
    let store = store(&options(&[server.port()])).await;
    store.write(mark(1, 0..50)).await.expect("marks");
    server.stop().expect("stopped");
    copy(&data, &backup);
    server.restart().expect("started");
    works_again(&store, 2).await;
    store.write(mark(1, 50..100)).await.expect("marks after the backup");
    let before = store.write(mark(3, [1])).await.expect("a mark").expect("a number");
    server.stop().expect("stopped");
    std::fs::remove_dir_all(&data).expect("lost");
    copy(&backup, &data);
    server.restart().expect("started");
    works_again(&store, 4).await;
    let kept: Vec<bool> = (0..100).map(|id| id < 50).collect();
    assert_eq!(found(&store, 1, 0..100).await.expect("a check"), kept, "what the backup holds");
    assert_eq!(store.page(page(1)).await.expect("a page").rows.len(), 50);
    // A number from before is not one from after, however large (coherence row 53).
    for id in 0..20 {
        let after = store.write(mark(5, [id])).await.expect("a mark");
        match is_numbered_anew {
            true => assert!(
                !after.is_some_and(|after| before.comparable(after)),
                "{before} and {after:?}"
            ),
            false => assert!(after.is_some_and(|after| before < after), "{before} and {after:?}"),
        }
    }
    assert_eq!(ids_at(server, 5), (0..20).collect::<Vec<_>>());
    all_free(&store, [2; 3]).await;
}
