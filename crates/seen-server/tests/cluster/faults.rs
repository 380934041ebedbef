//! What is expected of each fault, and what is measured, in one document.

use seen_testbed::{Tidb, or_skip};
use serde_json::json;

use super::{free_ports, reported, seen, turn};

/// Two faults that every machine can do, and one that needs servers which are not there: it must not pass for done.
#[test]
fn faults_are_held_against_what_is_expected_of_them() {
    let _turn = turn();
    let folder = tempfile::tempdir().expect("a folder");
    let document = folder.path().join("faults.md");
    let output = seen()
        .args(["drill", "--time", "1s", "--filters", "60", "--marks", "40", "--json"])
        .args(["--fault", "few-files", "--fault", "restart-replicas", "--fault", "storage-silent"])
        .args(["--port-base", &free_ports(20).to_string()])
        .arg("--report")
        .arg(&document)
        .arg("--dir")
        .arg(folder.path().join("cluster"))
        .output()
        .expect("it runs");
    let (report, told) = reported(&output);
    let rows = report["rows"].as_array().expect("rows");
    let [files, restart, silent] = &rows[..] else { panic!("{report:#}") };
    for row in [files, restart] {
        assert_eq!(row["missing"], 0, "{row:#}");
        assert_eq!(row["false_negatives"], 0, "{row:#}");
        assert!(row["recovered_s"].is_number(), "{row:#}");
        assert!(row["marks"].as_u64() > Some(20), "{row:#}");
    }
    assert!(restart["marks_failed"].as_object().is_some_and(|some| !some.is_empty()), "{report:#}");
    assert_eq!(silent["failures"], json!(["not done"]), "{silent:#}");
    assert_eq!(output.status.code(), Some(1), "what was not done did not pass: {told}");
    let text = std::fs::read_to_string(&document).expect("a document");
    let row = |name: &str| text.lines().find(|line| line.starts_with(&format!("| {name} |")));
    assert!(row("few-files").is_some_and(|row| row.contains("at most 1 % flagged")), "{text}");
    assert!(row("storage-silent").is_some_and(|row| row.contains("not done")), "{text}");
}

/// Where every answer is asked of storage: a replica's death, of which nobody hears from the others, and two that are not done there.
#[test]
fn on_tidb_no_fault_makes_an_answer_wrong() {
    let Some(tidb) = or_skip(Tidb::start()) else { return };
    let _turn = turn();
    tidb.sql("CREATE DATABASE seen").expect("a database");
    let folder = tempfile::tempdir().expect("a folder");
    let document = folder.path().join("faults.md");
    let server = format!("mysql.servers=127.0.0.1:{}", tidb.port());
    let settings = ["storage.kind=mysql", &server, "mysql.user=root"];
    let settings: Vec<&str> = settings.into_iter().flat_map(|setting| ["--set", setting]).collect();
    let made = seen().arg("migrate").args(&settings).output().expect("it runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let output = seen()
        .args(["drill", "--tidb", "--time", "1s", "--filters", "10", "--marks", "10", "--json"])
        .args(["--fault", "kill-replica", "--fault", "kafka-down", "--fault", "kill-donor"])
        .args(["--port-base", &free_ports(10).to_string()])
        .args(&settings)
        .arg("--report")
        .arg(&document)
        .arg("--dir")
        .arg(folder.path().join("cluster"))
        .output()
        .expect("it runs");
    let (report, told) = reported(&output);
    let rows = report["rows"].as_array().expect("rows");
    let [kill, kafka, donor] = &rows[..] else { panic!("{told}\n{report:#}") };
    for wrong in ["missing", "false_negatives", "false_negatives_tokenless"] {
        assert_eq!(kill[wrong], 0, "{kill:#}");
    }
    assert!(kill["filters"].as_u64() > Some(20) && kill["marks"].as_u64() > Some(20), "{kill:#}");
    assert_eq!(
        (&kafka["failures"], &donor["failures"]),
        (&json!(["not done"]), &kafka["failures"])
    );
    assert_eq!(output.status.code(), Some(1), "what was not done did not pass: {told}");
    let text = std::fs::read_to_string(&document).expect("a document");
    assert!(text.contains("<!-- measured on TiDB: "), "{text}");
    assert!(text.contains("not done: there is no Kafka"), "{text}");
}

#[test]
fn every_fault_is_told_of() {
    let output = seen().args(["drill", "--list"]).output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout);
    for named in ["commit-lost: ", "retention-gap: ", "overload-five: ", "clock-off: "] {
        assert!(text.lines().any(|line| line.starts_with(named)), "{text}");
    }
    let output = seen().args(["drill", "--list", "--tidb"]).output().expect("it runs");
    let on_tidb = String::from_utf8_lossy(&output.stdout);
    let kafka = on_tidb.lines().find(|line| line.starts_with("kafka-down: ")).expect("told of");
    assert!(kafka.ends_with("not done: there is no Kafka") && !text.contains(kafka), "{on_tidb}");
}
