//! A cluster of real processes on one machine, on the embedded store.

mod change;
mod drill;
mod faults;
mod starting;
mod warm;

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use serde_json::Value;

/// Ports that seven parts take, and two that come later, ten each.
pub const PORTS: u16 = 90;

/// One cluster at a time: each is seven processes, whose answers have to be in time.
static TURN: Mutex<()> = Mutex::new(());

/// Waits for the others.
pub fn turn() -> MutexGuard<'static, ()> {
    // What another test failed of is its own matter.
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The binary.
pub fn seen() -> Command {
    Command::new(env!("CARGO_BIN_EXE_seen"))
}

/// A range of ports that nobody listens on, with one more after it, below those that the kernel hands out. Tests of one
/// process begin to look at places of their own.
pub fn free_ports(place: u16) -> u16 {
    let begin = 16_000 + ((std::process::id() % 60) as u16 + place) * (PORTS + 1);
    let free = |base: &u16| {
        (*base..=*base + PORTS).all(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok())
    };
    (0..40).map(|n| begin + n * (PORTS + 1)).find(free).expect("a range of free ports")
}

/// What a drill reports, and what it told meanwhile.
pub fn reported(drill: &Output) -> (Value, String) {
    let told = String::from_utf8_lossy(&drill.stderr).into_owned();
    let json = String::from_utf8_lossy(&drill.stdout);
    let report = serde_json::from_str(&json).unwrap_or_else(|_| panic!("{told}\n{json}"));
    (report, told)
}

/// The line of a Filter's answer that is about an item.
pub fn line<'a>(text: &'a str, item: &str) -> &'a str {
    let found = text.lines().find(|line| line.split_whitespace().nth(1) == Some(item));
    found.unwrap_or_else(|| panic!("{text}"))
}

/// A `seen dev-cluster` whose parts are all ready.
pub struct Cluster {
    process: Child,
    base: u16,
    drained: JoinHandle<()>,
}

impl Cluster {
    /// Starts one in a folder, or goes on with the one that was there.
    pub fn start(folder: &Path, base: u16) -> Self {
        let mut process = seen()
            .args(["dev-cluster", "--stop-with-stdin", "--port-base", &base.to_string(), "--dir"])
            .arg(folder)
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it runs");
        let lines = BufReader::new(process.stderr.take().expect("stderr")).lines();
        let mut lines = lines.map(|line| line.expect("a line"));
        lines.find(|line| line.contains("all parts are ready")).expect("ready");
        let drained = std::thread::spawn(move || lines.for_each(drop));
        Self { process, base, drained }
    }

    /// Runs a command about a user's items through a proxy, and gives what it prints.
    pub fn ask(&self, command: &str, proxy: u64, user: u64, items: &[&str]) -> String {
        let server = format!("http://127.0.0.1:{}", u64::from(self.base) + proxy * 10);
        let asked = seen()
            .args([command, "--server", &server, "--user", &user.to_string()])
            .args(items)
            .output()
            .expect("it runs");
        assert!(asked.status.success(), "{}", String::from_utf8_lossy(&asked.stderr));
        String::from_utf8_lossy(&asked.stdout).into_owned()
    }

    /// Lets go of it, and waits until every part has ended.
    pub fn end(mut self) {
        drop(self.process.stdin.take());
        assert!(self.process.wait().expect("it ends").success());
        self.drained.join().expect("read to its end");
    }
}

/// The parts end with whoever started them, and a cluster that is started again goes on.
#[test]
fn a_dev_cluster_is_asked_like_one_service_and_goes_on_after_a_restart() {
    let _turn = turn();
    let folder = tempfile::tempdir().expect("a folder");
    let base = free_ports(40);
    for expected in ["unread", "read"] {
        let cluster = Cluster::start(folder.path(), base);
        assert!(line(&cluster.ask("filter", 0, 42, &["7", "8"]), "7").ends_with(expected));
        cluster.ask("mark", 0, 42, &["7"]);
        let map = format!("cluster.map={}", folder.path().join("cluster.toml").display());
        let status = seen().args(["cluster", "status", "--json", "--set", &map]).output();
        let status: Value = serde_json::from_slice(&status.expect("it runs").stdout).expect("JSON");
        let replicas = status["replicas"].as_array().expect("replicas");
        assert_eq!(replicas.len(), 5, "{status:#}");
        assert!(replicas.iter().all(|one| one["wrong"].is_null()), "{status:#}");
        cluster.end();
    }
}
