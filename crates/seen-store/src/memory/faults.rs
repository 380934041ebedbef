//! What may go wrong with the double, one call at a time or by chance.

use std::time::Duration;

use seen_filter::StoreErrorKind;

/// What happens to reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadFault {
    /// They fail with this kind.
    Refuse(StoreErrorKind),
    /// They are not answered until the fault is lifted, and then as usual.
    Silent,
    /// They see the state of this many commits ago, and say so.
    Old {
        /// How many commits are missing, as far as there are any.
        commits: u64,
    },
    /// They see the state of this many commits ago, and do not know which commit that was.
    OldUnknown {
        /// How many commits are missing, as far as there are any.
        commits: u64,
    },
    /// They see everything, and do not know which commit that is.
    Unknown,
}

/// What happens to writes, forgets and fences.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WriteFault {
    /// They fail with this kind and are not committed.
    Refuse(StoreErrorKind),
    /// They are not begun until the fault is lifted, and then done as usual.
    Silent,
    /// They are committed, and the answer is `OutcomeUnknown`.
    LoseCommitted,
    /// They are not committed, and the answer is `OutcomeUnknown`.
    LoseUncommitted,
    /// The answer is `OutcomeUnknown`, and they are committed when
    /// [`MemoryStore::land_stalled`](super::MemoryStore::land_stalled) is called.
    Stall,
}

/// What happens to a reader of the feed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FeedFault {
    /// Its calls fail; a retry helps once the fault is lifted.
    Refuse,
    /// Its calls are not answered, not even by heartbeats, until the fault is lifted.
    Silent,
}

/// How long calls take. All of it passes on the caller's (paused) clock.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delays {
    /// Before a read sees its snapshot.
    pub before_read: Duration,
    /// Between a read's snapshot and its answer.
    pub after_read: Duration,
    /// Before a write is committed.
    pub before_commit: Duration,
    /// Between a commit and its acknowledgement; its events are delivered meanwhile.
    pub after_commit: Duration,
}

/// Faults by chance, each in so many of a thousand calls. Drawn from the store's own seed: the same
/// calls in the same order meet the same faults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chaos {
    /// Reads that are refused.
    pub read_refuse_per_mille: u16,
    /// Reads that miss one to eight commits and say so.
    pub read_old_per_mille: u16,
    /// Reads that miss one to eight commits and do not know it.
    pub read_old_unknown_per_mille: u16,
    /// Writes that are refused.
    pub write_refuse_per_mille: u16,
    /// Writes that are committed and whose outcome is lost.
    pub write_lose_committed_per_mille: u16,
    /// Writes that are not committed and whose outcome is lost.
    pub write_lose_uncommitted_per_mille: u16,
    /// Batches of the feed before which up to eight commits are delivered again.
    pub feed_replay_per_mille: u16,
    /// Batches of the feed before which one commit is lost, and a gap says so.
    pub feed_gap_per_mille: u16,
}

/// A fault for a number of calls.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Planned<T> {
    what: T,
    /// How many more calls it befalls; `None`: until it is lifted.
    calls: Option<u32>,
}

impl<T: Copy> Planned<T> {
    pub(crate) fn new(what: T, calls: Option<u32>) -> Self {
        Self { what, calls }
    }

    /// The fault of the next call, counted down.
    pub(crate) fn next(planned: &mut Option<Self>) -> Option<T> {
        let fault = planned.as_mut()?;
        match &mut fault.calls {
            None => Some(fault.what),
            Some(0) => None,
            Some(calls) => {
                *calls -= 1;
                Some(fault.what)
            }
        }
    }

    /// The fault, without counting.
    pub(crate) fn peek(planned: &Option<Self>) -> Option<T> {
        planned.as_ref().filter(|p| p.calls != Some(0)).map(|p| p.what)
    }
}

/// A small seeded generator (splitmix64, public domain, S. Vigna); only faults are drawn from it.
#[derive(Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn draw(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn in_mille(&mut self, per_mille: u16) -> bool {
        per_mille > 0 && self.draw() % 1_000 < per_mille.into()
    }

    /// One of the faults by their chances, at most one.
    pub(crate) fn read_fault(&mut self, chaos: &Chaos) -> Option<ReadFault> {
        let commits = 1 + self.draw() % 8;
        if self.in_mille(chaos.read_refuse_per_mille) {
            Some(ReadFault::Refuse(StoreErrorKind::Unavailable))
        } else if self.in_mille(chaos.read_old_per_mille) {
            Some(ReadFault::Old { commits })
        } else if self.in_mille(chaos.read_old_unknown_per_mille) {
            Some(ReadFault::OldUnknown { commits })
        } else {
            None
        }
    }

    /// One of the faults by their chances, at most one.
    pub(crate) fn write_fault(&mut self, chaos: &Chaos) -> Option<WriteFault> {
        if self.in_mille(chaos.write_refuse_per_mille) {
            Some(WriteFault::Refuse(StoreErrorKind::Unavailable))
        } else if self.in_mille(chaos.write_lose_committed_per_mille) {
            Some(WriteFault::LoseCommitted)
        } else if self.in_mille(chaos.write_lose_uncommitted_per_mille) {
            Some(WriteFault::LoseUncommitted)
        } else {
            None
        }
    }
}
