//! Signs of life, and their absence. Time stands still but where everybody waits.

use std::time::Duration;

use seen_cluster::link::decoder::Message;
use seen_cluster::link::{ClientOptions, Cut, Link, LinkChange, ServerOptions};
use seen_proto::v1::{LinkHello, LinkLane};
use tokio::time::{Instant, advance, sleep};

use crate::pair::{Heard, Served, Service, body, client, client_options, hello, request};
use crate::raw::{Raw, frame, hello_frame, request_frames, state_frame, welcome, welcome_frame};
use seen_cluster::link::frame::FrameKind;

#[tokio::test(start_paused = true)]
async fn a_replica_that_has_nothing_to_say_says_how_it_fares() {
    let service = Service::echo();
    let (mut raw, _served) = Raw::welcomed(&service, 65_536, &ServerOptions::default()).await;
    let begun = Instant::now();
    for tick in 1..=5 {
        service.state.lock().feed_lag_us = u64::from(tick);
        match raw.next().await {
            Some(Message::State(state)) => assert_eq!(state.feed_lag_us, u64::from(tick)),
            other => panic!("{other:?}"),
        }
        assert_eq!(begun.elapsed(), tick * Duration::from_millis(20));
    }
    // What is written anyway is a sign of life, too.
    sleep(Duration::from_millis(15)).await;
    raw.say(&request_frames(&[request(1, body(9))])).await;
    assert!(matches!(raw.next().await, Some(Message::Reply { .. })));
    assert!(matches!(raw.next().await, Some(Message::Credit(_))));
    let replied = Instant::now();
    assert!(matches!(raw.next().await, Some(Message::State(_))));
    assert_eq!(replied.elapsed(), Duration::from_millis(20));
}

/// Nobody tells by it whether this end lives, but both ends must know that the connection does.
#[tokio::test(start_paused = true)]
async fn a_lane_for_pushes_is_quieter() {
    let service = Service::echo();
    let (mut raw, _served) = Raw::to_server(&service, 65_536, &ServerOptions::default());
    raw.say(&hello_frame(&LinkHello { lane: LinkLane::Push.into(), ..hello() })).await;
    assert!(matches!(raw.next().await, Some(Message::Welcome(_))));
    let begun = Instant::now();
    for tick in 1..=5 {
        assert!(matches!(raw.next().await, Some(Message::State(_))));
        assert_eq!(begun.elapsed(), tick * Duration::from_millis(200));
    }
    // A change is told at once all the same.
    service.change(|state| state.draining = true);
    assert!(matches!(raw.next().await, Some(Message::State(state)) if state.draining));
    assert_eq!(begun.elapsed(), Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_change_is_told_at_once() {
    let service = Service::echo();
    let (mut raw, _served) = Raw::welcomed(&service, 65_536, &ServerOptions::default()).await;
    let begun = Instant::now();
    service.change(|state| state.reason = "feed is late".into());
    match raw.next().await {
        Some(Message::State(state)) => assert_eq!(state.reason, "feed is late"),
        other => panic!("{other:?}"),
    }
    assert_eq!(begun.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn life_is_told_at_most_once_a_millisecond() {
    let (_client, mut ear, mut accepts) = client(65_536, client_options());
    let mut raw = Raw::new(accepts.recv().await.unwrap());
    raw.next().await;
    raw.say(&welcome_frame(&welcome())).await;
    ear.up().await;
    let mut life = 0;
    for _ in 0..100 {
        raw.say(&state_frame()).await;
        advance(Duration::from_micros(100)).await;
        while let Some(heard) = ear.now() {
            life += u32::from(heard == Heard::Changed(LinkChange::Life));
        }
    }
    assert!((5..=10).contains(&life), "{life} times in 10 ms");
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_falls_silent_is_given_up() {
    let options = ClientOptions { silence_timeout: Duration::from_secs(1), ..client_options() };
    let (client, mut ear, mut accepts) = client(65_536, options);
    let mut raw = Raw::new(accepts.recv().await.unwrap());
    raw.next().await;
    raw.say(&welcome_frame(&welcome())).await;
    ear.up().await;
    for _ in 0..3 {
        sleep(Duration::from_millis(900)).await;
        raw.say(&state_frame()).await;
    }
    client.submit(&request(1, body(9))).unwrap();
    let begun = Instant::now();
    assert_eq!(ear.down().await, "any sign of life took longer than 1s");
    assert_eq!(begun.elapsed(), Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_replica_that_does_not_answer_the_hello_is_given_up() {
    let (_client, mut ear, mut accepts) = client(65_536, client_options());
    let begun = Instant::now();
    let _far = accepts.recv().await.unwrap();
    assert_eq!(ear.down().await, "connecting and the hello took longer than 3s");
    assert_eq!(begun.elapsed(), Duration::from_secs(3));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_does_not_say_hello_is_given_up() {
    let options = ServerOptions::default();
    let (_raw, served) = Raw::to_server(&Service::echo(), 65_536, &options);
    let begun = Instant::now();
    let cut = served.ended().await.unwrap_err();
    assert!(matches!(cut, Cut::Late { what: "the hello", .. }), "{cut}");
    assert_eq!(begun.elapsed(), options.hello_timeout);
}

#[tokio::test(start_paused = true)]
async fn an_idle_client_is_kept() {
    let (mut raw, served) =
        Raw::welcomed(&Service::echo(), 65_536, &ServerOptions::default()).await;
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(60) {
        assert!(matches!(raw.next().await, Some(Message::State(_))));
    }
    raw.say(&request_frames(&[request(1, body(9))])).await;
    assert!(matches!(raw.next_but_state().await, Some(Message::Reply { .. })));
    drop(raw);
    served.ended().await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_a_client_hears_of_a_state_it_tells() {
    let service = Service::echo();
    let (_client, mut ear, mut accepts) = client(65_536, client_options());
    let _served = Served::new(accepts.recv().await.unwrap(), &service, &ServerOptions::default());
    ear.up().await;
    service.change(|state| state.ready = false);
    loop {
        if let Heard::Changed(LinkChange::State(state)) = ear.next().await {
            assert!(!state.ready);
            break;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_goodbye_by_hand_drains_the_client() {
    let (client, mut ear, mut accepts) = client(65_536, client_options());
    let mut raw = Raw::new(accepts.recv().await.unwrap());
    raw.next().await;
    raw.say(&welcome_frame(&welcome())).await;
    ear.up().await;
    let sent = request(1, body(9));
    client.submit(&sent).unwrap();
    raw.say(&frame(FrameKind::Goodbye, &[])).await;
    assert_eq!(ear.change().await, LinkChange::Draining);
    assert!(matches!(raw.next().await, Some(Message::Request { .. })));
    let cost = sent.frame_bytes() as u32;
    raw.say(&frame(FrameKind::Credit, &cost.to_le_bytes())).await;
    assert!(ear.down().await.contains("answered all"));
    assert_eq!(raw.next().await, None);
}
