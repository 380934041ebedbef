//! What became of the requests.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::bench::BenchError;

/// Longest latency that is told apart, in microseconds.
const LATENCY_US_MAX: u64 = 60_000_000;
/// Significant digits of a latency.
const DIGITS: u8 = 3;

/// Counts and latencies of a load.
#[derive(Clone, Debug)]
pub(in crate::bench) struct Tally {
    /// Answered calls.
    pub answered: u64,
    /// Bytes of the answers.
    pub bytes: u64,
    /// Failed calls.
    pub failures: u64,
    /// The first failure.
    pub first_failure: Option<String>,
    /// Requests that were due and could not be sent in time.
    pub unsent: u64,
    /// From the first request to the last answer.
    pub elapsed: Duration,
    latency_us: Histogram<u64>,
}

impl Tally {
    pub fn new() -> Self {
        let latency_us = Histogram::new_with_max(LATENCY_US_MAX, DIGITS);
        Self {
            answered: 0,
            bytes: 0,
            failures: 0,
            first_failure: None,
            unsent: 0,
            elapsed: Duration::ZERO,
            latency_us: latency_us.expect("constant bounds are in range"),
        }
    }

    pub fn count(&mut self, answered: Result<usize, String>, latency: Duration) {
        match answered {
            Ok(bytes) => {
                self.answered += 1;
                self.bytes += bytes as u64;
                let us = u64::try_from(latency.as_micros()).unwrap_or(LATENCY_US_MAX);
                self.latency_us.saturating_record(us.max(1));
            }
            Err(why) => {
                self.failures += 1;
                self.first_failure.get_or_insert(why);
            }
        }
    }

    /// Adds what another thread counted at the same time.
    pub fn add(&mut self, other: &Tally) {
        self.answered += other.answered;
        self.bytes += other.bytes;
        self.failures += other.failures;
        self.unsent += other.unsent;
        self.elapsed = self.elapsed.max(other.elapsed);
        if let Some(why) = &other.first_failure {
            self.first_failure.get_or_insert_with(|| why.clone());
        }
        self.latency_us += &other.latency_us;
    }

    /// Refuses a load of which requests failed.
    ///
    /// # Errors
    /// [`BenchError::Requests`].
    pub fn all_answered(self, during: &str) -> Result<Self, BenchError> {
        match self.first_failure {
            None => Ok(self),
            Some(first) => Err(BenchError::Requests {
                during: during.to_owned(),
                failures: self.failures,
                requests: self.answered + self.failures,
                first,
            }),
        }
    }

    /// Answers a second.
    pub fn per_s(&self) -> f64 {
        self.answered as f64 / self.elapsed.as_secs_f64().max(1e-9)
    }

    /// A latency that this share of the answers did not exceed, in milliseconds.
    pub fn latency_ms(&self, share: f64) -> f64 {
        self.latency_us.value_at_quantile(share) as f64 / 1_000.0
    }

    /// Mean bytes of an answer.
    pub fn mean_bytes(&self) -> f64 {
        self.bytes as f64 / self.answered.max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_no_latencies_and_refuse_the_run() {
        let mut tally = Tally::new();
        tally.count(Ok(57), Duration::from_millis(2));
        tally.count(Err("first".to_owned()), Duration::from_secs(9));
        let mut other = Tally::new();
        other.count(Err("second".to_owned()), Duration::from_secs(9));
        tally.add(&other);
        assert_eq!((tally.answered, tally.failures), (1, 2));
        assert!(tally.latency_ms(1.0) < 2.1);
        let refused = tally.all_answered("a test").expect_err("two failed");
        assert!(refused.to_string().contains("2 of 3 requests failed; the first: first"));
    }
}
