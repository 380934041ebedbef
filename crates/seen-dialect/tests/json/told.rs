//! Which format a record is taken for.

use seen_dialect::{Dialect, Record, Scope, What};

use crate::recorded::{Line, decoder, lines, read, show, told};

#[test]
fn formats_may_be_mixed() {
    let mut decoder = decoder();
    let mut seen = Vec::new();
    let files =
        ["maxwell", "debezium-mariadb-long-schemas", "canal-flat", "debezium-mariadb-long-unwrap"];
    let files = files.map(lines);
    for at in 6..20 {
        for file in &files {
            let (dialect, events) = read(&mut decoder, &file[at]);
            seen.extend(dialect);
            let is_clear =
                |what: &What| !matches!(what, What::Dirty(Scope::Partition | Scope::Table));
            assert!(events.iter().all(|event| is_clear(&event.what)), "{events:?}");
        }
    }
    for dialect in
        [Dialect::Maxwell, Dialect::Debezium, Dialect::CanalFlat, Dialect::DebeziumUnwrapped]
    {
        assert!(seen.iter().filter(|told| **told == dialect).count() >= 13, "{dialect:?}");
    }
}

#[test]
fn what_is_of_no_format_is_a_doubt() {
    for value in [
        "",
        " ",
        "null",
        "7",
        "[]",
        "[{}]",
        "\"text\"",
        "{",
        "{}",
        r#"{"a":1}"#,
        "not json",
        "\u{0}",
        r#"{"op":"c","after":{"user_id":1}}"#,
        r#"{"source":{"db":"db","table":"feed_read"},"after":{}}"#,
        r#"{"type":"INSERT","database":"db","table":"feed_read","data":[{}]}"#,
        r#"{"type":"replace","database":"db","table":"feed_read","ts":1,"data":{}}"#,
        r#"{"schema":{},"payload":null}"#,
        r#"{"schema":{},"payload":[]}"#,
        r#"{"schema":{},"payload":{"a":1}}"#,
        r#"{"status":"BEGIN","id":"x"}"#,
        r#"{"ts_ms":1,"other":2}"#,
    ] {
        let partition = told(&Line::new("some.topic", None, value));
        assert_eq!(partition.len(), 1);
        assert!(partition[0].starts_with("dirty partition "), "{value}: {partition:?}");
        let user = told(&Line::new("some.topic", Some(r#"{"user_id":7}"#), value));
        assert!(user[0].starts_with("dirty user 7 "), "{value}: {user:?}");
    }
    let mut events = Vec::new();
    let record = Record { value: Some(b"{\"a\":\"\xff\"}"), ..Record::default() };
    assert_eq!(decoder().decode(&record, &mut events), None);
    assert_eq!(events[0].what, What::Dirty(Scope::Partition));
}

#[test]
fn what_is_only_about_the_pipeline_says_nothing_of_rows() {
    for (value, expected) in [
        (r#"{"ts_ms":1795219709218}"#, "heartbeat heartbeat"),
        (r#"{"schema":{},"payload":{"ts_ms":1}}"#, "heartbeat heartbeat"),
        (
            r#"{"status":"END","id":"x","event_count":1,"data_collections":[{"a":1}],"ts_ms":1}"#,
            "ignore transaction",
        ),
    ] {
        assert_eq!(told(&Line::new("x", None, value)), [expected]);
    }
    let line = Line { value: None, ..Line::new("x", Some("anything"), "") };
    assert_eq!(told(&line), ["ignore tombstone"]);
}

#[test]
fn canal_and_maxwell_say_where_a_row_lies_if_they_are_told_to() {
    let row = r#"{"user_id":1,"kind":0,"item_id":2,"marked_at_ms":5}"#;
    let canal = |gtid: &str| {
        format!(
            r#"{{"data":[{row}],"database":"db","gtid":"{gtid}","isDdl":false,"old":null,
            "table":"feed_read","type":"INSERT"}}"#
        )
    };
    let maxwell = |rest: &str| {
        format!(
            r#"{{"database":"db","table":"feed_read","type":"insert","ts":1795219754,{rest}
            "data":{row}}}"#
        )
    };
    for (value, expected) in [
        (
            canal("3e11fa47-71ca-11e1-9e33-c80aa9429562:27"),
            "3e11fa47-71ca-11e1-9e33-c80aa9429562:27",
        ),
        (canal("0-1-6"), "0-1-6"),
        (canal("3e11fa47-71ca-11e1-9e33-c80aa9429562:1-27"), ""),
        (canal(""), ""),
        (maxwell(r#""gtid":"0-1-6","#), "0-1-6"),
        (maxwell(r#""position":"binlog.000006:800911","#), "binlog.000006:800911"),
        (maxwell(r#""xid":5,"#), ""),
    ] {
        let (_, events) = read(&mut decoder(), &Line::new("x", None, &value));
        assert_eq!(show(&events[0]), "upsert 1 0:2 @5", "{value}");
        let position = events[0].position.as_ref().map(ToString::to_string);
        assert_eq!(position.unwrap_or_default(), expected, "{value}");
    }
}
