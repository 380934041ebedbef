//! Frames that are written by hand: both fronts end the connection for the same reason where they are none, and nothing is written for
//! whoever has given up.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::HANG;
use super::cases::{FILTER, MARK, UNMARK, filter, mark};
use super::stage::{Stage, options};
use super::wire::framed;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW: u8 = 8;
const CONTINUATION: u8 = 9;
const END_HEADERS: u8 = 4;
const END_STREAM: u8 = 1;
/// The reason of a reset: nobody waits any more.
const CANCEL: [u8; 4] = [0, 0, 0, 8];

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(payload.len()).expect("short").to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// What is sent after a good beginning.
fn cases() -> Vec<(&'static str, Vec<u8>)> {
    let most = 0x7fff_ffff_u32.to_be_bytes();
    vec![
        ("data of the connection", frame(DATA, 0, 0, b"x")),
        ("data of nothing", frame(DATA, 0, 1, b"x")),
        ("a frame too large", frame(HEADERS, END_HEADERS, 1, &[0; 16_385])),
        ("headers that are none", frame(HEADERS, END_HEADERS, 1, &[0xff; 20])),
        ("headers of the server's stream", frame(HEADERS, END_HEADERS, 2, &[0x82])),
        ("a continuation of nothing", frame(CONTINUATION, END_HEADERS, 1, &[0x82])),
        ("a reset of nothing", frame(RESET, 0, 1, &[0, 0, 0, 8])),
        ("half a ping", frame(PING, 0, 0, &[0; 4])),
        ("a window of nothing", frame(WINDOW, 0, 0, &[0; 4])),
        ("a window past its end", frame(WINDOW, 0, 0, &most)),
        ("settings of a stream", frame(SETTINGS, 0, 1, &[])),
    ]
}

/// The reason that the connection was ended for.
async fn reason(stage: &Stage, said: &[u8]) -> Option<u32> {
    let mut stream = TcpStream::connect(stage.address).await.expect("it listens");
    stream.write_all(said).await.expect("open");
    let mut told = Vec::new();
    // An error is that not all that was sent was read.
    let _ = timeout(HANG, stream.read_to_end(&mut told)).await.expect("it is closed");
    let mut rest = &told[..];
    let mut reason = None;
    while let Some((head, after)) = rest.split_first_chunk::<9>() {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let (payload, after) = after.split_at(length.min(after.len()));
        if head[3] == GOAWAY {
            let code = payload.get(4..8).and_then(|code| code.try_into().ok());
            reason = code.map(u32::from_be_bytes);
        }
        rest = after;
    }
    reason
}

#[tokio::test]
async fn a_malformed_frame_ends_the_connection_for_the_same_reason() {
    let [tonic, ours] = Stage::both().await;
    for (name, bytes) in cases() {
        let said = [PREFACE, &frame(SETTINGS, 0, 0, &[]), &bytes].concat();
        let expected = reason(&tonic, &said).await;
        assert!(expected.is_some_and(|code| code != 0), "{name}: {expected:?}");
        assert_eq!(reason(&ours, &said).await, expected, "{name}");
    }
}

#[tokio::test]
async fn what_is_not_http2_is_closed() {
    for stage in Stage::both().await {
        reason(&stage, b"GET / HTTP/1.1\r\nhost: test\r\n\r\n").await;
        reason(&stage, &[0; 100]).await;
        assert_eq!(stage.script.log().asked.len(), 0);
    }
}

/// A whole request: each header as a literal that is not kept (RFC 7541, section 6.2.2).
fn request(stream: u32, path: &str, message: &[u8]) -> Vec<u8> {
    let headers = [
        (":method", "POST"),
        (":scheme", "http"),
        (":path", path),
        (":authority", "test"),
        ("content-type", "application/grpc"),
        ("te", "trailers"),
    ];
    let short =
        |text: &str| [&[u8::try_from(text.len()).expect("short")], text.as_bytes()].concat();
    let literal = |(name, value): (&str, &str)| [vec![0], short(name), short(value)].concat();
    let head = headers.map(literal).concat();
    let body = frame(DATA, END_STREAM, stream, &framed(0, message));
    [frame(HEADERS, END_HEADERS, stream, &head), body].concat()
}

/// Coherence row 38: a caller that has given up may have written elsewhere by now, and taken it back.
#[tokio::test]
async fn a_write_that_was_reset_before_its_turn_is_not_begun() {
    let stage = Stage::hot(options()).await;
    let said = [
        PREFACE,
        &frame(SETTINGS, 0, 0, &[]),
        &request(1, MARK, &mark("say")),
        &frame(RESET, 0, 1, &CANCEL),
        &request(3, UNMARK, &mark("say")),
        &frame(RESET, 0, 3, &CANCEL),
        &request(5, FILTER, &filter("say")),
    ];
    let mut stream = TcpStream::connect(stage.address).await.expect("it listens");
    // In one piece, as it lies in a socket whose process had something else to do.
    stream.write_all(&said.concat()).await.expect("open");
    stage.script.until(|log| log.asked.contains_key("filter")).await;
    // Calls beneath tonic's router are tasks, which have had their turns once a later one is answered.
    stream.write_all(&request(7, UNMARK, &mark("say"))).await.expect("open");
    stage.script.until(|log| log.asked.contains_key("unmark")).await;
    let asked = stage.script.log().asked;
    assert_eq!((asked.get("mark"), asked.get("unmark")), (None, Some(&1)), "{asked:?}");
}
