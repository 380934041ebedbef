//! A connection's bytes. What `h2` writes is gathered and leaves by one system call, once the connection has nothing
//! more to say for the moment: by itself `h2` writes each larger DATA frame alone, which for answers of more than a
//! few hundred bytes is a system call each (and, with TLS, a record).

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite, BufReader, ReadBuf};

use super::connection::ConnectionState;

/// Bytes that are gathered; more are written before others are taken.
const GATHERED_BYTES_MAX: usize = 128 * 1024;
/// Room that is kept between writes: there may be thousands of connections.
const KEPT_BYTES_MAX: usize = 64 * 1024;

/// A connection's two ways, for `h2` and for whoever drives it. Clones are the same one, on one task: its lock is never
/// waited for.
pub(super) struct Gathering<I>(Arc<Mutex<Ways<I>>>);

struct Ways<I> {
    stream: BufReader<I>,
    state: Arc<ConnectionState>,
    out: Vec<u8>,
    /// So many bytes of `out` are written.
    written: usize,
    /// False until somebody writes what was gathered: then a flush writes it.
    gathers: bool,
}

impl<I> Clone for Gathering<I> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> Gathering<I> {
    /// Of a stream that is read in pieces of this size. Nothing is gathered before [`begin`](Self::begin).
    pub(super) fn new(stream: I, read_bytes: usize, state: Arc<ConnectionState>) -> Self {
        let stream = BufReader::with_capacity(read_bytes, stream);
        let ways = Ways { stream, state, out: Vec::new(), written: 0, gathers: false };
        Self(Arc::new(Mutex::new(ways)))
    }

    /// From now on whoever calls [`write_out`](Self::write_out) after each turn writes, and a flush does not.
    pub(super) fn begin(&self) {
        self.0.lock().gathers = true;
    }

    /// Writes what was gathered. While it is pending the task is woken when more can be written.
    ///
    /// # Errors
    /// The connection is gone.
    pub(super) fn write_out(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.lock().write_out(cx)
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> Ways<I> {
    fn write_out(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.out.is_empty() {
            return Poll::Ready(Ok(()));
        }
        while let Some(rest) = self.out.get(self.written..).filter(|rest| !rest.is_empty()) {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, rest))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                written => self.written += written,
            }
        }
        // Under TLS what was written may still lie in its buffers.
        ready!(Pin::new(&mut self.stream).poll_flush(cx))?;
        self.written = 0;
        self.out.clear();
        self.out.shrink_to(KEPT_BYTES_MAX);
        Poll::Ready(Ok(()))
    }

    /// Makes room for more.
    fn room(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.out.len() < GATHERED_BYTES_MAX {
            return Poll::Ready(Ok(()));
        }
        self.write_out(cx)
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncRead for Gathering<I> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut ways = self.0.lock();
        let before = buffer.filled().len();
        ready!(Pin::new(&mut ways.stream).poll_read(cx, buffer))?;
        ways.state.read(u64::try_from(buffer.filled().len() - before).unwrap_or(0));
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Gathering<I> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut ways = self.0.lock();
        ready!(ways.room(cx))?;
        ways.out.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut ways = self.0.lock();
        ready!(ways.room(cx))?;
        pieces.iter().for_each(|piece| ways.out.extend_from_slice(piece));
        Poll::Ready(Ok(pieces.iter().map(|piece| piece.len()).sum()))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut ways = self.0.lock();
        if ways.gathers { Poll::Ready(Ok(())) } else { ways.write_out(cx) }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut ways = self.0.lock();
        ready!(ways.write_out(cx))?;
        Pin::new(&mut ways.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Waker;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    #[tokio::test]
    async fn what_is_gathered_leaves_together_and_in_order() {
        let (near, mut far) = duplex(1 << 20);
        let mut way = Gathering::new(near, 1_024, Arc::new(ConnectionState::new(1)));
        way.write_all(b"hello ").await.expect("taken");
        way.flush().await.expect("written");
        let mut read = [0; 6];
        far.read_exact(&mut read).await.expect("before anybody drives it");
        assert_eq!(&read, b"hello ");
        way.begin();
        for piece in [&b"one "[..], b"two "] {
            way.write_all(piece).await.expect("taken");
            way.flush().await.expect("nothing to wait for");
        }
        let mut cx = Context::from_waker(Waker::noop());
        let mut nothing = [0; 1];
        let mut buffer = ReadBuf::new(&mut nothing);
        assert!(Pin::new(&mut far).poll_read(&mut cx, &mut buffer).is_pending(), "it is held");
        poll_fn(|cx| way.write_out(cx)).await.expect("written");
        let mut read = [0; 8];
        far.read_exact(&mut read).await.expect("all of it");
        assert_eq!(&read, b"one two ");
    }

    #[tokio::test]
    async fn what_the_other_end_does_not_read_is_bounded_and_arrives_whole() {
        let (near, mut far) = duplex(4_096);
        let mut way = Gathering::new(near, 1_024, Arc::new(ConnectionState::new(1)));
        way.begin();
        let piece: Vec<u8> = (0..=255).collect();
        let mut taken = 0;
        let mut cx = Context::from_waker(Waker::noop());
        while let Poll::Ready(written) = Pin::new(&mut way).poll_write(&mut cx, &piece) {
            taken += written.expect("taken");
            assert!(taken <= GATHERED_BYTES_MAX + 4_096 + piece.len(), "unbounded");
        }
        let reads = async {
            let mut all = Vec::new();
            far.read_to_end(&mut all).await.expect("read");
            all
        };
        let (ended, all) = tokio::join!(
            async {
                let ended = way.shutdown().await;
                drop(way);
                ended
            },
            reads
        );
        ended.expect("written and shut down");
        assert_eq!(all.len(), taken);
        assert!(all.chunks(piece.len()).all(|chunk| chunk == &piece[..]));
    }
}
