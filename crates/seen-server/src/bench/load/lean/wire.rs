//! One HTTP/2 connection as a client that knows all its requests beforehand: frames are put together where they are
//! written from, and looked at where they were read.

use std::io;
use std::time::Instant;

use bytes::{Buf, BytesMut};

use super::hpack::Headers;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEAD_BYTES: usize = 9;
/// Longest frame that every server takes.
const FRAME_BYTES_MAX: usize = 16_384;
/// Windows for answers: so large that nothing waits for them.
const WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 1 << 30;
/// What a server grants unless it says otherwise.
const WINDOW_BYTES_DEFAULT: i64 = 65_535;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
/// Of DATA and HEADERS; of SETTINGS and PING the same bit means that they were heard.
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// A call that ended.
pub(super) struct Ended {
    /// When it was due.
    pub due: Instant,
    /// Bytes of its answer, its gRPC prefix included, or why there is none.
    pub answer: Result<usize, String>,
}

/// A request under way.
#[derive(Clone, Copy, Debug)]
struct Stream {
    id: u32,
    due: Instant,
    bytes: usize,
}

/// One connection.
pub(super) struct Wire {
    /// What is to be written.
    pub out: Vec<u8>,
    /// What was read and not looked at.
    pub input: BytesMut,
    /// By the number of the stream; more places than requests may be under way.
    streams: Vec<Option<Stream>>,
    in_flight: usize,
    next: u32,
    /// The headers of each request but the first, which says the texts.
    block: Vec<u8>,
    first: Option<Vec<u8>>,
    headers: Headers,
    /// Bytes that may be sent on the connection, and on each new stream.
    window: i64,
    stream_window: i64,
    /// Bytes of answers since the window was opened again.
    taken: u32,
    /// The server asked to close.
    closing: bool,
}

impl Wire {
    /// A connection on which at most so many requests are under way, all with these headers.
    pub fn new(in_flight_max: usize, texts: &[(&str, &str)], https: bool) -> Self {
        let mut out = PREFACE.to_vec();
        // No pushes, and the window of each answer.
        frame(&mut out, SETTINGS, 0, 0, 12);
        out.extend([0, 2, 0, 0, 0, 0, 0, 4]);
        out.extend(WINDOW_BYTES.to_be_bytes());
        open_window(&mut out, CONNECTION_WINDOW_BYTES);
        let (first, block) = blocks(texts, https);
        Self {
            out,
            input: BytesMut::new(),
            streams: vec![None; (in_flight_max * 4).next_power_of_two()],
            in_flight: 0,
            next: 1,
            block,
            first: Some(first),
            headers: Headers::default(),
            window: WINDOW_BYTES_DEFAULT,
            stream_window: WINDOW_BYTES_DEFAULT,
            taken: 0,
            closing: false,
        }
    }

    /// Requests under way.
    pub const fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// True if a request of so many bytes may be sent now.
    pub const fn takes(&self, bytes: usize) -> bool {
        !self.closing && self.window >= bytes as i64
    }

    /// True once the server wants the connection closed.
    pub const fn closing(&self) -> bool {
        self.closing
    }

    /// Sends a request: one message, which `message` appends with its gRPC prefix.
    pub fn send(&mut self, due: Instant, message: impl FnOnce(&mut Vec<u8>)) {
        let mask = self.streams.len() - 1;
        let place = |id: u32| (id / 2) as usize & mask;
        // One that takes long keeps its place.
        while self.streams.get(place(self.next)).is_some_and(Option::is_some) {
            self.next += 2;
        }
        let id = self.next;
        self.next += 2;
        if let Some(stream) = self.streams.get_mut(place(id)) {
            *stream = Some(Stream { id, due, bytes: 0 });
        }
        self.in_flight += 1;
        let first = self.first.take();
        let block = first.as_ref().unwrap_or(&self.block);
        frame(&mut self.out, HEADERS, END_HEADERS, id, block.len());
        self.out.extend_from_slice(block);
        let start = self.out.len();
        frame(&mut self.out, DATA, END_STREAM, id, 0);
        message(&mut self.out);
        let bytes = self.out.len() - start - HEAD_BYTES;
        if bytes <= FRAME_BYTES_MAX {
            put_length(&mut self.out, start, bytes);
        } else {
            self.cut(start, id);
        }
        self.window -= bytes as i64;
        if bytes as i64 > self.stream_window {
            // The server will say so: a flow-control error.
            tracing::warn!(bytes, window = self.stream_window, "a request beyond the window");
        }
    }

    /// Makes several frames of the one that begins at `start`.
    fn cut(&mut self, start: usize, id: u32) {
        let message = self.out.split_off(start + HEAD_BYTES);
        self.out.truncate(start);
        let mut pieces = message.chunks(FRAME_BYTES_MAX).peekable();
        while let Some(piece) = pieces.next() {
            let flags = if pieces.peek().is_none() { END_STREAM } else { 0 };
            frame(&mut self.out, DATA, flags, id, piece.len());
            self.out.extend_from_slice(piece);
        }
    }

    /// Looks at all frames that were read. `ended` is told of calls.
    ///
    /// # Errors
    /// The server does not speak HTTP/2 as expected.
    pub fn take(&mut self, mut ended: impl FnMut(Ended)) -> io::Result<()> {
        let mut input = std::mem::take(&mut self.input);
        while let Some(head) = input.first_chunk::<HEAD_BYTES>() {
            let [a, b, c, kind, flags, stream @ ..] = *head;
            let bytes = u32::from_be_bytes([0, a, b, c]) as usize;
            let id = u32::from_be_bytes(stream) & 0x7fff_ffff;
            let Some(payload) = input.get(HEAD_BYTES..HEAD_BYTES + bytes) else { break };
            if let Some(one) = self.frame(kind, flags, id, payload)? {
                ended(one);
            }
            input.advance(HEAD_BYTES + bytes);
        }
        self.input = input;
        if self.taken > CONNECTION_WINDOW_BYTES / 2 {
            let taken = std::mem::take(&mut self.taken);
            open_window(&mut self.out, taken);
        }
        Ok(())
    }

    fn frame(&mut self, kind: u8, flags: u8, id: u32, payload: &[u8]) -> io::Result<Option<Ended>> {
        match kind {
            DATA => {
                self.taken += payload.len() as u32;
                if let Some(stream) = self.stream(id) {
                    stream.bytes += payload.len();
                }
                if flags & END_STREAM != 0 {
                    return Ok(self.end(id, |_| Err("the answer has no trailers".to_owned())));
                }
            }
            HEADERS => {
                if flags & !(END_STREAM | END_HEADERS) != 0 || flags & END_HEADERS == 0 {
                    return Err(unexpected("headers in pieces, or with priorities"));
                }
                let status = self.headers.status(payload)?;
                if flags & END_STREAM != 0 {
                    return Ok(self.end(id, |bytes| match status {
                        Some(0) => Ok(bytes),
                        Some(code) => Err(format!("grpc-status {code}")),
                        None => Err("the answer has no grpc-status".to_owned()),
                    }));
                }
            }
            RST_STREAM => return Ok(self.end(id, |_| Err("the stream was reset".to_owned()))),
            SETTINGS if flags & ACK == 0 => {
                for setting in payload.chunks_exact(6) {
                    if let [0, 4, value @ ..] = setting {
                        let value = value.iter().fold(0, |all, byte| all << 8 | i64::from(*byte));
                        self.stream_window = value;
                    }
                }
                frame(&mut self.out, SETTINGS, ACK, 0, 0);
            }
            PING if flags & ACK == 0 => {
                frame(&mut self.out, PING, ACK, 0, payload.len());
                self.out.extend_from_slice(payload);
            }
            GOAWAY => self.closing = true,
            WINDOW_UPDATE if id == 0 => {
                let more = payload.iter().fold(0, |all, byte| all << 8 | i64::from(*byte));
                self.window += more;
            }
            CONTINUATION => return Err(unexpected("headers in pieces")),
            _ => {}
        }
        Ok(None)
    }

    fn stream(&mut self, id: u32) -> Option<&mut Stream> {
        let place = (id / 2) as usize & (self.streams.len() - 1);
        self.streams.get_mut(place)?.as_mut().filter(|stream| stream.id == id)
    }

    fn end(
        &mut self,
        id: u32,
        answer: impl FnOnce(usize) -> Result<usize, String>,
    ) -> Option<Ended> {
        let Stream { due, bytes, .. } = *self.stream(id)?;
        let place = (id / 2) as usize & (self.streams.len() - 1);
        *self.streams.get_mut(place)? = None;
        self.in_flight -= 1;
        Some(Ended { due, answer: answer(bytes) })
    }
}

fn unexpected(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the server sends {what}"))
}

/// Appends a frame's head.
fn frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, bytes: usize) {
    let start = out.len();
    out.extend([0, 0, 0, kind, flags]);
    out.extend(stream.to_be_bytes());
    put_length(out, start, bytes);
}

fn put_length(out: &mut [u8], start: usize, bytes: usize) {
    let [_, length @ ..] = (bytes as u32).to_be_bytes();
    if let Some(place) = out.get_mut(start..start + length.len()) {
        place.copy_from_slice(&length);
    }
}

fn open_window(out: &mut Vec<u8>, bytes: u32) {
    frame(out, WINDOW_UPDATE, 0, 0, 4);
    out.extend(bytes.to_be_bytes());
}

/// The headers of the first request, which names the texts, and of all others, which refer to them.
fn blocks(texts: &[(&str, &str)], https: bool) -> (Vec<u8>, Vec<u8>) {
    // POST, and the scheme.
    let known = [0x83, if https { 0x87 } else { 0x86 }];
    let (mut first, mut others) = (known.to_vec(), known.to_vec());
    for (at, (name, value)) in texts.iter().enumerate() {
        first.push(0x40);
        for text in [name, value] {
            // Shorter than 127 bytes, all of them.
            first.push(text.len().min(126) as u8);
            first.extend(text.bytes().take(126));
        }
        // The newest is the first after the 61 of the static table.
        others.push(0x80 | (61 + texts.len() - at) as u8);
    }
    (first, others)
}
