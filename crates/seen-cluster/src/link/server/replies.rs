//! How a request is answered: exactly once, from any thread.

use std::mem;
use std::sync::Arc;

use seen_proto::status::{ApiError, ErrorKind};
use tokio::sync::Notify;

use crate::link::message::{REPLY_BYTES_MAX, RequestId, put_credit, put_reply};
use crate::link::outbox::{Outbox, Waiting};
use crate::link::{Answer, control};
use crate::sabotage::defends;

/// What changes together with the buffer.
#[derive(Debug, Default)]
pub(super) struct Owing {
    /// True once nothing is written any more.
    pub closed: bool,
    /// Set when more waits than may: how much.
    pub overflow: Option<usize>,
    /// Bytes of requests that were answered, to be given back with the next write.
    answered: u32,
}

/// What the connection's task and its repliers share.
pub(super) struct Replies {
    pub out: Outbox<Owing>,
    /// Wakes a task that writes when there is no use in it any more.
    pub overflowed: Notify,
    buffer_bytes_max: usize,
}

impl Replies {
    pub fn new(buffer_bytes_max: usize) -> Arc<Self> {
        let out = Outbox::new(Owing::default());
        Arc::new(Self { out, overflowed: Notify::new(), buffer_bytes_max })
    }

    /// Appends the credit that is given back with what is written now, and says how much it is.
    pub fn give_back(waiting: &mut Waiting<Owing>) -> u64 {
        let answered = mem::take(&mut waiting.extra.answered);
        if answered > 0 && !waiting.extra.closed && defends("link.credit") {
            put_credit(&mut waiting.buffer, answered);
        }
        answered.into()
    }

    /// A request was read, which cost `bytes`.
    pub fn replier(self: &Arc<Self>, id: RequestId, bytes: u32) -> Replier {
        Replier { replies: self.clone(), id, bytes, answered: false }
    }

    /// Appends an answer.
    fn put(&self, id: RequestId, bytes: u32, is_error: bool, body: &[u8]) {
        let overflowed = self.out.put(|waiting| {
            if waiting.extra.closed {
                return false;
            }
            put_reply(&mut waiting.buffer, id, is_error, body);
            waiting.extra.answered += bytes;
            let waits = waiting.bytes();
            if waits <= self.buffer_bytes_max {
                return false;
            }
            // Whoever does not read will not miss it.
            waiting.buffer = Vec::new();
            waiting.extra.closed = true;
            waiting.extra.overflow = Some(waits);
            true
        });
        if overflowed {
            self.overflowed.notify_one();
        }
    }
}

/// The duty to answer one request. Dropped without an answer, the sender is told INTERNAL.
pub struct Replier {
    replies: Arc<Replies>,
    id: RequestId,
    bytes: u32,
    answered: bool,
}

impl Replier {
    /// Answers with a message's bytes.
    pub fn message(mut self, body: &[u8]) {
        if body.len() > REPLY_BYTES_MAX {
            let bytes = body.len();
            let message = format!(
                "the answer takes {bytes} bytes; at most {REPLY_BYTES_MAX}; ask for less at once"
            );
            return self.put_error(ApiError::new(ErrorKind::TooLarge, message));
        }
        self.answered = true;
        self.replies.put(self.id, self.bytes, false, body);
    }

    /// Answers that there is none.
    pub fn error(mut self, error: ApiError) {
        self.put_error(error);
    }

    /// Answers with either.
    pub fn answer(self, answer: Answer) {
        match answer {
            Answer::Message(body) => self.message(&body),
            Answer::Error(error) => self.error(error),
        }
    }

    /// True once the connection is gone and nobody can be told.
    pub fn is_abandoned(&self) -> bool {
        self.replies.out.lock().extra.closed
    }

    fn put_error(&mut self, error: ApiError) {
        self.answered = true;
        self.replies.put(self.id, self.bytes, true, &control::error_body(error));
    }
}

impl Drop for Replier {
    fn drop(&mut self) {
        if !self.answered {
            let message = "the request was given up without an answer";
            self.put_error(ApiError::new(ErrorKind::Internal, message));
        }
    }
}
