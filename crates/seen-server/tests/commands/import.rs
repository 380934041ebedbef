//! `seen import`.

use std::fs;

use seen_proto::v1::QualityLevel;
use serde_json::{Value, json};

use super::liar::Liar;
use super::stage::{Stage, history};

const CHECKPOINT: &str = "h.tsv.seen-import.json";

fn counts(report: &Value) -> [Value; 4] {
    ["events", "imported_before", "verified", "missing"].map(|name| report[name].clone())
}

#[test]
fn a_history_is_imported_with_its_times_and_verified() {
    let stage = Stage::open();
    stage.file("h.tsv", &history(5_000));
    let report = stage.run(&["import", "h.tsv", "--json", "--verify", "all"]).json();
    assert_eq!(counts(&report), [json!(5_000), json!(0), json!(5_000), json!(0)]);
    assert_eq!(report["files"][0]["whole"], true);
    let rows = stage.run(&["history", "--json", "--user", "1", "--limit", "1000"]).json();
    let rows = rows["rows"].as_array().expect("rows");
    assert_eq!(rows.len(), 500);
    let first = rows.iter().find(|row| row["id"] == 0).expect("item 0");
    assert_eq!(first["marked_at_ms"], 1_000_000_000_000_u64);
}

#[test]
fn an_import_goes_on_from_its_checkpoint() {
    let stage = Stage::open();
    let text = history(9_000);
    let whole = stage.file("h.tsv", &text);
    stage.run(&["import", "h.tsv"]).ok();
    let checkpoint: Value =
        serde_json::from_slice(&fs::read(stage.folder().join(CHECKPOINT)).expect("a checkpoint"))
            .expect("JSON");
    assert_eq!(
        (&checkpoint["events"], &checkpoint["position"]["lines"]),
        (&json!(9_000), &json!(9_001))
    );
    // A log grows: only what is new is imported, and all of it may be looked up.
    fs::write(&whole, format!("{text}77\t1\t5\n")).expect("written");
    let report = stage.run(&["import", "h.tsv", "--json", "--verify", "100000"]).json();
    assert_eq!(counts(&report), [json!(1), json!(9_000), json!(9_001), json!(0)]);
    fs::write(&whole, text.replacen("\t13\t", "\t14\t", 1)).expect("written");
    stage.run(&["import", "h.tsv"]).fails_with(1, "no longer begins with the");
    let report = stage.run(&["import", "h.tsv", "--json", "--restart"]).json();
    assert_eq!((&report["events"], &report["imported_before"]), (&json!(9_000), &json!(0)));
    stage.run(&["import", "h.tsv", "--namespace", "push_sent"]).fails_with(1, "\"feed_read\"");
}

#[test]
fn a_checkpoint_of_another_service_leaves_nothing_out_silently() {
    let (before, now) = (Stage::open(), Stage::open());
    let text = history(3_000);
    before.file("h.tsv", &text);
    before.run(&["import", "h.tsv"]).ok();
    now.file("h.tsv", &text);
    fs::copy(before.folder().join(CHECKPOINT), now.folder().join(CHECKPOINT)).expect("copied");
    let ran = now.run(&["import", "h.tsv"]);
    ran.fails_with(1, "pass --restart");
    assert!(ran.stdout.contains("MISSING 3,000"), "{}", ran.stdout);
    now.file("h.tsv", &format!("{text}5\t5\t5\n"));
    now.run(&["import", "h.tsv"]).fails_with(1, "is of cluster");
    now.run(&["import", "h.tsv", "--restart"]).ok();
}

#[test]
fn an_import_into_nothing_says_so_and_leaves_no_checkpoint() {
    let stage = Stage::open();
    stage.file("h.tsv", &history(100));
    stage.run(&["import", "h.tsv", "--namespace", "nowhere"]).fails_with(1, "\"nowhere\"");
    assert!(!stage.folder().join(CHECKPOINT).exists());
    stage
        .run(&["import", "h.tsv", "--checkpoint-dir", "no/folder"])
        .fails_with(1, "--checkpoint-dir");
}

#[test]
fn stdin_is_imported_without_a_checkpoint_and_at_its_rate() {
    let stage = Stage::open();
    let arguments = ["import", "-", "--json", "--rate", "20000"];
    let report = stage.run_with_input(&arguments, &history(6_144)).json();
    assert_eq!(counts(&report), [json!(6_144), json!(0), json!(6_144), json!(0)]);
    assert!(report["duration_s"].as_f64().expect("a number") > 0.2, "{report}");
    assert_eq!(fs::read_dir(stage.folder()).expect("a folder").count(), 0);
    stage.run_with_input(&["import", "-", "--verify", "all"], "").fails_with(1, "read twice");
}

#[test]
fn what_was_acknowledged_and_is_not_there_is_found() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("h.tsv"), history(2_000)).expect("written");
    let liar = Liar::open(QualityLevel::Exact);
    let ran = liar.run(folder.path(), &["import", "h.tsv", "--verify", "500"]);
    ran.fails_with(1, "missing: item 0:");
    assert!(ran.stdout.contains("looked up 500, MISSING 500"), "{}", ran.stdout);
    let unsure = Liar::open(QualityLevel::Degraded);
    let ran = unsure.run(folder.path(), &["import", "h.tsv", "--restart"]);
    ran.fails_with(1, "answers in a row were degraded");
}
