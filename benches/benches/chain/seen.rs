//! The binary, as processes of its own.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, SystemTime};

use seen_client::{Admin, Client, ClientOptions, v1};

/// How long a process may take until it serves, on a machine that does other work besides.
const START_LIMIT: Duration = Duration::from_secs(60);
/// Longer than any call takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// The binary and the settings that lead it to the servers.
#[derive(Clone, Debug)]
pub struct Seen {
    binary: PathBuf,
    settings: Vec<String>,
}

/// A process of it, killed when it is dropped.
pub struct Running {
    child: Child,
    said: mpsc::Receiver<String>,
}

/// A replica.
pub struct Replica {
    running: Running,
    pub client: Client,
    pub admin: Admin,
    /// Where it serves.
    pub url: String,
    _folder: tempfile::TempDir,
}

impl Seen {
    /// The binary that lies where this benchmark's profile has it, unless another one is named.
    pub fn find(named: Option<&Path>, settings: Vec<String>) -> Self {
        let own = std::env::current_exe().expect("a path");
        let beside = own.ancestors().nth(2).expect("target/PROFILE/deps/NAME").join("seen");
        let binary = named.map_or(beside, Path::to_owned);
        let changed = |path: &Path| path.metadata().and_then(|told| told.modified()).ok();
        let Some(made) = changed(&binary) else {
            panic!("no {}: run cargo build --release -p seen-server first", binary.display());
        };
        let sources = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../crates"));
        if newest(sources).is_some_and(|source| source > made) {
            eprintln!("!!! {} IS OLDER THAN THE SOURCES: build it again", binary.display());
        }
        Self { binary, settings }
    }

    /// With more settings.
    pub fn with(&self, more: &[String]) -> Self {
        let settings = self.settings.iter().chain(more).cloned().collect();
        Self { binary: self.binary.clone(), settings }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(arguments).env_remove("SEEN_CONFIG").stdin(Stdio::null());
        for setting in &self.settings {
            command.args(["--set", setting]);
        }
        command
    }

    /// Runs a command to its end. What it printed.
    pub fn run(&self, arguments: &[&str]) -> String {
        let ended = self.command(arguments).output().expect("it runs");
        let said = String::from_utf8_lossy(&ended.stderr);
        assert!(ended.status.success(), "seen {arguments:?}: {said}");
        String::from_utf8_lossy(&ended.stdout).into_owned()
    }

    /// Starts a command that goes on.
    pub fn start(&self, arguments: &[&str]) -> Running {
        let mut command = self.command(arguments);
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let stderr = BufReader::new(child.stderr.take().expect("piped"));
        let (tell, said) = mpsc::channel();
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if std::env::var_os("CHAIN_LOG").is_some() {
                    eprintln!("{line}");
                }
                // Nobody listens once it has started.
                let _ = tell.send(line);
            }
        });
        Running { child, said }
    }

    /// Starts a replica on free ports.
    pub async fn replica(&self) -> Replica {
        let folder = tempfile::tempdir().expect("a folder");
        let mut settings = vec![format!("storage.data_dir={}", folder.path().display())];
        for key in ["listen", "admin_listen", "http_listen"] {
            settings.push(format!("server.{key}=127.0.0.1:0"));
        }
        let mut running = self.with(&settings).start(&["serve"]);
        let line = running.says("seen: serving on ");
        let (api, rest) = line.split_once(" (admin ").expect("addresses");
        let (admin, _) = rest.split_once(',').expect("addresses");
        let url = format!("http://{api}");
        let options = |url: &str| ClientOptions { attempts_max: 1, ..patient(url) };
        Replica {
            client: Client::connect(options(&url)).await.expect("it serves"),
            admin: Admin::new(&options(&format!("http://{admin}"))).expect("an address"),
            running,
            url,
            _folder: folder,
        }
    }
}

fn patient(url: &str) -> ClientOptions {
    let mut options = ClientOptions::new(url);
    options.connect_timeout = PATIENCE;
    options.timeouts.filter = PATIENCE;
    options.timeouts.write = PATIENCE;
    options.timeouts.look = PATIENCE;
    options
}

impl Running {
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it says a line that begins like this. The line's rest.
    pub fn says(&mut self, begin: &str) -> String {
        let mut before = Vec::new();
        loop {
            let Ok(line) = self.said.recv_timeout(START_LIMIT) else {
                panic!("it did not say {begin:?}: {}", before.join("\n"));
            };
            if let Some(rest) = line.strip_prefix(begin) {
                return rest.to_owned();
            }
            before.push(line);
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Replica {
    pub fn pid(&self) -> u32 {
        self.running.pid()
    }

    pub async fn status(&self) -> v1::StatusResponse {
        self.admin.status().await.expect("it answers")
    }
}

/// When the newest of the sources was changed.
fn newest(folder: &Path) -> Option<SystemTime> {
    let entries = std::fs::read_dir(folder).ok()?.filter_map(Result::ok);
    let changed = entries.filter_map(|entry| {
        let path = entry.path();
        match path.is_dir() {
            // What tests and benchmarks are made of is no part of the binary.
            true if path.ends_with("tests") || path.ends_with("benches") => None,
            true => newest(&path),
            false => entry.metadata().and_then(|told| told.modified()).ok(),
        }
    });
    changed.max()
}
