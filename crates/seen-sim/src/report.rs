//! What came of one seed.

use std::collections::VecDeque;
use std::fmt::Write;
use std::time::Duration;

use crate::trace::Event;

/// How much of what happened to a user is told.
const STORY_EVENTS_MAX: usize = 60;

/// A promise that was not kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// When it was found out, in microseconds of simulated time.
    pub at_us: u64,
    /// To whom.
    pub user: Option<u64>,
    /// Which promise: the number of the check.
    pub promise: u8,
    /// What happened.
    pub what: String,
}

/// The figures of one seed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Promises that were not kept.
    pub broken: Vec<Broken>,
    /// Calls that were answered.
    pub calls: u64,
    /// Calls that were answered by an error.
    pub errors: u64,
    /// Filters that were answered.
    pub filters: u64,
    /// Filters whose answers were flagged.
    pub flagged: u64,
    /// Those of them as contested where nobody can tell: an item that was unmarked within S may have been marked again since, in
    /// a store that numbers no commits; or a mark came by while storage was asked, which does not show it, because the mark was
    /// still under way or because it was removed meanwhile.
    pub open: u64,
    /// Items that are certainly unread, as asked in the end.
    pub unread: u64,
    /// Those of them that were called read.
    pub false_positives: u64,
    /// The longest that all had been well when an answer was flagged.
    pub calm_longest: Duration,
    /// The longest that a call took.
    pub longest: Duration,
    /// The faults that there were.
    pub faults: u64,
}

impl Report {
    /// A promise was not kept.
    pub fn broken(&mut self, at_us: u64, user: Option<u64>, promise: u8, what: String) {
        self.broken.push(Broken { at_us, user, promise, what });
    }

    /// A Filter was answered; `open` as for [`Report::open`].
    pub fn filtered(&mut self, flagged: bool, open: bool) {
        self.filters += 1;
        self.flagged += u64::from(flagged);
        self.open += u64::from(open);
    }
}

/// A seed that was played to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Played {
    /// The seed.
    pub seed: u64,
    /// What came of it.
    pub report: Report,
    /// All that happened.
    pub events: Vec<Event>,
}

impl Played {
    /// What led to the first promise that was not kept, a numbered line each: the faults, and what happened to the user.
    pub fn story(&self) -> Option<String> {
        let broken = self.report.broken.first()?;
        let mut told = VecDeque::new();
        for event in self.events.iter().take_while(|event| event.at_us <= broken.at_us) {
            let of_user = broken.user.is_some_and(|user| {
                event.who.strip_suffix('\'').unwrap_or(&event.who) == format!("user {user}")
            });
            if of_user || !event.who.starts_with("user ") {
                told.push_back(event);
            }
            if told.len() > STORY_EVENTS_MAX {
                told.pop_front();
            }
        }
        let mut story = format!("seed {}: ({}) {}\n", self.seed, broken.promise, broken.what);
        for (number, event) in told.iter().enumerate() {
            // A string takes everything.
            let _ = writeln!(story, "{:4}. {event}", number + 1);
        }
        Some(story)
    }
}
