//! The link between proxies and replicas: whatever comes over a connection.

use bytes::Bytes;
use seen_cluster::link::decoder::{Message, decode};
use seen_cluster::link::frame::{FRAME_BYTES_MAX, FrameKind, put_frame};
use seen_cluster::link::message::{
    REPLY_BYTES_MAX, REQUEST_BYTES_MAX, put_clock, put_credit, put_reply,
};
use seen_cluster::link::{Answer, Flags, LinkError, Moved, Outgoing, RequestId};
use seen_proto::message::encode;
use seen_proto::v1;

use crate::{Target, take};

pub(crate) const LINK: Target = Target {
    name: "link",
    run: both,
    seeds,
    memory_bytes: 65_536,
    // A message that says nothing takes six bytes, and some hundred as it is handed on.
    memory_per_byte: 512,
};

fn both(mut data: &[u8]) {
    let cut = usize::from(u16::from_le_bytes(take(&mut data)));
    bytes(data, cut);
    bytes(&framed(data), cut);
}

/// Frames whose lengths are right: kind, length and payload of each are taken from the bytes.
fn framed(mut data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    while !data.is_empty() {
        let [kind, length] = take(&mut data);
        let (payload, rest) = data.split_at(data.len().min(length.into()));
        data = rest;
        out.extend(((payload.len() + 1) as u32).to_le_bytes());
        out.push(kind);
        out.extend(payload);
    }
    out
}

/// How the bytes are cut changes nothing, and what was read is written and read again as the same.
fn bytes(data: &[u8], cut: usize) {
    let read = decode(data, 0);
    assert!(decode(data, cut) == read, "cut at {cut}");
    match read {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(messages) => messages.iter().for_each(again),
    }
}

fn again(message: &Message) {
    let mut out = Vec::new();
    match message {
        Message::Request { head, body } => {
            assert!(body.len() <= REQUEST_BYTES_MAX);
            let sent = Outgoing {
                id: head.id,
                call: head.call,
                timeout_us: head.timeout_us,
                epoch: head.epoch,
                flags: head.flags,
                moved: head.moved,
                trace: head.trace,
                body: body.clone(),
            };
            sent.put_sent(&mut out, head.sent_us);
            assert_eq!(out.len(), sent.frame_bytes(), "what it costs of the credit");
        }
        Message::Reply { id, answer: Answer::Message(body) } => {
            assert!(body.len() <= REPLY_BYTES_MAX);
            put_reply(&mut out, *id, false, body);
        }
        Message::Credit(bytes) => put_credit(&mut out, *bytes),
        Message::Clock(us) => put_clock(&mut out, *us),
        Message::Transfer(kind, payload) => {
            put_frame(&mut out, *kind, |out| out.extend_from_slice(payload));
        }
        _ => return,
    }
    let read: Result<Vec<Message>, LinkError> = decode(&out, 0);
    match (message, read.as_deref()) {
        // The pieces' flags are the frames', not the message's.
        (Message::Request { head, body }, Ok([Message::Request { head: read, body: same }])) => {
            assert_eq!(
                (read.id, read.call, read.timeout_us),
                (head.id, head.call, head.timeout_us)
            );
            assert_eq!((read.epoch, read.sent_us), (head.epoch, head.sent_us));
            assert_eq!((read.moved, read.trace), (head.moved, head.trace));
            assert!(same == body, "the body differs");
        }
        (message, Ok([read])) => assert_eq!(read, message),
        (message, read) => panic!("{message:?} became {read:?}"),
    }
}

fn seeds() -> Vec<Vec<u8>> {
    let request = |bytes: usize, moved, trace| Outgoing {
        id: RequestId(7),
        call: 1,
        timeout_us: 90_000,
        epoch: 3,
        flags: Flags::HEDGE,
        moved,
        trace,
        body: (0..bytes).map(|at| (at * 31 % 251) as u8).collect::<Bytes>(),
    };
    let moved = Some(Moved { incarnation: 1, sequence: 2 });
    let mut all = Vec::new();
    for bytes in [0, 40, FRAME_BYTES_MAX] {
        let mut out = vec![9, 0];
        request(bytes, moved, Some([3; 25])).put(&mut out);
        request(bytes, None, None).put_sent(&mut out, 99);
        put_reply(&mut out, RequestId(7), false, &vec![1; bytes]);
        put_credit(&mut out, 1_000);
        put_clock(&mut out, u64::MAX);
        all.push(out);
    }
    let mut hello = vec![0, 0];
    let said = v1::LinkHello { version_min: 1, version_max: 1, ..Default::default() };
    put_frame(&mut hello, FrameKind::Hello, |out| out.extend(encode(&said)));
    let state = v1::ReplicaState::default();
    put_frame(&mut hello, FrameKind::State, |out| out.extend(encode(&state)));
    put_frame(&mut hello, FrameKind::Goodbye, |_| {});
    all.push(hello);
    // Kind, length and payload, from which frames are made.
    all.push([&[0, 0, 4, 26][..], &[0; 26], &[6, 4, 1, 2, 3, 4, 12, 8], &[7; 8]].concat());
    all
}
