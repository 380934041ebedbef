//! Users' entries over a connection of their own.

use std::time::Duration;

use seen_cluster::link::frame::FrameKind;
use seen_cluster::link::transfer::{TRANSFER_BYTES_MAX, TransferClient, TransferFrame};
use seen_cluster::link::{ClientOptions, Cut, ServerOptions};
use seen_proto::v1::{LinkHello, LinkLane};
use tokio::sync::mpsc;

use crate::pair::{InMemory, Served, Service, always, client_options, hello, identity, within};
use crate::raw::{Raw, frame, hello_frame, request_frames};

fn transfer_hello() -> LinkHello {
    LinkHello { lane: LinkLane::Transfer as i32, ..hello() }
}

async fn connected(bytes: usize) -> (TransferClient, Served) {
    let (connector, mut accepts) = InMemory::new(bytes);
    let options = ClientOptions { hello: always(transfer_hello()), ..client_options() };
    let (connects, served) =
        tokio::join!(TransferClient::connect_over(&connector, options), async {
            Served::new(accepts.recv().await.unwrap(), &Service::echo(), &ServerOptions::default())
        });
    (connects.unwrap(), served)
}

#[tokio::test]
async fn entries_come_in_order_and_slow_readers_slow_the_sender() {
    let (mut client, served) = connected(4_096).await;
    assert_eq!(client.identity, identity());
    for count in [100_u32, 0, 3] {
        client.ask(&count.to_le_bytes()).await.unwrap();
        for number in 0..count {
            let TransferFrame::Entry(entry) = within(client.next()).await.unwrap() else {
                panic!("only {number} entries");
            };
            assert_eq!((&entry[..4], entry.len()), (&number.to_le_bytes()[..], 60_004));
        }
        let end = within(client.next()).await.unwrap();
        assert_eq!(end, TransferFrame::End("all".into()));
    }
    drop(client);
    within(served.ended()).await.unwrap();
}

#[tokio::test]
async fn what_is_too_long_for_a_frame_is_refused_by_its_sender() {
    let (mut client, _served) = connected(4_096).await;
    let cut = client.ask(&[0; TRANSFER_BYTES_MAX + 1]).await.unwrap_err();
    assert!(cut.to_string().contains("65536 bytes; at most 65535"), "{cut}");
}

#[tokio::test(start_paused = true)]
async fn a_receiver_that_does_not_read_is_cut_off() {
    let (mut client, served) = connected(4_096).await;
    client.ask(&9_u32.to_le_bytes()).await.unwrap();
    let cut = served.ended().await.unwrap_err();
    assert!(matches!(cut, Cut::Late { what: "writing", .. }), "{cut}");
}

#[tokio::test(start_paused = true)]
async fn a_sender_that_falls_silent_is_given_up() {
    let (connector, mut accepts): (_, mpsc::UnboundedReceiver<_>) = InMemory::new(4_096);
    let silence_timeout = Duration::from_secs(2);
    let hello = always(transfer_hello());
    let options = ClientOptions { hello, silence_timeout, ..client_options() };
    let (client, served) = tokio::join!(TransferClient::connect_over(&connector, options), async {
        Served::new(accepts.recv().await.unwrap(), &Service::echo(), &ServerOptions::default())
    });
    let mut client = client.unwrap();
    // It was asked for nothing, and says nothing.
    let cut = client.next().await.unwrap_err();
    assert!(matches!(cut, Cut::Late { what: "the next entry", .. }), "{cut}");
    served.stop();
    served.ended().await.unwrap();
    assert_eq!(client.next().await.unwrap_err().label(), "closed");
}

#[tokio::test]
async fn a_donor_that_goes_in_the_middle_is_noticed() {
    let (mut client, served) = connected(4_096).await;
    client.ask(&100_u32.to_le_bytes()).await.unwrap();
    for _ in 0..10 {
        within(client.next()).await.unwrap();
    }
    served.stop();
    within(served.ended()).await.unwrap();
    let mut last = Ok(());
    while last.is_ok() {
        last = within(client.next()).await.map(drop);
    }
    assert_eq!(last.unwrap_err().to_string(), "the other end closed the connection within a frame");
}

#[tokio::test]
async fn nothing_else_travels_here() {
    let (mut raw, served) = Raw::to_server(&Service::echo(), 65_536, &ServerOptions::default());
    raw.say(&hello_frame(&transfer_hello())).await;
    raw.next().await;
    raw.say(&request_frames(&[crate::pair::request(1, "x")])).await;
    let cut = within(served.ended()).await.unwrap_err().to_string();
    assert!(cut.contains("type Request came instead of an ask"), "{cut}");
    let (mut raw, served) =
        Raw::welcomed(&Service::echo(), 65_536, &ServerOptions::default()).await;
    raw.say(&frame(FrameKind::TransferAsk, &[1])).await;
    assert_eq!(within(served.ended()).await.unwrap_err().label(), "broken");
}
