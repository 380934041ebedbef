//! What all servers have in common: a process, its ports, and a folder.

use std::fmt;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard};

use crate::error::Error;
use crate::keeper::{Keeper, Launch, State};
use crate::port::Port;
use crate::wait;

/// How long a server may take until it answers.
const START_LIMIT: Duration = Duration::from_secs(60);
/// How often other ports are tried, when someone else was faster.
const TRIES: u32 = 10;
/// How much of a server's log an error carries: where a Java program ends, much stands after the reason.
const LOG_LINES: usize = 80;

/// How to run a server, given its ports.
pub(crate) type Launcher = Box<dyn Fn(&[u16]) -> Result<Launch, Error> + Send + Sync>;
/// Whether a server that was started serves by now.
pub(crate) type Looker = Box<dyn Fn(&Start) -> Result<Look, Error> + Send + Sync>;

/// What differs between servers.
pub(crate) struct Kind {
    /// What it is called in errors.
    pub(crate) name: &'static str,
    /// How many ports it listens on: the first is the one that it is known by.
    pub(crate) ports: usize,
    /// Asked at each start.
    pub(crate) launch: Launcher,
    /// Asked again and again after a start.
    pub(crate) look: Looker,
}

/// What is seen of a server that was started.
pub(crate) enum Look {
    Ready,
    /// Why not, where that is known.
    NotYet(Option<String>),
    /// It will never be, in these words.
    Failed(String),
}

/// One start of a server.
pub(crate) struct Start {
    pub(crate) ports: Vec<u16>,
    log: PathBuf,
    /// How much stood in the log before.
    written: u64,
}

impl Start {
    /// What the server wrote since this start.
    pub(crate) fn log(&self) -> String {
        let mut text = Vec::new();
        if let Ok(mut log) = File::open(&self.log) {
            let _read =
                log.seek(SeekFrom::Start(self.written)).and_then(|_| log.read_to_end(&mut text));
        }
        String::from_utf8_lossy(&text).into_owned()
    }
}

/// A server of its own, for one test or a few: it is gone with this, or with the test process.
///
/// It can be shared between threads and kept in a `static`.
pub struct Process {
    kind: Kind,
    keeper: Keeper,
    ports: Vec<Port>,
    /// Held while the server is started or stopped.
    changing: Mutex<()>,
}

impl Process {
    /// Starts one in the keeper's folder, and returns when it serves.
    pub(crate) fn start(keeper: Keeper, kind: Kind) -> Result<Self, Error> {
        let ports = take(kind.ports)?;
        let mut process = Self { kind, keeper, ports, changing: Mutex::new(()) };
        let mut tries = 1;
        loop {
            let start = process.next_start();
            match process.launch(&start) {
                Err(Error::DidNotStart { .. }) if tries < TRIES && in_use(&start.log()) => {
                    tries += 1;
                    process.ports = take(process.kind.ports)?;
                }
                other => return other.map(|()| process),
            }
        }
    }

    fn next_start(&self) -> Start {
        Start {
            ports: self.ports(),
            written: fs::metadata(self.keeper.log()).map_or(0, |log| log.len()),
            log: self.keeper.log(),
        }
    }

    /// Runs it until it serves. What the server wrote before is no part of an error's log.
    fn launch(&self, start: &Start) -> Result<(), Error> {
        self.keeper.start(&(self.kind.launch)(&start.ports)?)?;
        let did_not = |why: String| {
            Err(Error::DidNotStart { server: self.kind.name, why, log: last_lines(&start.log()) })
        };
        let mut said = String::new();
        let ready = wait::until(START_LIMIT, || {
            if self.keeper.state() == State::Gone {
                return Some(did_not("it ended".to_owned()));
            }
            match (self.kind.look)(start) {
                Ok(Look::Ready) => Some(Ok(())),
                Ok(Look::Failed(why)) => Some(did_not(why)),
                Ok(Look::NotYet(why)) => {
                    said = why.map_or(String::new(), |why| format!(": {why}"));
                    None
                }
                Err(error) => Some(Err(error)),
            }
        });
        ready.unwrap_or_else(|| did_not(format!("no answer in {START_LIMIT:?}{said}")))
    }

    /// The port on 127.0.0.1; the same after a restart.
    pub fn port(&self) -> u16 {
        self.ports.first().map_or(0, Port::number)
    }

    /// All its ports, in the order in which it is told of them.
    pub(crate) fn ports(&self) -> Vec<u16> {
        self.ports.iter().map(Port::number).collect()
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
    /// order first. Returns when it serves.
    pub fn restart(&self) -> Result<(), Error> {
        let changing = self.changing.lock();
        self.stop_in_order(&changing)?;
        self.launch(&self.next_start())
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

impl fmt::Debug for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} on port {} in {}", self.kind.name, self.port(), self.folder().display())
    }
}

fn take(ports: usize) -> Result<Vec<Port>, Error> {
    (0..ports).map(|_| Port::take()).collect()
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
        let launch = move |ports: &[u16]| {
            told.lock().extend_from_slice(ports);
            // Some servers have much to say after that.
            let script = "echo \"$0\" >&2; seq 100 >&2; exit 1";
            let arguments = ["-c", script, says].map(Into::into).into();
            Ok(Launch { program: "sh".into(), arguments, environment: Vec::new() })
        };
        let look = |_: &Start| Ok(Look::NotYet(None));
        let kind =
            Kind { name: "nothing", ports: 2, launch: Box::new(launch), look: Box::new(look) };
        let keeper = Keeper::new("nothing").expect("a folder");
        let error = Process::start(keeper, kind).expect_err("it ended");
        let ports = ports.lock().clone();
        (ports, error)
    }

    #[test]
    fn ports_that_someone_else_took_are_exchanged() {
        let (ports, error) = started_on("bind: Address already in use");
        assert_eq!(ports.len(), 2 * TRIES as usize, "{error}");
        assert_eq!(ports.iter().collect::<BTreeSet<_>>().len(), ports.len(), "{ports:?}");
    }

    #[test]
    fn a_server_that_ends_for_another_reason_is_not_tried_again() {
        let (ports, error) = started_on("disk full");
        assert_eq!(ports.len(), 2);
        let told = error.to_string();
        assert!(told.ends_with("\n99\n100") && !told.contains("disk full"), "{told}");
    }
}
