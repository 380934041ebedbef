//! One address that always leads to the primary, as a name of DNS or Consul and a floating address do:
//! it is looked up for each connection, so that a hand-over is followed though no candidate changes. A
//! proxy that leads new connections elsewhere, and keeps the open ones, stands for the name.

mod faults;

use faults::{eventually, found, ids_at, mark, migrate, open, options, server, works_again};
use seen_filter::{ChangeFeed, FeedEvent, FeedReader, FeedStart, History, NamespaceId, UserId};
use seen_store::BinlogFeed;
use seen_testbed::{MariaDb, TcpProxy};

/// Waits until the feed tells of a user's item.
async fn told(reader: &mut Box<dyn FeedReader>, user: u64, id: u64) {
    loop {
        // While the old connection ends, errors are told and reading goes on behind.
        let Ok(batch) = reader.next(100).await else { continue };
        let is = |event: &FeedEvent| {
            matches!(event, FeedEvent::Add { user: u, item, .. }
                if u.get() == user && item.id.get() == id)
        };
        if batch.events.iter().any(is) {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_name_that_leads_to_another_primary_is_followed() {
    let old = server(&[]);
    migrate(&options(&[old.port()])).await;
    let new = MariaDb::builder().replica_of(&old).start().expect("a replica");
    let name = TcpProxy::to(old.port()).expect("a proxy");
    let store = open(&options(&[name.port()])).await;
    works_again(&store, 1).await;
    let feed = BinlogFeed::new(store.binlog_options().expect("a log")).expect("a feed");
    let of = feed.feed_of(NamespaceId::new(0), UserId::new(2));
    let mut reader = feed.open(of, FeedStart::Head).await.expect("a reader");
    store.write(mark(2, [1])).await.expect("marked");
    told(&mut reader, 2, 1).await;

    old.set_read_only(true).expect("read only");
    new.catch_up_with(&old).expect("caught up");
    new.promote().expect("promoted");
    name.retarget(new.port());
    eventually("a write", async || {
        store.write(mark(2, [2])).await.map_err(|error| error.to_string())
    })
    .await;
    assert_eq!((ids_at(&new, 2), ids_at(&old, 2)), (vec![1, 2], vec![1]));
    let seen = eventually("a check", async || {
        found(&store, 2, [1, 2, 3]).await.map_err(|error| error.to_string())
    });
    assert_eq!(seen.await, [true, true, false]);
    // The old server is there, says nothing any more, and is left.
    told(&mut reader, 2, 2).await;
}
