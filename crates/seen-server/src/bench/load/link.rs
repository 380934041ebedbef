//! One HTTP/2 connection whose writes are gathered. The `h2` crate flushes after every large DATA
//! frame, which would cost a system call for each request; here its output goes to memory and is
//! written once the connection has nothing more to say for the moment.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::{Buf, Bytes, BytesMut};
use h2::client::SendRequest;
use tokio::io::{AsyncRead, AsyncWrite, BufReader, ReadBuf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::task::spawn_local;

/// Bytes read at once.
const READ_BYTES: usize = 64 << 10;
/// Bytes that may wait to be written; more make `h2` wait.
const GATHERED_BYTES_MAX: usize = 1 << 20;
/// Flow-control windows: replies never wait for them.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

struct Gathering {
    reader: BufReader<OwnedReadHalf>,
    gathered: Rc<RefCell<BytesMut>>,
}

impl AsyncRead for Gathering {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.reader).poll_read(cx, into)
    }
}

impl AsyncWrite for Gathering {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let mut gathered = self.gathered.borrow_mut();
        if gathered.len() >= GATHERED_BYTES_MAX {
            // The same task writes them out right after this, and so comes here again.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        gathered.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

fn write_out(
    gathered: &RefCell<BytesMut>,
    writer: &mut OwnedWriteHalf,
    cx: &mut Context<'_>,
) -> Poll<io::Result<()>> {
    let mut gathered = gathered.borrow_mut();
    while !gathered.is_empty() {
        match Pin::new(&mut *writer).poll_write(cx, &gathered) {
            Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
            Poll::Ready(Ok(written)) => gathered.advance(written),
            Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            Poll::Pending => return Poll::Pending,
        }
    }
    Poll::Ready(Ok(()))
}

/// Opens a connection and keeps it going in a task of its own.
pub(super) async fn open(address: SocketAddr) -> io::Result<SendRequest<Bytes>> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let (reader, mut writer) = stream.into_split();
    let gathered = Rc::new(RefCell::new(BytesMut::with_capacity(READ_BYTES)));
    let io = Gathering {
        reader: BufReader::with_capacity(READ_BYTES, reader),
        gathered: Rc::clone(&gathered),
    };
    let handshake = h2::client::Builder::new()
        .initial_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .handshake::<_, Bytes>(io)
        .await;
    let (send, connection) = handshake.map_err(io::Error::other)?;
    spawn_local(async move {
        let mut connection = pin!(connection);
        poll_fn(|cx| {
            let ended = connection.as_mut().poll(cx).is_ready();
            match write_out(&gathered, &mut writer, cx) {
                Poll::Ready(Err(_)) => Poll::Ready(()),
                _ if ended => Poll::Ready(()),
                _ => Poll::Pending,
            }
        })
        .await;
    });
    Ok(send)
}
