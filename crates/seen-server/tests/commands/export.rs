//! `seen export`, and importing what it has written.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use parquet::file::reader::{FileReader as _, SerializedFileReader};
use parquet::schema::printer::print_schema;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::process::Process;
use super::stage::{Ran, seen};

/// So many rows, each of its own.
fn history(rows: u64) -> String {
    let row = |n: u64| format!("{}\t{}\t{}\t{}\n", n % 53, n, n % 3, 1_000_000_000 + n);
    (0..rows).map(row).collect()
}

/// A data folder that holds this history, and nobody who serves it.
async fn stored(text: &str) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    fs::create_dir(&data).expect("a folder");
    fs::write(folder.path().join("h.tsv"), text).expect("written");
    let process = Process::start(&data, &[]).await;
    import(folder.path(), &process, &["h.tsv"]).json();
    assert_eq!(process.terminate().await, Some(0));
    folder
}

fn import(folder: &Path, process: &Process, arguments: &[&str]) -> Ran {
    let server = format!("http://{}", process.at.api);
    let fixed = ["import", "--json", "--server", &server, "--verify", "100000"];
    seen(folder, &[&fixed, arguments].concat()).output().expect("the binary starts").into()
}

/// `seen export` of the data folder within this one.
fn exporting(folder: &Path, arguments: &[&str]) -> Command {
    seen(folder, &[&["export", "--set", "storage.data_dir=data"], arguments].concat())
}

fn export(folder: &Path, arguments: &[&str]) -> Ran {
    exporting(folder, arguments).output().expect("the binary starts").into()
}

fn manifest(folder: &Path) -> Value {
    let text = fs::read(folder.join("manifest.json")).expect("a manifest");
    serde_json::from_slice(&text).expect("JSON")
}

/// The rows' checksums, file by file.
fn sums(folder: &Path) -> Vec<Value> {
    let manifest = manifest(folder);
    manifest["files"].as_array().expect("files").iter().map(|f| f["rows_crc32"].clone()).collect()
}

/// The lines of all files, of which none is there twice.
fn lines(folder: &Path) -> BTreeSet<String> {
    let manifest = manifest(folder);
    let mut lines = BTreeSet::new();
    for file in manifest["files"].as_array().expect("files") {
        let name = file["name"].as_str().expect("a name");
        let text = fs::read_to_string(folder.join(name)).expect("lines");
        for line in text.lines().skip(1) {
            assert!(lines.insert(line.to_owned()), "{line:?} is there twice");
        }
    }
    lines
}

const EXTREMES: &str = "18446744073709551615\t18446744073709551615\t255\t253402300799999\n\
                        0\t0\t1\t0\n9223372036854775808\t9223372036854775807\t7\t1.001\n";

async fn comes_back_equal(arguments: &[&str]) {
    let folder = stored(&format!("{EXTREMES}{}", history(6_000))).await;
    let here = folder.path();
    let out = here.join("out");
    // While a server runs on the same file.
    let process = Process::start(&here.join("data"), &[]).await;
    let fixed = ["--out", "out", "--json", "--file-rows", "1000"];
    let report = export(here, &[&fixed, arguments].concat()).json();
    assert_eq!(
        (&report["rows"], &report["read_again"]),
        (&json!(6_003), &json!(6_003)),
        "{report}"
    );
    assert_eq!((&report["finished"], &report["files"]), (&json!(true), &json!(7)));
    let begin = &report["parts"][0]["begin"];
    assert_eq!((&begin["source"], &report["parts"][0]["end"]), (&json!("sqlite"), begin));
    assert!(begin["number"].as_u64() > Some(0), "{report}");
    let looked_up = export(here, &["--out", "out", "--json", "--verify", "all"]).json();
    assert_eq!((&looked_up["looked_up"], &looked_up["missing"]), (&json!(6_003), &json!(0)));
    assert_eq!(process.terminate().await, Some(0));

    let again = tempfile::tempdir().expect("a folder");
    fs::create_dir(again.path().join("data")).expect("a folder");
    let process = Process::start(&again.path().join("data"), &[]).await;
    let imported = import(here, &process, &[out.to_str().expect("UTF-8")]).json();
    assert_eq!((&imported["events"], &imported["missing"]), (&json!(6_003), &json!(0)));
    assert_eq!(imported["sources"][0]["parts"][0]["begin"], *begin);
    assert!(imported["token"].as_str().is_some_and(|token| !token.is_empty()), "{imported}");
    assert_eq!(process.terminate().await, Some(0));
    export(again.path(), &[&fixed, arguments].concat()).ok();
    assert_eq!(sums(&again.path().join("out")), sums(&out));
}

#[tokio::test]
async fn lines_come_back_equal() {
    comes_back_equal(&[]).await;
}

#[tokio::test]
async fn lines_of_gzip_come_back_equal() {
    comes_back_equal(&["--compress", "gzip"]).await;
}

#[tokio::test]
async fn columns_come_back_equal() {
    comes_back_equal(&["--format", "parquet"]).await;
}

/// Into a store that nobody serves, and out of it.
#[test]
fn without_a_service_it_comes_back_equal() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("h.tsv"), history(3_000)).expect("written");
    let direct = ["import", "--direct", "--set", "storage.data_dir=data", "--json", "h.tsv"];
    for (events, before) in [(3_000, 0), (0, 3_000)] {
        let ran: Ran = seen(folder.path(), &direct).output().expect("starts").into();
        let report = ran.json();
        let counts = (&report["events"], &report["imported_before"], &report["missing"]);
        assert_eq!(counts, (&json!(events), &json!(before), &json!(0)), "{report}");
    }
    export(folder.path(), &["--out", "out", "--compress", "none"]).ok();
    let expected = history(3_000);
    let expected: BTreeSet<String> = expected.lines().map(|line| format!("{line}000")).collect();
    assert_eq!(lines(&folder.path().join("out")), expected);
    let ran: Ran = seen(folder.path(), &["import", "--set", "storage.data_dir=data", "h.tsv"])
        .output()
        .expect("starts")
        .into();
    ran.fails_with(1, "--set is for --direct");
}

/// What readers that know nothing of `seen` find in a file.
#[tokio::test]
async fn columns_are_typed_and_say_where_they_are_from() {
    let folder = stored(EXTREMES).await;
    export(folder.path(), &["--out", "out", "--format", "parquet"]).ok();
    let manifest = manifest(&folder.path().join("out"));
    let name = manifest["files"][0]["name"].as_str().expect("a name");
    let file = fs::File::open(folder.path().join("out").join(name)).expect("a file");
    let reader = SerializedFileReader::new(file).expect("Parquet");
    let about = reader.metadata().file_metadata();
    let mut form = Vec::new();
    print_schema(&mut form, about.schema());
    let form = String::from_utf8(form).expect("UTF-8");
    for column in [
        "REQUIRED INT64 user (INTEGER(64,false));",
        "REQUIRED INT64 item (INTEGER(64,false));",
        "REQUIRED INT32 kind (INTEGER(32,false));",
        "REQUIRED INT64 marked_at (TIMESTAMP(MILLIS,true));",
        "REQUIRED INT32 bucket (INTEGER(32,false));",
    ] {
        assert!(form.contains(column), "{column} is not in {form}");
    }
    let labels = about.key_value_metadata().expect("labels");
    let label = |name: &str| {
        let found = labels.iter().find(|label| label.key == name).and_then(|l| l.value.clone());
        found.unwrap_or_else(|| panic!("no {name}"))
    };
    let begin: Value = serde_json::from_str(&label("seen.position.begin")).expect("JSON");
    assert_eq!(begin, manifest["parts"][0]["begin"]);
    assert_eq!((label("seen.namespace").as_str(), label("seen.part").as_str()), ("feed_read", "0"));
    let rows: Vec<String> = reader
        .get_row_iter(None)
        .expect("rows")
        .map(|row| row.expect("a row").to_string())
        .collect();
    let top = "{user: 18446744073709551615, item: 18446744073709551615, kind: 255,";
    assert!(rows.iter().any(|row| row.starts_with(top)), "{rows:?}");
}

#[tokio::test]
async fn columns_without_compression_come_back_equal() {
    comes_back_equal(&["--format", "parquet", "--compress", "none"]).await;
}

/// Killed with files that are whole and one that is not: the next run goes on after the last whole one.
#[tokio::test]
async fn a_killed_export_goes_on_and_repeats_nothing() {
    let folder = stored(&history(20_000)).await;
    let out = folder.path().join("out");
    let how = ["--out", "out", "--compress", "none", "--file-rows", "300"];
    for format in ["tsv", "parquet"] {
        let how = [&how[..], &["--format", format]].concat();
        let mut slow = exporting(folder.path(), &[&how[..], &["--rate", "2000"]].concat());
        let mut child =
            slow.stderr(Stdio::null()).stdout(Stdio::null()).spawn().expect("it starts");
        let mut looks = tokio::time::interval(Duration::from_millis(10));
        let files = loop {
            looks.tick().await;
            let Ok(text) = fs::read(out.join("manifest.json")) else { continue };
            let manifest: Value = serde_json::from_slice(&text).expect("always whole");
            let files = manifest["files"].as_array().expect("files").len();
            if files >= 3 {
                break files as u64;
            }
        };
        child.kill().expect("it runs");
        assert_eq!(child.wait().expect("it ended").signal(), Some(9));
        // What a crash leaves of a file that was not whole.
        fs::write(out.join("part-0000-000099.tsv.new"), "half a li").expect("written");
        export(folder.path(), &["--out", "out", "--verify"]).fails_with(1, "is not finished");
        let report = export(folder.path(), &[&how[..], &["--json"]].concat()).json();
        let (rows, now) = (report["rows"].as_u64(), report["rows_now"].as_u64());
        assert_eq!(rows, Some(20_000), "{report}");
        assert!(now <= Some(20_000 - files * 300) && now > Some(0), "{report}");
        assert_eq!(report["damaged"], 0);
        assert!(!out.join("part-0000-000099.tsv.new").exists());
        if format == "tsv" {
            let whole = folder.path().join("whole");
            export(folder.path(), &["--out", "whole", "--compress", "none"]).ok();
            assert_eq!(lines(&out), lines(&whole));
        }
        let looked_up =
            export(folder.path(), &["--out", "out", "--verify", "all", "--json"]).json();
        assert_eq!(looked_up["looked_up"], 20_000);
        fs::remove_dir_all(&out).expect("removed");
    }
}

/// Interrupted, it makes what it has whole.
#[tokio::test]
async fn an_interrupted_export_keeps_what_it_has() {
    let folder = stored(&history(5_000)).await;
    let how = ["--out", "out", "--rate", "500", "--compress", "none"];
    let mut slow = exporting(folder.path(), &how);
    let child = slow.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let begun = folder.path().join("out/part-0000-000000.tsv.new");
    let mut looks = tokio::time::interval(Duration::from_millis(10));
    while !begun.exists() {
        looks.tick().await;
    }
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().expect("kill runs").success());
    let ran = Ran::from(child.wait_with_output().expect("it ends"));
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    assert!(ran.stdout.contains("run the same command again"), "{}", ran.stdout);
    let before = manifest(&folder.path().join("out"))["rows"].as_u64().expect("a number");
    assert!(before >= 500, "{before} rows");
    let report = export(folder.path(), &["--out", "out", "--compress", "none", "--json"]).json();
    let (rows, now) = (report["rows"].as_u64(), report["rows_now"].as_u64());
    assert_eq!(rows.zip(now), Some((5_000, 5_000 - before)), "{report}");
}

#[tokio::test]
async fn a_changed_byte_is_found() {
    let folder = stored(&history(3_000)).await;
    for format in ["tsv", "parquet"] {
        let arguments = ["--out", "out", "--format", format, "--file-rows", "1000", "--restart"];
        export(folder.path(), &arguments).ok();
        let manifest = manifest(&folder.path().join("out"));
        let name = manifest["files"][1]["name"].as_str().expect("a name");
        let path = folder.path().join("out").join(name);
        let mut bytes = fs::read(&path).expect("a file");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, bytes).expect("written");
        let ran = export(folder.path(), &["--out", "out", "--verify", "none"]);
        ran.fails_with(1, "its checksum is");
        assert!(ran.stdout.contains("DAMAGED 1 files"), "{}", ran.stdout);
        let ran: Ran = seen(folder.path(), &["import", "out"]).output().expect("starts").into();
        ran.fails_with(1, "1 files are not as they were written");
    }
}

/// Rows that are gone from storage are found, and named.
#[tokio::test]
async fn rows_that_are_gone_are_found() {
    let folder = stored(&history(1_000)).await;
    export(folder.path(), &["--out", "out"]).ok();
    let process = Process::start(&folder.path().join("data"), &[]).await;
    let server = format!("http://{}", process.at.api);
    let forget = ["forget", "--namespace", "feed_read", "--user", "1", "--server", &server];
    let forgot: Ran = seen(folder.path(), &forget).output().expect("starts").into();
    forgot.ok();
    let ran = export(folder.path(), &["--out", "out", "--verify", "all"]);
    ran.fails_with(1, "of user 1");
    assert!(ran.stdout.contains("MISSING 19"), "{}", ran.stdout);
    assert_eq!(process.terminate().await, Some(0));
}

/// A disk or quota that is full is named, and the next run goes on.
#[tokio::test]
async fn a_file_that_cannot_grow_is_named_and_gone_on_with() {
    let folder = stored(&history(20_000)).await;
    let limited = format!(
        "trap '' XFSZ; ulimit -f 200; exec {} export --set storage.data_dir=data --out out --compress \
         none --file-rows 4000",
        env!("CARGO_BIN_EXE_seen")
    );
    let shell = |script: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", script]).current_dir(folder.path()).env_remove("SEEN_CONFIG");
        Ran::from(command.output().expect("a shell"))
    };
    let ran = shell(&limited.replace("4000", "100000"));
    ran.fails_with(1, "writing out/part-0000-000000.tsv");
    assert!(ran.stderr.contains("run the same command again"), "{}", ran.stderr);
    let how = ["--out", "out", "--compress", "none", "--json"];
    let report = export(folder.path(), &how).json();
    assert_eq!((&report["rows"], &report["damaged"]), (&json!(20_000), &json!(0)), "{report}");
    let full = format!(
        "{} export --set storage.data_dir=data --out - >/dev/full",
        env!("CARGO_BIN_EXE_seen")
    );
    shell(&full).fails_with(1, "No space left on device");
}

#[tokio::test]
async fn lines_go_to_a_pipe() {
    let folder = stored(&history(20_000)).await;
    let ran = export(folder.path(), &["--out", "-"]);
    assert_eq!(ran.ok().stdout.lines().count(), 20_001, "with a heading");
    assert!(ran.stderr.contains("\"source\":\"sqlite\""), "{}", ran.stderr);
    let mut child = exporting(folder.path(), &["--out", "-"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    drop(child.stdout.take());
    let ran = Ran::from(child.wait_with_output().expect("it ends"));
    ran.fails_with(1, "stdout was closed before the last row");
    let refused = export(folder.path(), &["--out", "-", "--format", "parquet"]);
    refused.fails_with(1, "or give a folder");
}

/// One file, of each form, which says where it is from, is read by `seen import`, and is replaced as a whole.
#[tokio::test]
async fn a_single_file_comes_back_equal() {
    let folder = stored(&format!("{EXTREMES}{}", history(3_000))).await;
    let here = folder.path();
    export(here, &["--out", "whole", "--compress", "none"]).ok();
    let whole = lines(&here.join("whole"));
    for name in ["all.tsv", "all.tsv.zst", "all.tsv.gz", "all.parquet"] {
        fs::write(here.join(name), "of before").expect("written");
        export(here, &["--out", name]).fails_with(1, "--restart replaces it");
        let report = export(here, &["--out", name, "--json", "--restart"]).json();
        assert_eq!((&report["rows"], &report["finished"]), (&json!(3_003), &json!(true)));
        let begin = &report["parts"][0]["begin"];
        assert_eq!((&begin["source"], &report["parts"][0]["end"]), (&json!("sqlite"), begin));
        let length = fs::metadata(here.join(name)).expect("a file").len();
        assert_eq!(report["bytes"], json!(length));
        assert!(!here.join(format!("{name}.new")).exists());
        let again = tempfile::tempdir().expect("a folder");
        let file = here.join(name);
        let direct = ["import", "--direct", "--set", "storage.data_dir=data", "--json"];
        let direct = [&direct[..], &[file.to_str().expect("UTF-8")]].concat();
        let imported = Ran::from(seen(again.path(), &direct).output().expect("starts")).json();
        assert_eq!((&imported["events"], &imported["missing"]), (&json!(3_003), &json!(0)));
        export(again.path(), &["--out", "back", "--compress", "none"]).ok();
        assert_eq!(lines(&again.path().join("back")), whole, "{name}");
    }
    let text = fs::read_to_string(here.join("all.tsv")).expect("lines");
    let told = text.lines().find(|line| line.starts_with("# seen.positions.begin "));
    let told = told.and_then(|line| line.splitn(3, ' ').nth(2)).expect("positions");
    let told: Value = serde_json::from_str(told).expect("JSON");
    assert!(told[0]["begin"]["number"].as_u64() > Some(0), "{told}");
    let file = fs::File::open(here.join("all.parquet")).expect("a file");
    let reader = SerializedFileReader::new(file).expect("Parquet");
    let about = reader.metadata().file_metadata().key_value_metadata().expect("labels");
    let positions = about.iter().find(|label| label.key == "seen.positions.begin");
    assert_eq!(positions.and_then(|label| label.value.clone()), Some(told.to_string()));
    let refused = |arguments: &[&str], what: &str| export(here, arguments).fails_with(1, what);
    refused(&["--out", "b.tsv", "--format", "parquet"], "holds lines");
    refused(&["--out", "b.tsv", "--compress", "gzip"], "something else than its name");
    refused(&["--out", "all.tsv", "--verify"], "give a folder");
    refused(&["--out", "nowhere/b.tsv"], "--out nowhere/b.tsv");
}

/// A single file that does not come to its end is none.
#[tokio::test]
async fn a_single_file_is_there_when_it_is_whole() {
    let folder = stored(&history(20_000)).await;
    let here = folder.path();
    for signal in ["-INT", "-KILL"] {
        let mut slow = exporting(here, &["--out", "all.tsv", "--rate", "500"]);
        let child = slow.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let fresh = here.join("all.tsv.new");
        let mut looks = tokio::time::interval(Duration::from_millis(10));
        while fs::metadata(&fresh).map_or(0, |file| file.len()) == 0 {
            looks.tick().await;
        }
        export(here, &["--out", "all.tsv"]).fails_with(1, "another export is writing it");
        let pid = child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().expect("runs").success());
        let ran = child.wait_with_output().expect("it ends");
        assert!(!ran.status.success() && !here.join("all.tsv").exists());
        assert_eq!(fresh.exists(), signal == "-KILL", "a crash alone leaves it");
    }
    let limited = format!(
        "trap '' XFSZ; ulimit -f 200; exec {} export --set storage.data_dir=data --out all.tsv",
        env!("CARGO_BIN_EXE_seen")
    );
    let mut shell = Command::new("sh");
    shell.args(["-c", &limited]).current_dir(here).env_remove("SEEN_CONFIG");
    Ran::from(shell.output().expect("a shell")).fails_with(1, "writing all.tsv.new");
    assert!(!here.join("all.tsv").exists() && !here.join("all.tsv.new").exists());
    let report = export(here, &["--out", "all.tsv", "--json"]).json();
    assert_eq!(report["rows"], 20_000);
}

#[tokio::test]
async fn what_cannot_be_exported_is_said() {
    let folder = stored(&history(100)).await;
    let here = folder.path();
    let refused = |arguments: &[&str], what: &str| export(here, arguments).fails_with(1, what);
    refused(
        &["--out", "out", "--namespace", "nowhere"],
        "--namespace \"nowhere\" is not configured",
    );
    fs::create_dir(here.join("full")).expect("a folder");
    fs::write(here.join("full/notes.txt"), "mine").expect("written");
    refused(&["--out", "full"], "it holds \"notes.txt\" and no export");
    refused(&["--out", "h.tsv"], "--out h.tsv");
    refused(&["--out", "none", "--verify"], "there is no manifest.json");
    export(here, &["--out", "out"]).ok();
    refused(&["--out", "out", "--format", "parquet"], "--restart begins anew");
    refused(&["--out", "out", "--namespace", "push_sent"], "is of namespace");
    export(here, &["--out", "out", "--namespace", "push_sent", "--restart"]).ok();
    assert_eq!(manifest(&here.join("out"))["rows"], 0, "an empty history is one");
    let nowhere = ["--set", "storage.data_dir=nowhere", "--out", "other"];
    refused(&nowhere, "does not exist");
    let ran: Ran = seen(here, &["import", "data"]).output().expect("starts").into();
    ran.fails_with(1, "data is a folder without manifest.json");
    // A store that was put back behind the export's begin is no store to go on from.
    let mut changed = manifest(&here.join("out"));
    changed["finished"] = json!(false);
    changed["parts"][0]["finished"] = json!(false);
    changed["parts"][0]["begin"]["number"] = json!(1_000_000);
    fs::write(here.join("out/manifest.json"), changed.to_string()).expect("written");
    refused(&["--out", "out", "--namespace", "push_sent"], "a backup was restored");
}
