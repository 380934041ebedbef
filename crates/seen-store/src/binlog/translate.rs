//! From the log's events to the feed's: transactions, their stamps and cursors, and every doubt.

use std::collections::HashMap;

use seen_filter::{CommitStamp, Domain, FeedCursor, FeedEvent, GapScope};

use super::event::LogEvent;
use super::facts::{Facts, Log};
use super::gtid::{Begins, Gtid, SourceId};
use super::meaning::{CONTROL_TABLE, ControlRow, Subject, Told};
use super::place::{LogPlace, NUMBER_MAX, Place, mysql_timeline};
use super::row::table_id;
use super::statement::{Followed, Statement, names, read};

use tables::Table;

/// Why the log cannot be read on as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// Something must be set differently first.
    Refused(String),
    /// Numbers came again: this is not the history that was read so far.
    Rewound,
}

/// A transaction that has begun.
struct Open {
    number: u64,
    /// Its name where the log is MariaDB's.
    gtid: Option<Gtid>,
    /// How many of its events were made here.
    made: u64,
    /// How many of those had been told before.
    known: u64,
    /// All of it had been told before.
    is_old: bool,
    /// Nothing marks the end of a statement's own transaction.
    ends_with_statement: bool,
    is_prepared: bool,
}

/// Reads the log for one reader.
pub(super) struct Translator {
    subject: Subject,
    domain: Domain,
    pub place: Place,
    /// The store's own timeline and the salt, for numbers of another source.
    seeds: (u64, u64),
    /// The GTID domain of a MariaDB server's numbers.
    gtid_domain: u32,
    /// Names are compared as the server does it.
    ignores_case: bool,
    tables: HashMap<u64, (Vec<u8>, Table)>,
    open: Option<Open>,
    /// The newest number on this connection.
    newest: Option<u64>,
    /// A compressed transaction has begun, and nothing of it came yet.
    awaits_payload: bool,
    /// Compressed events have been refused once.
    met_compressed: bool,
    /// Rows of ours were prepared, and may yet be rolled back.
    has_prepared: bool,
    /// The newest row of the control table that came by.
    pub landmark: Option<ControlRow>,
    /// A transaction without anything for us: told when there is time.
    quiet: Option<(FeedEvent, FeedCursor)>,
    /// What was made and not yet taken.
    pub out: Vec<(FeedEvent, FeedCursor)>,
}

impl Translator {
    pub fn new(subject: Subject, place: Place) -> Self {
        Self {
            domain: Domain::new(u32::from(subject.shard.get())),
            subject,
            place,
            seeds: (0, 0),
            gtid_domain: 0,
            ignores_case: false,
            tables: HashMap::new(),
            open: None,
            newest: None,
            awaits_payload: false,
            met_compressed: false,
            // What was prepared before may be committed now.
            has_prepared: true,
            landmark: None,
            quiet: None,
            out: Vec::new(),
        }
    }

    /// Takes over what a connection's server is like.
    pub fn know(&mut self, facts: &Facts, salt: u64, numbers: &[u16]) {
        self.subject.numbers = numbers.to_vec();
        self.seeds = (facts.store_timeline, salt);
        self.ignores_case = facts.ignores_case;
        if let Log::MariaDb { domain, .. } = facts.log {
            self.gtid_domain = domain;
        }
    }

    /// A new connection begins at `self.place`.
    pub fn restart(&mut self) {
        self.tables.clear();
        self.open = None;
        self.newest = None;
        self.awaits_payload = false;
    }

    /// Goes on elsewhere, with a gap for a reason if there is one, and names the new head.
    pub fn jump(&mut self, place: Place, gap: Option<&'static str>) {
        self.quiet = None;
        self.landmark = None;
        self.place = place;
        if let Some(reason) = gap {
            let event = FeedEvent::Gap { scope: GapScope::Partition, reason };
            self.out.push((event, self.place.cursor()));
        }
        let made_by = match &self.place.log {
            LogPlace::After(gtid) => gtid.map(|gtid| gtid.server),
            _ => None,
        };
        let done = self.place.own_count.map_or(self.place.done, |own| own.told);
        let stamp = self.place.stamp(self.domain, done, made_by);
        self.out.push((FeedEvent::Complete { stamp }, self.place.cursor()));
        self.restart();
    }

    /// True while a transaction is being read.
    pub fn is_within(&self) -> bool {
        self.open.is_some()
    }

    pub fn has_quiet(&self) -> bool {
        self.quiet.is_some()
    }

    /// Tells of the transactions that had nothing for us.
    pub fn tell_quiet(&mut self) {
        self.out.extend(self.quiet.take());
    }

    /// The stamp of the transaction of this number, which is told now.
    fn stamp(&self, number: u64, server: Option<u32>) -> CommitStamp {
        self.place.stamp(self.domain, self.place.position(number), server)
    }

    /// Takes the next event of the log. What it says is in `self.out`.
    ///
    /// # Errors
    /// [`Stop`]: nothing of the event was told.
    pub fn take(&mut self, event: LogEvent<'_>) -> Result<(), Stop> {
        let data = event.data;
        if self.awaits_payload && matches!(event.event_type, 33 | 34 | 27 | 41 | 42 | 162) {
            self.awaits_payload = false;
            self.doubt("compressed");
            self.end();
        }
        match event.event_type {
            162 => self.begin(Begins::mariadb(data, event.server))?,
            33 => self.begin(Begins::mysql(data))?,
            42 => {
                let why = "the log has tagged GTIDs, which cannot be followed: clear gtid_next's \
                           tag where it is set";
                return Err(Stop::Refused(why.to_owned()));
            }
            34 => {
                let why = "the log has transactions without GTIDs: SET GLOBAL gtid_mode=ON";
                return Err(Stop::Refused(why.to_owned()));
            }
            2 => self.statement(data),
            16 => self.end(),
            38 => self.prepared(),
            19 => self.table(data),
            23..=25 | 30..=32 | 39 => self.rows(event.event_type, data),
            18 => self.load(data),
            20..=22 => self.doubt("old_rows"),
            26 => self.doubt("incident"),
            40 => self.awaits_payload = true,
            165..=171 => self.compressed(event.event_type, data)?,
            // Formats, rotations, heartbeats, variables and comments.
            0 | 3..=5 | 13..=15 | 17 | 27..=29 | 35..=37 | 41 | 160 | 161 | 163 | 164 => {}
            _ if event.is_ignorable => {}
            _ => self.doubt("unknown_event"),
        }
        if !matches!(event.event_type, 40 | 33 | 0 | 3..=5 | 15 | 27 | 41) {
            self.awaits_payload = false;
        }
        Ok(())
    }

    fn begin(&mut self, begins: Option<Begins>) -> Result<(), Stop> {
        // Where the end of the one before was not recognized, this is it.
        self.end();
        let Some(begins) = begins else {
            return Err(Stop::Refused("the log's transactions cannot be read".to_owned()));
        };
        let (number, gtid, standalone, is_prepared) = match begins {
            Begins::MariaDb { gtid, is_standalone, is_prepared } => {
                self.check_domain(gtid)?;
                (gtid.seq, Some(gtid), is_standalone, is_prepared)
            }
            Begins::MySql { source, number } => {
                self.check_source(source, number);
                (number, None, true, false)
            }
        };
        let told = self.newest.max(Some(self.place.done));
        let is_late = told.is_some_and(|told| number <= told) && self.lacks(number);
        if is_late || told.is_some_and(|told| number > told.saturating_add(1)) {
            self.no_order();
        }
        if number > NUMBER_MAX && self.place.own_count.is_none() {
            return Err(Stop::Refused(format!(
                "the log has a transaction of the number {number}, and places are known up to \
                 {NUMBER_MAX}: somebody gave it by hand; set up the server anew, from a dump"
            )));
        }
        let partly = self.place.partly.filter(|(partly, _)| *partly != number);
        if let (Some(_), Some(own)) = (partly, &mut self.place.own_count) {
            // It comes later, and then from its beginning; no other has the position that it had.
            own.told += 1;
            self.place.partly = None;
        } else if partly.is_some_and(|(partly, _)| partly < number) {
            return Err(Stop::Rewound);
        }
        if self.newest.is_some_and(|newest| number <= newest) && !is_late {
            return Err(Stop::Rewound);
        }
        self.newest = self.newest.max(Some(number));
        let is_old = number <= self.place.done && !is_late;
        let known = match self.place.partly {
            Some((partly, events)) if partly == number => events,
            _ => 0,
        };
        self.open = Some(Open {
            number,
            gtid,
            made: 0,
            known,
            is_old,
            ends_with_statement: standalone,
            is_prepared,
        });
        Ok(())
    }

    /// True if a number of MySQL's is not among those that were told: a replica that applied out of order
    /// has been promoted, or somebody gave the number by hand.
    fn lacks(&self, number: u64) -> bool {
        matches!(&self.place.log, LogPlace::Set(set, source) if !set.contains(*source, number))
    }

    /// The numbers of a MySQL source are not those of its log's order: from here on transactions are
    /// counted as they come by, and no stamp of a commit may be compared with that. Fences do all the
    /// work. One doubt is enough for all that comes late.
    fn no_order(&mut self) {
        let LogPlace::Set(_, source) = &self.place.log else { return };
        let source = *source;
        if self.place.own_count.is_some() {
            return;
        }
        self.tell_quiet();
        self.place.count_itself(self.seeds.0, source, self.seeds.1);
        let event = FeedEvent::Gap { scope: GapScope::Partition, reason: "numbers_skipped" };
        self.out.push((event, self.place.cursor()));
    }

    /// Numbers of several GTID domains of MariaDB cannot be compared.
    fn check_domain(&self, gtid: Gtid) -> Result<(), Stop> {
        if gtid.domain == self.gtid_domain {
            return Ok(());
        }
        Err(Stop::Refused(several_domains(self.gtid_domain, gtid.domain)))
    }

    /// Numbers of another MySQL source begin another timeline.
    fn check_source(&mut self, source: SourceId, number: u64) {
        let LogPlace::Set(set, own) = &mut self.place.log else { return };
        if *own == source {
            return;
        }
        *own = source;
        let has_holes = set.has_holes_below(source, number);
        self.tell_quiet();
        self.newest = None;
        self.place.timeline = mysql_timeline(self.seeds.0, source, self.seeds.1);
        (self.place.done, self.place.partly) = (number.saturating_sub(1), None);
        self.place.own_count = None;
        if has_holes {
            self.place.count_itself(self.seeds.0, source, self.seeds.1);
        }
        let event = FeedEvent::Gap { scope: GapScope::Partition, reason: "source_changed" };
        self.out.push((event, self.place.cursor()));
    }

    /// The transaction has ended, if there is one.
    fn end(&mut self) {
        let Some(open) = self.open.take() else { return };
        self.has_prepared |= open.is_prepared && open.made > 0;
        // Also of what is old: it is the place that the server knows best.
        match (open.gtid, &mut self.place.log) {
            (Some(gtid), log) => *log = LogPlace::After(Some(gtid)),
            (None, LogPlace::Set(set, source)) => set.add(*source, open.number),
            (None, _) => {}
        }
        if open.is_old {
            return;
        }
        let server = open.gtid.map(|gtid| gtid.server);
        let complete = FeedEvent::Complete { stamp: self.stamp(open.number, server) };
        (self.place.done, self.place.partly) = (self.place.done.max(open.number), None);
        if let Some(own) = &mut self.place.own_count {
            own.told += 1;
        }
        let told = (complete, self.place.cursor());
        if open.made > 0 {
            self.out.push(told);
        } else {
            self.quiet = Some(told);
        }
    }

    fn prepared(&mut self) {
        if let Some(open) = &mut self.open {
            open.is_prepared = true;
        }
        self.end();
    }

    /// Makes one event of the open transaction.
    fn make(&mut self, told: Told) {
        let Some(open) = &mut self.open else {
            // Outside of all transactions: it has no number of its own.
            let (scope, reason) = match told {
                Told::Gap(scope, reason) => (scope, reason),
                _ => (GapScope::Partition, "no_transaction"),
            };
            self.out.push((FeedEvent::Gap { scope, reason }, self.place.cursor()));
            return;
        };
        if open.is_old {
            return;
        }
        open.made += 1;
        if open.made <= open.known {
            return;
        }
        let (number, made) = (open.number, open.made);
        let server = open.gtid.map(|gtid| gtid.server);
        self.tell_quiet();
        self.place.partly = Some((number, made));
        let stamp = self.stamp(number, server);
        let event = match told {
            Told::Add(user, item) => FeedEvent::Add { stamp, user, item },
            Told::Remove(user, item) => FeedEvent::Remove { stamp, user, item },
            Told::Forgotten(user, epoch) => FeedEvent::Forgotten { stamp, user, epoch },
            Told::Fence(user, writer, seq) => FeedEvent::Fence { stamp, user, writer, seq },
            Told::Gap(scope, reason) => FeedEvent::Gap { scope, reason },
        };
        self.out.push((event, self.place.cursor()));
    }

    fn doubt(&mut self, reason: &'static str) {
        self.make(Told::Gap(GapScope::Partition, reason));
    }

    fn statement(&mut self, data: &[u8]) {
        let Some((schema, text)) = read(data) else {
            self.doubt("statement_damaged");
            return self.end_of_statement();
        };
        let history = (self.subject.home(), self.subject.mapping.table.as_str());
        let tables = [history, (self.subject.database.as_str(), CONTROL_TABLE)];
        let followed = Followed { tables: &tables };
        match Statement::classify(schema, text, &followed) {
            Statement::Begin => {
                if let Some(open) = &mut self.open {
                    open.ends_with_statement = false;
                }
            }
            Statement::Within => {}
            Statement::End => self.end(),
            Statement::Undone => {
                if self.open.as_ref().is_some_and(|open| open.made > 0) {
                    self.doubt("rolled_back");
                }
                self.end();
            }
            Statement::EndOfPrepared => {
                if self.has_prepared {
                    self.doubt("xa");
                }
                self.end();
            }
            Statement::Foreign => self.end_of_statement(),
            Statement::Doubt(reason) => {
                self.doubt(reason);
                self.end_of_statement();
            }
        }
    }

    fn end_of_statement(&mut self) {
        if self.open.as_ref().is_some_and(|open| open.ends_with_statement) {
            self.end();
        }
    }

    /// MariaDB's compressed events. The first one is refused; whoever comes back to it has been told
    /// that the setting is mended, and passes over what was written before.
    fn compressed(&mut self, event_type: u8, data: &[u8]) -> Result<(), Stop> {
        let table = table_id(data).and_then(|id| self.tables.get(&id));
        let is_statement = event_type == 165;
        if !is_statement && matches!(table, Some((_, Table::Foreign))) {
            return Ok(());
        }
        if !std::mem::replace(&mut self.met_compressed, true) {
            let why = "the log has compressed events, which cannot be read: \
                       SET GLOBAL log_bin_compress=OFF, and in the server's configuration";
            return Err(Stop::Refused(why.to_owned()));
        }
        self.doubt("compressed");
        if is_statement {
            self.end_of_statement();
        }
        Ok(())
    }

    /// LOAD DATA in statement format; the rest of its event is not taken apart.
    fn load(&mut self, data: &[u8]) {
        if names(&String::from_utf8_lossy(data), self.subject.mapping.table.as_str()) {
            self.doubt("statement_format");
        }
        self.end_of_statement();
    }
}

/// Why a log with several GTID domains is refused.
pub(super) fn several_domains(one: u32, other: u32) -> String {
    format!(
        "the log has transactions of several GTID domains ({one} and {other}), whose numbers cannot \
         be compared: let all of them be written with the same gtid_domain_id"
    )
}

mod tables;
#[cfg(test)]
mod tests;
