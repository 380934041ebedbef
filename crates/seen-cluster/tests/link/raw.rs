//! One end of a link by hand: for what neither end of ours would say.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};
use seen_cluster::link::decoder::{Decoder, Message};
use seen_cluster::link::frame::{FrameKind, put_frame};
use seen_cluster::link::{Outgoing, ServerOptions};
use seen_proto::message::encode;
use seen_proto::v1::{LinkHello, LinkWelcome, ReplicaState};
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use crate::pair::{CREDIT_BYTES, Served, Service, hello, identity};

pub struct Raw {
    pub stream: DuplexStream,
    decoder: Decoder,
    read: VecDeque<Message>,
}

impl Raw {
    pub fn new(stream: DuplexStream) -> Self {
        Self { stream, decoder: Decoder::default(), read: VecDeque::new() }
    }

    /// Connected to a server that has not been said hello yet.
    pub fn to_server(
        service: &Arc<Service>,
        bytes: usize,
        options: &ServerOptions,
    ) -> (Self, Served) {
        let (near, far) = tokio::io::duplex(bytes);
        (Self::new(near), Served::new(far, service, options))
    }

    /// Connected to a server that has welcomed it.
    pub async fn welcomed(
        service: &Arc<Service>,
        bytes: usize,
        options: &ServerOptions,
    ) -> (Self, Served) {
        let (mut raw, served) = Self::to_server(service, bytes, options);
        raw.say(&hello_frame(&hello())).await;
        let welcome = raw.next().await;
        assert!(matches!(welcome, Some(Message::Welcome(_))), "{welcome:?}");
        (raw, served)
    }

    pub async fn say(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.expect("the other end reads");
    }

    /// What comes next; `None` = the other end closed.
    pub async fn next(&mut self) -> Option<Message> {
        loop {
            // How late it is at the other end is told at any time.
            while let Some(message) = self.read.pop_front() {
                if !matches!(message, Message::Clock(_)) {
                    return Some(message);
                }
            }
            let mut bytes = BytesMut::with_capacity(65_536);
            if self.stream.read_buf(&mut bytes).await.expect("no error in memory") == 0 {
                return None;
            }
            let mut read = Vec::new();
            self.decoder.take(&bytes, &mut read).expect("ours speak the link");
            self.read.extend(read);
        }
    }

    /// What comes next, and is no state.
    pub async fn next_but_state(&mut self) -> Option<Message> {
        loop {
            match self.next().await {
                Some(Message::State(_)) => {}
                other => return other,
            }
        }
    }
}

pub fn frame(kind: FrameKind, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    put_frame(&mut out, kind, |out| out.extend_from_slice(payload));
    out
}

pub fn hello_frame(hello: &LinkHello) -> Vec<u8> {
    frame(FrameKind::Hello, &encode(hello))
}

pub fn state_frame() -> Vec<u8> {
    frame(FrameKind::State, &encode(&ReplicaState { ready: true, ..Default::default() }))
}

/// What a client takes for a welcome.
pub fn welcome() -> LinkWelcome {
    let (identity, state) = (Some(identity()), Some(ReplicaState::default()));
    LinkWelcome { version: 1, credit_bytes: CREDIT_BYTES, identity, state }
}

pub fn welcome_frame(welcome: &LinkWelcome) -> Vec<u8> {
    frame(FrameKind::Welcome, &encode(welcome))
}

pub fn request_frames(requests: &[Outgoing]) -> Bytes {
    let mut out = Vec::new();
    requests.iter().for_each(|request| request.put(&mut out));
    out.into()
}
