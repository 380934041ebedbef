//! Loads one file: reads it on a thread of its own, marks in parallel, and follows with the
//! checkpoint behind what was acknowledged.

use std::collections::VecDeque;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ahash::AHashMap;
use futures_util::future::try_join_all;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use seen_client::limits::MARK_ITEMS_MAX;
use seen_client::{ApiError, BatcherOptions, Client, MarkBatcher, MarkCall, MarkTicket, Session};
use seen_proto::token::Token;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use super::checkpoint::Checkpoint;
use super::sample::Sample;
use super::token::Written;
use super::{ImportArgs, MARK_TIMEOUT};
use crate::cli::CliError;
use crate::cli::calls::described;
use crate::cli::calls::table::grouped;
use crate::history_file::{Event, HistoryFile, HistoryFileError, Malformed, Position};
use crate::shutdown::Stop;

/// Events that are read, sent and checkpointed together. A multiple of what shares a commit.
const CHUNK_EVENTS: usize = 2_048;
/// Chunks that are not acknowledged yet.
const CHUNKS_MAX: usize = 16;
/// Items that are not acknowledged yet, of all streams together: below the 65,536 rows that a server
/// lets wait for a commit, so that a loader alone never overloads it.
const ITEMS_MAX: usize = CHUNKS_MAX * CHUNK_EVENTS;
/// How often the checkpoint is written.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(1);
/// How long the reading thread is waited for after an interruption.
const READ_END_MAX: Duration = Duration::from_millis(100);

/// What came of one file.
#[derive(Clone, Debug, Default)]
pub(super) struct Loaded {
    /// Events imported now.
    pub(super) events: u64,
    /// Events that a checkpoint says were imported before.
    pub(super) before: u64,
    /// Malformed lines that were passed over now.
    pub(super) malformed: u64,
    /// The first of them.
    pub(super) first_malformed: Vec<Malformed>,
    /// True if the file was imported to its end.
    pub(super) whole: bool,
}

/// A part of the file.
struct Chunk {
    events: Vec<Event>,
    /// Where the file is read on after it; `None` if it was imported before.
    end: Option<Position>,
}

/// A part on its way, with what stands for its acknowledgement.
struct Sent {
    tickets: Vec<MarkTicket>,
    /// Its users' sessions, whose tokens name the cluster.
    sessions: Vec<Session>,
    end: Position,
    events: u64,
}

/// What the reading thread ends with.
#[derive(Default)]
struct ReadEnd {
    malformed: u64,
    first_malformed: Vec<Malformed>,
}

/// Imports one file, from its checkpoint on; `place` is where that lies, if there is to be one.
///
/// # Errors
/// A file or checkpoint that cannot be used, or a service that refuses.
pub(super) async fn load(
    args: &ImportArgs,
    client: &Client,
    path: &Path,
    place: Option<PathBuf>,
    sample: &mut Sample,
    written: &mut Written,
    stop: &Stop,
) -> Result<Loaded, CliError> {
    let before = match &place {
        Some(place) if !args.restart => Checkpoint::read(place, &args.namespace)?,
        _ => None,
    };
    let (chunks, mut parts) = mpsc::channel(CHUNKS_MAX);
    let from = before.as_ref().map(|checkpoint| checkpoint.position);
    let file = HistoryFile::open_named(path, args.malformed_max, args.columns.as_ref())?;
    let reading = tokio::task::spawn_blocking(move || read(file, from, &chunks));
    let mut loader = Loader::new(args, client, place, before, path, written)?;
    let mut interrupted = false;
    loop {
        let chunk = tokio::select! {
            biased;
            () = stop.requested() => {
                interrupted = true;
                break;
            }
            chunk = parts.recv() => chunk,
        };
        let Some(chunk) = chunk else { break };
        chunk.events.iter().for_each(|event| sample.offer(*event));
        // What was imported before may be drawn for the look-up, too.
        if let Some(end) = chunk.end {
            loader.send(chunk.events, end).await?;
        }
    }
    // Dropped, so that a reading thread which has more to say ends.
    drop(parts);
    loader.finish().await?;
    let end = match interrupted {
        // It may be waiting for a pipe that says nothing any more.
        true => timeout(READ_END_MAX, reading).await.ok().transpose()?.transpose()?,
        false => Some(reading.await??),
    };
    let end = end.unwrap_or_default();
    let loaded = Loaded {
        events: loader.events,
        before: loader.before,
        malformed: end.malformed,
        first_malformed: end.first_malformed,
        whole: !interrupted,
    };
    loader.close().await;
    Ok(loaded)
}

/// Reads a file to its end or until nobody takes more. What lies before `from` was imported before.
fn read(
    mut file: HistoryFile,
    from: Option<Position>,
    chunks: &mpsc::Sender<Chunk>,
) -> Result<ReadEnd, HistoryFileError> {
    let mut events = Vec::with_capacity(CHUNK_EVENTS);
    let mut taken = true;
    let mut deal = |events: &mut Vec<Event>, end: Option<Position>, least: usize| {
        if taken && events.len() >= least {
            let chunk = Chunk { events: std::mem::take(events), end };
            taken = chunks.blocking_send(chunk).is_ok();
        }
        taken
    };
    if let Some(from) = from {
        file.read_again(from, |event| {
            events.push(event);
            deal(&mut events, None, CHUNK_EVENTS);
        })?;
        deal(&mut events, None, 1);
    }
    while let Some(event) = file.next_event()? {
        events.push(event);
        if !deal(&mut events, Some(file.position()), CHUNK_EVENTS) {
            break;
        }
    }
    deal(&mut events, Some(file.position()), 1);
    let first_malformed = file.first_malformed().to_vec();
    Ok(ReadEnd { malformed: file.malformed(), first_malformed })
}

struct Loader<'a> {
    args: &'a ImportArgs,
    batchers: Vec<MarkBatcher>,
    sent: VecDeque<Sent>,
    place: Option<PathBuf>,
    checkpoint: Option<Checkpoint>,
    token: &'a mut Written,
    written: Instant,
    next_start: Instant,
    bar: ProgressBar,
    events: u64,
    before: u64,
    shown: Instant,
    begin: Instant,
    name: String,
}

impl<'a> Loader<'a> {
    fn new(
        args: &'a ImportArgs,
        client: &Client,
        place: Option<PathBuf>,
        checkpoint: Option<Checkpoint>,
        path: &Path,
        written: &'a mut Written,
    ) -> Result<Self, CliError> {
        let streams = usize::from(args.streams);
        let options = BatcherOptions {
            items_max: (ITEMS_MAX / streams).max(MARK_ITEMS_MAX),
            flush_items: CHUNK_EVENTS / streams,
            timeout: MARK_TIMEOUT,
            attempt_timeout: Duration::from_secs(10),
            close_timeout: MARK_TIMEOUT,
            ..BatcherOptions::default()
        };
        let batchers: Result<Vec<_>, _> =
            (0..streams).map(|_| client.mark_batcher(options)).collect();
        let now = Instant::now();
        let before = checkpoint.as_ref().map_or(0, |checkpoint| checkpoint.events);
        Ok(Self {
            args,
            batchers: batchers?,
            sent: VecDeque::new(),
            place,
            checkpoint,
            token: written,
            written: now,
            next_start: now,
            bar: bar(),
            events: 0,
            before,
            shown: now,
            begin: now,
            name: path.display().to_string(),
        })
    }

    /// Sends a part, once there is room and time for it.
    async fn send(&mut self, events: Vec<Event>, end: Position) -> Result<(), CliError> {
        if let Some(rate) = self.args.rate {
            sleep_until(self.next_start).await;
            let share = Duration::from_secs_f64(events.len() as f64 / rate);
            self.next_start = self.next_start.max(Instant::now()) + share;
        }
        while self.sent.len() >= CHUNKS_MAX {
            self.acknowledge_first().await?;
        }
        let count = events.len() as u64;
        let mut by_user: AHashMap<u64, Vec<Event>> = AHashMap::new();
        for event in events {
            by_user.entry(event.user.get()).or_default().push(event);
        }
        let mut tickets = Vec::with_capacity(by_user.len());
        let mut sessions = Vec::with_capacity(by_user.len());
        for (user, events) in by_user {
            let session = Session::new(user);
            // A user's marks stay on one stream, and so in their order.
            let batcher = &self.batchers[(user % self.batchers.len() as u64) as usize];
            for part in events.chunks(MARK_ITEMS_MAX) {
                let call = part.iter().fold(MarkCall::new(&self.args.namespace), |call, event| {
                    let (kind, id) = (event.item.kind.get(), event.item.id.get());
                    call.item_at(kind, id, event.at.get())
                });
                tickets.push(batcher.mark(&session, call).await.map_err(described)?);
            }
            sessions.push(session);
        }
        self.sent.push_back(Sent { tickets, sessions, end, events: count });
        Ok(())
    }

    /// Waits for the oldest part, and moves the checkpoint behind it.
    async fn acknowledge_first(&mut self) -> Result<(), CliError> {
        let Some(Sent { tickets, sessions, end, events }) = self.sent.pop_front() else {
            return Ok(());
        };
        let acknowledged: Result<Vec<()>, ApiError> = try_join_all(tickets).await;
        if let Err(error) = acknowledged {
            self.write()?;
            let done = self.before + self.events;
            let what = format!(
                "{}\n{}: {} events were acknowledged; run it again to go on from there",
                described(error),
                self.name,
                grouped(done)
            );
            return Err(what.into());
        }
        for session in &sessions {
            self.token.take(session)?;
        }
        if let Some(session) = sessions.last() {
            self.same_cluster(session)?;
        }
        self.events += events;
        if let Some(checkpoint) = &mut self.checkpoint {
            checkpoint.position = end;
            checkpoint.events += events;
        }
        self.show();
        if self.written.elapsed() >= CHECKPOINT_EVERY {
            self.write()?;
        }
        Ok(())
    }

    /// A checkpoint is worth something only for the cluster that it was written for: going on from it
    /// elsewhere would leave out everything before it.
    fn same_cluster(&mut self, session: &Session) -> Result<(), CliError> {
        let found = Token::cluster_of(&session.token()).ok().flatten();
        let found = found.map_or("unknown".to_owned(), |cluster| cluster.to_string());
        match &self.checkpoint {
            None => {
                self.checkpoint = Some(Checkpoint::new(found, self.args.namespace.clone()));
                Ok(())
            }
            Some(checkpoint) if checkpoint.cluster == found => Ok(()),
            Some(checkpoint) => {
                let what = format!(
                    "the checkpoint of {} is of cluster {}, and {} is {found}; pass --restart to \
                     import all of it there",
                    self.name, checkpoint.cluster, self.args.server
                );
                Err(what.into())
            }
        }
    }

    fn write(&mut self) -> Result<(), CliError> {
        self.written = Instant::now();
        match (&self.checkpoint, &self.place) {
            (Some(checkpoint), Some(place)) => checkpoint.write(place),
            _ => Ok(()),
        }
    }

    /// Waits until everything that was sent is acknowledged.
    async fn finish(&mut self) -> Result<(), CliError> {
        while !self.sent.is_empty() {
            self.acknowledge_first().await?;
        }
        self.bar.finish_and_clear();
        self.write()
    }

    async fn close(self) {
        for batcher in self.batchers {
            batcher.close().await;
        }
    }

    fn show(&mut self) {
        self.bar.set_position(self.before + self.events);
        let plain = self.bar.is_hidden() && self.shown.elapsed() >= Duration::from_secs(1);
        if plain {
            self.shown = Instant::now();
            let rate = self.events as f64 / self.begin.elapsed().as_secs_f64();
            let done = grouped(self.before + self.events);
            eprintln!("{}: {done} events acknowledged, {}/s", self.name, grouped(rate as u64));
        }
    }
}

/// A bar on a terminal; hidden elsewhere.
fn bar() -> ProgressBar {
    let style =
        ProgressStyle::with_template("{elapsed_precise} {spinner} {human_pos} events, {per_sec}");
    let bar = ProgressBar::no_length()
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
    if !std::io::stderr().is_terminal() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    bar
}
