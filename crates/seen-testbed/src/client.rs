//! Statements through the `mariadb` command line client.

use std::ffi::OsString;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use crate::error::{Error, While};
use crate::program;

/// What the environment could make the client do.
const TAKEN_AWAY: [&str; 5] =
    ["MYSQL_HOST", "MYSQL_TCP_PORT", "MYSQL_PWD", "MYSQL_UNIX_PORT", "MYSQL_TEST_LOGIN_FILE"];
/// How much of a statement an error shows.
const SHOWN_CHARS: usize = 300;

/// The way to a server, as root without a password.
#[derive(Clone, Debug)]
pub(crate) enum Access {
    Socket(PathBuf),
    Port(u16),
}

impl Access {
    fn arguments(&self) -> Vec<OsString> {
        match self {
            Self::Socket(path) => vec!["--socket".into(), path.into(), "--skip-ssl".into()],
            Self::Port(port) => vec![
                "--host=127.0.0.1".into(),
                format!("--port={port}").into(),
                "--protocol=tcp".into(),
                "--skip-ssl".into(),
            ],
        }
    }

    /// Whether anybody listens: cheaper than to run a client in vain.
    pub(crate) fn listens(&self) -> bool {
        match self {
            Self::Socket(path) => UnixStream::connect(path).is_ok(),
            Self::Port(port) => TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).is_ok(),
        }
    }
}

/// Runs statements; gives the rows, tab separated, without the columns' names.
pub(crate) fn run(access: &Access, statements: &str, limit: Duration) -> Result<String, Error> {
    let program = program::find("mariadb", "Debian: apt-get install mariadb-client")?;
    let what = || format!("run {}", program.display());
    // A file and not a pipe: nobody has to write while the answer is read.
    let mut input = tempfile::tempfile().when(what)?;
    input.write_all(statements.as_bytes()).when(what)?;
    input.seek(SeekFrom::Start(0)).when(what)?;
    let mut command = Command::new(&program);
    command.arg("--no-defaults").args(access.arguments());
    command.args(["--user=root", "--batch", "--skip-column-names"]);
    command.args(["--default-character-set=utf8mb4", "--connect-timeout=10"]);
    for name in TAKEN_AWAY {
        command.env_remove(name);
    }
    let command = command.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().when(what)?;
    let shown = || statements.chars().take(SHOWN_CHARS).collect::<String>();
    let Some((output, errors)) = outputs(&mut child, limit).when(what)? else {
        let _dead_already = child.kill();
        child.wait().when(what)?;
        return Err(Error::TooLate { what: shown(), limit });
    };
    if child.wait().when(what)?.success() {
        Ok(output)
    } else {
        Err(Error::Sql { statement: shown(), message: errors.trim_end().to_owned() })
    }
}

/// Everything a child says on standard output and standard error; none if it takes too long.
fn outputs(child: &mut Child, limit: Duration) -> io::Result<Option<(String, String)>> {
    let (Some(output), Some(errors)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(io::ErrorKind::BrokenPipe.into());
    };
    let (sender, receiver) = mpsc::channel();
    // Both threads end with the child, killed or not.
    let errors = thread::spawn(move || text(errors));
    thread::spawn(move || {
        let output = text(output);
        let errors = errors.join().unwrap_or_default();
        // Nobody waits any more if it was too late.
        let _too_late = sender.send((output, errors));
    });
    match receiver.recv_timeout(limit) {
        Ok(outputs) => Ok(Some(outputs)),
        Err(mpsc::RecvTimeoutError::Timeout) => Ok(None),
        Err(mpsc::RecvTimeoutError::Disconnected) => Err(io::ErrorKind::BrokenPipe.into()),
    }
}

fn text(mut from: impl Read) -> String {
    let mut bytes = Vec::new();
    // What was read before an error is shown; the child's status tells the rest.
    let _partial = from.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}
