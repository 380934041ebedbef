//! Processes reach each other over turmoil's TCP.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

use futures_util::future::BoxFuture;
use seen_cluster::link::{Cut, Socket};
use seen_sim::net::{Accept, Ways};
use seen_sim::process::Process;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use turmoil::net::{TcpListener, TcpStream};

/// Turmoil's network, and the sockets that are open on it.
#[derive(Clone, Default)]
pub struct Sockets(Arc<Mutex<Vec<Weak<End>>>>);

/// One end of a connection, as the network sees it.
struct End {
    between: [IpAddr; 2],
    torn: Mutex<Torn>,
}

#[derive(Default)]
struct Torn {
    is_torn: bool,
    waits: Vec<Waker>,
}

impl End {
    /// True once it is torn; until then the task is woken when it is.
    fn poll_torn(&self, cx: &Context<'_>) -> bool {
        let mut torn = self.torn.lock().unwrap_or_else(PoisonError::into_inner);
        if !torn.is_torn && !torn.waits.iter().any(|wait| wait.will_wake(cx.waker())) {
            torn.waits.push(cx.waker().clone());
        }
        torn.is_torn
    }
}

impl Sockets {
    /// Breaks the connections between two machines. Turmoil repeats nothing that a partition swallowed: what comes after it
    /// would wait for ever for what is missing, and no peer would be told. TCP repeats it (which is as if it had been held), or
    /// gives the connection up, as here.
    pub fn tear(&self, one: IpAddr, other: IpAddr) {
        let mut ends = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        ends.retain(|end| end.strong_count() > 0);
        let all: Vec<Arc<End>> = ends.iter().filter_map(Weak::upgrade).collect();
        drop(ends);
        for end in all {
            if end.between == [one, other] || end.between == [other, one] {
                let mut torn = end.torn.lock().unwrap_or_else(PoisonError::into_inner);
                torn.is_torn = true;
                let waits = std::mem::take(&mut torn.waits);
                drop(torn);
                waits.into_iter().for_each(Waker::wake);
            }
        }
    }

    fn open(&self, stream: TcpStream) -> io::Result<Box<dyn Socket>> {
        let between = [stream.local_addr()?.ip(), stream.peer_addr()?.ip()];
        let end = Arc::new(End { between, torn: Mutex::default() });
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::downgrade(&end));
        Ok(Box::new(Tearable { stream, end }))
    }
}

impl Ways for Sockets {
    fn listen(&self, address: SocketAddr, process: &Arc<Process>, accept: Accept) {
        let sockets = self.clone();
        process.spawn(async move {
            let bound = TcpListener::bind((Ipv4Addr::UNSPECIFIED, address.port())).await;
            let listener = bound.expect("nobody else listens there");
            loop {
                let (stream, _) = listener.accept().await.expect("turmoil accepts");
                accept(sockets.open(stream).expect("it has two ends"));
            }
        });
    }

    fn leave(&self, _address: SocketAddr) {
        // The listener ends with its host.
    }

    fn dial(
        &self,
        _owner: &Arc<Process>,
        to: SocketAddr,
    ) -> BoxFuture<'static, Result<Box<dyn Socket>, Cut>> {
        let sockets = self.clone();
        Box::pin(async move {
            let stream = TcpStream::connect(to).await;
            let socket = stream.and_then(|stream| sockets.open(stream));
            socket.map_err(|source| Cut::Io { what: "connecting", source })
        })
    }
}

/// One end of a connection.
struct Tearable {
    stream: TcpStream,
    end: Arc<End>,
}

impl AsyncRead for Tearable {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.end.poll_torn(cx) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Tearable {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.end.poll_torn(cx) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
