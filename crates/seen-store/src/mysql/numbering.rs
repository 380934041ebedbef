//! How servers number commits, and whether the numbers still count one history (coherence row 53).

use seen_filter::Timeline;

use super::dialect::Dialect;
use crate::binlog::{SourceId, made_by, mariadb_timeline, mysql_timeline};

/// Who numbers commits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NumberedBy {
    /// One server of a GTID domain of MariaDB's; the domain's servers go on with one sequence.
    MariaDb {
        /// The domain.
        domain: u32,
        /// The server.
        server: u32,
    },
    /// A source of MySQL's, which has a sequence of its own.
    MySql(SourceId),
    /// A TiDB cluster as a whole.
    Cluster,
}

/// What a commit was called by its server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct CommitNumber {
    /// Who numbered it.
    pub by: NumberedBy,
    /// The number.
    pub number: u64,
}

impl NumberedBy {
    /// True if the numbers of both go on from each other.
    fn continues(self, other: Self) -> bool {
        match (self, other) {
            (Self::MySql(one), Self::MySql(other)) => one == other,
            _ => true,
        }
    }

    /// The timeline that the binary log's reader gives these numbers, of the store's own one.
    fn timeline(self, store: Timeline) -> Timeline {
        match self {
            Self::MariaDb { domain, server } => {
                made_by(mariadb_timeline(store.get(), domain, 0), server)
            }
            Self::MySql(source) => mysql_timeline(store.get(), source, 0),
            Self::Cluster => store,
        }
    }
}

impl CommitNumber {
    /// Reads what a server says of a connection's last commit. `None` where that has no number: it
    /// changed nothing, or the server does not say.
    pub(crate) fn read(dialect: Dialect, said: &str) -> Option<Self> {
        match dialect {
            Dialect::MariaDb => mariadb(said),
            Dialect::MySql => mysql(said),
            Dialect::TiDb => tidb(said),
        }
    }
}

/// MariaDB's GTID, `domain-server-sequence`. A list of several domains has no single number.
fn mariadb(gtid: &str) -> Option<CommitNumber> {
    let mut parts = gtid.split('-');
    let mut part = || parts.next()?.parse::<u64>().ok();
    let (domain, server, number) = (part()?, part()?, part()?);
    if parts.next().is_some() {
        return None;
    }
    let small = |part: u64| u32::try_from(part).ok();
    let by = NumberedBy::MariaDb { domain: small(domain)?, server: small(server)? };
    Some(CommitNumber { by, number })
}

/// MySQL's GTID, `source:number`; `AUTOMATIC` after a commit that changed nothing. A tagged one is
/// of a sequence that the binary log's reader refuses.
fn mysql(gtid: &str) -> Option<CommitNumber> {
    let (source, number) = gtid.split_once(':')?;
    let by = NumberedBy::MySql(SourceId::parse(source)?);
    Some(CommitNumber { by, number: number.parse().ok()? })
}

/// The commit timestamp in TiDB's description of the last transaction.
fn tidb(info: &str) -> Option<CommitNumber> {
    let after = info.split("\"commit_ts\":").nth(1)?;
    let digits: String = after.trim_start().chars().take_while(char::is_ascii_digit).collect();
    let number = digits.parse().ok().filter(|ts| *ts > 0)?;
    Some(CommitNumber { by: NumberedBy::Cluster, number })
}

/// The newest number that was known when a transaction began.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Newest(Option<CommitNumber>);

impl Newest {
    /// The same, one lower: the number itself will do.
    pub(crate) fn inclusive(self) -> Self {
        let lower =
            |known: CommitNumber| CommitNumber { number: known.number.saturating_sub(1), ..known };
        Self(self.0.map(lower))
    }
}

/// The numbers of one shard's commits, as this process has been given them.
///
/// A promoted replica that lacks its old primary's last commits gives their numbers again: its stamps
/// are on a timeline of their own. A restored backup gives its own numbers again, and whoever has
/// followed those would take the new ones for covered. So nothing is stamped any more once numbers
/// have gone back, or a sequence that was left is taken up again; fences do the rest.
#[derive(Debug, Default)]
pub(crate) struct Numbering {
    newest: Newest,
    /// Sequences that were left.
    left: Vec<NumberedBy>,
    is_over: bool,
}

impl Numbering {
    /// The newest number so far.
    pub(crate) fn newest(&self) -> Newest {
        self.newest
    }

    /// Takes a commit's number in; `began` is what [`newest`](Self::newest) said before its
    /// transaction began. The timeline of its stamp, or `None` if it can have none. The second is true
    /// if that was found just now.
    pub(crate) fn take(
        &mut self,
        commit: CommitNumber,
        began: Newest,
        store: Timeline,
    ) -> (Option<Timeline>, bool) {
        let was_over = self.is_over;
        let goes_back = began
            .0
            .is_some_and(|began| commit.by.continues(began.by) && commit.number <= began.number);
        let left = self.left.iter().any(|left| left.continues(commit.by));
        self.is_over |= goes_back || left;
        match self.newest.0 {
            Some(known) if !commit.by.continues(known.by) => {
                self.left.push(known.by);
                self.newest = Newest(Some(commit));
            }
            Some(known) if known.number >= commit.number => {}
            _ => self.newest = Newest(Some(commit)),
        }
        let timeline = (!self.is_over).then(|| commit.by.timeline(store));
        (timeline, self.is_over && !was_over)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STORE: Timeline = Timeline::new(7);

    #[test]
    fn commit_numbers_are_read() {
        let number = |by, number| Some(CommitNumber { by, number });
        let of = NumberedBy::MariaDb { domain: 3, server: 1 };
        assert_eq!(CommitNumber::read(Dialect::MariaDb, "3-1-42"), number(of, 42));
        assert_eq!(CommitNumber::read(Dialect::MariaDb, ""), None);
        assert_eq!(CommitNumber::read(Dialect::MariaDb, "0-1-42,1-1-7"), None);
        let source = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
        let of = NumberedBy::MySql(SourceId::parse(source).expect("a source"));
        assert_eq!(CommitNumber::read(Dialect::MySql, &format!("{source}:9")), number(of, 9));
        for none in ["AUTOMATIC", "ANONYMOUS", "", &format!("{source}:tag:9")] {
            assert_eq!(CommitNumber::read(Dialect::MySql, none), None, "{none}");
        }
        let info = r#"{"txn_scope":"global","start_ts":45,"commit_ts":462912,"mode":"2pc"}"#;
        assert_eq!(CommitNumber::read(Dialect::TiDb, info), number(NumberedBy::Cluster, 462_912));
        assert_eq!(CommitNumber::read(Dialect::TiDb, "{}"), None);
    }

    fn take(numbering: &mut Numbering, by: NumberedBy, number: u64) -> bool {
        let began = numbering.newest();
        numbering.take(CommitNumber { by, number }, began, STORE).0.is_some()
    }

    #[test]
    fn numbers_that_go_back_end_all_stamps() {
        let server = |server| NumberedBy::MariaDb { domain: 0, server };
        let mut numbering = Numbering::default();
        assert!(take(&mut numbering, server(1), 5) && take(&mut numbering, server(1), 6));
        // Commits of one time may be told in any order.
        let began = numbering.newest();
        assert!(take(&mut numbering, server(1), 9));
        let late = CommitNumber { by: server(1), number: 8 };
        assert_eq!(numbering.take(late, began, STORE).0, Some(server(1).timeline(STORE)));
        assert!(take(&mut numbering, server(2), 10), "a promoted replica goes on");
        let back = CommitNumber { by: server(2), number: 10 };
        let began = numbering.newest();
        assert_eq!(numbering.take(back, began, STORE), (None, true));
        assert_eq!(numbering.take(back, began, STORE), (None, false));
        assert!(!take(&mut numbering, server(2), 99));
    }

    #[test]
    fn a_mysql_source_has_numbers_of_its_own() {
        let source = |last| NumberedBy::MySql(SourceId([last; 16]));
        let mut numbering = Numbering::default();
        assert!(take(&mut numbering, source(1), 500));
        assert!(take(&mut numbering, source(2), 3) && take(&mut numbering, source(2), 4));
        assert!(!take(&mut numbering, source(1), 501), "it may have been restored meanwhile");
    }

    #[test]
    fn a_snapshot_may_have_the_newest_number_itself() {
        let mut numbering = Numbering::default();
        assert!(take(&mut numbering, NumberedBy::Cluster, 7));
        let same = CommitNumber { by: NumberedBy::Cluster, number: 7 };
        let began = numbering.newest().inclusive();
        assert_eq!(numbering.take(same, began, STORE).0, Some(STORE));
    }
}
