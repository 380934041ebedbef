//! The two forms of global transaction ids: MariaDB's `domain-server-sequence`, and MySQL's sets of
//! numbers a source.

use std::collections::BTreeMap;
use std::fmt;

use super::bytes::Bytes;

/// MariaDB's name of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Gtid {
    pub domain: u32,
    pub server: u32,
    pub seq: u64,
}

impl fmt::Display for Gtid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.domain, self.server, self.seq)
    }
}

impl Gtid {
    /// Reads a position or state as the server writes it; an empty one has no elements.
    pub fn list(text: &str) -> Option<Vec<Self>> {
        text.split(',').map(str::trim).filter(|one| !one.is_empty()).map(Self::one).collect()
    }

    fn one(text: &str) -> Option<Self> {
        let (domain, rest) = text.split_once('-')?;
        let (server, seq) = rest.split_once('-')?;
        let (domain, server) = (domain.parse().ok()?, server.parse().ok()?);
        Some(Self { domain, server, seq: seq.parse().ok()? })
    }
}

/// Who numbers a MySQL server's transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SourceId(pub [u8; 16]);

impl SourceId {
    pub fn parse(text: &str) -> Option<Self> {
        let digits: Vec<u8> = text.bytes().filter(|byte| *byte != b'-').collect();
        let mut id = [0; 16];
        if digits.len() != 32 || !digits.iter().all(u8::is_ascii_hexdigit) {
            return None;
        }
        for (byte, pair) in id.iter_mut().zip(digits.chunks(2)) {
            let pair = std::str::from_utf8(pair).ok()?;
            *byte = u8::from_str_radix(pair, 16).ok()?;
        }
        Some(Self(id))
    }
}

/// A set of MySQL transactions: of each source, ranges from a first number to before another. They are
/// in order, and no two meet: a server that is sent anything else refuses the set as malformed, however
/// often it is asked, and its log can be followed no more.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct GtidSet(pub BTreeMap<SourceId, Vec<(u64, u64)>>);

impl GtidSet {
    /// Reads a set as the server writes it; `None` if it cannot be read, which is so for tagged ones.
    pub fn parse(text: &str) -> Option<Self> {
        let mut set = Self::default();
        for one in text.split(',').map(str::trim).filter(|one| !one.is_empty()) {
            let mut parts = one.split(':');
            let source = SourceId::parse(parts.next()?.trim())?;
            for range in parts {
                let (first, last) = range.trim().split_once('-').unwrap_or((range, range));
                let (first, last): (u64, u64) =
                    (first.trim().parse().ok()?, last.trim().parse().ok()?);
                if last < first {
                    return None;
                }
                set.insert(source, first, last.checked_add(1)?);
            }
        }
        Some(set)
    }

    /// Adds a range, from its first number to before another.
    fn insert(&mut self, source: SourceId, first: u64, end: u64) {
        let ranges = self.0.entry(source).or_default();
        // Those that it meets become one with it.
        let from = ranges.partition_point(|(_, its_end)| *its_end < first);
        let to = ranges.partition_point(|(its_first, _)| *its_first <= end);
        let met = ranges.get(from..to).unwrap_or_default();
        let first = met.first().map_or(first, |(its_first, _)| first.min(*its_first));
        let end = met.last().map_or(end, |(_, its_end)| end.max(*its_end));
        ranges.splice(from..to, [(first, end)]);
    }

    /// The highest number of a source, 0 if it has none.
    pub fn newest(&self, source: SourceId) -> u64 {
        self.ranges(source).last().map_or(0, |(_, end)| end.saturating_sub(1))
    }

    /// True if the transaction is in the set.
    pub fn contains(&self, source: SourceId, number: u64) -> bool {
        self.ranges(source).iter().any(|(first, end)| (*first..*end).contains(&number))
    }

    /// True if some numbers of a source are missing below this one, from its first one on.
    pub fn has_holes_below(&self, source: SourceId, number: u64) -> bool {
        let below = |(first, end): &(u64, u64)| (*end).min(number).saturating_sub(*first);
        self.ranges(source).iter().map(below).sum::<u64>() < number.saturating_sub(1)
    }

    /// True if it has all that another has of a source.
    pub fn has_all_of(&self, source: SourceId, other: &Self) -> bool {
        let own = self.ranges(source);
        let of_other = other.ranges(source);
        of_other.iter().all(|(first, end)| own.iter().any(|(f, e)| f <= first && end <= e))
    }

    fn ranges(&self, source: SourceId) -> &[(u64, u64)] {
        self.0.get(&source).map_or(&[][..], Vec::as_slice)
    }

    /// Adds one transaction.
    pub fn add(&mut self, source: SourceId, number: u64) {
        self.insert(source, number, number.saturating_add(1));
    }

    /// Leaves out all of a source's transactions above a number.
    pub fn cut(&mut self, source: SourceId, newest: u64) {
        if let Some(ranges) = self.0.get_mut(&source) {
            for (_, end) in ranges.iter_mut() {
                *end = (*end).min(newest.saturating_add(1));
            }
            ranges.retain(|(first, end)| first < end);
        }
        self.0.retain(|_, ranges| !ranges.is_empty());
    }
}

/// As the server reads it.
impl fmt::Display for GtidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, (source, ranges)) in self.0.iter().enumerate() {
            f.write_str(if at == 0 { "" } else { "," })?;
            for (at, byte) in source.0.iter().enumerate() {
                f.write_str(if matches!(at, 4 | 6 | 8 | 10) { "-" } else { "" })?;
                write!(f, "{byte:02x}")?;
            }
            for (first, end) in ranges {
                write!(f, ":{first}-{}", end.saturating_sub(1))?;
            }
        }
        Ok(())
    }
}

/// What a log's event says about the transaction that it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Begins {
    /// MariaDB's.
    MariaDb {
        gtid: Gtid,
        /// It is one statement, and nothing marks its end.
        is_standalone: bool,
        /// It is prepared only; whether it happens is told later.
        is_prepared: bool,
    },
    /// MySQL's.
    MySql { source: SourceId, number: u64 },
}

impl Begins {
    /// Reads MariaDB's event; `None` if it is damaged. The domain's number is given without its
    /// server, which is in the event's header.
    pub fn mariadb(event: &[u8], server: u32) -> Option<Self> {
        let mut bytes = Bytes::new(event);
        let seq = bytes.number(8)?;
        let domain = u32::try_from(bytes.number(4)?).ok()?;
        let flags = bytes.number(1)?;
        let gtid = Gtid { domain, server, seq };
        Some(Self::MariaDb { gtid, is_standalone: flags & 1 != 0, is_prepared: flags & 64 != 0 })
    }

    /// Reads MySQL's untagged event; `None` if it is damaged.
    pub fn mysql(event: &[u8]) -> Option<Self> {
        let mut bytes = Bytes::new(event);
        bytes.take(1)?;
        let source = SourceId(bytes.take(16)?.try_into().ok()?);
        Some(Self::MySql { source, number: bytes.number(8)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mariadbs_positions_are_read() {
        let one = |domain, server, seq| Gtid { domain, server, seq };
        assert_eq!(Gtid::list(""), Some(vec![]));
        assert_eq!(
            Gtid::list("0-1-7, 3-9-18446744073709551615").as_deref(),
            Some(&[one(0, 1, 7), one(3, 9, u64::MAX)][..],)
        );
        for bad in ["0-1", "0-1-x", "0--1-2", "0-1-2-3"] {
            assert_eq!(Gtid::list(bad), None, "{bad}");
        }
        let event = b"\x04\0\0\0\0\0\0\0\x02\0\0\0\x29\0\0\0\0\0\0";
        let gtid = one(2, 5, 4);
        let expected = Begins::MariaDb { gtid, is_standalone: true, is_prepared: false };
        assert_eq!(Begins::mariadb(event, 5), Some(expected));
        assert_eq!(Begins::mariadb(&event[..12], 5), None);
    }

    #[test]
    fn mysqls_sets_are_read_written_and_cut() {
        let text = "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5:11-18,\
                    4e11fa47-71ca-11e1-9e33-c80aa9429562:7";
        let mut set = GtidSet::parse(&text.replace(',', ",\n")).expect("a set");
        assert_eq!(set.to_string(), format!("{text}-7"));
        let source = SourceId::parse("3E11FA47-71CA-11E1-9E33-C80AA9429562").expect("an id");
        assert_eq!(set.newest(source), 18);
        set.add(source, 19);
        set.add(source, 6);
        assert_eq!(set.0[&source], [(1, 7), (11, 20)]);
        let holes = [1, 7, 8, 12, 20, 30].map(|number| set.has_holes_below(source, number));
        assert_eq!(holes, [false, false, true, true, true, true]);
        let split = "3e11fa47-71ca-11e1-9e33-c80aa9429562:11-14:1-6:15-19";
        let split = GtidSet::parse(split).expect("a set");
        assert!(set.has_all_of(source, &split) && split.has_all_of(source, &set));
        set.add(source, 21);
        assert!(set.has_all_of(source, &split) && !split.has_all_of(source, &set));
        set.cut(source, 6);
        assert_eq!(set.0[&source], [(1, 7)]);
        set.cut(source, 0);
        assert_eq!((set.newest(source), set.0.len()), (0, 1));
        assert_eq!(GtidSet::parse(""), Some(GtidSet::default()));
        for bad in ["tag:1", "5-4", "1-18446744073709551615"] {
            let text = format!("3e11fa47-71ca-11e1-9e33-c80aa9429562:{bad}");
            assert_eq!(GtidSet::parse(&text), None, "{bad}");
        }
    }

    /// A server that is sent ranges in another order, or two that meet, refuses the set as malformed.
    #[test]
    fn a_set_has_one_form_in_whatever_order_its_numbers_came() {
        let source = SourceId([7; 16]);
        let numbers = 1..=6;
        for mixed in 0..6_u64.pow(4) {
            let order = [0, 1, 2, 3].map(|at| mixed / 6_u64.pow(at) % 6 + 1);
            let mut set = GtidSet::default();
            for number in order {
                set.add(source, number);
            }
            let ranges = &set.0[&source];
            let apart = ranges.windows(2).all(|pair| pair[0].1 < pair[1].0);
            assert!(
                apart && ranges.iter().all(|(first, end)| first < end),
                "{order:?}: {ranges:?}"
            );
            for number in numbers.clone() {
                assert_eq!(set.contains(source, number), order.contains(&number), "{order:?}");
            }
        }
    }
}
