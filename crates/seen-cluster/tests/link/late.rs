//! Requests that are on their way for long, while the other end runs and reads (coherence row 38).

use std::time::Duration;

use seen_cluster::link::{Answer, Link, Outgoing};
use seen_proto::status::{ApiError, ErrorKind};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, copy, duplex, split};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::pair::{Served, Service, client, client_options, request};

const TIMEOUT: Duration = Duration::from_millis(80);

/// The server's end of a way from `client` on which nothing gets there while `held` is true; it comes late, as by TCP. The way
/// back is open.
fn held_up(client: DuplexStream, mut held: watch::Receiver<bool>) -> DuplexStream {
    let (server, middle) = duplex(65_536);
    let (mut from_client, mut to_client) = split(client);
    let (mut from_server, mut to_server) = split(middle);
    tokio::spawn(async move {
        let mut bytes = [0; 4_096];
        while let Ok(count @ 1..) = from_client.read(&mut bytes).await {
            if held.wait_for(|held| !held).await.is_err()
                || to_server.write_all(&bytes[..count]).await.is_err()
            {
                return;
            }
        }
    });
    tokio::spawn(async move { copy(&mut from_server, &mut to_client).await });
    server
}

/// Answers with whether the sender still waits for certain.
fn asks_whether_it_is_late() -> std::sync::Arc<Service> {
    Service::new(|request, reply| match request.waits_until <= request.now {
        true => reply.error(ApiError::new(ErrorKind::Unavailable, "late")),
        false => reply.message(&request.us_until(request.waits_until).to_le_bytes()),
    })
}

fn timed(id: u64) -> Outgoing {
    Outgoing { timeout_us: TIMEOUT.as_micros() as u32, ..request(id, "x") }
}

#[tokio::test(start_paused = true)]
async fn what_was_on_its_way_for_too_long_is_known_to_be_late() {
    let (hold, held) = watch::channel(false);
    let (client, mut ear, mut accepts) = client(65_536, client_options());
    let server = held_up(accepts.recv().await.expect("a connection"), held);
    let _served = Served::new(server, &asks_whether_it_is_late(), &Default::default());
    ear.up().await;
    // By its time, not by that of an idle link: a link that is quiet for an hour, and one that never is.
    for (number, quiet) in [0, 1, 500, 3_600_000].into_iter().enumerate() {
        sleep(Duration::from_millis(quiet)).await;
        for (at, delay, is_late) in [(0, 0, false), (1, 40, false), (2, 90, true), (3, 5_000, true)]
        {
            let id = number as u64 * 10 + at;
            hold.send_replace(true);
            client.submit(&timed(id)).expect("sent");
            sleep(Duration::from_millis(delay)).await;
            hold.send_replace(false);
            let (answered, answer) = ear.answer().await;
            assert_eq!(answered.0, id);
            match answer {
                Answer::Error(_) => assert!(is_late, "{id} after {delay} ms"),
                Answer::Message(left) => {
                    let left_us = u64::from_le_bytes(left[..].try_into().expect("8 bytes"));
                    assert!(!is_late, "{id} after {delay} ms");
                    let left_us_max = TIMEOUT.as_micros() as u64 - delay * 1_000;
                    // It is reckoned from signs of life that come every 20 ms.
                    let about = left_us <= left_us_max && left_us + 2_000 >= left_us_max;
                    assert!(about, "{id} after {delay} ms: {left_us} µs left");
                }
            }
        }
    }
}
