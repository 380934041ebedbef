//! A served store, and the binary run against it.

use std::fmt::Write;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use seen_server::config::Config;
use seen_server::node::{Node, NodeOptions};
use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// A running service and a folder for its commands.
pub struct Stage {
    runtime: Runtime,
    node: Option<Node>,
    folder: TempDir,
}

/// What a command printed.
pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    pub fn ok(&self) -> &Self {
        assert_eq!(self.code, Some(0), "{}{}", self.stdout, self.stderr);
        self
    }

    pub fn fails_with(&self, code: i32, what: &str) {
        assert_eq!(self.code, Some(code), "{}{}", self.stdout, self.stderr);
        assert!(self.stderr.contains(what), "{}", self.stderr);
    }

    /// The JSON object of the last line.
    pub fn json(&self) -> Value {
        let last = self.ok().stdout.lines().last().expect("a line");
        serde_json::from_str(last).expect("JSON")
    }
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        let (stdout, stderr) = (text(output.stdout), text(output.stderr));
        Self { code: output.status.code(), stdout, stderr }
    }
}

/// The binary with nothing of this process's environment that it would read.
pub fn seen(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_seen"));
    command.args(arguments).current_dir(folder);
    for name in ["SEEN_CONFIG", "SEEN_SERVER", "SEEN_ADMIN"] {
        command.env_remove(name);
    }
    command
}

impl Stage {
    pub fn open() -> Self {
        Self::with(|_| {})
    }

    pub fn with(change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config::default();
        let any = "127.0.0.1:0".parse().expect("an address");
        config.server.listen = any;
        config.server.admin_listen = any;
        config.server.http_listen = any;
        config.server.threads = 1;
        change(&mut config);
        let runtime = seen_server::runtime::control().expect("a runtime");
        let node = runtime.block_on(async {
            let node = Node::start(NodeOptions { config, ephemeral: true, linked: false })
                .await
                .expect("starts");
            node.ready().await;
            node
        });
        let folder = tempfile::tempdir().expect("a folder");
        Self { runtime, node: Some(node), folder }
    }

    pub fn server(&self) -> String {
        format!("http://{}", self.node.as_ref().expect("it runs").addresses().api)
    }

    pub fn admin(&self) -> String {
        format!("http://{}", self.node.as_ref().expect("it runs").addresses().admin)
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file into the folder.
    pub fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder().join(name);
        std::fs::write(&path, text).expect("written");
        path
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = seen(self.folder(), arguments);
        let status = arguments.first() == Some(&"status");
        command.arg("--server").arg(if status { self.admin() } else { self.server() });
        command
    }

    /// Runs a command against this service.
    pub fn run(&self, arguments: &[&str]) -> Ran {
        self.command(arguments).output().expect("the binary starts").into()
    }

    /// The same with something to read.
    pub fn run_with_input(&self, arguments: &[&str], input: &str) -> Ran {
        let mut child = self
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let mut stdin = child.stdin.take().expect("piped");
        stdin.write_all(input.as_bytes()).expect("it reads");
        drop(stdin);
        child.wait_with_output().expect("it ends").into()
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Some(node) = self.node.take() {
            // The test may be failing already; its message matters more.
            let _ = self.runtime.block_on(node.stop());
        }
    }
}

/// A history of so many events in which every tenth event is the first user's.
pub fn history(events: u64) -> String {
    let mut text = String::from("user\titem\ttime\n");
    for n in 0..events {
        let user = if n % 10 == 0 { 1 } else { 2 + n * 7 % 50 };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{user}\t{}\t{}", n * 13 % 5_000, 1_000_000_000 + n);
    }
    text
}
