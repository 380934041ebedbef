//! Which partition of the target an event goes to, and the records that are being filled.
//!
//! The source's feeds of one history become as many lanes as the target has partitions. A lane is one
//! sequence: what was taken first stands first in it, whichever of the source's partitions it came from.
//! A record holds events of one partition of the source, and says where that one goes on after them.

use std::collections::VecDeque;
use std::time::Duration;

use seen_dialect::seen_event::{ChangeHead, ChangeRecord, ChangeRecordError, ChangeSource};
use seen_filter::{
    CommitStamp, Domain, FeedBatch, FeedCursor, FeedEvent, GapScope, NamespaceId, Partition, Shard,
    Timeline, UserId,
};
use tokio::time::Instant;

use super::RelayError;
use crate::partitioner::Partitioner;

/// A lane that nothing was written to for so long is told its place again, so that neither the topic's
/// retention nor a long search back loses it.
const REFRESH: Duration = Duration::from_secs(60);
/// Most fences that have come through some of the source's partitions and not yet through all.
const FENCES_MAX: usize = 1_024;

/// A partition of the target, and the value to write there.
pub(super) type Outgoing = (u16, Vec<u8>);

/// One history of the source, on its way to all partitions of the target.
pub(super) struct Lanes {
    sources: Vec<Source>,
    lanes: Vec<Lane>,
    partitioner: Partitioner,
    /// Fences by writer, number and lane, and which of the source's partitions they came through.
    fences: VecDeque<((u64, u64, u16), Vec<usize>)>,
    quiet: Duration,
    full: Vec<Outgoing>,
}

/// One partition of the source.
struct Source {
    partition: Partition,
    /// What is to be said before anything else.
    begins_with: Option<&'static str>,
    resume: Option<FeedCursor>,
    complete: Option<CommitStamp>,
    /// What numbered the first commit that it told of.
    first: Option<(Domain, Timeline)>,
}

/// One partition of the target.
struct Lane {
    record: ChangeRecord,
    /// The partition of the source that the record's events come from.
    source: usize,
    /// By partition of the source: where it goes on, as the newest record says, and since when.
    written: Vec<(Option<FeedCursor>, Instant)>,
    /// The newest commit that was said to be complete.
    told: Option<CommitStamp>,
}

/// What makes [`Lanes`].
pub(super) struct LanesOptions<'a> {
    pub name: &'a str,
    pub shard: Shard,
    /// The source's partitions, and what each begins with.
    pub sources: Vec<(Partition, Option<&'static str>)>,
    pub partitions: u16,
    pub partitioner: Partitioner,
    /// Within this time a lane is told how far the source has come.
    pub quiet: Duration,
}

impl Lanes {
    pub fn new(options: LanesOptions<'_>, now: Instant) -> Result<Self, ChangeRecordError> {
        let count = options.sources.len();
        let lane = |partition| {
            let head = ChangeHead {
                namespace: options.name,
                shard: options.shard,
                partition: Partition::new(partition),
                partitions: options.partitions.into(),
            };
            let record = ChangeRecord::new(&head)?;
            Ok(Lane { record, source: 0, written: vec![(None, now); count], told: None })
        };
        let lanes = (0..options.partitions).map(lane).collect::<Result<_, _>>()?;
        let source = |(partition, begins_with)| Source {
            partition,
            begins_with,
            resume: None,
            complete: None,
            first: None,
        };
        Ok(Self {
            sources: options.sources.into_iter().map(source).collect(),
            lanes,
            partitioner: options.partitioner,
            fences: VecDeque::new(),
            quiet: options.quiet,
            full: Vec::new(),
        })
    }

    /// Takes over what one partition of the source told. Only [`Self::flush`] gives back.
    pub fn take(
        &mut self,
        at: usize,
        batch: &FeedBatch,
        history: NamespaceId,
    ) -> Result<(), RelayError> {
        let Some(source) = self.sources.get_mut(at) else { return Ok(()) };
        // Of a batch that is not yet taken whole: all of it comes again. The first batch is of one event,
        // so that no record is full before its place is known.
        let before = source.resume.unwrap_or(batch.resume);
        if let Some(reason) = source.begins_with.take() {
            self.put_all(at, FeedEvent::Gap { scope: GapScope::Partition, reason }, before);
        }
        for event in &batch.events {
            self.check_numbering(at, event, history)?;
            match *event {
                FeedEvent::Add { user, .. }
                | FeedEvent::Remove { user, .. }
                | FeedEvent::RemoveAll { user, .. }
                | FeedEvent::Forgotten { user, .. }
                | FeedEvent::Gap { scope: GapScope::User(user), .. } => {
                    self.put(self.lane_of(user), at, event, before);
                }
                FeedEvent::Fence { user, writer, seq, .. } => {
                    let lane = self.lane_of(user);
                    if self.fence_came((writer.get(), seq.get(), lane), at) {
                        self.put(lane, at, event, before);
                    }
                }
                FeedEvent::Gap { scope: GapScope::Partition, .. } => {
                    self.put_all(at, *event, before)
                }
                FeedEvent::Complete { stamp } => self.completed(at, stamp),
            }
        }
        if let Some(source) = self.sources.get_mut(at) {
            source.resume = Some(batch.resume);
        }
        Ok(())
    }

    fn lane_of(&self, user: UserId) -> u16 {
        let lanes = u16::try_from(self.lanes.len()).unwrap_or(u16::MAX);
        self.partitioner.partition(user, lanes).unwrap_or(0)
    }

    fn put_all(&mut self, at: usize, event: FeedEvent, before: FeedCursor) {
        for lane in 0..self.lanes.len() {
            self.put(u16::try_from(lane).unwrap_or(u16::MAX), at, &event, before);
        }
    }

    /// Appends an event to a lane. `before` is where the event's partition of the source goes on while
    /// its batch is not taken whole.
    fn put(&mut self, lane: u16, at: usize, event: &FeedEvent, before: FeedCursor) {
        let number = usize::from(lane);
        if self.lanes.get(number).is_some_and(|lane| lane.source != at) {
            // The other one stands between two batches.
            self.finish(number, None);
        }
        let Some(one) = self.lanes.get_mut(number) else { return };
        one.source = at;
        if !one.record.push(event, None) {
            self.finish(number, Some(before));
            if let Some(one) = self.lanes.get_mut(number) {
                let fits = one.record.push(event, None);
                debug_assert!(fits, "an empty record takes any event");
            }
        }
    }

    /// Ends a lane's record, if there is anything in it.
    fn finish(&mut self, lane: usize, resume: Option<FeedCursor>) {
        let Some(one) = self.lanes.get_mut(lane) else { return };
        let Some(source) = self.sources.get(one.source) else { return };
        let Some(resume) = resume.or(source.resume) else { return };
        if one.record.is_empty() {
            return;
        }
        let value = one.record.finish(ChangeSource { partition: source.partition, resume });
        if let Some(written) = one.written.get_mut(one.source) {
            written.0 = Some(resume);
        }
        self.full.push((u16::try_from(lane).unwrap_or(u16::MAX), value));
    }

    /// Whoever follows a lane puts it in doubt each time that its numbering changes, so that partitions
    /// which are numbered apart cannot be joined in one.
    fn check_numbering(
        &mut self,
        at: usize,
        event: &FeedEvent,
        history: NamespaceId,
    ) -> Result<(), RelayError> {
        let Some(stamp) = event.stamp() else { return Ok(()) };
        let numbering = (stamp.domain, stamp.timeline);
        let Some(source) = self.sources.get_mut(at) else { return Ok(()) };
        if source.first.is_some() {
            return Ok(());
        }
        source.first = Some(numbering);
        let mut others = self.sources.iter().filter_map(|source| source.first);
        match others.all(|other| other == numbering) {
            true => Ok(()),
            false => Err(RelayError::NumberedApart { history }),
        }
    }

    /// True if a fence has now come through all partitions of the source: the rows of a lane's users do
    /// so, and what has come through one of them says nothing about the others.
    fn fence_came(&mut self, fence: (u64, u64, u16), at: usize) -> bool {
        if self.sources.len() <= 1 {
            return true;
        }
        let place = match self.fences.iter().position(|(known, _)| *known == fence) {
            Some(place) => place,
            None => {
                if self.fences.len() == FENCES_MAX {
                    self.fences.pop_front();
                }
                self.fences.push_back((fence, Vec::new()));
                self.fences.len() - 1
            }
        };
        let Some((_, through)) = self.fences.get_mut(place) else { return false };
        if !through.contains(&at) {
            through.push(at);
        }
        let has_come = through.len() == self.sources.len();
        if has_come {
            self.fences.remove(place);
        }
        has_come
    }

    fn completed(&mut self, at: usize, stamp: CommitStamp) {
        if let Some(source) = self.sources.get_mut(at)
            && source.complete.is_none_or(|known| !known.covers(stamp))
        {
            source.complete = Some(stamp);
        }
    }

    /// What is complete in all partitions of the source: the least of what is in each.
    fn complete(&self) -> Option<CommitStamp> {
        let mut least: Option<CommitStamp> = None;
        for source in &self.sources {
            let own = source.complete?;
            least = match least {
                Some(known) if own.covers(known) => Some(known),
                Some(known) if !known.covers(own) => return None,
                _ => Some(own),
            };
        }
        least
    }

    /// True if events wait for [`Self::flush`].
    pub fn has_events(&self) -> bool {
        !self.full.is_empty() || self.lanes.iter().any(|lane| !lane.record.is_empty())
    }

    /// Bytes of the records that are full.
    pub fn full_bytes(&self) -> usize {
        self.full.iter().map(|(_, value)| value.len()).sum()
    }

    /// Appends every record to `out`, in each lane's order; and tells the lanes that stood still how far
    /// the source has come: those that were told long ago, or `all` of them.
    pub fn flush(&mut self, now: Instant, all: bool, out: &mut Vec<Outgoing>) {
        let complete = self.complete();
        for lane in 0..self.lanes.len() {
            if self.lanes.get(lane).is_some_and(|lane| !lane.record.is_empty()) {
                self.say_complete(lane, complete);
                self.finish(lane, None);
                if let Some(one) = self.lanes.get_mut(lane) {
                    let at = one.source;
                    one.written.get_mut(at).into_iter().for_each(|written| written.1 = now);
                }
            }
            for at in 0..self.sources.len() {
                self.say_place(lane, at, now, all);
            }
        }
        out.append(&mut self.full);
    }

    fn say_complete(&mut self, lane: usize, complete: Option<CommitStamp>) {
        let Some(one) = self.lanes.get_mut(lane) else { return };
        let Some(stamp) = complete.filter(|_| one.told != complete) else { return };
        let event = FeedEvent::Complete { stamp };
        if !one.record.push(&event, None) {
            self.finish(lane, None);
            if let Some(one) = self.lanes.get_mut(lane) {
                let fits = one.record.push(&event, None);
                debug_assert!(fits, "an empty record takes any event");
            }
        }
        if let Some(one) = self.lanes.get_mut(lane) {
            one.told = complete;
        }
    }

    fn say_place(&mut self, lane: usize, at: usize, now: Instant, all: bool) {
        let complete = self.complete();
        let Some(source) = self.sources.get(at) else { return };
        let (Some(resume), partition) = (source.resume, source.partition) else { return };
        let Some(one) = self.lanes.get_mut(lane) else { return };
        let Some((written, since)) = one.written.get(at).copied() else { return };
        let is_behind = written != Some(resume) || one.told != complete;
        let waited = now.duration_since(since);
        if !(is_behind && (all || waited >= self.quiet) || waited >= REFRESH) {
            return;
        }
        one.source = at;
        self.say_complete(lane, complete);
        let Some(one) = self.lanes.get_mut(lane) else { return };
        let value = one.record.finish(ChangeSource { partition, resume });
        one.written.get_mut(at).into_iter().for_each(|written| *written = (Some(resume), now));
        self.full.push((u16::try_from(lane).unwrap_or(u16::MAX), value));
    }
}

#[cfg(test)]
mod tests;
