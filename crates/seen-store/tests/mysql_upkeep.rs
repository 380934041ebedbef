//! The background work on database servers: partitions follow the storage's clock, old fences go, and
//! of several stores one does it. On MariaDB always, on TiDB where `scripts/tidb` has built it, on MySQL
//! where `scripts/mysql` has fetched it.

mod servers;
mod upkeep_place;

use std::sync::Arc;
use std::time::Duration;

use seen_filter::history::{PAGE_ROWS_MAX, PageRequest, Question, Write, WriteOp};
use seen_filter::{
    FeedId, FenceSeq, History as _, Incarnation, Item, NamespaceId, NamespaceSettings, Partition,
    Shard, UnixMillis, UserId,
};
use seen_store::mysql::UpkeepReport;
use seen_store::{MySqlOptions, MySqlStore};
use servers::OnServer;
use sqlx::{Connection as _, Executor as _};
use upkeep_place::{
    BUCKET_MS, FIRST, LEASE_MS, NS, Place, connection, mark, partitions, promised, there, upkeep,
};

async fn partitions_follow_the_clock(server: OnServer) {
    let place = Place::new(server).await;
    let store = place.store().await;
    for bucket in FIRST..FIRST + 12 {
        place.at(bucket);
        mark(&store, [bucket]).await;
        let report = upkeep(&store).await;
        let steps = usize::from(bucket > FIRST);
        let expected = UpkeepReport {
            shards_led: 1,
            partitions_added: steps,
            partitions_dropped: steps,
            ..UpkeepReport::default()
        };
        assert_eq!(report, expected, "bucket {bucket}");
        assert_eq!(place.layout(), partitions(bucket - 3..=bucket + 3));
        // What is stored is what is promised: no row went too early, and none stays.
        assert_eq!(there(&store, FIRST..=bucket).await, promised(FIRST, bucket));
        assert_eq!(place.stored(), promised(FIRST, bucket).len() as u64);
        // The last moment of the bucket changes nothing.
        place.clock.advance(BUCKET_MS - 1);
        let idle = UpkeepReport { shards_led: 1, ..UpkeepReport::default() };
        assert_eq!(upkeep(&store).await, idle);
        assert_eq!(there(&store, FIRST..=bucket).await, promised(FIRST, bucket));
    }
    store.close().await;
}

async fn a_long_absence_loses_nothing(server: OnServer) {
    let place = Place::new(server).await;
    let store = place.store().await;
    // Nobody makes partitions: rows go to the last one.
    let now = FIRST + 25;
    for bucket in FIRST..=now {
        place.at(bucket);
        mark(&store, [bucket]).await;
    }
    store.close().await;
    let before = partitions(FIRST - 3..=FIRST + 3);
    assert_eq!((place.layout(), place.stored()), (before, 26));
    let store = place.store().await;
    mark(&store, [now + 100]).await;
    let report = upkeep(&store).await;
    assert_eq!(place.layout(), partitions(now - 3..=now + 3));
    assert_eq!(report.partitions_added, 8, "one for all that expired meanwhile: {report:?}");
    let mut all = promised(FIRST, now);
    all.push(now + 100);
    assert_eq!(there(&store, FIRST..=now + 100).await, all);
    assert_eq!(place.stored(), 5);
    for later in 1..=4 {
        place.at(now + later);
        upkeep(&store).await;
        // The one without a bucket of its own was marked in the last one.
        let mut kept = promised(FIRST, now + later);
        kept.retain(|bucket| *bucket <= now);
        kept.extend((later < 4).then_some(now + 100));
        assert_eq!(there(&store, FIRST..=now + 100).await, kept, "{later} later");
        assert_eq!(place.stored(), kept.len() as u64, "{later} later");
    }
    store.close().await;
}

async fn mixed_partitions_are_divided_and_kept(server: OnServer) {
    let place = Place::new(server).await;
    let store = place.store().await;
    for bucket in FIRST..FIRST + 3 {
        place.at(bucket);
        mark(&store, [bucket]).await;
    }
    // One partition for the first bucket and all before it, one for the rest.
    let (first, ahead) = (FIRST, FIRST + 3);
    let merged: Vec<String> = (first - 3..=first).map(|bucket| format!("p{bucket}")).collect();
    place.sql(&format!(
        "ALTER TABLE history_first REORGANIZE PARTITION {} INTO (PARTITION other VALUES LESS THAN \
         ({})); ALTER TABLE history_first REORGANIZE PARTITION p{}, p{}, p{}, p_later INTO \
         (PARTITION p{ahead} VALUES LESS THAN ({}), PARTITION p_later VALUES LESS THAN MAXVALUE)",
        merged.join(", "),
        first + 1,
        first + 1,
        first + 2,
        first + 3,
        ahead + 1,
    ));
    // The bucket before the first expires with the first, later: it shares a partition with it.
    place.at(FIRST + 3);
    upkeep(&store).await;
    let divided = partitions(FIRST..=FIRST + 6);
    assert_eq!(place.layout(), divided.replacen(&format!("p{FIRST}<"), "other<", 1));
    assert_eq!(there(&store, FIRST..=ahead).await, promised(FIRST, FIRST + 2));
    place.at(FIRST + 5);
    upkeep(&store).await;
    assert_eq!(place.layout(), partitions(FIRST + 2..=FIRST + 8));
    assert_eq!(there(&store, FIRST..=ahead).await, [FIRST + 2]);
    // A clock that is put back finds partitions that reach further, and loses nothing.
    place.at(FIRST - 20);
    upkeep(&store).await;
    assert_eq!(there(&store, FIRST..=ahead).await, [FIRST + 2]);
    place.at(FIRST + 5);
    upkeep(&store).await;
    assert_eq!(place.layout(), partitions(FIRST + 2..=FIRST + 8));
    assert_eq!(there(&store, FIRST..=ahead).await, [FIRST + 2]);
    store.close().await;
}

async fn one_store_works_and_another_takes_over(server: OnServer) {
    let place = Place::new(server).await;
    let (one, other) = (place.store().await, place.store().await);
    let leads = async |store: &MySqlStore| upkeep(store).await.shards_led == 1;
    assert!(leads(&one).await && !leads(&other).await);
    // Renewed in time, it stays where it is, also past its first end.
    place.clock.advance(LEASE_MS - 1);
    assert!(!leads(&other).await && leads(&one).await);
    place.clock.advance(LEASE_MS - 1);
    assert!(!leads(&other).await);
    // Past its end it goes to whoever comes first; the old holder works no more.
    place.clock.advance(1);
    place.at(FIRST + 30);
    assert!(leads(&other).await && !leads(&one).await);
    assert_eq!(place.layout(), partitions(FIRST + 27..=FIRST + 33));
    // Given up, it is free at once.
    other.close().await;
    assert!(leads(&one).await);
    let late = place.store().await;
    assert!(!leads(&late).await);
    one.close().await;
    assert!(leads(&late).await);
    late.close().await;
}

async fn the_work_is_done_without_being_asked_for(server: OnServer) {
    let mut place = Place::new(server).await;
    place.options.upkeep = true;
    let dead = tokio::task::block_in_place(|| {
        let runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = { runtime }.worker_threads(1).enable_all().build().expect("a runtime");
        let store = runtime.block_on(async {
            let store = place.store().await;
            assert_eq!(upkeep(&store).await.shards_led, 1);
            store
        });
        // Like a process that is killed: nothing is given up. A store that is dropped gives its lease
        // up, if a thread of the runtime comes to it in time.
        std::mem::forget(store);
        runtime.shutdown_background();
        place.number("SELECT holder FROM seen_leases WHERE until_ms > 0")
    });
    let store = place.store().await;
    assert_eq!(upkeep(&store).await.shards_led, 0);
    place.at(FIRST + 9);
    let expected = partitions(FIRST + 6..=FIRST + 12);
    let done = tokio::task::block_in_place(|| {
        seen_testbed::until(Duration::from_secs(60), || (place.layout() == expected).then_some(()))
    });
    assert!(done.is_some(), "{}", place.layout());
    let holder = place.number("SELECT holder FROM seen_leases WHERE name = 'upkeep'");
    assert!(holder != dead && holder != 0);
    store.close().await;
    assert_eq!(place.number("SELECT holder + until_ms FROM seen_leases"), 0);
}

async fn old_fences_go_and_nothing_else(server: OnServer) {
    let place = Place::new(server).await;
    let store = place.store().await;
    let now = FIRST * BUCKET_MS;
    let day_ms = place.options.fence_keep_ms;
    let rows = |count: u64, writer: u64, at_ms: u64| {
        let row = |n: u64| format!("({n}, {}, {}, 1, {at_ms})", n % 2, writer * (n + 1));
        let rows: Vec<_> = (0..count).map(row).collect();
        format!("INSERT INTO seen_control VALUES {};", rows.join(","))
    };
    // Fences of long ago, some just at the limit, forgets of long ago.
    place.sql(&rows(2_345, 1_000_000, now - day_ms - 1));
    place.sql(&rows(10, 9_000_001, now - day_ms));
    place.sql(&rows(20, 0, 1));
    let feed = FeedId { namespace: NS, shard: Shard::new(0), partition: Partition::new(0) };
    let fence =
        store.fence(feed, vec![UserId::new(0)], Incarnation::new(u64::MAX), FenceSeq::new(3));
    fence.await.expect("a fence");
    assert_eq!(upkeep(&store).await.fences_removed, 2_345);
    let kept = "SELECT CONCAT(SUM(writer = 0), ' ', SUM(writer <> 0), ' ', MAX(writer)) \
                FROM seen_control";
    assert_eq!(place.sql(kept).trim(), format!("20 11 {}", u64::MAX));
    place.clock.advance(1);
    assert_eq!(upkeep(&store).await.fences_removed, 10);
    place.clock.advance(day_ms);
    assert_eq!(upkeep(&store).await.fences_removed, 1);
    assert_eq!(place.sql(kept).trim(), "20 0 0");
    store.close().await;
}

async fn changes_are_logged_within_bounds(server: OnServer) {
    let place = Place::new(server).await;
    let store = place.store().await;
    let entries: Vec<_> = (1..1_000).map(|id| format!("({id}, 5, 'old')")).collect();
    place.sql(&format!("INSERT INTO seen_upkeep_log VALUES {}", entries.join(",")));
    place.at(FIRST + 1);
    upkeep(&store).await;
    let told = place.sql("SELECT id, at_ms, what FROM seen_upkeep_log WHERE what <> 'old'");
    let lines: Vec<_> = told.lines().collect();
    let now = (FIRST + 1) * BUCKET_MS;
    let dropped = format!("1000\t{now}\thistory_first: dropped p{}, ", FIRST - 3);
    let split =
        format!("1001\t{now}\thistory_first: split p_later into p{} to p_later (2), ", FIRST + 4);
    assert!(lines[0].starts_with(&dropped) && lines[1].starts_with(&split), "{told}");
    assert_eq!(lines.len(), 2);
    let kept = place.sql("SELECT COUNT(*), MIN(id), MAX(id) FROM seen_upkeep_log");
    assert_eq!(kept.trim(), "1000\t2\t1001");
    store.close().await;
}

async fn the_newest_rows_are_kept_whatever_their_ids(server: OnServer) {
    let mut namespaces: Vec<_> = ["first", "second"]
        .into_iter()
        .zip(0..)
        .map(|(name, id)| NamespaceSettings::new(NamespaceId::new(id), name))
        .collect();
    namespaces[0].newest_max = Some(100);
    let options = MySqlOptions { upkeep: false, ..server.options() };
    let store = server.store(options, namespaces).await;
    let marks = async |namespace: u16, user: u64, marks: Vec<(u64, u64)>| {
        for part in marks.chunks(1_000) {
            let item = |(id, at): &(u64, u64)| (Item::new(1, *id), Some(UnixMillis::new(*at)));
            let items = part.iter().map(item).collect();
            let (namespace, user) = (NamespaceId::new(namespace), UserId::new(user));
            let write = Write { namespace, user, op: WriteOp::Append, items };
            store.write(vec![write]).await.expect("a write");
        }
    };
    // Newer rows have smaller ids; more rows than one step looks at, or removes.
    marks(0, 7, (0..6_000).map(|n| (10_000 - n, n)).collect()).await;
    marks(0, u64::MAX, (0..111).map(|n| (n, n)).collect()).await;
    marks(0, 6, (0..400).map(|n| (n, 5)).collect()).await;
    marks(0, 8, (0..110).map(|n| (n, n)).collect()).await;
    marks(1, 7, (0..400).map(|n| (n, n)).collect()).await;
    for user in 1_000..1_100 {
        marks(0, user, (0..90).map(|n| (n, n)).collect()).await;
    }
    assert_eq!(upkeep(&store).await.rows_trimmed, 5_900 + 11 + 300);
    assert_eq!(upkeep(&store).await.rows_trimmed, 0);
    let ids = async |namespace: u16, user: u64| {
        let (namespace, user) = (NamespaceId::new(namespace), UserId::new(user));
        let request = PageRequest { namespace, user, after: None, rows_max: PAGE_ROWS_MAX };
        let page = store.page(request).await.expect("a page");
        page.rows.iter().map(|row| row.item.id.get()).collect::<Vec<_>>()
    };
    assert_eq!(ids(0, 7).await, (4_001..=4_100).collect::<Vec<_>>());
    assert_eq!(ids(0, u64::MAX).await, (11..111).collect::<Vec<_>>());
    assert_eq!(ids(0, 6).await, (300..400).collect::<Vec<_>>());
    // Within the slack; of another namespace; few.
    assert_eq!(ids(0, 8).await, (0..110).collect::<Vec<_>>());
    assert_eq!(ids(1, 7).await, (0..400).collect::<Vec<_>>());
    assert_eq!(ids(0, 1_099).await, (0..90).collect::<Vec<_>>());
    store.close().await;
}

/// What is acknowledged while partitions come and go is there as long as it is promised.
async fn writes_go_on_while_partitions_change(server: OnServer) {
    let place = Place::new(server).await;
    let (store, writer) = (place.store().await, place.store().await);
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let clock = place.clock.clock();
    let writing = tokio::spawn(async move {
        let mut stopped = stopped;
        let mut acknowledged = Vec::new();
        while stopped.try_recv() == Err(tokio::sync::oneshot::error::TryRecvError::Empty) {
            let id = acknowledged.len() as u64;
            // The commit's bucket is this one or a later one.
            let bucket = clock.now().get() / BUCKET_MS;
            let items = vec![(Item::new(1, id), None)];
            let user = UserId::new(id % 5);
            let write = Write { namespace: NS, user, op: WriteOp::Append, items };
            if writer.write(vec![write]).await.is_ok() {
                acknowledged.push(bucket);
            }
        }
        writer.close().await;
        acknowledged
    });
    let last = FIRST + 12;
    for bucket in FIRST..=last {
        // Every third time the worker comes late, and rows have to be moved.
        place.at(bucket);
        let at_least = place.stored() + 5;
        let more = tokio::task::block_in_place(|| {
            let limit = Duration::from_secs(60);
            seen_testbed::until(limit, || (place.stored() >= at_least).then_some(()))
        });
        assert!(more.is_some(), "nothing is written in bucket {bucket}");
        if bucket % 3 == 0 || bucket == last {
            // A table in use is left for the next round.
            while store.upkeep_now().await.is_err() {}
        }
    }
    drop(stop);
    let acknowledged = writing.await.expect("it ends");
    for (id, bucket) in acknowledged.iter().enumerate() {
        let (id, user) = (id as u64, UserId::new(id as u64 % 5));
        let question = Question { user, items: vec![Item::new(1, id)] };
        let answers = store.check(NS, vec![question]).await.expect("an answer");
        assert!(answers.found[0][0] || *bucket < last - 3, "{id} of bucket {bucket} is lost");
    }
    assert_eq!(place.layout(), partitions(last - 3..=last + 3));
    store.close().await;
}

/// Each test on each kind of server.
macro_rules! on_servers {
    ($($test:ident),+ $(,)?) => {
        mod mariadb {
            $(on_servers!(@one mariadb $test);)+
        }
        mod mysql {
            $(on_servers!(@one mysql $test);)+
        }
        mod tidb {
            $(on_servers!(@one tidb $test);)+
        }
    };
    (@one $server:ident $test:ident) => {
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $test() {
            if let Some(server) = crate::servers::$server() {
                super::$test(server).await;
            }
        }
    };
}

on_servers!(
    partitions_follow_the_clock,
    a_long_absence_loses_nothing,
    mixed_partitions_are_divided_and_kept,
    one_store_works_and_another_takes_over,
    the_work_is_done_without_being_asked_for,
    old_fences_go_and_nothing_else,
    changes_are_logged_within_bounds,
    the_newest_rows_are_kept_whatever_their_ids,
    writes_go_on_while_partitions_change,
);

/// Followers of the binary log know these changes by their mark (coherence row 54).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_binary_log_carries_the_mark() {
    let server = servers::mariadb().expect("always there");
    let place = Place::new(server).await;
    let store = place.store().await;
    place.at(FIRST + 20);
    mark(&store, [1]).await;
    upkeep(&store).await;
    store.close().await;
    let events = place.sql("SHOW BINLOG EVENTS");
    let of_table = format!("use `{}`; ALTER TABLE `history_first` ", place.database);
    let told: Vec<&str> = events
        .lines()
        .filter_map(|line| line.split_once(&of_table))
        .map(|(_, rest)| rest)
        .collect();
    assert!(told.iter().all(|rest| rest.starts_with("/* seen:partitions */ ")), "{told:?}");
    let number = |what: &str| told.iter().filter(|rest| rest.contains(what)).count();
    assert_eq!((number(" REORGANIZE PARTITION "), number(" DROP PARTITION ")), (1, 2), "{told:?}");
}

/// A table that somebody else holds is left for the next round, and the rest is done.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_in_use_is_tried_again() {
    let server = servers::mariadb().expect("always there");
    let place = Place::new(server).await;
    let store = place.store().await;
    mark(&store, [1]).await;
    let mut holding = connection(&place).await;
    let held = "START TRANSACTION; SELECT * FROM history_first";
    holding.execute(sqlx::raw_sql(held)).await.expect("rows");
    place.sql("INSERT INTO seen_control VALUES (1, 0, 1, 1, 1)");
    place.at(FIRST + 1);
    let failed = store.upkeep_now().await.expect_err("the table is in use");
    assert!(failed.message.contains("1205"), "{failed}");
    assert_eq!(place.number("SELECT COUNT(*) FROM seen_control"), 0);
    assert_eq!(place.layout(), partitions(FIRST - 3..=FIRST + 3));
    holding.close().await.expect("closed");
    upkeep(&store).await;
    assert_eq!(place.layout(), partitions(FIRST - 2..=FIRST + 4));
    assert_eq!(there(&store, 1..=1).await, [1]);
    store.close().await;
}

/// Whoever finds in the middle of its work that another store took over stops there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_lease_ends_the_work() {
    let server = servers::mariadb().expect("always there");
    let mut place = Place::new(server).await;
    place.options.upkeep_lease_ms = 3_000;
    let (one, other) = (place.store().await, place.store().await);
    place.sql("INSERT INTO seen_control VALUES (1, 0, 1, 1, 1)");
    let mut holding = connection(&place).await;
    let held = "START TRANSACTION; SELECT * FROM seen_control FOR UPDATE";
    holding.execute(sqlx::raw_sql(held)).await.expect("rows");
    let holder = || place.sql("SELECT holder FROM seen_leases");
    let store = Arc::clone(&one);
    let working = tokio::spawn(async move { store.upkeep_now().await });
    let taken = || Some(holder()).filter(|holder| !holder.is_empty());
    let first = tokio::task::block_in_place(|| seen_testbed::until(Duration::from_secs(60), taken));
    let first = first.expect("a holder");
    // Unless the first one renews it at that very moment.
    let following = loop {
        place.clock.advance(3_000);
        let store = Arc::clone(&other);
        let following = tokio::spawn(async move { store.upkeep_now().await });
        let end = || (holder() != first || following.is_finished()).then_some(());
        tokio::task::block_in_place(|| seen_testbed::until(Duration::from_secs(60), end));
        if holder() != first {
            break following;
        }
        assert!(following.is_finished(), "no other holder");
    };
    let ended = working.await.expect("it ends").expect_err("the lease is lost");
    assert!(ended.message.contains("lease"), "{ended}");
    assert!(!following.is_finished(), "the row is still held");
    holding.close().await.expect("closed");
    following.await.expect("it ends").expect("the other goes on");
    assert_eq!(place.number("SELECT COUNT(*) FROM seen_control"), 0);
    one.close().await;
    other.close().await;
}

/// A table that is divided in another way is not touched.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_table_without_buckets_is_left_alone() {
    let server = servers::mariadb().expect("always there");
    let place = Place::new(server).await;
    place.sql("ALTER TABLE history_first REMOVE PARTITIONING");
    let store = place.store().await;
    mark(&store, [1]).await;
    place.at(FIRST + 100);
    let failed = store.upkeep_now().await.expect_err("no partitions");
    assert!(failed.message.contains("history_first"), "{failed}");
    assert_eq!(place.stored(), 1);
    assert!(there(&store, 1..=1).await.is_empty());
    store.close().await;
}
