//! What all servers have in common: a process, a port, a folder, and SQL.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use crate::client::{self, Access};
use crate::error::Error;
use crate::keeper::{Keeper, Launch, State};
use crate::port::Port;
use crate::wait;

/// How long a server may take until it answers.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How long one look at a server that starts may take.
const LOOK_LIMIT: Duration = Duration::from_secs(5);
/// How long statements may take, unless the caller says otherwise.
const SQL_LIMIT: Duration = Duration::from_secs(120);
/// How often another port is tried, when someone else was faster.
const PORTS: u32 = 10;
/// How much of a server's log an error carries.
const LOG_LINES: usize = 40;

/// What differs between servers.
pub(crate) struct Kind {
    /// What it is called in errors.
    pub(crate) name: &'static str,
    /// Whether it listens on a socket as well: then that is the way for statements.
    pub(crate) has_socket: bool,
    /// How to run it, given its port. Asked at each start.
    pub(crate) launch: Box<dyn Fn(u16) -> Launch + Send + Sync>,
}

/// A server of its own, for one test or a few: it is gone with this, or with the test process.
///
/// It can be shared between threads and kept in a `static`.
pub struct Server {
    kind: Kind,
    keeper: Keeper,
    port: Port,
    /// Held while the server is started or stopped.
    changing: Mutex<()>,
}

impl Server {
    /// Starts one in the keeper's folder, and returns when it answers.
    pub(crate) fn start(keeper: Keeper, kind: Kind) -> Result<Self, Error> {
        let mut server = Self { kind, keeper, port: Port::take()?, changing: Mutex::new(()) };
        let mut tries = 1;
        loop {
            match server.launch() {
                Err(Error::DidNotStart { log, .. }) if tries < PORTS && in_use(&log) => {
                    tries += 1;
                    server.port = Port::take()?;
                }
                other => return other.map(|()| server),
            }
        }
    }

    /// Runs it until it answers. What the server wrote before is no part of an error's log.
    fn launch(&self) -> Result<(), Error> {
        let written = fs::metadata(self.keeper.log()).map_or(0, |log| log.len());
        self.keeper.start(&(self.kind.launch)(self.port()))?;
        let access = self.access();
        let mut said = String::new();
        let ready = wait::until(START_LIMIT, || {
            if self.keeper.state() == State::Gone {
                return Some(Err(self.did_not_start("it ended".to_owned(), written)));
            }
            if !access.listens() {
                return None;
            }
            match client::run(&access, "SELECT 1", LOOK_LIMIT) {
                Ok(_) => Some(Ok(())),
                Err(missing @ Error::Missing { .. }) => Some(Err(missing)),
                Err(error) => {
                    said = format!(": {error}");
                    None
                }
            }
        });
        ready.unwrap_or_else(|| {
            Err(self.did_not_start(format!("no answer in {START_LIMIT:?}{said}"), written))
        })
    }

    fn did_not_start(&self, why: String, written: u64) -> Error {
        let log = fs::read(self.keeper.log()).unwrap_or_default();
        let from = usize::try_from(written).unwrap_or_default().min(log.len());
        let log = last_lines(&String::from_utf8_lossy(&log[from..]));
        Error::DidNotStart { server: self.kind.name, why, log }
    }

    fn access(&self) -> Access {
        if self.kind.has_socket { Access::Socket(self.socket()) } else { Access::Port(self.port()) }
    }

    /// The port on 127.0.0.1; the same after a restart.
    pub fn port(&self) -> u16 {
        self.port.number()
    }

    /// The unix socket, of servers that have one.
    pub fn socket(&self) -> PathBuf {
        self.keeper.folder().join("s")
    }

    /// The folder with everything the server writes. It is removed with the server.
    pub fn folder(&self) -> &Path {
        self.keeper.folder()
    }

    /// The server's process: that of its last start.
    pub fn pid(&self) -> u32 {
        self.keeper.pid().unwrap_or_default()
    }

    /// Whether the process is there. A frozen one is.
    pub fn is_alive(&self) -> bool {
        self.keeper.state() != State::Gone
    }

    /// The last lines of the server's own log.
    pub fn log(&self) -> String {
        last_lines(&String::from_utf8_lossy(&fs::read(self.keeper.log()).unwrap_or_default()))
    }

    /// Runs statements as root; gives the rows, one a line, the columns separated by tabs, without
    /// their names. The first error ends it.
    pub fn sql(&self, statements: &str) -> Result<String, Error> {
        self.sql_within(SQL_LIMIT, statements)
    }

    /// [`sql`](Self::sql) with a limit of the caller: [`Error::TooLate`] after it.
    pub fn sql_within(&self, limit: Duration, statements: &str) -> Result<String, Error> {
        client::run(&self.access(), statements, limit)
    }

    /// Makes a user with all privileges, from everywhere. Gives its name for further statements.
    pub(crate) fn make_user(&self, name: &str, password: &str) -> Result<String, Error> {
        let text = |text: &str| text.replace('\\', "\\\\").replace('\'', "\\'");
        let user = format!("'{}'@'%'", text(name));
        self.sql(&format!(
            "DROP USER IF EXISTS {user};\n\
             CREATE USER {user} IDENTIFIED BY '{}';\n\
             GRANT ALL PRIVILEGES ON *.* TO {user};",
            text(password)
        ))?;
        Ok(user)
    }

    /// Ends the server as a crash does. Returns when it is gone; its folder stays.
    pub fn kill_9(&self) -> Result<(), Error> {
        let _changing = self.changing.lock();
        self.end("KILL")
    }

    /// Ends the server in order. Returns when it is gone; its folder stays.
    pub fn stop(&self) -> Result<(), Error> {
        let changing = self.changing.lock();
        self.stop_in_order(&changing)
    }

    fn stop_in_order(&self, _changing: &MutexGuard<'_, ()>) -> Result<(), Error> {
        if self.keeper.state() == State::Frozen {
            self.keeper.signal("CONT")?;
        }
        self.end("TERM")
    }

    fn end(&self, signal: &str) -> Result<(), Error> {
        if self.keeper.state() == State::Gone {
            return Ok(());
        }
        // One that has ended since is gone as well, which is what is waited for.
        let sent = self.keeper.signal(signal);
        if self.keeper.state() != State::Gone {
            sent?;
        }
        self.keeper.wait_for(State::Gone, &format!("{} to end", self.kind.name))
    }

    /// Starts the server again, in the same folder and on the same port; one that runs is stopped in
    /// order first. Returns when it answers.
    pub fn restart(&self) -> Result<(), Error> {
        let changing = self.changing.lock();
        self.stop_in_order(&changing)?;
        self.launch()
    }

    /// Stops the process where it is, as a machine that hangs: connections stay, nothing answers.
    pub fn freeze(&self) -> Result<(), Error> {
        let _changing = self.changing.lock();
        self.keeper.signal("STOP")?;
        self.keeper.wait_for(State::Frozen, &format!("{} to freeze", self.kind.name))
    }

    /// Lets a frozen process go on.
    pub fn thaw(&self) -> Result<(), Error> {
        let _changing = self.changing.lock();
        self.keeper.signal("CONT")?;
        self.keeper.wait_for(State::Running, &format!("{} to thaw", self.kind.name))
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} on port {} in {}", self.kind.name, self.port(), self.folder().display())
    }
}

/// In the words of `strerror`, which servers print.
fn in_use(log: &str) -> bool {
    log.to_lowercase().contains("address already in use")
}

fn last_lines(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use super::*;

    /// A server that says one thing and ends. Gives the ports it was told to listen on.
    fn started_on(says: &'static str) -> (Vec<u16>, Error) {
        let ports = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&ports);
        let launch = move |port: u16| {
            told.lock().push(port);
            let arguments = ["-c", "echo \"$0\" >&2; exit 1", says].map(Into::into).into();
            Launch { program: "sh".into(), arguments, environment: Vec::new() }
        };
        let kind = Kind { name: "nothing", has_socket: true, launch: Box::new(launch) };
        let keeper = Keeper::new("nothing").expect("a folder");
        let error = Server::start(keeper, kind).expect_err("it ended");
        let ports = ports.lock().clone();
        (ports, error)
    }

    #[test]
    fn a_port_that_someone_else_took_is_exchanged() {
        let (ports, error) = started_on("bind: Address already in use");
        assert_eq!(ports.len(), PORTS as usize, "{error}");
        assert_eq!(ports.iter().collect::<BTreeSet<_>>().len(), ports.len(), "{ports:?}");
    }

    #[test]
    fn a_server_that_ends_for_another_reason_is_not_tried_again() {
        let (ports, error) = started_on("disk full");
        assert_eq!(ports.len(), 1);
        assert!(error.to_string().ends_with("disk full"), "{error}");
    }
}
