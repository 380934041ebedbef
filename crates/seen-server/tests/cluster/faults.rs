//! What is expected of each fault, and what is measured, in one document.

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
    assert_eq!(silent["failures"], serde_json::json!(["not done"]), "{silent:#}");
    assert_eq!(output.status.code(), Some(1), "what was not done did not pass: {told}");
    let text = std::fs::read_to_string(&document).expect("a document");
    let row = |name: &str| text.lines().find(|line| line.starts_with(&format!("| {name} |")));
    assert!(row("few-files").is_some_and(|row| row.contains("at most 1 % flagged")), "{text}");
    assert!(row("storage-silent").is_some_and(|row| row.contains("not done")), "{text}");
}

#[test]
fn every_fault_is_told_of() {
    let output = seen().args(["drill", "--list"]).output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout);
    for named in ["commit-lost: ", "retention-gap: ", "overload-five: ", "clock-off: "] {
        assert!(text.lines().any(|line| line.starts_with(named)), "{text}");
    }
}
