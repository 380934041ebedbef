//! What only our front does: floods are cut off, silent connections are pinged and closed.

use std::time::Duration;

use h2::Reason;
use seen_server::serving::ServingOptions;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::cases::filter_ask;
use super::stage::{Stage, options};
use super::wire::{Wire, read};
use super::{HANG, WIDE};

/// Calls after which a flood must have been cut off.
const FLOOD_CALLS: usize = 50_000;

#[tokio::test]
async fn cancelling_hot_calls_by_the_thousand_is_cut_off() {
    let bounds = ServingOptions { cancelled_max: 1_000, resets_pending_max: 65_535, ..options() };
    let stage = Stage::hot(bounds).await;
    let mut honest = Wire::connect(stage.address, WIDE).await;
    let mut flood = Wire::connect(stage.address, WIDE).await;
    let (mut begun, hold) = (0, filter_ask("hold"));
    let flooding = async {
        while begun < FLOOD_CALLS {
            let mut streams = Vec::new();
            for _ in 0..100 {
                match flood.send(&hold).await {
                    Ok(call) => streams.push(call),
                    Err(_) => return,
                }
                begun += 1;
            }
            tokio::select! {
                () = stage.script.until(|log| log.held >= begun) => {}
                _ = flood.told(&hold) => {}
            }
            streams.iter_mut().for_each(|(_, stream)| stream.send_reset(Reason::CANCEL));
        }
    };
    timeout(HANG, flooding).await.expect("no hang");
    assert!((1_000..2_000).contains(&begun), "cut off after {begun}");
    let told = honest.told(&filter_ask("say")).await.expect("others are served");
    assert_eq!(told.grpc_status(), Some(0));
}

#[tokio::test]
async fn hot_calls_that_are_answered_make_up_for_cancelled_ones() {
    let stage = Stage::hot(ServingOptions { cancelled_max: 1_000, ..options() }).await;
    let mut wire = Wire::connect(stage.address, WIDE).await;
    for round in 1..=15 {
        let mut streams = Vec::new();
        for _ in 0..150 {
            streams.push(wire.send(&filter_ask("hold")).await.expect("open"));
        }
        stage.script.until(|log| log.held == round * 150).await;
        streams.iter_mut().for_each(|(_, stream)| stream.send_reset(Reason::CANCEL));
        stage.script.until(|log| log.abandoned == round * 150).await;
        for _ in 0..200 {
            wire.told(&filter_ask("say")).await.expect("still served");
        }
    }
}

#[tokio::test]
async fn a_call_that_panics_ends_alone() {
    let stage = Stage::hot(options()).await;
    let mut wire = Wire::connect(stage.address, WIDE).await;
    let hold = filter_ask("hold");
    let (held, _stream) = wire.send(&hold).await.expect("open");
    timeout(HANG, stage.script.until(|log| log.held == 1)).await.expect("held");
    let told = wire.told(&filter_ask("panic")).await.expect("answered");
    assert_eq!(told.grpc_status(), Some(13), "INTERNAL");
    stage.script.gate.add_permits(1);
    let told = timeout(HANG, read(held)).await.expect("no hang").expect("answered");
    assert_eq!(told.grpc_status(), Some(0), "others of the connection go on");
}

/// One frame: its type, its flags, its payload.
async fn frame(stream: &mut TcpStream) -> Option<(u8, u8, Vec<u8>)> {
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.ok()?;
    let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
    let mut payload = vec![0; length as usize];
    stream.read_exact(&mut payload).await.ok()?;
    Some((head[3], head[4], payload))
}

#[tokio::test]
async fn a_connection_is_pinged_and_closed_once_it_does_not_answer() {
    const PING: u8 = 6;
    const ACK: u8 = 1;
    let soon = Duration::from_millis(30);
    let patient = Duration::from_secs(5);
    let pinging =
        ServingOptions { keepalive_interval: soon, keepalive_timeout: patient, ..options() };
    let stage = Stage::hot(pinging).await;
    let mut silent = TcpStream::connect(stage.address).await.expect("it listens");
    let settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    silent.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.expect("open");
    silent.write_all(&settings).await.expect("open");
    let told = async {
        let mut pings = 0;
        while let Some((kind, flags, payload)) = frame(&mut silent).await {
            if kind != PING || flags != 0 {
                continue;
            }
            pings += 1;
            if pings <= 3 {
                silent.write_all(&[0, 0, 8, PING, ACK, 0, 0, 0, 0]).await.expect("open");
                silent.write_all(&payload).await.expect("open");
            }
        }
        pings
    };
    let pings = timeout(HANG, told).await.expect("it is closed");
    assert_eq!(pings, 4, "the fourth ping was not answered");
}
