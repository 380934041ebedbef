//! What becomes of readers when servers and networks fail: no event is lost without a gap.

mod binlog_world;

use std::path::Path;

use binlog_world::{
    World, address, adds, connect, cursor, feed, feed_id, fresh, next_at_last, options,
    own_mapping, stamp, told, until,
};
use mysql_async::prelude::Queryable;
use seen_filter::{ChangeFeed, FeedCursor, FeedEvent, FeedReader, FeedStart, Timeline};
use seen_testbed::{MariaDb, TcpProxy};

fn server() -> MariaDb {
    MariaDb::start().expect("a server")
}

/// Reads to an add, and asserts that nothing but these rows came.
async fn goes_on(reader: &mut Box<dyn FeedReader>, user: u64, items: &[u64]) {
    let last = *items.last().expect("an item");
    let events = until(reader, adds(user, last)).await;
    let expected: Vec<_> = items.iter().map(|id| format!("+{user}/1:{id}")).collect();
    assert_eq!(told(&events), expected);
}

/// Reads to a gap and the head after it; the gap's reason and the timeline of the place after it.
async fn meets_a_gap(reader: &mut Box<dyn FeedReader>) -> (&'static str, Timeline) {
    let events = until(reader, |event| matches!(event, FeedEvent::Gap { .. })).await;
    let Some(FeedEvent::Gap { reason, .. }) = events.last() else { panic!("{events:?}") };
    let head = next_at_last(reader, 1).await;
    assert!(matches!(head.events[..], [FeedEvent::Complete { .. }]), "{head:?}");
    (reason, head.resume.timeline)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_that_comes_back_loses_nothing() {
    let server = server();
    let mut world = World::new(server.port()).await;
    let mut reader = world.at_head().await;
    for round in 0..3 {
        let ids: Vec<_> = (round * 10..round * 10 + 9).collect();
        world.add(7, ids.iter().copied()).await;
        // Half of a transaction is read before the server dies, and the rest after.
        goes_on(&mut reader, 7, &ids[..4]).await;
        server.kill_9().expect("killed");
        goes_on(&mut reader, 7, &ids[4..]).await;
        server.restart().expect("restarted");
        world.conn = connect(server.port()).await;
        let database = world.database.clone();
        world.sql(&format!("USE {database}")).await;
    }
    let events = world.drain(&mut reader).await;
    assert_eq!(told(&events), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_promoted_replica_goes_on_at_the_same_position() {
    let old = server();
    let mut world = World::new(old.port()).await;
    let mut reader = world.at_head().await;
    let begin = cursor(&mut reader).await;
    world.add(7, [1, 2]).await;
    goes_on(&mut reader, 7, &[1]).await;
    let replica = MariaDb::builder().replica_of(&old).start().expect("a replica");
    world.add(7, [3]).await;
    replica.catch_up_with(&old).expect("caught up");
    old.kill_9().expect("killed");
    replica.promote().expect("promoted");
    world.conn = connect(replica.port()).await;
    let database = world.database.clone();
    world.sql(&format!("USE {database}")).await;
    world.add(7, [4]).await;
    world.primary.send_replace(Some(address(replica.port())));
    let events = until(&mut reader, adds(7, 4)).await;
    assert_eq!(told(&events), ["+7/1:2", "+7/1:3", "+7/1:4"]);
    // Each server's numbers are its own: of what the old one made, some may be given again.
    let by: Vec<Timeline> = events
        .iter()
        .filter_map(|event| match event {
            FeedEvent::Add { stamp, .. } => Some(stamp.timeline),
            _ => None,
        })
        .collect();
    assert!(by[0] == by[1] && by[1] != by[2], "{by:?}");
    assert_eq!(cursor(&mut reader).await.timeline, begin.timeline);
    // A cursor of before the failover, of which only the number is known.
    let mut resumed = world.open(FeedStart::At(begin)).await;
    goes_on(&mut resumed, 7, &[1, 2, 3]).await;
    let at = next_at_last(&mut resumed, 1).await.resume;
    world.sql("FLUSH BINARY LOGS").await;
    world.add(7, [5]).await;
    let mut resumed = world.open(FeedStart::At(at)).await;
    goes_on(&mut resumed, 7, &[4, 5]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_that_lacks_what_was_told_is_a_gap() {
    let old = server();
    let mut world = World::new(old.port()).await;
    let replica = MariaDb::builder().replica_of(&old).start().expect("a replica");
    let mut reader = world.at_head().await;
    replica.sql("STOP ALL SLAVES").expect("stopped");
    world.add(7, [1]).await;
    goes_on(&mut reader, 7, &[1]).await;
    let before = cursor(&mut reader).await.timeline;
    old.kill_9().expect("killed");
    replica.promote().expect("promoted");
    world.conn = connect(replica.port()).await;
    let database = world.database.clone();
    world.sql(&format!("USE {database}")).await;
    // The same number again, and a higher one: other transactions than those that were told.
    world.add(7, [2]).await;
    world.add(7, [3]).await;
    world.primary.send_replace(Some(address(replica.port())));
    let (reason, timeline) = meets_a_gap(&mut reader).await;
    assert_eq!(reason, "rewound");
    assert_ne!(timeline, before);
    world.add(7, [4]).await;
    goes_on(&mut reader, 7, &[4]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_begins_anew_is_a_gap_and_another_timeline_for_all() {
    let server = server();
    let mut world = World::new(server.port()).await;
    let mut readers = [world.at_head().await, world.at_head().await];
    world.add(7, [1]).await;
    for reader in &mut readers {
        goes_on(reader, 7, &[1]).await;
    }
    let before = cursor(&mut readers[0]).await.timeline;
    world.sql("RESET MASTER").await;
    world.add(7, [2]).await;
    let mut last = Vec::new();
    for reader in &mut readers {
        let (_, timeline) = meets_a_gap(reader).await;
        assert_ne!(timeline, before);
    }
    world.add(7, [3]).await;
    for reader in &mut readers {
        // Where both found it out at once, one more gap may follow.
        let events = until(reader, adds(7, 3)).await;
        last.push(stamp(events.last().expect("an event")).expect("a stamp"));
    }
    assert_eq!(last[0], last[1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_copy_is_found_out_although_its_numbers_are_higher() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, copy) = (folder.path().join("data"), folder.path().join("copy"));
    let server = MariaDb::builder().data_folder(&data).start().expect("a server");
    let mut world = World::new(server.port()).await;
    world.add(7, [1]).await;
    server.stop().expect("stopped");
    copy_folder(&data, &copy);
    server.restart().expect("restarted");
    let database = world.database.clone();
    world.conn = connect(server.port()).await;
    world.sql(&format!("USE {database}")).await;
    let mut reader = world.at_head().await;
    world.add(7, [2]).await;
    world.drain(&mut reader).await;
    let before = cursor(&mut reader).await.timeline;
    world.primary.send_replace(None);
    server.stop().expect("stopped");
    std::fs::remove_dir_all(&data).expect("removed");
    copy_folder(&copy, &data);
    server.restart().expect("restarted");
    world.conn = connect(server.port()).await;
    world.sql(&format!("USE {database}")).await;
    for id in 10..20 {
        world.add(7, [id]).await;
    }
    world.primary.send_replace(Some(address(server.port())));
    let (reason, timeline) = meets_a_gap(&mut reader).await;
    assert_eq!(reason, "rewound");
    assert_ne!(timeline, before);
    world.add(7, [30]).await;
    goes_on(&mut reader, 7, &[30]).await;
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("made");
    for entry in std::fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        match entry.file_type().expect("a type") {
            kind if kind.is_dir() => copy_folder(&entry.path(), &target),
            kind if kind.is_file() => {
                std::fs::copy(entry.path(), target).expect("copied");
            }
            _ => {}
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cursors_that_the_log_does_not_have_meet_a_gap() {
    let server = server();
    let mut world = World::new(server.port()).await;
    let mut reader = world.at_head().await;
    let begin = cursor(&mut reader).await;
    world.add(7, [1]).await;
    world.drain(&mut reader).await;
    let good = cursor(&mut reader).await;
    let other = Timeline::new(good.timeline.get() ^ 1);
    world.sql("FLUSH BINARY LOGS").await;
    world.add(7, [2]).await;
    let mut resumed = world.open(FeedStart::At(good)).await;
    goes_on(&mut resumed, 7, &[2]).await;
    world.sql("FLUSH BINARY LOGS").await;
    let newest = newest_file(&mut world).await;
    world.sql(&format!("PURGE BINARY LOGS TO '{newest}'")).await;
    for (cursor, expected) in [
        (FeedCursor { timeline: other, ..good }, "timeline"),
        (FeedCursor { offset: good.offset + (1 << 40), ..good }, "ahead"),
        (begin, "purged"),
        (FeedCursor { offset: 0, ..good }, "purged"),
    ] {
        let mut reader = world.open(FeedStart::At(cursor)).await;
        let (reason, timeline) = meets_a_gap(&mut reader).await;
        assert_eq!((reason, timeline), (expected, good.timeline));
        let id = fresh() + 100;
        world.add(7, [id]).await;
        goes_on(&mut reader, 7, &[id]).await;
    }
}

async fn newest_file(world: &mut World) -> String {
    let files: Vec<mysql_async::Row> = world.conn.query("SHOW BINARY LOGS").await.expect("files");
    files.last().and_then(|row| row.get(0)).expect("a file")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_timeline_of_the_store_is_a_gap() {
    let server = server();
    let proxy = TcpProxy::to(server.port()).expect("a proxy");
    let mut world = World::new(server.port()).await;
    world.primary.send_replace(Some(address(proxy.port())));
    let mut reader = world.at_head().await;
    world.sql("UPDATE seen_store SET timeline = timeline + 1").await;
    proxy.cut();
    proxy.heal();
    assert_eq!(meets_a_gap(&mut reader).await.0, "timeline");
    world.add(7, [1]).await;
    goes_on(&mut reader, 7, &[1]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cut_connections_are_made_anew() {
    let server = server();
    let proxy = TcpProxy::to(server.port()).expect("a proxy");
    let mut world = World::new(server.port()).await;
    world.primary.send_replace(Some(address(proxy.port())));
    let mut reader = world.at_head().await;
    for id in 0..10 {
        world.add(7, [id * 2, id * 2 + 1]).await;
        goes_on(&mut reader, 7, &[id * 2]).await;
        proxy.cut();
        proxy.heal();
        goes_on(&mut reader, 7, &[id * 2 + 1]).await;
    }
    let events = world.drain(&mut reader).await;
    assert_eq!(told(&events), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_network_is_noticed_and_loses_nothing() {
    let server = server();
    let proxy = TcpProxy::to(server.port()).expect("a proxy");
    let mut world = World::new(server.port()).await;
    world.primary.send_replace(Some(address(proxy.port())));
    let mut options = options(&world.database, &world.primary, own_mapping());
    options.connect_timeout_ms = 300;
    world.feed = feed(options);
    let mut reader = loop {
        // The first connections to a busy machine may take longer than that.
        if let Ok(reader) = world.feed.open(feed_id(), FeedStart::Head).await {
            break reader;
        }
    };
    world.add(7, [1]).await;
    goes_on(&mut reader, 7, &[1]).await;
    proxy.hold();
    world.add(7, [2]).await;
    // The connection is given up, and the next one gets no answer.
    loop {
        match reader.next(1).await {
            Ok(batch) => assert_eq!(told(&batch.events), Vec::<String>::new()),
            Err(error) => {
                assert!(error.retry_helps, "{error}");
                break;
            }
        }
    }
    proxy.heal();
    world.add(7, [3]).await;
    goes_on(&mut reader, 7, &[2, 3]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hung_server_is_noticed_and_loses_nothing() {
    let server = server();
    let mut world = World::new(server.port()).await;
    let mut options = options(&world.database, &world.primary, own_mapping());
    options.connect_timeout_ms = 1_000;
    world.feed = feed(options);
    let mut reader = world.at_head().await;
    world.add(7, [1, 2]).await;
    goes_on(&mut reader, 7, &[1]).await;
    server.freeze().expect("frozen");
    while reader.next(1).await.is_ok() {}
    server.thaw().expect("thawed");
    world.add(7, [3]).await;
    goes_on(&mut reader, 7, &[3]).await;
}

#[tokio::test]
async fn a_closed_feed_ends_its_readers() {
    let server = server();
    let world = World::new(server.port()).await;
    let mut reader = world.at_head().await;
    world.feed.close();
    let error = loop {
        if let Err(error) = reader.next(1).await {
            break error;
        }
    };
    assert!(!error.retry_helps, "{error}");
    assert!(world.feed.open(feed_id(), FeedStart::Head).await.is_err());
}
