//! Going through all rows on real servers: where positions stand, what a page costs, tables of others.

mod follow;
mod servers;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use seen_filter::history::{Write, WriteOp};
use seen_filter::{
    History, Item, NamespaceId, NamespaceSettings, PositionSource, RowKey, Scan, ScanRequest,
    ScannedRow, Shard, UserId,
};
use seen_store::mysql::TableMapping;
use seen_store::{BinlogFeed, MySqlOptions, MySqlStore};
use seen_testbed::{MariaDb, Mysql, or_skip};
use servers::{OnServer, Sharded};

const NS: NamespaceId = NamespaceId::new(0);

fn settings() -> Vec<NamespaceSettings> {
    vec![NamespaceSettings::new(NS, "reads")]
}

fn mark(user: u64, ids: impl IntoIterator<Item = u64>) -> Write {
    let items = ids.into_iter().map(|id| (Item::new(1, id), None)).collect();
    Write { namespace: NS, user: UserId::new(user), op: WriteOp::Append, items }
}

async fn scanned(store: &impl Scan, rows_max: usize) -> Vec<ScannedRow> {
    let mut rows = Vec::new();
    for part in (0..store.parts()).map(Shard::new) {
        let mut after = None;
        loop {
            let request = ScanRequest { namespace: NS, part, after, rows_max };
            let page = store.scan(request).await.expect("a page");
            rows.extend(page.rows);
            after = page.next;
            if after.is_none() {
                break;
            }
        }
    }
    rows
}

fn keys(rows: &[ScannedRow]) -> BTreeSet<RowKey> {
    let keys: BTreeSet<_> = rows.iter().map(ScannedRow::key).collect();
    assert_eq!(keys.len(), rows.len(), "a row came twice");
    keys
}

async fn position_of(server: OnServer) -> seen_filter::SourcePosition {
    let store = server.store(server.options(), settings()).await;
    store.write(vec![mark(1, [1])]).await.expect("a write");
    let position = store.position(Shard::new(0)).await.expect("a position").expect("numbered");
    store.close().await;
    position
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mariadbs_positions_are_gtids() {
    let position = position_of(servers::mariadb().expect("always there")).await;
    assert_eq!((position.source, position.timeline.as_str()), (PositionSource::MariaDb, "0"));
    let parts: Vec<&str> = position.text.split('-').collect();
    assert_eq!((parts.len(), parts[2].parse().ok()), (3, position.number), "{position}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mysqls_positions_are_sets() {
    let Some(server) = servers::mysql() else { return };
    let position = position_of(server).await;
    assert_eq!(position.source, PositionSource::MySql);
    let of_server = server.sql("SELECT @@server_uuid").expect("a name");
    assert!(position.text.contains(of_server.trim()), "{position}");
    assert!(position.number > Some(0), "{position:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tidbs_positions_are_timestamps() {
    let Some(server) = servers::tidb() else { return };
    let (first, second) = (position_of(server).await, position_of(server).await);
    assert_eq!(first.source, PositionSource::TiDb);
    assert_eq!(first.text.parse().ok(), first.number);
    // Milliseconds since 1970 in the upper bits.
    assert!(first.number.is_some_and(|ts| ts >> 18 > 1_700_000_000_000), "{first}");
    assert!(second.number > first.number && first.is_behind(&second));
}

/// Rule R2: whatever was committed up to a position is seen by a read that begins after it, while many
/// write.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_position_names_is_seen_by_later_pages() {
    let server = servers::mariadb().expect("always there");
    let store = server.store(server.options(), settings()).await;
    let ended = Arc::new(AtomicBool::new(false));
    let commits = Arc::new(AtomicU64::new(0));
    let writers = (0..4_u64).map(|user| {
        let (store, ended) = (Arc::clone(&store), Arc::clone(&ended));
        let commits = Arc::clone(&commits);
        tokio::spawn(async move {
            let mut written = Vec::new();
            let mut id = 0;
            while !ended.load(Ordering::Relaxed) {
                let stamp = store.write(vec![mark(user, [id])]).await.expect("a write");
                let key = (UserId::new(user), Item::new(1, id));
                written.push((stamp.expect("MariaDB numbers commits").position, key));
                id += 1;
                commits.fetch_add(1, Ordering::Relaxed);
            }
            written
        })
    });
    let writers: Vec<_> = writers.collect();
    let mut looks = Vec::new();
    while commits.load(Ordering::Relaxed) < 300 {
        let position = store.position(Shard::new(0)).await.expect("a position").expect("numbered");
        looks.push((position.number.expect("one domain"), keys(&scanned(&*store, 10_000).await)));
    }
    ended.store(true, Ordering::Relaxed);
    let mut compared = 0;
    for writer in writers {
        for (number, key) in writer.await.expect("no panic") {
            for (position, seen) in looks.iter().filter(|(position, _)| *position >= number) {
                assert!(
                    seen.contains(&key),
                    "{key:?} of commit {number} is not seen after {position}"
                );
                compared += 1;
            }
        }
    }
    assert!(compared > 1_000, "{compared} rows compared");
    store.close().await;
}

/// The same on MySQL, which tells nobody the number of a commit: one writer, whose transactions are the
/// only ones, so that as many as the set has grown by must be seen.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_set_names_is_seen_by_later_pages() {
    let Some(server) = or_skip(Mysql::start()) else { return };
    server.sql("CREATE DATABASE alone").expect("a database");
    let options = MySqlOptions { upkeep: false, ..servers::options(server.port(), "alone") };
    MySqlStore::apply_schema(options.clone(), settings()).await.expect("a schema");
    let store = MySqlStore::open(options, settings()).await.expect("a store");
    let count = async || {
        let position = store.position(Shard::new(0)).await.expect("a position").expect("numbered");
        position.number.expect("a set that can be read")
    };
    let before = count().await;
    let writer = Arc::clone(&store);
    let writing = tokio::spawn(async move {
        for id in 0..400 {
            writer.write(vec![mark(1, [id])]).await.expect("a write");
        }
    });
    let mut compared = 0;
    while !writing.is_finished() {
        let named = count().await - before;
        let seen = scanned(&*store, 10_000).await.len() as u64;
        assert!(seen >= named, "{named} commits are named, and {seen} rows are seen");
        compared += u64::from(named > 0);
    }
    writing.await.expect("no panic");
    assert_eq!(count().await - before, 400, "nobody else commits");
    assert!(compared > 10, "{compared} looks while it wrote");
    store.close().await;
}

/// A page reads little more than its rows, wherever in the key it begins.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pages_are_ranges_of_the_key() {
    let server = MariaDb::start().expect("a MariaDB");
    server.sql("CREATE DATABASE alone").expect("a database");
    let options = servers::options(server.port(), "alone");
    MySqlStore::apply_schema(options.clone(), settings()).await.expect("a schema");
    let store = MySqlStore::open(MySqlOptions { upkeep: false, ..options }, settings()).await;
    let store = store.expect("a store");
    let mut rows = 0;
    for chunk in 0..5 {
        store.write(vec![mark(7, chunk * 1_000..(chunk + 1) * 1_000)]).await.expect("a write");
        rows += 1_000;
    }
    for user in 100..200 {
        store.write(vec![mark(user, 0..10)]).await.expect("a write");
        rows += 10;
    }
    let read = || {
        let status = "SHOW GLOBAL STATUS LIKE 'Innodb_rows_read'";
        let said = server.sql(status).expect("a status");
        said.split_whitespace().last().and_then(|word| word.parse().ok()).unwrap_or(0_u64)
    };
    let before = read();
    assert_eq!(scanned(&*store, 100).await.len() as u64, rows);
    let cost = read() - before;
    assert!(cost < rows * 3 / 2, "{cost} rows were read for {rows}");
    store.close().await;
}

/// Rows on a shard where their user does not live are read by nobody, and exported by nobody.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn misplaced_rows_are_left_out() {
    let Sharded(server, shards) = Sharded(servers::mariadb().expect("always there"), 4);
    let options = servers::sharded_options(&[&server], shards);
    let databases: Vec<String> =
        options.shards.iter().map(|shard| shard.database.as_str().to_owned()).collect();
    let store = server.store(options, settings()).await;
    for user in 0..40 {
        store.write(vec![mark(user, [user, user + 1])]).await.expect("a write");
    }
    let whole = keys(&scanned(&*store, 7).await);
    assert_eq!(whole.len(), 80);
    for (shard, database) in databases.iter().enumerate() {
        if usize::from(store.shard_of(UserId::new(7)).get()) != shard {
            let insert = format!("INSERT INTO {database}.history_reads VALUES (7, 1, 999, 5)");
            server.sql(&insert).expect("a row that nobody reads");
        }
    }
    assert_eq!(keys(&scanned(&*store, 7).await), whole);
    store.close().await;
}

/// A surrogate key, removed rows, no unique key, and NULL in place of ids.
async fn tables_of_others(server: OnServer) {
    let mapped = |table: &str, columns: &str, read_only| {
        let mapping = TableMapping::parse(NS, table, columns, read_only).expect("a mapping");
        MySqlOptions { mappings: vec![mapping], ..server.options() }
    };
    let options = mapped("reads_of", "user=who,item=what,kind=3,time=at:s,deleted=gone", true);
    let database = options.shards[0].database.as_str().to_owned();
    let made = server.sql(&format!(
        "USE {database}; CREATE TABLE reads_of (who BIGINT NULL, what INT UNSIGNED NULL, \
         at INT NULL, gone DATETIME NULL, KEY by_who (who, what))"
    ));
    made.expect("a table");
    let rows = (1..=60).map(|n| {
        // Every third row was removed, every fifth is there three times.
        let gone = if n % 3 == 0 { "'2026-11-21 10:00:00'" } else { "NULL" };
        let row = format!("({}, {n}, 5, {gone})", if n % 2 == 0 { -1 } else { 7 });
        vec![row; if n % 5 == 0 { 3 } else { 1 }].join(",")
    });
    let rows = rows.collect::<Vec<_>>().join(",");
    let nobodys = "(NULL, 1, 5, NULL), (7, NULL, 5, NULL), (NULL, NULL, NULL, NULL)";
    server.sql(&format!("INSERT INTO {database}.reads_of VALUES {rows}, {nobodys}")).expect("rows");
    let store = server.store(options, settings()).await;
    let expected: BTreeSet<RowKey> = (1..=60_u64)
        .filter(|n| n % 3 != 0)
        .map(|n| (UserId::new(if n % 2 == 0 { u64::MAX } else { 7 }), Item::new(3, n)))
        .collect();
    for rows_max in [1, 2, 3, 7, 10_000] {
        let found = scanned(&*store, rows_max).await;
        assert_eq!(keys(&found), expected, "pages of {rows_max}");
        assert!(found.iter().all(|row| row.row.marked_at.get() == 5_000));
    }
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_of_others_on_mariadb() {
    tables_of_others(servers::mariadb().expect("always there")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_of_others_on_tidb() {
    if let Some(server) = servers::tidb() {
        tables_of_others(server).await;
    }
}

/// A follower that has the rows of an export goes on from the export's position.
async fn goes_on_from_its_position(server: OnServer) {
    let store = server.store(server.options(), settings()).await;
    let feed = BinlogFeed::new(store.binlog_options().expect("a log")).expect("a feed");
    let start = |position: &_| store.start_after(Shard::new(0), position);
    follow::reaches_what_storage_holds(Arc::clone(&store), &*feed, start).await;
    feed.close();
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_goes_on_from_an_exports_position_on_mariadb() {
    goes_on_from_its_position(servers::mariadb().expect("always there")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_goes_on_from_an_exports_position_on_mysql() {
    let Some(server) = servers::mysql() else { return };
    goes_on_from_its_position(server).await;
}
