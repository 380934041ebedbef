//! Files that are looked at now and then.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use tracing::{info, warn};

use super::{TlsError, TlsFiles, reloads};

/// How often the files are looked at, at most.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// The files' contents.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Read {
    pub files: TlsFiles,
    pub certificate: Vec<u8>,
    pub key: Vec<u8>,
    pub authority: Option<Vec<u8>>,
}

impl Read {
    fn of(files: &TlsFiles) -> Result<Self, TlsError> {
        let authority = files.authority.as_deref();
        Ok(Self {
            files: files.clone(),
            certificate: read_file("certificate", &files.certificate)?,
            key: read_file("key", &files.key)?,
            authority: authority.map(|path| read_file("authority", path)).transpose()?,
        })
    }
}

fn read_file(role: &'static str, path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|error| file_error(role, path, error))
}

/// A file and what is wrong with it.
pub(super) fn file_error(role: &'static str, path: &Path, why: impl ToString) -> TlsError {
    TlsError::File { role, path: path.display().to_string(), why: why.to_string() }
}

type Build<T> = Box<dyn Fn(&Read) -> Result<T, TlsError> + Send + Sync>;

/// What is built from files, and built again when they change.
pub(super) struct Watched<T> {
    build: Build<T>,
    state: Mutex<State<T>>,
}

struct State<T> {
    current: Arc<T>,
    read: Read,
    looked: Instant,
    /// What was wrong at the last look, so that it is said once.
    failed: Option<TlsError>,
}

impl<T> Watched<T> {
    pub fn load(
        files: TlsFiles,
        build: impl Fn(&Read) -> Result<T, TlsError> + Send + Sync + 'static,
    ) -> Result<Self, TlsError> {
        let read = Read::of(&files)?;
        let current = Arc::new(build(&read)?);
        let state = State { current, read, looked: Instant::now(), failed: None };
        Ok(Self { build: Box::new(build), state: Mutex::new(state) })
    }

    /// What is to be used now.
    pub fn now(&self) -> Arc<T> {
        let mut state = self.state.lock();
        if state.looked.elapsed() >= LOOK_INTERVAL {
            state.looked = Instant::now();
            self.look(&mut state);
        }
        state.current.clone()
    }

    fn look(&self, state: &mut State<T>) {
        let read = match Read::of(&state.read.files) {
            Ok(read) if read == state.read => {
                state.failed = None;
                return;
            }
            read => read,
        };
        match read.and_then(|read| Ok((Arc::new((self.build)(&read)?), read))) {
            Ok((current, read)) => {
                let path = read.files.certificate.display().to_string();
                info!(certificate = path, "certificates changed and were read again");
                reloads("ok").increment(1);
                state.current = current;
                state.read = read;
                state.failed = None;
            }
            Err(error) if state.failed.as_ref() != Some(&error) => {
                warn!(%error, "certificates changed and cannot be used; those before stay in use");
                reloads("failed").increment(1);
                state.failed = Some(error);
            }
            Err(_) => {}
        }
    }
}
