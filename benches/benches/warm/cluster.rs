//! A slot of two replicas, real processes on one embedded store.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use seen_client::{Admin, Client, ClientOptions, v1};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::seen::{Running, Seen};

/// How often a process is asked whether it is ready.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Longest that it may take.
const READY_MAX: Duration = Duration::from_secs(600);
/// Longer than any call takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where a replica listens.
#[derive(Clone, Copy, Debug)]
struct At {
    api: SocketAddr,
    admin: SocketAddr,
    http: SocketAddr,
    link: SocketAddr,
}

/// The slot: its store, its map, and where its replicas are to be.
pub struct Cluster {
    pub seen: Seen,
    at: [At; 2],
    map: PathBuf,
    folder: TempDir,
}

impl Cluster {
    /// Makes the store and the map. No replica runs yet.
    pub fn make(named: Option<&Path>, more: &[String]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let own = [
            format!("storage.data_dir={}", Self::store_in(folder.path()).display()),
            // Samples of answers are looked up in storage, and would count as its work.
            "limits.seen_sample=0".to_owned(),
            "limits.unread_sample=0".to_owned(),
        ];
        let seen = Seen::find(named, own.into_iter().chain(more.iter().cloned()).collect());
        let at = [At::free(), At::free()];
        let [first, second] = at.map(|at| format!("feed/0={}", at.link));
        let map = folder.path().join("cluster.toml");
        let made = seen.run(&["cluster", "init", "--replica", &first, "--replica", &second]);
        std::fs::write(&map, made).expect("written");
        Self { seen, at, map, folder }
    }

    fn store_in(folder: &Path) -> PathBuf {
        folder.join("data")
    }

    /// The store's file.
    pub fn store(&self) -> PathBuf {
        Self::store_in(self.folder()).join("seen.db")
    }

    /// Where files may be kept for as long as it lives.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts a replica, the first or the second.
    pub fn start(&self, which: usize, more: &[String]) -> Running {
        let At { api, admin, http, link } = self.at[which];
        let own = [
            format!("server.listen={api}"),
            format!("server.admin_listen={admin}"),
            format!("server.http_listen={http}"),
            format!("cluster.link_listen={link}"),
            format!("cluster.map={}", self.map.display()),
        ];
        self.seen.with(&own).with(more).start(&["replica"])
    }

    /// Where its link listens.
    pub fn link(&self, which: usize) -> String {
        self.at[which].link.to_string()
    }

    /// Waits until its `/readyz` says that it is ready.
    pub async fn ready(&self, which: usize) {
        let ready = async {
            while !is_ready(self.at[which].http).await.unwrap_or(false) {
                sleep(LOOK_EVERY).await;
            }
        };
        timeout(READY_MAX, ready).await.expect("it becomes ready");
    }

    pub fn admin(&self, which: usize) -> Admin {
        Admin::new(&patient(self.at[which].admin)).expect("an address")
    }

    pub fn client(&self, which: usize) -> Client {
        Client::new(patient(self.at[which].api)).expect("an address")
    }

    /// Users in its memory.
    pub async fn users(&self, which: usize) -> u64 {
        let status = self.admin(which).status().await.expect("it answers");
        status.memory.map_or(0, |memory| memory.entries)
    }

    /// Waits until its warm-up is over. What it came to.
    pub async fn warmed(&self, which: usize) -> v1::WarmStatus {
        let (admin, began) = (self.admin(which), Instant::now());
        loop {
            let status = admin.status().await.expect("it answers");
            let warm = status.cluster_status.and_then(|own| own.warm).unwrap_or_default();
            if warm.done {
                return warm;
            }
            assert!(began.elapsed() < READY_MAX, "{warm:?}");
            sleep(LOOK_EVERY).await;
        }
    }
}

impl At {
    /// Four ports that nobody listens on.
    fn free() -> Self {
        let bound = [(); 4].map(|()| TcpListener::bind("127.0.0.1:0").expect("a free port"));
        let [api, admin, http, link] = bound.map(|one| one.local_addr().expect("an address"));
        Self { api, admin, http, link }
    }
}

fn patient(address: SocketAddr) -> ClientOptions {
    let mut options = ClientOptions::new(format!("http://{address}"));
    options.connect_timeout = PATIENCE;
    options.timeouts.filter = PATIENCE;
    options.timeouts.look = PATIENCE;
    options
}

async fn is_ready(http: SocketAddr) -> io::Result<bool> {
    let mut stream = TcpStream::connect(http).await?;
    stream.write_all(b"GET /readyz HTTP/1.1\r\nHost: seen\r\nConnection: close\r\n\r\n").await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(answer.starts_with(b"HTTP/1.1 200"))
}
