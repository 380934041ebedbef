//! A command of the binary that goes on until it is told to end.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child as Process, Command, Stdio};
use std::time::Duration;

/// The longest that it may take to say something.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running command. Killed when it is dropped.
pub struct Child {
    process: Process,
    stderr: PathBuf,
    _folder: tempfile::TempDir,
}

impl Child {
    /// Starts the binary.
    pub fn start(arguments: &[&str], flags: &[String]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let stderr = folder.path().join("stderr");
        let process = Command::new(env!("CARGO_BIN_EXE_seen"))
            .args(arguments)
            .args(flags)
            .current_dir(folder.path())
            .env_remove("SEEN_CONFIG")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&stderr).expect("a file"))
            .spawn()
            .expect("the binary runs");
        Self { process, stderr, _folder: folder }
    }

    /// Ends it without a warning.
    pub fn kill_9(mut self) {
        self.process.kill().expect("killed");
        self.process.wait().expect("it ran");
    }

    /// Asks it to end.
    pub fn terminate(self) -> (Option<i32>, String) {
        let pid = self.process.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs");
        assert!(sent.success());
        self.exit()
    }

    /// Waits for its end: the exit status, and what it said.
    pub fn exit(mut self) -> (Option<i32>, String) {
        let status = self.process.wait().expect("it ran");
        (status.code(), self.said())
    }

    /// Waits until it has said this.
    pub fn says(&mut self, words: &str) {
        let has_said = seen_testbed::until(PATIENCE, || {
            let runs = self.is_running();
            let has_said = self.said().contains(words);
            (has_said || !runs).then_some(has_said)
        });
        assert_eq!(has_said, Some(true), "it did not say {words:?}: {}", self.said());
    }

    /// True while it runs.
    pub fn is_running(&mut self) -> bool {
        self.process.try_wait().expect("a child").is_none()
    }

    fn said(&self) -> String {
        std::fs::read_to_string(&self.stderr).expect("UTF-8")
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
