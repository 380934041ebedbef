//! Many filters over one stream, answered in any order.

mod worker;

use std::sync::Arc;
use std::time::Duration;

use seen_filter::settings::NAME_BYTES_MAX;
use seen_proto::limits::{CANDIDATES_MAX, GROUPS_MAX, NAMESPACES_MAX};
use seen_proto::status::{ApiError, ErrorKind};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, timeout_at};

use crate::client::Client;
use crate::filter::{FilterAnswer, FilterCall};
use crate::options::{OptionsError, in_range, span_in_range};
use crate::session::Session;

use worker::{Promise, Question, Worker};

/// Most questions of one stream that are not taken yet.
const QUESTIONS_MAX: usize = 4_096;

/// Bounds of a stream of filters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FilterStreamOptions {
    /// Questions of which the reply was not taken yet, 1 to 4,096; one more waits for room. A server
    /// has 256 of one stream wait for storage at once. Default 256.
    pub questions_max: usize,
    /// How long opening the stream may take, its connection included. Questions wait for it within
    /// their own time. Default 1 s.
    pub open_timeout: Duration,
    /// A stream is ended in peace and followed by another one at this age, at least 1 s: a server that
    /// drains, or that closes old connections, then cuts none off in the middle, and load spreads.
    /// Default 15 s, less than `server.drain` and `server.connection_grace`.
    pub stream_age: Duration,
}

impl Default for FilterStreamOptions {
    fn default() -> Self {
        Self {
            questions_max: 256,
            open_timeout: Duration::from_secs(1),
            stream_age: Duration::from_secs(15),
        }
    }
}

impl FilterStreamOptions {
    fn validate(&self) -> Result<(), OptionsError> {
        in_range("questions_max", self.questions_max, 1, QUESTIONS_MAX)?;
        if self.stream_age < Duration::from_secs(1) {
            let value = format!("{:?}", self.stream_age);
            return Err(OptionsError::new("stream_age", value, "at least 1 s"));
        }
        span_in_range("open_timeout", self.open_timeout)
    }
}

/// The asking end of a stream of filters. Clones ask over the same stream; once all are dropped,
/// [`FilterReplies`] ends after the last reply.
#[derive(Clone, Debug)]
pub struct FilterAsks {
    questions: mpsc::Sender<Question>,
    room: Arc<Semaphore>,
    timeout: Duration,
    questions_max: usize,
}

/// The answering end of a stream of filters.
#[derive(Debug)]
pub struct FilterReplies {
    replies: mpsc::Receiver<(FilterReply, OwnedSemaphorePermit)>,
}

/// What one question came to.
#[derive(Clone, Debug, PartialEq)]
pub struct FilterReply {
    /// The number that the question was asked under.
    pub request_id: u64,
    /// As [`Client::filter`] would have answered it: where the service did not answer in time, is away
    /// or the stream broke, the question's own [`crate::WhenAway`] has decided.
    pub answer: Result<FilterAnswer, ApiError>,
}

impl Client {
    /// A stream of filters over one of this client's connections, opened with the first question. Call
    /// it within a tokio runtime.
    ///
    /// # Errors
    /// The first option out of range.
    pub fn filter_stream(
        &self,
        options: FilterStreamOptions,
    ) -> Result<(FilterAsks, FilterReplies), OptionsError> {
        options.validate()?;
        // Every question holds a permit until its reply is taken: neither queue is ever full.
        let (questions, asked) = mpsc::channel(options.questions_max);
        let (answered, replies) = mpsc::channel(options.questions_max);
        let worker = Worker::new(Arc::clone(&self.shared), options, asked, answered);
        tokio::spawn(worker.run());
        let asks = FilterAsks {
            questions,
            room: Arc::new(Semaphore::new(options.questions_max)),
            timeout: self.shared.options.timeouts.filter,
            questions_max: options.questions_max,
        };
        Ok((asks, FilterReplies { replies }))
    }
}

impl FilterAsks {
    /// Asks, as soon as there is room. Exactly one reply with this `request_id` will come, within the
    /// call's time counted from now; the number need not be unique. The session's token is carried,
    /// and is up to date once the reply was taken.
    ///
    /// # Errors
    /// The question is wrong, its time ran out before there was room, or nobody takes replies any
    /// more. No reply will come.
    pub async fn ask(
        &self,
        request_id: u64,
        session: &Session,
        call: FilterCall,
    ) -> Result<(), ApiError> {
        let question = self.question(request_id, session, call)?;
        match timeout_at(question.promise.deadline, Arc::clone(&self.room).acquire_owned()).await {
            Ok(Ok(room)) => self.submit(question, room),
            _ => Err(self.full()),
        }
    }

    /// Asks, if there is room now.
    ///
    /// # Errors
    /// As for [`ask`](Self::ask); without room [`ErrorKind::Overloaded`].
    pub fn try_ask(
        &self,
        request_id: u64,
        session: &Session,
        call: FilterCall,
    ) -> Result<(), ApiError> {
        let question = self.question(request_id, session, call)?;
        match Arc::clone(&self.room).try_acquire_owned() {
            Ok(room) => self.submit(question, room),
            Err(_) => Err(self.full()),
        }
    }

    /// Questions of which the reply was not taken yet.
    pub fn pending_questions(&self) -> usize {
        self.questions_max - self.room.available_permits()
    }

    fn question(
        &self,
        request_id: u64,
        session: &Session,
        call: FilterCall,
    ) -> Result<Question, ApiError> {
        check(&call)?;
        let timeout = call.timeout.unwrap_or(self.timeout);
        let promise = Promise {
            request_id,
            session: session.clone(),
            candidates: call.candidates(),
            when_away: call.when_away,
            timeout,
            deadline: Instant::now() + timeout,
            room: None,
        };
        Ok(Question { promise, request: call.request })
    }

    fn submit(&self, mut question: Question, room: OwnedSemaphorePermit) -> Result<(), ApiError> {
        question.promise.room = Some(room);
        self.questions.try_send(question).map_err(|_| {
            let what = "the stream's replies were dropped, so that nobody would get the answer";
            ApiError::new(ErrorKind::Unavailable, what)
        })
    }

    fn full(&self) -> ApiError {
        let what = format!(
            "{} questions of this stream wait for their replies to be taken; take them first",
            self.questions_max
        );
        ApiError::new(ErrorKind::Overloaded, what)
    }
}

impl FilterReplies {
    /// The next reply, in the order in which they come; `None` once every [`FilterAsks`] is dropped and
    /// everything was answered. May be dropped and called again at any time.
    pub async fn next(&mut self) -> Option<FilterReply> {
        // With the permit dropped here there is room for another question.
        self.replies.recv().await.map(|(reply, _room)| reply)
    }
}

/// A message that the service cannot read ends the stream, and so hurts others: what could make one
/// too large is refused here, as the service would refuse it.
fn check(call: &FilterCall) -> Result<(), ApiError> {
    let request = &call.request;
    let at_most = |field: &'static str, count: usize, most: usize| match count <= most {
        true => Ok(()),
        false => Err(ApiError::invalid(field, format!("{count}; at most {most}"))),
    };
    at_most("namespaces", request.namespaces.len(), NAMESPACES_MAX)?;
    at_most("candidates", request.candidates.len(), GROUPS_MAX)?;
    at_most("candidates.ids", call.candidates(), CANDIDATES_MAX)?;
    match request.namespaces.iter().find(|name| name.len() > NAME_BYTES_MAX) {
        Some(name) => Err(ApiError::unknown_namespace(name)),
        None => Ok(()),
    }
}
