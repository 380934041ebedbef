//! `seen doctor` as a person or a script runs it.

use std::process::{Command, Output};

use seen_testbed::MariaDb;
use serde_json::Value;

const PASSWORD: &str = "hunter2-and-more";

fn seen(arguments: &[&str]) -> Output {
    let folder = tempfile::tempdir().expect("a temporary folder");
    Command::new(env!("CARGO_BIN_EXE_seen"))
        .args(arguments)
        .current_dir(folder.path())
        .env_remove("SEEN_CONFIG")
        .env("SEEN_MYSQL__PASSWORD", PASSWORD)
        .output()
        .expect("the binary starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("UTF-8")
}

/// Runs a command at a server; nothing that it says may hold the password.
fn at(server: &MariaDb, command: &[&str]) -> Output {
    let servers = format!("mysql.servers=127.0.0.1:{}", server.port());
    let mut arguments = command.to_vec();
    arguments.extend(["--set", "storage.kind=mysql", "--set", &servers]);
    arguments.extend(["--set", "mysql.connect_timeout=20s", "--set", "mysql.page_timeout=20s"]);
    let output = seen(&arguments);
    let said = text(&output.stdout) + &text(&output.stderr);
    assert!(!said.contains(PASSWORD), "{said}");
    output
}

#[test]
fn errors_come_first_with_what_mends_them_and_decide_the_status() {
    let server = MariaDb::builder().argument("--sync-binlog=0").start().expect("a server");
    server.create_user("seen", PASSWORD).expect("a user");
    server.sql("CREATE DATABASE seen").expect("a database");
    let output = at(&server, &["doctor"]);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(4), "{said}{}", text(&output.stderr));
    assert!(said.starts_with("error: "), "{said}");
    let subject = format!("error: sync_binlog at 127.0.0.1:{}\n    is 0: ", server.port());
    assert!(said.contains(&subject), "{said}");
    assert!(said.contains("\n    mend: SET GLOBAL sync_binlog = 1\n"), "{said}");
    assert!(said.contains("\n    mend: seen migrate --apply\n"), "{said}");
    assert!(said.find("\nnote: ").is_some_and(|at| !said[at..].contains("\nerror: ")), "{said}");
    server.sql("SET GLOBAL sync_binlog = 1").expect("mended");
    let migrated = at(&server, &["migrate", "--apply"]);
    assert!(migrated.status.success(), "{}", text(&migrated.stderr));
    let rows = "USE seen; INSERT INTO history_feed_read SELECT 7, 1, seq, 5 FROM seq_1_to_1234";
    server.sql(rows).expect("rows");
    let output = at(&server, &["doctor"]);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains("(all 1 users)") && said.contains("1,234"), "{said}");
    assert!(said.contains("ACTIVE USERS") && said.contains("10,000,000"), "{said}");
    assert!(said.lines().last().is_some_and(|line| line.starts_with("0 errors, 0 ")), "{said}");
    let output = at(&server, &["doctor", "--json"]);
    assert_eq!(output.status.code(), Some(0));
    let read: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(read["errors"], 0);
    let findings = read["findings"].as_array().expect("a list");
    assert_eq!(read["notes"], findings.len() as u64 - read["warnings"].as_u64().expect("a number"));
    for finding in findings {
        for field in ["severity", "subject", "what"] {
            assert!(finding[field].as_str().is_some_and(|text| !text.is_empty()), "{finding}");
        }
        assert!(finding["mend"].is_null() || finding["mend"].is_string(), "{finding}");
    }
    let lengths = &read["lengths"][0];
    assert_eq!((&lengths["rows_max"], &lengths["users"]), (&1_234.into(), &1.into()));
    let memory = &lengths["memory"][0];
    assert_eq!(memory["active_users"], 100_000);
    // A filter of 1,234 items at 1 % and the table of users.
    let built = memory["bytes_built"].as_u64().expect("a number") / 100_000;
    assert!((1_234 * 10 / 8..1_234 * 12 / 8 + 100).contains(&built), "{built}");
    assert!(memory["bytes_grown"].as_u64() > memory["bytes_built"].as_u64(), "{memory}");
}

#[test]
fn servers_that_are_not_there_are_named_and_the_status_is_1() {
    let sets = ["storage.kind=mysql", "mysql.servers=127.0.0.1:1", "mysql.connect_timeout=500ms"];
    let mut arguments = vec!["doctor"];
    arguments.extend(sets.iter().flat_map(|set| ["--set", set]));
    let output = seen(&arguments);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    let said = text(&output.stderr);
    assert!(said.contains("127.0.0.1:1") && !said.contains(PASSWORD), "{said}");
}

#[test]
fn without_a_topic_the_servers_are_examined() {
    let output = seen(&["doctor", "--feed"]);
    let said = text(&output.stdout);
    assert!(output.status.success() && said.contains("there is no topic to look at"), "{said}");
    assert!(said.contains("storage.kind is sqlite"), "{said}");
    let server = MariaDb::start().expect("a server");
    server.create_user("seen", PASSWORD).expect("a user");
    server.sql("CREATE DATABASE seen").expect("a database");
    let output = at(&server, &["doctor", "--feed"]);
    let said = text(&output.stdout);
    assert!(said.starts_with("changes are read from the servers' binary log"), "{said}");
    assert!(said.contains("seen migrate --apply"), "{said}");
}

#[test]
fn the_embedded_store_has_nothing_to_examine() {
    let output = seen(&["doctor"]);
    let said = text(&output.stdout);
    assert!(output.status.success() && said.lines().count() == 1, "{said}");
    assert!(said.contains("storage.kind is sqlite"), "{said}");
    let output = seen(&["doctor", "--json"]);
    let read: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!((&read["errors"], &read["findings"]), (&0.into(), &Value::Array(Vec::new())));
}
