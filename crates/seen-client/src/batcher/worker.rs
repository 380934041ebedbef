//! The task behind a batcher: gathers, sends, acknowledges, repeats.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use seen_proto::limits::TIMEOUT_MS_MAX;
use seen_proto::status::{ApiError, ErrorKind, from_call_error};
use seen_proto::v1::mark_stream_response::Result as Answer;
use seen_proto::v1::{MarkRequest, MarkStreamRequest, MarkStreamResponse};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tonic::Status;

use super::BatcherOptions;
use super::groups::{Gathering, Group, Submission};
use crate::call::{Again, Shared};
use crate::failure::{Effect, Failure};
use crate::link::{Link, LinkEvent, MarkTalk};
use crate::session::Carried;

/// How often what is under way is looked at for time that ran out.
const SWEEP: Duration = Duration::from_millis(10);
/// Submissions taken in at once.
const TAKEN_MAX: usize = 256;

/// A message on the way.
struct InFlight {
    group: Group,
    carried: Carried,
    attempt_end: Instant,
}

/// The task behind a batcher. What it holds is bounded by the submissions' room.
pub(super) struct Worker {
    shared: Arc<Shared>,
    options: BatcherOptions,
    submissions: mpsc::Receiver<Submission>,
    link: Link<MarkTalk>,
    gathering: Gathering,
    ready: VecDeque<Group>,
    in_flight: HashMap<u64, InFlight>,
    /// Failed messages, and when they are to be sent again.
    delayed: Vec<(Instant, Group)>,
    next_id: u64,
    /// Set once nothing more is handed over: when to give up.
    close_by: Option<Instant>,
    /// Why the stream could not be had last.
    refused: Option<ApiError>,
}

impl Worker {
    pub(super) fn new(
        shared: Arc<Shared>,
        options: BatcherOptions,
        submissions: mpsc::Receiver<Submission>,
    ) -> Self {
        let link = Link::new(Arc::clone(&shared), options.messages_max, options.attempt_timeout);
        Self {
            shared,
            options,
            submissions,
            link,
            gathering: Gathering::default(),
            ready: VecDeque::new(),
            in_flight: HashMap::new(),
            delayed: Vec::new(),
            next_id: 0,
            close_by: None,
            refused: None,
        }
    }

    /// Runs until nothing more is handed over and everything is settled.
    pub(super) async fn run(mut self) {
        let mut taken = Vec::with_capacity(TAKEN_MAX);
        while !self.is_done() {
            let wake = self.advance(Instant::now());
            let (wanted, taking) = (!self.ready.is_empty(), self.close_by.is_none());
            tokio::select! {
                biased;
                event = self.link.next(wanted) => self.on_link(event, Instant::now()),
                count = self.submissions.recv_many(&mut taken, TAKEN_MAX), if taking => {
                    let now = Instant::now();
                    taken.drain(..).for_each(|submission| self.gathering.add(submission, now));
                    if count == 0 {
                        self.close_by = Some(now + self.options.close_timeout);
                    }
                }
                () = sleep_until(wake) => self.sweep(Instant::now()),
            }
        }
    }

    fn is_done(&self) -> bool {
        self.close_by.is_some()
            && self.gathering.due(0, Duration::ZERO).is_none()
            && self.ready.is_empty()
            && self.in_flight.is_empty()
            && self.delayed.is_empty()
    }

    /// Does what can be done now; when to look again at the latest.
    fn advance(&mut self, now: Instant) -> Instant {
        let BatcherOptions { flush_items, flush_after, messages_max, .. } = self.options;
        let due = self.gathering.due(flush_items, flush_after);
        if due.is_some_and(|due| due <= now || self.close_by.is_some()) {
            self.ready.extend(self.gathering.take());
        }
        if self.link.open_since().is_some_and(|since| now >= since + self.options.stream_age) {
            self.link.end(now + self.options.attempt_timeout);
        }
        while self.link.is_open() && self.in_flight.len() < messages_max {
            let Some(group) = self.ready.pop_front() else { break };
            if let Err(group) = self.send(group, now) {
                // Broken, or read by nobody: to be tried again after the next event or sweep. Trying
                // at once would never end, as neither can change before this task pauses.
                self.ready.push_front(group);
                break;
            }
        }
        let idle = self.ready.is_empty() && self.in_flight.is_empty() && self.delayed.is_empty();
        // While idle only the stream's age matters.
        let sweep = if idle { now + Duration::from_secs(1) } else { now + SWEEP };
        self.gathering.due(flush_items, flush_after).map_or(sweep, |due| due.min(sweep))
    }

    /// Sends a message; hands it back if the stream does not take it.
    fn send(&mut self, mut group: Group, now: Instant) -> Result<(), Group> {
        let attempt_end = group.deadline.min(now + self.options.attempt_timeout);
        if attempt_end <= now {
            self.expire(group);
            return Ok(());
        }
        let carried = group.session.carry();
        let mark = MarkRequest {
            user: group.session.user(),
            namespace: group.namespace.clone(),
            items: group.items.clone(),
            token: carried.token.clone(),
        };
        let left_ms = (attempt_end - now).as_millis().clamp(1, TIMEOUT_MS_MAX.into());
        let request_id = self.next_id;
        let timeout_ms = left_ms as u32;
        let message = MarkStreamRequest { request_id, mark: Some(mark), timeout_ms };
        if self.link.send(message).is_err() {
            return Err(group);
        }
        if group.attempts == 0 {
            self.shared.budget.earn();
        }
        group.attempts += 1;
        self.next_id += 1;
        self.in_flight.insert(request_id, InFlight { group, carried, attempt_end });
        Ok(())
    }

    fn on_link(&mut self, event: LinkEvent<MarkStreamResponse>, now: Instant) {
        match event {
            LinkEvent::Opened => self.refused = None,
            LinkEvent::Answer(answer) => self.on_answer(answer, now),
            LinkEvent::Ended => self.lose("the stream was ended", now),
            LinkEvent::Lost(status) => self.lose(status.message(), now),
            LinkEvent::Refused(status) => self.on_refused(&status),
        }
    }

    fn on_answer(&mut self, answer: MarkStreamResponse, now: Instant) {
        // One that comes after its time was settled already.
        let Some(InFlight { group, carried, attempt_end }) =
            self.in_flight.remove(&answer.request_id)
        else {
            return;
        };
        let error = match answer.result {
            Some(Answer::Mark(mark)) => {
                group.session.absorb(&carried, mark.token, &self.shared.wildcards);
                return group.settle(&Ok(()));
            }
            Some(Answer::Error(error)) => from_call_error(&error),
            None => Shared::misfit("an answer without a result"),
        };
        self.failed(group, &Failure { error, ended: true }, attempt_end, now);
    }

    /// What was on the way may be written or not.
    fn lose(&mut self, why: &str, now: Instant) {
        let what = format!("the stream was lost: {why}; the marks may be written or not");
        let failure =
            Failure { error: ApiError::new(ErrorKind::OutcomeUnknown, what), ended: false };
        let mut lost: Vec<(u64, InFlight)> = self.in_flight.drain().collect();
        lost.sort_unstable_by_key(|(id, _)| *id);
        for (_, InFlight { group, attempt_end, .. }) in lost {
            self.failed(group, &failure, attempt_end, now);
        }
    }

    /// Nothing was sent. What waits goes on waiting for a stream within its time, unless none will
    /// ever be had.
    fn on_refused(&mut self, status: &Status) {
        let error = Failure::of(status, Effect::Read, &self.shared.options.url).error;
        if !error.kind.retry_helps() {
            let outcome = Err(error.clone());
            self.ready.drain(..).for_each(|group| group.settle(&outcome));
        }
        self.refused = Some(error);
    }

    /// Sends a failed message again later, or says so.
    fn failed(&mut self, group: Group, failure: &Failure, attempt_end: Instant, now: Instant) {
        let again = Again {
            effect: Effect::Write,
            failure,
            attempts: group.attempts,
            attempts_max: self.shared.options.attempts_max,
            attempt_end,
            deadline: group.deadline,
            jitter: rand::rng().random(),
        };
        match again.at(now) {
            Some(at) if self.shared.budget.spend() => self.delayed.push((at, group)),
            _ => group.settle(&Err(failure.error.clone())),
        }
    }

    /// Its time ran out before it could be sent (again).
    fn expire(&self, group: Group) {
        let error = match (&self.refused, group.attempts) {
            (Some(error), 0) => error.clone(),
            (_, 0) => {
                let what = "the mark waited too long to be sent; mark more slowly";
                ApiError::new(ErrorKind::DeadlineExceeded, what)
            }
            _ => Failure::timed_out(Effect::Write, self.options.timeout.as_millis()).error,
        };
        group.settle(&Err(error));
    }

    /// Finds what ran out of time, and what is to be sent again.
    fn sweep(&mut self, now: Instant) {
        if self.close_by.is_some_and(|by| by <= now) {
            return self.give_up();
        }
        let late: Vec<u64> = self
            .in_flight
            .iter()
            .filter(|(_, message)| message.attempt_end <= now)
            .map(|(id, _)| *id)
            .collect();
        for id in late {
            if let Some(InFlight { group, attempt_end, .. }) = self.in_flight.remove(&id) {
                let allowed_ms = self.options.attempt_timeout.as_millis();
                let failure = Failure::timed_out(Effect::Write, allowed_ms);
                self.failed(group, &failure, attempt_end, now);
            }
        }
        let (due, delayed) = self.delayed.drain(..).partition(|(at, _)| *at <= now);
        self.delayed = delayed;
        self.ready.extend(Vec::into_iter(due).map(|(_, group): (Instant, Group)| group));
        let (expired, ready) = self.ready.drain(..).partition(|group| group.deadline <= now);
        self.ready = ready;
        VecDeque::into_iter(expired).for_each(|group: Group| self.expire(group));
    }

    /// Closing took too long.
    fn give_up(&mut self) {
        let what = "the batcher was closed before the mark was acknowledged; repeat it";
        let unknown = Err(ApiError::new(ErrorKind::OutcomeUnknown, what));
        self.in_flight.drain().for_each(|(_, message)| message.group.settle(&unknown));
        let waiting = self.gathering.take().into_iter().chain(self.ready.drain(..));
        for group in waiting.chain(self.delayed.drain(..).map(|(_, group)| group)) {
            let never = || Err(ApiError::new(ErrorKind::Unavailable, what));
            let outcome = if group.attempts == 0 { never() } else { unknown.clone() };
            group.settle(&outcome);
        }
    }
}
