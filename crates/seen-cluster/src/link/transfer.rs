//! Users' entries from replica to replica, on connections of their own: one asks, the other sends frames until
//! it says that no more follow. Who reads slowly slows the sender down. What the payloads mean is not known here.

use std::time::Duration;

use bytes::Bytes;
use seen_proto::v1;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;

use super::client::{ClientOptions, Connector, Opened, open, tcp};
use super::frame::{FrameKind, FrameReader, PAYLOAD_BYTES_MAX, put_frame};
use super::metrics::OpenMetrics;
use super::server::LinkService;
use super::socket::{Socket, read_frame, write};
use super::{Cut, LinkError};

/// Longest payload of an ask, an entry or an end.
pub const TRANSFER_BYTES_MAX: usize = PAYLOAD_BYTES_MAX;
/// What is gathered before it is written.
const WRITE_BYTES: usize = 262_144;

/// What the sender of entries writes to.
pub struct TransferSink<'a> {
    stream: &'a mut (dyn AsyncWrite + Send + Unpin),
    buffer: Vec<u8>,
    write_timeout: Duration,
    metrics: &'a OpenMetrics,
    ended: bool,
}

impl TransferSink<'_> {
    /// Sends an entry. Waits while the receiver does not read.
    ///
    /// # Errors
    /// The payload is longer than [`TRANSFER_BYTES_MAX`], or the connection ended.
    pub async fn entry(&mut self, payload: &[u8]) -> Result<(), Cut> {
        self.put(FrameKind::TransferEntry, payload)?;
        if self.buffer.len() >= WRITE_BYTES { self.flush().await } else { Ok(()) }
    }

    /// Sends what was gathered: for a sender that pauses. Entries are otherwise written some together.
    ///
    /// # Errors
    /// The connection ended.
    pub async fn flush(&mut self) -> Result<(), Cut> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        write(self.stream, &self.buffer, self.write_timeout).await?;
        self.metrics.writes.increment(1);
        self.metrics.bytes_out.increment(self.buffer.len() as u64);
        self.buffer.clear();
        Ok(())
    }

    /// Says that no more entries follow.
    ///
    /// # Errors
    /// As [`TransferSink::entry`].
    pub async fn end(&mut self, payload: &[u8]) -> Result<(), Cut> {
        self.put(FrameKind::TransferEnd, payload)?;
        self.ended = true;
        self.flush().await
    }

    fn put(&mut self, kind: FrameKind, payload: &[u8]) -> Result<(), LinkError> {
        check(payload)?;
        put_frame(&mut self.buffer, kind, |out| out.extend_from_slice(payload));
        Ok(())
    }
}

fn check(payload: &[u8]) -> Result<(), LinkError> {
    if payload.len() > TRANSFER_BYTES_MAX {
        let bytes = payload.len() as u64;
        return Err(LinkError::FrameTooLong { bytes, bytes_max: TRANSFER_BYTES_MAX });
    }
    Ok(())
}

/// The end that sends entries.
pub(super) async fn serve<T, S>(
    stream: &mut T,
    reader: &mut FrameReader,
    service: &S,
    write_timeout: Duration,
    metrics: &OpenMetrics,
) -> Cut
where
    T: AsyncRead + AsyncWrite + Send + Unpin,
    S: LinkService,
{
    loop {
        let (kind, ask) = match read_frame(stream, reader).await {
            Ok(frame) => frame,
            Err(cut) => return cut,
        };
        if kind != FrameKind::TransferAsk {
            return LinkError::Unexpected { kind, when: "instead of an ask for entries" }.into();
        }
        metrics.requests.increment(1);
        let buffer = Vec::with_capacity(WRITE_BYTES + PAYLOAD_BYTES_MAX);
        let mut sink = TransferSink { stream, buffer, write_timeout, metrics, ended: false };
        let sent = async {
            service.transfer(ask, &mut sink).await?;
            if sink.ended { Ok(()) } else { sink.end(&[]).await }
        };
        if let Err(cut) = sent.await {
            return cut;
        }
    }
}

/// What the receiver of entries is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TransferFrame {
    /// Entries.
    Entry(Bytes),
    /// No more follow; another ask may.
    End(Bytes),
}

/// The end that asks for entries and receives them.
pub struct TransferClient {
    stream: Box<dyn Socket>,
    reader: FrameReader,
    /// Who sends.
    pub identity: v1::ReplicaIdentity,
    /// How it fared when it was connected to.
    pub state: v1::ReplicaState,
    options: ClientOptions,
}

impl TransferClient {
    /// Connects over TCP. The hello's lane must be that of transfers. Does not connect again by itself.
    ///
    /// # Errors
    /// Why there is no connection.
    pub async fn connect(options: ClientOptions) -> Result<Self, Cut> {
        let connector = tcp(&options);
        Self::connect_over(&connector, options).await
    }

    /// The same over something else than TCP.
    ///
    /// # Errors
    /// Why there is no connection.
    pub async fn connect_over(
        connector: &dyn Connector,
        options: ClientOptions,
    ) -> Result<Self, Cut> {
        let Opened { stream, reader, identity, state, .. } = open(connector, &options).await?;
        Ok(Self { stream, reader, identity, state, options })
    }

    /// Asks for entries.
    ///
    /// # Errors
    /// The payload is longer than [`TRANSFER_BYTES_MAX`], or the connection ended.
    pub async fn ask(&mut self, payload: &[u8]) -> Result<(), Cut> {
        check(payload)?;
        let mut out = Vec::new();
        put_frame(&mut out, FrameKind::TransferAsk, |out| out.extend_from_slice(payload));
        write(&mut *self.stream, &out, self.options.write_timeout).await
    }

    /// The next frame. Waits for it at most for the options' `silence_timeout`.
    ///
    /// # Errors
    /// The connection ended, or what came is not of a transfer.
    pub async fn next(&mut self) -> Result<TransferFrame, Cut> {
        let limit = self.options.silence_timeout;
        let frame = timeout(limit, read_frame(&mut *self.stream, &mut self.reader)).await;
        match frame.map_err(|_| Cut::Late { what: "the next entry", limit })?? {
            (FrameKind::TransferEntry, payload) => Ok(TransferFrame::Entry(payload)),
            (FrameKind::TransferEnd, payload) => Ok(TransferFrame::End(payload)),
            (kind, _) => Err(LinkError::Unexpected { kind, when: "instead of an entry" }.into()),
        }
    }
}
