//! What a server says of itself and its log, and whether a reader can go on there.

use seen_filter::Timeline;

use super::gtid::{Gtid, GtidSet, SourceId};
use super::place::{LogPlace, Place, mariadb_timeline, mysql_timeline, own_timeline};

/// What a server's log is numbered by, and how far it is.
#[derive(Clone, Debug)]
pub(super) enum Log {
    MariaDb { domain: u32, head: Option<Gtid>, state: Vec<Gtid> },
    MySql { source: SourceId, executed: GtidSet },
}

/// What a server says of itself.
#[derive(Clone, Debug)]
pub(super) struct Facts {
    pub log: Log,
    /// The store's own timeline.
    pub store_timeline: u64,
    /// Names that differ in case only are the same.
    pub ignores_case: bool,
}

impl Facts {
    /// The timeline of what the server numbers now, while the numbers have an order.
    pub fn timeline(&self, salt: u64) -> Timeline {
        match self.log {
            Log::MariaDb { domain, .. } => mariadb_timeline(self.store_timeline, domain, salt),
            Log::MySql { source, .. } => mysql_timeline(self.store_timeline, source, salt),
        }
    }

    /// The place after everything that the log holds.
    pub fn head(&self, salt: u64) -> Place {
        let timeline = self.timeline(salt);
        match &self.log {
            Log::MariaDb { head, .. } => {
                let done = head.map_or(0, |gtid| gtid.seq);
                Place::after(timeline, done, LogPlace::After(*head))
            }
            Log::MySql { source, executed } => {
                let log = LogPlace::Set(executed.clone(), *source);
                let newest = executed.newest(*source);
                let mut place = Place::after(timeline, newest, log);
                // What fills the holes comes after later numbers.
                if executed.has_holes_below(*source, newest) {
                    place.count_itself(self.store_timeline, *source, salt);
                }
                place
            }
        }
    }

    /// Looks whether the server's log goes on from `place`: the reason for a gap if not (coherence
    /// rows 43 and 53). Names the place as the server knows it.
    pub fn check(&self, place: &mut Place, salt: u64) -> Result<(), &'static str> {
        let (newest, done, partly) = (place.newest(), place.done, place.partly);
        let by_cursor = place.log == LogPlace::ByNumber;
        let behind = if by_cursor { "ahead" } else { "rewound" };
        let is_same = match (&self.log, &place.log) {
            // Of whatever source: a place of another one is there still.
            (Log::MySql { .. }, LogPlace::Set(_, source)) => {
                let store = self.store_timeline;
                let own = place.own_count;
                let own = own.map(|own| own_timeline(store, *source, salt, own.reader));
                place.timeline == own.unwrap_or_else(|| mysql_timeline(store, *source, salt))
            }
            _ => place.timeline == self.timeline(salt),
        };
        if !is_same {
            return Err("timeline");
        }
        match (&self.log, &mut place.log) {
            (Log::MariaDb { head, state, .. }, log) => {
                let head = head.map_or(0, |gtid| gtid.seq);
                let knows = |gtid: &Gtid| {
                    state.iter().any(|own| {
                        (own.domain, own.server) == (gtid.domain, gtid.server)
                            && own.seq >= gtid.seq
                    })
                };
                let is_known = match log {
                    LogPlace::After(Some(gtid)) => knows(gtid),
                    _ => true,
                };
                if newest > head || !is_known {
                    return Err(behind);
                }
            }
            (Log::MySql { source, executed }, log) => {
                if by_cursor {
                    let mut set = executed.clone();
                    set.cut(*source, done);
                    *log = LogPlace::Set(set, *source);
                }
                let LogPlace::Set(told, source) = log else { return Err("timeline") };
                // A number that is missing may be lower than others that are there.
                let lost = place.own_count.is_some()
                    && (!executed.has_all_of(*source, told)
                        || partly.is_some_and(|(number, _)| !executed.contains(*source, number)));
                if lost || newest > executed.newest(*source) {
                    return Err(behind);
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mariadb(head: u64, state: &str) -> Facts {
        let state = Gtid::list(state).expect("a state");
        let head = state.iter().find(|gtid| gtid.seq == head).copied();
        let log = Log::MariaDb { domain: 0, head, state };
        Facts { log, store_timeline: 5, ignores_case: false }
    }

    fn after(facts: &Facts, gtid: &str) -> Place {
        let gtid = Gtid::list(gtid).expect("a position").first().copied();
        let done = gtid.map_or(0, |gtid| gtid.seq);
        Place::after(facts.timeline(0), done, LogPlace::After(gtid))
    }

    #[test]
    fn a_mariadb_server_must_know_the_place() {
        let promoted = mariadb(12, "0-1-10,0-2-12");
        for (place, expected) in [
            ("", Ok(())),
            ("0-1-10", Ok(())),
            ("0-2-12", Ok(())),
            ("0-2-13", Err("rewound")),
            // The number is there, but it was another server's.
            ("0-1-11", Err("rewound")),
            ("0-3-11", Err("rewound")),
        ] {
            assert_eq!(promoted.check(&mut after(&promoted, place), 0), expected, "{place}");
        }
        assert_eq!(promoted.check(&mut after(&promoted, ""), 9), Err("timeline"));
        let mut place = promoted.head(0);
        assert_eq!((place.done, promoted.check(&mut place, 0)), (12, Ok(())));
        // Told in part, and then lost.
        place.partly = Some((13, 1));
        assert_eq!(promoted.check(&mut place, 0), Err("rewound"));
        place.log = LogPlace::ByNumber;
        assert_eq!(promoted.check(&mut place, 0), Err("ahead"));
        assert_eq!(mariadb(0, "").head(0).done, 0);
    }

    #[test]
    fn a_mysql_servers_set_is_cut_to_the_cursor() {
        let source = SourceId([7; 16]);
        let executed = GtidSet([(source, vec![(1, 11)])].into());
        let log = Log::MySql { source, executed };
        let facts = Facts { log, store_timeline: 5, ignores_case: false };
        let mut place = Place::after(facts.timeline(0), 4, LogPlace::ByNumber);
        assert_eq!(facts.check(&mut place, 0), Ok(()));
        let cut = GtidSet([(source, vec![(1, 5)])].into());
        assert_eq!(place.log, LogPlace::Set(cut, source));
        place.done = 11;
        assert_eq!(facts.check(&mut place, 0), Err("rewound"));
        // A place of another source has another timeline, and is still there.
        let other = SourceId([8; 16]);
        let set = LogPlace::Set(GtidSet::default(), other);
        let mut place = Place::after(mysql_timeline(5, other, 0), 0, set);
        assert_eq!(facts.check(&mut place, 0), Ok(()));
    }
}
