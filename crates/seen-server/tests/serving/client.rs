//! An HTTP/2 client that shows what a gRPC library hides: GOAWAY, resets, and when a connection ends.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, SendStream};
use http::Request;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

/// One connection.
pub struct Client {
    requests: SendRequest<Bytes>,
    connection: JoinHandle<Result<(), h2::Error>>,
}

impl Client {
    pub async fn connect(to: SocketAddr) -> Result<Self, h2::Error> {
        let refused = |_| h2::Error::from(Reason::REFUSED_STREAM);
        let stream = TcpStream::connect(to).await.map_err(refused)?;
        let (requests, connection) = h2::client::handshake(stream).await?;
        Ok(Self { requests, connection: tokio::spawn(connection) })
    }

    /// Opens a request; its reply can be awaited, and its stream be reset.
    pub async fn open(
        &mut self,
        path: &str,
    ) -> Result<(ResponseFuture, SendStream<Bytes>), h2::Error> {
        let request = Request::post(format!("http://test{path}")).body(()).expect("a request");
        let mut requests = self.requests.clone().ready().await?;
        requests.send_request(request, false)
    }

    /// Asks and reads the whole reply.
    pub async fn ask(&mut self, path: &str) -> Result<String, h2::Error> {
        let (reply, mut stream) = self.open(path).await?;
        stream.send_data(Bytes::new(), true)?;
        read(reply).await
    }

    /// Asks until the server has said GOAWAY.
    pub async fn until_goaway(&mut self) {
        while self.ask("/thread").await.is_ok() {}
    }

    /// Waits until the connection has ended, and tells how.
    pub async fn ended(self) -> Result<(), h2::Error> {
        drop(self.requests);
        self.connection.await.expect("no panic")
    }
}

/// Reads a whole reply.
pub async fn read(reply: ResponseFuture) -> Result<String, h2::Error> {
    let mut body = reply.await?.into_body();
    let mut text = Vec::new();
    while let Some(chunk) = body.data().await {
        text.extend_from_slice(&chunk?);
    }
    Ok(String::from_utf8(text).expect("UTF-8"))
}
