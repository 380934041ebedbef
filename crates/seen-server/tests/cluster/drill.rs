//! Every fault once, under load.

use super::{free_ports, reported, seen, turn};

/// Some seconds of each fault, at a rate that a machine bears which builds something else beside the tests. Whether answers come in
/// time is said by paused time elsewhere, and by a drill on a machine that does nothing else.
#[test]
fn no_fault_makes_an_answer_wrong() {
    let _turn = turn();
    let folder = tempfile::tempdir().expect("a folder");
    let output = seen()
        .args(["drill", "--time", "1s", "--filters", "60", "--marks", "40", "--json"])
        .args(["--port-base", &free_ports(0).to_string()])
        .arg("--dir")
        .arg(folder.path())
        .output()
        .expect("it runs");
    let (report, told) = reported(&output);
    let rows = report["rows"].as_array().expect("rows");
    assert_eq!(rows.len(), 9, "{report:#}");
    let row = |fault: &str| rows.iter().find(|row| row["fault"] == fault).expect("such a row");
    assert!(row("kill a donor")["transfers_cut"].as_u64() > Some(0), "{report:#}");
    let map = std::fs::read_to_string(folder.path().join("cluster.toml")).expect("a map");
    assert!(map.starts_with("epoch = 7\n"), "three epochs there and three back: {map}");
    for row in rows {
        assert_eq!(row["false_negatives"], 0, "{row:#}");
        assert_eq!(row["false_negatives_tokenless"], 0, "{row:#}");
        assert!(row["filters"].as_u64().expect("a count") > 50, "{row:#}");
        assert!(row["marks"].as_u64().expect("a count") > 20, "{row:#}");
    }
    assert_eq!(report["missing"], 0, "{report:#}");
    assert!(report["acknowledged"].as_u64().expect("a count") > 500, "{report:#}");
    let late = rows.iter().any(|row| row["late"] != 0);
    assert!(late || output.status.success(), "{told}\n{report:#}");
}
