//! The stream that a batcher sends over, and how it comes back after it was lost.

use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use rand::Rng;
use seen_proto::v1::{MarkStreamRequest, MarkStreamResponse};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout, timeout_at};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use crate::call::Shared;

/// Pauses before a lost stream is opened again: doubled from the first to the last.
const PAUSE_MIN: Duration = Duration::from_millis(10);
const PAUSE_MAX: Duration = Duration::from_secs(1);

type Opening = Pin<Box<dyn Future<Output = Result<Streaming<MarkStreamResponse>, Status>> + Send>>;

enum State {
    Idle { not_before: Instant },
    Opening { out: mpsc::Sender<MarkStreamRequest>, opening: Opening },
    Open { out: mpsc::Sender<MarkStreamRequest>, answers: Streaming<MarkStreamResponse> },
    Ending { by: Instant, answers: Streaming<MarkStreamResponse> },
}

/// What happened to the stream.
pub(super) enum LinkEvent {
    /// It may be sent over.
    Opened,
    /// A message was answered.
    Answer(MarkStreamResponse),
    /// It ended in peace, after [`Link::end`].
    Ended,
    /// It could not be opened; nothing was sent.
    Refused(Status),
    /// It broke; what is on the way has an unknown outcome.
    Lost(Status),
}

/// The stream.
pub(super) struct Link {
    shared: Arc<Shared>,
    messages_max: usize,
    /// How long it may take to be opened, and to end.
    open_max: Duration,
    state: State,
    failures: u32,
    opened_at: Instant,
}

impl Link {
    pub(super) fn new(shared: Arc<Shared>, messages_max: usize, open_max: Duration) -> Self {
        let now = Instant::now();
        let state = State::Idle { not_before: now };
        Self { shared, messages_max, open_max, state, failures: 0, opened_at: now }
    }

    /// What happens next. It opens the stream only if it is `wanted`. May be dropped and called
    /// again at any time.
    pub(super) async fn next(&mut self, wanted: bool) -> LinkEvent {
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

    /// Sends a message, if the stream is open. The caller has at most `messages_max` on the way, so
    /// that there is always room.
    pub(super) fn send(&self, message: MarkStreamRequest) -> Result<(), MarkStreamRequest> {
        match &self.state {
            State::Open { out, .. } => {
                out.try_send(message).map_err(mpsc::error::TrySendError::into_inner)
            }
            _ => Err(message),
        }
    }

    /// True if messages may be sent.
    pub(super) fn is_open(&self) -> bool {
        matches!(self.state, State::Open { .. })
    }

    /// How long it has been open.
    pub(super) fn age(&self, now: Instant) -> Duration {
        if self.is_open() { now - self.opened_at } else { Duration::ZERO }
    }

    /// Says that nothing more will be sent over it; answers still come.
    pub(super) fn end(&mut self) {
        let now = Instant::now();
        self.state = match std::mem::replace(&mut self.state, State::Idle { not_before: now }) {
            State::Open { answers, .. } => State::Ending { by: now + self.open_max, answers },
            other => other,
        };
    }

    fn open(&self) -> State {
        let (out, messages) = mpsc::channel(self.messages_max);
        let shared = Arc::clone(&self.shared);
        let open_max = self.open_max;
        let opening = async move {
            let lease = shared.channels.lease();
            let mut service = lease.service();
            let opening = service.mark_stream(ReceiverStream::new(messages));
            match timeout(open_max, opening).await {
                Ok(opened) => opened.map(tonic::Response::into_inner),
                Err(_) => Err(Status::unavailable("the stream could not be opened in time")),
            }
        };
        State::Opening { out, opening: Box::pin(opening) }
    }

    fn opened(&mut self, opened: Result<Streaming<MarkStreamResponse>, Status>) -> LinkEvent {
        let now = Instant::now();
        match opened {
            Ok(answers) => {
                let before = std::mem::replace(&mut self.state, State::Idle { not_before: now });
                if let State::Opening { out, .. } = before {
                    self.state = State::Open { out, answers };
                }
                self.opened_at = now;
                LinkEvent::Opened
            }
            Err(status) => {
                self.pause(now);
                LinkEvent::Refused(status)
            }
        }
    }

    fn lost(&mut self, status: Status) -> LinkEvent {
        let now = Instant::now();
        // One that lived for a while was not refused: begin with the shortest pause again.
        if now - self.opened_at > PAUSE_MAX {
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
