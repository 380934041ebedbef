//! A cluster of real processes on one machine, on the embedded store: every fault once, under load.

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Command, Stdio};

use serde_json::Value;

/// Ports that seven parts take, ten each.
const PORTS: u16 = 70;

fn seen() -> Command {
    Command::new(env!("CARGO_BIN_EXE_seen"))
}

/// A range of ports that nobody listens on, below those that the kernel hands out.
fn free_ports() -> u16 {
    let begin = 17_000 + (std::process::id() % 150) as u16 * PORTS;
    let free = |base: &u16| {
        (*base..*base + PORTS).all(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok())
    };
    (0..40).map(|n| begin + n * PORTS).find(free).expect("a range of free ports")
}

/// Some seconds of each fault, at a rate that a machine bears which builds something else beside the tests.
#[test]
fn no_fault_makes_an_answer_wrong_or_late() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = seen()
        .args(["drill", "--time", "1s", "--filters", "60", "--marks", "40", "--json"])
        .args(["--port-base", &free_ports().to_string()])
        .arg("--dir")
        .arg(folder.path())
        .output()
        .expect("it runs");
    let told = String::from_utf8_lossy(&output.stderr);
    let json = String::from_utf8_lossy(&output.stdout);
    let report: Value = serde_json::from_str(&json).unwrap_or_else(|_| panic!("{told}\n{json}"));
    let rows = report["rows"].as_array().expect("rows");
    assert_eq!(rows.len(), 8, "{report:#}");
    for row in rows {
        assert_eq!(row["false_negatives"], 0, "{row:#}");
        assert_eq!(row["false_negatives_tokenless"], 0, "{row:#}");
        assert_eq!(row["late"], 0, "{row:#}");
        assert!(row["filters"].as_u64().expect("a count") > 50, "{row:#}");
        assert!(row["marks"].as_u64().expect("a count") > 20, "{row:#}");
    }
    assert_eq!(report["missing"], 0, "{report:#}");
    assert!(report["acknowledged"].as_u64().expect("a count") > 500, "{report:#}");
    assert!(output.status.success(), "{told}\n{report:#}");
}

/// The parts end with whoever started them, and a cluster that is started again goes on.
#[test]
fn a_dev_cluster_is_asked_like_one_service_and_goes_on_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let base = free_ports() + 40 * PORTS;
    for expected in ["unread", "read"] {
        let mut cluster = seen()
            .args(["dev-cluster", "--stop-with-stdin", "--port-base", &base.to_string(), "--dir"])
            .arg(folder.path())
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it runs");
        let lines = BufReader::new(cluster.stderr.take().expect("stderr")).lines();
        let mut lines = lines.map(|line| line.expect("a line"));
        lines.find(|line| line.contains("all parts are ready")).expect("ready");
        let drained = std::thread::spawn(move || lines.for_each(drop));
        let ask = |command: &str, proxy: u16, items: &[&str]| {
            let server = format!("http://127.0.0.1:{}", base + proxy * 10);
            let asked =
                seen().args([command, "--server", &server, "--user", "42"]).args(items).output();
            let asked = asked.expect("it runs");
            assert!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stderr));
            String::from_utf8_lossy(&asked.stdout).into_owned()
        };
        let line = |text: &str, item: &str| {
            let found = text.lines().find(|line| line.split_whitespace().nth(1) == Some(item));
            found.unwrap_or_else(|| panic!("{text}")).to_owned()
        };
        assert!(line(&ask("filter", 0, &["7", "8"]), "7").ends_with(expected));
        ask("mark", 0, &["7"]);
        let map = format!("cluster.map={}", folder.path().join("cluster.toml").display());
        let status = seen().args(["cluster", "status", "--json", "--set", &map]).output();
        let status: Value = serde_json::from_slice(&status.expect("it runs").stdout).expect("JSON");
        let replicas = status["replicas"].as_array().expect("replicas");
        assert_eq!(replicas.len(), 5, "{status:#}");
        assert!(replicas.iter().all(|one| one["wrong"].is_null()), "{status:#}");
        drop(cluster.stdin.take());
        assert!(cluster.wait().expect("it ends").success());
        drained.join().expect("read to its end");
    }
}
