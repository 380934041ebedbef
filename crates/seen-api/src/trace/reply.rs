//! A reply that ends its call's span.

use std::task::{Context, Poll};

use bytes::Bytes;
use seen_proto::status::ApiError;

use super::Span;
use crate::calls::Reply;

impl Span {
    /// The same reply, which tells this span how the call ended, and ends it. Without a span the reply is as it was.
    pub fn with_reply(&self, reply: Box<dyn Reply>) -> Box<dyn Reply> {
        match self.is_on() {
            true => Box::new(Traced { reply: Some(reply), span: self.clone() }),
            false => reply,
        }
    }
}

struct Traced {
    /// Taken once it is answered.
    reply: Option<Box<dyn Reply>>,
    span: Span,
}

impl Reply for Traced {
    fn send(mut self: Box<Self>, answer: Result<Bytes, ApiError>) {
        let Some(reply) = self.reply.take() else { return };
        self.span.outcome(answer.as_ref().err());
        // Before the caller knows: whoever has the answer may end the process.
        self.span.end();
        reply.send(answer);
    }

    fn is_abandoned(&self) -> bool {
        self.reply.as_ref().is_none_or(|reply| reply.is_abandoned())
    }

    fn poll_abandoned(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.reply {
            Some(reply) => reply.poll_abandoned(cx),
            None => Poll::Ready(()),
        }
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        if self.reply.is_some() {
            self.span.failed("unanswered", "nobody waited any more, or the call was given up");
            self.span.end();
        }
    }
}
