//! Places in a partition: cursors to resume at, and stamps to fold by.
//!
//! A record's offset numbers the events of topics whose source is not numbered by the store itself. Such
//! stamps are never comparable with those of commits (the timeline is the topic's), so that fences prove
//! all there is to prove. What a producer sends again has another offset than before: see
//! [`OrderWatch`].

use seen_dialect::Position;
use seen_filter::hash::mix;
use seen_filter::{CommitStamp, Domain, FeedCursor, Shard, Timeline};

use crate::topic_id::TopicId;

/// Bits of a place below the record's offset: how many of its events came before. If the uppermost of them
/// is set all did, and the others say in which epoch of its leader the record was written: as the last one
/// that was read it tells the log from others that have as many records.
const EVENT_BITS: u32 = 20;
const WHOLE: u64 = 1 << (EVENT_BITS - 1);
const EVENTS_MAX: u64 = WHOLE - 1;

/// The cursor after `events` events of the record at `offset`.
pub(crate) fn cursor(timeline: Timeline, offset: u64, events: u64) -> FeedCursor {
    // Of a record with more events than there is room for, all come again.
    let events = if events > EVENTS_MAX { 0 } else { events };
    FeedCursor { timeline, offset: offset << EVENT_BITS | events }
}

/// The cursor after the whole record at `offset`, which was written in this epoch of its leader. Between the
/// cursors within that record and those within the next one, as offsets go.
pub(crate) fn cursor_after(timeline: Timeline, offset: u64, epoch: Option<u32>) -> FeedCursor {
    match epoch.map(u64::from).filter(|epoch| *epoch < WHOLE) {
        Some(epoch) => FeedCursor { timeline, offset: offset << EVENT_BITS | WHOLE | epoch },
        None => cursor(timeline, offset + 1, 0),
    }
}

/// What a cursor points to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// The record.
    pub offset: u64,
    /// How many of its events were delivered.
    pub events: u64,
    /// In which epoch the record before it was written, if that is known.
    pub epoch: Option<u32>,
}

/// Where a cursor points to.
pub(crate) fn place_of(cursor: FeedCursor) -> Place {
    let (offset, rest) = (cursor.offset >> EVENT_BITS, cursor.offset & (WHOLE | EVENTS_MAX));
    match rest & WHOLE {
        0 => Place { offset, events: rest, epoch: None },
        _ => Place { offset: offset + 1, events: 0, epoch: u32::try_from(rest ^ WHOLE).ok() },
    }
}

/// The stamp of the event after `events` others of the record at `offset`.
pub(crate) fn stamp(shard: Shard, timeline: Timeline, offset: u64, events: u64) -> CommitStamp {
    let position = offset << EVENT_BITS | events.saturating_add(1).min(WHOLE | EVENTS_MAX);
    CommitStamp::new(domain(shard), timeline, position)
}

/// The stamp of everything before the record at `offset`.
pub(crate) fn stamp_before(shard: Shard, timeline: Timeline, offset: u64) -> CommitStamp {
    CommitStamp::new(domain(shard), timeline, offset << EVENT_BITS)
}

/// What numbers the offsets of a shard's topic: not the store, whose commits are numbered by the shard
/// itself. Else a store of another timeline than the topic's would look like one that was restored (row 53).
fn domain(shard: Shard) -> Domain {
    Domain::new(u32::from(shard.get()) | 1 << 31)
}

/// The timeline of a partition's offsets: another topic of the same name has others (coherence row 53).
/// `salt` is 0 until the partition was found to have been cut off; without an id, also until the topic
/// was found to be another one.
pub(crate) fn timeline(topic: &str, id: Option<TopicId>, partition: u32, salt: u64) -> Timeline {
    let named = topic.bytes().fold(0x6b61, |hash, byte| mix(hash ^ u64::from(byte)));
    let (most, least) = id.map_or((0, 0), TopicId::halves);
    let topic = mix(mix(mix(named) ^ most) ^ least);
    Timeline::new(mix(topic ^ u64::from(partition)) ^ mix(salt))
}

/// Tells what a source says for the first time from what a restarted producer may be saying again.
///
/// A remove that is told again comes after adds which were told after it at first: by offsets it would
/// cancel them. So a remove that is not certainly new puts its user in doubt besides (rule R8), which
/// only a build that begins later than S clears.
#[derive(Debug, Default)]
pub(crate) struct OrderWatch {
    /// The newest position of each sequence.
    newest: Vec<Position>,
}

/// Most sequences of one partition that are told apart; what is of another one is never certainly new.
const SEQUENCES_MAX: usize = 64;

impl OrderWatch {
    /// How a position lies to those told before, which it joins.
    pub fn look(&mut self, position: Option<&Position>) -> Order {
        let Some(position) = position else { return Order::Unknown };
        let is_room = self.newest.len() < SEQUENCES_MAX;
        match self.newest.iter_mut().find(|newest| comparable(position, newest)) {
            Some(newest) => {
                if !is_at_or_after(position, newest) {
                    return Order::Back;
                }
                *newest = position.clone();
                Order::New
            }
            // Nothing is known of what came before.
            None if is_room => {
                self.newest.push(position.clone());
                Order::Unknown
            }
            None => Order::Unknown,
        }
    }

    /// The source's numbers began anew here.
    pub fn rewind(&mut self, position: Option<&Position>) {
        self.newest.clear();
        self.newest.extend(position.cloned());
    }
}

/// How an event's position lies to those told before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Nothing as late was told before.
    New,
    /// Later ones were: it is told again, or the source itself went back.
    Back,
    /// Nobody can tell.
    Unknown,
}

/// True if both are of one sequence. A domain of MariaDB's has one for all of its servers: what a
/// promoted server numbers again is not new until it has passed what its predecessor numbered.
fn comparable(one: &Position, other: &Position) -> bool {
    match (one, other) {
        (Position::MariaDb { domain, .. }, Position::MariaDb { domain: d, .. }) => domain == d,
        (Position::MySql { source, .. }, Position::MySql { source: s, .. }) => source == s,
        (Position::CommitTs(_), Position::CommitTs(_)) => true,
        (Position::File { file, .. }, Position::File { file: f, .. }) => stem(file) == stem(f),
        (Position::Stamp(one), Position::Stamp(other)) => one.comparable(*other),
        _ => false,
    }
}

/// The name of a log without its number.
fn stem(file: &str) -> &str {
    file.rsplit_once('.').map_or(file, |(stem, _)| stem)
}

fn is_at_or_after(one: &Position, other: &Position) -> bool {
    match (one, other) {
        (Position::MariaDb { seq, .. }, Position::MariaDb { seq: other, .. }) => seq >= other,
        (Position::MySql { number, .. }, Position::MySql { number: other, .. }) => number >= other,
        (Position::CommitTs(ts), Position::CommitTs(other)) => ts >= other,
        (Position::File { file, pos }, Position::File { file: f, pos: p }) => {
            (file.len(), file, pos) >= (f.len(), f, p)
        }
        (Position::Stamp(one), Position::Stamp(other)) => one.covers(*other),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_come_back_as_the_same_place() {
        let timeline = timeline("t", None, 3, 0);
        for (offset, events) in [(0, 0), (7, 0), (7, 3), (1 << 43, EVENTS_MAX)] {
            let place = Place { offset, events, epoch: None };
            assert_eq!(place_of(cursor(timeline, offset, events)), place);
        }
        let beginning = Place { offset: 7, events: 0, epoch: None };
        assert_eq!(place_of(cursor(timeline, 7, EVENTS_MAX + 1)), beginning);
        assert_eq!(place_of(cursor_after(timeline, 6, None)), beginning);
        for epoch in [0, 1, 7_000, EVENTS_MAX as u32] {
            let place = Place { epoch: Some(epoch), ..beginning };
            assert_eq!(place_of(cursor_after(timeline, 6, Some(epoch))), place);
        }
        assert_eq!(place_of(cursor_after(timeline, 6, Some(WHOLE as u32))), beginning);
    }

    /// Whoever has several places of a log goes on at the least.
    #[test]
    fn cursors_rise_as_the_log_is_read() {
        let timeline = timeline("t", None, 3, 0);
        let read = [
            cursor(timeline, 6, 1),
            cursor(timeline, 6, EVENTS_MAX),
            cursor_after(timeline, 6, Some(3)),
            cursor_after(timeline, 6, None),
            cursor(timeline, 7, 1),
            cursor_after(timeline, 7, Some(3)),
            cursor_after(timeline, 8, Some(4)),
        ];
        assert!(read.is_sorted_by(|a, b| a.offset < b.offset), "{read:?}");
    }

    #[test]
    fn stamps_rise_within_a_record_and_from_record_to_record() {
        let (shard, timeline) = (Shard::new(2), timeline("t", None, 3, 0));
        let stamps = [
            stamp_before(shard, timeline, 7),
            stamp(shard, timeline, 7, 0),
            stamp(shard, timeline, 7, 1),
            stamp_before(shard, timeline, 8),
            stamp(shard, timeline, 8, 0),
        ];
        assert!(stamps.is_sorted_by(|a, b| a < b), "{stamps:?}");
        let commit = CommitStamp::new(Domain::new(2), Timeline::new(1), 1);
        assert!(stamps.iter().all(|stamp| stamp.domain != commit.domain), "not the store's");
    }

    #[test]
    fn timelines_differ_by_all_that_makes_them() {
        let all = [
            timeline("t", None, 0, 0),
            timeline("u", None, 0, 0),
            timeline("t", Some(TopicId::new(1)), 0, 0),
            timeline("t", Some(TopicId::new(1 << 64)), 0, 0),
            timeline("t", None, 1, 0),
            timeline("t", None, 0, 1),
        ];
        let different: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(different.len(), all.len());
    }

    #[test]
    fn what_goes_back_is_not_new() {
        let gtid = |server, seq| Position::MariaDb { domain: 0, server, seq };
        let file = |name: &str, pos| Position::File { file: name.into(), pos };
        let mut watch = OrderWatch::default();
        let told = [
            (Some(gtid(1, 5)), Order::Unknown),
            (Some(gtid(1, 5)), Order::New),
            (Some(gtid(1, 7)), Order::New),
            (Some(gtid(1, 6)), Order::Back),
            (Some(gtid(1, 7)), Order::New),
            (None, Order::Unknown),
            (Some(gtid(2, 6)), Order::Back),
            (Some(gtid(2, 8)), Order::New),
            (Some(gtid(1, 7)), Order::Back),
            (Some(file("log.000009", 10)), Order::Unknown),
            (Some(file("log.000010", 4)), Order::New),
            (Some(file("log.000010", 3)), Order::Back),
        ];
        for (position, order) in told {
            assert_eq!(watch.look(position.as_ref()), order, "{position:?}");
        }
        watch.rewind(Some(&gtid(1, 2)));
        assert_eq!(watch.look(Some(&gtid(1, 3))), Order::New);
    }
}
