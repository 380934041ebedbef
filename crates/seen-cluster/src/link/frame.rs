//! Frames: `u32 length | u8 type | payload`, little-endian; the length counts type and payload.

use bytes::{Buf, Bytes, BytesMut};

use super::LinkError;

/// Longest frame, type and payload together.
pub const FRAME_BYTES_MAX: usize = 65_536;
/// Before the payload: length and type.
pub const HEAD_BYTES: usize = 5;
/// Longest payload.
pub const PAYLOAD_BYTES_MAX: usize = FRAME_BYTES_MAX - 1;

const LENGTH_BYTES: usize = 4;

/// What a frame carries. The numbers never change their meaning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum FrameKind {
    /// `LinkHello`, the first frame of whoever connects.
    Hello = 1,
    /// `LinkWelcome`, the answer to it.
    Welcome = 2,
    /// `LinkRefusal`, the other answer to it. Nothing follows.
    Refusal = 3,
    /// A request, or a piece of one.
    Request = 4,
    /// A reply, or a piece of one.
    Reply = 5,
    /// `u32`: bytes of requests that may be sent again.
    Credit = 6,
    /// `ReplicaState`.
    State = 7,
    /// The sender is ending: it takes no more requests and answers those that it has. Empty.
    Goodbye = 8,
    /// Asks for users' entries.
    TransferAsk = 9,
    /// Users' entries.
    TransferEntry = 10,
    /// No more entries follow, and why.
    TransferEnd = 11,
    /// `u64`: what the clock of the end that answers shows, in microseconds.
    Clock = 12,
}

/// Types from here on may be left out by whoever does not know them: a newer version of the program sends them unasked. All others
/// belong to a version of the link, and are sent to nobody who has not said that it speaks it.
pub const OPTIONAL_KIND_MIN: u8 = 128;

impl FrameKind {
    /// Every type.
    pub const ALL: [FrameKind; 12] = [
        Self::Hello,
        Self::Welcome,
        Self::Refusal,
        Self::Request,
        Self::Reply,
        Self::Credit,
        Self::State,
        Self::Goodbye,
        Self::TransferAsk,
        Self::TransferEntry,
        Self::TransferEnd,
        Self::Clock,
    ];

    /// The type with this number; `None` for one that is to be left out.
    ///
    /// # Errors
    /// [`LinkError::UnknownKind`].
    pub fn from_number(number: u8) -> Result<Option<Self>, LinkError> {
        if number >= OPTIONAL_KIND_MIN {
            return Ok(None);
        }
        let unknown = LinkError::UnknownKind { kind: number, kind_max: Self::ALL.len() as u8 };
        let index = usize::from(number).checked_sub(1);
        index.and_then(|index| Self::ALL.get(index)).copied().map(Some).ok_or(unknown)
    }
}

/// One frame that came.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// What it carries.
    pub kind: FrameKind,
    /// That.
    pub payload: &'a [u8],
    batch: &'a Bytes,
}

impl<'a> Frame<'a> {
    /// The payload, kept without a copy for as long as it is needed. It holds all that came with it in memory.
    pub fn payload_bytes(&self) -> Bytes {
        self.batch.slice_ref(self.payload)
    }

    /// Bytes that it takes, its head included.
    #[expect(clippy::len_without_is_empty, reason = "a frame has a head, at least")]
    pub fn len(&self) -> usize {
        HEAD_BYTES + self.payload.len()
    }

    /// What the payload is part of.
    pub(super) fn batch(&self) -> &'a Bytes {
        self.batch
    }
}

/// Appends a frame whose payload `write` appends.
pub fn put_frame(out: &mut Vec<u8>, kind: FrameKind, write: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0, 0, 0, 0, kind as u8]);
    write(out);
    let length = (out.len() - start - LENGTH_BYTES) as u32;
    debug_assert!(length as usize <= FRAME_BYTES_MAX);
    if let Some(head) = out.get_mut(start..start + LENGTH_BYTES) {
        head.copy_from_slice(&length.to_le_bytes());
    }
}

/// What came of a connection and was not looked at yet. Holds at most what was read into it: nothing is allocated
/// by what a length says.
#[derive(Debug, Default)]
pub struct FrameReader {
    buffer: BytesMut,
    broken: Option<LinkError>,
}

impl FrameReader {
    /// Where to read into, with room for `bytes`, at least.
    pub fn room(&mut self, bytes: usize) -> &mut BytesMut {
        self.buffer.reserve(bytes);
        &mut self.buffer
    }

    /// Takes all frames that are complete. After one that is none of the link, nothing can be read any more.
    pub fn batch(&mut self) -> Batch {
        let mut end = 0;
        while self.broken.is_none() {
            match complete(&self.buffer[end..]) {
                Ok(Some(bytes)) => end += bytes,
                Ok(None) => break,
                Err(error) => self.broken = Some(error),
            }
        }
        Batch { bytes: self.buffer.split_to(end).freeze(), at: 0, broken: self.broken.clone() }
    }

    /// Takes the first frame that is not to be left out, if it is complete.
    ///
    /// # Errors
    /// What comes next is not of the link.
    pub fn first(&mut self) -> Result<Option<(FrameKind, Bytes)>, LinkError> {
        while let Some(bytes) = complete(&self.buffer)? {
            let frame = self.buffer.split_to(bytes).freeze();
            if let Some(kind) = FrameKind::from_number(frame[LENGTH_BYTES])? {
                return Ok(Some((kind, frame.slice(HEAD_BYTES..))));
            }
        }
        Ok(None)
    }

    /// True if part of a frame came.
    pub fn is_within_frame(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// True if more came that is not to be left out, or part of it.
    ///
    /// # Errors
    /// What comes next is not of the link.
    pub fn has_more(&mut self) -> Result<bool, LinkError> {
        while let Some(bytes) = complete(&self.buffer)? {
            if FrameKind::from_number(self.buffer[LENGTH_BYTES])?.is_some() {
                break;
            }
            self.buffer.advance(bytes);
        }
        Ok(!self.buffer.is_empty())
    }
}

/// How long the first frame of `buffer` is, its length included, if it is all there.
fn complete(buffer: &[u8]) -> Result<Option<usize>, LinkError> {
    let Some((length, rest)) = buffer.split_first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
    let bytes = u32::from_le_bytes(*length) as usize;
    if bytes > FRAME_BYTES_MAX {
        return Err(LinkError::FrameTooLong { bytes: bytes as u64, bytes_max: FRAME_BYTES_MAX });
    }
    if bytes == 0 {
        return Err(LinkError::FrameEmpty);
    }
    // The type is looked at as soon as it is there: who speaks something else is told so at once.
    if let Some(kind) = rest.first() {
        FrameKind::from_number(*kind)?;
    }
    Ok((rest.len() >= bytes).then_some(LENGTH_BYTES + bytes))
}

/// Frames that came together.
#[derive(Debug)]
pub struct Batch {
    bytes: Bytes,
    at: usize,
    broken: Option<LinkError>,
}

impl Batch {
    /// The next frame that is not to be left out.
    ///
    /// # Errors
    /// What comes next is not of the link. Nothing follows.
    pub fn frame(&mut self) -> Result<Option<Frame<'_>>, LinkError> {
        loop {
            let rest = self.bytes.get(self.at..).unwrap_or_default();
            let Some(bytes) = complete(rest)? else {
                return self.broken.take().map_or(Ok(None), Err);
            };
            let frame = &rest[LENGTH_BYTES..bytes];
            self.at += bytes;
            if let Some(kind) = FrameKind::from_number(frame[0])? {
                return Ok(Some(Frame { kind, payload: &frame[1..], batch: &self.bytes }));
            }
        }
    }

    /// How many bytes they take.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// True if there are none.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }
}
