//! A client that says what no gRPC library would, and tells everything that it is told.

use std::net::SocketAddr;

use bytes::{Bytes, BytesMut};
use h2::client::{Builder, ResponseFuture, SendRequest};
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Request};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// One connection.
pub struct Wire {
    requests: SendRequest<Bytes>,
    connection: JoinHandle<Result<(), h2::Error>>,
}

/// What is asked.
#[derive(Clone, Debug)]
pub struct Ask {
    pub method: &'static str,
    pub path: &'static str,
    pub headers: HeaderMap,
    pub pieces: Vec<Bytes>,
    /// Sent after the pieces; without them the last piece ends the request.
    pub trailers: Option<HeaderMap>,
    /// An empty frame ends the request, and not the last piece.
    pub ends_apart: bool,
}

/// What was answered.
#[derive(Debug, PartialEq, Eq)]
pub struct Told {
    pub status: u16,
    pub headers: Vec<(String, Vec<u8>)>,
    pub body: Bytes,
    pub trailers: Vec<(String, Vec<u8>)>,
}

/// A request as gRPC asks for it.
pub fn ask(path: &'static str, pieces: impl IntoIterator<Item = Bytes>) -> Ask {
    let mut headers = HeaderMap::new();
    headers.insert("content-type", HeaderValue::from_static("application/grpc"));
    headers.insert("te", HeaderValue::from_static("trailers"));
    let pieces = pieces.into_iter().collect();
    Ask { method: "POST", path, headers, pieces, trailers: None, ends_apart: false }
}

/// A message with its prefix.
pub fn framed(flag: u8, message: &[u8]) -> Bytes {
    let mut bytes = vec![flag];
    bytes.extend(u32::try_from(message.len()).expect("short").to_be_bytes());
    bytes.extend(message);
    Bytes::from(bytes)
}

impl Ask {
    pub fn with(mut self, name: &'static str, value: &[u8]) -> Self {
        self.headers.insert(name, HeaderValue::from_bytes(value).expect("a value"));
        self
    }

    pub fn without(mut self, name: &str) -> Self {
        self.headers.remove(name);
        self
    }
}

impl Told {
    /// The code that the answer ends with.
    pub fn grpc_status(&self) -> Option<i32> {
        let all = self.headers.iter().chain(&self.trailers);
        let status =
            all.filter(|(name, _)| name == "grpc-status").map(|(_, value)| value).next()?;
        str::from_utf8(status).ok()?.parse().ok()
    }
}

impl Wire {
    /// Connects; each stream's window is of this size.
    pub async fn connect(to: SocketAddr, window_bytes: u32) -> Self {
        let stream = TcpStream::connect(to).await.expect("it listens");
        Self::over(stream, window_bytes).await
    }

    /// The same over what is connected already.
    pub async fn over<I>(stream: I, window_bytes: u32) -> Self
    where
        I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let mut builder = Builder::new();
        // That of the connection cannot be smaller than HTTP/2's first one.
        builder
            .initial_window_size(window_bytes)
            .initial_connection_window_size((16 * window_bytes).max(65_535));
        let (requests, connection) = builder.handshake(stream).await.expect("HTTP/2");
        Self { requests, connection: tokio::spawn(connection) }
    }

    /// Begins a request; its body is the caller's.
    pub async fn begin(
        &mut self,
        ask: &Ask,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
        let mut request =
            Request::builder().method(ask.method).uri(format!("http://test{}", ask.path));
        *request.headers_mut().expect("a request") = ask.headers.clone();
        let request = request.body(()).expect("a request");
        let mut requests = self.requests.clone().ready().await?;
        requests.send_request(request, false)
    }

    /// Asks, and leaves the answer to come.
    pub async fn send(
        &mut self,
        ask: &Ask,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
        let (reply, mut stream) = self.begin(ask).await?;
        let apart = ask.ends_apart || ask.pieces.is_empty();
        for (at, piece) in ask.pieces.iter().enumerate() {
            let last = at + 1 == ask.pieces.len() && !apart && ask.trailers.is_none();
            // An error is that the server has answered already.
            let _ = stream.send_data(piece.clone(), last);
        }
        match &ask.trailers {
            Some(trailers) => drop(stream.send_trailers(trailers.clone())),
            None if apart => drop(stream.send_data(Bytes::new(), true)),
            None => {}
        }
        Ok((reply, stream))
    }

    /// Asks and reads all that is answered.
    pub async fn told(&mut self, ask: &Ask) -> Result<Told, Option<Reason>> {
        let (reply, _stream) = self.send(ask).await.map_err(|error| error.reason())?;
        read(reply).await
    }

    /// Waits until the connection has ended, and tells how.
    pub async fn ended(self) -> Result<(), h2::Error> {
        drop(self.requests);
        self.connection.await.expect("no panic")
    }

    /// Cuts the connection off.
    pub fn cut(self) {
        self.connection.abort();
    }
}

/// Reads all that is answered.
pub async fn read(reply: ResponseFuture) -> Result<Told, Option<Reason>> {
    let (head, mut body) = reply.await.map_err(|error| error.reason())?.into_parts();
    let bytes = read_body(&mut body).await?;
    let trailers = body.trailers().await.map_err(|error| error.reason())?;
    Ok(Told {
        status: head.status.as_u16(),
        headers: listed(&head.headers),
        body: bytes,
        trailers: trailers.as_ref().map(listed).unwrap_or_default(),
    })
}

async fn read_body(body: &mut RecvStream) -> Result<Bytes, Option<Reason>> {
    let mut bytes = BytesMut::new();
    while let Some(piece) = body.data().await {
        let piece = piece.map_err(|error| error.reason())?;
        body.flow_control().release_capacity(piece.len()).expect("no more than came");
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes.freeze())
}

/// All headers but the time of day.
fn listed(headers: &HeaderMap) -> Vec<(String, Vec<u8>)> {
    let kept = headers.iter().filter(|(name, _)| *name != "date");
    let mut listed: Vec<_> =
        kept.map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect();
    listed.sort();
    listed
}
