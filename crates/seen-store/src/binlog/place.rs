//! Where a reader is: numbers, their timeline, and what the server is told when it goes on.

use seen_filter::hash::mix;
use seen_filter::{CommitStamp, Domain, FeedCursor, PositionSource, SourcePosition, Timeline};

use super::gtid::{Gtid, GtidSet, SourceId};

/// Bits of a cursor below the transaction's number: how many of its events were delivered.
const EVENT_BITS: u32 = 20;
const EVENTS_MAX: u64 = (1 << EVENT_BITS) - 1;
/// The highest number of a transaction: a cursor has room for the next one as well.
pub(super) const NUMBER_MAX: u64 = (1 << (u64::BITS - EVENT_BITS)) - 2;

/// What tells the server where to go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum LogPlace {
    /// MariaDB, after this transaction; `None` is the log's beginning.
    After(Option<Gtid>),
    /// MySQL, after these; numbers are those of the source.
    Set(GtidSet, SourceId),
    /// After the transaction of the place's number; which server made it is not known.
    ByNumber,
}

/// A reader's own count of transactions, where the source's numbers say nothing of their order: a
/// group's members number from blocks of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OwnCount {
    /// Drawn by the reader: nobody else counts as it does.
    pub reader: u64,
    /// Transactions told since it began to count.
    pub told: u64,
}

/// Where a reader is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub timeline: Timeline,
    /// The highest number of a transaction that was told to its end: the last one's, unless
    /// `own_count` is set.
    pub done: u64,
    /// What positions are then.
    pub own_count: Option<OwnCount>,
    /// The transaction after it that was told in part, and how many of its events.
    pub partly: Option<(u64, u64)>,
    pub log: LogPlace,
}

impl Place {
    /// The place after a transaction.
    pub fn after(timeline: Timeline, done: u64, log: LogPlace) -> Self {
        Self { timeline, done, own_count: None, partly: None, log }
    }

    /// From here on positions are the reader's own count: comparable with nobody's stamps, and no place
    /// to begin at for another reader.
    pub fn count_itself(&mut self, store: u64, source: SourceId, salt: u64) {
        let reader = rand::random_range(1..=u64::MAX);
        self.own_count = Some(OwnCount { reader, told: 0 });
        self.timeline = own_timeline(store, source, salt, reader);
    }

    /// The position of the transaction of this number, if it is the next that is told to its end.
    pub fn position(&self, number: u64) -> u64 {
        self.own_count.map_or(number, |own| own.told.saturating_add(1))
    }

    /// Where a cursor points to: its number is the first transaction that was not told to its end.
    pub fn of(cursor: FeedCursor, log: LogPlace) -> Self {
        let (number, events) = (cursor.offset >> EVENT_BITS, cursor.offset & EVENTS_MAX);
        Self {
            timeline: cursor.timeline,
            done: number.saturating_sub(1),
            own_count: None,
            partly: (events > 0).then_some((number, events)),
            log,
        }
    }

    /// The cursor after everything told so far.
    pub fn cursor(&self) -> FeedCursor {
        let (number, events) = self.partly.unwrap_or((self.done.saturating_add(1), 0));
        let number = self.position(number);
        // Of a transaction with more events than there is room for, all come again.
        let events = if events < EVENTS_MAX { events } else { 0 };
        FeedCursor { timeline: self.timeline, offset: number << EVENT_BITS | events }
    }

    /// The newest number that the log must have.
    pub fn newest(&self) -> u64 {
        self.partly.map_or(self.done, |(number, _)| number)
    }

    /// The stamp of a transaction here, which this MariaDB server made.
    pub fn stamp(&self, domain: Domain, number: u64, server: Option<u32>) -> CommitStamp {
        let timeline = server.map_or(self.timeline, |server| made_by(self.timeline, server));
        CommitStamp::new(domain, timeline, number)
    }
}

/// Where a reader begins that is to be told all that comes after a position of a history's scan, of the
/// store's own timeline. `None` for one that no single number says.
pub(crate) fn cursor_after(store: u64, position: &SourcePosition) -> Option<FeedCursor> {
    let (timeline, done) = match position.source {
        PositionSource::MariaDb => match Gtid::list(&position.text)?.as_slice() {
            [one] => (mariadb_timeline(store, one.domain, 0), one.seq),
            _ => return None,
        },
        PositionSource::MySql => {
            let executed = GtidSet::parse(&position.text)?;
            let mut sources = executed.0.keys();
            let (source, None) = (*sources.next()?, sources.next()) else { return None };
            let done = executed.newest(source);
            if executed.has_holes_below(source, done) {
                return None;
            }
            (mysql_timeline(store, source, 0), done)
        }
        _ => return None,
    };
    Some(Place::after(timeline, done, LogPlace::ByNumber).cursor())
}

/// The timeline of a MariaDB server's transactions: of the store's own timeline and the GTID domain.
/// `salt` is 0 until the server is found to have gone back in time.
pub(crate) fn mariadb_timeline(store: u64, domain: u32, salt: u64) -> Timeline {
    salted(mix(store) ^ u64::from(domain), salt)
}

/// The timeline of the stamps of what one MariaDB server made. A replica that was promoted without its
/// old primary's last commits gives their numbers again: they must not be comparable (coherence
/// row 53). Cursors have no need of it: the server itself knows whether it can go on from one.
pub(crate) fn made_by(timeline: Timeline, server: u32) -> Timeline {
    Timeline::new(mix(timeline.get() ^ (u64::from(server) + 1)))
}

/// The same for MySQL: of the store's own timeline and who numbers the transactions.
pub(crate) fn mysql_timeline(store: u64, source: SourceId, salt: u64) -> Timeline {
    let number = u128::from_be_bytes(source.0);
    salted(mix(mix(store) ^ (number >> 64) as u64) ^ number as u64, salt)
}

/// The timeline of one reader's own count: what numbers a source gives later may belong before others,
/// so that no position may be compared with a commit's own number.
pub(super) fn own_timeline(store: u64, source: SourceId, salt: u64, reader: u64) -> Timeline {
    mysql_timeline(store, source, mix(salt ^ reader).max(1))
}

/// What stands for the store's own timeline where there is no table that tells it.
pub(super) fn timeline_of_name(database: &str) -> u64 {
    database.bytes().fold(0x5ee4, |hash, byte| mix(hash ^ u64::from(byte)))
}

fn salted(base: u64, salt: u64) -> Timeline {
    Timeline::new(if salt == 0 { mix(base) } else { mix(mix(base) ^ salt) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_come_back_as_the_same_place() {
        let timeline = Timeline::new(5);
        for (done, partly) in [(0, None), (7, None), (7, Some((8, 3))), (7, Some((12, 1)))] {
            let place = Place { partly, ..Place::after(timeline, done, LogPlace::ByNumber) };
            let back = Place::of(place.cursor(), LogPlace::ByNumber);
            assert_eq!((back.partly, back.newest()), (partly, place.newest()));
            assert_eq!(back.cursor(), place.cursor());
        }
        // Too many events to count: from the transaction's beginning.
        let partly = Some((8, EVENTS_MAX));
        let place = Place { partly, ..Place::after(timeline, 7, LogPlace::ByNumber) };
        let again = Place::after(timeline, 7, LogPlace::ByNumber);
        assert_eq!(Place::of(place.cursor(), LogPlace::ByNumber), again);
    }

    #[test]
    fn timelines_differ_by_all_that_makes_them() {
        let source = |last| SourceId([0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last]);
        let all = [
            mariadb_timeline(1, 0, 0),
            mariadb_timeline(1, 1, 0),
            mariadb_timeline(0, 1, 0),
            mariadb_timeline(1, 0, 9),
            mysql_timeline(1, source(0), 0),
            mysql_timeline(1, source(1), 0),
            mysql_timeline(0, source(1), 0),
            mysql_timeline(0, source(1), 9),
        ];
        let different: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(different.len(), all.len());
        assert_ne!(timeline_of_name("ab"), timeline_of_name("ba"));
    }
}
