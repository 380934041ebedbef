//! What was written before: the newest record of each partition of the source in each partition of the
//! target says where to go on.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};
use seen_dialect::seen_event::ReadRecord;
use seen_filter::{FeedCursor, FeedStart, Shard};

use super::RelayError;
use super::target::Tried;
use crate::context::TopicConsumer;

/// Records that are looked at first; then eight times as many, and so on.
const STEP_RECORDS: u64 = 256;
/// Most records that are looked at in one partition.
const RECORDS_MAX: u64 = 1 << 20;

/// A partition of the source: its history's name, and its number.
pub(super) type SourceName = (String, u16);

/// The newest record of one partition of the source in one partition of the target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Written {
    pub resume: FeedCursor,
    /// When it was written, by Kafka's clock.
    pub at_ms: i64,
}

/// By partition of the source, what each partition of the target ends with.
pub(super) type Tail = BTreeMap<SourceName, Vec<Option<Written>>>;

/// Where to begin in one partition of the source, and with which doubt.
pub(super) fn begin(written: &[Option<Written>]) -> (FeedStart, Option<&'static str>) {
    let known: Vec<Written> = written.iter().copied().flatten().collect();
    let Some(newest) = known.iter().max_by_key(|one| one.at_ms).copied() else {
        return (FeedStart::Head, Some("relay_began"));
    };
    if known.len() < written.len() {
        // What the others lack cannot be told from what they hold.
        return (FeedStart::Head, Some("relay_place_lost"));
    }
    if known.iter().any(|one| one.resume.timeline != newest.resume.timeline) {
        // Numbers of two timelines say nothing of which was earlier.
        return (FeedStart::At(newest.resume), Some("relay_place_unsure"));
    }
    let least = known.iter().map(|one| one.resume.offset).min().unwrap_or(newest.resume.offset);
    (FeedStart::At(FeedCursor { offset: least, ..newest.resume }), None)
}

/// Looks for the places of these partitions of the source.
pub(super) struct Search<'a> {
    pub consumer: &'a TopicConsumer,
    pub topic: &'a str,
    pub shard: Shard,
    pub partitions: u16,
    pub wanted: &'a [SourceName],
    pub timeout: Duration,
}

impl Search<'_> {
    /// Looks once. Blocks.
    pub fn run(&self) -> Tried<Tail> {
        let count = usize::from(self.partitions);
        let mut tail: Tail =
            self.wanted.iter().map(|name| (name.clone(), vec![None; count])).collect();
        for partition in 0..self.partitions {
            let found = match self.partition(partition) {
                Ok(Ok(found)) => found,
                Ok(Err(refused)) => return Tried::Never(refused),
                Err(error) => return Tried::Later(error),
            };
            for (name, written) in found {
                let places = tail.get_mut(&name);
                if let Some(place) = places.and_then(|all| all.get_mut(usize::from(partition))) {
                    *place = Some(written);
                }
            }
        }
        Tried::Done(tail)
    }

    /// The newest records of one partition of the target, read backwards in growing steps.
    fn partition(
        &self,
        partition: u16,
    ) -> KafkaResult<Result<BTreeMap<SourceName, Written>, RelayError>> {
        let number = i32::from(partition);
        let (low, high) = self.consumer.fetch_watermarks(self.topic, number, self.timeout)?;
        let (low, high) = (low.max(0).cast_unsigned(), high.max(0).cast_unsigned());
        let mut found = BTreeMap::new();
        let (mut until, mut step) = (high, STEP_RECORDS);
        while until > low {
            let from = until.saturating_sub(step).max(low);
            match self.step(partition, from..until)? {
                Ok(newer) => {
                    for (name, written) in newer {
                        found.entry(name).or_insert(written);
                    }
                }
                Err(refused) => return Ok(Err(refused)),
            }
            if self.wanted.iter().all(|name| found.contains_key(name)) || high - from >= RECORDS_MAX
            {
                break;
            }
            (until, step) = (from, step * 8);
        }
        Ok(Ok(found))
    }

    fn step(
        &self,
        partition: u16,
        range: std::ops::Range<u64>,
    ) -> KafkaResult<Result<BTreeMap<SourceName, Written>, RelayError>> {
        let mut list = TopicPartitionList::new();
        let from = Offset::Offset(i64::try_from(range.start).unwrap_or(i64::MAX));
        list.add_partition_offset(self.topic, i32::from(partition), from)?;
        self.consumer.assign(&list)?;
        let mut found = BTreeMap::new();
        let mut quiet_since = Instant::now();
        loop {
            match self.consumer.poll(Duration::from_millis(100)) {
                None if quiet_since.elapsed() > self.timeout => {
                    return Err(KafkaError::NoMessageReceived);
                }
                None => {}
                // The end of one that was read before may be told late.
                Some(Err(KafkaError::PartitionEOF(ended))) if ended == i32::from(partition) => {
                    return Ok(Ok(found));
                }
                Some(Err(KafkaError::PartitionEOF(_))) => {}
                Some(Err(error)) => return Err(error),
                Some(Ok(message)) => {
                    quiet_since = Instant::now();
                    if message.offset() >= i64::try_from(range.end).unwrap_or(i64::MAX) {
                        return Ok(Ok(found));
                    }
                    match self.read(partition, &message) {
                        Ok((name, written)) => drop(found.insert(name, written)),
                        Err(refused) => return Ok(Err(refused)),
                    }
                }
            }
        }
    }

    fn read(
        &self,
        partition: u16,
        message: &BorrowedMessage<'_>,
    ) -> Result<(SourceName, Written), RelayError> {
        let foreign = |why: String| RelayError::Foreign {
            topic: self.topic.to_owned(),
            partition,
            offset: message.offset(),
            why,
        };
        let read = ReadRecord::read(message.payload().unwrap_or_default())
            .map_err(|error| foreign(format!("it is no record of a relay: {error}")))?;
        let head = &read.head;
        if head.partitions != u32::from(self.partitions) || head.partition.get() != partition {
            return Err(foreign(format!(
                "it was written as partition {} of {}, and this is {partition} of {}",
                head.partition, head.partitions, self.partitions
            )));
        }
        if head.shard != self.shard {
            return Err(foreign(format!(
                "it is of shard {}, and this one is {}",
                head.shard, self.shard
            )));
        }
        let at_ms = message.timestamp().to_millis().unwrap_or(0);
        let written = Written { resume: read.source.resume, at_ms };
        Ok(((head.namespace.to_owned(), read.source.partition.get()), written))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use seen_filter::Timeline;

    fn written(timeline: u64, offset: u64, at_ms: i64) -> Option<Written> {
        let resume = FeedCursor { timeline: Timeline::new(timeline), offset };
        Some(Written { resume, at_ms })
    }

    fn at(timeline: u64, offset: u64) -> FeedStart {
        FeedStart::At(FeedCursor { timeline: Timeline::new(timeline), offset })
    }

    #[test]
    fn reading_goes_on_at_the_least_place() {
        let all = [written(1, 7, 3), written(1, 5, 9), written(1, 6, 1)];
        assert_eq!(begin(&all), (at(1, 5), None));
    }

    #[test]
    fn what_is_not_known_is_in_doubt() {
        assert_eq!(begin(&[None, None]), (FeedStart::Head, Some("relay_began")));
        let lost = [written(1, 7, 3), None];
        assert_eq!(begin(&lost), (FeedStart::Head, Some("relay_place_lost")));
        let two = [written(1, 7, 3), written(2, 5, 4)];
        assert_eq!(begin(&two), (at(2, 5), Some("relay_place_unsure")));
    }
}
