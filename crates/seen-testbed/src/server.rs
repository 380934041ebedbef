//! What database servers have in common: a process, and SQL.

use std::fmt;
use std::ops::Deref;
use std::path::PathBuf;
use std::time::Duration;

use crate::client::{self, Access};
use crate::error::Error;
use crate::keeper::{Keeper, Launch};
use crate::process::{self, Look, Process, Start};

/// How long one look at a server that starts may take.
const LOOK_LIMIT: Duration = Duration::from_secs(5);
/// How long statements may take, unless the caller says otherwise.
const SQL_LIMIT: Duration = Duration::from_secs(120);
/// In the server's folder.
const SOCKET: &str = "s";

/// What differs between database servers.
pub(crate) struct Kind {
    /// What it is called in errors.
    pub(crate) name: &'static str,
    /// Whether it listens on a socket as well: then that is the way for statements.
    pub(crate) has_socket: bool,
    /// How to run it, given its port. Asked at each start.
    pub(crate) launch: Box<dyn Fn(u16) -> Launch + Send + Sync>,
}

/// A database server of its own, for one test or a few: it is gone with this, or with the test process.
///
/// It can be shared between threads and kept in a `static`. It is a [`Process`]: `port`, `kill_9`,
/// `restart`, `freeze` and so on are there.
pub struct Server {
    process: Process,
    has_socket: bool,
}

impl Server {
    /// Starts one in the keeper's folder, and returns when it answers.
    pub(crate) fn start(keeper: Keeper, kind: Kind) -> Result<Self, Error> {
        let Kind { name, has_socket, launch } = kind;
        let socket = has_socket.then(|| keeper.folder().join(SOCKET));
        let port = |ports: &[u16]| ports.first().copied().unwrap_or_default();
        let look = move |start: &Start| {
            let access = match &socket {
                Some(socket) => Access::Socket(socket.clone()),
                None => Access::Port(port(&start.ports)),
            };
            look(&access)
        };
        let kind = process::Kind {
            name,
            ports: 1,
            launch: Box::new(move |ports| Ok(launch(port(ports)))),
            look: Box::new(look),
        };
        Ok(Self { process: Process::start(keeper, kind)?, has_socket })
    }

    fn access(&self) -> Access {
        if self.has_socket { Access::Socket(self.socket()) } else { Access::Port(self.port()) }
    }

    /// The unix socket, of servers that have one.
    pub fn socket(&self) -> PathBuf {
        self.folder().join(SOCKET)
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
}

/// Whether it answers a statement.
fn look(access: &Access) -> Result<Look, Error> {
    if !access.listens() {
        return Ok(Look::NotYet(None));
    }
    match client::run(access, "SELECT 1", LOOK_LIMIT) {
        Ok(_) => Ok(Look::Ready),
        Err(missing @ Error::Missing { .. }) => Err(missing),
        Err(error) => Ok(Look::NotYet(Some(error.to_string()))),
    }
}

impl Deref for Server {
    type Target = Process;

    fn deref(&self) -> &Process {
        &self.process
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.process.fmt(f)
    }
}
