//! `seen serve --seed`.

use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use super::process::Process;
use super::stage::{Ran, history, seen};

/// `seen serve` on free ports with these arguments more.
fn serve(folder: &Path, more: &[&str]) -> Command {
    let mut command = seen(folder, &["serve", "--ephemeral"]);
    for key in ["listen", "admin_listen", "http_listen"] {
        command.args(["--set", &format!("server.{key}=127.0.0.1:0")]);
    }
    command.args(more).stdin(Stdio::null());
    command
}

/// The rows that a served process has of the first user.
fn rows(folder: &Path, process: &Process) -> Vec<serde_json::Value> {
    let server = format!("http://{}", process.at.api);
    let arguments = ["history", "--json", "--user", "1", "--limit", "1000", "--server", &server];
    let ran: Ran = seen(folder, &arguments).output().expect("the binary starts").into();
    ran.json()["rows"].as_array().expect("rows").clone()
}

#[tokio::test]
async fn a_seed_is_there_when_it_serves_and_does_no_harm_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("h.tsv");
    fs::write(&file, format!("{}not an event\n", history(5_000))).expect("written");
    let data = folder.path().join("data");
    fs::create_dir(&data).expect("a folder");
    for _ in 0..2 {
        let seed = ["--seed", file.to_str().expect("UTF-8")];
        let process = Process::start(&data, &seed).await;
        let rows = rows(folder.path(), &process);
        assert_eq!(rows.len(), 500);
        let first = rows.iter().find(|row| row["id"] == 0).expect("item 0");
        assert_eq!(first["marked_at_ms"], 1_000_000_000_000_u64);
        assert_eq!(process.terminate().await, Some(0));
    }
    assert_eq!(
        fs::read_dir(folder.path()).expect("a folder").count(),
        2,
        "no checkpoint beside it"
    );
}

#[test]
fn a_seed_that_cannot_be_loaded_keeps_it_from_serving() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut wrong = history(5_000);
    (0..101).for_each(|n| writeln!(wrong, "line {n}").expect("a String takes all"));
    fs::write(folder.path().join("wrong.tsv"), wrong).expect("written");
    let refused = |arguments: &[&str], what: &str| {
        let output = serve(folder.path(), arguments).output().expect("the binary starts");
        let ran = Ran::from(output);
        ran.fails_with(1, what);
        for never in ["serving on", "panicked"] {
            assert!(!ran.stderr.contains(never), "{}", ran.stderr);
        }
    };
    refused(&["--seed", "wrong.tsv"], "101 malformed lines, allowed: 100");
    refused(&["--seed", "none.tsv"], "cannot open none.tsv");
}

#[test]
fn nothing_is_looked_up_where_old_items_may_be_dropped() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("h.tsv"), history(2_000)).expect("written");
    // A user's newest item alone is kept: what is missing then is no fault.
    let newest = "namespace=[{name=\"feed_read\",newest_max=1}]";
    let mut child = Loading::start(serve(folder.path(), &["--seed", "h.tsv", "--set", newest]));
    let line = child.line_with("serving on");
    child.terminate();
    assert!(child.before.contains("2,000 events of h.tsv loaded into feed_read; 0"), "{line}");
}

/// A process whose stderr is read line by line. Killed when it is dropped.
struct Loading {
    child: Child,
    stderr: BufReader<std::process::ChildStderr>,
    before: String,
}

impl Loading {
    fn start(mut command: Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the binary starts");
        let stderr = BufReader::new(child.stderr.take().expect("piped"));
        Self { child, stderr, before: String::new() }
    }

    fn line_with(&mut self, what: &str) -> String {
        loop {
            let mut line = String::new();
            let read = self.stderr.read_line(&mut line).expect("UTF-8");
            assert!(read > 0, "it ended without {what:?}: {}", self.before);
            self.before.push_str(&line);
            if line.contains(what) {
                return line;
            }
        }
    }

    fn terminate(&mut self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs").success());
        self.stderr.read_to_string(&mut self.before).expect("UTF-8");
        let ended = self.child.wait().expect("it ran");
        assert_eq!(ended.code(), Some(0), "{}", self.before);
    }
}

impl Drop for Loading {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_signal_ends_a_seed_that_waits_for_a_pipe() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut command = serve(folder.path(), &["--seed", "-"]);
    command.stdin(Stdio::piped());
    let mut child = Loading::start(command);
    let mut pipe = child.child.stdin.take().expect("piped");
    pipe.write_all(history(3_000).as_bytes()).expect("it reads");
    child.line_with("loading - into feed_read");
    child.terminate();
    assert!(!child.before.contains("serving on"), "{}", child.before);
    drop(pipe);
}
