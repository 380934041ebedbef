//! Two versions of the program at the two ends of a link, as while a cluster is upgraded. The newer one is this one, with
//! what a newer one may say added to all that it sends.

use std::sync::Arc;

use seen_cluster::link::decoder::Message;
use seen_cluster::link::frame::{FrameKind, OPTIONAL_KIND_MIN};
use seen_cluster::link::{Answer, Link, LinkChange, NotSent, newest_common};
use seen_proto::message::{decode, encode};
use seen_proto::v1::{LinkHello, ReplicaIdentity};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf, WriteHalf, duplex, split};
use tokio::sync::mpsc;

use crate::pair::{
    Ear, Served, Service, body, client, client_options, hello, identity, request, within,
};
use crate::raw::{Raw, frame, hello_frame, welcome, welcome_frame};

/// A field of protobuf that nobody knows: number 100, a string.
const UNKNOWN_FIELD: &[u8] = b"\xa2\x06\x05later";
/// Where the flags are in the payload of a request, and of a reply.
const REQUEST_FLAGS_AT: usize = 25;
const REPLY_FLAGS_AT: usize = 9;

/// A frame as the next version sends it: with versions, fields and hints that this one does not know.
fn newer(kind: u8, mut payload: Vec<u8>) -> Vec<u8> {
    const HELLO: u8 = FrameKind::Hello as u8;
    const WELCOME: u8 = FrameKind::Welcome as u8;
    const STATE: u8 = FrameKind::State as u8;
    const REQUEST: u8 = FrameKind::Request as u8;
    const REPLY: u8 = FrameKind::Reply as u8;
    match kind {
        HELLO => {
            let hello: LinkHello = decode(payload.into()).expect("ours");
            payload = encode(&LinkHello { version_max: hello.version_max + 1, ..hello }).to_vec();
            payload.extend(UNKNOWN_FIELD);
        }
        WELCOME | STATE => payload.extend(UNKNOWN_FIELD),
        REQUEST => payload[REQUEST_FLAGS_AT] |= 64 | 128,
        REPLY => payload[REPLY_FLAGS_AT] |= 64 | 128,
        _ => {}
    }
    let mut out = optional_frame(OPTIONAL_KIND_MIN);
    out.extend(((payload.len() + 1) as u32).to_le_bytes());
    out.push(kind);
    out.extend(payload);
    out
}

fn optional_frame(kind: u8) -> Vec<u8> {
    [&6_u32.to_le_bytes()[..], &[kind], b"later"].concat()
}

/// Makes whoever is at `from` the newer one.
async fn say_more(mut from: ReadHalf<DuplexStream>, mut to: WriteHalf<DuplexStream>) {
    while let Ok(length) = from.read_u32_le().await {
        let mut frame = vec![0; length as usize];
        if from.read_exact(&mut frame).await.is_err() {
            break;
        }
        if to.write_all(&newer(frame[0], frame.split_off(1))).await.is_err() {
            break;
        }
    }
    // The other end is told that this one closed.
    let _ = to.shutdown().await;
}

async fn say_the_same(mut from: ReadHalf<DuplexStream>, mut to: WriteHalf<DuplexStream>) {
    // How it ends is told by the ends themselves.
    let _ = tokio::io::copy(&mut from, &mut to).await;
    let _ = to.shutdown().await;
}

/// A way to `far` on which the end at `far` is the newer one.
fn to_newer(far: DuplexStream) -> DuplexStream {
    let (near, middle) = duplex(65_536);
    let ((from_far, to_far), (from_near, to_near)) = (split(far), split(middle));
    tokio::spawn(say_more(from_far, to_near));
    tokio::spawn(say_the_same(from_near, to_far));
    near
}

/// A replica: of this version, or of the next.
fn serve(stream: DuplexStream, service: &Arc<Service>, is_newer: bool) -> Served {
    let options = Default::default();
    if !is_newer {
        return Served::new(stream, service, &options);
    }
    let (near, far) = duplex(65_536);
    let served = Served::new(near, service, &options);
    let mut newer = to_newer(far);
    let mut stream = stream;
    tokio::spawn(async move {
        let _ = tokio::io::copy_bidirectional(&mut newer, &mut stream).await;
    });
    served
}

/// All that a link is for works: small and large, many at once, credit given back.
async fn talk(client: &impl Link, ear: &mut Ear) {
    for round in 0..3 {
        for id in 0..40 {
            let bytes = if id % 8 == 0 { 150_000 } else { 100 };
            while client.submit(&request(round * 100 + id, body(bytes))) == Err(NotSent::NoCredit) {
                tokio::task::yield_now().await;
            }
        }
        for (id, answer) in within(ear.answers(40)).await {
            let bytes = if id % 100 % 8 == 0 { 150_000 } else { 100 };
            assert!(answer == Answer::Message(body(bytes)), "{id}");
        }
    }
}

#[tokio::test]
async fn this_proxy_talks_to_a_newer_replica() {
    let (client, mut ear, mut accepts) = client(65_536, client_options());
    let _served = serve(accepts.recv().await.expect("a connection"), &Service::echo(), true);
    within(ear.up()).await;
    talk(&client, &mut ear).await;
}

#[tokio::test]
async fn a_newer_proxy_talks_to_this_replica() {
    let (client, mut ear, mut accepts) = client(65_536, client_options());
    let newer = to_newer(accepts.recv().await.expect("a connection"));
    let _served = serve(newer, &Service::echo(), false);
    within(ear.up()).await;
    talk(&client, &mut ear).await;
}

/// Both kinds serve one slot while its replicas are renewed one after the other: whoever is asked answers, what was lost with one that
/// ended is told, and the link is there again with whoever came in its place.
#[tokio::test]
async fn a_slot_is_renewed_replica_by_replica() {
    let service = Service::echo();
    let (one, mut ear_of_one, mut accepts_one) = client(65_536, client_options());
    let (two, mut ear_of_two, mut accepts_two) = client(65_536, client_options());
    let next = async |accepts: &mut mpsc::UnboundedReceiver<DuplexStream>, is_newer| {
        serve(within(accepts.recv()).await.expect("a connection"), &service, is_newer)
    };
    let first = next(&mut accepts_one, false).await;
    let second = next(&mut accepts_two, false).await;
    within(ear_of_one.up()).await;
    within(ear_of_two.up()).await;
    for (link, ear, accepts, served) in [
        (&one, &mut ear_of_one, &mut accepts_one, first),
        (&two, &mut ear_of_two, &mut accepts_two, second),
    ] {
        talk(link, ear).await;
        served.stop();
        assert_eq!(within(ear.change()).await, LinkChange::Draining);
        within(ear.down()).await;
        within(served.ended()).await.expect("in order");
        // The newer one; back to the older one, since something is wrong with it; and the newer one again.
        let mut serving = next(accepts, true).await;
        within(ear.up()).await;
        for is_newer in [false, true] {
            talk(link, ear).await;
            serving.stop();
            within(ear.change()).await;
            within(ear.down()).await;
            serving = next(accepts, is_newer).await;
            within(ear.up()).await;
        }
        talk(link, ear).await;
        drop(serving);
    }
}

#[tokio::test]
async fn who_is_too_far_away_is_refused_with_both_versions() {
    let service = Service::echo();
    let (mut raw, served) = Raw::to_server(&service, 65_536, &Default::default());
    raw.say(&hello_frame(&LinkHello { version_min: 2, version_max: 3, ..hello() })).await;
    let refused = within(served.ended()).await.expect_err("refused").to_string();
    assert!(refused.contains("1 to 1") && refused.contains("2 to 3"), "{refused}");

    let (_client, mut ear, mut accepts) = client(65_536, client_options());
    let mut raw = Raw::new(accepts.recv().await.expect("a connection"));
    within(raw.next()).await;
    let newer = ReplicaIdentity { program: "later".into(), ..identity() };
    let welcome = seen_proto::v1::LinkWelcome { version: 2, identity: Some(newer), ..welcome() };
    raw.say(&welcome_frame(&welcome)).await;
    match within(ear.change()).await {
        LinkChange::Refused(refusal) => {
            let message = refusal.message;
            assert!(message.contains("version 2") && message.contains("1 to 1"), "{message}");
        }
        change => panic!("{change:?}"),
    }
}

/// A newer client may say more behind its hello than an older server knows.
#[tokio::test]
async fn what_may_be_left_out_may_follow_a_hello() {
    let (mut raw, _served) = Raw::to_server(&Service::echo(), 65_536, &Default::default());
    let said = [hello_frame(&hello()), optional_frame(OPTIONAL_KIND_MIN), optional_frame(255)];
    raw.say(&said.concat()).await;
    let welcome = within(raw.next()).await;
    assert!(matches!(welcome, Some(Message::Welcome(_))), "{welcome:?}");
}

/// What belongs to a version of the link may not be left out: who did not agree on that version is cut off.
#[tokio::test]
async fn what_is_not_optional_is_not_left_out() {
    let (mut raw, served) = Raw::welcomed(&Service::echo(), 65_536, &Default::default()).await;
    raw.say(&optional_frame(255)).await;
    raw.say(&optional_frame(OPTIONAL_KIND_MIN - 1)).await;
    let cut = within(served.ended()).await.expect_err("cut").to_string();
    assert!(cut.contains("type is 127"), "{cut}");
    assert_eq!(frame(FrameKind::Goodbye, b"").len(), 5);
}

#[test]
fn neighbours_speak_the_older_ones_newest_version() {
    let (old, new, newest) = ((1, 1), (1, 2), (2, 3));
    let cases = [
        (old, new, Some(1)),
        (new, new, Some(2)),
        (new, newest, Some(2)),
        (old, newest, None),
        (new, (1, 9), Some(2)),
        (new, (3, 2), None),
        (new, (0, 0), None),
    ];
    for (one, other, version) in cases {
        assert_eq!(newest_common(one, other), version, "{one:?} {other:?}");
        assert_eq!(newest_common(other, one), version, "{other:?} {one:?}");
    }
}
