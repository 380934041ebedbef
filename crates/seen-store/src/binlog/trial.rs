//! For tests only: the translation of a log without a server, event by event.

use seen_filter::hash::HashKey;
use seen_filter::{FeedCursor, FeedEvent, NamespaceId, NamespaceSettings, Shard, Timeline};

use crate::mysql::TableMapping;

use super::event::LogEvent;
use super::facts::{Facts, Log};
use super::gtid::{GtidSet, SourceId};
use super::meaning::Subject;
use super::place::{LogPlace, Place, mysql_timeline};
use super::translate::{Stop, Translator};

/// The number in the control table of the namespace that is followed.
const NUMBER: u16 = 9;
/// The store's own timeline.
const STORE: u64 = 5;

/// Whose log it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrialLog {
    /// MariaDB's, with the GTID domain 0.
    MariaDb,
    /// MySQL's, of the source of sixteen bytes 7.
    MySql,
}

/// Reads a log from its first transaction on, as a reader of `history_feed` in the database `app` does.
pub struct Trial(Translator);

impl Trial {
    /// A reader that has read nothing. Names that differ in case only are the same if so told.
    pub fn new(log: TrialLog, ignores_case: bool) -> Self {
        let settings = NamespaceSettings::new(NamespaceId::new(3), "feed");
        let subject = Subject {
            database: "app".to_owned(),
            mapping: TableMapping::own(&settings).expect("a name that a table may have"),
            numbers: vec![NUMBER],
            shard: Shard::new(0),
            shards: 1,
            hash_key: HashKey::new(1, [7; 16]),
        };
        let source = SourceId([7; 16]);
        let (log, place) = match log {
            TrialLog::MariaDb => {
                let place = Place::after(Timeline::new(1), 0, LogPlace::After(None));
                (Log::MariaDb { domain: 0, head: None, state: Vec::new() }, place)
            }
            TrialLog::MySql => {
                let set = LogPlace::Set(GtidSet::default(), source);
                let executed = GtidSet::default();
                (
                    Log::MySql { source, executed },
                    Place::after(mysql_timeline(STORE, source, 0), 0, set),
                )
            }
        };
        let mut translator = Translator::new(subject, place);
        translator.know(&Facts { log, store_timeline: STORE, ignores_case }, 0, &[NUMBER]);
        Self(translator)
    }

    /// Takes the next event, of this type and server; events that may be ignored are so if their type is not known.
    ///
    /// # Errors
    /// Why the log cannot be read on.
    pub fn take(
        &mut self,
        event_type: u8,
        is_ignorable: bool,
        server: u32,
        data: &[u8],
    ) -> Result<(), String> {
        let taken = self.0.take(LogEvent { event_type, is_ignorable, server, data });
        taken.map_err(|stop| match stop {
            Stop::Refused(why) => why,
            Stop::Rewound => "the log was rewound".to_owned(),
        })
    }

    /// What has been said since the last call, each with where to resume after it.
    pub fn told(&mut self) -> Vec<(FeedEvent, FeedCursor)> {
        std::mem::take(&mut self.0.out)
    }

    /// Nothing follows for now: what waits for that is said.
    pub fn idle(&mut self) {
        if !self.0.is_within() {
            self.0.tell_quiet();
        }
    }

    /// The connection was lost, and the log is read again from where reading stopped, or from before that.
    pub fn reconnect(&mut self) {
        self.0.restart();
    }
}
