//! Requests and replies, as they lie in frames.
//!
//! A request: `u64 id | u32 timeout_us | u32 epoch | u64 sent_us | u8 call | u8 flags | [moved: u64 incarnation, u64 sequence] |
//! [trace: 25 bytes] | body`. A reply: `u64 id | u8 status | u8 flags | body`. All little-endian. One that is longer than
//! a frame is cut into pieces, which follow each other without another request (or reply) between them: each but
//! the last has [`MORE`](Flags::MORE), each but the first has [`CONTINUED`](Flags::CONTINUED) and neither
//! claim nor trace.

use bytes::Bytes;
use seen_proto::limits::MESSAGE_BYTES_MAX;

use super::LinkError;
use super::frame::{FrameKind, HEAD_BYTES, PAYLOAD_BYTES_MAX, put_frame};

/// Longest request.
pub const REQUEST_BYTES_MAX: usize = MESSAGE_BYTES_MAX;
/// Longest reply.
pub const REPLY_BYTES_MAX: usize = 4 * 1_024 * 1_024;

/// A request's head without what is optional.
const REQUEST_HEAD_BYTES: usize = 26;
const MOVED_BYTES: usize = 16;
/// A caller's trace: trace, span, flags.
pub const TRACE_BYTES: usize = 25;
const REPLY_HEAD_BYTES: usize = 10;

/// Names a request. Chosen by the sender, repeated with the reply, and looked at by nobody else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestId(pub u64);

/// What is special about a request, or about the frame that it lies in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Flags(u8);

impl Flags {
    /// Nothing.
    pub const NONE: Flags = Flags(0);
    /// Whoever is asked may not own the user: answer from memory if that is clean, else in storage, and keep nothing.
    pub const EMERGENCY: Flags = Flags(1);
    /// Another replica was asked the same already.
    pub const HEDGE: Flags = Flags(2);
    /// A [`Moved`] follows the head. Set by whoever writes the frame.
    pub const MOVED: Flags = Flags(4);
    /// A trace follows the head. Set by whoever writes the frame.
    pub const TRACE: Flags = Flags(8);
    /// Another piece follows. Set by whoever writes the frame.
    pub const MORE: Flags = Flags(16);
    /// A piece came before. Set by whoever writes the frame.
    pub const CONTINUED: Flags = Flags(32);

    /// Those that a caller may set.
    const OF_CALLER: Flags = Flags(Self::EMERGENCY.0 | Self::HEDGE.0);
    const OF_REQUEST: u8 = 63;
    const OF_REPLY: u8 = Self::MORE.0 | Self::CONTINUED.0;
    /// Hints that a newer version of the program may give: left out by whoever does not know them. Nothing in the frame
    /// may follow from them.
    const OPTIONAL: u8 = 64 | 128;

    /// These and `others`.
    #[must_use]
    pub const fn with(self, others: Flags) -> Self {
        Self(self.0 | others.0)
    }

    /// True if all of `others` are set.
    pub const fn contains(self, others: Flags) -> bool {
        self.0 & others.0 == others.0
    }

    const fn with_if(self, others: Flags, set: bool) -> Self {
        if set { self.with(others) } else { self }
    }

    /// Those that a caller sets.
    pub(super) const fn of_caller(self) -> Self {
        Self(self.0 & Self::OF_CALLER.0)
    }
}

/// A claim that is added to the token's: the user was moved here, and what it wrote elsewhere may not have come by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Moved {
    /// Whose claim it is: one life of a proxy.
    pub incarnation: u64,
    /// Which of its moves.
    pub sequence: u64,
}

/// A request to send.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// Repeated with the reply.
    pub id: RequestId,
    /// Which call, by its number.
    pub call: u8,
    /// How long an answer is waited for from now on, in microseconds.
    pub timeout_us: u32,
    /// The epoch of the slot map by which the replica was chosen.
    pub epoch: u32,
    /// [`Flags::EMERGENCY`] and [`Flags::HEDGE`]; others are not the sender's.
    pub flags: Flags,
    /// Set if the user was moved.
    pub moved: Option<Moved>,
    /// The caller's trace.
    pub trace: Option<[u8; TRACE_BYTES]>,
    /// The message's bytes.
    pub body: Bytes,
}

impl Outgoing {
    /// Bytes of what is optional in the first piece's head.
    fn options_bytes(&self) -> usize {
        let moved = if self.moved.is_some() { MOVED_BYTES } else { 0 };
        moved + if self.trace.is_some() { TRACE_BYTES } else { 0 }
    }

    /// Bytes that its frames take. So much credit does it cost.
    pub fn frame_bytes(&self) -> usize {
        let body = self.options_bytes() + self.body.len();
        let pieces = body.div_ceil(PAYLOAD_BYTES_MAX - REQUEST_HEAD_BYTES).max(1);
        body + pieces * (HEAD_BYTES + REQUEST_HEAD_BYTES)
    }

    /// Appends its frames; nobody is told when it was sent.
    pub fn put(&self, out: &mut Vec<u8>) {
        self.put_sent(out, 0);
    }

    /// Appends its frames. `sent_us` is what the receiver's clock shows at this moment, at least, as it told; 0 where it
    /// did not.
    pub fn put_sent(&self, out: &mut Vec<u8>, sent_us: u64) {
        let room = PAYLOAD_BYTES_MAX - REQUEST_HEAD_BYTES;
        let fits = (room - self.options_bytes()).min(self.body.len());
        let (mut piece, mut rest) = self.body.split_at(fits);
        let mut flags = self.flags.of_caller();
        flags = flags.with_if(Flags::MOVED, self.moved.is_some());
        flags = flags.with_if(Flags::TRACE, self.trace.is_some());
        loop {
            let flagged = flags.with_if(Flags::MORE, !rest.is_empty());
            put_frame(out, FrameKind::Request, |out| {
                let mut head = [0; REQUEST_HEAD_BYTES];
                head[..8].copy_from_slice(&self.id.0.to_le_bytes());
                head[8..12].copy_from_slice(&self.timeout_us.to_le_bytes());
                head[12..16].copy_from_slice(&self.epoch.to_le_bytes());
                head[16..24].copy_from_slice(&sent_us.to_le_bytes());
                head[24] = self.call;
                head[25] = flagged.0;
                out.extend_from_slice(&head);
                if flagged.contains(Flags::MOVED)
                    && let Some(moved) = self.moved
                {
                    out.extend_from_slice(&moved.incarnation.to_le_bytes());
                    out.extend_from_slice(&moved.sequence.to_le_bytes());
                }
                if flagged.contains(Flags::TRACE)
                    && let Some(trace) = self.trace
                {
                    out.extend_from_slice(&trace);
                }
                out.extend_from_slice(piece);
            });
            if rest.is_empty() {
                return;
            }
            (piece, rest) = rest.split_at(room.min(rest.len()));
            flags = self.flags.of_caller().with(Flags::CONTINUED);
        }
    }
}

/// What stands before a request's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestHead {
    /// Repeated with the reply.
    pub id: RequestId,
    /// Which call, by its number. Not looked at here.
    pub call: u8,
    /// How long an answer was waited for when it was sent, in microseconds.
    pub timeout_us: u32,
    /// The epoch of the sender's slot map.
    pub epoch: u32,
    /// What the receiver's clock showed when it was sent, at least, in microseconds; 0 = not known.
    pub sent_us: u64,
    /// All flags of the frame.
    pub flags: Flags,
    /// Set if the user was moved.
    pub moved: Option<Moved>,
    /// The caller's trace.
    pub trace: Option<[u8; TRACE_BYTES]>,
}

/// Takes `N` bytes off the front.
fn take<const N: usize>(rest: &mut &[u8], field: &'static str) -> Result<[u8; N], LinkError> {
    let cut = LinkError::Truncated { field, bytes: rest.len(), needed: N };
    let (taken, left) = rest.split_first_chunk::<N>().ok_or(cut)?;
    *rest = left;
    Ok(*taken)
}

fn take_flags(rest: &mut &[u8], known: u8, limit: &'static str) -> Result<Flags, LinkError> {
    let [flags] = take(rest, "flags")?;
    if flags & !(known | Flags::OPTIONAL) != 0 {
        return Err(LinkError::Value { field: "flags", value: flags.into(), limit });
    }
    Ok(Flags(flags & known))
}

impl RequestHead {
    /// Reads a frame's payload: the head, and the body's part that follows it.
    ///
    /// # Errors
    /// [`LinkError`].
    pub fn read(payload: &[u8]) -> Result<(Self, &[u8]), LinkError> {
        let mut rest = payload;
        let id = RequestId(u64::from_le_bytes(take(&mut rest, "request id")?));
        let timeout_us = u32::from_le_bytes(take(&mut rest, "timeout_us")?);
        let epoch = u32::from_le_bytes(take(&mut rest, "epoch")?);
        let sent_us = u64::from_le_bytes(take(&mut rest, "sent_us")?);
        let [call] = take(&mut rest, "call")?;
        let flags = take_flags(&mut rest, Flags::OF_REQUEST, "a request has all")?;
        let (moved, trace) = (None, None);
        let mut head = Self { id, call, timeout_us, epoch, sent_us, flags, moved, trace };
        let optional = flags.contains(Flags::MOVED) || flags.contains(Flags::TRACE);
        if flags.contains(Flags::CONTINUED) && optional {
            let limit = "a later piece has neither claim nor trace";
            return Err(LinkError::Value { field: "flags", value: flags.0.into(), limit });
        }
        if flags.contains(Flags::MOVED) {
            let incarnation = u64::from_le_bytes(take(&mut rest, "moved.incarnation")?);
            let sequence = u64::from_le_bytes(take(&mut rest, "moved.sequence")?);
            head.moved = Some(Moved { incarnation, sequence });
        }
        if flags.contains(Flags::TRACE) {
            head.trace = Some(take(&mut rest, "trace")?);
        }
        Ok((head, rest))
    }
}

/// What stands before a reply's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReplyHead {
    /// Which request it answers.
    pub id: RequestId,
    /// True if the body is a `CallError`.
    pub is_error: bool,
    /// All flags of the frame.
    pub flags: Flags,
}

impl ReplyHead {
    /// Reads a frame's payload: the head, and the body's part that follows it.
    ///
    /// # Errors
    /// [`LinkError`].
    pub fn read(payload: &[u8]) -> Result<(Self, &[u8]), LinkError> {
        let mut rest = payload;
        let id = RequestId(u64::from_le_bytes(take(&mut rest, "request id")?));
        let [status] = take(&mut rest, "status")?;
        if status > 1 {
            let limit = "0 is an answer, 1 an error";
            return Err(LinkError::Value { field: "status", value: status.into(), limit });
        }
        let flags = take_flags(&mut rest, Flags::OF_REPLY, "a reply has those of 240")?;
        Ok((Self { id, is_error: status == 1, flags }, rest))
    }
}

/// Appends the frames of a reply.
pub fn put_reply(out: &mut Vec<u8>, id: RequestId, is_error: bool, body: &[u8]) {
    let room = PAYLOAD_BYTES_MAX - REPLY_HEAD_BYTES;
    let (mut piece, mut rest) = body.split_at(room.min(body.len()));
    let mut flags = Flags::NONE;
    loop {
        let flagged = flags.with_if(Flags::MORE, !rest.is_empty());
        put_frame(out, FrameKind::Reply, |out| {
            let mut head = [0; REPLY_HEAD_BYTES];
            head[..8].copy_from_slice(&id.0.to_le_bytes());
            head[8] = u8::from(is_error);
            head[9] = flagged.0;
            out.extend_from_slice(&head);
            out.extend_from_slice(piece);
        });
        if rest.is_empty() {
            return;
        }
        (piece, rest) = rest.split_at(room.min(rest.len()));
        flags = Flags::CONTINUED;
    }
}

/// Reads the payload of a clock.
///
/// # Errors
/// [`LinkError`].
pub fn read_clock(payload: &[u8]) -> Result<u64, LinkError> {
    let mut rest = payload;
    let us = u64::from_le_bytes(take(&mut rest, "clock")?);
    if !rest.is_empty() {
        let value = payload.len() as u64;
        return Err(LinkError::Value { field: "bytes of a clock", value, limit: "8 are meant" });
    }
    Ok(us)
}

/// Appends a clock.
pub fn put_clock(out: &mut Vec<u8>, us: u64) {
    put_frame(out, FrameKind::Clock, |out| out.extend_from_slice(&us.to_le_bytes()));
}

/// Reads the payload of a credit.
///
/// # Errors
/// [`LinkError`].
pub fn read_credit(payload: &[u8]) -> Result<u32, LinkError> {
    let mut rest = payload;
    let bytes = u32::from_le_bytes(take(&mut rest, "credit")?);
    if !rest.is_empty() {
        let value = payload.len() as u64;
        return Err(LinkError::Value { field: "bytes of a credit", value, limit: "4 are meant" });
    }
    Ok(bytes)
}

/// Appends a credit.
pub fn put_credit(out: &mut Vec<u8>, bytes: u32) {
    put_frame(out, FrameKind::Credit, |out| out.extend_from_slice(&bytes.to_le_bytes()));
}
