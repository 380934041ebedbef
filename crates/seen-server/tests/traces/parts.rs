//! A replica and a proxy as processes.

use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;

/// A process that is ready, and ends with its stdin.
pub struct Part {
    child: Child,
    /// Where it answers calls.
    pub api: String,
    rest: JoinHandle<String>,
}

impl Part {
    /// Starts it with these settings.
    pub fn start(command: &str, settings: &[String]) -> Self {
        let mut child = seen();
        child.args([command, "--stop-with-stdin"]);
        for port in ["listen", "admin_listen", "http_listen"] {
            child.args(["--set", &format!("server.{port}=127.0.0.1:0")]);
        }
        for setting in settings {
            child.args(["--set", setting]);
        }
        child.stdin(Stdio::piped()).stderr(Stdio::piped());
        let mut child = child.spawn().expect("it runs");
        let lines = BufReader::new(child.stderr.take().expect("stderr")).lines();
        let mut lines = lines.map(|line| line.expect("a line"));
        let ready = format!("seen: {command} on ");
        let line = lines.find(|line| line.starts_with(&ready)).expect("ready");
        let api = line.trim_start_matches(&ready).split(' ').next().expect("an address").to_owned();
        let rest = std::thread::spawn(move || lines.collect::<Vec<_>>().join("\n"));
        Self { child, api: format!("http://{api}"), rest }
    }

    /// Lets it end, and gives what it said since it was ready.
    pub fn end(mut self) -> String {
        drop(self.child.stdin.take());
        assert!(self.child.wait().expect("it ends").success());
        self.rest.join().expect("read to its end")
    }
}

fn seen() -> Command {
    Command::new(env!("CARGO_BIN_EXE_seen"))
}

/// A replica and a proxy of a new store in a folder, with more settings for both.
pub fn start(folder: &Path, settings: &[String]) -> (Part, Part) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let link = listener.local_addr().expect("bound").to_string();
    drop(listener);
    let data = format!("storage.data_dir={}", folder.join("data").display());
    let placed = format!("feed/0={link}");
    let made = seen().args(["cluster", "init", "--replica", &placed, "--set", &data]).output();
    let made = made.expect("it runs");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let map = folder.join("cluster.toml");
    std::fs::write(&map, made.stdout).expect("written");
    let map = format!("cluster.map={}", map.display());
    let own = [map.clone(), data, format!("cluster.link_listen={link}")];
    let replica = Part::start("replica", &[&own[..], settings].concat());
    let proxy = Part::start("proxy", &[&[map][..], settings].concat());
    (replica, proxy)
}
