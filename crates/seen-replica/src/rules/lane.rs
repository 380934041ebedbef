//! What a replica knows about one feed partition: how far it is applied, what is complete, the ring,
//! the journal, and the fences. `cover` lives here and not in the entries.

use std::collections::{BTreeMap, VecDeque};

use seen_filter::{CommitStamp, FeedId, FenceSeq, Incarnation, ScopeEpoch, Tick, UserId};

use super::input::{Claim, Settings};
use super::journal::{Journal, Suspicion};
use super::ring::Ring;
use super::sync::{AtomicBool, AtomicU16, AtomicU64, Mutex, Ordering};

/// Most writers of which a partition remembers presented or covered claims. With one more, one is forgotten: its claims are
/// not covered then, which is safe.
pub const CLAIM_WRITERS_MAX: usize = 4_096;
/// Most own fences that are remembered as committed, and as come back.
const FENCES_REMEMBERED_MAX: usize = 64;
/// A fence not back after this time is followed by another, in microseconds.
const FENCE_LATE_AFTER_US: u64 = 5_000_000;

/// A writer, and whether the claim is a wildcard of its making: the two never stand for each other.
type Writer = (Incarnation, bool);

/// Highest sequence number by writer.
#[derive(Debug, Default)]
struct Claims(BTreeMap<Writer, u64>);

impl Claims {
    fn note(&mut self, writer: Writer, seq: u64) {
        if let Some(known) = self.0.get_mut(&writer) {
            *known = (*known).max(seq);
        } else {
            if self.0.len() >= CLAIM_WRITERS_MAX {
                // Lives of processes end, and new ones begin: one must go. What is forgotten is asked in storage.
                self.0.pop_first();
            }
            self.0.insert(writer, seq);
        }
    }

    fn covers(&self, writer: Writer, seq: u64) -> bool {
        self.0.get(&writer).is_some_and(|known| *known >= seq)
    }
}

#[derive(Debug)]
struct Outstanding {
    seq: FenceSeq,
    began: Tick,
    /// What was presented before the fence's write began; later claims wait for the next one.
    presented: Claims,
    /// Own acknowledgements of lower numbers were made before the write began.
    acknowledged_before: u64,
    /// Where no fence is written: it has come back once this commit is complete.
    stands_at: Option<CommitStamp>,
    /// It was not written, as far as is known.
    failed: bool,
}

/// The fences of one partition (rule R9).
#[derive(Debug, Default)]
pub(super) struct Fences {
    last_seq: u64,
    began: Option<Tick>,
    /// In their order. One that is late is followed by another, and may still come back.
    outstanding: VecDeque<Outstanding>,
    presented: Claims,
    covered: Claims,
    /// Own fences that are committed and have not come back.
    written: Vec<u64>,
    /// The newest own fences that came back, lest one is committed that came already.
    came: VecDeque<u64>,
}

impl Fences {
    /// Instead of a fence that is written: storage's newest commit, asked for after the fence was begun.
    pub fn stands(&mut self, seq: FenceSeq, at: CommitStamp) {
        if let Some(fence) = self.outstanding.iter_mut().find(|fence| fence.seq == seq) {
            fence.stands_at = Some(at);
        }
    }

    /// A fence was not written, as far as is known. It is kept: if it was, it comes back.
    pub fn failed(&mut self, seq: FenceSeq) {
        if let Some(fence) = self.outstanding.iter_mut().find(|fence| fence.seq == seq) {
            fence.failed = true;
        }
    }

    /// The fence that stands for a commit, if this is complete.
    pub fn passed(&self, cover: Option<CommitStamp>) -> Option<FenceSeq> {
        let cover = cover?;
        let passed = |fence: &&Outstanding| fence.stands_at.is_some_and(|at| cover.covers(at));
        self.outstanding.iter().rev().find(passed).map(|fence| fence.seq)
    }

    /// Sabotage of R9: the fence that stands for a commit, complete or not.
    pub fn passed_too_soon(&self) -> Option<FenceSeq> {
        let standing = |fence: &&Outstanding| fence.stands_at.is_some();
        self.outstanding.iter().rev().find(standing).map(|fence| fence.seq)
    }

    /// An own fence is committed: it will come back, before any later one.
    pub fn written(&mut self, seq: FenceSeq) {
        if !self.came.contains(&seq.get()) && self.written.len() < FENCES_REMEMBERED_MAX {
            self.written.push(seq.get());
        }
    }

    /// An own fence came by. True if an earlier one that was committed has not: what came between them
    /// was lost on the way (rule R8).
    pub fn came(&mut self, seq: FenceSeq) -> bool {
        let is_passed = self.written.iter().any(|written| *written < seq.get());
        self.written.retain(|written| *written > seq.get());
        if self.came.contains(&seq.get()) {
            // It came before: whatever was missing was found out then.
            return false;
        }
        if self.came.len() == FENCES_REMEMBERED_MAX {
            self.came.pop_front();
        }
        self.came.push_back(seq.get());
        is_passed
    }

    /// The feed begins anew: what was written before may lie before its beginning.
    pub fn begin_anew(&mut self) {
        self.written.clear();
    }

    /// Notes a claim that is not covered yet.
    pub fn present(&mut self, claim: &Claim) {
        self.presented.note((claim.writer, claim.wildcard), claim.seq);
    }

    pub fn covers(&self, claim: &Claim) -> bool {
        self.covered.covers((claim.writer, claim.wildcard), claim.seq)
    }

    /// True if something waits that only a fence releases.
    pub fn wanted(&self) -> bool {
        !self.presented.0.is_empty()
    }

    /// Begins a fence if one may be written now.
    pub fn begin(
        &mut self,
        now: Tick,
        next_own_seq: u64,
        interval_us_min: u64,
    ) -> Option<FenceSeq> {
        let waited = self.began.map_or(u64::MAX, |began| now.since_us(began));
        let is_on_its_way = self.outstanding.back().is_some_and(|fence| !fence.failed);
        let wait = match is_on_its_way {
            true => FENCE_LATE_AFTER_US.max(interval_us_min),
            false => interval_us_min,
        };
        if waited < wait {
            return None;
        }
        let mut presented = std::mem::take(&mut self.presented);
        if self.outstanding.len() == FENCES_REMEMBERED_MAX
            && let Some(lost) = self.outstanding.pop_front()
        {
            lost.presented.0.into_iter().for_each(|(writer, seq)| presented.note(writer, seq));
        }
        self.last_seq += 1;
        self.began = Some(now);
        let seq = FenceSeq::new(self.last_seq);
        let acknowledged_before = next_own_seq;
        let (began, stands_at) = (now, None);
        let fence =
            Outstanding { seq, began, presented, acknowledged_before, stands_at, failed: false };
        self.outstanding.push_back(fence);
        Some(seq)
    }

    /// An own fence came back. Returns the sequence number below which own acknowledgements are
    /// proven to have come back, and when its write was begun; `None` if it is not waited for.
    pub fn returned(&mut self, seq: FenceSeq) -> Option<(u64, Tick)> {
        let at = self.outstanding.iter().position(|fence| fence.seq == seq)?;
        let mut proven = None;
        // An earlier one proves less than this one does.
        for fence in self.outstanding.drain(..=at) {
            fence.presented.0.into_iter().for_each(|(writer, seq)| self.covered.note(writer, seq));
            proven = Some((fence.acknowledged_before, fence.began));
        }
        proven
    }

    /// Sabotage of R9: everything presented until now counts, not only what came before the write.
    pub fn returned_too_generously(&mut self) {
        let presented = std::mem::take(&mut self.presented);
        presented.0.into_iter().for_each(|(writer, seq)| self.covered.note(writer, seq));
    }
}

/// What changes under the lane's lock.
#[derive(Debug)]
pub(super) struct LaneState {
    /// The highest position applied (rule R6); `None` until the feed has said where it begins.
    pub applied: Option<CommitStamp>,
    /// What is complete.
    pub cover: Option<CommitStamp>,
    pub epoch: ScopeEpoch,
    /// Since when no doubt was raised (rule R8).
    pub whole_since: Tick,
    /// The first commit delivered since: what was lost lies before it, or is a part of it. `None`
    /// while nothing was delivered since, or an own write was dropped that no position bounds.
    pub whole_from: Option<CommitStamp>,
    /// An own write below this number was dropped unproven, and has not been proven since.
    pub dropped_below: Option<u64>,
    /// Something was lost before it came into the feed: that somebody has read further does not prove that it was there to be
    /// read. Only time does, for as long as this process lives.
    pub lost_upstream: bool,
    /// Users of whom an event was lost, and when that was found.
    pub user_gaps: BTreeMap<UserId, Tick>,
    pub ring: Ring,
    pub journal: Journal,
    pub fences: Fences,
    /// The feed is delivering again what was applied before; nothing is given away meanwhile (R3).
    pub replaying: bool,
}

impl LaneState {
    /// Raises the epoch and forgets the ring (rule R8). The caller publishes the epoch.
    pub fn doubt(&mut self, now: Tick) {
        self.epoch = ScopeEpoch::new(self.epoch.get().wrapping_add(1));
        self.whole_since = now;
        self.whole_from = None;
        // What was lost lies above everything applied: the ring reaches nowhere until it holds events.
        self.ring.reset(now);
        self.journal.suspect_all(Suspicion { stamp: None, at: now });
        self.fences.begin_anew();
    }

    /// Releases some of the journal rows that are proven (rule R9); see [`Journal::release`].
    pub fn release(&mut self, suspects: &mut Vec<UserId>) -> bool {
        self.journal.release(self.cover, suspects)
    }

    /// True if something is held that only a fence releases.
    pub fn waits_for_fence(&self) -> bool {
        self.dropped_below.is_some() || self.journal.waits_for_fence(self.cover)
    }

    /// Rule R5 for one claim, by what the partition as a whole covers.
    pub fn covers(&self, claim: &Claim) -> bool {
        let by_stamp = match (self.cover, claim.stamp) {
            (Some(cover), Some(stamp)) => !claim.wildcard && cover.covers(stamp),
            _ => false,
        };
        by_stamp || self.fences.covers(claim)
    }
}

/// One feed partition. The atomics are what the hot path reads without the lock.
#[derive(Debug)]
pub(super) struct Lane {
    pub feed: FeedId,
    epoch: AtomicU16,
    fresh_at: AtomicU64,
    following: AtomicBool,
    /// False while none of its users is kept here, so that nobody reads it.
    wanted: AtomicBool,
    /// Before this nobody could have been told how fresh it is; 0 = it is asked for from the start.
    wanted_at: AtomicU64,
    journal_floor: AtomicU64,
    pub state: Mutex<LaneState>,
}

impl Lane {
    pub fn new(feed: FeedId, settings: &Settings, seed: u64, now: Tick) -> Self {
        let state = LaneState {
            applied: None,
            cover: None,
            epoch: ScopeEpoch::new(0),
            whole_since: now,
            whole_from: None,
            dropped_below: None,
            lost_upstream: false,
            user_gaps: BTreeMap::new(),
            ring: Ring::new(settings.ring_bytes_max, seed, now),
            journal: Journal::new(settings.journal_bytes_max, seed),
            fences: Fences::default(),
            replaying: false,
        };
        Self {
            feed,
            epoch: AtomicU16::new(0),
            fresh_at: AtomicU64::new(0),
            following: AtomicBool::new(false),
            wanted: AtomicBool::new(true),
            wanted_at: AtomicU64::new(0),
            journal_floor: AtomicU64::new(0),
            state: Mutex::new(state),
        }
    }

    pub fn epoch(&self) -> ScopeEpoch {
        ScopeEpoch::new(self.epoch.load(Ordering::Acquire))
    }

    /// Makes the locked state's epoch visible to readers. Call before the lock is released.
    pub fn publish(&self, state: &LaneState) {
        self.epoch.store(state.epoch.get(), Ordering::Release);
        self.journal_floor.store(state.journal.kept_from(), Ordering::Release);
    }

    /// True if the own write of this number is still held or proven (rule R5).
    pub fn keeps_own(&self, seq: u64) -> bool {
        seq >= self.journal_floor.load(Ordering::Acquire)
    }

    /// True once the feed has said where it begins: only then may users be cached (rule R7).
    pub fn following(&self) -> bool {
        self.following.load(Ordering::Acquire)
    }

    pub fn set_following(&self) {
        self.following.store(true, Ordering::Release);
    }

    /// Nobody reads it any more. The next beginning is as the first one: nothing before it was delivered.
    pub fn unfollow(&self, state: &mut LaneState, now: Tick) {
        self.following.store(false, Ordering::Release);
        self.fresh_at.store(0, Ordering::Release);
        state.applied = None;
        state.cover = None;
        state.doubt(now);
        self.publish(state);
    }

    /// True if users of it may be kept here, so that it is to be read.
    pub fn wanted(&self) -> bool {
        self.wanted.load(Ordering::Acquire)
    }

    /// Says whether it is to be read. `since` is when that was first wanted, 0 if from the start on.
    pub fn set_wanted(&self, wanted: bool, since: Tick) {
        self.wanted_at.store(since.get(), Ordering::Relaxed);
        self.wanted.store(wanted, Ordering::Release);
    }

    /// How old the view of it is, in microseconds; `None` until it has said where it begins. One that is wanted since lately
    /// is given the time since then: its users are not the replica's own yet (coherence row 35).
    pub fn lag_us(&self, now: Tick) -> Option<u64> {
        let wanted_at = self.wanted_at.load(Ordering::Relaxed);
        if !self.following() && wanted_at == 0 {
            return None;
        }
        Some(now.since_us(self.fresh_at().max(Tick::new(wanted_at))))
    }

    /// When the feed last proved that nothing is outstanding.
    pub fn fresh_at(&self) -> Tick {
        Tick::new(self.fresh_at.load(Ordering::Acquire))
    }

    pub fn set_fresh(&self, now: Tick) {
        self.fresh_at.fetch_max(now.get(), Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writers_of_new_lives_are_noted_however_many_there_were() {
        let mut claims = Claims::default();
        for life in 0..CLAIM_WRITERS_MAX as u64 + 100 {
            let writer = (Incarnation::new(life), true);
            claims.note(writer, 7);
            assert!(claims.covers(writer, 7) && !claims.covers(writer, 8));
        }
        assert_eq!(claims.0.len(), CLAIM_WRITERS_MAX);
    }

    #[test]
    fn a_fence_that_came_is_not_waited_for_and_the_newest_are_remembered() {
        let (mut fences, seq) = (Fences::default(), FenceSeq::new);
        // It comes before its acknowledgement.
        assert!(!fences.came(seq(1)));
        fences.written(seq(1));
        assert!(!fences.came(seq(2)), "the first has come");
        assert!((3..200).all(|n| !fences.came(seq(n))));
        assert_eq!(fences.came.len(), FENCES_REMEMBERED_MAX);
        fences.written(seq(199));
        assert!(fences.written.is_empty());
        (200..400).for_each(|n| fences.written(seq(n)));
        assert_eq!(fences.written.len(), FENCES_REMEMBERED_MAX);
        assert!(fences.came(seq(250)), "the one of 200 has not");
    }

    #[test]
    fn a_fence_is_wanted_for_what_was_presented_since_the_last() {
        let mut fences = Fences::default();
        assert!(!fences.wanted());
        let writer = Incarnation::new(2);
        fences.present(&Claim {
            feed: FeedId::default(),
            writer,
            seq: 1,
            stamp: None,
            wildcard: false,
        });
        assert!(fences.wanted());
        assert!(fences.begin(Tick::new(9), 1, 1).is_some());
        assert!(!fences.wanted());
    }
}
