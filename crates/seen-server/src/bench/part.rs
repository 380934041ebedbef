//! A child process of this same binary: the server that is measured, or a rival.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use super::process::{cpu_time, resident_bytes};
use super::{BenchError, system};

/// A running child. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Part {
    name: String,
    child: Child,
    /// Its end tells the child to end, should this process die without dropping anything.
    _stdin: Option<ChildStdin>,
    said: serde_json::Value,
}

impl Part {
    /// Starts a part and waits for its one line: where it listens, or what it found out.
    ///
    /// # Errors
    /// [`BenchError`].
    pub fn start(name: &str, args: &[String]) -> Result<Self, BenchError> {
        let binary = std::env::current_exe().map_err(system("cannot find this program's file"))?;
        let mut child = Command::new(binary)
            .arg("bench-part")
            .arg(name)
            .args(args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(system(format!("cannot start {name}")))?;
        let stdin = child.stdin.take();
        let stdout = child.stdout.take();
        let mut part =
            Self { name: name.to_owned(), child, _stdin: stdin, said: serde_json::Value::Null };
        let mut line = String::new();
        if let Some(stdout) = stdout {
            BufReader::new(stdout)
                .read_line(&mut line)
                .map_err(system(format!("cannot read from {name}")))?;
        }
        part.said =
            serde_json::from_str(&line).map_err(|_| part.broken("ended before it had begun"))?;
        Ok(part)
    }

    fn broken(&self, what: impl Into<String>) -> BenchError {
        BenchError::Part { part: self.name.clone(), what: what.into() }
    }

    /// A number that it said.
    ///
    /// # Errors
    /// It did not say it.
    pub fn number(&self, key: &str) -> Result<f64, BenchError> {
        self.said[key].as_f64().ok_or_else(|| self.broken(format!("did not say {key}")))
    }

    /// Addresses that it said.
    ///
    /// # Errors
    /// It did not say them.
    pub fn addresses(&self, key: &str) -> Result<Vec<SocketAddr>, BenchError> {
        serde_json::from_value(self.said[key].clone())
            .map_err(|_| self.broken(format!("did not say {key}")))
    }

    /// The one address that it said.
    ///
    /// # Errors
    /// It did not say it.
    pub fn address(&self, key: &str) -> Result<SocketAddr, BenchError> {
        let none = || self.broken(format!("did not say {key}"));
        self.addresses(key)?.first().copied().ok_or_else(none)
    }

    /// CPU time that it has taken.
    ///
    /// # Errors
    /// It is gone.
    pub fn cpu(&self) -> Result<Duration, BenchError> {
        cpu_time(self.child.id()).map_err(system(format!("cannot read the CPU of {}", self.name)))
    }

    /// Memory that it holds, in bytes.
    ///
    /// # Errors
    /// It is gone.
    pub fn resident_bytes(&self) -> Result<u64, BenchError> {
        resident_bytes(self.child.id())
            .map_err(system(format!("cannot read the memory of {}", self.name)))
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        // Its files lie in folders of this process's, so that nothing is left by ending it at once.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
