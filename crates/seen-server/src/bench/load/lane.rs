//! Calls over one connection, opened anew when the server asks to close it.

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;

use bytes::Bytes;
use h2::client::SendRequest;
use http::{HeaderMap, Request, Version};
use tokio::sync::Mutex;

use super::{Target, link};

/// Where a call goes, with its connection.
pub(super) struct Lane {
    address: SocketAddr,
    template: Request<()>,
    open: RefCell<Option<SendRequest<Bytes>>>,
    opening: Mutex<()>,
}

/// Attempts of one call, of which all but the last may meet a connection that is closing.
const ATTEMPTS_MAX: usize = 3;

/// How a call ended.
enum Ended {
    Answered(usize),
    /// The connection was closing; the call was not processed.
    NotSent,
    Failed(String),
}

impl Lane {
    pub async fn connect(address: SocketAddr, target: &Target) -> io::Result<Self> {
        let template = Request::post(format!("http://{address}{}", target.path))
            .version(Version::HTTP_2)
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("grpc-timeout", target.timeout)
            .body(())
            .map_err(io::Error::other)?;
        let open = RefCell::new(Some(link::open(address).await?));
        Ok(Self { address, template, open, opening: Mutex::new(()) })
    }

    /// One call: the bytes of its answer, its gRPC prefix included, or why it failed.
    pub async fn call(&self, request: Bytes) -> Result<usize, String> {
        for _ in 0..ATTEMPTS_MAX {
            match self.attempt(request.clone()).await {
                Ended::Answered(bytes) => return Ok(bytes),
                Ended::Failed(why) => return Err(why),
                Ended::NotSent => *self.open.borrow_mut() = None,
            }
        }
        Err("the connection closed again and again".to_owned())
    }

    async fn connection(&self) -> io::Result<SendRequest<Bytes>> {
        let open = self.open.borrow().clone();
        if let Some(open) = open {
            return Ok(open);
        }
        let _one_at_a_time = self.opening.lock().await;
        let open = self.open.borrow().clone();
        if let Some(open) = open {
            return Ok(open);
        }
        let opened = link::open(self.address).await?;
        *self.open.borrow_mut() = Some(opened.clone());
        Ok(opened)
    }

    async fn attempt(&self, request: Bytes) -> Ended {
        let open = match self.connection().await {
            Ok(open) => open,
            Err(error) => return Ended::Failed(format!("cannot connect again: {error}")),
        };
        let Ok(mut ready) = open.ready().await else { return Ended::NotSent };
        let (response, mut body) = match ready.send_request(self.template.clone(), false) {
            Ok(sent) => sent,
            Err(error) => return unsent_or_failed(&error),
        };
        if let Err(error) = body.send_data(request, true) {
            return unsent_or_failed(&error);
        }
        match response.await {
            Ok(response) => read(response).await,
            Err(error) => unsent_or_failed(&error),
        }
    }
}

fn unsent_or_failed(error: &h2::Error) -> Ended {
    let refused = error.reason() == Some(h2::Reason::REFUSED_STREAM);
    match refused || error.is_go_away() {
        true => Ended::NotSent,
        false => Ended::Failed(error.to_string()),
    }
}

async fn read(response: http::Response<h2::RecvStream>) -> Ended {
    let (head, mut body) = response.into_parts();
    if !head.status.is_success() {
        return Ended::Failed(format!("HTTP status {}", head.status));
    }
    let mut bytes = 0;
    while let Some(data) = body.data().await {
        match data {
            Ok(data) => {
                bytes += data.len();
                // Fails only where the connection is gone, which the next line tells as well.
                let _ = body.flow_control().release_capacity(data.len());
            }
            Err(error) => return Ended::Failed(error.to_string()),
        }
    }
    match body.trailers().await {
        Ok(Some(trailers)) => judged(&trailers, bytes),
        // An error without a message comes as headers alone.
        Ok(None) => judged(&head.headers, bytes),
        Err(error) => Ended::Failed(error.to_string()),
    }
}

fn judged(headers: &HeaderMap, bytes: usize) -> Ended {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("absent");
    match text("grpc-status") {
        "0" => Ended::Answered(bytes),
        status => Ended::Failed(format!("grpc-status {status}: {}", text("grpc-message"))),
    }
}
