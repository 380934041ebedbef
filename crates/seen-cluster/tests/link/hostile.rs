//! Peers that are broken, or mean harm: each is cut off with a reason, and nothing else suffers.

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use seen_cluster::link::frame::FrameKind;
use seen_cluster::link::message::put_reply;
use seen_cluster::link::{LinkChange, Outgoing, RequestId, ServerOptions};
use seen_proto::v1::{LinkWelcome, ReplicaIdentity};
use tokio::io::AsyncWriteExt;

use crate::pair::{
    CREDIT_BYTES, Service, body, client, client_options, hello, identity, request, within,
};
use crate::raw::{Raw, frame, hello_frame, request_frames, state_frame, welcome, welcome_frame};

/// Says something to a server, and tells how that ended it.
async fn server_after(welcomed: bool, bytes: &[u8]) -> (&'static str, String) {
    let (service, options) = (Service::echo(), ServerOptions::default());
    let (mut raw, served) = if welcomed {
        Raw::welcomed(&service, 1_048_576, &options).await
    } else {
        Raw::to_server(&service, 1_048_576, &options)
    };
    raw.say(bytes).await;
    raw.stream.shutdown().await.unwrap();
    match within(served.ended()).await {
        Ok(()) => ("", String::new()),
        Err(cut) => (cut.label(), cut.to_string()),
    }
}

#[tokio::test]
async fn a_server_cuts_off_who_does_not_speak_the_link() {
    let two = [hello_frame(&hello()), request_frames(&[request(1, body(9))]).to_vec()].concat();
    let cases: [(bool, Vec<u8>, &str, &str); 9] = [
        (false, vec![], "", ""),
        (false, b"GET / HTTP/1.1\r\n\r\n".to_vec(), "broken", "length is 542393671 bytes"),
        (false, state_frame(), "broken", "type State came before a hello"),
        (false, two, "broken", "type Hello came and more before the welcome"),
        (false, frame(FrameKind::Hello, &[0xff]), "broken", "LinkHello cannot be read"),
        (false, hello_frame(&hello())[..7].to_vec(), "closed", "within a frame"),
        (true, hello_frame(&hello()), "broken", "type Hello came after the welcome"),
        (true, frame(FrameKind::Reply, &[0; 10]), "broken", "type Reply came after the welcome"),
        (true, frame(FrameKind::Request, &[0; 3]), "broken", "request id is cut: 3 bytes of 8"),
    ];
    for (welcomed, bytes, label, part) in cases {
        let (ended, why) = server_after(welcomed, &bytes).await;
        assert_eq!(ended, label, "{why}");
        assert!(why.contains(part), "{why:?} has no {part:?}");
    }
}

#[tokio::test]
async fn who_sends_more_than_was_granted_is_cut_off() {
    let (service, _holds) = Service::holding();
    let (mut raw, served) = Raw::welcomed(&service, 65_536, &ServerOptions::default()).await;
    let one: Outgoing = request(1, body(60_000));
    let sender = tokio::spawn(async move {
        let frames = request_frames(&[one]);
        // Ends when the server does.
        while raw.stream.write_all(&frames).await.is_ok() {}
    });
    let cut = within(served.ended()).await.unwrap_err();
    assert_eq!(cut.label(), "broken");
    let why = cut.to_string();
    assert!(why.ends_with(&format!("at most {CREDIT_BYTES} are granted")), "{why}");
    within(sender).await.unwrap();
}

#[test]
fn garbage_never_stops_a_server_from_ending() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let valid = request_frames(&[request(1, body(50)), request(2, body(70_000))]);
    let strategy = (any::<bool>(), any::<bool>(), prop::collection::vec(any::<(u16, u8)>(), 1..8));
    let mut runner = TestRunner::new(ProptestConfig::with_cases(200));
    runner
        .run(&strategy, |(welcomed, noise, flips)| {
            let mut bytes = if noise { Vec::new() } else { valid.to_vec() };
            for (at, flip) in flips {
                if noise {
                    bytes.extend([at as u8, flip]);
                } else {
                    // Heads are hit more often than by chance.
                    let at = usize::from(at) % if flip % 2 == 0 { 30 } else { bytes.len() };
                    bytes[at] ^= flip;
                }
            }
            let (ended, why) = runtime.block_on(server_after(welcomed, &bytes));
            prop_assert!(["", "broken", "closed"].contains(&ended), "{}: {}", ended, why);
            Ok(())
        })
        .unwrap();
}

/// Says something to a client behind a welcome, and gives why it went down.
async fn client_after(bytes: &[u8]) -> String {
    let (_client, mut ear, mut accepts) = client(1_048_576, client_options());
    let mut raw = Raw::new(accepts.recv().await.unwrap());
    raw.next().await;
    raw.say(&[welcome_frame(&welcome()), bytes.to_vec()].concat()).await;
    drop(raw);
    within(ear.up()).await;
    within(ear.down()).await
}

#[tokio::test]
async fn a_client_leaves_who_does_not_speak_the_link() {
    let mut reply = Vec::new();
    put_reply(&mut reply, RequestId(1), true, &[0xff]);
    let cases: [(Vec<u8>, &str); 7] = [
        (vec![], "closed the connection"),
        (state_frame()[..6].to_vec(), "closed the connection within a frame"),
        (vec![0, 0, 0, 0, 5], "a frame's length is 0 bytes"),
        (welcome_frame(&welcome()), "type Welcome came after the welcome"),
        (frame(FrameKind::TransferEntry, &[]), "type TransferEntry came after the welcome"),
        (frame(FrameKind::Credit, &1_u32.to_le_bytes()), "credit of 1048577 bytes"),
        (reply, "CallError cannot be read"),
    ];
    for (bytes, part) in cases {
        let why = client_after(&bytes).await;
        assert!(why.contains(part), "{why:?} has no {part:?}");
    }
}

#[tokio::test]
async fn what_is_behind_an_address_is_checked_whatever_it_makes_of_the_hello() {
    type Change = fn(&mut LinkWelcome, &mut ReplicaIdentity);
    let cases: [(&str, Change); 5] = [
        ("POOL", |_, identity| identity.pool = "push".into()),
        ("SLOT", |_, identity| identity.slot = 0),
        ("CLUSTER", |_, identity| identity.cluster = 1),
        ("HASH", |_, identity| identity.slot_key_check = 1),
        ("VERSION", |welcome, _| welcome.version = 2),
    ];
    for (reason, change) in cases {
        let (_client, mut ear, mut accepts) = client(65_536, client_options());
        let mut raw = Raw::new(accepts.recv().await.unwrap());
        raw.next().await;
        let (mut wrong, mut who) = (welcome(), identity());
        change(&mut wrong, &mut who);
        raw.say(&welcome_frame(&LinkWelcome { identity: Some(who), ..wrong })).await;
        match within(ear.change()).await {
            LinkChange::Refused(refusal) => assert_eq!(refusal.reason, reason),
            change => panic!("{change:?}"),
        }
    }
}
