//! `seen replay` and `seen demo`.

use seen_proto::v1::QualityLevel;
use serde_json::Value;

use super::liar::Liar;
use super::stage::{Ran, Stage, history, seen};

fn number(value: &Value, name: &str) -> f64 {
    value[name].as_f64().unwrap_or_else(|| panic!("{name} in {value}"))
}

fn demo(stage: &Stage, arguments: &[&str]) -> Ran {
    let all = [&["demo", "--limit", "2000", "--candidates", "100"], arguments].concat();
    seen(stage.folder(), &all).output().expect("it starts").into()
}

#[test]
fn a_history_is_replayed_without_a_false_negative() {
    let stage = Stage::open();
    stage.file("h.tsv", &history(3_000));
    let ran = stage.run(&["replay", "h.tsv", "--json", "--admin", &stage.admin()]);
    let report = ran.json();
    for (name, expected) in [
        ("events", 3_000.0),
        ("requests", 6_000.0),
        ("checks", 1_200_000.0),
        ("false_negatives", 0.0),
        ("errors", 0.0),
        ("malformed", 0.0),
        ("users", 46.0),
    ] {
        assert_eq!(number(&report, name), expected, "{name}");
    }
    for name in ["p50_ms", "p99_ms", "p999_ms", "bytes_per_user", "duration_s", "hit_rate"] {
        assert!(number(&report, name) > 0.0, "{name} in {report}");
    }
    assert!(number(&report, "false_positive_rate") < 0.02, "{report}");
    assert!(number(&report, "flagged") >= 0.0);
    let status = stage.run(&["status", "--json"]).json();
    assert_eq!(number(&status["traffic"], "filters"), 3_000.0);
    assert_eq!(number(&status["traffic"], "marks"), 3_000.0);
}

#[test]
fn a_used_service_counts_as_false_positives_only() {
    let stage = Stage::open();
    stage.file("before.tsv", "1\t1\t1\n1\t2\t2\n1\t3\t3\n1\t4\t4\n2\t9\t5\n");
    stage.run(&["replay", "before.tsv", "--json"]).json();
    // User 1 is offered items 1 to 4 as unread, as this replay knows of no reading.
    stage.file("h.tsv", "2\t1\t1\n2\t2\t2\n2\t3\t3\n2\t4\t4\n1\t9\t5\n");
    let report = stage.run(&["replay", "h.tsv", "--json", "--candidates", "40"]).json();
    assert_eq!(number(&report, "false_negatives"), 0.0);
    assert!(number(&report, "false_positive_rate") > 0.05, "{report}");
}

#[test]
fn an_embedded_service_can_be_replayed_against() {
    let stage = Stage::open();
    stage.file("h.csv", &history(500).replace('\t', ","));
    let arguments = ["replay", "h.csv", "--embedded", "--data-dir", "data", "--limit", "400"];
    let ran: Ran = seen(stage.folder(), &arguments).output().expect("it starts").into();
    let table = &ran.ok().stdout;
    let rows: Vec<Vec<&str>> =
        table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert!(rows.contains(&vec!["events", "400"]), "{table}");
    assert!(rows.contains(&vec!["FALSE", "NEGATIVES", "0"]), "{table}");
    assert!(stage.folder().join("data").is_dir(), "the data stays");
}

#[test]
fn malformed_lines_are_told_and_refused_past_the_limit() {
    let stage = Stage::open();
    stage.file("h.tsv", &format!("{}x\ty\tz\n1\t2\n", history(20)));
    let ran = stage.run(&["replay", "h.tsv", "--json"]);
    assert_eq!(number(&ran.json(), "malformed"), 2.0);
    assert!(ran.stderr.contains("h.tsv line 22: user is no whole number"), "{}", ran.stderr);
    let refused = stage.run(&["replay", "h.tsv", "--malformed-max", "1"]);
    refused.fails_with(1, "h.tsv: 2 malformed lines, allowed: 1 (--malformed-max)");
    assert!(refused.stdout.is_empty());
    stage.run(&["replay", "none.tsv"]).fails_with(1, "cannot open none.tsv");
    stage.run(&["replay", "h.tsv", "--candidates", "1001"]).fails_with(2, "1..=1000");
}

#[test]
fn a_service_that_is_away_ends_the_replay() {
    let stage = Stage::open();
    stage.file("h.tsv", &history(2_000));
    let arguments = ["replay", "h.tsv", "--server", "127.0.0.1:1"];
    let ran: Ran = seen(stage.folder(), &arguments).output().expect("it starts").into();
    ran.fails_with(1, "1000 calls failed, giving up; the last one: cannot connect to 127.0.0.1:1");
}

#[test]
fn stdin_can_be_replayed_and_the_rate_is_kept() {
    let stage = Stage::open();
    let arguments = ["replay", "-", "--json", "--rate", "2000", "--candidates", "10"];
    let report = stage.run_with_input(&arguments, &history(600)).json();
    assert_eq!(number(&report, "events"), 600.0);
    // The first one starts at once, and a tenth of a second may be made up for.
    assert!(number(&report, "duration_s") >= 0.19, "{report}");
}

#[test]
fn the_demonstration_runs_and_ends() {
    let stage = Stage::open();
    let report = demo(&stage, &["--exit", "--json"]).json();
    assert_eq!((number(&report, "events"), number(&report, "false_negatives")), (2_000.0, 0.0));
    stage.file("file", "x");
    demo(&stage, &["--exit", "--data-dir", "."]).fails_with(1, "the folder is not empty");
}

#[test]
fn one_false_negative_fails_the_replay_unless_it_was_flagged() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("h.tsv"), "1\t10\t1\n1\t11\t2\n").expect("written");
    let arguments = ["replay", "h.tsv", "--json", "--candidates", "4"];
    let caught = Liar::open(QualityLevel::Filtered).run(folder.path(), &arguments);
    caught.fails_with(1, "false negative: user 1 has read item 0:10");
    let report: Value = serde_json::from_str(caught.stdout.trim()).expect("JSON");
    // The second page offers the first item twice.
    assert_eq!(number(&report, "false_negatives"), 2.0);
    assert_eq!(report["bytes_per_user"], Value::Null, "there is no admin service to ask");
    let flagged = Liar::open(QualityLevel::Degraded).run(folder.path(), &arguments).json();
    assert_eq!((number(&flagged, "false_negatives"), number(&flagged, "flagged")), (0.0, 2.0));
    assert_eq!(number(&flagged, "flagged_misses"), 2.0);
}
