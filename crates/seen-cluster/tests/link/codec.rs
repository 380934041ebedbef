//! Bytes to messages and back, whatever way they are cut, and whatever they are.

use bytes::Bytes;
use proptest::prelude::*;
use seen_cluster::link::decoder::{Decoder, Message, decode};
use seen_cluster::link::frame::{FRAME_BYTES_MAX, FrameKind, HEAD_BYTES, put_frame};
use seen_cluster::link::message::{
    REPLY_BYTES_MAX, REQUEST_BYTES_MAX, put_credit, put_reply, read_credit,
};
use seen_cluster::link::{Answer, Flags, LinkError, Moved, Outgoing, RequestId};

/// A request with nothing special.
fn request(id: u64, body: Bytes) -> Outgoing {
    let (moved, trace, flags) = (None, None, Flags::NONE);
    Outgoing { id: RequestId(id), call: 1, timeout_us: 90_000, epoch: 7, flags, moved, trace, body }
}

/// A body of so many bytes that are not all alike.
fn body(bytes: usize) -> Bytes {
    (0..bytes).map(|at| (at * 31 % 251) as u8).collect()
}

fn lengths(max: usize) -> impl Strategy<Value = usize> {
    let edge = FRAME_BYTES_MAX - 100;
    prop_oneof![
        6 => 0..200_usize,
        2 => edge..FRAME_BYTES_MAX + 100,
        1 => Just(max),
        1 => 0..max,
    ]
}

fn requests() -> impl Strategy<Value = Outgoing> {
    let moved = any::<Option<(u64, u64)>>();
    let head = (any::<u64>(), any::<u8>(), any::<u32>(), any::<u32>(), 0..4_u8);
    (head, moved, any::<Option<[u8; 16]>>(), lengths(REQUEST_BYTES_MAX)).prop_map(
        |((id, call, timeout_us, epoch, flags), moved, trace, bytes)| {
            let set = |bit: u8, flag| if flags & bit == 0 { Flags::NONE } else { flag };
            let flags = set(1, Flags::EMERGENCY).with(set(2, Flags::HEDGE));
            let moved = moved.map(|(incarnation, sequence)| Moved { incarnation, sequence });
            let trace = trace.map(|start| {
                let mut trace = [3; 25];
                trace[..16].copy_from_slice(&start);
                trace
            });
            let id = RequestId(id);
            Outgoing { id, call, timeout_us, epoch, flags, moved, trace, body: body(bytes) }
        },
    )
}

/// Feeds `bytes` in parts, cut at `cuts`.
fn read_cut(bytes: &[u8], cuts: &[usize]) -> (Vec<Message>, Option<LinkError>) {
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
    cuts.extend([0, bytes.len()]);
    cuts.sort_unstable();
    let (mut decoder, mut out) = (Decoder::default(), Vec::new());
    for part in cuts.windows(2) {
        if let Err(error) = decoder.take(&bytes[part[0]..part[1]], &mut out) {
            return (out, Some(error));
        }
    }
    (out, None)
}

/// Every frame's length, as stated.
fn frame_lengths(mut bytes: &[u8]) -> Vec<usize> {
    let mut lengths = Vec::new();
    while let Some((length, rest)) = bytes.split_first_chunk::<4>() {
        let length = u32::from_le_bytes(*length) as usize;
        lengths.push(length);
        bytes = &rest[length..];
    }
    lengths
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn requests_come_as_they_were_sent(sent in prop::collection::vec(requests(), 1..5), cuts in prop::collection::vec(any::<usize>(), 0..6)) {
        let mut bytes = Vec::new();
        for one in &sent {
            let before = bytes.len();
            one.put(&mut bytes);
            prop_assert_eq!(bytes.len() - before, one.frame_bytes());
        }
        prop_assert!(frame_lengths(&bytes).iter().all(|length| *length <= FRAME_BYTES_MAX));
        let (read, error) = read_cut(&bytes, &cuts);
        prop_assert_eq!(error, None);
        prop_assert_eq!(read.len(), sent.len());
        for (message, sent) in read.iter().zip(&sent) {
            let Message::Request { head, body } = message else { panic!("{message:?}") };
            prop_assert_eq!((head.id, head.call), (sent.id, sent.call));
            prop_assert_eq!((head.timeout_us, head.epoch), (sent.timeout_us, sent.epoch));
            prop_assert_eq!((head.moved, head.trace), (sent.moved, sent.trace));
            prop_assert!(head.flags.contains(sent.flags));
            prop_assert_eq!(head.flags.contains(Flags::HEDGE), sent.flags.contains(Flags::HEDGE));
            prop_assert!(*body == sent.body, "{} bytes became {}", sent.body.len(), body.len());
        }
    }

    #[test]
    fn replies_come_as_they_were_sent(id in any::<u64>(), bytes in lengths(REPLY_BYTES_MAX), cuts in prop::collection::vec(any::<usize>(), 0..6)) {
        let sent = body(bytes);
        let mut out = Vec::new();
        put_reply(&mut out, RequestId(id), false, &sent);
        prop_assert!(frame_lengths(&out).iter().all(|length| *length <= FRAME_BYTES_MAX));
        put_credit(&mut out, 77);
        let reply = Message::Reply { id: RequestId(id), answer: Answer::Message(sent) };
        prop_assert!(read_cut(&out, &cuts) == (vec![reply, Message::Credit(77)], None));
    }

    #[test]
    fn how_bytes_are_cut_changes_nothing(
        sent in prop::collection::vec(requests(), 1..4),
        flips in prop::collection::vec((any::<usize>(), any::<u8>()), 0..3),
        cuts in prop::collection::vec(any::<usize>(), 0..8),
    ) {
        let mut bytes = Vec::new();
        sent.iter().for_each(|one| one.put(&mut bytes));
        for (at, flip) in flips {
            // Heads are hit more often than by chance.
            let at = at % if flip % 2 == 0 { bytes.len().min(60) } else { bytes.len() };
            bytes[at] ^= flip;
        }
        prop_assert!(read_cut(&bytes, &cuts) == read_cut(&bytes, &[]));
    }

    #[test]
    fn garbage_is_refused_or_read_and_never_panics(kind in 0..13_u8, bytes in prop::collection::vec(any::<u8>(), 0..300), cut in any::<usize>()) {
        let _ = decode(&bytes, cut % (bytes.len() + 1));
        let mut framed = ((bytes.len() + 1) as u32).to_le_bytes().to_vec();
        framed.push(kind);
        framed.extend_from_slice(&bytes);
        let whole = decode(&framed, 0);
        prop_assert_eq!(whole.is_ok() && (kind == 0 || kind > 11), false);
        prop_assert!(decode(&framed, cut % framed.len()) == whole);
    }
}

/// Lengths around every limit of one frame and of all pieces.
#[test]
fn pieces_are_cut_where_a_frame_is_full() {
    let room = FRAME_BYTES_MAX - 1 - 26;
    for (bytes, frames) in [(0, 1), (room, 1), (room + 1, 2), (2 * room, 2), (2 * room + 1, 3)] {
        let mut out = Vec::new();
        request(1, body(bytes)).put(&mut out);
        assert_eq!(frame_lengths(&out).len(), frames, "{bytes} bytes");
        let cut = Outgoing { trace: Some([1; 25]), ..request(1, body(bytes)) };
        let mut out = Vec::new();
        cut.put(&mut out);
        assert_eq!(out.len(), cut.frame_bytes(), "{bytes} bytes with a trace");
        assert!(
            matches!(&decode(&out, 9).unwrap()[..], [Message::Request { body: read, .. }] if *read == cut.body)
        );
    }
}

/// The start of a frame: its length and type.
fn head(length: u32, kind: u8) -> Vec<u8> {
    [&length.to_le_bytes()[..], &[kind]].concat()
}

#[test]
fn what_is_none_of_the_link_is_refused_with_field_value_and_limit() {
    let one = |put: &dyn Fn(&mut Vec<u8>)| {
        let mut out = Vec::new();
        put(&mut out);
        out
    };
    let mut piece = one(&|out| request(5, body(70_000)).put(out));
    piece.truncate(HEAD_BYTES + FRAME_BYTES_MAX - 1);
    let other = one(&|out| request(6, body(70_000)).put(out));
    let later = |of: &[u8]| of[HEAD_BYTES + FRAME_BYTES_MAX - 1..].to_vec();
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (head(65_537, 4), "a frame's length is 65537 bytes; at most 65536"),
        (head(u32::MAX, 4), "a frame's length is 4294967295 bytes; at most 65536"),
        (head(0, 4), "a frame's length is 0 bytes; at least 1, its type"),
        (head(9, 0), "a frame's type is 0; known are 1 to 12"),
        (head(9, 13), "a frame's type is 13; known are 1 to 12"),
        (head(9, 127), "a frame's type is 127; known are 1 to 12"),
        ([head(5, 4), vec![0; 4]].concat(), "request id is cut: 4 bytes of 8"),
        ([head(26, 4), vec![0; 25]].concat(), "flags is cut: 0 bytes of 1"),
        ([head(27, 4), vec![0; 25], vec![4]].concat(), "moved.incarnation is cut: 0 bytes of 8"),
        ([head(27, 4), vec![0; 25], vec![8]].concat(), "trace is cut: 0 bytes of 25"),
        (
            [head(27, 4), vec![0; 25], vec![36]].concat(),
            "flags is 36; a later piece has neither claim nor trace",
        ),
        ([head(11, 5), vec![0; 8], vec![2, 0]].concat(), "status is 2; 0 is an answer, 1 an error"),
        ([head(11, 5), vec![0; 9], vec![1]].concat(), "flags is 1; a reply has those of 240"),
        ([head(4, 6), vec![0; 3]].concat(), "credit is cut: 3 bytes of 4"),
        ([head(6, 6), vec![0; 5]].concat(), "bytes of a credit is 5; 4 are meant"),
        ([head(8, 12), vec![0; 7]].concat(), "clock is cut: 7 bytes of 8"),
        ([head(10, 12), vec![0; 9]].concat(), "bytes of a clock is 9; 8 are meant"),
        ([head(2, 1), vec![0xff]].concat(), "LinkHello cannot be read"),
        ([head(2, 7), vec![0xff]].concat(), "ReplicaState cannot be read"),
        (later(&other), "a request 0x6 came as a later piece without a first one"),
        ([piece.clone(), later(&other)].concat(), "a request 0x6 came as a later piece of another"),
        ([piece, other].concat(), "a request 0x6 came while pieces of another were to follow"),
    ];
    for (bytes, expected) in cases {
        let error = decode(&bytes, 0).expect_err(expected).to_string();
        assert!(error.starts_with(expected), "{error:?} instead of {expected:?}");
    }
}

/// Pieces without an end stop where the longest message does, not where memory does.
#[test]
fn a_message_without_an_end_is_refused_at_its_limit() {
    let mut long = Vec::new();
    request(9, body(REQUEST_BYTES_MAX + 1)).put(&mut long);
    let error = decode(&long, 0).unwrap_err();
    let (what, id, bytes_max) = ("a request", 9, REQUEST_BYTES_MAX);
    let bytes = REQUEST_BYTES_MAX + 1;
    assert_eq!(error, LinkError::MessageTooLong { what, id, bytes, bytes_max });
    let mut long = Vec::new();
    put_reply(&mut long, RequestId(9), false, &body(REPLY_BYTES_MAX + 1));
    let error = decode(&long, 0).unwrap_err().to_string();
    assert_eq!(error, "a reply 0x9 takes over 4194305 bytes; at most 4194304");
}

#[test]
fn after_what_is_broken_nothing_is_read() {
    let mut bytes = Vec::new();
    put_credit(&mut bytes, 1);
    bytes.extend_from_slice(&head(0, 4));
    let (mut decoder, mut out) = (Decoder::default(), Vec::new());
    assert_eq!(decoder.take(&bytes, &mut out), Err(LinkError::FrameEmpty));
    let mut good = Vec::new();
    put_credit(&mut good, 2);
    assert_eq!(decoder.take(&good, &mut out), Err(LinkError::FrameEmpty));
    assert_eq!(out, [Message::Credit(1)]);
}

#[test]
fn every_number_keeps_its_meaning() {
    for (kind, number) in FrameKind::ALL.into_iter().zip(1_u8..) {
        assert_eq!(kind as u8, number);
        assert_eq!(FrameKind::from_number(number), Ok(Some(kind)));
    }
    let mut out = Vec::new();
    let moved = Some(Moved { incarnation: 0x11, sequence: 0x22 });
    let sent =
        Outgoing { moved, flags: Flags::HEDGE, ..request(0x0102, Bytes::from_static(b"ab")) };
    sent.put(&mut out);
    let expected: [&[u8]; 10] = [
        &45_u32.to_le_bytes(),
        &[4],
        &0x0102_u64.to_le_bytes(),
        &90_000_u32.to_le_bytes(),
        &7_u32.to_le_bytes(),
        &0_u64.to_le_bytes(),
        &[1, 2 | 4],
        &0x11_u64.to_le_bytes(),
        &0x22_u64.to_le_bytes(),
        b"ab",
    ];
    assert_eq!(out, expected.concat());
    let mut out = Vec::new();
    put_reply(&mut out, RequestId(3), true, b"x");
    assert_eq!(
        out,
        [&12_u32.to_le_bytes()[..], &[5], &3_u64.to_le_bytes(), &[1, 0], b"x"].concat()
    );
    let mut out = Vec::new();
    put_frame(&mut out, FrameKind::Goodbye, |_| ());
    assert_eq!(out, [1, 0, 0, 0, 8]);
    assert_eq!(read_credit(&9_u32.to_le_bytes()), Ok(9));
}
