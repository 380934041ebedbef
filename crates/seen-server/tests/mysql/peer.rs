//! `seen replica`: one of a cluster that has no proxy, asked by the calls for tools.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use seen_proto::v1::seen_service_client::SeenServiceClient;
use tonic::transport::Channel;

use super::process::connect;
use super::servers::{said, seen};

/// What became of the users whom a peer gave.
pub const WARMED: &str = "seen_warm_users_total";

/// A `seen replica`, as its map calls it. Killed when it is dropped.
pub struct Replica {
    child: Child,
    pub api: SeenServiceClient<Channel>,
    http: SocketAddr,
}

impl Drop for Replica {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Replica {
    /// Starts one, and waits until it is ready.
    pub async fn start(flags: &[String], map: &Path, link: SocketAddr) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_seen"));
        command.arg("replica").args(flags).env_remove("SEEN_CONFIG");
        for key in ["listen", "admin_listen", "http_listen"] {
            command.args(["--set", &format!("server.{key}=127.0.0.1:0")]);
        }
        // Samples of its answers are looked up in storage, and on a busy machine a process stands still.
        let settings = ["limits.seen_sample=0", "limits.unread_sample=0", "cluster.pause_max=60s"];
        for setting in settings {
            command.args(["--set", setting]);
        }
        command.args(["--set", &format!("cluster.map={}", map.display())]);
        command.args(["--set", &format!("cluster.link_listen={link}")]);
        command.stdin(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("the binary");
        let mut stderr = BufReader::new(child.stderr.take().expect("piped"));
        // It says so only once it is ready.
        let announced = tokio::task::spawn_blocking(move || {
            let mut told = String::new();
            loop {
                let from = told.len();
                assert!(stderr.read_line(&mut told).expect("UTF-8") > 0, "it ended: {told}");
                if let Some(line) = told[from..].strip_prefix("seen: replica on ") {
                    let line = line.to_owned();
                    std::thread::spawn(move || std::io::copy(&mut stderr, &mut std::io::sink()));
                    return line;
                }
            }
        });
        let line = announced.await.expect("it starts");
        let (api, rest) = line.split_once(" (").expect("addresses");
        let http = rest.split_once("http ").expect("addresses").1.trim_end().trim_end_matches(')');
        let at = |address: &str| address.parse().expect("an address");
        Self { child, api: SeenServiceClient::new(connect(at(api)).await), http: at(http) }
    }

    /// A counter, of the lines that hold this. Status would count the rows of the histories, and so read them.
    pub fn counted(&self, name: &str, holds: &str) -> u64 {
        let page = self.lines(name);
        let lines = page.lines().filter(|line| line.contains(holds));
        let counts = lines.map(|line| line.rsplit(' ').next().and_then(|count| count.parse().ok()));
        counts.map(|count: Option<u64>| count.expect("a number")).sum()
    }

    /// All of its metrics whose names begin like this.
    pub fn lines(&self, name: &str) -> String {
        let mut stream = TcpStream::connect(self.http).expect("it listens");
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").expect("asked");
        let mut page = String::new();
        stream.read_to_string(&mut page).expect("UTF-8");
        let lines = page.lines().filter(|line| line.starts_with(name));
        lines.collect::<Vec<_>>().join("\n")
    }
}

/// Two ports that nobody listens on.
fn free_ports() -> [SocketAddr; 2] {
    let bound = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    bound.map(|listener| listener.local_addr().expect("an address"))
}

/// A map of one slot in this folder, and where its two replicas are to listen.
pub fn map_of_two(folder: &Path, flags: &[String]) -> (PathBuf, [SocketAddr; 2]) {
    let links = free_ports();
    let [one, other] = links.map(|link| format!("feed/0={link}"));
    let made = seen(&["cluster", "init", "--replica", &one, "--replica", &other], flags);
    assert!(made.status.success(), "{}", said(&made));
    let map = folder.join("cluster.toml");
    std::fs::write(&map, &made.stdout).expect("written");
    (map, links)
}
