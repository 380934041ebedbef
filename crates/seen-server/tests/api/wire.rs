//! Calls whose headers and bytes no gRPC library would send.

use std::net::SocketAddr;

use bytes::{BufMut, Bytes, BytesMut};
use h2::client::SendRequest;
use http::Request;
use tokio::net::TcpStream;
use tonic::{Code, Status};

/// A connection.
pub struct Wire(SendRequest<Bytes>);

impl Wire {
    pub async fn connect(to: SocketAddr) -> Self {
        let stream = TcpStream::connect(to).await.expect("it listens");
        let (requests, connection) = h2::client::handshake(stream).await.expect("HTTP/2");
        tokio::spawn(connection);
        Self(requests)
    }

    /// Calls `seen.v1.SeenService/<method>` with one message; the reply's messages, or the status.
    pub async fn call(
        &mut self,
        method: &str,
        headers: &[(&str, &str)],
        message: &[u8],
    ) -> Result<Bytes, Status> {
        let mut request = Request::post(format!("http://test/seen.v1.SeenService/{method}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut body = BytesMut::new();
        body.put_u8(0);
        body.put_u32(u32::try_from(message.len()).expect("short"));
        body.put_slice(message);
        let request = request.body(()).expect("a request");
        let mut requests = self.0.clone().ready().await.expect("open");
        let (reply, mut stream) = requests.send_request(request, false).expect("sent");
        stream.send_data(body.freeze(), true).expect("sent");
        let reply = reply.await.expect("answered");
        // A refusal has no body: its trailers are its headers.
        if let Some(status) = Status::from_header_map(reply.headers()) {
            return Err(status);
        }
        let mut body = reply.into_body();
        let mut read = BytesMut::new();
        while let Some(chunk) = body.data().await {
            let chunk = chunk.expect("whole");
            body.flow_control().release_capacity(chunk.len()).expect("no more than was sent");
            read.extend_from_slice(&chunk);
        }
        let trailers = body.trailers().await.expect("whole").expect("there are trailers");
        let status = Status::from_header_map(&trailers).expect("a status");
        if status.code() == Code::Ok { Ok(read.freeze()) } else { Err(status) }
    }
}

/// Fields by hand, so that they can come twice, in any order, and of any type.
#[derive(Clone, Debug, Default)]
pub struct Fields(pub Vec<u8>);

impl Fields {
    pub fn fixed64(mut self, tag: u8, value: u64) -> Self {
        self.0.push(tag << 3 | 1);
        self.0.extend(value.to_le_bytes());
        self
    }

    pub fn varint(mut self, tag: u8, value: u64) -> Self {
        self.0.push(tag << 3);
        self.length(value);
        self
    }

    pub fn bytes(mut self, tag: u8, value: &[u8]) -> Self {
        self.0.push(tag << 3 | 2);
        self.length(value.len() as u64);
        self.0.extend_from_slice(value);
        self
    }

    fn length(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}
