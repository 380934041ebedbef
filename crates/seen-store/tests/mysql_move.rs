//! Moving a shard to another server while processes with the old and the new map run: from the moment
//! that the shard is told of the new map, nobody with the old one reads or writes there.

mod faults;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use faults::{
    LIMIT, PASSWORD, TABLE, USER, address, answered, eventually, found, ids_at, mark, marking,
    migrate, open, options, page, server, works_again,
};
use seen_filter::{
    ChangeFeed, FeedEvent, FeedStart, History, Shard, StoreError, StoreErrorKind, UserId,
};
use seen_store::{BinlogFeed, MySqlOptions, MySqlStore};
use seen_testbed::{MariaDb, Mysql, TcpProxy, or_skip};

const SHARD: Shard = Shard::new(0);

/// The map of this age, on these servers.
fn map(epoch: u32, ports: &[u16]) -> MySqlOptions {
    MySqlOptions { map_epoch: epoch, ..options(ports) }
}

fn is_outdated(error: &StoreError) -> Result<(), String> {
    assert_eq!(error.kind, StoreErrorKind::Unavailable, "{error}");
    error.message.contains("newer map").then_some(()).ok_or_else(|| error.to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_moves_to_another_server() {
    let old = server(&[]);
    migrate(&map(1, &[old.port()])).await;
    // The copy, by replication: the second server follows the first.
    let new = MariaDb::builder().replica_of(&old).start().expect("a replica");
    let before = open(&map(1, &[old.port()])).await;
    assert_eq!(before.map_epoch(SHARD), Some(1));
    works_again(&before, 1).await;
    let feed = BinlogFeed::new(before.binlog_options().expect("a log")).expect("a feed");
    let mut reader = feed.open(feed.feeds()[0], FeedStart::Head).await.expect("followed");

    // Processes with the new map find no primary at the new place yet.
    let said = MySqlStore::open(map(2, &[new.port()]), faults::plain()).await;
    let said = said.err().expect("the new place takes no writes yet");
    assert!(said.message.contains("none of its servers takes writes"), "{said}");

    // Marks go on until the shard is told.
    let stop = Arc::new(AtomicBool::new(false));
    let marking = marking(&before, 2, &stop);
    eventually("marks", async || match ids_at(&old, 2).len() {
        0..20 => Err("too few".to_owned()),
        _ => Ok(()),
    })
    .await;
    let known = before.raise_map_epoch(SHARD, 2).await.expect("raised");
    assert_eq!(known, 1);
    let there = ids_at(&old, 2);
    // Nothing is written there any more, and nothing is read.
    for id in 100_000..100_020 {
        let refused = before.write(mark(2, [id])).await.expect_err("the old map writes");
        assert_eq!(refused.kind, StoreErrorKind::Unavailable, "{refused}");
        assert!(found(&before, 1, [1]).await.is_err(), "the old map reads");
        assert!(before.page(page(1)).await.is_err(), "the old map reads pages");
    }
    stop.store(true, Ordering::Relaxed);
    let acknowledged = answered("marks", marking).await.expect("no panic");
    assert_eq!(ids_at(&old, 2), there, "written after the shard had been told");
    assert!(acknowledged.iter().all(|id| there.contains(id)), "an acknowledged mark is not there");
    eventually("the cause is told", async || {
        is_outdated(&before.write(mark(2, [1])).await.expect_err("refused"))
    })
    .await;
    assert!(before.status()[0].trouble.is_some());

    // The copy has caught up, is let go of and takes writes: the new map works, with everything.
    new.catch_up_with(&old).expect("caught up");
    new.promote().expect("promoted");
    let after = open(&map(2, &[new.port()])).await;
    assert_eq!(after.map_epoch(SHARD), Some(2));
    works_again(&after, 3).await;
    assert_eq!(
        found(&after, 2, acknowledged.clone()).await.expect("a check"),
        vec![true; acknowledged.len()]
    );
    // The old map is no way in to the new place either, and its feed follows the old place no more.
    let said = MySqlStore::open(map(1, &[new.port()]), faults::plain()).await;
    is_outdated(&said.err().expect("the old map opens")).expect("the cause");
    old.sql(&format!("INSERT INTO {TABLE} VALUES (77, 1, 1, 1)")).expect("a stranger's row");
    let quiet = tokio::time::Instant::now() + std::time::Duration::from_millis(500);
    while let Ok(next) = tokio::time::timeout_at(quiet, reader.next(100)).await {
        let Ok(batch) = next else { break };
        let strange = |event: &FeedEvent| matches!(event, FeedEvent::Add { user, .. } if *user == UserId::new(77));
        assert!(!batch.events.iter().any(strange), "the old place is still believed");
    }
    feed.close();
    before.close().await;
    after.close().await;
}

/// A store that has nothing to do learns of it by its next call; it has no other word in between.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idle_store_is_refused_at_its_next_call() {
    let server = server(&[]);
    migrate(&map(1, &[server.port()])).await;
    let (idle, other) =
        (open(&map(1, &[server.port()])).await, open(&map(1, &[server.port()])).await);
    works_again(&idle, 1).await;
    other.raise_map_epoch(SHARD, 5).await.expect("raised");
    assert!(found(&idle, 1, [1]).await.is_err(), "an outdated map was believed");
    assert!(idle.page(page(1)).await.is_err(), "an outdated map was believed");
    assert!(idle.write(mark(1, [2])).await.is_err(), "an outdated map wrote");
    assert_eq!(ids_at(&server, 1), [1]);
    // Newer maps are as good, and each can only be raised.
    let newer = open(&map(7, &[server.port()])).await;
    works_again(&newer, 2).await;
    for epoch in [0, 4] {
        let refused = newer.raise_map_epoch(SHARD, epoch).await.expect_err("it went back");
        assert!(refused.message.contains("epoch 5 already"), "{refused}");
    }
    assert_eq!(newer.raise_map_epoch(SHARD, 6).await.expect("raised"), 5);
    works_again(&newer, 3).await;
    for store in [idle, other, newer] {
        store.close().await;
    }
}

/// Whoever does not know whether it was done does it again, with the map that is refused since, and is
/// told that it is done.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn raising_again_says_that_it_is_done() {
    let server = server(&[]);
    migrate(&map(1, &[server.port()])).await;
    let proxy = TcpProxy::to(server.port()).expect("a proxy");
    let store = open(&map(1, &[proxy.port()])).await;
    works_again(&store, 1).await;
    proxy.cut_after_client_sends(b"COMMIT");
    let unknown = store.raise_map_epoch(SHARD, 2).await.expect_err("it was cut");
    assert_eq!(unknown.kind, StoreErrorKind::OutcomeUnknown, "{unknown}");
    proxy.heal();
    eventually("the server does what was asked", async || {
        let told = server.sql("SELECT epoch FROM seen.seen_map").expect("an epoch");
        (told.trim() == "2").then_some(()).ok_or(told)
    })
    .await;
    for _ in 0..3 {
        let again = eventually("an answer", async || {
            store.raise_map_epoch(SHARD, 2).await.map_err(|error| error.to_string())
        })
        .await;
        assert_eq!(again, 2, "it had been told of this map");
        assert!(store.write(mark(1, [2])).await.is_err(), "an outdated map wrote");
    }
    let refused = store.raise_map_epoch(SHARD, 1).await.expect_err("it went back");
    assert!(refused.message.contains("epoch 2 already"), "{refused}");
    store.close().await;
}

/// A transaction that began before the shard was told ends before it is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn writes_under_way_are_waited_for() {
    let server = server(&[]);
    migrate(&map(1, &[server.port()])).await;
    let patient = MySqlOptions { write_timeout_ms: 20_000, ..map(1, &[server.port()]) };
    let (writer, raiser) = (open(&patient).await, open(&patient).await);
    works_again(&writer, 1).await;
    // A row that another client holds keeps the write from ending.
    let row = format!("{TABLE} WHERE user_id = 1 AND item_id = 1");
    let folder = server.socket();
    let holding = std::process::Command::new("mariadb")
        .args(["--no-defaults", "-uroot", "-S"])
        .arg(&folder)
        .arg("-e")
        .arg(format!("BEGIN; SELECT * FROM {row} FOR UPDATE; SELECT SLEEP(3); COMMIT"))
        .spawn();
    let mut holding = holding.expect("a client");
    let is_held = "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE '%SLEEP(3)%' \
                   AND info NOT LIKE '%processlist%'";
    eventually("the row is held", async || match server.sql(is_held).expect("a count").trim() {
        "0" => Err("not yet".to_owned()),
        _ => Ok(()),
    })
    .await;
    let writing = {
        let writer = Arc::clone(&writer);
        tokio::spawn(async move { writer.write(mark(1, [1, 2])).await })
    };
    let waits = "SELECT COUNT(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'";
    eventually("the write waits", async || match server.sql(waits).expect("a count").trim() {
        "0" => Err("not yet".to_owned()),
        _ => Ok(()),
    })
    .await;
    let raised = tokio::time::timeout(LIMIT, raiser.raise_map_epoch(SHARD, 2)).await;
    raised.expect("in time").expect("raised");
    // It was first: its mark is there by now, and it is acknowledged.
    assert_eq!(ids_at(&server, 1), [1, 2], "the shard was told while a write was under way");
    writing.await.expect("no panic").expect("acknowledged");
    holding.wait().expect("ended");
    writer.close().await;
    raiser.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mysql_is_told_as_well() {
    let Some(server) = or_skip(Mysql::start()) else { return };
    server.create_user(USER, PASSWORD).expect("a user");
    server.sql("CREATE DATABASE seen").expect("a database");
    let ours = MySqlOptions { map_epoch: 1, ..options(&[server.port()]) };
    assert_eq!(ours.shards[0].candidates, [address(server.port())]);
    migrate(&ours).await;
    let store = open(&ours).await;
    works_again(&store, 1).await;
    store.raise_map_epoch(SHARD, 2).await.expect("raised");
    assert!(store.write(mark(1, [2])).await.is_err(), "an outdated map wrote");
    assert!(found(&store, 1, [1]).await.is_err(), "an outdated map was believed");
    store.close().await;
}
