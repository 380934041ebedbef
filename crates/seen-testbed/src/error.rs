//! What can go wrong.

use std::io;
use std::time::Duration;

/// Why a server could not be started, or did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Something is not installed. A test may leave itself out, loudly.
    #[error("{what} is missing; {how}")]
    Missing {
        /// What is not there.
        what: String,
        /// How to come by it.
        how: String,
    },
    /// A server that ended, or did not answer in time, when it was started.
    #[error("{server} did not start: {why}; the end of its log:\n{log}")]
    DidNotStart {
        /// Which one.
        server: &'static str,
        /// What was seen from outside.
        why: String,
        /// The last lines of its own log.
        log: String,
    },
    /// The server refused a statement, or could not be reached.
    #[error("{message}; the statement: {statement}")]
    Sql {
        /// The beginning of what was sent.
        statement: String,
        /// What the client said: the server's number and words, where it answered.
        message: String,
    },
    /// Kafka refused something.
    #[error("{what}: Kafka answers with error {code} {message}")]
    Kafka {
        /// What was asked for.
        what: String,
        /// The protocol's number for it.
        code: i16,
        /// The broker's own words, where it has some.
        message: String,
    },
    /// Something took longer than its limit.
    #[error("{what} took longer than {limit:?}")]
    TooLate {
        /// What was waited for.
        what: String,
        /// How long at most.
        limit: Duration,
    },
    /// No port below 32768 was free.
    #[error("no free port was found in {tried} tries")]
    NoPort {
        /// How many were tried.
        tried: u32,
    },
    /// A call of the operating system.
    #[error("{what}: {source}")]
    Io {
        /// What was attempted.
        what: String,
        /// What the system said.
        source: io::Error,
    },
}

/// The server, or `None`, loudly, where its program is not installed: for tests that are left out then.
///
/// # Panics
/// If it is installed and does not start.
pub fn or_skip<T>(started: Result<T, Error>) -> Option<T> {
    match started {
        Ok(server) => Some(server),
        Err(missing @ Error::Missing { .. }) => {
            eprintln!("SKIPPED: {missing}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// Names what was attempted in an error of the operating system.
pub(crate) trait While<T> {
    fn when(self, what: impl FnOnce() -> String) -> Result<T, Error>;
}

impl<T> While<T> for io::Result<T> {
    fn when(self, what: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|source| Error::Io { what: what(), source })
    }
}
