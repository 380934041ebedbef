//! One call: its deadline, its attempts, and when another attempt is worth it.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use seen_proto::status::{ApiError, ErrorKind};
use seen_proto::token::WildcardSource;
use seen_proto::v1::seen_service_client::SeenServiceClient;
use tokio::time::{Instant, sleep_until, timeout_at};
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use crate::budget::RetryBudget;
use crate::channels::Channels;
use crate::failure::{Effect, Failure};
use crate::options::ClientOptions;
use crate::trace::carry;

/// Shortest pause before a second attempt; doubled for each further one.
const PAUSE_MS_MIN: u64 = 2;
/// An attempt with less time than this is not begun: it could only expire.
const ATTEMPT_MIN: Duration = Duration::from_millis(1);

/// What the calls of one client share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) channels: Arc<Channels>,
    pub(crate) budget: RetryBudget,
    pub(crate) wildcards: WildcardSource,
    pub(crate) options: ClientOptions,
}

/// The service over one connection.
pub(crate) type Service = SeenServiceClient<Channel>;

/// When another attempt may begin after one that failed.
pub(crate) struct Again<'a> {
    pub(crate) effect: Effect,
    pub(crate) failure: &'a Failure,
    /// Attempts so far.
    pub(crate) attempts: u32,
    pub(crate) attempts_max: u32,
    /// When the time of the failed attempt is up.
    pub(crate) attempt_end: Instant,
    /// When the time of the whole call is up.
    pub(crate) deadline: Instant,
    /// 0 to 1: how much of the pause's random part is waited.
    pub(crate) jitter: f64,
}

impl Again<'_> {
    /// When to begin another attempt; `None` if it does not help or there is no time for it.
    pub(crate) fn at(&self, now: Instant) -> Option<Instant> {
        let kind = self.failure.error.kind;
        if !kind.retry_helps() || self.attempts >= self.attempts_max {
            return None;
        }
        let doubled = Duration::from_millis(PAUSE_MS_MIN << self.attempts.min(10));
        let told = self.failure.error.retry_after.unwrap_or_default();
        // Jitter spreads those who were told the same at the same time.
        let pause = told.max(doubled) + doubled.max(told).mul_f64(self.jitter * 0.5);
        let mut at = now + pause;
        if self.effect == Effect::Write && !self.failure.ended {
            // Row 38: while the first attempt may still run, a second one could be acknowledged, then
            // undone by its caller, and the first one would bring it back.
            at = at.max(self.attempt_end);
        }
        (at + ATTEMPT_MIN <= self.deadline).then_some(at)
    }
}

impl Shared {
    /// When one attempt that begins now must end.
    pub(crate) fn attempt_end(&self, now: Instant, deadline: Instant) -> Instant {
        match self.options.attempt_timeout {
            Some(longest) => deadline.min(now + longest),
            None => deadline,
        }
    }

    /// Makes one call with as many attempts as it is worth.
    pub(crate) async fn call<M, T, F>(
        &self,
        effect: Effect,
        timeout: Duration,
        message: M,
        send: impl Fn(Service, Request<M>) -> F,
    ) -> Result<T, ApiError>
    where
        M: Clone,
        F: Future<Output = Result<Response<T>, Status>>,
    {
        let deadline = Instant::now() + timeout;
        self.budget.earn();
        let mut attempts = 0;
        loop {
            attempts += 1;
            let begin = Instant::now();
            let attempt_end = self.attempt_end(begin, deadline);
            let allowed = attempt_end - begin;
            let mut request = carry(Request::new(message.clone()));
            // The header is what the service goes by; `Endpoint::timeout` would not send it.
            request.set_timeout(allowed);
            let lease = self.channels.lease();
            let failure = match timeout_at(attempt_end, send(lease.service(), request)).await {
                Ok(Ok(answer)) => return Ok(answer.into_inner()),
                // tonic keeps the header's time as well, and may be the first to notice.
                Ok(Err(status)) if status.details().is_empty() && Instant::now() >= attempt_end => {
                    Failure::timed_out(effect, allowed.as_millis())
                }
                Ok(Err(status)) => Failure::of(&status, effect, &self.options.url),
                Err(_) => Failure::timed_out(effect, allowed.as_millis()),
            };
            drop(lease);
            let again = Again {
                effect,
                failure: &failure,
                attempts,
                attempts_max: self.options.attempts_max,
                attempt_end,
                deadline,
                jitter: rand::rng().random(),
            };
            match again.at(Instant::now()) {
                Some(at) if self.budget.spend() => sleep_until(at).await,
                _ => return Err(failure.error),
            }
        }
    }

    /// A fault of the service: an answer that does not fit its question.
    pub(crate) fn misfit(what: impl std::fmt::Display) -> ApiError {
        let message = format!("{what}; report this to whoever runs the service");
        ApiError::new(ErrorKind::Internal, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn again<'a>(effect: Effect, failure: &'a Failure, now: Instant) -> Again<'a> {
        Again {
            effect,
            failure,
            attempts: 1,
            attempts_max: 3,
            attempt_end: now + Duration::from_millis(200),
            deadline: now + Duration::from_millis(500),
            jitter: 0.0,
        }
    }

    fn failure(kind: ErrorKind, ended: bool) -> Failure {
        Failure { error: ApiError::new(kind, ""), ended }
    }

    #[tokio::test(start_paused = true)]
    async fn the_table_decides_whether_and_when() {
        let now = Instant::now();
        for kind in ErrorKind::ALL {
            let failure = failure(kind, true);
            let at = again(Effect::Read, &failure, now).at(now);
            let pause = kind.retry_after().map(|told| told.max(Duration::from_millis(4)));
            let fits = pause.filter(|pause| *pause < Duration::from_millis(500));
            assert_eq!(at, fits.map(|pause| now + pause), "{kind:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn an_open_write_is_repeated_only_after_its_time() {
        let now = Instant::now();
        let open = failure(ErrorKind::OutcomeUnknown, false);
        let ended = failure(ErrorKind::OutcomeUnknown, true);
        let at = |effect, failure| again(effect, failure, now).at(now).map(|at| at - now);
        assert_eq!(at(Effect::Write, &open), Some(Duration::from_millis(200)));
        assert_eq!(at(Effect::Write, &ended), Some(Duration::from_millis(4)));
        let mut whole = again(Effect::Write, &open, now);
        whole.attempt_end = whole.deadline;
        assert_eq!(whole.at(now), None);
    }

    #[tokio::test(start_paused = true)]
    async fn attempts_and_time_are_bounded() {
        let now = Instant::now();
        let failure = failure(ErrorKind::Unavailable, true);
        let mut last = again(Effect::Read, &failure, now);
        last.attempts = 3;
        assert_eq!(last.at(now), None);
        let mut late = again(Effect::Read, &failure, now);
        late.deadline = now + Duration::from_millis(200);
        assert_eq!(late.at(now), None, "the service asks for 200 ms of patience");
    }
}
