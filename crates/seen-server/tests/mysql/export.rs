//! `seen export` from four shards on MariaDB while a service runs, and its import elsewhere.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::process::Process;
use super::servers::{Place, mariadb, said, seen, tidb};

const ROWS: u64 = 5_000;

/// So many rows, each of its own.
fn history() -> String {
    let row = |n: u64| format!("{}\t{}\t{}\t{}\n", n % 97, u64::MAX - n, n % 3, 1_000_000_000 + n);
    (0..ROWS).map(row).collect()
}

/// Runs the binary, and returns the JSON object that it says last.
async fn run(arguments: Vec<String>) -> Value {
    let running = tokio::task::spawn_blocking(move || {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        seen(&arguments, &[])
    });
    let ended = running.await.expect("no panic");
    let text = String::from_utf8_lossy(&ended.stdout).into_owned();
    assert!(ended.status.success(), "{}", said(&ended));
    serde_json::from_str(text.lines().last().unwrap_or_default()).expect("JSON")
}

fn words(words: &[&str], more: &[String]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).chain(more.iter().cloned()).collect()
}

async fn import(process: &Process, what: &Path) -> Value {
    let server = format!("--server=http://{}", process.at.api);
    let what = what.display().to_string();
    run(words(&["import", "--json", "--verify=all", "--restart", &server, &what], &[])).await
}

/// The lines of an export without compression, of which none is there twice.
fn lines(folder: &Path, report: &Value) -> BTreeSet<String> {
    let text = fs::read(folder.join("manifest.json")).expect("a manifest");
    let manifest: Value = serde_json::from_slice(&text).expect("JSON");
    let mut lines = BTreeSet::new();
    for file in manifest["files"].as_array().expect("files") {
        let name = file["name"].as_str().expect("a name");
        for line in fs::read_to_string(folder.join(name)).expect("lines").lines().skip(1) {
            assert!(lines.insert(line.to_owned()), "{line:?} is there twice");
        }
    }
    assert_eq!(lines.len() as u64, report["rows"].as_u64().expect("a number"));
    lines
}

/// Exports from there to SQLite and back to lines: the same rows.
async fn comes_back_equal(place: Place, flags: Vec<String>, source: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    let at = |name: &str| folder.path().join(name);
    fs::write(at("h.tsv"), history()).expect("written");
    let process =
        Process::start(folder.path(), &flags.iter().map(String::as_str).collect::<Vec<_>>()).await;
    import(&process, &at("h.tsv")).await;
    let out = |name: &str| format!("--out={}", at(name).display());
    let plain = ["export", "--json", "--compress=none", "--file-rows=700"];
    let first = run(words(&[&plain[..], &[&out("first")]].concat(), &flags)).await;
    let rows = lines(&at("first"), &first);
    assert_eq!(rows.len() as u64, ROWS);
    let parts = first["parts"].as_array().expect("parts");
    assert!(parts.iter().all(|part| part["rows"].as_u64() > Some(0)), "{first}");
    assert!(parts.iter().all(|part| part["begin"]["source"] == source), "{first}");
    let looked = ["export", "--json", "--verify=all", &out("first")];
    let looked = run(words(&looked, &flags)).await;
    assert_eq!((&looked["looked_up"], &looked["missing"]), (&json!(ROWS), &json!(0)), "{looked}");
    let columns = ["export", "--json", "--format=parquet", &out("columns")];
    let columns = run(words(&columns, &flags)).await;
    assert_eq!((&columns["rows"], &columns["damaged"]), (&json!(ROWS), &json!(0)), "{columns}");
    assert_eq!(process.terminate().await, Some(0));
    drop(place);

    let data = at("data");
    fs::create_dir(&data).expect("a folder");
    let process = Process::start(&data, &[]).await;
    let imported = import(&process, &at("columns")).await;
    assert_eq!(
        (&imported["events"], &imported["missing"]),
        (&json!(ROWS), &json!(0)),
        "{imported}"
    );
    assert_eq!(imported["sources"][0]["parts"], columns["parts"]);
    assert_eq!(process.terminate().await, Some(0));
    let embedded = ["--set".to_owned(), format!("storage.data_dir={}", data.display())];
    let last = run(words(&[&plain[..], &[&out("last")]].concat(), &embedded)).await;
    assert_eq!(lines(&at("last"), &last), rows);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn four_shards_of_mariadb_come_back_equal() {
    let place = mariadb().expect("always there");
    for shard in 0..4 {
        place.sql(&format!("CREATE DATABASE {}_{shard}", place.database));
    }
    let mut flags = place.flags();
    flags.extend(["--set", "mysql.shards=4"].map(str::to_owned));
    let made = place.seen("migrate", &["--set", "mysql.shards=4"]);
    assert!(made.status.success(), "{}", said(&made));
    comes_back_equal(place, flags, "mariadb").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tidb_comes_back_equal() {
    let Some(place) = tidb().map(Place::migrated) else { return };
    let flags = place.flags();
    comes_back_equal(place, flags, "tidb").await;
}
