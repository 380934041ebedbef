//! The binary as a process of its own.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use seen_proto::v1::StatusRequest;
use seen_proto::v1::admin_service_client::AdminServiceClient;
use tokio::task::spawn_blocking;
use tonic::transport::Channel;

/// Where a process listens.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    pub api: SocketAddr,
    pub admin: SocketAddr,
    pub http: SocketAddr,
}

/// A running `seen serve`. Killed when it is dropped.
pub struct Process {
    pub at: Addresses,
    admin: AdminServiceClient<Channel>,
    child: Running,
}

/// The child, which does not outlive the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A connection to this address.
pub async fn connect(to: SocketAddr) -> Channel {
    let endpoint = Channel::from_shared(format!("http://{to}")).expect("an address");
    endpoint.connect().await.expect("it listens")
}

impl Process {
    /// Starts the binary on this data folder and free ports, and waits until it serves.
    pub async fn start(data: &Path, more: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_seen"));
        command.arg("serve").args(["--set", &format!("storage.data_dir={}", data.display())]);
        for key in ["listen", "admin_listen", "http_listen"] {
            command.args(["--set", &format!("server.{key}=127.0.0.1:0")]);
        }
        command.args(more).current_dir(data).env_remove("SEEN_CONFIG");
        let piped = command.stdin(Stdio::null()).stderr(Stdio::piped());
        let mut child = Running(piped.spawn().expect("the binary"));
        let stderr = BufReader::new(child.0.stderr.take().expect("piped"));
        let at = spawn_blocking(move || announced(stderr)).await.expect("no panic");
        let admin = AdminServiceClient::new(connect(at.admin).await);
        Self { at, admin, child }
    }

    /// Sends a signal.
    pub fn signal(&self, signal: &str) {
        let pid = self.child.0.id().to_string();
        let sent = Command::new("kill").args([signal, &pid]).status().expect("kill runs");
        assert!(sent.success());
    }

    /// Waits until Status says that it drains.
    pub async fn draining(&mut self) {
        let mut looks = tokio::time::interval(Duration::from_millis(2));
        loop {
            looks.tick().await;
            let status = self.admin.status(StatusRequest {}).await.expect("answered to the end");
            if status.into_inner().draining {
                return;
            }
        }
    }

    /// Kills it at once, and waits until it is gone.
    pub async fn kill(mut self) {
        self.child.0.kill().expect("killed");
        self.exit().await;
    }

    /// Waits for its end; the exit code, `None` if a signal ended it.
    pub async fn exit(mut self) -> Option<i32> {
        let ended = spawn_blocking(move || self.child.0.wait()).await.expect("no panic");
        ended.expect("it ran").code()
    }

    /// Asks it to end and waits; the exit code.
    pub async fn terminate(self) -> Option<i32> {
        self.signal("-TERM");
        self.exit().await
    }
}

/// Reads up to `seen: serving on A (admin B, http C)`, and goes on reading behind, so that the
/// process never waits for us.
fn announced(mut stderr: impl BufRead + Send + 'static) -> Addresses {
    let mut before = String::new();
    loop {
        let from = before.len();
        let read = stderr.read_line(&mut before).expect("UTF-8");
        assert!(read > 0, "it did not start: {before}");
        if let Some(at) = addresses(before[from..].trim_end()) {
            std::thread::spawn(move || std::io::copy(&mut stderr, &mut std::io::sink()));
            return at;
        }
    }
}

fn addresses(line: &str) -> Option<Addresses> {
    let rest = line.strip_prefix("seen: serving on ")?;
    let (api, rest) = rest.split_once(" (admin ")?;
    let (admin, rest) = rest.split_once(", http ")?;
    let (http, _) = rest.split_once(')')?;
    let (api, admin) = (api.parse().ok()?, admin.parse().ok()?);
    Some(Addresses { api, admin, http: http.parse().ok()? })
}
