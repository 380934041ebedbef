//! `seen bench` from outside: children, load, answers and clearing up, on its smallest measurement.

use std::process::Command;

#[test]
fn a_measurement_ends_with_a_list_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().expect("a folder");
    let report = tempfile::NamedTempFile::new().expect("a file");
    let ran = Command::new(env!("CARGO_BIN_EXE_seen"))
        .args(["bench", "--quick", "--json", "--only", "build_user", "--dir"])
        .arg(folder.path())
        .arg("--report")
        .arg(report.path())
        .output()
        .expect("seen runs");
    let (stdout, stderr) =
        (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{stderr}");
    let last = stdout.lines().last().expect("a line");
    let list: serde_json::Value = serde_json::from_str(last).expect("JSON");
    let names: Vec<&str> =
        list.as_array().expect("a list").iter().filter_map(|one| one["name"].as_str()).collect();
    assert_eq!(names, ["build_user_1000", "build_user_50000"]);
    assert!(list[0]["ours"].as_f64().is_some_and(|ms| ms > 0.0), "{last}");
    let page = std::fs::read_to_string(report.path()).expect("a report");
    assert!(page.contains("<svg") && page.contains("build_user_1000"));
    let left = std::fs::read_dir(folder.path()).expect("the folder").count();
    assert_eq!(left, 0, "the store's files are removed");
}
