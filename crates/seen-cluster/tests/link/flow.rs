//! What holds either end back: credit, full buffers, slow readers, late answers.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use seen_cluster::link::decoder::{Decoder, Message};
use seen_cluster::link::{
    Answer, ClientOptions, Cut, Link, LinkClient, NotSent, Outgoing, Replier, RequestId,
    ServerOptions, serve_tcp,
};
use seen_proto::status::ErrorKind;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::yield_now;
use tokio::time::Instant;

use crate::pair::{
    CREDIT_BYTES, Ear, Served, Service, always, body, client, client_options, hello, pair, request,
    within,
};
use crate::raw::{Raw, request_frames};

#[tokio::test]
async fn without_credit_it_fails_at_once_and_credit_comes_back_with_answers() {
    let (service, mut holds) = Service::holding();
    let (client, mut ear, _served) = pair(&service).await;
    let one = |id| request(id, body(60_000));
    let cost = one(0).frame_bytes() as u64;
    let fit = CREDIT_BYTES / cost;
    for id in 0..fit {
        client.submit(&one(id)).unwrap();
    }
    assert_eq!(client.submit(&one(99)), Err(NotSent::NoCredit));
    assert_eq!(client.credit_bytes(), CREDIT_BYTES - fit * cost);
    // A smaller one still fits.
    client.submit(&request(77, body(9))).unwrap();
    let mut held = Vec::new();
    for _ in 0..=fit {
        held.push(within(holds.recv()).await.unwrap());
    }
    let (_, replier) = held.remove(3);
    replier.message(b"done");
    assert_eq!(within(ear.answer()).await.0, RequestId(3));
    while client.submit(&one(99)) != Ok(()) {
        yield_now().await;
    }
    assert_eq!(client.submit(&one(98)), Err(NotSent::NoCredit));
    held.push(within(holds.recv()).await.unwrap());
    held.drain(..).for_each(|(_, replier)| replier.message(b"done"));
    within(ear.answers(fit as usize + 1)).await;
    while client.credit_bytes() != CREDIT_BYTES {
        yield_now().await;
    }
}

#[tokio::test]
async fn what_waits_to_be_written_is_bounded() {
    let options = ClientOptions { buffer_bytes_max: 100_000, ..client_options() };
    let (client, mut ear, mut accepts) = client(65_536, options);
    let _served =
        Served::new(accepts.recv().await.unwrap(), &Service::echo(), &ServerOptions::default());
    ear.up().await;
    // The writer is on this very thread, and has not run meanwhile.
    client.submit(&request(1, body(60_000))).unwrap();
    assert_eq!(client.submit(&request(2, body(60_000))), Err(NotSent::Full));
    assert_eq!(within(ear.answer()).await.0, RequestId(1));
    client.submit(&request(3, body(60_000))).unwrap();
    assert_eq!(within(ear.answer()).await.0, RequestId(3));
}

/// What a request is answered with.
fn answer_of(id: u64) -> Bytes {
    let mixed = id.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let bytes = if mixed.is_multiple_of(97) { 150_000 } else { (mixed % 300) as usize };
    [&id.to_le_bytes()[..], &body(bytes)].concat().into()
}

/// Answers what is held, some together and in another order, from whatever thread.
async fn answer_late(mut holds: mpsc::UnboundedReceiver<(RequestId, Replier)>) {
    let mut held = Vec::new();
    while let Some(one) = holds.recv().await {
        held.push(one);
        while let Ok(more) = holds.try_recv() {
            held.push(more);
        }
        held.sort_by_key(|(id, _)| id.0.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let late = held.split_off(held.len() / 2);
        for (id, replier) in late {
            tokio::spawn(async move {
                yield_now().await;
                replier.message(&answer_of(id.0));
            });
        }
        for (id, replier) in held.drain(..) {
            replier.message(&answer_of(id.0));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_requests_are_answered_once_each_however_late() {
    const REQUESTS: u64 = 10_000;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let (events, mut ear) = Ear::new();
    let client = LinkClient::start(ClientOptions::new(address, always(hello())), events);
    let (stream, _) = listener.accept().await.unwrap();
    let (service, holds) = Service::holding();
    tokio::spawn(answer_late(holds));
    let server = service.clone();
    tokio::spawn(async move {
        let options = ServerOptions::default();
        serve_tcp(stream, None, &*server, &options, std::future::pending()).await
    });
    within(ear.up()).await;
    let sends = async {
        for id in 0..REQUESTS {
            let sent = request(id, body((id % 3_000) as usize));
            while let Err(reason) = client.submit(&sent) {
                assert_eq!(reason, NotSent::NoCredit);
                yield_now().await;
            }
        }
    };
    let hears = async { ear.answers(REQUESTS as usize).await };
    let ((), answers) = within(async { tokio::join!(sends, hears) }).await;
    for id in 0..REQUESTS {
        assert!(answers[&id] == Answer::Message(answer_of(id)), "request {id}");
    }
    while client.credit_bytes() != CREDIT_BYTES {
        yield_now().await;
    }
}

/// Coherence row 36: what waited too long is not executed, also if it was read in time.
#[tokio::test]
async fn what_nobody_waits_for_when_it_is_its_turn_is_not_executed() {
    let (executed, mut executes) = mpsc::unbounded_channel();
    let service = Service::new(move |request, reply| {
        executed.send(request.id.0).unwrap();
        // As a process that is stopped in the middle of a batch.
        while request.now.elapsed() < Duration::from_millis(3) {
            std::hint::spin_loop();
        }
        reply.message(b"");
    });
    let (mut raw, _served) = Raw::welcomed(&service, 65_536, &ServerOptions::default()).await;
    let short = |id, timeout_us| Outgoing { timeout_us, ..request(id, body(4)) };
    let sent = [short(1, 60_000_000), short(2, 1_000), short(3, 60_000_000), short(4, 0)];
    raw.say(&request_frames(&sent)).await;
    for id in 1..=4 {
        let Some(Message::Reply { id: answered, answer }) = within(raw.next_but_state()).await
        else {
            panic!("no reply to {id}");
        };
        assert_eq!(answered, RequestId(id));
        match (id, answer) {
            (1 | 3, Answer::Message(_)) => {}
            (2 | 4, Answer::Error(error)) => assert_eq!(error.kind, ErrorKind::DeadlineExceeded),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((executes.recv().await, executes.recv().await), (Some(1), Some(3)));
    assert!(executes.try_recv().is_err());
}

#[tokio::test(start_paused = true)]
async fn who_does_not_read_is_cut_off_after_a_while() {
    let options = ServerOptions::default();
    let (mut raw, served) = Raw::welcomed(&Service::echo(), 4_096, &options).await;
    let begun = Instant::now();
    // Reads nothing of what this is answered with; written elsewhere, for the server stops to read, too.
    tokio::spawn(async move {
        raw.say(&request_frames(&[request(1, body(50_000))])).await;
        std::future::pending::<()>().await;
    });
    let cut = served.ended().await.unwrap_err();
    assert!(matches!(cut, Cut::Late { what: "writing", .. }), "{cut}");
    assert_eq!(Instant::now() - begun, options.write_timeout);
}

#[tokio::test(start_paused = true)]
async fn who_does_not_read_does_not_fill_memory_meanwhile() {
    let (service, mut holds) = Service::holding();
    let options = ServerOptions { buffer_bytes_max: 500_000, ..ServerOptions::default() };
    let (mut raw, served) = Raw::welcomed(&service, 65_536, &options).await;
    let sent: Vec<Outgoing> = (0..9).map(|id| request(id, body(9))).collect();
    raw.say(&request_frames(&sent)).await;
    let begun = Instant::now();
    for _ in 0..9 {
        let (_, replier) = holds.recv().await.unwrap();
        replier.message(&body(100_000));
        // Lets the server write what it can.
        yield_now().await;
    }
    let cut = served.ended().await.unwrap_err();
    assert!(matches!(cut, Cut::Unread { bytes_max: 500_000, .. }), "{cut}");
    assert!(Instant::now() - begun < options.write_timeout);
}

#[tokio::test]
async fn a_slow_reader_gets_all() {
    let service = Service::new(|request, reply| reply.message(&body(request.body().len() * 100)));
    let (raw, _served) = Raw::welcomed(&service, 1_000, &ServerOptions::default()).await;
    let (mut from, mut to) = tokio::io::split(raw.stream);
    let sent: Vec<Outgoing> = (0..50).map(|id| request(id, body(700))).collect();
    let sent = request_frames(&sent);
    let sends = async { to.write_all(&sent).await.unwrap() };
    let reads = async {
        let (mut decoder, mut answered) = (Decoder::default(), 0);
        let mut part = [0; 333];
        while answered < 50 {
            let bytes = from.read(&mut part).await.unwrap();
            assert_ne!(bytes, 0, "closed after {answered} answers");
            let mut read = Vec::new();
            decoder.take(&part[..bytes], &mut read).unwrap();
            for message in read {
                if let Message::Reply { answer, .. } = message {
                    assert!(answer == Answer::Message(body(70_000)));
                    answered += 1;
                }
            }
            yield_now().await;
        }
    };
    within(async { tokio::join!(sends, reads) }).await;
}

/// Everything that is awaited can be served on a runtime of several threads.
#[tokio::test]
async fn both_ends_can_move_between_threads() {
    fn sendable<T: Send>(value: T) -> T {
        value
    }
    let service: Arc<Service> = Service::echo();
    let (near, far) = tokio::io::duplex(64);
    drop(near);
    let options = ServerOptions::default();
    sendable(seen_cluster::link::serve(far, &*service, &options, std::future::pending::<()>()))
        .await
        .unwrap();
}
