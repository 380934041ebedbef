//! What comes together is written together: system calls are counted.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};

use futures_util::future::BoxFuture;
use seen_cluster::link::decoder::Message;
use seen_cluster::link::{Connector, Cut, Link, LinkClient, ServerOptions, Socket};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf, duplex};
use tokio::sync::mpsc;

use crate::pair::{Ear, Served, Service, body, client_options, request, within};
use crate::raw::{Raw, hello_frame, request_frames};

/// A stream that counts writes.
struct Counting {
    stream: DuplexStream,
    writes: Arc<AtomicUsize>,
}

impl AsyncRead for Counting {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Counting {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.writes.fetch_add(1, Relaxed);
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

struct CountingConnector {
    accepted: mpsc::UnboundedSender<DuplexStream>,
    writes: Arc<AtomicUsize>,
}

impl Connector for CountingConnector {
    fn connect(&self) -> BoxFuture<'_, Result<Box<dyn Socket>, Cut>> {
        Box::pin(async {
            let (stream, far) = duplex(1_048_576);
            self.accepted.send(far).map_err(|_| Cut::Closed("by the test"))?;
            Ok(Box::new(Counting { stream, writes: self.writes.clone() }) as Box<dyn Socket>)
        })
    }
}

#[tokio::test]
async fn requests_that_come_together_are_one_write() {
    let (events, mut ear) = Ear::new();
    let (accepted, mut accepts) = mpsc::unbounded_channel();
    let writes = Arc::new(AtomicUsize::new(0));
    let connector = CountingConnector { accepted, writes: writes.clone() };
    let client = LinkClient::start_over(connector, client_options(), events);
    let stream = accepts.recv().await.unwrap();
    let _served = Served::new(stream, &Service::echo(), &ServerOptions::default());
    within(ear.up()).await;
    assert_eq!(writes.load(Relaxed), 1, "the hello");
    for id in 0..200 {
        client.submit(&request(id, body(3_200))).unwrap();
    }
    within(ear.answers(200)).await;
    assert_eq!(writes.load(Relaxed), 2);
    // One that comes alone does not wait for another.
    client.submit(&request(200, body(3_200))).unwrap();
    within(ear.answer()).await;
    assert_eq!(writes.load(Relaxed), 3);
}

#[tokio::test]
async fn answers_share_writes_sixteen_at_a_time() {
    let writes = Arc::new(AtomicUsize::new(0));
    let (near, stream) = duplex(1_048_576);
    let counting = Counting { stream, writes: writes.clone() };
    let _served = Served::new(counting, &Service::echo(), &ServerOptions::default());
    let mut raw = Raw::new(near);
    raw.say(&hello_frame(&crate::pair::hello())).await;
    raw.next().await;
    assert_eq!(writes.load(Relaxed), 1, "the welcome");
    let sent: Vec<_> = (0..40).map(|id| request(id, body(100))).collect();
    raw.say(&request_frames(&sent)).await;
    for _ in 0..40 {
        loop {
            match within(raw.next_but_state()).await {
                Some(Message::Reply { .. }) => break,
                Some(Message::Credit(_)) => {}
                other => panic!("{other:?}"),
            }
        }
    }
    // 16, 16 and 8; a sign of life may have come between.
    let writes = writes.load(Relaxed) - 1;
    assert!((3..=4).contains(&writes), "{writes} writes");
}
