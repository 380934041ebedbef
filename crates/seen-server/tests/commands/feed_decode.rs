//! `seen feed decode`: the recorded messages of the dialect crate, and lines of our own.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::stage::{Ran, seen};

/// A folder and the command in it.
struct Decoding(TempDir);

impl Decoding {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a folder"))
    }

    fn file(&self, name: &str, text: &str) {
        std::fs::write(self.0.path().join(name), text).expect("written");
    }

    fn command(&self, arguments: &[&str]) -> Command {
        seen(self.0.path(), &[&["feed", "decode"], arguments].concat())
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        self.command(arguments).output().expect("it starts").into()
    }

    /// The events of each line of a file with these lines.
    fn events(&self, arguments: &[&str], lines: &[Value]) -> Vec<Value> {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        self.file("records.jsonl", &text);
        let ran = self.run(&[arguments, &["records.jsonl"]].concat());
        events(&ran.ok().stdout)
    }
}

fn events(stdout: &str) -> Vec<Value> {
    let read = |line: &str| serde_json::from_str::<Value>(line).expect("JSON");
    stdout.lines().map(|line| read(line)["events"].clone()).collect()
}

fn encoded(bytes: &[u8]) -> Value {
    json!(STANDARD.encode(bytes))
}

/// A recorded file of the dialect crate; the large ones are compressed.
fn golden(name: &str) -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../seen-dialect/tests/golden");
    let plain = folder.join(format!("{name}.jsonl"));
    if let Ok(bytes) = std::fs::read(&plain) {
        return bytes;
    }
    let compressed = folder.join(format!("{name}.jsonl.zst"));
    let file = std::fs::File::open(&compressed)
        .unwrap_or_else(|error| panic!("{}: {error}", compressed.display()));
    zstd::decode_all(file).expect("zstd")
}

#[test]
fn recorded_messages_are_told_apart_and_read() {
    let decoding = Decoding::new();
    for (name, table, base64, dialect) in [
        ("tidb-binlog", "test.feed_read", true, "tidb-binlog"),
        ("debezium-mariadb-precise", "db.feed_read", false, "debezium"),
        ("canal-flat", "db.feed_read", false, "canal"),
        ("maxwell", "db.feed_read", false, "maxwell"),
    ] {
        let text = String::from_utf8(golden(name)).expect("UTF-8");
        decoding.file("golden.jsonl", &text);
        let mut arguments = vec!["--table", table, "--summary", "golden.jsonl"];
        if base64 {
            arguments.push("--base64");
        }
        let ran = decoding.run(&arguments);
        let told = events(&ran.ok().stdout);
        assert_eq!(told.len(), text.lines().count(), "{name}: a line for each record");
        assert!(told.iter().all(|events| events.as_array().is_some_and(|all| !all.is_empty())));
        assert!(ran.stderr.contains(dialect) && ran.stderr.contains("upsert"), "{}", ran.stderr);
        let all = format!("{told:?}");
        assert!(all.contains("Number(18446744073709551615)"), "{name}: exact numbers");
    }
}

#[test]
fn each_event_says_what_applies_to_it() {
    let decoding = Decoding::new();
    let text = String::from_utf8(golden("tidb-binlog")).expect("UTF-8");
    decoding.file("golden.jsonl", &text);
    let ran = decoding.run(&["golden.jsonl", "--table", "test.feed_read", "--base64"]);
    let lines: Vec<&str> = ran.ok().stdout.lines().collect();
    let first: Value = serde_json::from_str(lines[0]).expect("JSON");
    let position = first["events"][0]["position"].as_u64().expect("a number");
    assert_eq!(
        lines[0],
        format!(
            r#"{{"line":1,"events":[{{"op":"upsert","user":42,"kind":1,"item":18446744073709551615,"marked_at_ms":1763683200123,"position":{position}}}]}}"#
        )
    );
    assert!(
        lines[4].starts_with(r#"{"line":5,"events":[{"op":"delete","user":0,"kind":0,"item":0,"#)
    );
    assert!(lines[6].starts_with(r#"{"line":7,"events":[{"op":"truncate","position":"#));
    assert!(ran.stderr.is_empty(), "{}", ran.stderr);
}

/// A key or value of TiCDC's open protocol: lengths and texts.
fn framed(texts: &[&str]) -> Vec<u8> {
    let one = |text: &&str| [&(text.len() as u64).to_be_bytes(), text.as_bytes()].concat();
    texts.iter().flat_map(one).collect()
}

fn open_protocol(key: &str, value: &str) -> Value {
    let key = [&1_u64.to_be_bytes()[..], &framed(&[key])].concat();
    json!({ "key": encoded(&key), "value": encoded(&framed(&[value])), "meaning": [1] })
}

#[test]
fn columns_are_those_of_any_table() {
    let decoding = Decoding::new();
    let row = r#"{"u":{"member":{"t":8,"v":18446744073709551615},"article":{"t":8,"v":7},
        "at":{"t":8,"v":12},"gone":{"t":1,"v":0}}}"#;
    let gone = row.replace(r#""gone":{"t":1,"v":0}"#, r#""gone":{"t":1,"v":1}"#);
    let key = r#"{"ts":470606528793280517,"scm":"app","tbl":"reads","t":1}"#;
    let columns = "user=member,item=article,kind=3,time=at:s,deleted=gone";
    let arguments = ["--table", "app.reads", "--base64", "--columns", columns];
    let told = decoding.events(&arguments, &[open_protocol(key, row), open_protocol(key, &gone)]);
    assert_eq!(
        told,
        [
            json!([{ "op": "upsert", "user": u64::MAX, "kind": 3, "item": 7,
                "marked_at_ms": 12_000, "position": 470_606_528_793_280_517_u64 }]),
            json!([{ "op": "delete", "user": u64::MAX, "kind": 3, "item": 7,
                "position": 470_606_528_793_280_517_u64 }]),
        ]
    );
    let own = decoding.events(&["--table", "app.reads", "--base64"], &[open_protocol(key, row)]);
    assert_eq!(own[0][0]["op"], "dirty");
    assert_eq!(
        (&own[0][0]["scope"], &own[0][0]["reason"]),
        (&json!("partition"), &json!("value_missing"))
    );
    let keyless = row.replace(r#""article":{"t":8,"v":7},"#, "");
    let told = decoding.events(&arguments, &[open_protocol(key, &keyless)]);
    assert_eq!((&told[0][0]["op"], &told[0][0]["user"]), (&json!("dirty"), &json!(u64::MAX)));
    decoding
        .run(&["--table", "app.reads", "--columns", "user=a", "x"])
        .fails_with(1, "item=COLUMN is missing");
}

#[test]
fn control_rows_are_shown_to_who_asks_for_them() {
    let decoding = Decoding::new();
    let row = r#"{"u":{"user_id":{"v":5},"namespace":{"v":1},"writer":{"v":18446744073709551615},
        "seq":{"v":9}}}"#;
    let key = r#"{"ts":470,"scm":"seen","tbl":"seen_control","t":1}"#;
    let lines = [open_protocol(key, row)];
    let beside = decoding.events(&["--table", "seen.history_feed", "--base64"], &lines);
    assert_eq!(beside, [json!([{ "op": "ignore", "reason": "control", "position": 470 }])]);
    let itself = decoding.events(&["--table", "seen.seen_control", "--base64"], &lines);
    let shown = json!([{ "op": "control", "user": 5, "namespace": 1, "writer": u64::MAX, "seq": 9,
        "position": 470 }]);
    assert_eq!(itself, [shown]);
}

#[test]
fn lines_without_a_message_are_nothing() {
    let decoding = Decoding::new();
    let none = json!({ "key": null, "value": null, "meaning": "NO MESSAGE for: ddl" });
    let told = decoding.events(&["--table", "a.b"], &[none]);
    assert_eq!(told[0][0]["op"], "ignore");
    assert_eq!(told[0].as_array().map(Vec::len), Some(1));
    let unknown = decoding.events(&["--table", "a.b"], &[json!({ "value": "?" })]);
    assert_eq!(unknown[0][0]["op"], "dirty");
}

#[test]
fn what_is_no_record_is_told_after_what_was_read() {
    let decoding = Decoding::new();
    let good = json!({ "value": null });
    for (bad, why) in [
        ("[1]".to_owned(), "line 3: no JSON object"),
        ("{".to_owned(), "line 3: no JSON: "),
        (json!({ "value": 5 }).to_string(), "line 3: value is neither a text nor null"),
        (json!({ "value": null, "offset": "x" }).to_string(), "line 3: offset is no whole number"),
    ] {
        decoding.file("records.jsonl", &format!("{good}\n\n{bad}\n{good}\n"));
        let ran = decoding.run(&["records.jsonl", "--table", "a.b"]);
        ran.fails_with(1, why);
        assert_eq!(events(&ran.stdout).len(), 1, "{}", ran.stdout);
    }
    let base64 = decoding.run(&["records.jsonl", "--table", "a.b", "--base64"]);
    base64.fails_with(1, "line 3: offset");
    decoding.run(&["none.jsonl", "--table", "a.b"]).fails_with(1, "cannot open none.jsonl");
    decoding.run(&["none.jsonl", "--table", "b"]).fails_with(2, "expected DATABASE.TABLE");
    let named = decoding.run(&["none.jsonl", "--table", "a.b", "--dialect", "csv"]);
    named.fails_with(2, "expected auto or one of seen, debezium");
}

#[test]
fn stdin_is_read_and_a_format_may_be_named() {
    let decoding = Decoding::new();
    let mut child = decoding
        .command(&["-", "--table", "a.b", "--dialect", "tidb-binlog"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut stdin = child.stdin.take().expect("piped");
    writeln!(stdin, "{}", json!({ "value": "{}" })).expect("it reads");
    drop(stdin);
    let ran: Ran = child.wait_with_output().expect("it ends").into();
    assert_eq!(events(&ran.ok().stdout)[0][0]["reason"], "record_damaged");
}

const SCHEMA: &str = r#"{"type":"record","name":"feed_read","namespace":"default.test","fields":[
    {"name":"user_id","type":"string"},{"name":"kind","type":"int"},{"name":"item_id","type":"string"},
    {"name":"_tidb_commit_ts","type":"long"}]}"#;

/// A row of that schema: user 2^64-1, kind 1, item 7, at 5.
fn avro_row() -> Value {
    let row = [&[0, 0, 0, 0, 8, 40][..], b"18446744073709551615", &[2, 2], b"7", &[10]].concat();
    json!({ "value": encoded(&row) })
}

fn upserted() -> Value {
    json!([{ "op": "upsert", "user": u64::MAX, "kind": 1, "item": 7, "marked_at_ms": null,
        "position": 5 }])
}

#[test]
fn avro_is_read_by_a_schema_from_a_file() {
    let decoding = Decoding::new();
    let arguments = ["--table", "test.feed_read", "--base64"];
    let unknown = decoding.events(&arguments, &[avro_row()]);
    let doubt = json!([{ "op": "dirty", "scope": "partition", "reason": "schema_unknown" }]);
    assert_eq!(unknown, [doubt]);
    decoding.file("value.avsc", SCHEMA);
    let with = [&arguments[..], &["--schema", "8=value.avsc"]].concat();
    assert_eq!(decoding.events(&with, &[avro_row()]), [upserted()]);
    let run = |schema: &str| decoding.run(&[&arguments[..], &["--schema", schema, "x"]].concat());
    run("8").fails_with(2, "expected ID=FILE");
    run("8=none").fails_with(1, "--schema none: ");
    decoding.file("bad.avsc", "{}");
    run("8=bad.avsc").fails_with(1, "the Avro schema cannot be used");
}

/// A registry that knows schema 8, for one run; counts what it was asked.
fn registry() -> (String, std::thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let url = format!("http://me:secret@{}", listener.local_addr().expect("bound"));
    let serve = move || {
        let mut asked = Vec::new();
        for stream in listener.incoming() {
            let mut stream: TcpStream = stream.expect("a caller");
            let mut head = Vec::new();
            for line in BufReader::new(stream.try_clone().expect("a handle")).lines() {
                match line.expect("text") {
                    line if line.is_empty() => break,
                    line => head.push(line),
                }
            }
            let Some(request) = head.first().cloned() else { return asked };
            let body = json!({ "schema": SCHEMA }).to_string();
            let answer = match request.contains("/ids/8 ") {
                true => format!("HTTP/1.0 200 OK\r\n\r\n{body}"),
                false => "HTTP/1.0 404 Not Found\r\n\r\n{}".to_owned(),
            };
            stream.write_all(answer.as_bytes()).expect("it reads");
            assert!(head.contains(&"Authorization: Basic bWU6c2VjcmV0".to_owned()), "{head:?}");
            asked.push(request);
        }
        asked
    };
    (url, std::thread::spawn(serve))
}

#[test]
fn avro_is_read_by_a_schema_from_a_registry() {
    let decoding = Decoding::new();
    let (url, asked) = registry();
    let other = json!({ "value": encoded(&[0, 0, 0, 0, 9, 1]) });
    let arguments = ["--table", "test.feed_read", "--base64", "--schema-registry", &url];
    let lines = [avro_row(), other.clone(), other, avro_row()];
    let told = decoding.events(&arguments, &lines);
    assert_eq!((&told[0], &told[3]), (&upserted(), &upserted()));
    assert_eq!(told[1][0]["reason"], "schema_unknown");
    // An empty request ends it.
    let address = url.rsplit('@').next().expect("a host");
    let mut last = TcpStream::connect(address).expect("it listens");
    last.shutdown(std::net::Shutdown::Write).expect("it closes");
    let _ = last.read(&mut [0]);
    let asked = asked.join().expect("it ends");
    assert_eq!(asked, ["GET /schemas/ids/8 HTTP/1.0", "GET /schemas/ids/9 HTTP/1.0"], "once each");
    let run = |registry: &str| {
        decoding.run(&[
            "records.jsonl",
            "--table",
            "a.b",
            "--base64",
            "--schema-registry",
            registry,
        ])
    };
    run("https://127.0.0.1:1").fails_with(1, "only http:// is spoken");
    run("http://127.0.0.1:1").fails_with(1, "--schema-registry http://127.0.0.1:1: ");
}
