//! The end of a test process that has no time for anything is the end of its servers.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use seen_testbed::{Debezium, Kafka, MariaDb, Process, or_skip, until};

/// Set where this program runs as the one that is killed.
const VICTIM: &str = "SEEN_TESTBED_VICTIM";
/// What the victim says after the last of its servers.
const END: &str = "that is all";
const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn a_killed_process_leaves_no_server_and_no_folder() {
    if std::env::var_os(VICTIM).is_some() {
        be_killed();
    }
    let mut victim = Command::new(std::env::current_exe().expect("this program"))
        .args(["--exact", "a_killed_process_leaves_no_server_and_no_folder", "--nocapture"])
        .env(VICTIM, "1")
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("started");
    let output = BufReader::new(victim.stdout.take().expect("a pipe"));
    let lines = output.lines().map_while(Result::ok);
    let servers: Vec<(PathBuf, PathBuf)> = lines
        .take_while(|line| line != END)
        .filter_map(|line| {
            let (pid, folder) = line.strip_prefix("server ")?.split_once(' ')?;
            Some((PathBuf::from("/proc").join(pid), PathBuf::from(folder)))
        })
        .collect();
    assert!(servers.len() >= 2, "the servers did not start");
    for (process, folder) in &servers {
        assert!(process.exists() && folder.exists(), "{process:?} {folder:?}");
    }
    // The whole group, as a terminal or a time limit does it.
    let group = format!("-{}", victim.id());
    let killed = Command::new("sh").args(["-c", "kill -s KILL -- \"$0\"", &group]).status();
    assert!(killed.expect("kill").success());
    victim.wait().expect("killed");
    for (process, folder) in servers {
        let gone = || (!process.exists() && !folder.exists()).then_some(());
        assert!(until(LIMIT, gone).is_some(), "{process:?} or {folder:?} is left");
    }
}

/// Starts a server that is never dropped, one that hangs, and a feed, tells of them, and waits for the end.
fn be_killed() -> ! {
    static KEPT: OnceLock<MariaDb> = OnceLock::new();
    let kept = KEPT.get_or_init(|| MariaDb::start().expect("started"));
    let frozen = MariaDb::start().expect("started");
    frozen.freeze().expect("frozen");
    kept.sql("CREATE DATABASE d; CREATE TABLE d.t (a INT PRIMARY KEY)").expect("a table");
    let mut servers: Vec<&Process> = vec![kept, &frozen];
    let kafka = or_skip(Kafka::start());
    let debezium = kafka.as_ref().map(|kafka| {
        let feed = Debezium::builder(kafka, kept.port()).tables(&["d.t"]);
        feed.start().expect("started")
    });
    servers.extend(kafka.as_deref());
    servers.extend(debezium.as_deref());
    let mut output = std::io::stdout();
    for server in servers {
        writeln!(output, "\nserver {} {}", server.pid(), server.folder().display()).expect("told");
    }
    writeln!(output, "{END}").expect("told");
    loop {
        std::thread::park();
    }
}
