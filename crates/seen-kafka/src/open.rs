//! Opening readers: at the head, or where an earlier reader stopped.
//!
//! Where a topic ends a look says that begins after the reader was asked for. Kafka may be away for long,
//! and the topic's thread has others to attend to meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use seen_filter::{FeedCursor, FeedError, FeedEvent, FeedId, FeedStart, GapScope, Timeline};
use tokio::sync::oneshot;

use crate::look::{Blind, Look};
use crate::place::{self, Place};
use crate::queue::ReaderQueue;
use crate::reader::Reader;
use crate::topic::Topic;

/// A reader that is asked for.
pub(crate) struct Opening {
    pub feed: FeedId,
    pub start: FeedStart,
    pub asked: Instant,
    pub reply: oneshot::Sender<Result<Arc<ReaderQueue>, FeedError>>,
}

impl Topic {
    /// Remembers what is asked for, until a look shows where the topic ends.
    pub(crate) fn wish(&mut self, opening: Opening) {
        self.openings.push(opening);
        self.looker.hurry();
    }

    /// Opens the readers that were asked for before this look began.
    pub(crate) fn open_by(&mut self, look: &Look) {
        for Opening { feed, start, reply, .. } in self.due(look.began) {
            // Whoever asked may have gone; then its queue is found abandoned.
            drop(reply.send(self.open(feed, start, look)));
        }
    }

    /// Nothing was seen: those who wait for it are told.
    pub(crate) fn refuse_by(&mut self, blind: &Blind) {
        for Opening { feed, reply, .. } in self.due(blind.began) {
            drop(reply.send(Err(unseen(feed, &blind.why))));
        }
    }

    fn due(&mut self, began: Instant) -> Vec<Opening> {
        self.openings.extract_if(.., |opening| opening.asked <= began).collect()
    }

    fn open(
        &mut self,
        feed: FeedId,
        start: FeedStart,
        look: &Look,
    ) -> Result<Arc<ReaderQueue>, FeedError> {
        let sources = self.shape.sources(feed.partition.get());
        let is_wide = self.shape.is_wide();
        let mut all = BTreeMap::new();
        for partition in sources.clone() {
            let ends = look.ends.get(usize::from(partition)).copied().flatten();
            let why = "nobody leads a partition now, or it is missing";
            all.insert(partition, ends.ok_or_else(|| unseen(feed, why))?);
        }
        let timeline = if is_wide { self.wide_timeline() } else { self.timeline(sources.start) };
        let (mut next, mut skip, mut gap) = (BTreeMap::new(), None, None);
        let mut witness = None;
        for (partition, ends) in &all {
            let begin = begin(start, timeline, is_wide, *ends);
            next.insert(*partition, begin.offset);
            (skip, gap, witness) = (begin.skip, gap.or(begin.gap), begin.witness);
        }
        let mut is_at_end = true;
        for (partition, offset) in &next {
            let at = usize::from(*partition);
            // The record before it is read once more, to be compared.
            let offset = &witness.map_or(*offset, |(record, _)| record);
            let assigned = self.parts.get(at).and_then(|part| part.next);
            // One that is read further on is read again from here; others leave out what they have had.
            if assigned.is_none_or(|at| at > *offset) {
                let failed = |error: rdkafka::error::KafkaError| unseen(feed, &error.to_string());
                self.assign(at, *offset).map_err(failed)?;
            }
            let high = all.get(partition).map_or(u64::MAX, |(_, high)| *high);
            is_at_end &= self.ends_at(at, *offset, high);
        }
        let queue = ReaderQueue::new(feed, FeedCursor::default(), self.options.queue_events_max);
        let mut reader = Reader::new(Arc::clone(&queue), timeline, next, skip, is_wide);
        reader.follows(witness);
        if let Some(reason) = gap {
            reader.say(FeedEvent::Gap { scope: GapScope::Partition, reason });
        }
        reader.open_at(matches!(start, FeedStart::Head) || gap.is_some());
        queue.set_at_end(is_at_end);
        self.readers.push(reader);
        Ok(queue)
    }

    /// A record comes by. Readers that begin where an earlier one has stopped are told if it shows that the
    /// log is not the one which that one has read.
    pub(crate) fn compare_with_places(&mut self, partition: u16, offset: u64) {
        let epoch = self.parts.get(usize::from(partition)).and_then(|part| part.epoch);
        for reader in &mut self.readers {
            if reader.is_of_another_log(partition, offset, epoch) {
                let (feed, reason) = (reader.feed, "log_truncated");
                tracing::error!(%feed, offset, reason, "change events are lost: what was read is not there");
                reader.say(FeedEvent::Gap { scope: GapScope::Partition, reason });
                reader.say_place();
            }
        }
    }
}

fn unseen(feed: FeedId, why: &str) -> FeedError {
    FeedError {
        message: format!("{feed}: kafka cannot be asked for its topic's ends: {why}"),
        retry_helps: true,
    }
}

/// Where a reader begins in a partition.
struct Begin {
    offset: u64,
    /// The first record, and how much of what it says it has had.
    skip: Option<(u64, u64)>,
    /// The record before it, and in which epoch that was written.
    witness: Option<(u64, u32)>,
    gap: Option<&'static str>,
}

fn begin(start: FeedStart, timeline: Timeline, is_wide: bool, (low, high): (u64, u64)) -> Begin {
    let at = |offset, gap| Begin { offset, skip: None, witness: None, gap };
    let at_head = |gap| at(high, gap);
    let FeedStart::At(cursor) = start else { return at_head(None) };
    let Place { offset, events: skip, epoch } = place::place_of(cursor);
    match () {
        () if is_wide => at_head(Some("several_partitions")),
        () if cursor.timeline != timeline => at_head(Some("timeline_changed")),
        () if offset > high => at_head(Some("beyond_head")),
        () if offset < low => at(low, Some("retention")),
        () => {
            let skip = (skip > 0).then_some((offset, skip));
            let before = offset.checked_sub(1).filter(|before| *before >= low);
            Begin { skip, witness: before.zip(epoch), ..at(offset, None) }
        }
    }
}
