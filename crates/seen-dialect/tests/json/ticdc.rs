//! TiCDC's JSON formats, in the forms that its options give them.

use seen_dialect::{Dialect, Position};

use crate::recorded::{Line, decoder, read, show};

const COMMIT: &str = "470606528793018371";

/// A message, the format it should be taken for, what it should say and where.
fn check(value: &str, key: Option<&[u8]>, dialect: Dialect, expected: &[&str], has_position: bool) {
    let line = Line { key: key.map(<[u8]>::to_vec), ..Line::new("ticdc", None, value) };
    let (told, events) = read(&mut decoder(), &line);
    let texts: Vec<_> = events.iter().map(show).collect();
    assert_eq!(
        (told, &texts[..]),
        (Some(dialect), &expected.iter().map(|e| (*e).to_owned()).collect::<Vec<_>>()[..]),
        "{value}"
    );
    if has_position {
        let expected = Some(Position::CommitTs(COMMIT.parse().expect("a number")));
        assert!(events.iter().all(|event| event.position == expected), "{events:?}");
    }
}

/// A canal-json message: its type, and from `old` on.
fn canal(kind: &str, old: &str, data: &str, extension: &str) -> String {
    let extension = match extension {
        "" => String::new(),
        more => format!(r#","_tidb":{{"commitTs":{COMMIT}{more}}}"#),
    };
    format!(
        r#"{{"id":0,"database":"db","table":"feed_read","pkNames":["user_id"],"isDdl":false,
        "type":"{kind}","es":1,"ts":2,"sql":"","sqlType":{{"user_id":-5}},"mysqlType":{{}},
        "old":{old},"data":{data}{extension}}}"#
    )
}

const ROW: &str =
    r#"[{"user_id":"42","kind":"1","item_id":"18446744073709551615","marked_at_ms":"5"}]"#;
const OLDER: &str =
    r#"[{"user_id":"42","kind":"1","item_id":"18446744073709551615","marked_at_ms":"4"}]"#;
const KEY: &str = r#"[{"user_id":"42","kind":"1","item_id":"18446744073709551615"}]"#;
const UPSERT: &str = "upsert 42 1:18446744073709551615 @5";
const DELETE: &str = "delete 42 1:18446744073709551615";

#[test]
fn canal_json_with_and_without_its_extension() {
    for extension in ["", " "] {
        let dialect = Dialect::CanalJson;
        let has_position = !extension.is_empty();
        let check = |kind: &str, old: &str, data: &str, expected: &[&str]| {
            check(&canal(kind, old, data, extension), None, dialect, expected, has_position);
        };
        check("INSERT", "null", ROW, &[UPSERT]);
        check("UPDATE", OLDER, ROW, &[UPSERT]);
        check("UPDATE", r#"[{"marked_at_ms":"4"}]"#, ROW, &[UPSERT]);
        check("UPDATE", r#"[{"item_id":"7"}]"#, ROW, &["delete 42 1:7", UPSERT]);
        check("UPDATE", r#"[{"user_id":"7"}]"#, ROW, &["delete 7 1:18446744073709551615", UPSERT]);
        check("UPDATE", "null", ROW, &[UPSERT, "dirty partition before_missing"]);
        check("UPDATE", r#"[{"item":"7"}]"#, ROW, &[UPSERT, "dirty partition before_missing"]);
        check("DELETE", "null", ROW, &[DELETE]);
        check("DELETE", "null", KEY, &[DELETE]);
    }
    let no_rows = ["dirty partition row_shape"];
    for data in ["null", "[]", "{}", "[null]"] {
        check(&canal("INSERT", "null", data, ""), None, Dialect::CanalJson, &no_rows, false);
    }
    let unknown = ["dirty partition type_unknown"];
    check(&canal("UPSERT", "null", ROW, ""), None, Dialect::CanalJson, &unknown, false);
}

#[test]
fn canal_json_of_many_rows() {
    let old = r#"[{"item_id":"1"},null,{"marked_at_ms":"1"}]"#;
    let row = |item: u8| {
        format!(r#"{{"user_id":"42","kind":"1","item_id":"{item}","marked_at_ms":"5"}}"#)
    };
    let data = format!("[{},{},{}]", row(2), row(3), row(4));
    let expected = [
        "delete 42 1:1",
        "upsert 42 1:2 @5",
        "upsert 42 1:3 @5",
        "dirty partition before_missing",
        "upsert 42 1:4 @5",
    ];
    check(&canal("UPDATE", old, &data, " "), None, Dialect::CanalJson, &expected, true);
}

#[test]
fn canal_json_of_rows_that_are_too_large() {
    let key_only = r#","onlyHandleKey":true"#;
    let upsert = ["upsert 42 1:18446744073709551615"];
    check(&canal("INSERT", "null", KEY, key_only), None, Dialect::CanalJson, &upsert, true);
    check(&canal("UPDATE", KEY, KEY, key_only), None, Dialect::CanalJson, &upsert, true);
    check(&canal("DELETE", "null", KEY, key_only), None, Dialect::CanalJson, &[DELETE], true);
    let elsewhere = r#","claimCheckLocation":"s3://bucket/1.json""#;
    for (kind, old, data, expected) in [
        ("INSERT", "null", KEY, vec!["dirty user 42 oversize_row"]),
        (
            "UPDATE",
            r#"[{"user_id":"7"}]"#,
            KEY,
            vec!["dirty user 42 oversize_row", "dirty user 7 oversize_row"],
        ),
        ("INSERT", "null", "null", vec!["dirty partition oversize_row"]),
        ("INSERT", "null", r#"[{"id":"1"}]"#, vec!["dirty partition oversize_row"]),
    ] {
        check(&canal(kind, old, data, elsewhere), None, Dialect::CanalJson, &expected, false);
    }
    let empty = r#","claimCheckLocation":"""#;
    check(&canal("INSERT", "null", ROW, empty), None, Dialect::CanalJson, &[UPSERT], true);
}

#[test]
fn canal_json_watermarks() {
    let value = canal("TIDB_WATERMARK", "null", "null", " ").replace("commitTs", "watermarkTs");
    check(&value, None, Dialect::CanalJson, &["watermark watermark"], true);
    let value = canal("TIDB_WATERMARK", "null", "null", "");
    check(&value, None, Dialect::CanalJson, &["dirty partition watermark_missing"], false);
}

/// A message of the simple protocol: its type, and what follows the head.
fn simple(kind: &str, rest: &str) -> String {
    format!(r#"{{"version":1,"type":"{kind}","commitTs":{COMMIT},"buildTs":1{rest}}}"#)
}

#[test]
fn simple_json() {
    let row = ROW.trim_matches(['[', ']']);
    let older = OLDER.trim_matches(['[', ']']);
    let key = KEY.trim_matches(['[', ']']);
    let table = r#","database":"db","table":"feed_read","tableID":1,"schemaVersion":2"#;
    let check = |value: &str, expected: &[&str], has_position: bool| {
        check(value, None, Dialect::Simple, expected, has_position);
    };
    let of = |kind: &str, rest: &str| simple(kind, &format!("{table},{rest}"));
    check(&of("INSERT", &format!(r#""data":{row}"#)), &[UPSERT], true);
    check(&of("UPDATE", &format!(r#""data":{row},"old":{older}"#)), &[UPSERT], true);
    check(&of("DELETE", &format!(r#""old":{row}"#)), &[DELETE], true);
    let key_only = ["upsert 42 1:18446744073709551615"];
    check(
        &of("UPDATE", &format!(r#""handleKeyOnly":true,"data":{key},"old":{key}"#)),
        &key_only,
        true,
    );
    let elsewhere = format!(r#""claimCheckLocation":"/x","data":{key}"#);
    check(&of("INSERT", &elsewhere), &["dirty user 42 oversize_row"], false);
    check(&of("INSERT", r#""claimCheckLocation":"/x""#), &["dirty partition oversize_row"], false);
    let moved = format!(r#""data":{row},"old":{}"#, older.replace("42", "7"));
    check(&of("UPDATE", &moved), &["delete 7 1:18446744073709551615", UPSERT], true);
    for (kind, rest) in [
        ("DELETE", format!(r#""data":{row}"#)),
        ("INSERT", format!(r#""data":{row},"old":{older}"#)),
        ("UPDATE", format!(r#""old":{older}"#)),
    ] {
        check(&of(kind, &rest), &["dirty partition row_shape"], false);
    }
    check(
        &simple("INSERT", &format!(r#","data":{row}"#)),
        &["dirty partition table_missing"],
        false,
    );
    let other = simple("INSERT", &format!(r#","database":"db","table":"x","data":{row}"#));
    check(&other, &["ignore other_table"], false);
    check(&simple("WATERMARK", ""), &["watermark watermark"], true);
    check(&simple("BOOTSTRAP", r#","tableSchema":{"schema":"db"}"#), &["ignore bootstrap"], true);
    check(&simple("SOMETHING", ""), &["dirty partition type_unknown"], false);
}

#[test]
fn simple_json_statements() {
    let statement = |kind: &str, sql: &str, table: &str| {
        simple(
            kind,
            &format!(
                r#","sql":"{sql}","tableSchema":{{"schema":"db","table":"{table}","columns":[]}}"#
            ),
        )
    };
    for (kind, sql, table, expected) in [
        ("CREATE", "CREATE TABLE `db`.`feed_read` (`a` INT)", "feed_read", "ddl ddl"),
        ("ALTER", "ALTER TABLE feed_read ADD COLUMN note INT", "feed_read", "ddl ddl"),
        ("TRUNCATE", "TRUNCATE TABLE `db`.`feed_read`", "feed_read", "truncate truncate"),
        ("RENAME", "RENAME TABLE `db`.`feed_read` TO `db`.`y`", "y", "truncate rename"),
        ("ERASE", "DROP TABLE `db`.`feed_read`", "feed_read", "truncate drop"),
        ("ERASE", "DROP TABLE `db`.`y`", "y", "ignore other_table"),
        ("QUERY", "SOMETHING NEW", "feed_read", "dirty table ddl_unreadable"),
    ] {
        let value = statement(kind, sql, table);
        let texts: Vec<_> = read(&mut decoder(), &Line::new("x", None, &value))
            .1
            .iter()
            .map(show)
            .filter(|text| expected.starts_with("ignore") || !text.starts_with("ignore"))
            .collect();
        assert_eq!(texts, [expected], "{sql}");
    }
}

#[test]
fn debezium_flavour() {
    let message = |rest: &str| {
        format!(
            r#"{{"payload":{{"source":{{"version":"2.4.0.Final","connector":"TiCDC","db":"db",
            "table":"feed_read","gtid":null,"file":"","pos":0,"commit_ts":{COMMIT}}},"ts_ms":1,
            "transaction":null,{rest}}},"schema":{{"type":"struct"}}}}"#
        )
    };
    let row = r#"{"user_id":42,"kind":1,"item_id":-1,"marked_at_ms":5}"#;
    for (rest, expected) in [
        (format!(r#""op":"c","before":null,"after":{row}"#), UPSERT),
        (format!(r#""op":"u","before":{row},"after":{row}"#), UPSERT),
        (format!(r#""op":"d","before":{row},"after":null"#), DELETE),
        (r#""op":"m""#.to_owned(), "watermark watermark"),
        (
            r#""databaseName":"db","ddl":"TRUNCATE TABLE feed_read","tableChanges":[]"#.to_owned(),
            "truncate truncate",
        ),
    ] {
        check(&message(&rest), None, Dialect::TicdcDebezium, &[expected], true);
    }
}

#[test]
fn maxwell_flavour() {
    let head = 1_u64.to_be_bytes();
    let row = |name: &str| {
        format!(
            r#""{name}":{{"item_id":18446744073709551615,"kind":1,"marked_at_ms":5,"user_id":42}}"#
        )
    };
    let message = |kind: &str, rest: &str| {
        format!(r#"{{"database":"db","table":"feed_read","type":"{kind}","ts":1795221438,{rest}}}"#)
    };
    let insert = message("insert", &row("data"));
    let update = message("update", &format!(r#"{},"old":{{"marked_at_ms":4}}"#, row("data")));
    let delete = message("delete", &row("old"));
    let dialect = Dialect::TicdcMaxwell;
    check(&insert, Some(&head), dialect, &[UPSERT], false);
    check(&update, Some(&head), dialect, &[UPSERT], false);
    check(&delete, None, dialect, &[DELETE], false);
    check(&message("delete", &row("data")), Some(&head), dialect, &[DELETE], false);
    // Several in one message.
    let joined = format!("{delete}{insert}\n{update}");
    check(&joined, Some(&head), dialect, &[DELETE, UPSERT, UPSERT], false);
    let cut = &joined[..joined.len() - 1];
    let expected = [DELETE, UPSERT, "dirty partition json_unreadable"];
    check(cut, Some(&head), dialect, &expected, false);
    let statement = format!(
        r#"{{"type":"table-alter","database":"db","table":"feed_read","old":{{}},"def":{{}},
        "ts":{COMMIT},"sql":"TRUNCATE TABLE `db`.`feed_read`"}}"#
    );
    let key = format!(r#"{{"ts":{COMMIT},"scm":"db","tbl":"feed_read","t":2}}"#);
    check(&statement, Some(key.as_bytes()), dialect, &["truncate truncate"], true);
}
