//! Goodbye: nothing new is sent, what runs is answered, then it ends.

use seen_cluster::link::decoder::Message;
use seen_cluster::link::{Answer, Cut, Link, LinkChange, NotSent, RequestId, ServerOptions};
use tokio::time::Instant;

use crate::pair::{Heard, Served, Service, body, client, client_options, pair, request, within};
use crate::raw::{Raw, request_frames};

#[tokio::test]
async fn what_runs_is_answered_and_nothing_new_is_sent() {
    let (service, mut holds) = Service::holding();
    let (client, mut ear, served) = pair(&service).await;
    client.submit(&request(1, body(9))).unwrap();
    client.submit(&request(2, body(9))).unwrap();
    let (_, first) = within(holds.recv()).await.unwrap();
    let (_, second) = within(holds.recv()).await.unwrap();
    service.change(|state| state.draining = true);
    served.stop();
    assert_eq!(within(ear.change()).await, LinkChange::Draining);
    assert_eq!(client.submit(&request(3, body(9))), Err(NotSent::Draining));
    second.message(b"two");
    assert_eq!(within(ear.answer()).await, (RequestId(2), Answer::Message("two".into())));
    first.message(b"one");
    assert_eq!(within(ear.answer()).await, (RequestId(1), Answer::Message("one".into())));
    let why = within(ear.down()).await;
    assert_eq!(why, "the other end is ending, and has answered all it had");
    within(served.ended()).await.unwrap();
}

#[tokio::test]
async fn idle_it_ends_at_once_and_is_connected_again() {
    let (client, mut ear, mut accepts) = client(65_536, client_options());
    for _ in 0..2 {
        let stream = within(accepts.recv()).await.unwrap();
        let served = Served::new(stream, &Service::echo(), &ServerOptions::default());
        within(ear.up()).await;
        client.submit(&request(1, body(9))).unwrap();
        within(ear.answer()).await;
        served.stop();
        assert_eq!(within(ear.change()).await, LinkChange::Draining);
        within(ear.down()).await;
        within(served.ended()).await.unwrap();
    }
}

/// Requests that were on their way when goodbye was said are no one's fault.
#[tokio::test]
async fn what_crosses_the_goodbye_is_answered() {
    let (mut raw, served) =
        Raw::welcomed(&Service::echo(), 65_536, &ServerOptions::default()).await;
    served.stop();
    assert_eq!(within(raw.next_but_state()).await, Some(Message::Goodbye));
    raw.say(&request_frames(&[request(4, "crossed")])).await;
    let answer = Answer::Message("crossed".into());
    let reply = within(raw.next_but_state()).await;
    assert_eq!(reply, Some(Message::Reply { id: RequestId(4), answer }));
    drop(raw);
    within(served.ended()).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_runs_for_too_long_is_cut_off() {
    let (service, mut holds) = Service::holding();
    let (client, mut ear, served) = pair(&service).await;
    client.submit(&request(1, body(9))).unwrap();
    let (_, replier) = holds.recv().await.unwrap();
    let begun = Instant::now();
    served.stop();
    let cut = served.ended().await.unwrap_err();
    assert!(matches!(cut, Cut::Late { what: "what was under way at the goodbye", .. }), "{cut}");
    assert_eq!(Instant::now() - begun, ServerOptions::default().drain_timeout);
    assert!(replier.is_abandoned());
    assert_eq!(ear.change().await, LinkChange::Draining);
    assert!(ear.down().await.contains("closed"));
    let heard = std::iter::from_fn(|| ear.now());
    assert_eq!(heard.filter(|heard| matches!(heard, Heard::Answered(..))).count(), 0);
}

#[tokio::test(start_paused = true)]
async fn before_a_hello_it_just_ends() {
    let (_raw, served) = Raw::to_server(&Service::echo(), 64, &ServerOptions::default());
    served.stop();
    served.ended().await.unwrap();
}
