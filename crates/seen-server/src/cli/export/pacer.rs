//! No more rows a second than asked for.

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

/// Holds a rate: a part begins once the parts before it have had their time.
#[derive(Debug)]
pub(in crate::cli) struct Pacer {
    rows_per_s: Option<f64>,
    next: Instant,
}

impl Pacer {
    pub(in crate::cli) fn new(rows_per_s: Option<f64>) -> Self {
        Self { rows_per_s, next: Instant::now() }
    }

    /// Rows of a page: what a second has, so that a slow export is no less even than a fast one.
    pub(super) fn page_rows(&self, rows_max: usize) -> usize {
        self.rows_per_s.map_or(rows_max, |rate| (rate.ceil() as usize).clamp(1, rows_max))
    }

    /// Waits until so many rows may go on. Time that was not used is not made up for.
    pub(in crate::cli) async fn pass(&mut self, rows: usize) {
        let Some(rate) = self.rows_per_s else { return };
        sleep_until(self.next).await;
        self.next = self.next.max(Instant::now()) + Duration::from_secs_f64(rows as f64 / rate);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_rate_is_held_and_idle_time_is_lost() {
        let begin = Instant::now();
        let mut pacer = Pacer::new(Some(1_000.0));
        for _ in 0..20 {
            pacer.pass(500).await;
        }
        assert_eq!(begin.elapsed(), Duration::from_millis(19 * 500));
        tokio::time::advance(Duration::from_secs(60)).await;
        let begin = Instant::now();
        for _ in 0..3 {
            pacer.pass(500).await;
        }
        assert_eq!(begin.elapsed(), Duration::from_millis(2 * 500));
    }

    #[tokio::test(start_paused = true)]
    async fn without_a_rate_nothing_waits() {
        let begin = Instant::now();
        let mut pacer = Pacer::new(None);
        for _ in 0..1_000 {
            pacer.pass(usize::MAX).await;
        }
        assert_eq!(begin.elapsed(), Duration::ZERO);
        assert_eq!(pacer.page_rows(10_000), 10_000);
        assert_eq!(Pacer::new(Some(0.5)).page_rows(10_000), 1);
        assert_eq!(Pacer::new(Some(1e9)).page_rows(10_000), 10_000);
    }
}
