//! Several shards on several servers: each fails alone, and what is in the wrong place is found.

#[allow(dead_code, reason = "shared by test programs, which use different parts")]
mod servers;
mod shard_world;

use std::collections::BTreeSet;
use std::time::Duration;

use seen_filter::history::{PageRequest, Write, WriteOp};
use seen_filter::{History, Item, Shard, StoreErrorKind, UserId};
use seen_store::{MySqlOptions, MySqlStore};
use seen_testbed::MariaDb;
use servers::{OnServer, sharded_options};
use shard_world::{NS, has, mark, opened, server, settings};

const USERS: u64 = 200;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_shard_degrades_its_own_users_only() {
    let dying = MariaDb::start().expect("a second server");
    let alive = server();
    let quick = MySqlOptions {
        connect_timeout_ms: 1_000,
        check_timeout_ms: 1_000,
        write_timeout_ms: 1_000,
        ..sharded_options(&[&alive, &dying], 4)
    };
    let store = opened(&quick).await;
    store.write((0..USERS).map(|user| mark(user, 1)).collect()).await.expect("marks");
    let on_dying = |user: u64| store.shard_of(UserId::new(user)).get() % 2 == 1;
    let (lost, kept): (Vec<u64>, Vec<u64>) = (0..USERS).partition(|user| on_dying(*user));
    assert!(lost.len() > 50 && kept.len() > 50, "{} and {}", lost.len(), kept.len());
    dying.kill_9().expect("killed");
    for user in &kept {
        assert_eq!(has(&store, *user, 1).await, Ok(true), "user {user}");
        store.write(vec![mark(*user, 2)]).await.expect("the others write on");
    }
    for user in &lost[..5] {
        assert_eq!(has(&store, *user, 1).await, Err(StoreErrorKind::Unavailable));
        let refused = store.write(vec![mark(*user, 2)]).await.expect_err("it is dead");
        assert_eq!(refused.kind, StoreErrorKind::Unavailable, "{refused}");
        assert!(refused.message.contains("shard"), "{refused}");
    }
    // One call for users of both: some of it is committed, and nobody can say that none is.
    let both = store.write(vec![mark(kept[0], 3), mark(lost[0], 3)]).await.expect_err("in part");
    assert_eq!(both.kind, StoreErrorKind::OutcomeUnknown);
    dying.restart().expect("restarted");
    let mut looks = tokio::time::interval(Duration::from_millis(50));
    while has(&store, lost[0], 1).await != Ok(true) {
        looks.tick().await;
    }
    for user in &lost {
        assert_eq!(has(&store, *user, 1).await, Ok(true), "user {user}");
    }
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_in_the_wrong_place_are_found() {
    let options = sharded_options(&[&server()], 4);
    let store = opened(&options).await;
    store.write((0..USERS).map(|user| mark(user, 1)).collect()).await.expect("marks");
    let mut users = 0;
    for shard in (0..4).map(Shard::new) {
        let placement = store.verify_placement(shard, NS, |_| {}).await.expect("a look");
        assert_eq!(placement.misplaced, 0, "{placement:?}");
        users += placement.users;
    }
    assert_eq!(users, USERS);
    let stranger = (0..).find(|user| store.shard_of(UserId::new(*user)) == Shard::new(2));
    let stranger = stranger.expect("a user of shard 2");
    let database = &options.shards[1].database;
    let wrong = format!("INSERT INTO {database}.history_reads VALUES ({stranger}, 1, 77, 5)");
    server().sql(&wrong).expect("a row");
    let placement = store.verify_placement(Shard::new(1), NS, |_| {}).await.expect("a look");
    assert_eq!((placement.misplaced, placement.named), (1, vec![UserId::new(stranger)]));
    assert_eq!(has(&store, stranger, 77).await, Ok(false), "nobody reads it there");
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn users_stay_where_they_are() {
    let options = sharded_options(&[&server()], 8);
    let store = opened(&options).await;
    let homes: Vec<Shard> = (0..USERS).map(|user| store.shard_of(UserId::new(user))).collect();
    assert_eq!(homes.iter().collect::<BTreeSet<_>>().len(), 8, "all shards are used");
    store.close().await;
    let again = opened(&options).await;
    for (user, home) in (0..).zip(&homes) {
        assert_eq!(again.shard_of(UserId::new(user)), *home);
    }
    again.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_map_is_refused() {
    let options = sharded_options(&[&server()], 4);
    opened(&options).await.close().await;
    let mut swapped = options.clone();
    swapped.shards.swap(1, 2);
    let mut halved = options.clone();
    halved.shards.truncate(2);
    let stranger = sharded_options(&[&server()], 4);
    opened(&stranger).await.close().await;
    let mut mixed = options.clone();
    mixed.shards[3] = stranger.shards[3].clone();
    for (wrong, named) in
        [(swapped, "which is shard 2 of 4"), (halved, "of 4"), (mixed, "another store")]
    {
        let refused = MySqlStore::open(wrong, settings()).await.err().expect(named);
        assert_eq!(refused.kind, StoreErrorKind::InvalidRequest);
        assert!(refused.message.contains(named), "{refused}");
    }
}

/// A user of half a million rows, by pages, on each kind of server.
async fn a_large_user(server: OnServer) {
    const ROWS: u64 = 500_000;
    let store = server.store(server.options(), settings()).await;
    for first in (0..ROWS).step_by(10_000) {
        let writes = (first..first + 10_000).step_by(1_000).map(|from| {
            let items = (from..from + 1_000).map(|id| (Item::new(1, id * 3), None)).collect();
            Write { namespace: NS, user: UserId::new(7), op: WriteOp::Append, items }
        });
        store.write(writes.collect()).await.expect("marks");
    }
    let mut after = None;
    let mut next = 0;
    loop {
        let request = PageRequest { namespace: NS, user: UserId::new(7), after, rows_max: 10_000 };
        let page = store.page(request).await.expect("a page");
        for row in &page.rows {
            assert_eq!(row.item, Item::new(1, next * 3));
            next += 1;
        }
        after = page.rows.last().map(|row| row.item);
        if page.last {
            break;
        }
    }
    assert_eq!(next, ROWS);
    let size = store.size(NS).await.expect("a size");
    // TiDB estimates after its own ANALYZE, which comes when it comes.
    assert!(!size.exact && size.rows > 100_000 && size.rows < ROWS * 2, "{size:?}");
    let forgotten = store.forget(NS, UserId::new(7)).await.expect("forgotten");
    assert_eq!(forgotten.rows, ROWS);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_user_on_mariadb() {
    a_large_user(server()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_user_on_mysql() {
    if let Some(server) = servers::mysql() {
        a_large_user(server).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_user_on_tidb() {
    if let Some(server) = servers::tidb() {
        a_large_user(server).await;
    }
}
