//! Debezium in the forms that were not recorded.

use seen_dialect::{Decoder, Dialect, Event, FollowedTable, KindOf, Position, TableRole, TimeUnit};

use crate::recorded::{Line, decoder, read, show, told};

const TOPIC: &str = "t.db.feed_read";

fn row(user: i64, kind: u8, item: i64) -> String {
    format!(r#"{{"user_id":{user},"kind":{kind},"item_id":{item},"marked_at_ms":5}}"#)
}

fn envelope(op: &str, before: &str, after: &str) -> String {
    format!(
        r#"{{"before":{before},"after":{after},"source":{{"connector":"mysql","db":"db",
        "table":"feed_read","snapshot":"false","gtid":"3e11fa47-71ca-11e1-9e33-c80aa9429562:27",
        "file":"binlog.000001","pos":4}},"op":"{op}","ts_ms":1}}"#
    )
}

fn keyed(key: &str, value: &str) -> Vec<String> {
    told(&Line::new(TOPIC, Some(key), value))
}

#[test]
fn a_change_of_a_whole_key_is_a_delete_and_an_insert() {
    let (old, new) = (row(3, 0, 30), row(3, 0, 33));
    let (old_key, new_key) =
        (r#"{"user_id":3,"kind":0,"item_id":30}"#, r#"{"user_id":3,"kind":0,"item_id":33}"#);
    assert_eq!(keyed(old_key, &envelope("d", &old, "null")), ["delete 3 0:30"]);
    let tombstone = Line { value: None, ..Line::new(TOPIC, Some(old_key), "") };
    assert_eq!(told(&tombstone), ["ignore tombstone"]);
    assert_eq!(keyed(new_key, &envelope("c", "null", &new)), ["upsert 3 0:33 @5"]);
}

#[test]
fn an_update_without_the_row_before_is_a_doubt_unless_the_key_is_whole() {
    let update = envelope("u", "null", &row(3, 0, 33));
    let whole = r#"{"user_id":3,"kind":0,"item_id":33}"#;
    assert_eq!(keyed(whole, &update), ["upsert 3 0:33 @5"]);
    let doubt = ["upsert 3 0:33 @5", "dirty user 3 before_unknown"];
    assert_eq!(keyed(r#"{"user_id":3}"#, &update), doubt);
    // Without the user in the key the row may have been another user's.
    let anybody = ["upsert 3 0:33 @5", "dirty partition before_unknown"];
    assert_eq!(told(&Line::new(TOPIC, None, &update)), anybody);
    assert_eq!(keyed(r#"{"item_id":33}"#, &update), anybody);
    assert_eq!(keyed(r#"{"user_id":4}"#, &update), anybody);
}

#[test]
fn the_transaction_of_mysql_is_the_position() {
    let line = Line::new(TOPIC, None, &envelope("c", "null", &row(1, 0, 1)));
    let (dialect, events) = read(&mut decoder(), &line);
    assert_eq!(dialect, Some(Dialect::Debezium));
    assert!(matches!(events[0].position, Some(Position::MySql { number: 27, .. })));
}

#[test]
fn numbers_as_texts_are_exact() {
    let row = |user: &str, item: &str| {
        format!(r#"{{"user_id":"{user}","kind":1,"item_id":"{item}","marked_at_ms":"AQ=="}}"#)
    };
    for (user, item, expected) in [
        ("AP//////////", "AIAAAAAAAAAA", "upsert 18446744073709551615 1:9223372036854775808 @1"),
        ("1234", "12345678", "upsert 1234 1:12345678 @1"),
        ("18446744073709551615", "0", "upsert 18446744073709551615 1:0 @1"),
        ("Aw==", "hello", "dirty user 3 value_type"),
        ("AwM", "Aw==", "dirty partition value_type"),
        ("", "Aw==", "dirty partition value_type"),
        ("Aw==", "__debezium_unavailable_value", "dirty user 3 value_missing"),
    ] {
        let line = Line::new(TOPIC, None, &envelope("c", "null", &row(user, item)));
        assert_eq!(told(&line), [expected], "{user} {item}");
    }
}

#[test]
fn lost_values_are_doubts_about_the_keys_user() {
    let after = r#"{"user_id":1.5e19,"kind":0,"item_id":1,"marked_at_ms":5}"#;
    let insert = envelope("c", "null", after);
    assert_eq!(
        keyed(r#"{"user_id":-5}"#, &insert),
        ["dirty user 18446744073709551611 value_rounded"]
    );
    assert_eq!(told(&Line::new(TOPIC, None, &insert)), ["dirty partition value_rounded"]);
    let of_boolean = r#"{"user_id":1,"kind":true,"item_id":1,"marked_at_ms":5}"#;
    let insert = envelope("c", "null", of_boolean);
    assert_eq!(told(&Line::new(TOPIC, None, &insert)), ["dirty user 1 value_rounded"]);
}

#[test]
fn images_that_do_not_fit_the_operation_are_doubts() {
    let row = row(7, 0, 1);
    let key = r#"{"user_id":7}"#;
    for (op, before, after) in [
        ("c", row.as_str(), row.as_str()),
        ("c", "null", "null"),
        ("r", row.as_str(), "null"),
        ("u", row.as_str(), "null"),
        ("d", row.as_str(), row.as_str()),
        ("d", "null", row.as_str()),
        ("m", "null", row.as_str()),
        ("x", "null", row.as_str()),
        ("c", "null", "5"),
        ("c", "null", "[]"),
    ] {
        assert_eq!(keyed(key, &envelope(op, before, after)), ["dirty user 7 row_shape"], "{op}");
    }
    assert_eq!(
        told(&Line::new(TOPIC, None, &envelope("c", &row, &row))),
        ["dirty partition row_shape"]
    );
}

#[test]
fn of_other_tables_and_messages_nothing_is_said() {
    let value = envelope("c", "null", "{}");
    let told = |value: &str| told(&Line::new(TOPIC, None, value));
    assert_eq!(told(&value.replace(r#""feed_read""#, r#""other""#)), ["ignore other_table"]);
    assert_eq!(told(&value.replace(r#""db":"db""#, r#""db":"x""#)), ["ignore other_table"]);
    assert_eq!(
        told(&value.replace(r#""feed_read""#, r#""FEED_READ""#)),
        ["dirty partition value_missing"]
    );
    assert_eq!(told(&value.replace(r#""table""#, r#""tabel""#)), ["dirty partition table_missing"]);
    assert_eq!(told(&envelope("m", "null", "null")), ["ignore message"]);
    assert_eq!(told(&envelope("t", "null", "null")), ["truncate truncate"]);
}

/// Rows without an envelope.
fn bare(topic: &str, key: &str, members: &str) -> Vec<String> {
    let value = format!(r#"{{"user_id":3,"kind":0,"item_id":-1,"marked_at_ms":5{members}}}"#);
    told(&Line::new(topic, Some(key), &value))
}

#[test]
fn bare_rows_are_read_by_what_the_transform_added() {
    const UPSERT: &str = "upsert 3 0:18446744073709551615 @5";
    const DOUBT: &str = "dirty user 3 before_unknown";
    let key = r#"{"user_id":3}"#;
    for (members, expected) in [
        (r#","__deleted":"false","__op":"c""#, vec![UPSERT]),
        (r#","__deleted":"false","__op":"r""#, vec![UPSERT]),
        (r#","__deleted":"false","__op":"u""#, vec![UPSERT, DOUBT]),
        (r#","__op":"u""#, vec![UPSERT, DOUBT]),
        (r#","__deleted":"false""#, vec![UPSERT, DOUBT]),
        ("", vec![UPSERT, DOUBT]),
        (r#","__deleted":"true","__op":"d""#, vec!["delete 3 0:18446744073709551615"]),
        (r#","__deleted":"true""#, vec!["delete 3 0:18446744073709551615"]),
        (r#","__op":"d""#, vec!["delete 3 0:18446744073709551615"]),
        (r#","__deleted":"false","__op":"d""#, vec!["dirty user 3 row_shape"]),
        (r#","__deleted":"true","__op":"c""#, vec!["dirty user 3 row_shape"]),
        (r#","__deleted":"maybe""#, vec!["dirty user 3 row_shape"]),
        (r#","__deleted":null"#, vec!["dirty user 3 row_shape"]),
        (r#","__op":"t""#, vec!["truncate truncate"]),
    ] {
        assert_eq!(bare(TOPIC, key, members), expected, "{members}");
    }
    let update = [UPSERT, "dirty partition before_unknown"];
    assert_eq!(bare(TOPIC, "null", r#","__op":"u""#), update);
    let whole = r#"{"user_id":3,"kind":0,"item_id":-1}"#;
    assert_eq!(bare(TOPIC, whole, r#","__op":"u""#), [UPSERT]);
}

#[test]
fn bare_rows_may_have_a_schema_and_say_where_they_lie() {
    let value = r#"{"schema":{"type":"struct"},"payload":{"user_id":3,"kind":0,"item_id":1,
        "marked_at_ms":5,"__op":"u","__source_gtid":"0-1-9"}}"#;
    let key = r#"{"schema":{"type":"struct"},"payload":{"user_id":3}}"#;
    let read = |value: &str| read(&mut decoder(), &Line::new(TOPIC, Some(key), value));
    let (dialect, events) = read(value);
    assert_eq!(dialect, Some(Dialect::DebeziumUnwrapped));
    let texts: Vec<_> = events.iter().map(show).collect();
    assert_eq!(texts, ["upsert 3 0:1 @5", "dirty user 3 before_unknown"]);
    let position = |events: &[Event]| events[0].position.as_ref().map(Position::to_string);
    assert_eq!(position(&events).as_deref(), Some("0-1-9"));
    let of_file = value.replace(
        r#""__source_gtid":"0-1-9""#,
        r#""__source_file":"binlog.000002","__source_pos":77"#,
    );
    assert_eq!(position(&read(&of_file).1).as_deref(), Some("binlog.000002:77"));
}

#[test]
fn whose_a_bare_row_is_follows_from_it_or_from_the_topic() {
    let mut tables = vec![FollowedTable::own("db", "feed_read"), FollowedTable::own("b-b", "fëed")];
    tables.push(FollowedTable::control("db"));
    let places = |topic: &str, members: &str| {
        let value =
            format!(r#"{{"user_id":3,"kind":0,"item_id":1,"marked_at_ms":5,"__op":"c"{members}}}"#);
        let (_, events) =
            read(&mut Decoder::new(tables.clone(), None), &Line::new(topic, None, &value));
        assert_eq!(events.len(), 1);
        (events[0].table, show(&events[0]))
    };
    let row = |table| (Some(table), "upsert 3 0:1 @5".to_owned());
    assert_eq!(places("x", r#","__table":"feed_read""#), row(0));
    assert_eq!(places("x", r#","__db":"b-b","__table":"fëed""#), row(1));
    assert_eq!(places("x", r#","__db":"no","__table":"feed_read""#).1, "ignore other_table");
    assert_eq!(places("x", r#","__table":"other""#).1, "ignore other_table");
    assert_eq!(places("p.db.feed_read", ""), row(0));
    assert_eq!(places("db.feed_read", ""), row(0));
    assert_eq!(places("p.q.b-b.f_ed", ""), row(1));
    // Two histories have these columns.
    assert_eq!(places("xdb.feed_read", "").1, "dirty partition format_unknown");
    assert_eq!(places("p.db.other", "").1, "dirty partition format_unknown");
    let fence = r#"{"user_id":1,"namespace":2,"writer":-1,"seq":"BA==","__deleted":"false"}"#;
    let line = Line::new("anything", None, fence);
    let (_, events) = read(&mut Decoder::new(tables, None), &line);
    assert_eq!(show(&events[0]), "control 1 2 18446744073709551615 4");
}

#[test]
fn a_tombstone_of_bare_rows_that_do_not_tell_deletes_is_a_doubt() {
    let tombstone = Line { value: None, ..Line::new(TOPIC, Some(r#"{"user_id":3}"#), "") };
    let insert = |members: &str| {
        let value = format!(r#"{{"user_id":3,"kind":0,"item_id":1,"marked_at_ms":5{members}}}"#);
        Line::new(TOPIC, Some(r#"{"user_id":3}"#), &value)
    };
    let after = |members: &str, forced| {
        let mut decoder = Decoder::new(vec![FollowedTable::own("db", "feed_read")], forced);
        read(&mut decoder, &insert(members));
        show(&read(&mut decoder, &tombstone).1[0])
    };
    assert_eq!(after(r#","__deleted":"false""#, None), "ignore tombstone");
    assert_eq!(after("", None), "dirty user 3 tombstone_of_row");
    let forced = Some(Dialect::DebeziumUnwrapped);
    assert_eq!(after(r#","__deleted":"false""#, forced), "dirty user 3 tombstone_of_row");
}

#[test]
fn columns_of_a_foreign_table_are_read_by_their_meaning() {
    let role = TableRole::History {
        user: "member".to_owned(),
        item: "article".to_owned(),
        kind: KindOf::Constant(seen_filter::Kind::new(9)),
        time: Some(("read_at".to_owned(), TimeUnit::Seconds)),
        deleted: Some("removed_at".to_owned()),
    };
    let table = FollowedTable { database: "app".to_owned(), table: "reads".to_owned(), role };
    let read = |after: &str| {
        let value = format!(
            r#"{{"before":null,"after":{after},"source":{{"db":"app","table":"reads"}},"op":"c"}}"#
        );
        let mut decoder = Decoder::new(vec![table.clone()], None);
        read(&mut decoder, &Line::new("x", None, &value)).1.iter().map(show).collect::<Vec<_>>()
    };
    for (rest, expected) in [
        (r#""read_at":5,"removed_at":null"#, "upsert 1 9:2 @5000"),
        (r#""read_at":"2023-11-14T22:13:20Z","removed_at":0"#, "upsert 1 9:2 @1700000000000"),
        (r#""read_at":null,"removed_at":false"#, "upsert 1 9:2"),
        (r#""read_at":5,"removed_at":"2023-11-14T22:13:20Z""#, "delete 1 9:2"),
        (r#""read_at":5,"removed_at":true"#, "delete 1 9:2"),
        (r#""read_at":5"#, "dirty user 1 value_missing"),
        (r#""read_at":5,"removed_at":{"x":1}"#, "dirty user 1 value_type"),
    ] {
        assert_eq!(read(&format!(r#"{{"member":1,"article":2,{rest}}}"#)), [expected], "{rest}");
    }
}
