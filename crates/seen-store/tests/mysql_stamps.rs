//! Commit stamps of MySQL: the number of an own commit is told by the performance schema, and is the
//! same that the binary log's reader gives its events. Where that says nothing, no commit is stamped.

#[allow(dead_code, reason = "shared by test programs; this one needs no shards")]
mod servers;

use std::sync::Arc;

use seen_filter::history::{Write, WriteOp};
use seen_filter::{
    ChangeFeed, CommitStamp, FeedEvent, FeedStart, History, Item, NamespaceId, NamespaceSettings,
    UserId,
};
use seen_store::{BinlogFeed, MySqlOptions, MySqlStore};
use seen_testbed::{Mysql, or_skip};

const NS: NamespaceId = NamespaceId::new(0);
const USER: UserId = UserId::new(7);

async fn open(server: &Mysql) -> Arc<MySqlStore> {
    server.sql("CREATE DATABASE seen").expect("a database");
    let options =
        MySqlOptions { write_timeout_ms: 1_000, ..servers::options(server.port(), "seen") };
    let namespaces = vec![NamespaceSettings::new(NS, "reads")];
    MySqlStore::apply_schema(options.clone(), namespaces.clone()).await.expect("a schema");
    MySqlStore::open(options, namespaces).await.expect("a store")
}

async fn write(store: &MySqlStore, op: WriteOp, id: u64) -> Option<CommitStamp> {
    let items = vec![(Item::new(1, id), None)];
    store.write(vec![Write { namespace: NS, user: USER, op, items }]).await.expect("written")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commits_stamp_is_that_of_its_events() {
    let Some(server) = or_skip(Mysql::start_with(&["--performance-schema=ON"])) else { return };
    let store = open(&server).await;
    let feed = BinlogFeed::new(store.binlog_options().expect("a log")).expect("a feed");
    let mut reader = feed.open(feed.feed_of(NS, USER), FeedStart::Head).await.expect("a reader");
    let mut told = Vec::new();
    for id in 0..20 {
        told.push(write(&store, WriteOp::Append, id).await.expect("a stamp"));
        assert_eq!(write(&store, WriteOp::Append, id).await, None, "it changed nothing");
    }
    told.push(write(&store, WriteOp::Remove, 3).await.expect("a stamp"));
    assert_eq!(write(&store, WriteOp::Remove, 3).await, None, "it changed nothing");
    assert!(told.windows(2).all(|pair| pair[1].covers(pair[0]) && pair[0] != pair[1]));
    let mut seen = Vec::new();
    while seen.len() < told.len() {
        for event in reader.next(100).await.expect("events").events {
            match event {
                FeedEvent::Add { stamp, .. } | FeedEvent::Remove { stamp, .. } => seen.push(stamp),
                FeedEvent::Complete { .. } => {}
                other => panic!("{other:?}"),
            }
        }
    }
    assert_eq!(seen, told);
    let forgotten = store.forget(NS, USER).await.expect("forgotten");
    assert!(forgotten.stamp.expect("a stamp").covers(told[20]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_the_performance_schema_no_commit_is_stamped() {
    let Some(server) = or_skip(Mysql::start()) else { return };
    let store = open(&server).await;
    for id in 0..5 {
        assert_eq!(write(&store, WriteOp::Append, id).await, None);
    }
}

/// A server that keeps account no longer shows the last number for ever: it must not be taken for that
/// of a later commit.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_that_was_stopped_gives_no_old_numbers() {
    let Some(server) = or_skip(Mysql::start_with(&["--performance-schema=ON"])) else { return };
    let store = open(&server).await;
    for id in 0..20 {
        write(&store, WriteOp::Append, id).await.expect("a stamp");
    }
    let turn = |how: &str| {
        let sql = format!(
            "UPDATE performance_schema.setup_consumers SET enabled = '{how}' \
             WHERE name = 'events_transactions_current'"
        );
        server.sql(&sql).expect("set");
    };
    turn("NO");
    for id in 20..60 {
        assert_eq!(write(&store, WriteOp::Append, id).await, None);
    }
    turn("YES");
    write(&store, WriteOp::Append, 60).await.expect("a stamp again");
}
