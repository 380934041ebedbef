//! Where a reader is: numbers, their timeline, and what the server is told when it goes on.

use seen_filter::{CommitStamp, Domain, FeedCursor, Timeline};

use super::gtid::{Gtid, GtidSet, SourceId};

/// Bits of a cursor below the transaction's number: how many of its events were delivered.
const EVENT_BITS: u32 = 20;
const EVENTS_MAX: u64 = (1 << EVENT_BITS) - 1;

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

/// Where a reader is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub timeline: Timeline,
    /// The last transaction that was told to its end.
    pub done: u64,
    /// The transaction after it that was told in part, and how many of its events.
    pub partly: Option<(u64, u64)>,
    pub log: LogPlace,
}

impl Place {
    /// The place after a transaction.
    pub fn after(timeline: Timeline, done: u64, log: LogPlace) -> Self {
        Self { timeline, done, partly: None, log }
    }

    /// Where a cursor points to: its number is the first transaction that was not told to its end.
    pub fn of(cursor: FeedCursor, log: LogPlace) -> Self {
        let (number, events) = (cursor.offset >> EVENT_BITS, cursor.offset & EVENTS_MAX);
        Self {
            timeline: cursor.timeline,
            done: number.saturating_sub(1),
            partly: (events > 0).then_some((number, events)),
            log,
        }
    }

    /// The cursor after everything told so far.
    pub fn cursor(&self) -> FeedCursor {
        let (number, events) = self.partly.unwrap_or((self.done.saturating_add(1), 0));
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

/// The same while the source's numbers have holes: what fills them comes after later numbers, so that
/// nothing that is numbered so may be compared with a commit's own number.
pub(super) fn mysql_timeline_without_order(store: u64, source: SourceId, salt: u64) -> Timeline {
    mysql_timeline(store, source, mix(salt ^ 0x686f_6c65).max(1))
}

/// What stands for the store's own timeline where there is no table that tells it.
pub(super) fn timeline_of_name(database: &str) -> u64 {
    database.bytes().fold(0x5ee4, |hash, byte| mix(hash ^ u64::from(byte)))
}

fn salted(base: u64, salt: u64) -> Timeline {
    Timeline::new(if salt == 0 { mix(base) } else { mix(mix(base) ^ salt) })
}

/// The finalizer of splitmix64 (public domain, S. Vigna): every bit changes half of the others.
fn mix(word: u64) -> u64 {
    let mut mixed = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_come_back_as_the_same_place() {
        let timeline = Timeline::new(5);
        for (done, partly) in [(0, None), (7, None), (7, Some((8, 3))), (7, Some((12, 1)))] {
            let place = Place { timeline, done, partly, log: LogPlace::ByNumber };
            let back = Place::of(place.cursor(), LogPlace::ByNumber);
            assert_eq!((back.partly, back.newest()), (partly, place.newest()));
            assert_eq!(back.cursor(), place.cursor());
        }
        // Too many events to count: from the transaction's beginning.
        let partly = Some((8, EVENTS_MAX));
        let place = Place { timeline, done: 7, partly, log: LogPlace::ByNumber };
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
