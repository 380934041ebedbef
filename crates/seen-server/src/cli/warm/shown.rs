//! How far it is: a bar on a terminal, a line a second elsewhere.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cli::calls::table::grouped;

const TEMPLATE: &str =
    "{elapsed_precise} {bar:24} {human_pos} of {human_len} users, {per_sec}, {msg}{eta} left";

/// What is shown meanwhile.
pub(in crate::cli) struct Shown {
    bar: ProgressBar,
    what: &'static str,
    begin: Instant,
    told: Instant,
}

impl Shown {
    /// Of so many users, about, that are `what` in the end, as in "taken".
    pub fn new(what: &'static str, users: u64) -> Self {
        let style = ProgressStyle::with_template(TEMPLATE);
        let bar = ProgressBar::new(users)
            .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        if !std::io::stderr().is_terminal() {
            bar.set_draw_target(ProgressDrawTarget::hidden());
        }
        Self { bar, what, begin: Instant::now(), told: Instant::now() }
    }

    /// So many were dealt with by now.
    pub fn set(&mut self, users: u64, bytes: u64) {
        // The head's figure is an estimate.
        if self.bar.length().is_some_and(|length| length < users) {
            self.bar.set_length(users);
        }
        self.bar.set_position(users);
        if bytes > 0 {
            self.bar.set_message(format!("{}, ", HumanBytes(bytes)));
        }
        if self.bar.is_hidden() && self.told.elapsed() >= Duration::from_secs(1) {
            self.told = Instant::now();
            let rate = users as f64 / self.begin.elapsed().as_secs_f64();
            let left = self.bar.length().unwrap_or(users).saturating_sub(users);
            eprintln!(
                "{} users {}, {} bytes, {}/s, about {:.0} s left",
                grouped(users),
                self.what,
                grouped(bytes),
                grouped(rate as u64),
                left as f64 / rate.max(1.0)
            );
        }
    }

    /// Takes the bar away.
    pub fn end(&self) {
        self.bar.finish_and_clear();
    }
}
