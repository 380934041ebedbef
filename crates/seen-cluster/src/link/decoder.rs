//! All that may come over a link, from bytes that come in any parts. For tools, tests and fuzzing: what the two ends
//! do, in one pure place.

use bytes::Bytes;
use seen_proto::v1;

use super::assembly::Assembly;
use super::frame::{Batch, FrameKind, FrameReader};
use super::message::{
    REPLY_BYTES_MAX, REQUEST_BYTES_MAX, ReplyHead, RequestHead, read_clock, read_credit,
};
use super::{Answer, LinkError, RequestId, control};

/// What came over a link.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// See [`FrameKind::Hello`].
    Hello(v1::LinkHello),
    /// See [`FrameKind::Welcome`].
    Welcome(v1::LinkWelcome),
    /// See [`FrameKind::Refusal`].
    Refusal(v1::LinkRefusal),
    /// A request, put together.
    Request {
        /// The first piece's head.
        head: RequestHead,
        /// The message's bytes.
        body: Bytes,
    },
    /// A reply, put together.
    Reply {
        /// Which request it answers.
        id: RequestId,
        /// What it says.
        answer: Answer,
    },
    /// See [`FrameKind::Credit`].
    Credit(u32),
    /// See [`FrameKind::State`].
    State(v1::ReplicaState),
    /// See [`FrameKind::Goodbye`].
    Goodbye,
    /// See [`FrameKind::Clock`].
    Clock(u64),
    /// A frame of a transfer.
    Transfer(FrameKind, Bytes),
}

/// Reads what may come over a link, whichever end it is of.
pub struct Decoder {
    reader: FrameReader,
    requests: Assembly<RequestHead>,
    replies: Assembly<ReplyHead>,
}

impl Default for Decoder {
    fn default() -> Self {
        Self {
            reader: FrameReader::default(),
            requests: Assembly::new(REQUEST_BYTES_MAX),
            replies: Assembly::new(REPLY_BYTES_MAX),
        }
    }
}

impl Decoder {
    /// Takes some bytes, and appends the messages that they complete to `out`.
    ///
    /// # Errors
    /// What comes next is not of the link. Nothing follows.
    pub fn take(&mut self, bytes: &[u8], out: &mut Vec<Message>) -> Result<(), LinkError> {
        self.reader.room(bytes.len()).extend_from_slice(bytes);
        let mut batch: Batch = self.reader.batch();
        while let Some(frame) = batch.frame()? {
            out.push(match frame.kind {
                FrameKind::Hello => Message::Hello(control::hello(frame.payload_bytes())?),
                FrameKind::Welcome => Message::Welcome(control::welcome(frame.payload_bytes())?),
                FrameKind::Refusal => Message::Refusal(control::refusal(frame.payload_bytes())?),
                FrameKind::Request => {
                    let (head, body) = RequestHead::read(frame.payload)?;
                    match self.requests.take(head, body, &frame)? {
                        None => continue,
                        Some((head, body, _)) => Message::Request { head, body: body.to_bytes() },
                    }
                }
                FrameKind::Reply => {
                    let (head, body) = ReplyHead::read(frame.payload)?;
                    match self.replies.take(head, body, &frame)? {
                        None => continue,
                        Some((head, body, _)) => {
                            Message::Reply { id: head.id, answer: answer(head, body.to_bytes())? }
                        }
                    }
                }
                FrameKind::Credit => Message::Credit(read_credit(frame.payload)?),
                FrameKind::State => Message::State(control::state(frame.payload_bytes())?),
                FrameKind::Goodbye => Message::Goodbye,
                FrameKind::Clock => Message::Clock(read_clock(frame.payload)?),
                kind => Message::Transfer(kind, frame.payload_bytes()),
            });
        }
        Ok(())
    }
}

/// What a reply says.
pub(super) fn answer(head: ReplyHead, body: Bytes) -> Result<Answer, LinkError> {
    if head.is_error {
        return control::error_of(body).map(Answer::Error);
    }
    Ok(Answer::Message(body))
}

/// Reads bytes that came in two parts, cut at `cut`. What a fuzzer calls.
///
/// # Errors
/// They are not of the link.
pub fn decode(bytes: &[u8], cut: usize) -> Result<Vec<Message>, LinkError> {
    let (first, second) = bytes.split_at(cut.min(bytes.len()));
    let mut out = Vec::new();
    let mut decoder = Decoder::default();
    decoder.take(first, &mut out)?;
    decoder.take(second, &mut out)?;
    Ok(out)
}
