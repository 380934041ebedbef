//! What carries a stream of entries: frames, in and out. A connection to another replica does, and so does a file.

use std::future::Future;
use std::io;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Longest payload of a frame: with its type it fits into 64 KiB.
pub const PAYLOAD_BYTES_MAX: usize = 65_535;
/// Bytes before the payload of a frame in a file: its length, which counts the type, and the type.
const FILE_HEAD_BYTES: usize = 5;

/// What a frame holds. The numbers are those of the link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameKind {
    /// What is wanted.
    Ask = 9,
    /// The stream's head, or some entries, or a part of one.
    Entry = 10,
    /// The stream's end.
    End = 11,
}

impl FrameKind {
    /// The kind with this number.
    pub const fn from_number(number: u8) -> Option<Self> {
        match number {
            9 => Some(Self::Ask),
            10 => Some(Self::Entry),
            11 => Some(Self::End),
            _ => None,
        }
    }
}

/// A frame with its kind.
pub type Frame = (FrameKind, Bytes);

/// Takes frames. Waits while whoever reads them is behind.
pub trait FrameSink: Send {
    /// Sends one frame of at most [`PAYLOAD_BYTES_MAX`].
    fn send(
        &mut self,
        kind: FrameKind,
        payload: Bytes,
    ) -> impl Future<Output = io::Result<()>> + Send;

    /// Lets what was gathered go: before a pause. Nothing to do for a sink that gathers nothing.
    fn flush(&mut self) -> impl Future<Output = io::Result<()>> + Send {
        std::future::ready(Ok(()))
    }
}

/// Gives frames.
pub trait FrameSource: Send {
    /// The next frame, or `None` where nothing follows.
    fn next(&mut self) -> impl Future<Output = io::Result<Option<Frame>>> + Send;
}

/// Frames into a file, or into anything that takes bytes. Flush it at the end.
#[derive(Debug)]
pub struct BytesSink<W>(pub W);

impl<W: AsyncWrite + Unpin + Send> FrameSink for BytesSink<W> {
    async fn send(&mut self, kind: FrameKind, payload: Bytes) -> io::Result<()> {
        let len = u32::try_from(payload.len() + 1).map_err(io::Error::other)?;
        self.0.write_all(&len.to_le_bytes()).await?;
        self.0.write_all(&[kind as u8]).await?;
        self.0.write_all(&payload).await
    }
}

/// Frames out of a file.
#[derive(Debug)]
pub struct BytesSource<R>(pub R);

impl<R: AsyncRead + Unpin + Send> FrameSource for BytesSource<R> {
    async fn next(&mut self) -> io::Result<Option<Frame>> {
        let mut head = [0; FILE_HEAD_BYTES];
        let mut have = 0;
        while have < FILE_HEAD_BYTES {
            match self.0.read(&mut head[have..]).await? {
                0 if have == 0 => return Ok(None),
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => have += n,
            }
        }
        let [a, b, c, d, kind] = head;
        let len = u32::from_le_bytes([a, b, c, d]) as usize;
        let payload_bytes = len.checked_sub(1).filter(|bytes| *bytes <= PAYLOAD_BYTES_MAX);
        let (Some(bytes), Some(kind)) = (payload_bytes, FrameKind::from_number(kind)) else {
            let what = "not a frame of a dump: is this a file of `seen dump`?";
            return Err(io::Error::new(io::ErrorKind::InvalidData, what));
        };
        let mut payload = vec![0; bytes];
        self.0.read_exact(&mut payload).await?;
        Ok(Some((kind, Bytes::from(payload))))
    }
}
