//! What a person sees while a replay runs: live bars on a terminal, otherwise a line a second.

use std::io::IsTerminal;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};
use seen_client::{Admin, ClientOptions, v1};

use super::engine::Progress;
use super::figures::Snapshot;
use crate::cli::calls::table::grouped;

/// How long the admin service may take to answer; the display shows old figures rather than none.
const STATUS_TIMEOUT: Duration = Duration::from_millis(900);
/// What the bars look like.
const BAR: &str = "{elapsed_precise} {bar:30} {human_pos}/{human_len} events";
const LINE: &str = "{msg}";

/// What the service says of itself, as far as it concerns a replay.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct ServiceFigures {
    /// Filters since the replay began.
    pub(super) filters: u64,
    /// Those of them that memory alone answered.
    pub(super) hits: u64,
    /// Users in memory.
    pub(super) entries: u64,
    /// What they take, in bytes.
    pub(super) bytes: u64,
}

impl ServiceFigures {
    /// Share of the filters that memory alone answered.
    pub(super) fn hit_rate(&self) -> Option<f64> {
        (self.filters > 0).then(|| self.hits as f64 / self.filters as f64)
    }

    /// Memory for each user that is held, in bytes.
    pub(super) fn bytes_per_user(&self) -> Option<f64> {
        (self.entries > 0).then(|| self.bytes as f64 / self.entries as f64)
    }
}

/// The live display.
pub(super) struct Display {
    progress: Arc<Progress>,
    admin: Option<Admin>,
    before: v1::TrafficStatus,
    last: Option<ServiceFigures>,
    /// What was shown last, for rates.
    shown: (Duration, u64, u64),
    bars: Option<Bars>,
}

struct Bars {
    all: MultiProgress,
    events: ProgressBar,
    lines: [ProgressBar; 3],
}

impl Bars {
    fn new() -> Self {
        let all = MultiProgress::with_draw_target(ProgressDrawTarget::stderr_with_hz(4));
        let style = |template: &str| {
            ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
        };
        let events = all.add(ProgressBar::new(0).with_style(style(BAR)));
        let lines = [(); 3].map(|()| all.add(ProgressBar::no_length().with_style(style(LINE))));
        Self { all, events, lines }
    }
}

impl Display {
    /// A display; asks the admin service for its figures as of now, if there is one.
    pub(super) async fn new(progress: Arc<Progress>, admin: Option<&str>) -> Self {
        let admin = admin.and_then(|url| {
            let mut options = ClientOptions::new(url);
            options.timeouts.look = STATUS_TIMEOUT;
            options.connect_timeout = STATUS_TIMEOUT;
            Admin::new(&options).ok()
        });
        let mut display = Self {
            progress,
            admin,
            before: v1::TrafficStatus::default(),
            last: None,
            shown: (Duration::ZERO, 0, 0),
            bars: std::io::stderr().is_terminal().then(Bars::new),
        };
        if let Some(status) = display.status().await {
            display.before = status.traffic.unwrap_or_default();
        }
        display
    }

    async fn status(&self) -> Option<v1::StatusResponse> {
        self.admin.as_ref()?.status().await.ok()
    }

    async fn ask(&mut self) {
        let Some(status) = self.status().await else { return };
        let traffic = status.traffic.unwrap_or_default();
        let memory = status.memory.unwrap_or_default();
        self.last = Some(ServiceFigures {
            filters: traffic.filters.saturating_sub(self.before.filters),
            hits: traffic.hits.saturating_sub(self.before.hits),
            entries: memory.entries,
            bytes: memory.bytes,
        });
    }

    /// Shows how things stand.
    pub(super) async fn show(&mut self) {
        self.ask().await;
        let snapshot = self.progress.figures.snapshot();
        let (since, requests, checks) = self.shown;
        let span = (snapshot.elapsed - since).as_secs_f64().max(0.001);
        let rate = |now: u64, before: u64| (now - before) as f64 / span;
        let rates =
            (rate(snapshot.counts.requests(), requests), rate(snapshot.counts.checks, checks));
        self.shown = (snapshot.elapsed, snapshot.counts.requests(), snapshot.counts.checks);
        let lines = lines(&snapshot, rates, self.last);
        match &self.bars {
            None => {
                let events = grouped(snapshot.counts.events);
                let seconds = snapshot.elapsed.as_secs();
                eprintln!("{seconds:>4} s  {events} events  {}", lines.join("  "));
            }
            Some(bars) => {
                let read = self.progress.events_read.load(Ordering::Relaxed);
                bars.events.set_length(read);
                bars.events.set_position(snapshot.counts.events);
                for (bar, line) in bars.lines.iter().zip(lines) {
                    bar.set_message(line);
                }
            }
        }
    }

    /// Shows the end, and takes the bars away.
    pub(super) async fn end(mut self) -> Option<ServiceFigures> {
        self.ask().await;
        if let Some(bars) = &self.bars {
            // An error means that the terminal is gone.
            let _ = bars.all.clear();
        }
        self.last
    }
}

/// The figures in three lines: speed, latency, truth.
fn lines(
    snapshot: &Snapshot,
    (requests, checks): (f64, f64),
    service: Option<ServiceFigures>,
) -> [String; 3] {
    let counts = &snapshot.counts;
    let filter = &snapshot.filter;
    let percent = |share: Option<f64>| match share {
        Some(share) => format!("{:.2} %", share * 100.0),
        None => "-".to_owned(),
    };
    let bytes = service.and_then(|service| service.bytes_per_user());
    [
        format!("{} requests/s  {:.2} M checks/s", grouped(requests as u64), checks / 1e6),
        format!(
            "filter P50 {:.2} P99 {:.2} P999 {:.2} ms  mark P50 {:.2} P99 {:.2} ms",
            filter.p50_ms,
            filter.p99_ms,
            filter.p999_ms,
            snapshot.mark.p50_ms,
            snapshot.mark.p99_ms
        ),
        format!(
            "hits {}  false positives {}  FALSE NEGATIVES {}  flagged {}  errors {}  {} bytes/user",
            percent(service.and_then(|service| service.hit_rate())),
            percent(Some(counts.false_positive_rate())),
            counts.false_negatives,
            grouped(counts.flagged),
            counts.errors,
            bytes.map_or("-".to_owned(), |bytes| format!("{bytes:.0}")),
        ),
    ]
}
