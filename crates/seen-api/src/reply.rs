//! A reply that a task awaits.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use seen_proto::status::{ApiError, ErrorKind};
use tokio::sync::oneshot;

use crate::calls::Reply;

type Outcome = Result<Bytes, ApiError>;

/// A reply, and the answer that comes of it.
pub fn awaited() -> (Box<dyn Reply>, Answer) {
    let (sender, receiver) = oneshot::channel();
    (Box::new(Sender(sender)), Answer(receiver))
}

/// What whoever answers is told of a reply that was dropped.
pub fn unanswered() -> ApiError {
    ApiError::new(ErrorKind::Internal, "the call was given up without an answer; report this")
}

struct Sender(oneshot::Sender<Outcome>);

impl Reply for Sender {
    fn send(self: Box<Self>, answer: Outcome) {
        // An error is that nobody waits any more.
        let _ = self.0.send(answer);
    }

    fn is_abandoned(&self) -> bool {
        self.0.is_closed()
    }

    fn poll_abandoned(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.poll_closed(cx)
    }
}

/// The answer to come. Dropped, the reply is abandoned.
#[derive(Debug)]
pub struct Answer(oneshot::Receiver<Outcome>);

impl Answer {
    /// The answer, if it is there.
    pub fn try_take(&mut self) -> Option<Outcome> {
        match self.0.try_recv() {
            Ok(outcome) => Some(outcome),
            Err(oneshot::error::TryRecvError::Empty) => None,
            Err(oneshot::error::TryRecvError::Closed) => Some(Err(unanswered())),
        }
    }
}

impl Future for Answer {
    type Output = Outcome;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Outcome> {
        Pin::new(&mut self.0).poll(cx).map(|told| told.unwrap_or_else(|_| Err(unanswered())))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    #[tokio::test]
    async fn an_answer_comes_once_it_is_sent() {
        let (reply, mut answer) = awaited();
        assert!(answer.try_take().is_none());
        assert!(!reply.is_abandoned());
        reply.send(Ok(Bytes::from_static(b"yes")));
        assert_eq!(answer.await, Ok(Bytes::from_static(b"yes")));
    }

    #[tokio::test]
    async fn a_reply_that_is_dropped_is_an_internal_error() {
        let (reply, mut answer) = awaited();
        drop(reply);
        assert_eq!(answer.try_take(), Some(Err(unanswered())));
        let (reply, answer) = awaited();
        drop(reply);
        assert_eq!(answer.await.expect_err("none").kind, ErrorKind::Internal);
    }

    #[tokio::test]
    async fn whoever_answers_hears_that_nobody_waits() {
        let (mut reply, answer) = awaited();
        let hears = tokio::spawn(async move { poll_fn(|cx| reply.poll_abandoned(cx)).await });
        drop(answer);
        hears.await.expect("it hears");
    }
}
