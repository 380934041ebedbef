//! The newest commits of this process, kept in memory: readers that follow closely never ask the
//! file. And the head, which wakes them.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::namespaces::LogSlot;

/// Most bytes of events kept.
const TAIL_BYTES_MAX: usize = 8 << 20;
/// Most commits kept: one without events costs no bytes.
const TAIL_COMMITS_MAX: usize = 16_384;

/// The end of the commit log as far as this process knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    pub timeline: u64,
    pub position: u64,
}

/// The events of one commit for one namespace and partition.
pub(crate) type SlotEvents = (LogSlot, Arc<[u8]>);

/// A commit's number and its events for the namespace and partition asked about.
pub(crate) type CommitEvents = (u64, Arc<[u8]>);

#[derive(Debug)]
struct Commit {
    position: u64,
    slots: Vec<SlotEvents>,
}

#[derive(Debug, Default)]
struct Kept {
    timeline: u64,
    /// Without gaps: each position is one more than the one before.
    commits: VecDeque<Commit>,
    bytes: usize,
}

/// The newest commits and the head.
#[derive(Debug)]
pub(crate) struct Tail {
    kept: Mutex<Kept>,
    head: watch::Sender<Head>,
}

impl Tail {
    /// Starts at a head, with nothing kept.
    pub(crate) fn new(head: Head) -> Self {
        Self { kept: Mutex::default(), head: watch::Sender::new(head) }
    }

    /// Follows the head.
    pub(crate) fn watch(&self) -> watch::Receiver<Head> {
        self.head.subscribe()
    }

    /// The head.
    pub(crate) fn head(&self) -> Head {
        *self.head.borrow()
    }

    /// Learns of a head; an older one of the same timeline is no news.
    pub(crate) fn learn(&self, found: Head) {
        self.head.send_if_modified(|head| {
            let is_news = found.timeline != head.timeline || found.position > head.position;
            if is_news {
                *head = found;
            }
            is_news
        });
    }

    /// Keeps a commit of this process and wakes the readers.
    pub(crate) fn publish(&self, at: Head, slots: Vec<SlotEvents>) {
        {
            let mut kept = self.kept.lock();
            let last = kept.commits.back().map(|c| c.position);
            // Another process committed in between: what is kept no longer joins on.
            if kept.timeline != at.timeline || last.is_some_and(|l| l + 1 != at.position) {
                *kept = Kept { timeline: at.timeline, ..Kept::default() };
            }
            kept.bytes += size(&slots);
            kept.commits.push_back(Commit { position: at.position, slots });
            while kept.bytes > TAIL_BYTES_MAX || kept.commits.len() > TAIL_COMMITS_MAX {
                let Some(oldest) = kept.commits.pop_front() else { break };
                kept.bytes -= size(&oldest.slots);
            }
        }
        self.learn(at);
    }

    /// The events of one namespace and partition from commit `from` on, of at most `commits_max`
    /// commits, and the last commit looked at; `None` if what is kept does not join on to `from`.
    pub(crate) fn read(
        &self,
        timeline: u64,
        slot: LogSlot,
        from: u64,
        commits_max: usize,
    ) -> Option<(Vec<CommitEvents>, u64)> {
        let kept = self.kept.lock();
        let first = kept.commits.front()?.position;
        let joins_on = (first..=first + kept.commits.len() as u64).contains(&from);
        if kept.timeline != timeline || !joins_on {
            return None;
        }
        let mut through = from.checked_sub(1)?;
        let mut found = Vec::new();
        let skipped = usize::try_from(from - first).ok()?;
        for commit in kept.commits.iter().skip(skipped) {
            if found.len() == commits_max {
                break;
            }
            through = commit.position;
            let events = commit.slots.iter().find(|(s, _)| *s == slot);
            found.extend(events.map(|(_, bytes)| (commit.position, Arc::clone(bytes))));
        }
        Some((found, through))
    }
}

fn size(slots: &[SlotEvents]) -> usize {
    slots.iter().map(|(_, bytes)| bytes.len()).sum()
}
