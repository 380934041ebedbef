//! Replays a history against a service: for every event a Filter, a comparison with the truth, and
//! the Mark, in order for each user.

mod lane;
mod reader;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use parking_lot::Mutex;
use seen_client::{Client, ClientOptions, Item, Timeouts};
use tokio::sync::mpsc;

use super::figures::Figures;
use super::truth::Universe;
use crate::cli::CliError;
use crate::history_file::{HistoryFile, HistoryFileError, Malformed};
use crate::shutdown::Stop;

use lane::Lane;
use reader::Reader;

/// Events read ahead, of all threads together: a user whose events come in a row then does not hold
/// up the others. About 40 MB.
const LOOKAHEAD_EVENTS_MAX: usize = 1_000_000;
/// Parts of the file on the way to one thread.
const CHUNKS_MAX: usize = 8;
/// Calls that may fail before the replay is given up.
const ERRORS_MAX: u64 = 1_000;

/// How a history is replayed.
#[derive(Clone, Debug)]
pub(crate) struct ReplayOptions {
    /// Where the service is.
    pub(super) server: String,
    /// In which history.
    pub(super) namespace: String,
    /// Items of each Filter.
    pub(super) candidates: usize,
    /// Users whose events are under way at the same time.
    pub(super) concurrency: usize,
    /// Threads that generate load.
    pub(super) threads: usize,
    /// Connections of all threads together.
    pub(super) connections: usize,
    /// Events a second at most.
    pub(super) rate: Option<f64>,
    /// Events at most.
    pub(super) limit: Option<u64>,
    /// Where the draws begin.
    pub(super) seed: u64,
    /// Deadline of a Filter.
    pub(super) timeout: Duration,
    /// Malformed lines that are passed over.
    pub(super) malformed_max: u64,
}

impl ReplayOptions {
    fn client(&self) -> ClientOptions {
        let timeouts = Timeouts {
            filter: self.timeout,
            // A mark is never given up for being slow: the truth depends on its outcome.
            write: Duration::from_secs(30),
            ..Timeouts::default()
        };
        let connections = self.connections.div_ceil(self.threads);
        ClientOptions {
            timeouts,
            connect_timeout: Duration::from_secs(5),
            ..ClientOptions::new(&self.server).connections(connections)
        }
    }
}

/// What a file is replayed from.
#[derive(Clone, Debug)]
pub(crate) enum Source {
    /// A file; `-` is stdin.
    File(PathBuf),
    /// Bytes of the program itself, with a name for people.
    Bytes(&'static str, &'static [u8]),
}

impl Source {
    fn open(&self, malformed_max: u64) -> Result<HistoryFile, HistoryFileError> {
        match self {
            Self::File(path) => HistoryFile::open(path, malformed_max),
            Self::Bytes(name, bytes) => HistoryFile::from_bytes(name, bytes, malformed_max),
        }
    }
}

/// A user of the data, for trying the other commands on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Example {
    pub(crate) user: u64,
    pub(crate) count: usize,
    pub(crate) read: Vec<Item>,
    pub(crate) unread: Item,
}

/// What the reading of the files came to.
#[derive(Clone, Debug, Default)]
pub(super) struct ReadThrough {
    /// Events handed to the threads.
    pub(super) events: u64,
    /// Malformed lines.
    pub(super) malformed: u64,
    /// The first of them, with their file.
    pub(super) first_malformed: Vec<(PathBuf, Malformed)>,
}

/// A replay under way, as its display sees it.
#[derive(Debug, Default)]
pub(super) struct Progress {
    pub(super) figures: Figures,
    /// Events read from the files so far.
    pub(super) events_read: AtomicU64,
    /// True once all of them were read.
    pub(super) read_whole: AtomicBool,
    gave_up: AtomicBool,
    why: Mutex<Option<String>>,
}

impl Progress {
    /// True once too many calls failed.
    fn gave_up(&self) -> bool {
        self.gave_up.load(Ordering::Relaxed)
    }

    fn give_up(&self, why: String) {
        self.why.lock().get_or_insert(why);
        self.gave_up.store(true, Ordering::Relaxed);
    }
}

/// How a replay ended.
#[derive(Debug)]
pub(super) struct Replayed {
    pub(super) read: ReadThrough,
    pub(super) example: Option<Example>,
}

/// Replays to the end, the limit, or until `stop`. Blocks; `progress` may be looked at meanwhile.
///
/// # Errors
/// A file that cannot be read, options out of range, or a service that fails too often.
pub(super) fn replay(
    options: &ReplayOptions,
    sources: Vec<Source>,
    progress: &Arc<Progress>,
    stop: &Stop,
) -> Result<Replayed, CliError> {
    // Opened before anything else: a missing file is found at once.
    let files: Result<Vec<HistoryFile>, HistoryFileError> =
        sources.iter().map(|source| source.open(options.malformed_max)).collect();
    let files = files?;
    let universe = Universe::default();
    let (senders, receivers): (Vec<_>, Vec<_>) =
        (0..options.threads).map(|_| mpsc::channel(CHUNKS_MAX)).unzip();
    thread::scope(|scope| {
        let mut lanes = Vec::new();
        for events in receivers {
            let lane = LaneOptions {
                options: options.clone(),
                progress: Arc::clone(progress),
                universe: universe.clone(),
                stop: stop.clone(),
            };
            let builder = thread::Builder::new().name("seen-load".to_owned());
            lanes.push(builder.spawn_scoped(scope, move || lane.run(events))?);
        }
        let reader = Reader::new(options, universe.clone(), progress, stop, senders);
        let read = reader.run(files);
        progress.read_whole.store(true, Ordering::Relaxed);
        let mut example = None;
        for lane in lanes {
            let found = lane.join().map_err(|_| "a thread that generates load panicked")??;
            example = example.into_iter().chain(found).max_by_key(|one| rank(one.count));
        }
        if let Some(why) = progress.why.lock().take() {
            return Err(why.into());
        }
        Ok(Replayed { read: read?, example })
    })
}

/// How well a user with so many items reads as an example: many, but no more than a few pages.
fn rank(count: usize) -> (bool, usize) {
    const COUNT_MAX: usize = 500;
    if count <= COUNT_MAX { (true, count) } else { (false, usize::MAX - count) }
}

/// What one thread needs.
struct LaneOptions {
    options: ReplayOptions,
    progress: Arc<Progress>,
    universe: Universe,
    stop: Stop,
}

impl LaneOptions {
    fn run(self, events: mpsc::Receiver<Vec<reader::Step>>) -> Result<Option<Example>, CliError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let local = tokio::task::LocalSet::new();
        local.block_on(&runtime, async {
            let client = Client::new(self.options.client())?;
            let lane = Lane::new(self, client);
            lane.run(events).await
        })
    }
}
