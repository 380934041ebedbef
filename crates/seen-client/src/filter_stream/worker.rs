//! The task behind a stream of filters: sends, pairs answers with questions, and answers in the
//! service's stead where that is away.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use seen_proto::limits::TIMEOUT_MS_MAX;
use seen_proto::status::{ApiError, Blame, ErrorKind, from_call_error};
use seen_proto::v1::filter_stream_response::Result as Answer;
use seen_proto::v1::{FilterRequest, FilterStreamRequest, FilterStreamResponse};
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::{Instant, sleep_until};
use tonic::Status;

use super::{FilterReply, FilterStreamOptions};
use crate::call::Shared;
use crate::failure::{Effect, Failure};
use crate::filter::{FilterAnswer, WhenAway, answered, in_its_stead};
use crate::link::{FilterTalk, Link, LinkEvent};
use crate::session::{Carried, Session};

/// Questions taken in at once.
const TAKEN_MAX: usize = 64;
/// How soon a stream that took no message is tried again.
const STUCK_PAUSE: Duration = Duration::from_millis(5);
/// How long a stream without open questions may take to end.
const END_MAX: Duration = Duration::from_secs(1);

/// Who waits for a reply, and what is answered without the service.
#[derive(Debug)]
pub(super) struct Promise {
    pub(super) request_id: u64,
    pub(super) session: Session,
    pub(super) candidates: usize,
    pub(super) when_away: WhenAway,
    pub(super) timeout: Duration,
    pub(super) deadline: Instant,
    /// Given back when the reply is taken.
    pub(super) room: Option<OwnedSemaphorePermit>,
}

/// A question as it was handed over.
#[derive(Debug)]
pub(super) struct Question {
    pub(super) promise: Promise,
    pub(super) request: FilterRequest,
}

/// A question on the way.
struct Asked {
    promise: Promise,
    carried: Carried,
    /// Which stream it went over.
    stream: u64,
}

/// A stream that nothing more is sent over, while its last answers come.
struct Ending {
    link: Link<FilterTalk>,
    stream: u64,
}

/// The task. Its questions, and so all that it holds, are bounded by their room.
pub(super) struct Worker {
    shared: Arc<Shared>,
    options: FilterStreamOptions,
    questions: mpsc::Receiver<Question>,
    replies: mpsc::Sender<(FilterReply, OwnedSemaphorePermit)>,
    link: Link<FilterTalk>,
    /// The number of the stream that `link` has or will have.
    stream: u64,
    ending: Option<Ending>,
    /// Not sent yet, by the number under which they will be: the callers' own need not be unique.
    waiting: BTreeMap<u64, Question>,
    asked: HashMap<u64, Asked>,
    /// When the time of each is up.
    deadlines: BTreeSet<(Instant, u64)>,
    next_id: u64,
    /// Why no stream was to be had last.
    refused: Option<ApiError>,
    /// False once nothing more is asked.
    open: bool,
}

impl Worker {
    pub(super) fn new(
        shared: Arc<Shared>,
        options: FilterStreamOptions,
        questions: mpsc::Receiver<Question>,
        replies: mpsc::Sender<(FilterReply, OwnedSemaphorePermit)>,
    ) -> Self {
        Self {
            link: Link::new(Arc::clone(&shared), options.questions_max, options.open_timeout),
            shared,
            options,
            questions,
            replies,
            stream: 0,
            ending: None,
            waiting: BTreeMap::new(),
            asked: HashMap::new(),
            deadlines: BTreeSet::new(),
            next_id: 0,
            refused: None,
            open: true,
        }
    }

    /// Runs until nothing more is asked and everything is answered, or nobody takes replies.
    pub(super) async fn run(mut self) {
        let mut taken = Vec::with_capacity(TAKEN_MAX);
        while self.open || !self.deadlines.is_empty() {
            let wake = self.advance(Instant::now());
            let wanted = !self.waiting.is_empty();
            tokio::select! {
                biased;
                event = self.link.next(wanted) => self.on_link(event),
                event = last_words(&mut self.ending) => self.on_ending(event),
                count = self.questions.recv_many(&mut taken, TAKEN_MAX), if self.open => {
                    self.open = count > 0;
                    taken.drain(..).for_each(|question| self.take(question));
                }
                () = until(wake) => self.expire(Instant::now()),
                () = self.replies.closed() => return,
            }
        }
    }

    fn take(&mut self, question: Question) {
        self.shared.budget.earn();
        if let (Some(error), Some(until)) = (&self.refused, self.link.paused_until())
            && until >= question.promise.deadline
        {
            // The service is away, and will not be tried again in time.
            return self.settle(question.promise, Err(error.clone()));
        }
        self.deadlines.insert((question.promise.deadline, self.next_id));
        self.waiting.insert(self.next_id, question);
        self.next_id += 1;
    }

    /// Sends what can be sent; when to look again at the latest.
    fn advance(&mut self, now: Instant) -> Option<Instant> {
        let mut wake = self.deadlines.first().map(|(deadline, _)| *deadline);
        let mut sooner = |at: Instant| wake = Some(wake.map_or(at, |wake| wake.min(at)));
        if let Some(since) = self.link.open_since() {
            let old = since + self.options.stream_age;
            match old <= now && self.ending.is_none() {
                true => self.replace_link(now),
                false if self.ending.is_none() => sooner(old),
                false => {}
            }
        }
        while self.link.is_open()
            && let Some((id, question)) = self.waiting.pop_first()
        {
            if !self.send(id, question, now) {
                // Broken, or read by nobody: neither changes before this task pauses.
                sooner(now + STUCK_PAUSE);
                break;
            }
        }
        wake
    }

    /// Sends one question; false if the stream does not take it, so that it goes on waiting.
    fn send(&mut self, id: u64, question: Question, now: Instant) -> bool {
        let Question { promise, request } = question;
        let carried = promise.session.carry();
        let left_ms = promise.deadline.saturating_duration_since(now).as_millis();
        let message = FilterStreamRequest {
            request_id: id,
            filter: Some(FilterRequest {
                user: promise.session.user(),
                token: carried.token.clone(),
                ..request
            }),
            timeout_ms: left_ms.clamp(1, TIMEOUT_MS_MAX.into()) as u32,
        };
        match self.link.send(message) {
            Ok(()) => {
                self.asked.insert(id, Asked { promise, carried, stream: self.stream });
                true
            }
            Err(message) => {
                let request = message.filter.unwrap_or_default();
                self.waiting.insert(id, Question { promise, request });
                false
            }
        }
    }

    /// Begins another stream, and lets the old one have its last words.
    fn replace_link(&mut self, now: Instant) {
        let FilterStreamOptions { questions_max, open_timeout, .. } = self.options;
        let fresh = Link::new(Arc::clone(&self.shared), questions_max, open_timeout);
        let mut link = std::mem::replace(&mut self.link, fresh);
        // No question is open for longer than that.
        let last = self.deadlines.last().map_or(now, |(deadline, _)| *deadline);
        link.end(last.max(now + END_MAX));
        self.ending = Some(Ending { link, stream: self.stream });
        self.stream += 1;
    }

    fn on_link(&mut self, event: LinkEvent<FilterStreamResponse>) {
        match event {
            LinkEvent::Opened => self.refused = None,
            LinkEvent::Answer(answer) => self.on_answer(answer),
            LinkEvent::Lost(status) => self.lose(&status, self.stream),
            LinkEvent::Ended => self.lose(&Status::unknown("it was ended"), self.stream),
            LinkEvent::Refused(status) => self.on_refused(&status),
        }
    }

    fn on_ending(&mut self, event: LinkEvent<FilterStreamResponse>) {
        let status = match event {
            LinkEvent::Answer(answer) => return self.on_answer(answer),
            LinkEvent::Lost(status) | LinkEvent::Refused(status) => status,
            LinkEvent::Ended | LinkEvent::Opened => {
                Status::unknown("the service ended the stream before all was answered")
            }
        };
        if let Some(Ending { stream, .. }) = self.ending.take() {
            self.lose(&status, stream);
        }
    }

    fn on_answer(&mut self, answer: FilterStreamResponse) {
        // One that comes after its time was answered already.
        let Some(Asked { promise, carried, .. }) = self.asked.remove(&answer.request_id) else {
            return;
        };
        self.deadlines.remove(&(promise.deadline, answer.request_id));
        let outcome = match answer.result {
            Some(Answer::Filter(response)) => {
                answered(response, &promise.session, &carried, promise.candidates, &self.shared)
            }
            Some(Answer::Error(error)) => Err(from_call_error(&error)),
            None => Err(Shared::misfit("an answer without a result")),
        };
        self.settle(promise, outcome);
    }

    /// The stream broke: what was asked over it is answered as each question declared.
    fn lose(&mut self, status: &Status, stream: u64) {
        let mut error = Failure::of(status, Effect::Read, &self.shared.options.url).error;
        if error.kind.blame() == Blame::Caller {
            // One message's fault at most, and it is not known whose.
            error = ApiError::new(ErrorKind::Unavailable, format!("stream lost: {error}"));
        }
        let lost = self.asked.iter().filter(|(_, asked)| asked.stream == stream);
        let mut lost: Vec<u64> = lost.map(|(id, _)| *id).collect();
        lost.sort_unstable();
        for id in lost {
            if let Some(Asked { promise, .. }) = self.asked.remove(&id) {
                self.deadlines.remove(&(promise.deadline, id));
                self.settle(promise, Err(error.clone()));
            }
        }
    }

    /// No stream was to be had: nobody need wait until the time is up.
    fn on_refused(&mut self, status: &Status) {
        let error = Failure::of(status, Effect::Read, &self.shared.options.url).error;
        for (id, Question { promise, .. }) in std::mem::take(&mut self.waiting) {
            self.deadlines.remove(&(promise.deadline, id));
            self.settle(promise, Err(error.clone()));
        }
        self.refused = Some(error);
    }

    /// Answers those whose time is up.
    fn expire(&mut self, now: Instant) {
        while let Some((deadline, id)) = self.deadlines.first().copied()
            && deadline <= now
        {
            self.deadlines.remove(&(deadline, id));
            let asked = self.asked.remove(&id).map(|asked| asked.promise);
            let late = asked.or_else(|| self.waiting.remove(&id).map(|question| question.promise));
            if let Some(promise) = late {
                let allowed_ms = promise.timeout.as_millis();
                let error = Failure::timed_out(Effect::Read, allowed_ms).error;
                self.settle(promise, Err(error));
            }
        }
    }

    fn settle(&self, promise: Promise, outcome: Result<FilterAnswer, ApiError>) {
        let Promise { request_id, candidates, when_away, room: Some(room), .. } = promise else {
            return;
        };
        let answer = outcome.or_else(|error| in_its_stead(error, when_away, candidates));
        // It cannot be full, as every reply in it holds room. Closed means that nobody waits.
        let _ = self.replies.try_send((FilterReply { request_id, answer }, room));
    }
}

/// What an ending stream says; nothing if there is none.
async fn last_words(ending: &mut Option<Ending>) -> LinkEvent<FilterStreamResponse> {
    match ending {
        Some(ending) => ending.link.next(false).await,
        None => pending().await,
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => pending().await,
    }
}
