//! What the log was told last, for tests that stand still.

use std::collections::VecDeque;
use std::fmt::{Debug, Write as _};
use std::sync::{Arc, Mutex, Once, OnceLock};
use std::time::Instant;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber, subscriber};

const LINES_MAX: usize = 200;

/// The newest lines of this process, the client's own among them.
static LINES: Mutex<VecDeque<String>> = Mutex::new(VecDeque::new());

struct Keeper;

struct Line(String);

impl Visit for Line {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = write!(self.0, " {field}={value:?}");
    }
}

impl Subscriber for Keeper {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        static BEGAN: OnceLock<Instant> = OnceLock::new();
        let at = BEGAN.get_or_init(Instant::now).elapsed();
        let mut line = Line(format!("{at:?} {}", event.metadata().target()));
        event.record(&mut line);
        let mut lines = LINES.lock().expect("no panic");
        if lines.len() == LINES_MAX {
            lines.pop_front();
        }
        lines.push_back(line.0);
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// Keeps what is told from now on.
pub fn keep() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| subscriber::set_global_default(Arc::new(Keeper)).expect("the first one"));
}

/// What was told last.
pub fn last() -> String {
    LINES.lock().expect("no panic").iter().fold(String::new(), |all, line| all + line + "\n")
}
