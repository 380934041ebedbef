//! The end that asks: answers, reconnection, refusals, credit.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use seen_cluster::link::message::REQUEST_BYTES_MAX;
use seen_cluster::link::{
    Answer, ClientOptions, Link, LinkChange, LinkClient, NotSent, Outgoing, RequestId,
    ServerOptions, serve_tcp,
};
use seen_proto::status::{ApiError, ErrorKind};
use seen_proto::v1::LinkHello;
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::pair::{
    CREDIT_BYTES, Ear, Heard, Served, Service, always, body, client, client_options, hello,
    identity, pair, request, within,
};

#[tokio::test]
async fn requests_sent_together_are_answered_in_order() {
    let (client, mut ear, _served) = pair(&Service::echo()).await;
    for id in 0..1_000_u64 {
        client.submit(&request(id, id.to_le_bytes().to_vec())).unwrap();
    }
    for id in 0..1_000_u64 {
        let (answered, answer) = within(ear.answer()).await;
        assert_eq!(answered, RequestId(id));
        assert_eq!(answer, Answer::Message(id.to_le_bytes().to_vec().into()));
    }
}

#[tokio::test]
async fn the_head_comes_as_it_was_sent() {
    type Seen = (u8, u32, bool, Option<(u64, u64)>, Option<[u8; 25]>, u64);
    let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
    let sees = seen.clone();
    let service = Service::new(move |request, reply| {
        let moved = request.moved.map(|moved| (moved.incarnation, moved.sequence));
        let hedge = request.flags == seen_cluster::link::Flags::HEDGE;
        let left = request.timeout_us();
        sees.lock().push((request.call, request.epoch, hedge, moved, request.trace, left));
        assert_eq!(request.body(), request.body_bytes());
        reply.message(b"");
    });
    let (client, mut ear, _served) = pair(&service).await;
    let moved = Some(seen_cluster::link::Moved { incarnation: 8, sequence: 9 });
    let flags = seen_cluster::link::Flags::HEDGE;
    let sent = Outgoing { call: 3, flags, moved, trace: Some([6; 25]), ..request(1, body(99)) };
    client.submit(&sent).unwrap();
    within(ear.answer()).await;
    let (call, epoch, hedge, moved, trace, left) = seen.lock()[0];
    assert_eq!((call, epoch, hedge, moved, trace), (3, 7, true, Some((8, 9)), Some([6; 25])));
    assert!((1..=60_000_000).contains(&left), "{left}");
}

#[tokio::test]
async fn errors_come_as_they_were_given() {
    let error = ApiError::invalid("items[3].kind", "300; at most 255")
        .retry_after(Duration::from_millis(7));
    let given = error.clone();
    let service = Service::new(move |request, reply| match request.id.0 {
        0 => reply.error(given.clone()),
        1 => reply.answer(Answer::Error(given.clone())),
        // Given up without an answer.
        _ => drop(reply),
    });
    let (client, mut ear, _served) = pair(&service).await;
    for id in 0..3 {
        client.submit(&request(id, body(9))).unwrap();
    }
    let answers = within(ear.answers(3)).await;
    assert_eq!(answers[&0], Answer::Error(error.clone()));
    assert_eq!(answers[&1], Answer::Error(error));
    assert!(matches!(&answers[&2], Answer::Error(error) if error.kind == ErrorKind::Internal));
}

#[tokio::test]
async fn big_messages_travel_in_pieces_both_ways() {
    let (client, mut ear, _served) = pair(&Service::echo()).await;
    let lengths = [0, 65_509, 65_510, 131_018, REQUEST_BYTES_MAX];
    for (id, bytes) in lengths.into_iter().enumerate() {
        client.submit(&request(id as u64, body(bytes))).unwrap();
    }
    let answers = within(ear.answers(lengths.len())).await;
    for (id, bytes) in lengths.into_iter().enumerate() {
        assert!(answers[&(id as u64)] == Answer::Message(body(bytes)), "{bytes} bytes");
    }
    let refused = client.submit(&request(9, body(REQUEST_BYTES_MAX + 1)));
    assert_eq!(refused, Err(NotSent::TooLarge));
}

#[tokio::test]
async fn an_answer_that_is_too_long_becomes_an_error() {
    let service = Service::new(|_, reply| reply.message(&body(4 * 1_024 * 1_024 + 1)));
    let (client, mut ear, _served) = pair(&service).await;
    client.submit(&request(1, body(1))).unwrap();
    let (_, answer) = within(ear.answer()).await;
    assert!(matches!(answer, Answer::Error(error) if error.kind == ErrorKind::TooLarge));
}

#[tokio::test]
async fn up_tells_who_is_there() {
    let (_client, mut ear, mut accepts) = client(65_536, client_options());
    let _served =
        Served::new(accepts.recv().await.unwrap(), &Service::echo(), &ServerOptions::default());
    match within(ear.next()).await {
        Heard::Changed(LinkChange::Up { identity: who, state, credit_bytes }) => {
            assert_eq!((who, credit_bytes), (identity(), CREDIT_BYTES));
            assert_eq!((state.ready, state.map_epoch), (true, 7));
        }
        heard => panic!("{heard:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn without_a_connection_nothing_is_taken_and_it_is_tried_again_ever_later() {
    let (client, mut ear, mut accepts) = client(65_536, client_options());
    assert_eq!(client.submit(&request(1, body(1))), Err(NotSent::Closed));
    let mut pauses = Vec::new();
    let mut last = None;
    for _ in 0..9 {
        drop(accepts.recv().await.unwrap());
        if let Some(last) = last.replace(Instant::now()) {
            pauses.push(Instant::now() - last);
        }
        let why = ear.down().await;
        assert!(why.contains("closed") || why.contains("pipe"), "{why}");
    }
    let mut longest = Duration::from_millis(50);
    for pause in pauses {
        assert!(pause >= longest / 2 && pause <= longest + Duration::from_millis(1), "{pause:?}");
        longest = (longest * 2).min(Duration::from_secs(2));
    }
    assert_eq!(longest, Duration::from_secs(2));
}

#[tokio::test]
async fn a_lost_connection_is_told_and_replaced() {
    let (service, mut holds) = Service::holding();
    let (client, mut ear, mut accepts) = client(65_536, client_options());
    for round in 0..3 {
        let stream = within(accepts.recv()).await.unwrap();
        let served = Served::new(stream, &service, &ServerOptions::default());
        within(ear.up()).await;
        client.submit(&request(round, body(9))).unwrap();
        let (id, replier) = within(holds.recv()).await.unwrap();
        assert_eq!((id.0, replier.is_abandoned()), (round, false));
        served.task.abort();
        within(ear.down()).await;
        assert_eq!(client.submit(&request(9, body(1))), Err(NotSent::Closed));
        // Nobody can be told any more, and nobody is: the next connection starts anew.
        assert!(replier.is_abandoned());
        replier.message(b"late");
    }
    assert_eq!(ear.now(), None);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_told_with_its_reason_and_tried_again() {
    let (service, slot) = (Service::echo(), Arc::new(Mutex::new(4)));
    let says = slot.clone();
    let source = Arc::new(move || LinkHello { slot: *says.lock(), ..hello() });
    let options = ClientOptions { hello: source, ..client_options() };
    let (client, mut ear, mut accepts) = client(65_536, options);
    let served = Served::new(accepts.recv().await.unwrap(), &service, &ServerOptions::default());
    match ear.change().await {
        LinkChange::Refused(refusal) => {
            assert_eq!(refusal.reason, "SLOT");
            assert_eq!(refusal.identity, Some(identity()));
        }
        change => panic!("{change:?}"),
    }
    let why = ear.down().await;
    assert!(why.contains("slot 3") && why.contains("slot 4"), "{why}");
    assert_eq!(served.ended().await.unwrap_err().label(), "refused");
    assert_eq!(client.submit(&request(1, body(1))), Err(NotSent::Closed));
    *slot.lock() = 3;
    let _served = Served::new(accepts.recv().await.unwrap(), &service, &ServerOptions::default());
    ear.up().await;
}

#[tokio::test(start_paused = true)]
async fn versions_that_do_not_meet_are_refused() {
    let future = LinkHello { version_min: 2, version_max: 4, ..hello() };
    let options = ClientOptions { hello: always(future), ..client_options() };
    let (_client, mut ear, mut accepts) = client(65_536, options);
    let _served =
        Served::new(accepts.recv().await.unwrap(), &Service::echo(), &ServerOptions::default());
    let change = ear.change().await;
    assert!(matches!(&change, LinkChange::Refused(refusal) if refusal.reason == "VERSION"));
    let next = LinkHello { version_max: 2, ..hello() };
    let options = ClientOptions { hello: always(next), ..client_options() };
    let (_client, mut ear, mut accepts) = crate::pair::client(65_536, options);
    let _served =
        Served::new(accepts.recv().await.unwrap(), &Service::echo(), &ServerOptions::default());
    ear.up().await;
}

#[tokio::test]
async fn dropped_it_closes() {
    let (client, _ear, served) = pair(&Service::echo()).await;
    drop(client);
    within(served.ended()).await.unwrap();
}

#[tokio::test]
async fn over_a_socket_it_connects_and_says_why_when_it_cannot() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (events, mut ear) = Ear::new();
    let client =
        LinkClient::start(ClientOptions::new(address.to_string(), always(hello())), events);
    let (stream, _) = listener.accept().await.unwrap();
    let service = Service::echo();
    let served = tokio::spawn(async move {
        let options = ServerOptions::default();
        serve_tcp(stream, None, &*service, &options, std::future::pending()).await
    });
    within(ear.up()).await;
    client.submit(&request(5, body(5_000))).unwrap();
    assert_eq!(within(ear.answer()).await, (RequestId(5), Answer::Message(body(5_000))));
    drop(listener);
    served.abort();
    within(ear.down()).await;
    let why = within(ear.down()).await;
    assert!(why.starts_with("connecting: "), "{why}");
}
