//! `seen filter`, `mark`, `unmark`, `forget`, `history`, `explain`, `status`.

use serde_json::json;

use super::stage::{Stage, seen};

#[test]
fn what_was_marked_is_read_until_it_is_unmarked_or_forgotten() {
    let stage = Stage::open();
    let unread = |arguments: &[&str]| {
        let all = [&["filter", "--json", "--user", "42"], arguments].concat();
        stage.run(&all).json()["unread"].clone()
    };
    let marked = stage.run(&["mark", "--user", "42", "--kind", "1", "1001", "2:7"]);
    assert!(marked.ok().stdout.starts_with("marked 2 items for user 42\ntoken: "));
    let token = marked.stdout.trim().rsplit(' ').next().expect("a token").to_owned();
    let one = json!([{ "kind": 1, "id": 1002 }]);
    assert_eq!(unread(&["--token", &token, "1:1001", "1:1002", "2:7"]), one);
    let table =
        stage.run(&["filter", "--user", "42", "--kind", "1", "1001", "1002"]).ok().stdout.clone();
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!(lines[1..4], ["   1  1001  read", "   1  1002  unread", "quality: exact"]);
    stage.run(&["unmark", "--user", "42", "2:7"]).ok();
    assert_eq!(unread(&["--confirm", "2:7"]), json!([{ "kind": 2, "id": 7 }]));
    let forgotten = stage.run(&["forget", "--json", "--user", "42", "--all"]).json();
    assert_eq!(forgotten["namespaces"][0]["rows"], 1);
    assert_eq!(unread(&["1:1001"]), json!([{ "kind": 1, "id": 1001 }]));
}

#[test]
fn a_history_is_listed_in_pages_and_by_time() {
    let stage = Stage::with(|config| config.namespace[0].time_index = true);
    for (item, time) in [("5", "2001-09-10T13:51:30Z"), ("6", "1000129891"), ("7", "1000129892000")]
    {
        stage.run(&["mark", "--user", "1", "--at", time, item]).ok();
    }
    let newest = stage.run(&["history", "--user", "1", "--newest"]).ok().stdout.clone();
    let items: Vec<&str> =
        newest.lines().skip(1).take(3).filter_map(|line| line.split_whitespace().nth(1)).collect();
    assert_eq!(items, ["7", "6", "5"]);
    assert!(newest.contains("2001-09-10T13:51:32.000Z"), "{newest}");
    let page = stage.run(&["history", "--json", "--user", "1", "--limit", "2"]).json();
    assert_eq!(page["rows"].as_array().map(Vec::len), Some(2));
    let next = page["next_page_token"].as_str().expect("a token");
    let rest = stage.run(&["history", "--json", "--user", "1", "--page-token", next]).json();
    assert_eq!(rest["rows"].as_array().map(Vec::len), Some(1));
    assert_eq!(rest["next_page_token"], "");
    let late = stage.run(&["history", "--json", "--user", "1", "--from", "1000129892"]).json();
    assert_eq!(late["rows"][0]["id"], 7);
}

#[test]
fn an_answer_is_explained() {
    let stage = Stage::open();
    stage.run(&["mark", "--user", "9", "--kind", "3", "12"]).ok();
    let explained = stage.run(&["explain", "--json", "--user", "9", "--kind", "3", "12"]).json();
    assert_eq!(
        (&explained["would_show"], &explained["storage"]["presence"]),
        (&json!(false), &json!("read"))
    );
    let text = stage.run(&["explain", "--user", "9", "3:13"]).ok().stdout.clone();
    assert!(text.contains("unread: Filter would show it"), "{text}");
    assert!(text.contains("storage says") && text.contains("not read"), "{text}");
}

#[test]
fn the_status_counts_what_was_asked() {
    let stage = Stage::open();
    stage.run(&["mark", "--user", "9", "12"]).ok();
    stage.run(&["filter", "--user", "9", "12", "13"]).ok();
    let status = stage.run(&["status", "--json"]).json();
    assert_eq!((&status["traffic"]["marks"], &status["traffic"]["checks"]), (&json!(1), &json!(2)));
    assert_eq!(status["namespaces"][0]["name"], "feed_read");
    let text = stage.run(&["status"]).ok().stdout.clone();
    for part in ["bytes in memory", "FALSE NEGATIVES", "feed_read", "COVERS"] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn the_status_tells_what_the_time_index_costs() {
    let stage = Stage::with(|config| config.namespace[0].time_index = true);
    stage.run(&["mark", "--user", "9", "12", "13"]).ok();
    let status = stage.run(&["status", "--json"]).json();
    let with = &status["namespaces"][0];
    assert_eq!((&with["rows"], &with["size_exact"]), (&json!(2), &json!(true)));
    let bytes = with["time_index_bytes"].as_u64().expect("known");
    assert!(bytes > 0);
    assert_eq!(status["namespaces"][1]["time_index_bytes"], json!(null));
    let text = stage.run(&["status"]).ok().stdout.clone();
    let stored = text.lines().skip_while(|line| !line.contains("TIME INDEX BYTES A ROW"));
    let lines: Vec<Vec<&str>> =
        stored.skip(1).take(2).map(|line| line.split_whitespace().collect()).collect();
    assert_eq!((lines[0][0], lines[0][1]), ("feed_read", "2"), "{text}");
    assert_eq!(lines[0][5].parse(), Ok(bytes as f64 / 2.0), "{text}");
    assert_eq!(lines[1][4..], ["-", "-"], "{text}");
}

#[test]
fn what_is_wrong_is_said_with_field_and_limit() {
    let stage = Stage::open();
    let many: Vec<String> = (0..1_001).map(|id| id.to_string()).collect();
    let mut mark = vec!["mark", "--user", "1"];
    mark.extend(many.iter().map(String::as_str));
    stage.run(&mark).fails_with(1, "items");
    stage.run(&mark).fails_with(1, "1000");
    stage
        .run(&["filter", "--user", "1", "--namespace", "nowhere", "5"])
        .fails_with(1, "\"nowhere\"");
    stage.run(&["history", "--user", "1", "--newest"]).fails_with(1, "NOT_KEPT");
    stage.run(&["history", "--user", "1", "--page-token", "AAAA"]).fails_with(1, "page_token");
    stage.run(&["filter", "--user", "1", "--token", "AQ==", "5"]).fails_with(1, "token");
    stage.run(&["filter", "--user", "1", "--token", "?", "5"]).fails_with(1, "--token: not base64");
    stage.run(&["filter", "--user", "1", "300:5"]).fails_with(2, "0 to 255");
    stage.run(&["filter", "--user", "-1", "5"]).fails_with(2, "--user");
    stage.run(&["forget", "--user", "1"]).fails_with(2, "--all");
    stage.run(&["forget", "--user", "1", "--all", "--namespace", "x"]).fails_with(2, "--all");
}

#[test]
fn a_service_that_is_away_is_named() {
    let stage = Stage::open();
    let arguments = ["filter", "--user", "1", "5", "--server", "127.0.0.1:1", "--timeout", "300ms"];
    let output = seen(stage.folder(), &arguments).output().expect("it starts");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(stderr.contains("cannot connect to 127.0.0.1:1"), "{stderr}");
    assert!(output.stdout.is_empty());
    let from_environment = seen(stage.folder(), &["filter", "--user", "1", "5", "--json"])
        .env("SEEN_SERVER", stage.server())
        .output()
        .expect("it starts");
    assert!(from_environment.status.success());
}
