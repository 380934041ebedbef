//! Tells how far it is, on stderr.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use tokio::task::JoinHandle;

/// What is being done, and for how long still.
#[derive(Clone, Debug)]
pub struct Bar(ProgressBar);

impl Bar {
    pub fn new() -> Self {
        let bar = ProgressBar::new(0);
        if let Ok(style) = ProgressStyle::with_template("{elapsed_precise} {msg}") {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(500));
        Self(bar)
    }

    /// Says what is done next.
    pub fn says(&self, what: &str) {
        self.0.set_message(what.to_owned());
        if self.0.is_hidden() {
            eprintln!("{:>6.1} s: {what}", self.0.elapsed().as_secs_f64());
        }
    }

    /// Begins something that takes so many seconds.
    pub fn begin(&self, seconds: u64, what: &str) {
        self.says(&format!("{what}, {seconds} s"));
        if let Ok(style) =
            ProgressStyle::with_template("{elapsed_precise} {wide_bar} {pos}/{len} s: {msg}")
        {
            self.0.set_style(style);
        }
        self.0.set_length(seconds);
        self.0.set_position(0);
    }

    /// Counts the seconds until it is stopped.
    pub fn ticking(&self) -> JoinHandle<()> {
        let bar = self.0.clone();
        tokio::spawn(async move {
            let mut seconds = tokio::time::interval(Duration::from_secs(1));
            seconds.tick().await;
            loop {
                seconds.tick().await;
                bar.inc(1);
            }
        })
    }

    pub fn end(&self) {
        self.0.finish_and_clear();
    }
}
