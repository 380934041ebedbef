//! A stream of questions and answers: how it is opened, ended, and comes back after it was lost.

use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use seen_proto::v1;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Response, Status, Streaming};

use crate::call::{Service, Shared};

/// Pauses before a lost stream is opened again: doubled from the first to the last.
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// What is said over one of the service's streams.
pub(crate) trait Talk: 'static {
    /// What is sent.
    type Question: Send + 'static;
    /// What comes back.
    type Answer: Send + 'static;

    /// Opens the stream.
    fn open(
        service: Service,
        questions: ReceiverStream<Self::Question>,
    ) -> impl Future<Output = Result<Response<Streaming<Self::Answer>>, Status>> + Send;
}

/// FilterStream.
pub(crate) struct FilterTalk;

impl Talk for FilterTalk {
    type Question = v1::FilterStreamRequest;
    type Answer = v1::FilterStreamResponse;

    async fn open(
        mut service: Service,
        questions: ReceiverStream<Self::Question>,
    ) -> Result<Response<Streaming<Self::Answer>>, Status> {
        service.filter_stream(questions).await
    }
}

/// MarkStream.
pub(crate) struct MarkTalk;

impl Talk for MarkTalk {
    type Question = v1::MarkStreamRequest;
    type Answer = v1::MarkStreamResponse;

    async fn open(
        mut service: Service,
        questions: ReceiverStream<Self::Question>,
    ) -> Result<Response<Streaming<Self::Answer>>, Status> {
        service.mark_stream(questions).await
    }
}

type Opened<T> = Result<Streaming<<T as Talk>::Answer>, Status>;
type Opening<T> = Pin<Box<dyn Future<Output = Opened<T>> + Send>>;

enum State<T: Talk> {
    Idle { not_before: Instant },
    Opening { out: mpsc::Sender<T::Question>, opening: Opening<T> },
    Open { out: mpsc::Sender<T::Question>, answers: Streaming<T::Answer>, since: Instant },
    Ending { by: Instant, answers: Streaming<T::Answer> },
}

/// What happened to the stream.
pub(crate) enum LinkEvent<A> {
    /// It may be sent over.
    Opened,
    /// A message was answered.
    Answer(A),
    /// It ended in peace, after [`Link::end`].
    Ended,
    /// It could not be opened; nothing was sent.
    Refused(Status),
    /// It broke; what is on the way has an unknown outcome.
    Lost(Status),
}

/// The stream.
pub(crate) struct Link<T: Talk> {
    shared: Arc<Shared>,
    messages_max: usize,
    /// How long it may take to be opened.
    open_max: Duration,
    state: State<T>,
    failures: u32,
}

impl<T: Talk> Link<T> {
    pub(crate) fn new(shared: Arc<Shared>, messages_max: usize, open_max: Duration) -> Self {
        let state = State::Idle { not_before: Instant::now() };
        Self { shared, messages_max, open_max, state, failures: 0 }
    }

    /// What happens next. It opens the stream only if it is `wanted`. May be dropped and called
    /// again at any time.
    pub(crate) async fn next(&mut self, wanted: bool) -> LinkEvent<T::Answer> {
        loop {
            match &mut self.state {
                State::Idle { .. } if !wanted => pending().await,
                State::Idle { not_before } => {
                    sleep_until(*not_before).await;
                    self.state = self.open();
                }
                State::Opening { opening, .. } => {
                    let opened = opening.await;
                    return self.opened(opened);
                }
                State::Open { answers, .. } => {
                    return match answers.message().await {
                        Ok(Some(answer)) => LinkEvent::Answer(answer),
                        Ok(None) => self.lost(Status::unknown("the service ended the stream")),
                        Err(status) => self.lost(status),
                    };
                }
                State::Ending { by, answers } => {
                    return match timeout_at(*by, answers.message()).await {
                        Ok(Ok(Some(answer))) => LinkEvent::Answer(answer),
                        Ok(Ok(None)) => {
                            self.state = State::Idle { not_before: Instant::now() };
                            LinkEvent::Ended
                        }
                        Ok(Err(status)) => self.lost(status),
                        Err(_) => self.lost(Status::unknown("the service did not end the stream")),
                    };
                }
            }
        }
    }

    /// Sends a message, if the stream is open and takes one more. It does not while the service reads
    /// nothing (messages whose time ran out may still wait in front of it), nor once it is broken,
    /// which [`next`](Self::next) is about to say: the caller must not try again before one of the two
    /// can have changed.
    pub(crate) fn send(&self, message: T::Question) -> Result<(), T::Question> {
        match &self.state {
            State::Open { out, .. } => {
                out.try_send(message).map_err(mpsc::error::TrySendError::into_inner)
            }
            _ => Err(message),
        }
    }

    /// True if messages may be sent.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.state, State::Open { .. })
    }

    /// Since when it has been open.
    pub(crate) fn open_since(&self) -> Option<Instant> {
        match self.state {
            State::Open { since, .. } => Some(since),
            _ => None,
        }
    }

    /// Until when it is not opened again after it failed.
    pub(crate) fn paused_until(&self) -> Option<Instant> {
        match self.state {
            State::Idle { not_before } if self.failures > 0 => Some(not_before),
            _ => None,
        }
    }

    /// Says that nothing more will be sent over it; answers still come, until `by` at the latest.
    pub(crate) fn end(&mut self, by: Instant) {
        let idle = State::Idle { not_before: Instant::now() };
        self.state = match std::mem::replace(&mut self.state, idle) {
            State::Open { answers, .. } => State::Ending { by, answers },
            other => other,
        };
    }

    fn open(&self) -> State<T> {
        let (out, messages) = mpsc::channel(self.messages_max);
        let shared = Arc::clone(&self.shared);
        let open_max = self.open_max;
        let opening = async move {
            let lease = shared.channels.lease();
            let opening = T::open(lease.service(), ReceiverStream::new(messages));
            match timeout(open_max, opening).await {
                Ok(opened) => opened.map(Response::into_inner),
                Err(_) => Err(Status::unavailable("the stream could not be opened in time")),
            }
        };
        State::Opening { out, opening: Box::pin(opening) }
    }

    fn opened(&mut self, opened: Opened<T>) -> LinkEvent<T::Answer> {
        let now = Instant::now();
        match opened {
            Ok(answers) => {
                let before = std::mem::replace(&mut self.state, State::Idle { not_before: now });
                if let State::Opening { out, .. } = before {
                    self.state = State::Open { out, answers, since: now };
                }
                LinkEvent::Opened
            }
            Err(status) => {
                self.pause(now);
                LinkEvent::Refused(status)
            }
        }
    }

    fn lost(&mut self, status: Status) -> LinkEvent<T::Answer> {
        let now = Instant::now();
        // One that lived for a while was not refused: begin with the shortest pause again.
        let lived = match self.state {
            State::Open { since, .. } => now - since,
            State::Ending { .. } => Duration::MAX,
            _ => Duration::ZERO,
        };
        if lived > PAUSE_MAX {
            self.failures = 0;
        }
        self.pause(now);
        LinkEvent::Lost(status)
    }

    fn pause(&mut self, now: Instant) {
        let pause = PAUSE_MIN.saturating_mul(1 << self.failures.min(16)).min(PAUSE_MAX);
        self.failures += 1;
        let jitter = rand::rng().random_range(0.5..1.0);
        self.state = State::Idle { not_before: now + pause.mul_f64(jitter) };
    }
}
