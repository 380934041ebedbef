//! What is being measured at the moment, on stderr.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

use super::BenchError;
use crate::shutdown::Stop;

/// How often the line is drawn anew: seldom, since every drawing takes CPU from what is measured.
const DRAWN_EVERY: Duration = Duration::from_millis(500);

/// A line that says what goes on. Nothing is drawn where stderr is no terminal; then each step is
/// one plain line.
#[derive(Debug)]
pub struct Progress {
    line: ProgressBar,
    stop: Stop,
}

impl Progress {
    /// Begins the line. Once `stop` is requested no further step is begun.
    pub fn start(stop: Stop) -> Self {
        let line = ProgressBar::new_spinner();
        if let Ok(style) = ProgressStyle::with_template("{elapsed:>4} {spinner} {wide_msg}") {
            line.set_style(style);
        }
        line.enable_steady_tick(DRAWN_EVERY);
        Self { line, stop }
    }

    /// Says what begins now.
    ///
    /// # Errors
    /// [`BenchError::Stopped`] if it must not begin.
    pub fn step(&self, what: impl Into<String>) -> Result<(), BenchError> {
        if self.stop.is_requested() {
            return Err(BenchError::Stopped);
        }
        let what = what.into();
        if self.line.is_hidden() {
            eprintln!("seen bench: {what}");
        }
        self.line.set_message(what);
        Ok(())
    }

    /// Says something that must not be overlooked.
    pub fn warn(&self, what: &str) {
        self.line.suspend(|| eprintln!("seen bench: {what}"));
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.line.finish_and_clear();
    }
}
