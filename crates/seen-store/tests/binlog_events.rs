//! What a MariaDB server's log says, as events of the feed.

mod binlog_world;

use std::sync::LazyLock;
use std::time::Duration;

use binlog_world::{World, adds, feed_id, fresh, next, own_mapping, stamp, told, until};
use seen_filter::{ChangeFeed, FeedEvent, FeedStart, Kind};
use seen_store::mysql::{KindColumn, Name};
use seen_testbed::MariaDb;

static SERVER: LazyLock<MariaDb> = LazyLock::new(|| MariaDb::start().expect("a server"));

fn name(name: &str) -> Name {
    Name::new("column", name).expect("a name")
}

#[tokio::test]
async fn the_head_comes_first_and_then_what_follows() {
    let mut world = World::new(SERVER.port()).await;
    world.add(7, [1]).await;
    let mut reader = world.open(FeedStart::Head).await;
    let first = next(&mut reader, 10).await;
    let [FeedEvent::Complete { stamp: head }] = first.events[..] else {
        panic!("{first:?}");
    };
    assert!(first.caught_up);
    world.add(7, [2, 3]).await;
    world.remove(7, 1).await;
    let events = world.drain(&mut reader).await;
    assert_eq!(told(&events), ["+7/1:2", "+7/1:3", "-7/1:1"]);
    let stamps: Vec<_> = events.iter().filter_map(stamp).collect();
    assert!(stamps.is_sorted_by(|a, b| a <= b) && stamps.iter().all(|s| head < *s), "{stamps:?}");
}

#[tokio::test]
async fn a_transactions_rows_share_its_stamp_and_end_with_a_complete() {
    let mut world = World::new(SERVER.port()).await;
    let mut reader = world.at_head().await;
    world.sql("BEGIN").await;
    world.add(7, [1]).await;
    world.remove(7, 1).await;
    world.sql("SAVEPOINT a").await;
    world.add(8, [9]).await;
    world.sql("ROLLBACK TO a").await;
    world.add(8, [1, 2]).await;
    world.sql("COMMIT").await;
    let events = until(&mut reader, adds(8, 2)).await;
    let rows: Vec<_> = events.iter().filter(|e| !matches!(e, FeedEvent::Complete { .. })).collect();
    let texts = told(&events);
    assert_eq!(texts, ["+7/1:1", "-7/1:1", "+8/1:1", "+8/1:2"]);
    let own = stamp(rows[0]).expect("a stamp");
    assert!(rows.iter().all(|row| stamp(row) == Some(own)), "{rows:?}");
    // Nothing completes it before its last row, and the next event does.
    let early = events.iter().filter_map(|event| match event {
        FeedEvent::Complete { stamp } => Some(*stamp),
        _ => None,
    });
    assert!(early.into_iter().all(|complete| complete < own));
    let after = next(&mut reader, 1).await;
    let [FeedEvent::Complete { stamp }] = after.events[..] else { panic!("{after:?}") };
    assert!(stamp.covers(own));
}

#[tokio::test]
async fn an_update_of_the_key_puts_the_former_user_in_doubt() {
    let mut world = World::new(SERVER.port()).await;
    world.add(7, [1]).await;
    let mut reader = world.at_head().await;
    world.sql("UPDATE history_first SET marked_at_ms = 9").await;
    world.sql("UPDATE history_first SET user_id = 8").await;
    world.sql("UPDATE history_first SET kind = 2").await;
    world.sql("REPLACE INTO history_first VALUES (8, 2, 1, 10)").await;
    world.sql("INSERT INTO history_first VALUES (8, 2, 1, 0) ON DUPLICATE KEY UPDATE marked_at_ms = 3").await;
    let events = world.drain(&mut reader).await;
    let expected =
        ["+7/1:1", "+8/1:1", "?7 key_changed", "+8/2:1", "?8 key_changed", "+8/2:1", "+8/2:1"];
    assert_eq!(told(&events), expected);
}

#[tokio::test]
async fn foreign_tables_are_read_by_their_columns_names_and_types() {
    let mut mapping = own_mapping();
    mapping.table = name("Reads-2");
    (mapping.user, mapping.item) = (name("who"), name("WHAT"));
    mapping.kind = KindColumn::Constant(Kind::new(9));
    mapping.deleted = Some(name("gone_at"));
    let table = "CREATE TABLE `Reads-2` (note VARCHAR(300), yr YEAR, price DECIMAL(13, 4), \
        what BIGINT UNSIGNED, doc LONGTEXT, fixed CHAR(200), who INT, flags SET('a', 'b'), \
        b BIT(9), at TIMESTAMP(3) NULL, m MEDIUMINT, j JSON, gone_at DATETIME(2) NULL, \
        f FLOAT, t TIME(6), PRIMARY KEY (who, what)) DEFAULT CHARSET utf8mb4";
    let mut world = World::with(SERVER.port(), table, mapping).await;
    let mut reader = world.at_head().await;
    let big = u64::MAX - 5;
    let row = |who: i64, gone: &str| {
        format!(
            "INSERT INTO `Reads-2` VALUES (REPEAT('ä', 280), 1999, -12.5, {big}, REPEAT('x', 9000), \
             'fixed', {who}, 'a,b', b'101', NOW(3), -3, '[1]', {gone}, 1.5, '10:00:01')"
        )
    };
    world.sql(&row(2_147_483_647, "NULL")).await;
    world.sql("UPDATE `Reads-2` SET gone_at = NOW(2), note = NULL").await;
    world.sql("UPDATE `Reads-2` SET gone_at = NULL").await;
    world.sql("SET sql_mode = ''").await;
    world.sql(&row(5, "'0000-00-00'")).await;
    world.sql(&row(6, "'2020-01-01'")).await;
    world.sql(&row(-1, "NULL")).await;
    world.sql("DELETE FROM `Reads-2` WHERE who = 5").await;
    let events = world.drain(&mut reader).await;
    let max = i32::MAX;
    let expected = [
        format!("+{max}/9:{big}"),
        format!("-{max}/9:{big}"),
        format!("+{max}/9:{big}"),
        format!("+5/9:{big}"),
        format!("-6/9:{big}"),
        "+18446744073709551615/9:18446744073709551610".to_owned(),
        format!("-5/9:{big}"),
    ];
    assert_eq!(told(&events), expected);
}

#[tokio::test]
async fn a_soft_delete_by_a_flag_and_a_wide_kind() {
    let mut mapping = own_mapping();
    mapping.deleted = Some(name("deleted"));
    let table = "CREATE TABLE history_first (user_id BIGINT, kind INT NULL, item_id INT UNSIGNED, \
        deleted BOOL NOT NULL, PRIMARY KEY (user_id, item_id))";
    let mut world = World::with(SERVER.port(), table, mapping).await;
    let mut reader = world.at_head().await;
    world.sql("INSERT INTO history_first VALUES (1, 255, 4294967295, 0), (1, 1, 2, 1)").await;
    world.sql("UPDATE history_first SET deleted = 1 - deleted ORDER BY item_id").await;
    world
        .sql("INSERT INTO history_first VALUES (3, 256, 1, 0), (4, NULL, 1, 0), (5, -1, 1, 0)")
        .await;
    world.sql("INSERT INTO history_first VALUES (6, 7, 8, 0)").await;
    let events = world.drain(&mut reader).await;
    let expected = [
        "+1/255:4294967295",
        "-1/1:2",
        "+1/1:2",
        "-1/255:4294967295",
        "?3 kind_range",
        "?4 value_null",
        "?5 kind_range",
        "+6/7:8",
    ];
    assert_eq!(told(&events), expected);
}

#[tokio::test]
async fn fences_and_forgets_of_the_own_namespace_come_by() {
    let mut world = World::new(SERVER.port()).await;
    let mut reader = world.at_head().await;
    world.sql("INSERT INTO seen_control VALUES (1, 3, 0, 2, 0), (1, 4, 0, 9, 0)").await;
    let top = u64::MAX;
    world
        .sql(&format!("INSERT INTO seen_control VALUES (5, 3, {top}, 1, 0), (5, 4, 8, 1, 0)"))
        .await;
    world.sql(&format!("UPDATE seen_control SET seq = {top}, at_ms = 1 WHERE user_id = 5")).await;
    world.sql("DELETE FROM seen_control").await;
    let events = world.drain(&mut reader).await;
    let expected =
        ["forgotten 1 2".to_owned(), format!("fence {top} 1"), format!("fence {top} {top}")];
    assert_eq!(told(&events), expected);
}

#[tokio::test]
async fn readers_resume_at_every_event() {
    let mut world = World::new(SERVER.port()).await;
    let mut reader = world.at_head().await;
    let begin = binlog_world::cursor(&mut reader).await;
    for round in 0..4 {
        world.add(7, round * 10..round * 10 + 3).await;
        world.remove(7, round * 10).await;
    }
    let whole = told(&world.drain(&mut reader).await);
    assert_eq!(whole.len(), 16);
    for events_max in [1, 2, 3, 100] {
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

#[tokio::test]
async fn how_far_it_is_behind_is_told() {
    let mut world = World::new(SERVER.port()).await;
    assert_eq!(world.feed.lag(feed_id()), None, "nobody reads it");
    let mut reader = world.at_head().await;
    world.add(7, [1]).await;
    world.drain(&mut reader).await;
    let idle = loop {
        let lag = world.feed.lag(feed_id()).expect("a lag");
        if lag.records == Some(0) {
            break lag;
        }
        next(&mut reader, 1).await;
    };
    assert_eq!(idle.behind_ms, Some(0));
    world.add(7, [2]).await;
    world.drain(&mut reader).await;
    let later = world.feed.lag(feed_id()).expect("a lag");
    assert!(later.position > idle.position, "{idle:?} {later:?}");
}

#[tokio::test]
async fn a_cancelled_read_loses_nothing() {
    let mut world = World::new(SERVER.port()).await;
    let mut reader = world.at_head().await;
    let mut events = Vec::new();
    for id in 0..50_u64 {
        world.add(7, [id]).await;
        let patience = Duration::from_micros(id * 20);
        if let Ok(batch) = tokio::time::timeout(patience, reader.next(2)).await {
            events.extend(batch.expect("a batch").events);
        }
    }
    events.extend(world.drain(&mut reader).await);
    let expected: Vec<_> = (0..50).map(|id| format!("+7/1:{id}")).collect();
    assert_eq!(told(&events), expected);
}

#[tokio::test]
async fn more_events_than_the_queue_holds_all_come() {
    let mut world = World::new(SERVER.port()).await;
    let mut reader = world.at_head().await;
    world.add(7, 0..3_000).await;
    let events = world.drain(&mut reader).await;
    let expected: Vec<_> = (0..3_000).map(|id| format!("+7/1:{id}")).collect();
    assert_eq!(told(&events), expected);
}

#[tokio::test]
async fn statements_that_change_the_table_are_gaps_and_own_upkeep_is_none() {
    let mut world = World::new(SERVER.port()).await;
    let mut reader = world.at_head().await;
    world.sql("ALTER TABLE history_first DROP PRIMARY KEY").await;
    world
        .sql(
            "ALTER TABLE history_first PARTITION BY RANGE (marked_at_ms) \
        (PARTITION p1 VALUES LESS THAN (10), PARTITION p2 VALUES LESS THAN (20))",
        )
        .await;
    world.add(7, [1]).await;
    world
        .sql(
            "ALTER TABLE history_first /* seen:partitions */ ADD PARTITION \
        (PARTITION p3 VALUES LESS THAN (30))",
        )
        .await;
    world.sql("ALTER TABLE history_first /* seen:partitions */ DROP PARTITION p1").await;
    world.sql("ALTER TABLE history_first DROP PARTITION p2").await;
    world.sql("TRUNCATE TABLE history_first").await;
    world.sql("CREATE TABLE other (a INT)").await;
    world.sql("DROP TABLE other").await;
    world.sql("RENAME TABLE history_first TO elsewhere").await;
    world.sql("RENAME TABLE elsewhere TO history_first").await;
    world.sql("DROP TABLE history_first").await;
    let events = world.drain(&mut reader).await;
    let expected = [
        "? ddl_alter",
        "? ddl_alter",
        "+7/1:1",
        "? ddl_alter",
        "? ddl_truncate",
        "? ddl_rename",
        "? ddl_rename",
        "? ddl_drop",
    ];
    assert_eq!(told(&events), expected);
    let database = world.database.clone();
    world.sql(&format!("DROP DATABASE {database}")).await;
    let gap = |event: &FeedEvent| matches!(event, FeedEvent::Gap { .. });
    assert_eq!(told(&until(&mut reader, gap).await), ["? ddl_drop_database"]);
}

#[tokio::test]
async fn rows_in_statement_format_or_with_partial_images_are_gaps() {
    let mut world = World::new(SERVER.port()).await;
    let mut reader = world.at_head().await;
    world.sql("CREATE TABLE other (a INT PRIMARY KEY, b INT)").await;
    world.sql("SET binlog_format = STATEMENT").await;
    world.add(7, [1]).await;
    world.sql("INSERT INTO other VALUES (1, 1)").await;
    world.sql("SET binlog_format = ROW").await;
    world.add(7, [2]).await;
    world.sql("SET binlog_row_image = MINIMAL").await;
    world.sql("UPDATE history_first SET marked_at_ms = 6 WHERE item_id = 2").await;
    world.sql("UPDATE other SET b = 2 WHERE a = 1").await;
    world.sql("SET binlog_row_image = FULL").await;
    world.add(7, [3]).await;
    let events = world.drain(&mut reader).await;
    let expected = ["? statement_format", "+7/1:2", "? binlog_row_image", "+7/1:3"];
    assert_eq!(told(&events), expected);
}

#[tokio::test]
async fn a_renamed_column_is_a_gap_and_not_another_id() {
    let mut world = World::new(SERVER.port()).await;
    let mut reader = world.at_head().await;
    world.sql("ALTER TABLE history_first CHANGE item_id thing_id BIGINT UNSIGNED").await;
    world.add(7, [1]).await;
    world.sql("ALTER TABLE history_first CHANGE thing_id item_id INT").await;
    world.add(7, [2]).await;
    let events = world.drain(&mut reader).await;
    assert_eq!(told(&events), ["? ddl_alter", "? column_missing", "? ddl_alter", "+7/1:2"]);
}

#[tokio::test]
async fn what_was_prepared_is_told_and_doubted_when_it_ends() {
    let mut world = World::new(SERVER.port()).await;
    let mut reader = world.at_head().await;
    for (id, end) in [(1, "COMMIT"), (2, "ROLLBACK")] {
        let xid = format!("'{}-{id}'", world.database);
        world.sql(&format!("XA START {xid}")).await;
        world.add(7, [id]).await;
        world.sql(&format!("XA END {xid}")).await;
        world.sql(&format!("XA PREPARE {xid}")).await;
        world.sql(&format!("XA {end} {xid}")).await;
    }
    let events = world.drain(&mut reader).await;
    assert_eq!(told(&events), ["+7/1:1", "? xa", "+7/1:2", "? xa"]);
}

#[tokio::test]
async fn foreign_transactions_complete_too() {
    let mut world = World::new(SERVER.port()).await;
    let mut other = World::new(SERVER.port()).await;
    let mut reader = world.at_head().await;
    let mut others = other.at_head().await;
    for id in 0..20 {
        other.add(7, [id]).await;
    }
    let last = until(&mut others, adds(7, 19)).await;
    let last = stamp(last.last().expect("an event")).expect("a stamp");
    // Of another timeline, but of the same numbers.
    let reached = |event: &FeedEvent| matches!(event, FeedEvent::Complete { stamp } if stamp.position >= last.position);
    let events = until(&mut reader, reached).await;
    assert!(events.iter().all(|event| matches!(event, FeedEvent::Complete { .. })), "{events:?}");
    world.add(1, [fresh()]).await;
    assert_eq!(told(&world.drain(&mut reader).await).len(), 1);
}

#[tokio::test]
async fn a_quiet_server_beats() {
    let world = World::new(SERVER.port()).await;
    let mut reader = world.at_head().await;
    let mut beats = 0;
    while beats < 3 {
        let batch = next(&mut reader, 10).await;
        beats += usize::from(batch.events.is_empty() && batch.caught_up);
    }
}
