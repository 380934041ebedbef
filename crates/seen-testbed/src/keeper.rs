//! The shell that keeps a server: it outlives the test process, if only by a moment.

use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;
use std::{env, fs};

use parking_lot::Mutex;

use crate::error::{Error, While};
use crate::wait;

/// What the shell runs.
const SCRIPT: &str = include_str!("keeper.sh");
/// A socket's path has at most 107 bytes: what a temporary folder may take of them.
const FOLDER_BYTES: usize = 60;
/// How long a signal may take to be seen.
const SIGNAL_LIMIT: Duration = Duration::from_secs(30);

/// How to run a server.
#[derive(Debug)]
pub(crate) struct Launch {
    pub(crate) program: PathBuf,
    pub(crate) arguments: Vec<OsString>,
    pub(crate) environment: Vec<(&'static str, OsString)>,
}

impl Launch {
    /// As text for a shell, which the server replaces.
    fn script(&self) -> Vec<u8> {
        let mut script = Vec::new();
        for (name, value) in &self.environment {
            script.extend_from_slice(b"export ");
            script.extend_from_slice(name.as_bytes());
            script.push(b'=');
            quote(&mut script, value);
            script.push(b'\n');
        }
        script.extend_from_slice(b"exec ");
        quote(&mut script, self.program.as_os_str());
        for argument in &self.arguments {
            script.push(b' ');
            quote(&mut script, argument);
        }
        script.push(b'\n');
        script
    }
}

/// In single quotes, where only the quote itself needs care.
fn quote(script: &mut Vec<u8>, word: &OsStr) {
    script.push(b'\'');
    for byte in word.as_bytes() {
        match byte {
            b'\'' => script.extend_from_slice(b"'\\''"),
            other => script.push(*other),
        }
    }
    script.push(b'\'');
}

/// How a server's process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Running,
    Frozen,
    /// Ended, or never started.
    Gone,
}

#[derive(Debug)]
struct Line {
    /// None once the server is let go of. This end is not inherited by other children, or they would
    /// keep the server alive.
    orders: Option<ChildStdin>,
    replies: BufReader<ChildStdout>,
    pid: Option<u32>,
}

impl Line {
    fn ask(&mut self, order: &str) -> io::Result<String> {
        let orders = self.orders.as_mut().ok_or(io::ErrorKind::BrokenPipe)?;
        orders.write_all(format!("{order}\n").as_bytes())?;
        orders.flush()?;
        self.reply()
    }

    fn reply(&mut self) -> io::Result<String> {
        let mut reply = String::new();
        self.replies.read_line(&mut reply)?;
        match reply.trim_end() {
            "" => Err(io::ErrorKind::UnexpectedEof.into()),
            reply => Ok(reply.to_owned()),
        }
    }
}

/// One server's folder and process, which end with this or with the test process.
#[derive(Debug)]
pub(crate) struct Keeper {
    shell: Child,
    line: Mutex<Line>,
    folder: PathBuf,
}

impl Keeper {
    /// Makes the folder. `name` begins its name.
    pub(crate) fn new(name: &str) -> Result<Self, Error> {
        let within = env::temp_dir();
        let short = within.as_os_str().len() <= FOLDER_BYTES;
        let within = if short { within.as_path() } else { Path::new("/tmp") };
        // In a session of its own: what ends the test's process group must not end this shell.
        let mut shell = Command::new("setsid")
            .args(["sh", "-c", SCRIPT, "seen-testbed-keeper"])
            .arg(within)
            .arg(format!("seen-{name}"))
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .when(|| "run setsid (Debian: apt-get install util-linux)".to_owned())?;
        let (Some(orders), Some(replies)) = (shell.stdin.take(), shell.stdout.take()) else {
            return Err(io::Error::from(io::ErrorKind::BrokenPipe)).when(|| "pipes".to_owned());
        };
        let replies = BufReader::new(replies);
        let mut line = Line { orders: Some(orders), replies, pid: None };
        let folder = line.reply().when(|| format!("make a folder in {}", within.display()))?;
        Ok(Self { shell, line: Mutex::new(line), folder: PathBuf::from(folder) })
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The server's own log, of all its starts.
    pub(crate) fn log(&self) -> PathBuf {
        self.folder.join("server.log")
    }

    /// Starts the server. One that was started before must be gone.
    pub(crate) fn start(&self, launch: &Launch) -> Result<(), Error> {
        let run = self.folder.join("run");
        fs::write(&run, launch.script()).when(|| format!("write {}", run.display()))?;
        let mut line = self.line.lock();
        let what = || format!("start {}", launch.program.display());
        let pid = line.ask("start").when(what)?;
        line.pid = Some(pid.parse().map_err(io::Error::other).when(what)?);
        Ok(())
    }

    /// The server's process; none before the first start.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.line.lock().pid
    }

    /// How the server does. The shell lets a dead one lie until the next start, so that the number is
    /// not another process's meanwhile.
    pub(crate) fn state(&self) -> State {
        let Some(pid) = self.pid() else { return State::Gone };
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The name before it stands in brackets and may hold anything.
        let letter = stat.rsplit_once(')').and_then(|(_, rest)| rest.trim_start().chars().next());
        match letter {
            // The first thread of a killed process may be dead while others still hold its sockets.
            Some('Z') if threads(pid) > 1 => State::Running,
            None | Some('Z' | 'X' | 'x') => State::Gone,
            Some('T' | 't') => State::Frozen,
            Some(_) => State::Running,
        }
    }

    /// Sends a signal, by its name, to a server that is not gone.
    pub(crate) fn signal(&self, name: &str) -> Result<(), Error> {
        let what = || format!("signal {name} to the server");
        match self.line.lock().ask(&format!("signal {name}")).when(what)?.as_str() {
            "0" => Ok(()),
            status => Err(io::Error::other(format!("kill: status {status}"))).when(what),
        }
    }

    /// Waits until the server is in a state.
    pub(crate) fn wait_for(&self, wanted: State, what: &str) -> Result<(), Error> {
        let seen = wait::until(SIGNAL_LIMIT, || (self.state() == wanted).then_some(()));
        seen.ok_or_else(|| Error::TooLate { what: what.to_owned(), limit: SIGNAL_LIMIT })
    }
}

fn threads(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count)
}

impl Drop for Keeper {
    /// Lets go, and waits until all is gone.
    fn drop(&mut self) {
        self.line.lock().orders = None;
        let _ended = self.shell.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_reach_the_server_as_they_are() {
        let launch = Launch {
            program: "printf".into(),
            arguments: ["%s|", "it's", "a b", "$HOME", "", "\\n"].map(OsString::from).into(),
            environment: vec![("LC_ALL", "C".into())],
        };
        let script = String::from_utf8(launch.script()).expect("UTF-8");
        let output = Command::new("sh").args(["-c", &script]).output().expect("sh");
        assert_eq!(String::from_utf8_lossy(&output.stdout), "it's|a b|$HOME||\\n|");
    }
}
