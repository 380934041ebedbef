//! All that happened, in its order: what two runs of one seed are compared by.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::time::now;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When, in microseconds of simulated time.
    pub at_us: u64,
    /// To whom.
    pub who: Arc<str>,
    /// What.
    pub what: String,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.at_us as f64 / 1e6;
        write!(f, "{seconds:9.4} s  {:<12} {}", self.who, self.what)
    }
}

/// Takes down what happens.
#[derive(Debug)]
pub struct Trace {
    began: Instant,
    /// False where nobody wants to know, so that nothing is put into words.
    kept: bool,
    events: Mutex<Vec<Event>>,
}

impl Trace {
    /// One that begins now. Nothing is taken down unless it is `kept`.
    pub fn begin(kept: bool) -> Self {
        Self { began: now(), kept, events: Mutex::default() }
    }

    /// Takes something down.
    pub fn tell(&self, who: &Arc<str>, what: impl fmt::Display) {
        if !self.kept {
            return;
        }
        let event = Event { at_us: self.now_us(), who: Arc::clone(who), what: what.to_string() };
        self.events.lock().push(event);
    }

    /// The simulated time, in microseconds.
    pub fn now_us(&self) -> u64 {
        now().duration_since(self.began).as_micros() as u64
    }

    /// All of it, once it is over.
    pub fn take(&self) -> Vec<Event> {
        std::mem::take(&mut *self.events.lock())
    }
}
