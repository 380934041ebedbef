//! A service that acknowledges everything and remembers nothing.

use std::net::SocketAddr;
use std::pin::Pin;

use futures_util::{Stream, StreamExt};
use seen_proto::v1;
use seen_proto::v1::seen_service_server::{SeenService, SeenServiceServer};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

use super::stage::{Ran, seen};

/// The running service. It ends with the test.
pub struct Liar {
    address: SocketAddr,
    _runtime: Runtime,
}

impl Liar {
    /// Answers that everything is unread, with this level of quality.
    pub fn open(level: v1::QualityLevel) -> Self {
        let runtime = seen_server::runtime::control().expect("a runtime");
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).expect("a free port");
        let address = listener.local_addr().expect("bound");
        let service = SeenServiceServer::new(Forgetful { level });
        let incoming = TcpListenerStream::new(listener);
        runtime.spawn(Server::builder().add_service(service).serve_with_incoming(incoming));
        Self { address, _runtime: runtime }
    }

    pub fn run(&self, folder: &std::path::Path, arguments: &[&str]) -> Ran {
        let mut command = seen(folder, arguments);
        command.arg("--server").arg(self.address.to_string());
        command.output().expect("the binary starts").into()
    }
}

struct Forgetful {
    level: v1::QualityLevel,
}

type Out<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

fn not_asked<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("no part of these tests"))
}

#[tonic::async_trait]
impl SeenService for Forgetful {
    type FilterStreamStream = Out<v1::FilterStreamResponse>;
    type FilterUsersStream = Out<v1::FilterUsersResponse>;
    type MarkStreamStream = Out<v1::MarkStreamResponse>;

    async fn filter(
        &self,
        request: Request<v1::FilterRequest>,
    ) -> Result<Response<v1::FilterResponse>, Status> {
        let ids =
            request.into_inner().candidates.iter().map(|group| group.ids.len()).sum::<usize>();
        let quality = v1::Quality { level: self.level.into(), ..v1::Quality::default() };
        Ok(Response::new(v1::FilterResponse {
            unseen: (0..ids as u32).collect(),
            quality: Some(quality),
            token: Vec::new(),
        }))
    }

    async fn mark(
        &self,
        _: Request<v1::MarkRequest>,
    ) -> Result<Response<v1::MarkResponse>, Status> {
        Ok(Response::new(v1::MarkResponse::default()))
    }

    async fn mark_stream(
        &self,
        request: Request<Streaming<v1::MarkStreamRequest>>,
    ) -> Result<Response<Self::MarkStreamStream>, Status> {
        let answers = request.into_inner().map(|message| {
            message.map(|message| v1::MarkStreamResponse {
                request_id: message.request_id,
                result: Some(v1::mark_stream_response::Result::Mark(v1::MarkResponse::default())),
            })
        });
        Ok(Response::new(answers.boxed()))
    }

    async fn filter_stream(
        &self,
        _: Request<Streaming<v1::FilterStreamRequest>>,
    ) -> Result<Response<Self::FilterStreamStream>, Status> {
        not_asked()
    }

    async fn filter_users(
        &self,
        _: Request<Streaming<v1::FilterUsersRequest>>,
    ) -> Result<Response<Self::FilterUsersStream>, Status> {
        not_asked()
    }

    async fn unmark(
        &self,
        _: Request<v1::UnmarkRequest>,
    ) -> Result<Response<v1::UnmarkResponse>, Status> {
        not_asked()
    }

    async fn forget(
        &self,
        _: Request<v1::ForgetRequest>,
    ) -> Result<Response<v1::ForgetResponse>, Status> {
        not_asked()
    }

    async fn history(
        &self,
        _: Request<v1::HistoryRequest>,
    ) -> Result<Response<v1::HistoryResponse>, Status> {
        not_asked()
    }

    async fn explain(
        &self,
        _: Request<v1::ExplainRequest>,
    ) -> Result<Response<v1::ExplainResponse>, Status> {
        not_asked()
    }
}
