//! One topic, read by one thread: every record is taken apart once, however many readers want it.
//!
//! Partitions are assigned by hand, from places that the readers name; there is no consumer group, and
//! nothing is committed (coherence rows 17, 18). Whatever may have been lost is a gap (rows 19, 20): a
//! place that is no longer kept, or beyond the end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::{Duration, Instant};

use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::{BorrowedMessage, Headers, Message};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, TopicPartitionList};
use seen_dialect::{Decoder, Dialect, Event, Record, What};
use seen_filter::{FeedCursor, FeedError, FeedEvent, FeedId, FeedStart, GapScope, Timeline};
use tokio::sync::oneshot;

use crate::context::TopicConsumer;
use crate::dead_letters::DeadLetters;
use crate::look::{self, Look, Looker};
use crate::metrics::TopicMetrics;
use crate::options::{KafkaOptions, TopicOptions};
use crate::own;
use crate::place::{self, OrderWatch};
use crate::queue::ReaderQueue;
use crate::reader::Reader;
use crate::route::Names;
use crate::shape::Shape;

/// Longest wait for a record, so that readers and looks are attended to.
const POLL: Duration = Duration::from_millis(20);

/// How long all partitions wait for a reader that has no room, before its own is paused.
const STALL: Duration = Duration::from_millis(200);

/// Something that a topic's thread is asked for.
pub(crate) enum Command {
    /// A reader for a feed.
    Open {
        feed: FeedId,
        start: FeedStart,
        reply: oneshot::Sender<Result<Arc<ReaderQueue>, FeedError>>,
    },
}

/// One partition.
#[derive(Debug, Default)]
pub(crate) struct Part {
    /// The next record that Kafka will give; `None` while it is not assigned.
    next: Option<u64>,
    /// When the newest record was read, or its place was asked for.
    read_at: Option<Instant>,
    /// Nothing followed when it was read last, as far as is known.
    at_end: bool,
    is_paused: bool,
    /// Kafka's client may have stopped reading it.
    is_stopped: bool,
    /// Not 0 once the topic was found to be another one of the same name.
    salt: u64,
    pub(crate) order: OrderWatch,
}

impl Part {
    /// True if everything before this record has been read, or nobody reads it.
    pub(crate) fn has_passed(&self, end: u64) -> bool {
        self.next.is_none_or(|next| next >= end)
    }

    /// True if nothing followed when it was read last. What ends a producer's transaction lies behind
    /// the newest record, and is none itself.
    pub(crate) fn is_at_end(&self) -> bool {
        self.at_end
    }
}

/// A topic, as its thread knows it.
pub(crate) struct Topic {
    pub(crate) options: Arc<KafkaOptions>,
    pub(crate) topic: TopicOptions,
    pub(crate) shape: Arc<Shape>,
    pub(crate) names: Names,
    consumer: Arc<TopicConsumer>,
    pub(crate) looker: Looker,
    decoder: Decoder,
    events: Vec<Event>,
    pub(crate) parts: Vec<Part>,
    pub(crate) readers: Vec<Reader>,
    pub(crate) metrics: TopicMetrics,
    dead_letters: Option<DeadLetters>,
    /// A row was in another partition than its user's.
    pub(crate) misled: bool,
}

impl Topic {
    pub fn new(
        options: Arc<KafkaOptions>,
        topic: TopicOptions,
        shape: Arc<Shape>,
        consumer: Arc<TopicConsumer>,
        looker: Looker,
        dead_letters: Option<DeadLetters>,
    ) -> Self {
        let tables = topic.tables.iter().map(|(_, table)| table.clone()).collect();
        let parts = (0..shape.partitions()).map(|_| Part::default()).collect();
        Self {
            names: Names::new(&topic, &options),
            metrics: TopicMetrics::new(&topic.topic),
            decoder: Decoder::new(tables, options.dialect),
            options,
            topic,
            shape,
            consumer,
            looker,
            events: Vec::new(),
            parts,
            readers: Vec::new(),
            dead_letters,
            misled: false,
        }
    }

    /// Reads until `closed` is set or nobody can ask for anything any more.
    pub fn run(mut self, commands: &Receiver<Command>, closed: &AtomicBool) {
        while !closed.load(Ordering::Acquire) {
            match commands.try_recv() {
                Ok(Command::Open { feed, start, reply }) => {
                    let opened = self.open(feed, start);
                    // Whoever asked may have gone; then its queue is found abandoned.
                    drop(reply.send(opened));
                }
                Err(TryRecvError::Empty) => {}
                Err(TryRecvError::Disconnected) => break,
            }
            self.attend();
            // The consumer is shared with the looker, and a message borrows it.
            let consumer = Arc::clone(&self.consumer);
            match consumer.poll(POLL) {
                None => {}
                Some(Ok(message)) => self.message(&message),
                Some(Err(KafkaError::PartitionEOF(partition))) => self.ended(partition),
                Some(Err(error)) => self.trouble(&error),
            }
        }
        for reader in &self.readers {
            reader.queue.close(crate::feed::closed());
        }
    }

    /// Readers that have gone, partitions that wait for room, and what was looked at.
    fn attend(&mut self) {
        self.readers.retain(|reader| !reader.queue.is_abandoned());
        for partition in 0..self.parts.len() {
            if self.parts[partition].is_paused && self.has_room(partition) {
                self.pause(partition, false);
            }
        }
        match self.looker.take() {
            Some(Ok(look)) => self.looked(&look),
            Some(Err(error)) => {
                tracing::warn!(topic = %self.topic.topic, %error, "kafka cannot be asked");
                self.parts.iter_mut().for_each(|part| part.at_end = false);
                self.tell_ends();
            }
            None => {}
        }
    }

    fn readers_of(&self, partition: usize) -> impl Iterator<Item = &Reader> {
        let partition = u16::try_from(partition).unwrap_or(u16::MAX);
        self.readers.iter().filter(move |reader| reader.sources().contains_key(&partition))
    }

    fn has_room(&self, partition: usize) -> bool {
        self.readers_of(partition).all(|reader| reader.queue.has_room())
    }

    fn pause(&mut self, partition: usize, is_paused: bool) {
        let mut list = TopicPartitionList::new();
        list.add_partition(&self.topic.topic, i32::try_from(partition).unwrap_or(i32::MAX));
        let done = match is_paused {
            true => self.consumer.pause(&list),
            false => self.consumer.resume(&list),
        };
        match done {
            Ok(()) => self.parts[partition].is_paused = is_paused,
            Err(error) => {
                tracing::warn!(topic = %self.topic.topic, partition, %error, "kafka cannot pause");
            }
        }
    }

    fn message(&mut self, message: &BorrowedMessage<'_>) {
        let (Ok(partition), Ok(offset)) =
            (u16::try_from(message.partition()), u64::try_from(message.offset()))
        else {
            return;
        };
        let Some(part) = self.parts.get_mut(usize::from(partition)) else { return };
        // What an assignment that was given up had fetched.
        if part.next.is_none_or(|next| offset < next) {
            return;
        }
        (part.next, part.at_end) = (Some(offset + 1), false);
        part.read_at = Some(Instant::now());
        let headers: Vec<_> = message
            .headers()
            .map(|headers| headers.iter().map(|header| (header.key, header.value)).collect())
            .unwrap_or_default();
        let record = Record {
            topic: message.topic(),
            partition: message.partition(),
            offset: message.offset(),
            timestamp_ms: message.timestamp().to_millis(),
            key: message.key(),
            value: message.payload(),
            headers: &headers,
        };
        if own::is_own(record.value) && self.options.dialect.is_none_or(|d| d == Dialect::Seen) {
            self.metrics.record(partition, &record, Some(Dialect::Seen));
            self.own(partition, offset, &record);
        } else {
            self.foreign(partition, offset, &record);
        }
        // Short of room for a moment: what Kafka's client has fetched ahead stays where it is. Only a
        // reader that stands still is left behind, with its partition.
        let until = Instant::now() + STALL;
        let stalls = |reader: &Reader| reader.queue.is_full() && !reader.queue.wait_for_room(until);
        if self.readers_of(usize::from(partition)).any(stalls) {
            self.pause(usize::from(partition), true);
        }
    }

    /// A record that somebody else wrote.
    fn foreign(&mut self, partition: u16, offset: u64, record: &Record<'_>) {
        let mut events = std::mem::take(&mut self.events);
        let dialect = self.decoder.decode(record, &mut events);
        self.metrics.record(partition, record, dialect);
        self.keep_if_dead(record, &events);
        self.route(partition, offset, dialect, &events);
        events.clear();
        self.events = events;
    }

    fn keep_if_dead(&mut self, record: &Record<'_>, events: &[Event]) {
        let reason = events.iter().find_map(|event| match (event.what, event.reason) {
            (What::Dirty(_), Some(reason)) if reason != "before_unknown" => Some(reason),
            _ => None,
        });
        if let Some(reason) = reason {
            self.keep_dead(record, reason);
        }
    }

    /// Keeps a record that cannot be read, for people (coherence row 21).
    pub(crate) fn keep_dead(&mut self, record: &Record<'_>, reason: &'static str) {
        if let Some(letters) = &mut self.dead_letters {
            letters.keep(record, reason);
        }
    }

    fn ended(&mut self, partition: i32) {
        let part = usize::try_from(partition).ok().and_then(|at| self.parts.get_mut(at));
        if let Some(part) = part {
            part.at_end = part.next.is_some();
        }
        self.tell_ends();
    }

    fn tell_ends(&self) {
        for reader in &self.readers {
            let ended = |partition: &u16| {
                self.parts.get(usize::from(*partition)).is_some_and(|part| part.at_end)
            };
            reader.queue.set_at_end(reader.sources().keys().all(ended));
        }
    }

    /// Most errors say nothing that the next look does not: it finds what was lost.
    fn trouble(&mut self, error: &KafkaError) {
        tracing::warn!(topic = %self.topic.topic, %error, "kafka's change events cannot be read now");
        self.metrics.error();
        if matches!(error, KafkaError::MessageConsumption(RDKafkaErrorCode::AutoOffsetReset)) {
            // A partition's place is not there, or was cut off and written anew (row 20), and Kafka's
            // client has stopped reading it. Which one it does not say; where to go on a look says.
            self.parts.iter_mut().for_each(|part| part.is_stopped = part.next.is_some());
            self.looker.hurry();
        }
    }

    fn looked(&mut self, look: &Look) {
        if look.ends.len() < self.parts.len() {
            // Deleted, or not known to the broker that was asked: nothing was learned.
            tracing::warn!(topic = %self.topic.topic, partitions = look.ends.len(), "partitions are missing");
            return;
        }
        if look.ends.len() > self.parts.len() {
            self.widen(look);
        }
        for (partition, ends) in look.ends.iter().enumerate() {
            let Some((low, high)) = ends else { continue };
            let Some(next) = self.parts.get(partition).and_then(|part| part.next) else { continue };
            // What ends a producer's transaction is no record that follows.
            let shown = if self.parts[partition].at_end { next } else { *high };
            self.metrics.ends(partition, next, shown);
            let (number, newest_ms) = (partition.try_into(), self.metrics.newest_ms(partition));
            self.shape.lags.looked(number.unwrap_or(u16::MAX), next, shown, newest_ms);
            // What was read while Kafka was asked lies beyond what it said.
            let was_read = self.parts[partition].read_at.is_none_or(|at| at < look.began);
            if next > *high && was_read {
                self.restart(partition, *high, "topic_recreated", true);
            } else if next < *low {
                self.restart(partition, *low, "retention", false);
            } else if self.parts[partition].is_stopped && was_read {
                self.restart(partition, next, "offset_reset", false);
            }
        }
        for reader in &mut self.readers {
            reader.release(look.began);
        }
        self.settle_broadcasts(look);
    }

    /// What was to come is not there: everything of the partition is in doubt, and reading goes on with
    /// the oldest record kept.
    fn restart(&mut self, partition: usize, offset: u64, reason: &'static str, is_another: bool) {
        tracing::error!(
            topic = %self.topic.topic, partition, reason, "change events are lost: reading goes on later"
        );
        if is_another {
            self.parts[partition].salt += 1;
            self.parts[partition].order = OrderWatch::default();
        }
        let number = u16::try_from(partition).unwrap_or(u16::MAX);
        let timeline = self.timeline(number);
        if let Err(error) = self.assign(partition, offset) {
            tracing::warn!(topic = %self.topic.topic, partition, %error, "kafka cannot seek");
            return;
        }
        for reader in &mut self.readers {
            if reader.sources().contains_key(&number) {
                reader.move_to(number, offset, timeline);
                reader.say(FeedEvent::Gap { scope: GapScope::Partition, reason });
                reader.say_place();
            }
        }
    }

    fn timeline(&self, partition: u16) -> Timeline {
        let salt = self.parts.get(usize::from(partition)).map_or(0, |part| part.salt);
        place::timeline(&self.topic.topic, 0, u32::from(partition), salt)
    }

    /// The numbering of a reader of several partitions: nobody resumes in it.
    fn wide_timeline(&self) -> Timeline {
        use std::hash::{BuildHasher, RandomState};
        place::timeline(&self.topic.topic, 0, u32::MAX, RandomState::new().hash_one(0_u8))
    }

    /// Partitions were added: the producer spreads users anew (coherence row 24).
    fn widen(&mut self, look: &Look) {
        let (had, has) = (self.parts.len(), look.ends.len());
        tracing::error!(
            topic = %self.topic.topic, had, has,
            "partitions were added: all of them are read for every user until the next restart"
        );
        self.parts.resize_with(has, Part::default);
        self.shape.widen(u16::try_from(has).unwrap_or(u16::MAX));
        let mut from = BTreeMap::new();
        self.misled = false;
        for (partition, ends) in look.ends.iter().enumerate() {
            // A new one is read from its beginning, and one that nobody leads now from its oldest record.
            let high = ends.map_or(0, |(_, high)| high);
            let at = self.parts[partition].next.unwrap_or(if partition < had { high } else { 0 });
            if self.parts[partition].next.is_none()
                && let Err(error) = self.assign(partition, at)
            {
                tracing::warn!(topic = %self.topic.topic, partition, %error, "kafka cannot assign");
            }
            from.insert(u16::try_from(partition).unwrap_or(u16::MAX), at);
        }
        let timeline = self.wide_timeline();
        for reader in &mut self.readers {
            reader.widen(timeline, from.iter().map(|(partition, at)| (*partition, *at)));
            let reason = "partitions_added";
            reader.say(FeedEvent::Gap { scope: GapScope::Partition, reason });
            reader.say_place();
        }
    }

    /// Lets Kafka give a partition's records from this one on.
    fn assign(&mut self, partition: usize, offset: u64) -> KafkaResult<()> {
        let number = i32::try_from(partition).unwrap_or(i32::MAX);
        let mut list = TopicPartitionList::new();
        let at = Offset::Offset(i64::try_from(offset).unwrap_or(i64::MAX));
        list.add_partition_offset(&self.topic.topic, number, at)?;
        if self.parts[partition].next.is_some()
            && let Err(error) = self.consumer.incremental_unassign(&list)
        {
            tracing::debug!(topic = %self.topic.topic, partition, %error, "it was not assigned");
        }
        let mut done = self.consumer.incremental_assign(&list);
        if done.is_ok() && self.parts[partition].is_paused {
            // What was paused stays so until it is resumed, whatever is assigned.
            done = self.consumer.resume(&list);
        }
        let part = &mut self.parts[partition];
        (part.next, part.is_paused, part.at_end) = (Some(offset), false, false);
        // What did not work is tried again at the next look.
        (part.read_at, part.is_stopped) = (Some(Instant::now()), done.is_err());
        done
    }

    fn open(&mut self, feed: FeedId, start: FeedStart) -> Result<Arc<ReaderQueue>, FeedError> {
        let sources = self.shape.sources(feed.partition.get());
        let is_wide = self.shape.is_wide();
        let failed = |error: KafkaError| FeedError {
            message: format!("{feed}: kafka cannot be asked for its topic's ends: {error}"),
            retry_helps: true,
        };
        let timeout = Duration::from_millis(self.options.connect_timeout_ms);
        let mut all = BTreeMap::new();
        for partition in sources.clone() {
            let ends = look::ends(&self.consumer, &self.topic.topic, partition, timeout);
            let ends = ends.map_err(failed)?;
            // Found here before a look has found it.
            let at = usize::from(partition);
            let next = self.parts.get(at).and_then(|part| part.next);
            if next.is_some_and(|next| next > ends.1) {
                self.restart(at, ends.1, "topic_recreated", true);
            }
            all.insert(partition, ends);
        }
        let timeline = if is_wide { self.wide_timeline() } else { self.timeline(sources.start) };
        let (mut next, mut skip, mut gap) = (BTreeMap::new(), None, None);
        for (partition, ends) in &all {
            let begin = begin(start, timeline, is_wide, *ends);
            next.insert(*partition, begin.offset);
            (skip, gap) = (begin.skip, gap.or(begin.gap));
        }
        for (partition, offset) in &next {
            let assigned = self.parts.get(usize::from(*partition)).and_then(|part| part.next);
            // One that is read further on is read again from here; others leave out what they have had.
            if assigned.is_none_or(|at| at > *offset) {
                self.assign(usize::from(*partition), *offset).map_err(failed)?;
            }
            if let Some(part) = self.parts.get_mut(usize::from(*partition)) {
                part.at_end |= part.next == all.get(partition).map(|(_, high)| *high);
            }
        }
        let queue = ReaderQueue::new(feed, FeedCursor::default(), self.options.queue_events_max);
        let mut reader = Reader::new(Arc::clone(&queue), timeline, next, skip, is_wide);
        if let Some(reason) = gap {
            reader.say(FeedEvent::Gap { scope: GapScope::Partition, reason });
        }
        reader.open_at(matches!(start, FeedStart::Head) || gap.is_some());
        self.readers.push(reader);
        self.tell_ends();
        Ok(queue)
    }
}

/// Where a reader begins in a partition.
struct Begin {
    offset: u64,
    /// The first record, and how much of what it says it has had.
    skip: Option<(u64, u64)>,
    gap: Option<&'static str>,
}

fn begin(start: FeedStart, timeline: Timeline, is_wide: bool, (low, high): (u64, u64)) -> Begin {
    let at_head = |gap| Begin { offset: high, skip: None, gap };
    let FeedStart::At(cursor) = start else { return at_head(None) };
    let (offset, skip) = place::place_of(cursor);
    match () {
        () if is_wide => at_head(Some("several_partitions")),
        () if cursor.timeline != timeline => at_head(Some("timeline_changed")),
        () if offset > high => at_head(Some("beyond_head")),
        () if offset < low => Begin { offset: low, skip: None, gap: Some("retention") },
        () => Begin { offset, skip: (skip > 0).then_some((offset, skip)), gap: None },
    }
}
