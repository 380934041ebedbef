//! Reads the files and hands each event to the thread that its user belongs to.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use seen_filter::{Item, UnixMillis, UserId};
use tokio::sync::mpsc;

use super::{Progress, ReadThrough, ReplayOptions};
use crate::cli::CliError;
use crate::cli::replay::truth::{Draws, Universe, UniverseWriter};
use crate::history_file::{Event, HistoryFile, MALFORMED_SHOWN_MAX};
use crate::shutdown::Stop;

/// Events of one part.
const CHUNK_EVENTS: usize = 1_024;

/// One event on its way to a thread.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub(super) user: UserId,
    pub(super) item: Item,
    pub(super) at: UnixMillis,
    /// How many items there were to read when it happened.
    pub(super) universe_len: u32,
}

/// Reads files and deals events out.
pub(super) struct Reader<'a> {
    universe: UniverseWriter,
    progress: &'a Arc<Progress>,
    stop: &'a Stop,
    limit: u64,
    lanes: Vec<Dealt>,
}

struct Dealt {
    sender: mpsc::Sender<Vec<Step>>,
    waiting: Vec<Step>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(
        options: &ReplayOptions,
        universe: Universe,
        progress: &'a Arc<Progress>,
        stop: &'a Stop,
        senders: Vec<mpsc::Sender<Vec<Step>>>,
    ) -> Self {
        let lanes = senders.into_iter().map(|sender| Dealt { sender, waiting: Vec::new() });
        Self {
            universe: UniverseWriter::new(&universe),
            progress,
            stop,
            limit: options.limit.unwrap_or(u64::MAX),
            lanes: lanes.collect(),
        }
    }

    /// Reads all files to the end, the limit, or until somebody asks to stop.
    pub(super) fn run(mut self, files: Vec<HistoryFile>) -> Result<ReadThrough, CliError> {
        let mut read = ReadThrough::default();
        for mut file in files {
            let ended = self.file(&mut file, &mut read);
            read.malformed += file.malformed();
            let room = MALFORMED_SHOWN_MAX.saturating_sub(read.first_malformed.len());
            let first = file.first_malformed().iter().take(room).cloned();
            let named = first.map(|one| (file.path().to_owned(), one));
            read.first_malformed.extend(named);
            if !ended? {
                break;
            }
        }
        for lane in &mut self.lanes {
            lane.deal();
        }
        Ok(read)
    }

    /// Reads one file; false if no more is to be read.
    fn file(&mut self, file: &mut HistoryFile, read: &mut ReadThrough) -> Result<bool, CliError> {
        while let Some(event) = file.next_event()? {
            if read.events >= self.limit || self.stop.is_requested() {
                return Ok(false);
            }
            read.events += 1;
            if !self.event(event) {
                // The threads gave up, and say why.
                return Ok(false);
            }
            self.progress.events_read.store(read.events, Ordering::Relaxed);
        }
        Ok(true)
    }

    fn event(&mut self, event: Event) -> bool {
        let Event { user, item, at } = event;
        let universe_len = self.universe.add(item);
        // Mixed, so that numbers with a pattern are spread, too.
        let lane = Draws::new(0, user.get()).below(self.lanes.len());
        let lane = &mut self.lanes[lane];
        lane.waiting.push(Step { user, item, at, universe_len });
        lane.waiting.len() < CHUNK_EVENTS || lane.deal()
    }
}

impl Dealt {
    /// Waits until the thread takes them; false if it is gone.
    fn deal(&mut self) -> bool {
        let chunk = std::mem::replace(&mut self.waiting, Vec::with_capacity(CHUNK_EVENTS));
        chunk.is_empty() || self.sender.blocking_send(chunk).is_ok()
    }
}
