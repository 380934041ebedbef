//! What the same bytes take without users: copied in memory, over plain TCP, and over the link.

use std::sync::Arc;
use std::time::Instant;

use bytes::{Bytes, BytesMut};
use futures_util::future::BoxFuture;
use seen_cluster::link::frame::{FrameKind, put_frame};
use seen_cluster::link::transfer::{TransferClient, TransferFrame, TransferSink};
use seen_cluster::link::{
    ClientOptions, Cut, Incoming, LinkService, Replier, ServerOptions, VERSION_MAX, VERSION_MIN,
    serve_tcp,
};
use seen_proto::v1;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::thread::Serving;

/// A frame's payload; with less than this a warm-up ends a frame.
const PAYLOAD_BYTES: usize = 61_000;
/// What the link gathers for one write, and the room that it offers to one read.
const WRITE_BYTES: usize = 262_144;
const READ_BYTES: usize = 65_536;

/// Copies so many bytes once; the seconds it takes.
pub fn copy_s(bytes: usize) -> f64 {
    let from = vec![1_u8; bytes];
    // Written to before, so that the kernel's first touch of it is no part of this.
    let mut to = vec![2_u8; bytes];
    let began = Instant::now();
    to.copy_from_slice(&from);
    let took_s = began.elapsed().as_secs_f64();
    std::hint::black_box(&to);
    took_s
}

/// Sends frames of so many bytes in all over plain TCP, with the link's socket settings, writes and reads. The seconds
/// it takes.
pub fn loopback_s(bytes: usize, sender: &Serving, receiver: &Serving) -> f64 {
    let listener = sender.run(async { TcpListener::bind("127.0.0.1:0").await.expect("a port") });
    let address = listener.local_addr().expect("an address");
    let mut batch = Vec::new();
    while batch.len() < WRITE_BYTES {
        put_frame(&mut batch, FrameKind::TransferEntry, |out| {
            out.resize(out.len() + PAYLOAD_BYTES, 7)
        });
    }
    sender.handle.spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("a connection");
        stream.set_nodelay(true).expect("a socket");
        let mut left = bytes;
        while left > 0 {
            let part = &batch[..left.min(batch.len())];
            stream.write_all(part).await.expect("it is read");
            left -= part.len();
        }
    });
    receiver.run(async move {
        let began = Instant::now();
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        stream.set_nodelay(true).expect("a socket");
        let (mut buffer, mut came) = (BytesMut::new(), 0);
        loop {
            buffer.reserve(READ_BYTES);
            match stream.read_buf(&mut buffer).await.expect("it is sent") {
                0 => break,
                more => came += more,
            }
            drop(buffer.split());
        }
        assert_eq!(came, bytes);
        began.elapsed().as_secs_f64()
    })
}

/// Sends them over the link's transfer lane; whoever receives them makes nothing of them.
pub fn link_s(bytes: usize, sender: &Serving, receiver: &Serving) -> f64 {
    let listener = sender.run(async { TcpListener::bind("127.0.0.1:0").await.expect("a port") });
    let address = listener.local_addr().expect("an address").to_string();
    sender.handle.spawn(async move {
        let (stream, _) = listener.accept().await.expect("a connection");
        let service = Same { frames: bytes.div_ceil(PAYLOAD_BYTES), changes: watch::channel(0).0 };
        // The end of the connection is the receiver's doing.
        let _ =
            serve_tcp(stream, None, &service, &ServerOptions::default(), std::future::pending())
                .await;
    });
    let hello = || v1::LinkHello {
        version_min: VERSION_MIN,
        version_max: VERSION_MAX,
        lane: v1::LinkLane::Transfer.into(),
        ..v1::LinkHello::default()
    };
    let options = ClientOptions::new(address, Arc::new(hello));
    receiver.run(async move {
        let began = Instant::now();
        let mut client = TransferClient::connect(options).await.expect("welcome");
        client.ask(&[]).await.expect("asked");
        let mut came = 0;
        while let TransferFrame::Entry(payload) = client.next().await.expect("a frame") {
            came += payload.len();
        }
        assert!(came >= bytes);
        began.elapsed().as_secs_f64()
    })
}

/// Answers an ask with the same frame again and again.
struct Same {
    frames: usize,
    changes: watch::Sender<u64>,
}

impl LinkService for Same {
    fn welcome(&self, _hello: &v1::LinkHello) -> Result<v1::LinkWelcome, v1::LinkRefusal> {
        let identity = Some(v1::ReplicaIdentity::default());
        Ok(v1::LinkWelcome { version: VERSION_MAX, identity, ..v1::LinkWelcome::default() })
    }

    fn state(&self) -> v1::ReplicaState {
        v1::ReplicaState::default()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    fn handle(&self, _request: Incoming<'_>, _reply: Replier) {
        panic!("nothing but entries is asked for");
    }

    fn transfer<'a>(
        &'a self,
        _ask: Bytes,
        out: &'a mut TransferSink<'_>,
    ) -> BoxFuture<'a, Result<(), Cut>> {
        Box::pin(async move {
            let payload = vec![7; PAYLOAD_BYTES];
            for _ in 0..self.frames {
                out.entry(&payload).await?;
            }
            out.end(&[]).await
        })
    }
}
