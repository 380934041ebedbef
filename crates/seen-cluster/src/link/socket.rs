//! What a connection runs over.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::timeout;

use super::Cut;
use super::frame::{FrameKind, FrameReader};

/// A stream of bytes in both directions.
pub trait Socket: AsyncRead + AsyncWrite + Send + Unpin + 'static {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Socket for T {}

/// Room that a read is offered, at least.
const READ_BYTES: usize = 65_536;

pub(super) fn io_cut(what: &'static str) -> impl Fn(io::Error) -> Cut {
    move |source| Cut::Io { what, source }
}

/// Reads once.
pub(super) async fn read_some<S: AsyncRead + Unpin + ?Sized>(
    stream: &mut S,
    reader: &mut FrameReader,
) -> Result<(), Cut> {
    let bytes = stream.read_buf(reader.room(READ_BYTES)).await.map_err(io_cut("reading"))?;
    match (bytes, reader.is_within_frame()) {
        (0, true) => Err(Cut::Closed("within a frame")),
        (0, false) => Err(Cut::Closed("")),
        _ => Ok(()),
    }
}

/// Reads until a frame is complete, and takes only that.
pub(super) async fn read_frame<S: AsyncRead + Unpin + ?Sized>(
    stream: &mut S,
    reader: &mut FrameReader,
) -> Result<(FrameKind, Bytes), Cut> {
    loop {
        if let Some(frame) = reader.first()? {
            return Ok(frame);
        }
        read_some(stream, reader).await?;
    }
}

/// Writes all of `bytes`.
pub(super) async fn write<S>(stream: &mut S, bytes: &[u8], limit: Duration) -> Result<(), Cut>
where
    S: AsyncWrite + Unpin + ?Sized,
{
    let written = async {
        stream.write_all(bytes).await?;
        // Under TLS what was written may still lie in its buffers.
        stream.flush().await
    };
    match timeout(limit, written).await {
        Err(_) => Err(Cut::Late { what: "writing", limit }),
        Ok(written) => written.map_err(io_cut("writing")),
    }
}
