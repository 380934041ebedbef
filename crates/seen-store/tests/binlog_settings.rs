//! Servers whose log does not say everything are refused, loudly and by name.

mod binlog_world;

use binlog_world::{World, address, adds, feed, feed_id, options, own_mapping, told, until};
use seen_filter::{
    ChangeFeed, FeedError, FeedId, FeedReader, FeedStart, NamespaceId, Partition, Shard,
};
use seen_testbed::MariaDb;
use tokio::sync::watch;

fn server() -> MariaDb {
    MariaDb::start().expect("a server")
}

async fn refusal(world: &World) -> FeedError {
    let opened = world.feed.open(feed_id(), FeedStart::Head).await;
    opened.err().expect("refused")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn settings_that_leave_something_out_are_named() {
    let server = server();
    let mut world = World::new(server.port()).await;
    for (name, bad, good) in [
        ("binlog_format", "MIXED", "ROW"),
        ("binlog_row_image", "MINIMAL", "FULL"),
        ("binlog_row_metadata", "MINIMAL", "FULL"),
        ("log_bin_compress", "ON", "OFF"),
    ] {
        world.sql(&format!("SET GLOBAL {name} = {bad}")).await;
        let error = refusal(&world).await;
        assert!(!error.retry_helps && error.message.contains(&format!("{name}={good}")), "{error}");
        world.sql(&format!("SET GLOBAL {name} = {good}")).await;
        world.at_head().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_a_log_is_refused() {
    let server = MariaDb::builder().argument("--skip-log-bin").start().expect("a server");
    let world = World::new(server.port()).await;
    let error = refusal(&world).await;
    assert!(!error.retry_helps && error.message.contains("--log-bin"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_without_the_stores_schema_is_refused() {
    let server = MariaDb::builder().argument("--binlog-do-db=elsewhere").start().expect("a server");
    let world = World::new(server.port()).await;
    let error = refusal(&world).await;
    let named = error.message.contains("binlog_do_db=elsewhere");
    assert!(!error.retry_helps && named && error.message.contains(&world.database), "{error}");
    let other = MariaDb::builder().argument("--binlog-ignore-db=elsewhere").start();
    let other = other.expect("a server");
    World::new(other.port()).await.at_head().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_without_privileges_is_refused() {
    let server = server();
    let mut world = World::new(server.port()).await;
    let database = world.database.clone();
    world.sql("CREATE USER plain@'127.0.0.1'").await;
    world.sql(&format!("GRANT SELECT ON {database}.* TO plain@'127.0.0.1'")).await;
    let mut options = options(&world.database, &world.primary, own_mapping());
    options.login.user = "plain".to_owned();
    world.feed = feed(options.clone());
    let error = refusal(&world).await;
    assert!(!error.retry_helps && error.message.contains("REPLICATION SLAVE"), "{error}");
    world.sql("GRANT REPLICATION SLAVE, BINLOG MONITOR ON *.* TO plain@'127.0.0.1'").await;
    world.at_head().await;
    options.login.user = "nobody".to_owned();
    world.feed = feed(options);
    let error = refusal(&world).await;
    assert!(!error.retry_helps, "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compressed_events_are_refused_until_the_setting_is_mended_and_then_a_gap() {
    let server = server();
    let mut world = World::new(server.port()).await;
    let mut reader = world.at_head().await;
    world.sql("SET GLOBAL log_bin_compress = ON").await;
    world.sql("SET GLOBAL log_bin_compress_min_len = 10").await;
    world.conn = binlog_world::connect(server.port()).await;
    let database = world.database.clone();
    world.sql(&format!("USE {database}")).await;
    world.add(7, 0..500).await;
    let error = loop {
        if let Err(error) = reader.next(1).await {
            break error;
        }
    };
    assert!(!error.retry_helps && error.message.contains("log_bin_compress=OFF"), "{error}");
    world.sql("SET GLOBAL log_bin_compress = OFF").await;
    world.sql("CREATE TABLE other (a INT)").await;
    world.add(7, [1_000]).await;
    let events = loop {
        match reader.next(100).await {
            Ok(batch) if !told(&batch.events).is_empty() => break batch.events,
            Ok(_) => {}
            Err(error) => assert!(!error.retry_helps, "{error}"),
        }
    };
    assert_eq!(told(&events)[0], "? compressed");
    if !events.iter().any(adds(7, 1_000)) {
        until(&mut reader, adds(7, 1_000)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_gtid_domains_are_refused() {
    let server = server();
    let mut world = World::new(server.port()).await;
    let mut reader = world.at_head().await;
    world.sql("SET gtid_domain_id = 5").await;
    world.add(7, [1]).await;
    let error = loop {
        match reader.next(10).await {
            Ok(batch) => assert_eq!(told(&batch.events), Vec::<String>::new()),
            Err(error) => break error,
        }
    };
    assert!(!error.retry_helps && error.message.contains("gtid_domain_id"), "{error}");
    let error = refusal(&world).await;
    assert!(!error.retry_helps && error.message.contains("gtid_domain_id"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_is_not_known_yet_is_waited_for() {
    let server = server();
    let mut world = World::new(server.port()).await;
    let primary = watch::Sender::new(None);
    let mut options = options(&world.database, &primary, own_mapping());
    options.connect_timeout_ms = 50;
    let impatient = feed(options.clone());
    let refused = impatient.open(feed_id(), FeedStart::Head).await.err().expect("nobody there");
    assert!(refused.retry_helps, "{refused}");
    options.connect_timeout_ms = 20_000;
    world.feed = feed(options);
    let opening = world.feed.open(feed_id(), FeedStart::Head);
    let (opened, ()) = tokio::join!(opening, async {
        tokio::task::yield_now().await;
        primary.send_replace(Some(address(server.port())));
    });
    let mut reader: Box<dyn FeedReader> = opened.expect("a reader");
    world.add(7, [1]).await;
    until(&mut reader, adds(7, 1)).await;
}

#[tokio::test]
async fn unknown_feeds_are_refused() {
    let primary = watch::Sender::new(None);
    let feed = feed(options("nowhere", &primary, own_mapping()));
    let known = feed_id();
    assert_eq!(feed.feeds(), [known]);
    for unknown in [
        FeedId { namespace: NamespaceId::new(1), ..known },
        FeedId { shard: Shard::new(1), ..known },
        FeedId { partition: Partition::new(1), ..known },
    ] {
        let refused = feed.open(unknown, FeedStart::Head).await.err().expect("refused");
        assert!(!refused.retry_helps, "{refused}");
    }
}
