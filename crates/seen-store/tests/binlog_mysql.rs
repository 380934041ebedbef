//! The same feed from a MySQL server, as far as its log differs from MariaDB's. Skipped, and said so,
//! where no MySQL server is installed.

mod binlog_world;

use std::sync::LazyLock;
use std::time::Duration;

use binlog_world::{World, address, adds, connect, cursor, next, next_at_last, stamp, told, until};
use mysql_async::prelude::Queryable;
use seen_filter::{FeedCursor, FeedEvent, FeedReader, FeedStart};
use seen_testbed::{Mysql, TcpProxy, or_skip};

/// How long what must come by may take. Generous: machines that build beside the tests are slow.
const LIMIT: Duration = Duration::from_secs(60);

static SERVER: LazyLock<Option<Mysql>> = LazyLock::new(|| or_skip(Mysql::start()));

/// Reads to an add, and asserts that nothing but these rows came.
async fn goes_on(reader: &mut Box<dyn FeedReader>, user: u64, items: &[u64]) {
    let events = until(reader, adds(user, *items.last().expect("an item"))).await;
    let expected: Vec<_> = items.iter().map(|id| format!("+{user}/1:{id}")).collect();
    assert_eq!(told(&events), expected);
}

#[tokio::test]
async fn rows_fences_and_statements_are_told_in_order() {
    let Some(server) = SERVER.as_ref() else { return };
    let mut world = World::new(server.port()).await;
    world.add(7, [1]).await;
    let mut reader = world.open(FeedStart::Head).await;
    let first = next(&mut reader, 10).await;
    let [FeedEvent::Complete { stamp: head }] = first.events[..] else { panic!("{first:?}") };
    assert!(first.caught_up);
    world.sql("BEGIN").await;
    world.add(7, [2, 3]).await;
    world.remove(7, 1).await;
    world.sql("COMMIT").await;
    world.sql("UPDATE history_first SET user_id = 8 WHERE item_id = 2").await;
    world.sql("INSERT INTO seen_control VALUES (1, 3, 0, 2, 0)").await;
    world.sql("SET binlog_row_image = MINIMAL").await;
    world.sql("UPDATE history_first SET marked_at_ms = 6 WHERE item_id = 3").await;
    world.sql("SET binlog_row_image = FULL").await;
    world.sql("SET binlog_format = STATEMENT").await;
    world.add(7, [4]).await;
    world.sql("SET binlog_format = ROW").await;
    world.sql("TRUNCATE TABLE history_first").await;
    world.sql("CREATE TABLE other (a INT)").await;
    world.sql("CREATE TABLE another AS SELECT 1 AS a").await;
    world.add(7, [5]).await;
    let events = world.drain(&mut reader).await;
    let expected = [
        "+7/1:2",
        "+7/1:3",
        "-7/1:1",
        "+8/1:2",
        "?7 key_changed",
        "forgotten 1 2",
        "? binlog_row_image",
        "? statement_format",
        "? ddl_truncate",
        "+7/1:5",
    ];
    assert_eq!(told(&events), expected);
    let stamps: Vec<_> = events.iter().filter_map(stamp).collect();
    assert!(stamps.is_sorted_by(|a, b| a <= b) && stamps.iter().all(|s| head < *s), "{stamps:?}");
    assert_eq!(stamps[0], stamps[2]);
}

#[tokio::test]
async fn compressed_transactions_are_read() {
    let Some(server) = SERVER.as_ref() else { return };
    let mut world = World::new(server.port()).await;
    let mut reader = world.at_head().await;
    world.sql("SET binlog_transaction_compression = ON").await;
    let ids: Vec<_> = (0..2_000).collect();
    world.add(7, ids.iter().copied()).await;
    world.remove(7, 3).await;
    world.sql("SET binlog_transaction_compression = OFF").await;
    let mut expected: Vec<_> = ids.iter().map(|id| format!("+7/1:{id}")).collect();
    expected.push("-7/1:3".to_owned());
    assert_eq!(told(&world.drain(&mut reader).await), expected);
}

#[tokio::test]
async fn types_that_only_mysql_has_are_passed_over() {
    let Some(server) = SERVER.as_ref() else { return };
    let mut world = World::new(server.port()).await;
    let columns = "ADD COLUMN j JSON FIRST, ADD COLUMN v VECTOR(3) FIRST, \
        ADD COLUMN g GEOMETRY AFTER user_id, ADD COLUMN yr YEAR FIRST";
    world.sql(&format!("ALTER TABLE history_first {columns}")).await;
    let mut reader = world.at_head().await;
    world.sql("SET binlog_row_value_options = PARTIAL_JSON").await;
    let big = u64::MAX;
    let row = format!(
        "(2001, STRING_TO_VECTOR('[1,2,3]'), JSON_OBJECT('a', REPEAT('x', 300)), {big}, POINT(1, 2), \
         1, {big}, 5)"
    );
    world.sql(&format!("INSERT INTO history_first VALUES {row}")).await;
    world.sql("UPDATE history_first SET j = JSON_SET(j, '$.a', 'y')").await;
    world.sql("DELETE FROM history_first").await;
    let row = format!("{big}/1:{big}");
    let expected = [format!("+{row}"), format!("+{row}"), format!("-{row}")];
    assert_eq!(told(&world.drain(&mut reader).await), expected);
}

#[tokio::test]
async fn readers_resume_at_every_event() {
    let Some(server) = SERVER.as_ref() else { return };
    let mut world = World::new(server.port()).await;
    let mut reader = world.at_head().await;
    let begin = cursor(&mut reader).await;
    for round in 0..4 {
        world.add(7, round * 10..round * 10 + 3).await;
        world.remove(7, round * 10).await;
    }
    let whole = told(&world.drain(&mut reader).await);
    assert_eq!(whole.len(), 16);
    for events_max in [1, 3, 100] {
        let (mut read, mut at) = (Vec::new(), begin);
        while read.len() < whole.len() {
            let mut resumed = world.open(FeedStart::At(at)).await;
            let batch = next(&mut resumed, events_max).await;
            read.extend(told(&batch.events));
            at = batch.resume;
        }
        read.truncate(whole.len());
        assert_eq!(read, whole, "by {events_max}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_that_comes_back_loses_nothing_and_a_new_log_is_a_gap() {
    let Some(server) = or_skip(Mysql::start()) else { return };
    let mut world = World::new(server.port()).await;
    let mut reader = world.at_head().await;
    world.add(7, [1, 2]).await;
    goes_on(&mut reader, 7, &[1]).await;
    server.kill_9().expect("killed");
    server.restart().expect("restarted");
    world.conn = connect(server.port()).await;
    let database = world.database.clone();
    world.sql(&format!("USE {database}")).await;
    world.add(7, [3]).await;
    goes_on(&mut reader, 7, &[2, 3]).await;
    world.sql("FLUSH BINARY LOGS").await;
    world.add(7, [4]).await;
    goes_on(&mut reader, 7, &[4]).await;
    let good = cursor(&mut reader).await;
    world.sql("RESET BINARY LOGS AND GTIDS").await;
    world.add(7, [5]).await;
    let gap = until(&mut reader, |event| matches!(event, FeedEvent::Gap { .. })).await;
    assert_eq!(told(&gap), ["? rewound"]);
    let head = next_at_last(&mut reader, 1).await;
    let [FeedEvent::Complete { stamp }] = head.events[..] else { panic!("{head:?}") };
    assert_ne!(stamp.timeline, good.timeline);
    world.add(7, [9]).await;
    until(&mut reader, adds(7, 9)).await;
}

/// A failover changes who numbers the transactions; here the session plays the new primary.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_source_of_numbers_is_a_gap_and_another_timeline() {
    let Some(server) = or_skip(Mysql::start()) else { return };
    let proxy = TcpProxy::to(server.port()).expect("a proxy");
    let mut world = World::new(server.port()).await;
    world.primary.send_replace(Some(address(proxy.port())));
    let mut reader = world.at_head().await;
    let before = cursor(&mut reader).await.timeline;
    world.sql("SET gtid_next = '3e11fa47-71ca-11e1-9e33-c80aa9429562:1'").await;
    world.add(7, [1, 2]).await;
    let events = until(&mut reader, adds(7, 1)).await;
    assert_eq!(told(&events), ["? source_changed", "+7/1:1"]);
    let changed = stamp(events.last().expect("an event")).expect("a stamp");
    assert_eq!(changed.position, 1);
    assert_ne!(changed.timeline, before);
    // Where the source's numbers go on, so does the reader.
    proxy.cut();
    proxy.heal();
    world.sql("SET gtid_next = '3e11fa47-71ca-11e1-9e33-c80aa9429562:2'").await;
    world.add(7, [3]).await;
    goes_on(&mut reader, 7, &[2, 3]).await;
    assert_eq!(cursor(&mut reader).await.timeline, changed.timeline);
}

/// Commits that overtake each other, as those of a group's members do, leave a set that the server must
/// still understand when the reader comes back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn numbers_out_of_order_do_not_keep_a_reader_from_coming_back() {
    let Some(server) = or_skip(Mysql::start()) else { return };
    let proxy = TcpProxy::to(server.port()).expect("a proxy");
    let mut world = World::new(server.port()).await;
    world.primary.send_replace(Some(address(proxy.port())));
    let mut reader = world.at_head().await;
    // 3 comes before 2, which then joins it to 1; and 9 before 5, which joins nothing.
    for (number, doubts) in [
        (1, &["? source_changed"][..]),
        (3, &["? numbers_skipped"]),
        (2, &[]),
        (9, &[]),
        (5, &[]),
        (10, &[]),
    ] {
        proxy.cut();
        proxy.heal();
        world
            .sql(&format!("SET gtid_next = '3e11fa47-71ca-11e1-9e33-c80aa9429562:{number}'"))
            .await;
        world.add(7, [number]).await;
        let mut expected: Vec<_> = doubts.iter().map(ToString::to_string).collect();
        expected.push(format!("+7/1:{number}"));
        let events = tokio::time::timeout(LIMIT, until(&mut reader, adds(7, number))).await;
        let events = events.unwrap_or_else(|_| panic!("{number} does not come by"));
        assert_eq!(told(&events), expected);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cursors_that_the_log_does_not_have_meet_a_gap() {
    let Some(server) = or_skip(Mysql::start()) else { return };
    let mut world = World::new(server.port()).await;
    let mut reader = world.at_head().await;
    let begin = cursor(&mut reader).await;
    world.add(7, [1]).await;
    world.drain(&mut reader).await;
    let good = cursor(&mut reader).await;
    world.sql("FLUSH BINARY LOGS").await;
    let files: Vec<mysql_async::Row> = world.conn.query("SHOW BINARY LOGS").await.expect("files");
    let newest: String = files.last().and_then(|row| row.get(0)).expect("a file");
    world.sql(&format!("PURGE BINARY LOGS TO '{newest}'")).await;
    for (cursor, expected) in
        [(FeedCursor { offset: good.offset + (1 << 40), ..good }, "? ahead"), (begin, "? purged")]
    {
        let mut reader = world.open(FeedStart::At(cursor)).await;
        let gap = until(&mut reader, |event| matches!(event, FeedEvent::Gap { .. })).await;
        assert_eq!(told(&gap), [expected]);
    }
}
