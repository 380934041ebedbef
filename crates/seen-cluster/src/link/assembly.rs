//! Pieces put together.

use bytes::{Bytes, BytesMut};

use super::LinkError;
use super::frame::Frame;
use super::message::{Flags, ReplyHead, RequestHead};

/// A head that says whether more pieces follow.
pub(super) trait Head: Copy {
    /// What it is, in an error.
    const WHAT: &'static str;
    fn id(&self) -> u64;
    fn flags(&self) -> Flags;
}

impl Head for RequestHead {
    const WHAT: &'static str = "a request";
    fn id(&self) -> u64 {
        self.id.0
    }
    fn flags(&self) -> Flags {
        self.flags
    }
}

impl Head for ReplyHead {
    const WHAT: &'static str = "a reply";
    fn id(&self) -> u64 {
        self.id.0
    }
    fn flags(&self) -> Flags {
        self.flags
    }
}

/// A request or reply that is complete: its body, and what that lies in.
pub(super) enum Whole<'a> {
    /// In one frame.
    Framed { body: &'a [u8], batch: &'a Bytes },
    /// Put together.
    Pieced(Bytes),
}

/// At most one message of a kind is incomplete at a time, so that a hostile peer holds no more than one message's
/// worth of memory.
pub(super) struct Assembly<H> {
    bytes_max: usize,
    open: Option<Open<H>>,
}

struct Open<H> {
    head: H,
    body: BytesMut,
    /// What the frames took.
    frame_bytes: usize,
}

impl<H: Head> Assembly<H> {
    pub fn new(bytes_max: usize) -> Self {
        Self { bytes_max, open: None }
    }

    /// Takes a frame's head and body. Gives the message that it completes, with its first head and the bytes that its
    /// frames took.
    pub fn take<'a>(
        &mut self,
        head: H,
        body: &'a [u8],
        frame: &Frame<'a>,
    ) -> Result<Option<(H, Whole<'a>, usize)>, LinkError> {
        let frame_bytes = frame.len();
        let flags = head.flags();
        let wrong = |when| LinkError::Piece { what: H::WHAT, id: head.id(), when };
        let mut open = match (self.open.take(), flags.contains(Flags::CONTINUED)) {
            (None, false) if !flags.contains(Flags::MORE) => {
                self.check(head, body.len())?;
                let whole = Whole::Framed { body, batch: frame.batch() };
                return Ok(Some((head, whole, frame_bytes)));
            }
            (None, false) => Open { head, body: BytesMut::new(), frame_bytes: 0 },
            (Some(open), true) if open.head.id() == head.id() => open,
            (Some(_), true) => return Err(wrong("as a later piece of another")),
            (Some(_), false) => return Err(wrong("while pieces of another were to follow")),
            (None, true) => return Err(wrong("as a later piece without a first one")),
        };
        self.check(head, open.body.len() + body.len())?;
        open.body.extend_from_slice(body);
        open.frame_bytes += frame_bytes;
        if flags.contains(Flags::MORE) {
            self.open = Some(open);
            return Ok(None);
        }
        Ok(Some((open.head, Whole::Pieced(open.body.freeze()), open.frame_bytes)))
    }

    fn check(&self, head: H, bytes: usize) -> Result<(), LinkError> {
        if bytes > self.bytes_max {
            let (what, id, bytes_max) = (H::WHAT, head.id(), self.bytes_max);
            return Err(LinkError::MessageTooLong { what, id, bytes, bytes_max });
        }
        Ok(())
    }
}

impl Whole<'_> {
    pub fn as_slice(&self) -> &[u8] {
        match self {
            Self::Framed { body, .. } => body,
            Self::Pieced(body) => body,
        }
    }

    /// The body, without a copy. It holds all that came with it in memory.
    pub fn to_bytes(&self) -> Bytes {
        match self {
            Self::Framed { body, batch } => batch.slice_ref(body),
            Self::Pieced(body) => body.clone(),
        }
    }
}
