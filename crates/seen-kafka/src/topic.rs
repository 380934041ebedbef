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
use seen_dialect::{Dialect, Event, Record, What};
use seen_filter::{FeedEvent, GapScope, Timeline};

use crate::context::TopicConsumer;
use crate::dead_letters::DeadLetters;
use crate::leave::Leaving;
use crate::look::{Look, Looker};
use crate::metrics::TopicMetrics;
use crate::open::Opening;
use crate::options::{KafkaOptions, TopicOptions};
use crate::own;
use crate::place::{self, OrderWatch};
use crate::reader::Reader;
use crate::route::Names;
use crate::schemas::RecordDecoder;
use crate::shape::Shape;
use crate::topic_id::{Identity, TopicId, leader_epoch};

/// Longest wait for a record, so that readers and looks are attended to.
const POLL: Duration = Duration::from_millis(20);

/// How long all partitions wait for a reader that has no room, before its own is paused.
const STALL: Duration = Duration::from_millis(200);

/// One partition.
#[derive(Debug, Default)]
pub(crate) struct Part {
    /// The next record that Kafka will give; `None` while it is not assigned.
    pub(crate) next: Option<u64>,
    /// In which epoch of its leader the newest record was written.
    pub(crate) epoch: Option<u32>,
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
    consumer: Arc<Leaving<TopicConsumer>>,
    pub(crate) looker: Looker,
    decoder: RecordDecoder,
    events: Vec<Event>,
    pub(crate) parts: Vec<Part>,
    pub(crate) readers: Vec<Reader>,
    /// Readers that are asked for, which wait for a look.
    pub(crate) openings: Vec<Opening>,
    /// Who the topic is, once it has been looked at.
    identity: Identity,
    /// How many partitions were found last, if some were missing.
    found: Option<usize>,
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
        consumer: Arc<Leaving<TopicConsumer>>,
        looker: Looker,
        dead_letters: Option<DeadLetters>,
    ) -> Self {
        let tables = topic.tables.iter().map(|(_, table)| table.clone()).collect();
        let parts = (0..shape.partitions()).map(|_| Part::default()).collect();
        Self {
            names: Names::new(&topic, &options),
            metrics: TopicMetrics::new(&topic.topic),
            decoder: RecordDecoder::new(tables, options.dialect, &options.schemas),
            options,
            topic,
            shape,
            consumer,
            looker,
            events: Vec::new(),
            parts,
            readers: Vec::new(),
            openings: Vec::new(),
            identity: Identity::NotAsked,
            found: None,
            dead_letters,
            misled: false,
        }
    }

    /// Reads until `closed` is set or nobody can ask for anything any more.
    pub fn run(mut self, openings: &Receiver<Opening>, closed: &AtomicBool) {
        'read: while !closed.load(Ordering::Acquire) {
            loop {
                match openings.try_recv() {
                    Ok(opening) => self.wish(opening),
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => break 'read,
                }
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
            Some(Ok(look)) => {
                self.looked(&look);
                self.open_by(&look);
            }
            Some(Err(blind)) => {
                tracing::warn!(topic = %self.topic.topic, error = %blind.why, "kafka cannot be asked");
                self.refuse_by(&blind);
                self.parts.iter_mut().for_each(|part| part.at_end = false);
                self.readers.iter().for_each(|reader| self.tell_end(reader));
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
        (part.read_at, part.epoch) = (Some(Instant::now()), leader_epoch(message));
        self.compare_with_places(partition, offset);
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
        if events.iter().all(|event| event.what == What::Ignore) {
            self.metrics.other();
        }
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
        let Ok(at) = usize::try_from(partition) else { return };
        if let Some(part) = self.parts.get_mut(at) {
            part.at_end = part.next.is_some();
        }
        // Readers of other partitions are where they were, also if a record has passed that says nothing
        // to them.
        self.readers_of(at).for_each(|reader| self.tell_end(reader));
    }

    fn tell_end(&self, reader: &Reader) {
        let ended = |partition: &u16| {
            self.parts.get(usize::from(*partition)).is_some_and(|part| part.at_end)
        };
        reader.queue.set_at_end(reader.sources().keys().all(ended));
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
        let is_another = self.identify(look.id);
        if is_another {
            self.begin_anew(look);
        }
        if look.ends.len() < self.parts.len() {
            // Deleted, made anew with fewer, or not known to the broker that was asked: nothing was learned.
            let partitions = look.ends.len();
            if self.found.replace(partitions) != Some(partitions) {
                tracing::warn!(topic = %self.topic.topic, partitions, "partitions are missing");
            }
            return;
        }
        self.found = None;
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
                self.parts[partition].salt += 1;
                self.parts[partition].order = OrderWatch::default();
                let reason = if look.id.is_some() { "log_truncated" } else { "topic_recreated" };
                self.restart(partition, *high, reason);
            } else if next < *low {
                self.restart(partition, *low, "retention");
            } else if self.parts[partition].is_stopped && was_read {
                self.restart(partition, next, "offset_reset");
            }
        }
        for reader in &mut self.readers {
            reader.release(look.began);
        }
        self.settle_broadcasts(look);
    }

    /// Takes note of who the topic is. True if it was another one until now.
    fn identify(&mut self, id: Option<TopicId>) -> bool {
        let is_another = match (self.identity, id) {
            (Identity::NotAsked, None) => {
                tracing::warn!(
                    topic = %self.topic.topic,
                    "kafka does not tell topics of one name apart (before 2.8): one that is deleted and made \
                     anew is noticed only as long as it is shorter"
                );
                false
            }
            (Identity::NotAsked, Some(_)) => false,
            (Identity::Untold, id) => id.is_some(),
            // Asked of a broker that does not know of ids yet.
            (Identity::Told(_), None) => return false,
            (Identity::Told(was), Some(is)) => was != is,
        };
        self.identity = id.map_or(Identity::Untold, Identity::Told);
        is_another
    }

    /// The topic was deleted and made anew (coherence row 53): nothing that was read says anything of what
    /// it holds, wherever that ends by now.
    fn begin_anew(&mut self, look: &Look) {
        for partition in 0..self.parts.len() {
            let part = &mut self.parts[partition];
            (part.salt, part.order) = (0, OrderWatch::default());
            if part.next.is_some() {
                // One that nobody leads now is read from its beginning.
                let end = look.ends.get(partition).copied().flatten().map_or(0, |(_, high)| high);
                self.restart(partition, end, "topic_recreated");
            }
        }
        // The producer spreads users anew, over fewer.
        self.misled |= look.ends.len() < self.parts.len();
    }

    /// What was to come is not there: everything of the partition is in doubt, and reading goes on with
    /// this record.
    fn restart(&mut self, partition: usize, offset: u64, reason: &'static str) {
        tracing::error!(
            topic = %self.topic.topic, partition, reason, "change events are lost: reading goes on later"
        );
        let number = u16::try_from(partition).unwrap_or(u16::MAX);
        let (one, wide) = (self.timeline(number), self.wide_timeline());
        if let Err(error) = self.assign(partition, offset) {
            tracing::warn!(topic = %self.topic.topic, partition, %error, "kafka cannot seek");
        }
        for reader in &mut self.readers {
            if reader.sources().contains_key(&number) {
                let timeline = if reader.is_wide() { wide } else { one };
                reader.move_to(number, offset, timeline);
                reader.say(FeedEvent::Gap { scope: GapScope::Partition, reason });
                reader.say_place();
            }
        }
    }

    pub(crate) fn timeline(&self, partition: u16) -> Timeline {
        let salt = self.parts.get(usize::from(partition)).map_or(0, |part| part.salt);
        place::timeline(&self.topic.topic, self.identity.id(), u32::from(partition), salt)
    }

    /// The numbering of a reader of several partitions: nobody resumes in it.
    pub(crate) fn wide_timeline(&self) -> Timeline {
        use std::hash::{BuildHasher, RandomState};
        place::timeline(&self.topic.topic, None, u32::MAX, RandomState::new().hash_one(0_u8))
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
    pub(crate) fn assign(&mut self, partition: usize, offset: u64) -> KafkaResult<()> {
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

    /// What is known of where a partition ends: nothing follows what is read next, if that is the end. True
    /// if nothing follows for whoever reads from this record on.
    pub(crate) fn ends_at(&mut self, partition: usize, from: u64, high: u64) -> bool {
        let Some(part) = self.parts.get_mut(partition) else { return false };
        part.at_end |= part.next == Some(high);
        part.at_end || from >= high
    }
}

#[cfg(test)]
mod tests;
